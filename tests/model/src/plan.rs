//! What a replica concludes from the pods that it reads, as in the operator's `plan/pods.rs`.

use crate::replica::{Choice, finish};
use crate::state::{MAX_PODS, Next, Phase, Pod, PodRef, State};
use crate::{Mutation, Protocol};

/// The pods in a list, by their index.
type View = [Option<Pod>; MAX_PODS];

impl Protocol {
    /// Lists the pods and, unless the current pod is missing, plans.
    pub(crate) fn list(&self, state: &mut State, r: usize, choice: Choice) {
        let earlier = state.facts.replicas[r].listed;
        let view: View = std::array::from_fn(|place| {
            let missed = (self.is_off(Mutation::ListBeforeRead) && earlier & (1 << place) == 0)
                || self.is_off(Mutation::NoList);
            let shown = |pod: &Pod| pod.labelled && pod.phase != Phase::Forced && !missed;
            state.facts.pods[place].filter(shown)
        });
        state.facts.replicas[r].listed = 0;
        self.plan_other_pods(state, r, &view, choice);
        let replica = &state.facts.replicas[r];
        let Some(current) = replica.current else {
            return self.finish_plan(state, r);
        };
        let listed = match current.uid {
            PodRef::Is(place) => view[usize::from(place)],
            _ => None,
        };
        if listed.is_some() || self.is_off(Mutation::AbsenceFromList) {
            self.plan_current_run(state, r, listed, choice.timeout);
            self.finish_plan(state, r);
        } else {
            state.facts.replicas[r].next = Next::Get;
        }
    }

    /// Reads the current pod live, by its name.
    pub(crate) fn get(&self, state: &mut State, r: usize) {
        let Some(current) = state.facts.replicas[r].current else {
            return finish(state, r);
        };
        let found = state
            .pod(current.name)
            .filter(|pod| pod.phase != Phase::Forced && current.name == current.uid)
            .copied();
        self.plan_current_run(state, r, found, false);
        self.finish_plan(state, r);
    }

    fn terminal(&self, pod: &Pod) -> bool {
        let ending = pod.phase == Phase::Ending && self.is_off(Mutation::TerminatingIsTerminal);
        pod.phase == Phase::Done || ending
    }

    /// Records the current run if it ended; otherwise, supervises it.
    fn plan_current_run(&self, state: &mut State, r: usize, pod: Option<Pod>, timeout: bool) {
        let budget = &mut state.facts.budget.timeouts;
        let replica = &mut state.facts.replicas[r];
        let Some(current) = replica.current else {
            return;
        };
        match pod {
            Some(pod) if !self.terminal(&pod) => {
                replica.may_start = false;
                if pod.phase == Phase::Gated && !self.is_off(Mutation::OnlyClaimerOpens) {
                    replica.open = current.uid;
                    replica.resumed = current.resumed;
                }
                let start_ends_timeout = pod.started && !self.windows;
                let waits = matches!(pod.phase, Phase::Gated | Phase::Live) && !start_ends_timeout;
                if current.stopping {
                    replica.open = PodRef::None;
                    // A stop by a blackout, or because the completion containers have ended, is never
                    // canceled: its deletion may be in transit.
                    replica.stopping = start_ends_timeout.then_some(false);
                }
                if waits && (current.stopping || timeout && *budget > 0) {
                    *budget -= u8::from(!current.stopping);
                    replica.open = PodRef::None;
                    replica.stop = current.uid;
                    replica.stop_gated = pod.phase == Phase::Gated;
                    replica.stopping = (!current.stopping).then_some(true);
                    if self.is_off(Mutation::StopUnannounced) {
                        replica.stopping = None;
                    }
                }
            }
            _ => replica.record = current.name,
        }
    }

    /// Plans all other pods and the number of the next run. If the status has no current run, an
    /// owned pod that may run is adopted.
    fn plan_other_pods(&self, state: &mut State, r: usize, view: &View, choice: Choice) {
        let replica = &mut state.facts.replicas[r];
        let group = replica.group;
        let owned = |pod: &Pod| pod.owner == group;
        let pods = || {
            view.iter()
                .enumerate()
                .filter_map(|(place, pod)| pod.map(|pod| (place, pod)))
        };
        let labels = pods().filter(|(_, pod)| owned(pod)).map(|(_, pod)| pod.run);
        let highest = if self.is_off(Mutation::NumberFromStatus) {
            0
        } else {
            labels.max().unwrap_or(0)
        };
        replica.run = replica.run.max(highest) + 1;

        let mut current = replica.current.map_or(PodRef::None, |current| current.uid);
        if replica.current.is_none() && !self.is_off(Mutation::NoAdoption) {
            let running = pods()
                .filter(|(_, pod)| owned(pod) && !self.terminal(pod) && pod.phase != Phase::Gated)
                .max_by_key(|(_, pod)| pod.run);
            if let Some((place, pod)) = running {
                current = PodRef::Is(place as u8);
                replica.adopt = current;
                replica.item = pod.item;
            }
        }
        replica.may_start = replica.adopt == PodRef::None && replica.run <= self.runs;
        for (place, pod) in pods() {
            let bit = 1 << place;
            if self.terminal(&pod) {
                if choice.finished && owned(&pod) && pod.phase == Phase::Done {
                    replica.finished |= bit;
                }
                continue;
            }
            if current == PodRef::Is(place as u8) {
                continue;
            }
            replica.may_start = false;
            if !owned(&pod) || pod.phase == Phase::Ending {
                continue;
            }
            if pod.phase != Phase::Gated {
                replica.stale |= bit;
            } else if self.is_off(Mutation::OpenAnyGated) {
                replica.open = PodRef::Is(place as u8);
            } else if choice.stale && self.is_off(Mutation::DeleteAnyVersion) {
                replica.stale |= bit;
            } else if choice.stale {
                replica.stale_gated |= bit;
            }
        }
    }

    /// Completes the plan. The following steps apply it.
    fn finish_plan(&self, state: &mut State, r: usize) {
        let replica = &mut state.facts.replicas[r];
        replica.current = None;
        if replica.may_start {
            replica.item = (replica.run - 1) % self.items + 1;
        } else if replica.adopt == PodRef::None {
            replica.run = 0;
        }
        if replica.stale | replica.stale_gated == 0 {
            self.after_stale(replica);
        } else if self.is_off(Mutation::NoSecondRead) {
            replica.next = Next::DeleteStale;
        } else {
            replica.next = Next::SecondRead;
        }
    }
}
