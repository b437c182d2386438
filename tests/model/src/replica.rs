//! One reconcile of a replica, request by request, in the order of the operator's code: snapshot
//! (read, list, get), plan, and apply (stale pods, gate, candidate, claim, gate, finished pods).

use crate::server::Response;
use crate::state::{MAX_PODS, Mask, Next, Phase, PodRef, Replica, Request, State, StatusWrite};
use crate::{Mutation, Protocol};

/// The choices that the model leaves open: they depend on time, on the user's settings, or on the
/// policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// At the list: gated stale pods are old enough, or the replica holds the lease.
    pub stale: bool,
    /// At the list: finished pods exceed the retention.
    pub finished: bool,
    /// At the list: the current pod has not started in time.
    pub timeout: bool,
    /// At the creation: the API server rejects the pod.
    pub refused: bool,
}

impl Replica {
    fn status_write(&self) -> StatusWrite {
        let claims = matches!(self.next, Next::Claim);
        let current = if claims { self.candidate } else { self.adopt };
        StatusWrite {
            record: self.record,
            current,
            item: if current == PodRef::None {
                0
            } else {
                self.item
            },
            run: if current != PodRef::None || self.refused {
                self.run
            } else {
                0
            },
            stopping: self.stopping,
            ..StatusWrite::default()
        }
    }

    /// Returns the next request of this replica, if it changes an object.
    pub(crate) fn request(&self) -> Option<Request> {
        let first = |mask: Mask| match mask {
            0 => PodRef::Gone,
            _ => PodRef::Is(mask.trailing_zeros() as u8),
        };
        let delete = |pod, gated| Some(Request::Delete { pod, gated });
        match self.next {
            Next::Read | Next::List | Next::Get | Next::SecondRead | Next::SecondReadFinished => {
                None
            }
            Next::DeleteStale if self.stale_gated != 0 => delete(first(self.stale_gated), true),
            Next::DeleteStale => delete(first(self.stale), false),
            Next::Open => Some(Request::Open(self.open)),
            Next::Create => Some(Request::Create {
                owner: self.group,
                run: self.run,
                item: self.item,
            }),
            Next::Resume => Some(Request::Status(StatusWrite {
                resume: true,
                ..StatusWrite::default()
            })),
            Next::Claim | Next::Write => Some(Request::Status(self.status_write())),
            Next::OpenCandidate => Some(Request::Open(self.candidate)),
            Next::Stop => Some(Request::Stop {
                pod: self.stop,
                gated: self.stop_gated,
            }),
            Next::Void => Some(Request::Status(StatusWrite {
                void: true,
                ..StatusWrite::default()
            })),
            Next::Withdraw => delete(self.candidate, true),
            Next::DeleteFinished => delete(first(self.finished), false),
        }
    }
}

impl Protocol {
    pub(crate) fn is_off(&self, rule: Mutation) -> bool {
        self.mutation == Some(rule)
    }

    /// Returns the choices of replica `r` in its next step.
    pub(crate) fn choices(&self, state: &State, r: usize) -> Vec<Choice> {
        let choice = Choice::default();
        let replica = &state.facts.replicas[r];
        match replica.next {
            Next::List => {
                let pods = || state.facts.pods.iter().flatten();
                let gated = pods().any(|pod| pod.phase == Phase::Gated);
                let finished = pods().any(|pod| pod.phase == Phase::Done);
                let timeouts = match state.facts.budget.timeouts {
                    0 => &[false][..],
                    _ => &[false, true][..],
                };
                let mut choices = Vec::new();
                for stale in [true, false] {
                    for finished_too in [false, true] {
                        if (gated || stale) && (finished || !finished_too) {
                            choices.extend(timeouts.iter().map(|timeout| Choice {
                                stale,
                                finished: finished_too,
                                timeout: *timeout,
                                ..choice
                            }));
                        }
                    }
                }
                choices
            }
            Next::Create => {
                let refused = Choice {
                    refused: true,
                    ..choice
                };
                let refusals = usize::from(state.facts.budget.refusals > 0);
                std::iter::once(choice)
                    .chain(std::iter::repeat_n(refused, refusals))
                    .collect()
            }
            _ => vec![choice],
        }
    }

    /// Makes the next request of replica `r` and processes the response.
    pub(crate) fn step(&self, state: &mut State, r: usize, choice: Choice) {
        let request = state.facts.replicas[r].request();
        match state.facts.replicas[r].next {
            Next::Read if self.is_off(Mutation::ListBeforeRead) => {
                let pods = &state.facts.pods;
                let listed = (0..MAX_PODS).filter(|place| pods[*place].is_some());
                state.facts.replicas[r].listed = listed.fold(0, |mask, place| mask | 1 << place);
                state.facts.replicas[r].next = Next::List;
            }
            Next::Read => {
                read(state, r);
                state.facts.replicas[r].next = Next::List;
            }
            Next::List => {
                if self.is_off(Mutation::ListBeforeRead) {
                    read(state, r);
                }
                self.list(state, r, choice);
            }
            Next::Get => self.get(state, r),
            Next::SecondRead if state.facts.replicas[r].fresh => {
                state.facts.replicas[r].next = Next::DeleteStale;
            }
            Next::SecondReadFinished if state.facts.replicas[r].fresh => {
                state.facts.replicas[r].next = Next::DeleteFinished;
            }
            Next::SecondRead | Next::SecondReadFinished => finish(state, r),
            Next::Create if choice.refused => {
                state.facts.budget.refusals -= 1;
                state.facts.replicas[r].refused = true;
                state.facts.replicas[r].item = 0;
                state.facts.replicas[r].next = Next::Write;
            }
            _ => {
                if let Some(request) = request {
                    let answer = self.apply(state, request, Some(r));
                    self.handle_response(state, r, answer);
                }
            }
        }
    }

