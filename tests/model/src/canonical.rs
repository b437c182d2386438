//! Merges states that do not differ in anything that matters.

use crate::state::{
    Facts, Ledger, MAX_PODS, MAX_REPLICAS, Mask, Next, Phase, PodRef, Replica, Request, State,
};
use crate::{Mutation, Protocol};

/// All orders of up to three replicas. Those of fewer replicas come first.
const ORDERS: [[u8; MAX_REPLICAS]; 6] = [
    [0, 1, 2],
    [1, 0, 2],
    [0, 2, 1],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
];

/// The number of orders of `n` replicas.
const ORDERS_OF: [usize; MAX_REPLICAS + 1] = [1, 1, 2, 6];

/// Returns the state of a replica without the identity of its pods.
fn sketch(replica: &Replica) -> (Next, u32, u8, u8, u8, u32) {
    let flags = [
        replica.fresh,
        replica.may_start,
        replica.refused,
        replica.current.is_some(),
        replica.stop_gated,
        replica.stopping == Some(true),
        replica.stopping == Some(false),
    ];
    let pods = [
        replica.open,
        replica.stop,
        replica.record,
        replica.adopt,
        replica.candidate,
    ];
    let kinds = pods.map(|pod| match pod {
        PodRef::None => 0,
        PodRef::Gone => 1,
        PodRef::Is(_) => 2,
    });
    let masks = [
        replica.stale,
        replica.stale_gated,
        replica.finished,
        replica.listed,
    ];
    (
        replica.next,
        flags
            .iter()
            .fold(0, |bits, flag| bits << 1 | u32::from(*flag)),
        replica.run,
        replica.group,
        replica.item,
        kinds.iter().fold(0, |bits, kind| bits << 2 | kind) << 12
            | masks
                .iter()
                .fold(0, |bits, mask| bits << 3 | mask.count_ones()),
    )
}

impl Protocol {
    /// Returns the state that represents all states that no step can distinguish from this one.
    ///
    /// Nothing that is dropped or renamed here affects an action of a replica or a property:
    ///
    /// - Finished pods whose result is recorded. They matter only to a cleared status; a pod that
    ///   existed all the time appears with [`Action::Wipe`].
    /// - What a replica or a late request would write after the group changed. The write fails in
    ///   any case.
    /// - Requests that can no longer have an effect.
    /// - The replica that opens a gate that is already open, or the gate of a pod that is gone.
    /// - The labels of a deleted group's pods.
    /// - The order of pods, replicas, and requests.
    pub(crate) fn canonical(&self, mut state: State) -> State {
        if self.whole {
            return state;
        }
        self.drop_pods(&mut state);
        if self.mutation.is_none() {
            drop_labels(&mut state.facts);
        }
        self.drop_intentions(&mut state.facts);
        drop_resumptions(&mut state.facts);
        let replicas = state.facts.replicas;
        let mut best: Option<State> = None;
        for order in &ORDERS[..ORDERS_OF[self.replicas.min(MAX_REPLICAS)]] {
            // Only replicas that differ in nothing but the identity of their pods have more than
            // one order.
            let sketch = |i: usize| sketch(&replicas[usize::from(order[i])]);
            if (1..self.replicas).any(|i| sketch(i - 1) > sketch(i)) {
                continue;
            }
            let mut one = state;
            for (to, from) in order.iter().enumerate() {
                one.facts.replicas[to] = replicas[usize::from(*from)];
                one.names.replicas[to] = state.names.replicas[usize::from(*from)];
            }
            one.sort_pods();
            one.facts
                .late
                .sort_unstable_by_key(|late| (late.is_none(), *late));
            if best.is_none_or(|best| one.facts < best.facts) {
                best = Some(one);
            }
        }
        best.unwrap_or(state)
    }

    fn drop_pods(&self, state: &mut State) {
        let group = state.facts.group;
        for place in 0..MAX_PODS {
            let Some(pod) = state.facts.pods[place] else {
                continue;
            };
            let pod_ref = PodRef::Is(place as u8);
            let current = group
                .current
                .is_some_and(|c| c.name == pod_ref || c.uid == pod_ref);
            if pod.phase != Phase::Done
                || current
                || matches!(pod.ledger, Ledger::Claimed | Ledger::Adopted)
            {
                continue;
            }
            if pod.owner != group.uid || pod.run <= group.run {
                state.remove(place);
            }
        }
    }

    fn drop_intentions(&self, facts: &mut Facts) {
        for late in &mut facts.late {
            if let Some(
                Request::Open(PodRef::Gone)
                | Request::Delete {
                    pod: PodRef::Gone, ..
                }
                | Request::Stop {
                    pod: PodRef::Gone, ..
                },
            ) = late
            {
                *late = None;
            }
        }
        if self.mutation == Some(Mutation::ClaimWithoutVersion) {
            return;
        }
        for replica in &mut facts.replicas {
            if replica.fresh {
                continue;
            }
            for pod in [&mut replica.record, &mut replica.adopt] {
                if *pod != PodRef::None {
                    *pod = PodRef::Gone;
                }
            }
            if !matches!(replica.next, Next::Read | Next::List | Next::Get) && !replica.may_start {
                replica.run = 0;
                replica.item = 0;
            }
        }
    }
}

