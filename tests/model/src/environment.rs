//! Everything outside of the replicas: nodes, the garbage collector, users, and faults.

use crate::replica::{Choice, finish};
use crate::state::{
    Ledger, MAX_LATE, MAX_PODS, MAX_REPLICAS, Next, Phase, Pod, Replica, Request, State,
};
use crate::{Mutation, Protocol};

/// An action of the model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action {
    /// A replica makes its next request and receives the response.
    Step(usize, Choice),
    /// A replica creates a candidate, and the response is lost. For other requests, this equals a
    /// crash after the step, because the reconcile aborts.
    ResponseLost(usize),
    /// A replica makes its next request, which stays in transit without a response. A crash during
    /// a request equals this.
    Delayed(usize),
    /// A replica crashes and starts again.
    Crash(usize),
    /// A request in transit arrives.
    Arrive(usize),
    /// The API server learns that a container of a pod has started.
    Starts(usize),
    /// The containers of a pod end. The protocol does not depend on their success.
    Ends(usize),
    /// A pod is deleted by hand, by the garbage collector, or by a disruption such as an eviction.
    Delete(usize),
    /// A bound pod is gone: its grace period is over, or its node is lost.
    Vanish(usize),
    /// A user removes the group label from a pod.
    Unlabel(usize),
    /// A user clears the group's status. A finished pod of the last recorded run may still exist;
    /// until now, it made no difference.
    Wipe {
        /// Whether that pod exists.
        pod_kept: bool,
    },
    /// A user edits the group.
    Edit,
    /// A user deletes the group without its pods and creates it again.
    Recreate,
}

impl Protocol {
    /// Collects the actions that are possible next.
    pub(crate) fn possible_actions(&self, state: &State, actions: &mut Vec<Action>) {
        let facts = &state.facts;
        if facts.fault.is_some() {
            return;
        }
        let budget = facts.budget;
        let has_slot = facts.late.iter().any(Option::is_none);
        for r in 0..self.replicas {
            let replica = &facts.replicas[r];
            for choice in self.choices(state, r) {
                actions.push(Action::Step(r, choice));
                if budget.unanswered == 0 || choice.refused {
                    continue;
                }
                match replica.request() {
                    None => {}
                    // This equals a deletion by hand.
                    Some(Request::Delete { gated: true, .. }) => {}
                    Some(request) => {
                        if matches!(request, Request::Create { .. }) {
                            actions.push(Action::ResponseLost(r));
                        }
                        if has_slot {
                            actions.push(Action::Delayed(r));
                        }
                    }
                }
            }
            if budget.crashes > 0 && *replica != Replica::default() {
                actions.push(Action::Crash(r));
            }
        }
        actions.extend(
            (0..MAX_LATE)
                .filter(|i| facts.late[*i].is_some())
                .map(Action::Arrive),
        );
        for place in 0..MAX_PODS {
            if let Some(pod) = facts.pods[place] {
                match pod.phase {
                    Phase::Gated => actions.push(Action::Delete(place)),
                    Phase::Live if !pod.started && state.watches_starts() => actions.extend([
                        Action::Starts(place),
                        Action::Ends(place),
                        Action::Delete(place),
                        Action::Vanish(place),
                    ]),
                    Phase::Live => actions.extend([
                        Action::Ends(place),
                        Action::Delete(place),
                        Action::Vanish(place),
                    ]),
                    Phase::Ending => actions.extend([Action::Ends(place), Action::Vanish(place)]),
                    Phase::Done | Phase::Forced => actions.push(Action::Vanish(place)),
                }
                if budget.tampering > 0 && pod.labelled {
                    actions.push(Action::Unlabel(place));
                }
            }
        }
        if budget.tampering > 0 {
            actions.extend([
                Action::Wipe { pod_kept: false },
                Action::Wipe { pod_kept: true },
                Action::Edit,
                Action::Recreate,
            ]);
        }
    }

