//! How the API server handles a request, whenever it arrives and whichever replica sent it.

use crate::fault::Fault;
use crate::state::{Current, Ledger, Phase, Pod, PodRef, Request, State, StatusWrite};
use crate::{Mutation, Protocol};

/// The response to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response {
    /// The request succeeded; for a creation, the pod.
    Done(PodRef),
    /// The group changed since it was read.
    Conflict,
    /// The pod does not exist.
    NotFound,
}

impl Protocol {
    /// Applies a request. `by` is the replica that waits for the response, if any. A late status
    /// write that is out of date is no longer in transit, so it is not checked here.
    pub(crate) fn apply(&self, state: &mut State, request: Request, by: Option<usize>) -> Response {
        match request {
            Request::Create { owner, run, item } => {
                let gate = self.mutation != Some(Mutation::NoGate);
                Response::Done(state.add(Pod {
                    phase: if gate { Phase::Gated } else { Phase::Live },
                    owner,
                    run,
                    item,
                    labelled: true,
                    started: false,
                    ledger: Ledger::Blank,
                }))
            }
            Request::Status(write) => {
                let fresh = by.is_none_or(|by| state.facts.replicas[by].fresh);
                if !fresh && self.mutation != Some(Mutation::ClaimWithoutVersion) {
                    return Response::Conflict;
                }
                self.write(state, write);
                self.changed(state, by);
                Response::Done(PodRef::None)
            }
            Request::Open(pod) => {
                let Some(opened) = state.pod_mut(pod).filter(|p| p.phase != Phase::Forced) else {
                    return Response::NotFound;
                };
                if opened.phase == Phase::Gated {
                    opened.phase = Phase::Live;
                    if let Some(current) = &mut state.facts.group.current
                        && current.name == pod
                    {
                        current.ran = true;
                    }
                }
                Response::Done(PodRef::None)
            }
            Request::Delete { pod, gated } => {
                self.delete(state, pod, gated);
                Response::Done(PodRef::None)
            }
            Request::Stop { pod, gated } => {
                self.stop(state, pod, gated);
                Response::Done(PodRef::None)
            }
        }
    }

    /// Gives the group another resource version. The writer knows the new one.
    pub(crate) fn changed(&self, state: &mut State, by: Option<usize>) {
        for (index, replica) in state.facts.replicas.iter_mut().enumerate() {
            replica.fresh = replica.fresh && by == Some(index);
        }
        if self.mutation != Some(Mutation::ClaimWithoutVersion) {
            for late in &mut state.facts.late {
                if let Some(Request::Status(_)) = late {
                    *late = None;
                }
            }
        }
    }

    fn write(&self, state: &mut State, write: StatusWrite) {
        if write.void {
            if state.facts.group.current.is_some_and(|current| current.ran) {
                self.report(state, Fault::TakenBack);
            }
            state.facts.group.current = None;
        }
        if let (true, Some(current)) = (write.resume, &mut state.facts.group.current) {
            current.resumed = true;
        }
        if let (Some(stopping), Some(current)) = (write.stopping, &mut state.facts.group.current) {
            current.stopping = stopping;
        }
        let before = state.facts.group.current;
        if write.record != PodRef::None {
            self.record(state, write);
        }
        if write.run == 0 {
            return;
        }
        let group = state.facts.group;
        // A label counts if the status contains the run: other labels are of mere candidates.
        let used = state.facts.pods.iter().flatten().any(|pod| {
            pod.owner == group.uid && pod.ledger != Ledger::Blank && pod.run >= write.run
        });
        if write.run <= group.run || used {
            self.report(state, Fault::NumberRepeated);
        }
        state.facts.group.run = write.run;
        if write.current == PodRef::None {
            return;
        }
        let uid = match before {
            Some(before) if self.mutation == Some(Mutation::KeepOldPodUid) => before.uid,
            _ => write.current,
        };
        let mut ran = false;
        if let Some(pod) = state.pod_mut(write.current) {
            ran = pod.phase != Phase::Gated;
            if pod.ledger != Ledger::Blank {
                self.report(state, Fault::RecordedTwice);
            } else if ran {
                pod.ledger = Ledger::Adopted;
            } else {
                pod.ledger = Ledger::Claimed;
            }
        }
        state.facts.group.current = Some(Current {
            name: write.current,
            uid,
            item: write.item,
            resumed: false,
            stopping: false,
            ran,
        });
    }

