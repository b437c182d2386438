//! The API server: what a request does, whoever sent it and whenever it arrives.

use crate::fault::Fault;
use crate::state::{Current, Ledger, Phase, Pod, PodRef, Request, State, StatusWrite};
use crate::{Mutation, Protocol};

/// What a request is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done; for a creation, the pod.
    Done(PodRef),
    /// The group is not what it was when it was read.
    Conflict,
    /// There is no such pod.
    NotFound,
}

impl Protocol {
    /// Applies a request. `by`: the replica that waits for the answer, if one does. A status
    /// write that is late and out of date is not on its way any more, so it is not checked here.
    pub(crate) fn apply(&self, state: &mut State, request: Request, by: Option<usize>) -> Answer {
        match request {
            Request::Create { owner, run, item } => {
                let gate = self.mutation != Some(Mutation::NoGate);
                Answer::Done(state.add(Pod {
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
                    return Answer::Conflict;
                }
                self.write(state, write);
                self.changed(state, by);
                Answer::Done(PodRef::Nobody)
            }
            Request::Open(pod) => {
                let Some(opened) = state.pod_mut(pod).filter(|p| p.phase != Phase::Forced) else {
                    return Answer::NotFound;
                };
                if opened.phase == Phase::Gated {
                    opened.phase = Phase::Live;
                    if let Some(current) = &mut state.facts.group.current
                        && current.name == pod
                    {
                        current.ran = true;
                    }
                }
                Answer::Done(PodRef::Nobody)
            }
            Request::Delete { pod, gated } => {
                self.delete(state, pod, gated);
                Answer::Done(PodRef::Nobody)
            }
            Request::Stop { pod, gated } => {
                self.stop(state, pod, gated);
                Answer::Done(PodRef::Nobody)
            }
        }
    }

    /// The group has another resource version; who wrote it knows the new one.
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
                self.blame(state, Fault::TakenBack);
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
        if write.record != PodRef::Nobody {
            self.record(state, write);
        }
        if write.run == 0 {
            return;
        }
        let group = state.facts.group;
        // A label counts where the status has said so: others are of candidates only.
        let given = state.facts.pods.iter().flatten().any(|pod| {
            pod.owner == group.uid && pod.ledger != Ledger::Blank && pod.run >= write.run
        });
        if write.run <= group.run || given {
            self.blame(state, Fault::NumberRepeated);
        }
        state.facts.group.run = write.run;
        if write.current == PodRef::Nobody {
            return;
        }
        let uid = match before {
            Some(before) if self.mutation == Some(Mutation::MergeKeepsUid) => before.uid,
            _ => write.current,
        };
        let mut ran = false;
        if let Some(pod) = state.pod_mut(write.current) {
            ran = pod.phase != Phase::Gated;
            if pod.ledger != Ledger::Blank {
                self.blame(state, Fault::RecordedTwice);
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

    /// The end of the current run. Looks behind the scenes whether it has ended.
    fn record(&self, state: &mut State, write: StatusWrite) {
        let current = state.facts.group.current;
        if current.is_none_or(|current| current.name != write.record) {
            self.blame(state, Fault::RecordedTwice);
        }
        if let Some(pod) = state.pod_mut(write.record) {
            // Of one deleted by force nobody can know.
            let early = matches!(pod.phase, Phase::Live | Phase::Ending);
            let again = pod.ledger == Ledger::Recorded;
            pod.ledger = Ledger::Recorded;
            if early {
                self.blame(state, Fault::RecordedEarly);
            } else if again {
                self.blame(state, Fault::RecordedTwice);
            }
        }
        if let Some(current) = current
            && let Some(pod) = state.pod(current.uid)
            && pod.item != current.item
        {
            self.blame(state, Fault::WrongItem);
        }
        let apart = self.mutation == Some(Mutation::RecordApart);
        if !apart || write.run > 0 {
            state.facts.group.current = None;
        }
    }

    /// Notes that something went wrong. Of a mutation only what it is to show is of interest.
    fn blame(&self, state: &mut State, fault: Fault) {
        if self.mutation.is_none_or(|m| m.breaks() == fault.property()) {
            state.facts.fault.get_or_insert(fault);
        }
    }

    /// A pod that is bound ends gracefully; one that is gated is gone at once.
    fn delete(&self, state: &mut State, pod: PodRef, only_gated: bool) {
        let (PodRef::Is(place), Some(found)) = (pod, state.pod(pod).copied()) else {
            return;
        };
        if only_gated && found.phase != Phase::Gated {
            return;
        }
        match found.phase {
            Phase::Live | Phase::Ending => self.blame(state, Fault::RunningDeleted),
            Phase::Done if found.ledger == Ledger::Claimed => {
                self.blame(state, Fault::ResultDeleted)
            }
            _ => {}
        }
        self.remove_gracefully(state, usize::from(place));
    }

    /// A current pod that has not started in time, or that a window ends, is deleted as it was seen,
    /// or not at all. (That it has started since counts for nothing where a window ends it: the
    /// operator deletes less than that.)
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
        let told = current.is_some_and(|current| current.uid == pod && current.stopping);
        let wanted = if self.windows { told } else { !found.started };
        if found.phase == Phase::Live && !wanted {
            self.blame(state, Fault::RunningDeleted);
        }
        self.remove_gracefully(state, usize::from(place));
    }

    /// What a deletion does to a pod, whoever asks for it.
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