fn drop_resumptions(facts: &mut Facts) {
    let pods = facts.pods;
    let gated = |pod: PodRef| match pod {
        PodRef::Is(place) => pods[usize::from(place)].is_some_and(|pod| pod.phase == Phase::Gated),
        _ => false,
    };
    let replicas = facts.replicas.iter_mut();
    for current in replicas
        .filter_map(|r| r.current.as_mut())
        .chain(&mut facts.group.current)
    {
        current.resumed &= gated(current.uid);
    }
}

/// Drops labels that are never used: those of pods of another group, and numbers that the status
/// has passed. If the status is cleared, the label of a pod that ran counts again; that of a mere
/// candidate is omitted even then, which can only make a used number seem unused.
fn drop_labels(facts: &mut Facts) {
    let (group, no_tampering) = (facts.group, facts.budget.tampering == 0);
    let is_passed = |run: u8| run <= group.run;
    let claimable: Vec<PodRef> = (facts.replicas.iter().map(|replica| replica.candidate))
        .chain(facts.late.iter().filter_map(|late| match late {
            Some(Request::Status(write)) => Some(write.current),
            _ => None,
        }))
        .collect();
    for (place, pod) in facts.pods.iter_mut().enumerate() {
        let Some(pod) = pod else { continue };
        if pod.owner != group.uid {
            (pod.run, pod.item, pod.ledger) = (0, 1, Ledger::Blank);
            continue;
        }
        let candidate = pod.phase == Phase::Gated && pod.ledger == Ledger::Blank;
        if pod.run <= group.run && (no_tampering || candidate) {
            pod.run = 0;
            if candidate && !claimable.contains(&PodRef::Is(place as u8)) {
                pod.item = 1;
            }
        }
    }
    for replica in &mut facts.replicas {
        if replica.next == Next::Create && !replica.fresh {
            if replica.group != group.uid || is_passed(replica.run) {
                replica.run = 0;
            }
            replica.item = 1;
        }
    }
    for late in facts.late.iter_mut().flatten() {
        if let Request::Create { owner, run, item } = late
            && (*owner != group.uid || is_passed(*run))
        {
            (*run, *item) = (0, 1);
        }
    }
}

impl Facts {
    /// Returns which replicas, requests, and fields refer to pod `place`, as a number.
    fn references_to(&self, place: usize) -> u64 {
        let pod_ref = PodRef::Is(place as u8);
        let mut bits = 0;
        let mut bit = |set: bool| bits = bits << 1 | u64::from(set);
        let has = |mask: Mask| mask & (1 << place) != 0;
        let current = |c: Option<crate::state::Current>| {
            (
                c.is_some_and(|c| c.name == pod_ref),
                c.is_some_and(|c| c.uid == pod_ref),
            )
        };
        let (name, uid) = current(self.group.current);
        bit(name);
        bit(uid);
        for replica in &self.replicas {
            let (name, uid) = current(replica.current);
            bit(name);
            bit(uid);
            bit(has(replica.stale_gated));
            bit(has(replica.stale));
            bit(has(replica.finished));
            bit(has(replica.listed));
            bit(replica.open == pod_ref);
            bit(replica.stop == pod_ref);
            bit(replica.record == pod_ref);
            bit(replica.adopt == pod_ref);
            bit(replica.candidate == pod_ref);
        }
        for late in &self.late {
            bit(match late {
                Some(Request::Status(write)) => write.record == pod_ref || write.current == pod_ref,
                Some(
                    Request::Open(pod) | Request::Delete { pod, .. } | Request::Stop { pod, .. },
                ) => *pod == pod_ref,
                _ => false,
            });
        }
        bits
    }
}

impl State {
    fn sort_pods(&mut self) {
        let facts = &self.facts;
        let mut order: [u8; MAX_PODS] = std::array::from_fn(|i| i as u8);
        let keys: [_; MAX_PODS] = std::array::from_fn(|i| match facts.pods[i] {
            None => (true, None, 0),
            pod => (false, pod, facts.references_to(i)),
        });
        order.sort_by_key(|i| keys[usize::from(*i)]);
        let (pods, names) = (facts.pods, self.names.pods);
        let mut places = [0; MAX_PODS];
        for (new, old) in order.iter().enumerate() {
            places[usize::from(*old)] = new as u8;
            self.facts.pods[new] = pods[usize::from(*old)];
            self.names.pods[new] = names[usize::from(*old)];
        }
        self.facts.renumber(&places);
    }
}
