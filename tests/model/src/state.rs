//! What the model's world consists of: the group, its pods, the replicas, and the requests
//! that are on their way.
//!
//! Only what a step of the protocol can tell apart is kept:
//!
//! - **Uids.** A uid is compared for equality alone, and no name is used twice, so a pod is
//!   the place it has in the list of pods, and one that is gone is just [`PodRef::Gone`].
//! - **Resource versions.** They are compared for equality with the group's present one, and
//!   never come back, so a reader needs one bit: whether the group is still what it read.
//! - **Order.** Pods, replicas and requests are sorted ([`State::canonical`]): which replica
//!   does a thing is of no concern to the others.

use crate::fault::{Budget, Fault};
use std::hash::{Hash, Hasher};

/// Pods that may exist at a time; [`Fault::NoRoom`] tells if that is ever too few.
pub const PODS: usize = 6;
/// Most replicas.
pub const REPLICAS: usize = 3;
/// Most requests on their way at a time.
pub const LATE: usize = 2;

/// How far a pod has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// The scheduling gate is on it: it is not bound to a node.
    Gated,
    /// No gate: it runs, or may begin to at any time.
    Live,
    /// It is being deleted, and its containers may still run.
    Ending,
    /// Succeeded or Failed, and no container runs.
    Done,
    /// Force-deleted: the API server knows nothing of it, and its containers run on.
    Forced,
}

/// What the group's status has said about a pod so far. Known to the model alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ledger {
    /// Nothing, or it was wiped by hand.
    Blank,
    /// It is the current pod.
    Claimed,
    /// It is the current pod again, after the status was wiped.
    Adopted,
    /// Its result is recorded.
    Recorded,
}

/// A pod that carries the group's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pod {
    /// How far it has come.
    pub phase: Phase,
    /// Which of the groups that had this name owns it.
    pub owner: u8,
    /// The number in its run label.
    pub run: u8,
    /// The item in its annotation, from 1.
    pub item: u8,
    /// Whether it still has its group label, and so is listed.
    pub labelled: bool,
    /// Whether the API server has heard that a container of it started.
    pub started: bool,
    /// What the status has said about it.
    pub ledger: Ledger,
}

impl Pod {
    /// Whether the cluster may run it, whatever the API server says.
    pub fn may_run(&self) -> bool {
        matches!(self.phase, Phase::Live | Phase::Ending | Phase::Forced)
    }
}

/// A pod, as others remember it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PodRef {
    /// No pod.
    #[default]
    Nobody,
    /// The pod in this place.
    Is(u8),
    /// One that is gone. Nothing can tell two of these apart.
    Gone,
}

/// `status.current`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Current {
    /// The pod by its name.
    pub name: PodRef,
    /// The pod by its uid: another one only where a write went wrong.
    pub uid: PodRef,
    /// The item.
    pub item: u8,
    /// Whether another cycle than the claimer's has said that it opens the gate.
    pub resumed: bool,
    /// Whether the operator is about to end it, because it did not start in time or a window opened.
    pub stopping: bool,
    /// Whether its gate was ever opened. Known to the model alone.
    pub ran: bool,
}

/// The OaatGroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Group {
    /// Its uid: which of the groups of this name it is.
    pub uid: u8,
    /// `status.run`, the last number given.
    pub run: u8,
    /// `status.current`.
    pub current: Option<Current>,
}

/// Where a replica is in its cycle: the request it makes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Next {
    /// Read the group.
    #[default]
    Read,
    /// List the pods.
    List,
    /// Read the current pod, which the list did not show.
    Get,
    /// Read the group again, before strays are deleted.
    Reread,
    /// Delete a stray.
    DeleteStray,
    /// Say in the status that another cycle than the claimer's is about to open the gate.
    Resume,
    /// Open the gate of the current pod, found shut.
    Open,
    /// Create a candidate.
    Create,
    /// Make it the current one.
    Claim,
    /// Open the gate of what was claimed.
    OpenOwn,
    /// Take a claim back whose pod was gone.
    Void,
    /// Delete a candidate that could not be claimed.
    Withdraw,
    /// Write the status without a claim.
    Write,
    /// Delete the current pod, which has not started in time, if it is still as it was seen.
    Stop,
    /// Read the group again, before finished pods are deleted.
    RereadFinished,
    /// Delete a finished pod.
    DeleteFinished,
}