    /// Returns the state after an action.
    pub(crate) fn apply_action(&self, before: &State, action: Action) -> State {
        let mut after = *before;
        let state = &mut after;
        match action {
            Action::Step(r, choice) => self.step(state, r, choice),
            Action::ResponseLost(r) => {
                state.facts.budget.unanswered -= 1;
                if let Some(request) = state.facts.replicas[r].request() {
                    self.apply(state, request, Some(r));
                }
                self.handle_no_response(state, r);
            }
            Action::Delayed(r) => {
                state.facts.budget.unanswered -= 1;
                let replica = state.facts.replicas[r];
                let request = replica.request();
                let stale = matches!(request, Some(Request::Status(_))) && !replica.fresh;
                let outdated = stale && self.mutation != Some(Mutation::ClaimWithoutVersion);
                if !outdated && let Some(slot) = state.facts.late.iter_mut().find(|l| l.is_none()) {
                    *slot = request;
                }
                self.handle_no_response(state, r);
            }
            Action::Crash(r) => {
                state.facts.budget.crashes -= 1;
                finish(state, r);
            }
            Action::Arrive(index) => {
                if let Some(request) = state.facts.late[index].take() {
                    self.apply(state, request, None);
                }
            }
            Action::Starts(place) => {
                if let Some(pod) = &mut state.facts.pods[place] {
                    pod.started = true;
                }
            }
            Action::Ends(place) => {
                if let Some(pod) = &mut state.facts.pods[place] {
                    pod.phase = Phase::Done;
                    pod.started = false;
                }
            }
            Action::Delete(place) => self.remove_gracefully(state, place),
            Action::Vanish(place) => state.remove(place),
            Action::Unlabel(place) => {
                state.facts.budget.tampering -= 1;
                if let Some(pod) = &mut state.facts.pods[place] {
                    pod.labelled = false;
                }
            }
            Action::Wipe { pod_kept } => {
                state.facts.budget.tampering -= 1;
                let group = state.facts.group;
                let run = group.run - u8::from(group.current.is_some());
                if pod_kept && run > 0 {
                    state.add(Pod {
                        phase: Phase::Done,
                        owner: group.uid,
                        run,
                        item: 1,
                        labelled: true,
                        started: false,
                        ledger: Ledger::Recorded,
                    });
                }
                state.facts.group.run = 0;
                self.clear_current(state);
            }
            Action::Edit => {
                state.facts.budget.tampering -= 1;
                self.changed(state, None);
            }
            Action::Recreate => {
                state.facts.budget.tampering -= 1;
                state.facts.group.uid += 1;
                state.facts.group.run = 0;
                self.clear_current(state);
            }
        }
        after
    }

    /// Clears `current`. Runs that only the status knew are forgotten.
    fn clear_current(&self, state: &mut State) {
        state.facts.group.current = None;
        for pod in state.facts.pods.iter_mut().flatten() {
            if matches!(pod.ledger, Ledger::Claimed | Ledger::Adopted) {
                pod.ledger = Ledger::Blank;
            }
        }
        self.changed(state, None);
    }

    /// Returns whether all remaining runs are recorded if no further faults occur and no user
    /// interferes. Nodes end what runs, the garbage collector removes the pods of a deleted group,
    /// and one replica reconciles the group.
    pub(crate) fn recovers(&self, from: &State) -> bool {
        let mut state = *from;
        state.facts.late = [None; MAX_LATE];
        state.facts.replicas = [Replica::default(); MAX_REPLICAS];
        let reconciles = 4 * usize::from(self.runs) + 8;
        for _ in 0..reconciles {
            if self.all_recorded(&state) {
                return true;
            }
            for place in 0..MAX_PODS {
                let owner = state.facts.group.uid;
                match state.facts.pods[place] {
                    Some(pod) if pod.phase == Phase::Live => {
                        state = self.apply_action(&state, Action::Ends(place));
                    }
                    Some(pod)
                        if pod.phase != Phase::Done
                            && (pod.phase != Phase::Gated || pod.owner != owner) =>
                    {
                        state = self.apply_action(&state, Action::Vanish(place));
                    }
                    _ => {}
                }
            }
            let cleanup = Choice {
                stale: true,
                finished: true,
                ..Choice::default()
            };
            loop {
                self.step(&mut state, 0, cleanup);
                if state.facts.fault.is_some() {
                    return false;
                }
                if state.facts.replicas[0].next == Next::Read {
                    break;
                }
            }
        }
        false
    }

    /// Returns whether all runs have started and are recorded.
    pub(crate) fn all_recorded(&self, state: &State) -> bool {
        let group = state.facts.group;
        let quiet = !state.facts.pods.iter().flatten().any(Pod::may_run);
        let labels = state.facts.pods.iter().flatten();
        let labels = labels
            .filter(|p| p.owner == group.uid && p.labelled)
            .map(|p| p.run);
        let used = labels.chain([group.run]).max() >= Some(self.runs);
        quiet && used && group.current.is_none()
    }
}
