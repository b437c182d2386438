//! What happens beside the replicas: nodes, the garbage collector, people, and faults.

use crate::replica::{Choice, over};
use crate::state::{LATE, Ledger, Next, PODS, Phase, Pod, REPLICAS, Replica, Request, State};
use crate::{Mutation, Protocol};

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action {
    /// A replica makes its next request and gets the answer.
    Step(usize, Choice),
    /// A replica creates a candidate, and the answer is lost. Of other requests this is no
    /// other than a crash after the step: the cycle breaks off.
    Unheard(usize),
    /// A replica makes its next request, and no answer comes: it is still on its way. A crash
    /// in the midst of a request is no other than this.
    Delayed(usize),
    /// A replica crashes and starts again.
    Crash(usize),
    /// A request arrives that was on its way.
    Arrive(usize),
    /// The API server hears that a pod's container has started.
    Starts(usize),
    /// A pod's containers end; whether well or not is all the same to the protocol.
    Ends(usize),
    /// A pod is deleted by hand, or by the garbage collector.
    Delete(usize),
    /// A pod that was bound is gone: its grace period is over, or its node is.
    Vanish(usize),
    /// Somebody takes a pod's group label away.
    Unlabel(usize),
    /// Somebody wipes the group's status. A finished pod of the last run that was recorded may
    /// still be there: until now that made no difference to anybody.
    Wipe {
        /// It is.
        kept: bool,
    },
    /// Somebody writes the group otherwise.
    Edit,
    /// Somebody deletes the group, leaving its pods, and creates it again.
    Recreate,
}

impl Protocol {
    /// Everything that may happen next.
    pub(crate) fn possible(&self, state: &State, actions: &mut Vec<Action>) {
        let facts = &state.facts;
        if facts.fault.is_some() {
            return;
        }
        let budget = facts.budget;
        let room = facts.late.iter().any(Option::is_none);
        for r in 0..self.replicas {
            let replica = &facts.replicas[r];
            for choice in self.choices(state, r) {
                actions.push(Action::Step(r, choice));
                if budget.unanswered == 0 || choice.refused {
                    continue;
                }
                match replica.request() {
                    None => {}
                    // As if somebody had deleted it by hand.
                    Some(Request::Delete { gated: true, .. }) => {}
                    Some(request) => {
                        if matches!(request, Request::Create { .. }) {
                            actions.push(Action::Unheard(r));
                        }
                        if room {
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
            (0..LATE)
                .filter(|i| facts.late[*i].is_some())
                .map(Action::Arrive),
        );
        for place in 0..PODS {
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
                Action::Wipe { kept: false },
                Action::Wipe { kept: true },
                Action::Edit,
                Action::Recreate,
            ]);
        }
    }

    /// What then is the case.
    pub(crate) fn happen(&self, before: &State, action: Action) -> State {
        let mut after = *before;
        let state = &mut after;
        match action {
            Action::Step(r, choice) => self.step(state, r, choice),
            Action::Unheard(r) => {
                state.facts.budget.unanswered -= 1;
                if let Some(request) = state.facts.replicas[r].request() {
                    self.apply(state, request, Some(r));
                }
                self.unanswered(state, r);
            }
            Action::Delayed(r) => {
                state.facts.budget.unanswered -= 1;
                let replica = state.facts.replicas[r];
                let request = replica.request();
                let stale = matches!(request, Some(Request::Status(_))) && !replica.fresh;
                let vain = stale && self.mutation != Some(Mutation::ClaimWithoutVersion);
                if !vain && let Some(free) = state.facts.late.iter_mut().find(|l| l.is_none()) {
                    *free = request;
                }
                self.unanswered(state, r);
            }
            Action::Crash(r) => {
                state.facts.budget.crashes -= 1;
                over(state, r);
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
            Action::Wipe { kept } => {
                state.facts.budget.tampering -= 1;
                let group = state.facts.group;
                let run = group.run - u8::from(group.current.is_some());
                if kept && run > 0 {
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
                self.forget(state);
            }
            Action::Edit => {
                state.facts.budget.tampering -= 1;
                self.changed(state, None);
            }
            Action::Recreate => {
                state.facts.budget.tampering -= 1;
                state.facts.group.uid += 1;
                state.facts.group.run = 0;
                self.forget(state);
            }
        }
        after
    }

    /// The status is empty: runs that it told of are nobody's any more.
    fn forget(&self, state: &mut State) {
        state.facts.group.current = None;
        for pod in state.facts.pods.iter_mut().flatten() {
            if matches!(pod.ledger, Ledger::Claimed | Ledger::Adopted) {
                pod.ledger = Ledger::Blank;
            }
        }
        self.changed(state, None);
    }

    /// A world in which nothing goes wrong any more and nobody interferes: the nodes end what
    /// runs, the garbage collector removes what a deleted group left, one replica looks after
    /// the group. Says whether all runs that are left come to be recorded.
    pub(crate) fn recovers(&self, from: &State) -> bool {
        let mut state = *from;
        state.facts.late = [None; LATE];
        state.facts.replicas = [Replica::default(); REPLICAS];
        let cycles = 4 * usize::from(self.runs) + 8;
        for _ in 0..cycles {
            if self.all_recorded(&state) {
                return true;
            }
            for place in 0..PODS {
                let owner = state.facts.group.uid;
                match state.facts.pods[place] {
                    Some(pod) if pod.phase == Phase::Live => {
                        state = self.happen(&state, Action::Ends(place));
                    }
                    Some(pod)
                        if pod.phase != Phase::Done
                            && (pod.phase != Phase::Gated || pod.owner != owner) =>
                    {
                        state = self.happen(&state, Action::Vanish(place));
                    }
                    _ => {}
                }
            }
            let calm = Choice {
                strays: true,
                finished: true,
                ..Choice::default()
            };
            loop {
                self.step(&mut state, 0, calm);
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

    /// Whether all runs that the policy wanted have begun and are recorded.
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