    /// Processes the response to a request that changes an object.
    fn handle_response(&self, state: &mut State, r: usize, answer: Response) {
        let opens_first = self.is_off(Mutation::OpenBeforeClaim);
        let replica = &mut state.facts.replicas[r];
        match (replica.next, answer) {
            (Next::DeleteStale, _) => {
                let mask = match replica.stale_gated {
                    0 => &mut replica.stale,
                    _ => &mut replica.stale_gated,
                };
                *mask &= mask.wrapping_sub(1);
                if replica.stale | replica.stale_gated == 0 {
                    self.after_stale(replica);
                }
            }
            (Next::Resume, Response::Done(_)) => {
                replica.resumed = false;
                replica.next = Next::Open;
            }
            (Next::Open, _) => {
                replica.open = PodRef::None;
                replica.resumed = false;
                self.after_opening(replica);
            }
            (Next::Create, Response::Done(pod)) => {
                replica.candidate = pod;
                replica.may_start = false;
                replica.next = if opens_first {
                    Next::OpenCandidate
                } else {
                    Next::Claim
                };
            }
            (Next::Claim, Response::Conflict) => {
                let candidate = replica.candidate;
                finish(state, r);
                state.facts.replicas[r].candidate = candidate;
                state.facts.replicas[r].next = Next::Withdraw;
            }
            (Next::Claim, _) => {
                replica.record = PodRef::None;
                replica.run = 0;
                replica.item = 0;
                if opens_first {
                    replica.candidate = PodRef::None;
                    after_write(replica, true, self);
                } else {
                    replica.next = Next::OpenCandidate;
                }
            }
            (Next::OpenCandidate, Response::NotFound) if !opens_first => {
                let fresh = replica.fresh;
                finish(state, r);
                state.facts.replicas[r].fresh = fresh;
                state.facts.replicas[r].next = Next::Void;
            }
            (Next::OpenCandidate, _) if opens_first => replica.next = Next::Claim,
            (Next::OpenCandidate, _) => {
                replica.candidate = PodRef::None;
                replica.item = 0;
                after_write(replica, true, self);
            }
            (Next::Write, Response::Done(_)) => {
                let apart = self.is_off(Mutation::RecordApart) && replica.record != PodRef::None;
                replica.record = PodRef::None;
                replica.adopt = PodRef::None;
                replica.item = 0;
                replica.run = 0;
                replica.refused = false;
                replica.stopping = None;
                if apart {
                    replica.next = Next::Void;
                } else if replica.stop != PodRef::None {
                    replica.next = Next::Stop;
                } else {
                    after_write(replica, true, self);
                }
            }
            (Next::Stop, _) => {
                replica.stop = PodRef::None;
                replica.stop_gated = false;
                after_write(replica, false, self);
            }
            (Next::DeleteFinished, _) => {
                replica.finished &= replica.finished.wrapping_sub(1);
                if replica.finished == 0 {
                    finish(state, r);
                }
            }
            _ => finish(state, r),
        }
    }

    /// Handles a missing response to the request of replica `r`.
    pub(crate) fn handle_no_response(&self, state: &mut State, r: usize) {
        let replica = &mut state.facts.replicas[r];
        // It is unknown whether the candidate exists. The result of the previous run does not wait.
        if replica.next == Next::Create && replica.record != PodRef::None {
            replica.may_start = false;
            (replica.run, replica.item) = (0, 0);
            replica.finished = 0;
            replica.next = Next::Write;
        } else {
            finish(state, r);
        }
    }

    pub(crate) fn after_stale(&self, replica: &mut Replica) {
        if replica.open == PodRef::None {
            self.after_opening(replica);
        } else if replica.resumed || self.is_off(Mutation::OpenUnannounced) {
            replica.next = Next::Open;
        } else {
            replica.next = Next::Resume;
        }
    }

    fn after_opening(&self, replica: &mut Replica) {
        if replica.may_start {
            replica.next = Next::Create;
        } else if replica.record != PodRef::None
            || replica.adopt != PodRef::None
            || replica.stopping.is_some()
        {
            replica.next = Next::Write;
        } else if replica.stop != PodRef::None {
            replica.next = Next::Stop;
        } else {
            after_write(replica, false, self);
        }
    }
}

/// Reads the group live. A read with a late response, or from a cache, is the same as this read
/// followed by a pause.
fn read(state: &mut State, r: usize) {
    let group = state.facts.group;
    let replica = &mut state.facts.replicas[r];
    replica.fresh = true;
    replica.group = group.uid;
    replica.current = group.current.map(|mut current| {
        current.ran = false;
        current
    });
    replica.run = group.run;
}

/// Continues with finished pods, after the status is final.
fn after_write(replica: &mut Replica, written: bool, protocol: &Protocol) {
    if replica.finished == 0 {
        *replica = Replica::default();
    } else if written || protocol.is_off(Mutation::NoSecondReadFinished) {
        replica.next = Next::DeleteFinished;
    } else {
        replica.next = Next::SecondReadFinished;
    }
}

/// Ends or aborts a reconcile: the replica forgets everything.
pub(crate) fn finish(state: &mut State, r: usize) {
    state.facts.replicas[r] = Replica::default();
}
