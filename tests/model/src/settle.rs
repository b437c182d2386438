//! What a replica makes of the pods that it sees, as the operator's `decide::settle` does.

use crate::replica::{Choice, over};
use crate::state::{Next, PODS, Phase, Pod, PodRef, State};
use crate::{Mutation, Protocol};

/// Pods as a list shows them, by their places.
type View = [Option<Pod>; PODS];

impl Protocol {
    /// Lists the pods and, unless the current one is missing, decides.
    pub(crate) fn list(&self, state: &mut State, r: usize, choice: Choice) {
        let earlier = state.facts.replicas[r].listed;
        let view: View = std::array::from_fn(|place| {
            let missed = (self.without(Mutation::ListBeforeRead) && earlier & (1 << place) == 0)
                || self.without(Mutation::NoList);
            let shown = |pod: &Pod| pod.labelled && pod.phase != Phase::Forced && !missed;
            state.facts.pods[place].filter(shown)
        });
        state.facts.replicas[r].listed = 0;
        self.settle_others(state, r, &view, choice);
        let replica = &state.facts.replicas[r];
        let Some(current) = replica.current else {
            return self.settled(state, r);
        };
        let listed = match current.uid {
            PodRef::Is(place) => view[usize::from(place)],
            _ => None,
        };
        if listed.is_some() || self.without(Mutation::AbsenceFromList) {
            self.settle_current(state, r, listed, choice.timeout);
            self.settled(state, r);
        } else {
            state.facts.replicas[r].next = Next::Get;
        }
    }

    /// A live read of the current pod, by its name.
    pub(crate) fn get(&self, state: &mut State, r: usize) {
        let Some(current) = state.facts.replicas[r].current else {
            return over(state, r);
        };
        let found = state
            .pod(current.name)
            .filter(|pod| pod.phase != Phase::Forced && current.name == current.uid)
            .copied();
        self.settle_current(state, r, found, false);
        self.settled(state, r);
    }

    fn terminal(&self, pod: &Pod) -> bool {
        let ending = pod.phase == Phase::Ending && self.without(Mutation::TerminatingIsTerminal);
        pod.phase == Phase::Done || ending
    }

    /// The run in progress: recorded if it is over, else looked after.
    fn settle_current(&self, state: &mut State, r: usize, pod: Option<Pod>, timeout: bool) {
        let budget = &mut state.facts.budget.timeouts;
        let replica = &mut state.facts.replicas[r];
        let Some(current) = replica.current else {
            return;
        };
        match pod {
            Some(pod) if !self.terminal(&pod) => {
                replica.free = false;
                if pod.phase == Phase::Gated && !self.without(Mutation::OnlyClaimerOpens) {
                    replica.open = current.uid;
                    replica.resumed = current.resumed;
                }
                let started = pod.started && !self.windows;
                let waits = matches!(pod.phase, Phase::Gated | Phase::Live) && !started;
                if current.stopping {
                    replica.open = PodRef::Nobody;
                    // A stop by a window is never taken back: its deletion may be on its way.
                    replica.stopping = started.then_some(false);
                }
                if waits && (current.stopping || timeout && *budget > 0) {
                    *budget -= u8::from(!current.stopping);
                    replica.open = PodRef::Nobody;
                    replica.stop = current.uid;
                    replica.stop_gated = pod.phase == Phase::Gated;
                    replica.stopping = (!current.stopping).then_some(true);
                    if self.without(Mutation::StopUnannounced) {
                        replica.stopping = None;
                    }
                }
            }
            _ => replica.record = current.name,
        }
    }

    /// All other pods, and the number of the next run. Where no run is in progress by the
    /// status, a pod of ours that may run is taken for the current one.
    fn settle_others(&self, state: &mut State, r: usize, view: &View, choice: Choice) {
        let replica = &mut state.facts.replicas[r];
        let group = replica.group;
        let ours = |pod: &Pod| pod.owner == group;
        let pods = || {
            view.iter()
                .enumerate()
                .filter_map(|(place, pod)| pod.map(|pod| (place, pod)))
        };
        let labels = pods().filter(|(_, pod)| ours(pod)).map(|(_, pod)| pod.run);
        let highest = match self.without(Mutation::NumberFromStatus) {
            true => 0,
            false => labels.max().unwrap_or(0),
        };
        replica.run = replica.run.max(highest) + 1;

        let mut kept = replica
            .current
            .map_or(PodRef::Nobody, |current| current.uid);
        if replica.current.is_none() && !self.without(Mutation::NoAdoption) {
            let running = pods()
                .filter(|(_, pod)| ours(pod) && !self.terminal(pod) && pod.phase != Phase::Gated)
                .max_by_key(|(_, pod)| pod.run);
            if let Some((place, pod)) = running {
                kept = PodRef::Is(place as u8);
                replica.adopt = kept;
                replica.item = pod.item;
            }
        }
        replica.free = replica.adopt == PodRef::Nobody && replica.run <= self.runs;
        for (place, pod) in pods() {
            let bit = 1 << place;
            if self.terminal(&pod) {
                if choice.finished && ours(&pod) && pod.phase == Phase::Done {
                    replica.finished |= bit;
                }
                continue;
            }
            if kept == PodRef::Is(place as u8) {
                continue;
            }
            replica.free = false;
            if !ours(&pod) || pod.phase == Phase::Ending {
                continue;
            }
            if pod.phase != Phase::Gated {
                replica.strays |= bit;
            } else if self.without(Mutation::OpenAnyGated) {
                replica.open = PodRef::Is(place as u8);
            } else if choice.strays && self.without(Mutation::DeleteAnyVersion) {
                replica.strays |= bit;
            } else if choice.strays {
                replica.gated_strays |= bit;
            }
        }
    }

    /// Everything is decided: from here on it is done.
    fn settled(&self, state: &mut State, r: usize) {
        let replica = &mut state.facts.replicas[r];
        replica.current = None;
        if replica.free {
            replica.item = (replica.run - 1) % self.items + 1;
        } else if replica.adopt == PodRef::Nobody {
            replica.run = 0;
        }
        if replica.strays | replica.gated_strays == 0 {
            self.after_strays(replica);
        } else if self.without(Mutation::NoReread) {
            replica.next = Next::DeleteStray;
        } else {
            replica.next = Next::Reread;
        }
    }
}