    /// Records the result of the current run, and checks whether the run really ended.
    fn record(&self, state: &mut State, write: StatusWrite) {
        let current = state.facts.group.current;
        if current.is_none_or(|current| current.name != write.record) {
            self.report(state, Fault::RecordedTwice);
        }
        if let Some(pod) = state.pod_mut(write.record) {
            // The end of a force-deleted pod cannot be known.
            let early = matches!(pod.phase, Phase::Live | Phase::Ending);
            let again = pod.ledger == Ledger::Recorded;
            pod.ledger = Ledger::Recorded;
            if early {
                self.report(state, Fault::RecordedEarly);
            } else if again {
                self.report(state, Fault::RecordedTwice);
            }
        }
        if let Some(current) = current
            && let Some(pod) = state.pod(current.uid)
            && pod.item != current.item
        {
            self.report(state, Fault::WrongItem);
        }
        let apart = self.mutation == Some(Mutation::RecordApart);
        if !apart || write.run > 0 {
            state.facts.group.current = None;
        }
    }

    /// Records a violation. With a mutation, only the expected violation is recorded.
    fn report(&self, state: &mut State, fault: Fault) {
        if self.mutation.is_none_or(|m| m.breaks() == fault.property()) {
            state.facts.fault.get_or_insert(fault);
        }
    }

    /// Deletes a pod: a bound pod gracefully, a gated pod at once.
    fn delete(&self, state: &mut State, pod: PodRef, only_gated: bool) {
        let (PodRef::Is(place), Some(found)) = (pod, state.pod(pod).copied()) else {
            return;
        };
        if only_gated && found.phase != Phase::Gated {
            return;
        }
        match found.phase {
            Phase::Live | Phase::Ending => self.report(state, Fault::RunningDeleted),
            Phase::Done if found.ledger == Ledger::Claimed => {
                self.report(state, Fault::ResultDeleted)
            }
            _ => {}
        }
        self.remove_gracefully(state, usize::from(place));
    }

    /// Deletes a current pod that has not started in time, that a blackout ends, or whose completion
    /// containers have ended, only if it is unchanged since it was read. In the latter two cases, it
    /// may have started since: the operator deletes less than that.
    fn stop(&self, state: &mut State, pod: PodRef, gated: bool) {
        let (PodRef::Is(place), Some(found)) = (pod, state.pod(pod).copied()) else {
            return;
        };
        let seen = if gated { Phase::Gated } else { Phase::Live };
        let same = found.phase == seen && (self.windows || !found.started);
        if !same && self.mutation != Some(Mutation::StopAnyVersion) {
            return;
        }
        let current = state.facts.group.current;
        let announced = current.is_some_and(|current| current.uid == pod && current.stopping);
        let allowed = if self.windows {
            announced
        } else {
            !found.started
        };
        if found.phase == Phase::Live && !allowed {
            self.report(state, Fault::RunningDeleted);
        }
        self.remove_gracefully(state, usize::from(place));
    }

    /// Applies a deletion to a pod, whichever client requests it.
    pub(crate) fn remove_gracefully(&self, state: &mut State, place: usize) {
        let Some(pod) = &mut state.facts.pods[place] else {
            return;
        };
        match pod.phase {
            Phase::Live if self.mutation == Some(Mutation::ForceDelete) => {
                pod.phase = Phase::Forced;
            }
            Phase::Live => pod.phase = Phase::Ending,
            Phase::Ending | Phase::Forced => {}
            Phase::Gated | Phase::Done => state.remove(place),
        }
    }
}
