//! States that differ in nothing that matters are made one.

use crate::state::{
    Facts, Ledger, Mask, Next, PODS, Phase, PodRef, REPLICAS, Replica, Request, State,
};
use crate::{Mutation, Protocol};

/// All orders of up to three replicas; those of fewer come first.
const ORDERS: [[u8; REPLICAS]; 6] = [
    [0, 1, 2],
    [1, 0, 2],
    [0, 2, 1],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
];

/// How many of them `n` replicas have.
const ORDERS_OF: [usize; REPLICAS + 1] = [1, 1, 2, 6];

/// A replica, but for which pods it means.
fn sketch(replica: &Replica) -> (Next, u32, u8, u8, u8, u32) {
    let flags = [
        replica.fresh,
        replica.free,
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
        PodRef::Nobody => 0,
        PodRef::Gone => 1,
        PodRef::Is(_) => 2,
    });
    let masks = [
        replica.strays,
        replica.gated_strays,
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
    /// The one state that stands for all that no step can tell from this one.
    ///
    /// What is dropped or renamed here has no influence on what any replica does or on what
    /// any property says:
    ///
    /// - finished pods whose result is recorded: they matter to a wiped status alone, and one
    ///   that was there all the time appears with [`Action::Wipe`];
    /// - what a replica or a late request intends to write where the group has changed: the
    ///   write fails, whatever it says;
    /// - requests that can no longer have an effect;
    /// - who opens a gate that is open already, or of a pod that is gone;
    /// - what the labels of a deleted group's pods say;
    /// - the order of pods, of replicas, and of requests.
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
        for order in &ORDERS[..ORDERS_OF[self.replicas.min(REPLICAS)]] {
            // Only replicas that differ in nothing but in which pods they mean can stand in
            // more than one order.
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
        for place in 0..PODS {
            let Some(pod) = state.facts.pods[place] else {
                continue;
            };
            let here = PodRef::Is(place as u8);
            let current = group
                .current
                .is_some_and(|c| c.name == here || c.uid == here);
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
                if *pod != PodRef::Nobody {
                    *pod = PodRef::Gone;
                }
            }
            if !matches!(replica.next, Next::Read | Next::List | Next::Get) && !replica.free {
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

/// What labels say that nobody will count on: those of pods that another group left, and
/// numbers that the status has gone beyond. Should it be wiped, the label of a pod that ran
/// counts again; that of a mere candidate is left out even then, which can only make a number
/// seem free that is not.
fn drop_labels(facts: &mut Facts) {
    let (group, safe) = (facts.group, facts.budget.tampering == 0);
    let beyond = |run: u8| run <= group.run;
    let wanted: Vec<PodRef> = (facts.replicas.iter().map(|replica| replica.candidate))
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
        if pod.run <= group.run && (safe || candidate) {
            pod.run = 0;
            if candidate && !wanted.contains(&PodRef::Is(place as u8)) {
                pod.item = 1;
            }
        }
    }
    for replica in &mut facts.replicas {
        if replica.next == Next::Create && !replica.fresh {
            if replica.group != group.uid || beyond(replica.run) {
                replica.run = 0;
            }
            replica.item = 1;
        }
    }
    for late in facts.late.iter_mut().flatten() {
        if let Request::Create { owner, run, item } = late
            && (*owner != group.uid || beyond(*run))
        {
            (*run, *item) = (0, 1);
        }
    }
}

impl Facts {
    /// By whom pod `place` is remembered, as a number.
    fn remembered(&self, place: usize) -> u64 {
        let here = PodRef::Is(place as u8);
        let mut bits = 0;
        let mut bit = |set: bool| bits = bits << 1 | u64::from(set);
        let has = |mask: Mask| mask & (1 << place) != 0;
        let current = |c: Option<crate::state::Current>| {
            (
                c.is_some_and(|c| c.name == here),
                c.is_some_and(|c| c.uid == here),
            )
        };
        let (name, uid) = current(self.group.current);
        bit(name);
        bit(uid);
        for replica in &self.replicas {
            let (name, uid) = current(replica.current);
            bit(name);
            bit(uid);
            bit(has(replica.gated_strays));
            bit(has(replica.strays));
            bit(has(replica.finished));
            bit(has(replica.listed));
            bit(replica.open == here);
            bit(replica.stop == here);
            bit(replica.record == here);
            bit(replica.adopt == here);
            bit(replica.candidate == here);
        }
        for late in &self.late {
            bit(match late {
                Some(Request::Status(write)) => write.record == here || write.current == here,
                Some(
                    Request::Open(pod) | Request::Delete { pod, .. } | Request::Stop { pod, .. },
                ) => *pod == here,
                _ => false,
            });
        }
        bits
    }
}

impl State {
    fn sort_pods(&mut self) {
        let facts = &self.facts;
        let mut order: [u8; PODS] = std::array::from_fn(|i| i as u8);
        let keys: [_; PODS] = std::array::from_fn(|i| match facts.pods[i] {
            None => (true, None, 0),
            pod => (false, pod, facts.remembered(i)),
        });
        order.sort_by_key(|i| keys[usize::from(*i)]);
        let (pods, names) = (facts.pods, self.names.pods);
        let mut places = [0; PODS];
        for (new, old) in order.iter().enumerate() {
            places[usize::from(*old)] = new as u8;
            self.facts.pods[new] = pods[usize::from(*old)];
            self.names.pods[new] = names[usize::from(*old)];
        }
        self.facts.renumber(&places);
    }
}