/// Pods by their places.
pub type Mask = u8;

/// An operator process, and what it remembers within a cycle. Between cycles it remembers
/// nothing that the protocol rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Replica {
    /// What it does next.
    pub next: Next,
    /// Whether the group still has the resource version that this replica knows.
    pub fresh: bool,
    /// Uid of the group that it read.
    pub group: u8,
    /// `status.current` that it read.
    pub current: Option<Current>,
    /// `status.run` that it read; once the pods are listed, the number of the next run.
    pub run: u8,
    /// Own candidates to be deleted, if they are still gated.
    pub gated_strays: Mask,
    /// Own pods that may run and are not current, to be deleted.
    pub strays: Mask,
    /// Finished pods to be deleted.
    pub finished: Mask,
    /// The pod whose gate is to be opened.
    pub open: PodRef,
    /// Whether the status says so already.
    pub resumed: bool,
    /// The current pod, to be ended because it has not started in time.
    pub stop: PodRef,
    /// Whether that pod was gated when it was seen.
    pub stop_gated: bool,
    /// What the status is to say of that, if something else than it does.
    pub stopping: Option<bool>,
    /// The pod whose end is to be recorded.
    pub record: PodRef,
    /// The pod to be taken for the current one again.
    pub adopt: PodRef,
    /// The candidate.
    pub candidate: PodRef,
    /// Item of the candidate or of the adopted pod, from 1; 0 for none.
    pub item: u8,
    /// Nothing blocks a start.
    pub free: bool,
    /// The API server refused a candidate: that run has failed without a pod.
    pub refused: bool,
    /// The pods as listed, where they must be remembered (one of the mutations).
    pub listed: Mask,
}

/// A change of the group's status under a resource version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StatusWrite {
    /// The pod whose end it records.
    pub record: PodRef,
    /// The pod that it makes the current one.
    pub current: PodRef,
    /// The item of that pod, or 0.
    pub item: u8,
    /// The number that it gives, or 0.
    pub run: u8,
    /// It takes back a claim.
    pub void: bool,
    /// It says that another cycle than the claimer's opens the gate.
    pub resume: bool,
    /// It says that the operator ends the current run, or that it does not after all.
    pub stopping: Option<bool>,
}

/// A request that changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Request {
    /// Create a candidate.
    Create {
        /// Uid of the owning group.
        owner: u8,
        /// Number of the run.
        run: u8,
        /// The item.
        item: u8,
    },
    /// Write the status.
    Status(StatusWrite),
    /// Open a pod's gate.
    Open(PodRef),
    /// Delete a pod gracefully.
    Delete {
        /// The pod.
        pod: PodRef,
        /// Only if it is still as it was seen: gated.
        gated: bool,
    },
    /// Delete the current pod gracefully, if it is still as it was seen: not started.
    Stop {
        /// The pod.
        pod: PodRef,
        /// Whether it was seen gated.
        gated: bool,
    },
}

/// All of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Facts {
    /// The group.
    pub group: Group,
    /// The pods.
    pub pods: [Option<Pod>; PODS],
    /// The replicas; more than the configuration has are never used.
    pub replicas: [Replica; REPLICAS],
    /// Requests on their way.
    pub late: [Option<Request>; LATE],
    /// What may still go wrong.
    pub budget: Budget,
    /// What did go wrong with the protocol.
    pub fault: Option<Fault>,
}

/// What pods and replicas are called in a counterexample. No part of what tells states apart.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    /// Pods.
    pub pods: [u8; PODS],
    /// Replicas.
    pub replicas: [u8; REPLICAS],
    /// The next pod's.
    pub next: u8,
}

/// A state of the model.
#[derive(Clone, Copy, Debug)]
pub struct State {
    /// What it is.
    pub facts: Facts,
    /// What its parts are called.
    pub names: Names,
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.facts == other.facts
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.facts.hash(hasher);
    }
}

