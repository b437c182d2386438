//! One cycle of a replica, request by request, in the order of the operator's code: observe
//! (read, list, get), settle, act (strays, opening, candidate, claim, opening, finished pods).

use crate::server::Answer;
use crate::state::{Mask, Next, PODS, Phase, PodRef, Replica, Request, State, StatusWrite};
use crate::{Mutation, Protocol};

/// What a replica may do either way: by time, by the user's settings, or by the policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// When it lists: gated strays are old enough, or it holds the lease.
    pub strays: bool,
    /// When it lists: finished pods are beyond what the user wants kept.
    pub finished: bool,
    /// When it lists: the current pod has not started in time.
    pub timeout: bool,
    /// When it creates: the API server refuses the pod.
    pub refused: bool,
}

impl Replica {
    fn status_write(&self) -> StatusWrite {
        let claims = matches!(self.next, Next::Claim);
        let current = if claims { self.candidate } else { self.adopt };
        StatusWrite {
            record: self.record,
            current,
            item: if current == PodRef::Nobody {
                0
            } else {
                self.item
            },
            run: if current != PodRef::Nobody || self.refused {
                self.run
            } else {
                0
            },
            stopping: self.stopping,
            ..StatusWrite::default()
        }
    }

    /// The request that this replica makes next, if it changes anything.
    pub(crate) fn request(&self) -> Option<Request> {
        let first = |mask: Mask| match mask {
            0 => PodRef::Gone,
            _ => PodRef::Is(mask.trailing_zeros() as u8),
        };
        let delete = |pod, gated| Some(Request::Delete { pod, gated });
        match self.next {
            Next::Read | Next::List | Next::Get | Next::Reread | Next::RereadFinished => None,
            Next::DeleteStray if self.gated_strays != 0 => delete(first(self.gated_strays), true),
            Next::DeleteStray => delete(first(self.strays), false),
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
            Next::OpenOwn => Some(Request::Open(self.candidate)),
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
    pub(crate) fn without(&self, rule: Mutation) -> bool {
        self.mutation == Some(rule)
    }

    /// The choices that replica `r` has in its next step.
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
                for strays in [true, false] {
                    for finished_too in [false, true] {
                        if (gated || strays) && (finished || !finished_too) {
                            choices.extend(timeouts.iter().map(|timeout| Choice {
                                strays,
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

    /// Makes the next request of replica `r` and takes in the answer.
    pub(crate) fn step(&self, state: &mut State, r: usize, choice: Choice) {
        let request = state.facts.replicas[r].request();
        match state.facts.replicas[r].next {
            Next::Read if self.without(Mutation::ListBeforeRead) => {
                let pods = &state.facts.pods;
                let listed = (0..PODS).filter(|place| pods[*place].is_some());
                state.facts.replicas[r].listed = listed.fold(0, |mask, place| mask | 1 << place);
                state.facts.replicas[r].next = Next::List;
            }
            Next::Read => {
                read(state, r);
                state.facts.replicas[r].next = Next::List;
            }
            Next::List => {
                if self.without(Mutation::ListBeforeRead) {
                    read(state, r);
                }
                self.list(state, r, choice);
            }
            Next::Get => self.get(state, r),
            Next::Reread if state.facts.replicas[r].fresh => {
                state.facts.replicas[r].next = Next::DeleteStray;
            }
            Next::RereadFinished if state.facts.replicas[r].fresh => {
                state.facts.replicas[r].next = Next::DeleteFinished;
            }
            Next::Reread | Next::RereadFinished => over(state, r),
            Next::Create if choice.refused => {
                state.facts.budget.refusals -= 1;
                state.facts.replicas[r].refused = true;
                state.facts.replicas[r].item = 0;
                state.facts.replicas[r].next = Next::Write;
            }
            _ => {
                if let Some(request) = request {
                    let answer = self.apply(state, request, Some(r));
                    self.answered(state, r, answer);
                }
            }
        }
    }

    /// What follows from the answer to a request that changes something.
    fn answered(&self, state: &mut State, r: usize, answer: Answer) {
        let early = self.without(Mutation::OpenBeforeClaim);
        let replica = &mut state.facts.replicas[r];
        match (replica.next, answer) {
            (Next::DeleteStray, _) => {
                let mask = match replica.gated_strays {
                    0 => &mut replica.strays,
                    _ => &mut replica.gated_strays,
                };
                *mask &= mask.wrapping_sub(1);
                if replica.strays | replica.gated_strays == 0 {
                    self.after_strays(replica);
                }
            }
            (Next::Resume, Answer::Done(_)) => {
                replica.resumed = false;
                replica.next = Next::Open;
            }
            (Next::Open, _) => {
                replica.open = PodRef::Nobody;
                replica.resumed = false;
                self.after_opening(replica);
            }
            (Next::Create, Answer::Done(pod)) => {
                replica.candidate = pod;
                replica.free = false;
                replica.next = if early { Next::OpenOwn } else { Next::Claim };
            }
            (Next::Claim, Answer::Conflict) => {
                let candidate = replica.candidate;
                over(state, r);
                state.facts.replicas[r].candidate = candidate;
                state.facts.replicas[r].next = Next::Withdraw;
            }
            (Next::Claim, _) => {
                replica.record = PodRef::Nobody;
                replica.run = 0;
                replica.item = 0;
                if early {
                    replica.candidate = PodRef::Nobody;
                    after_writing(replica, true, self);
                } else {
                    replica.next = Next::OpenOwn;
                }
            }
            (Next::OpenOwn, Answer::NotFound) if !early => {
                let fresh = replica.fresh;
                over(state, r);
                state.facts.replicas[r].fresh = fresh;
                state.facts.replicas[r].next = Next::Void;
            }
            (Next::OpenOwn, _) if early => replica.next = Next::Claim,
            (Next::OpenOwn, _) => {
                replica.candidate = PodRef::Nobody;
                replica.item = 0;
                after_writing(replica, true, self);
            }
            (Next::Write, Answer::Done(_)) => {
                let apart = self.without(Mutation::RecordApart) && replica.record != PodRef::Nobody;
                replica.record = PodRef::Nobody;
                replica.adopt = PodRef::Nobody;
                replica.item = 0;
                replica.run = 0;
                replica.refused = false;
                replica.stopping = None;
                if apart {
                    replica.next = Next::Void;
                } else if replica.stop != PodRef::Nobody {
                    replica.next = Next::Stop;
                } else {
                    after_writing(replica, true, self);
                }
            }
            (Next::Stop, _) => {
                replica.stop = PodRef::Nobody;
                replica.stop_gated = false;
                after_writing(replica, false, self);
            }
            (Next::DeleteFinished, _) => {
                replica.finished &= replica.finished.wrapping_sub(1);
                if replica.finished == 0 {
                    over(state, r);
                }
            }
            _ => over(state, r),
        }
    }

    /// The request of replica `r` is not answered; what follows from that.
    pub(crate) fn unanswered(&self, state: &mut State, r: usize) {
        let replica = &mut state.facts.replicas[r];
        // Whether there is a candidate is unknown. The end of the previous run does not wait.
        if replica.next == Next::Create && replica.record != PodRef::Nobody {
            replica.free = false;
            (replica.run, replica.item) = (0, 0);
            replica.finished = 0;
            replica.next = Next::Write;
        } else {
            over(state, r);
        }
    }

    pub(crate) fn after_strays(&self, replica: &mut Replica) {
        if replica.open == PodRef::Nobody {
            self.after_opening(replica);
        } else if replica.resumed || self.without(Mutation::OpenUnannounced) {
            replica.next = Next::Open;
        } else {
            replica.next = Next::Resume;
        }
    }

    fn after_opening(&self, replica: &mut Replica) {
        if replica.free {
            replica.next = Next::Create;
        } else if replica.record != PodRef::Nobody
            || replica.adopt != PodRef::Nobody
            || replica.stopping.is_some()
        {
            replica.next = Next::Write;
        } else if replica.stop != PodRef::Nobody {
            replica.next = Next::Stop;
        } else {
            after_writing(replica, false, self);
        }
    }
}

/// Reads the group, live. A read that is answered late, or from a cache, is this one followed
/// by a pause.
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

/// What comes after the status is settled: finished pods.
fn after_writing(replica: &mut Replica, written: bool, protocol: &Protocol) {
    if replica.finished == 0 {
        *replica = Replica::default();
    } else if written || protocol.without(Mutation::NoRereadFinished) {
        replica.next = Next::DeleteFinished;
    } else {
        replica.next = Next::RereadFinished;
    }
}

/// The end of a cycle, or its breaking off: everything is forgotten.
pub(crate) fn over(state: &mut State, r: usize) {
    state.facts.replicas[r] = Replica::default();
}