impl State {
    /// A new group, no pods, and replicas about to look at it.
    pub fn new(budget: Budget) -> Self {
        Self {
            facts: Facts {
                group: Group::default(),
                pods: [None; PODS],
                replicas: [Replica::default(); REPLICAS],
                late: [None; LATE],
                budget,
                fault: None,
            },
            names: Names {
                pods: [0; PODS],
                replicas: std::array::from_fn(|i| i as u8),
                next: 1,
            },
        }
    }

    /// The pod that is meant, if it exists.
    pub fn pod(&self, pod: PodRef) -> Option<&Pod> {
        match pod {
            PodRef::Is(place) => self.facts.pods[usize::from(place)].as_ref(),
            _ => None,
        }
    }

    /// The same, to be changed.
    pub fn pod_mut(&mut self, pod: PodRef) -> Option<&mut Pod> {
        match pod {
            PodRef::Is(place) => self.facts.pods[usize::from(place)].as_mut(),
            _ => None,
        }
    }

    /// Whether it matters to anybody that a pod has started: what must start in time is ended
    /// if it does not.
    pub(crate) fn watches_starts(&self) -> bool {
        let facts = &self.facts;
        let stops = |replica: &Replica| replica.stop != PodRef::Nobody;
        let late = |request: &Request| matches!(request, Request::Stop { .. });
        facts.budget.timeouts > 0
            || facts.group.current.is_some_and(|current| current.stopping)
            || facts.replicas.iter().any(stops)
            || facts.late.iter().flatten().any(late)
    }

    /// Adds a pod.
    pub fn add(&mut self, pod: Pod) -> PodRef {
        let Some(place) = self.facts.pods.iter().position(Option::is_none) else {
            self.facts.fault = Some(Fault::NoRoom);
            return PodRef::Gone;
        };
        self.facts.pods[place] = Some(pod);
        self.names.pods[place] = self.names.next;
        self.names.next = self.names.next.wrapping_add(1);
        PodRef::Is(place as u8)
    }

    /// Removes a pod: to whoever remembers it, it is one that is gone.
    pub fn remove(&mut self, place: usize) {
        self.facts.pods[place] = None;
        let mut places: [u8; PODS] = std::array::from_fn(|i| i as u8);
        places[place] = GONE;
        self.facts.renumber(&places);
    }
}

/// Where a pod went that is gone.
pub(crate) const GONE: u8 = u8::MAX;

impl Facts {
    /// Pod `i` is found at `places[i]` from now on.
    pub(crate) fn renumber(&mut self, places: &[u8; PODS]) {
        let r = |pod: &mut PodRef| {
            if let PodRef::Is(place) = *pod {
                *pod = match places[usize::from(place)] {
                    GONE => PodRef::Gone,
                    new => PodRef::Is(new),
                };
            }
        };
        let m = |mask: &mut Mask| {
            let mut new = 0;
            for (old, place) in places.iter().enumerate() {
                if *mask & (1 << old) != 0 && *place != GONE {
                    new |= 1 << place;
                }
            }
            *mask = new;
        };
        let c = |current: &mut Option<Current>| {
            if let Some(current) = current {
                r(&mut current.name);
                r(&mut current.uid);
            }
        };
        c(&mut self.group.current);
        for replica in &mut self.replicas {
            c(&mut replica.current);
            m(&mut replica.gated_strays);
            m(&mut replica.strays);
            m(&mut replica.finished);
            m(&mut replica.listed);
            r(&mut replica.open);
            r(&mut replica.stop);
            r(&mut replica.record);
            r(&mut replica.adopt);
            r(&mut replica.candidate);
        }
        for request in self.late.iter_mut().flatten() {
            match request {
                Request::Create { .. } => {}
                Request::Status(write) => {
                    r(&mut write.record);
                    r(&mut write.current);
                }
                Request::Open(pod) | Request::Delete { pod, .. } | Request::Stop { pod, .. } => {
                    r(pod)
                }
            }
        }
    }
}
