//! The state of the model: the group, its pods, the replicas, and the requests in transit.
//!
//! The state contains only what a step of the protocol can distinguish:
//!
//! - **UIDs.** A UID is only compared for equality, and no name is used twice. A pod is therefore
//!   its index in the list of pods, and a pod that is gone is [`PodRef::Gone`].
//! - **Resource versions.** They are compared for equality with the group's current one, and never
//!   recur. A reader needs one bit: whether the group is unchanged since it was read.
//! - **Order.** Pods, replicas, and requests are sorted ([`State::canonical`]), because no replica
//!   depends on which other replica acts.

use crate::fault::{Budget, Fault};
use std::hash::{Hash, Hasher};

/// The maximum number of pods at a time. [`Fault::TooManyPods`] shows if it is too small.
pub const MAX_PODS: usize = 6;
/// The maximum number of replicas.
pub const MAX_REPLICAS: usize = 3;
/// The maximum number of requests in transit.
pub const MAX_LATE: usize = 2;

/// The phase of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// The pod has the scheduling gate and is not bound.
    Gated,
    /// The pod has no gate: it runs, or may start at any time.
    Live,
    /// The pod is being deleted, and its containers may still run.
    Ending,
    /// The pod has succeeded or failed, and no container runs.
    Done,
    /// The pod was force-deleted: it is gone from the API server, and its containers continue to
    /// run.
    Forced,
}

/// What the group's status has contained about a pod so far. Only the model knows this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ledger {
    /// Nothing, or it was cleared by hand.
    Blank,
    /// The pod is the current pod.
    Claimed,
    /// The pod was adopted after the status was cleared.
    Adopted,
    /// The result of the pod is recorded.
    Recorded,
}

/// A pod with the group's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pod {
    /// The phase.
    pub phase: Phase,
    /// The UID of the owning group.
    pub owner: u8,
    /// The number in the run label.
    pub run: u8,
    /// The item in the annotation, from 1.
    pub item: u8,
    /// Whether the pod still has its group label, and is therefore listed.
    pub labelled: bool,
    /// Whether the API server knows that a container of the pod has started.
    pub started: bool,
    /// What the status has contained about the pod.
    pub ledger: Ledger,
}

impl Pod {
    /// Returns whether the cluster may run the pod, whatever the API server shows.
    pub fn may_run(&self) -> bool {
        matches!(self.phase, Phase::Live | Phase::Ending | Phase::Forced)
    }
}

/// A reference to a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PodRef {
    /// No pod.
    #[default]
    None,
    /// The pod with this index.
    Is(u8),
    /// A pod that is gone. No step can distinguish two of these.
    Gone,
}

/// `status.current`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Current {
    /// The pod by its name.
    pub name: PodRef,
    /// The pod by its UID. It differs from `name` only after a wrong write.
    pub uid: PodRef,
    /// The item.
    pub item: u8,
    /// Whether a replica other than the claimer has announced that it opens the gate.
    pub resumed: bool,
    /// Whether the operator is ending the run, because it did not start in time, a blackout began,
    /// or its completion containers have ended.
    pub stopping: bool,
    /// Whether the gate was ever removed. Only the model knows this.
    pub ran: bool,
}

/// The OaatGroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Group {
    /// The UID, which distinguishes groups of the same name.
    pub uid: u8,
    /// `status.run`, the last number used.
    pub run: u8,
    /// `status.current`.
    pub current: Option<Current>,
}

/// The next request of a replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Next {
    /// Read the group.
    #[default]
    Read,
    /// List the pods.
    List,
    /// Read the current pod, which the list did not contain.
    Get,
    /// Read the group again, before stale pods are deleted.
    SecondRead,
    /// Delete a stale pod.
    DeleteStale,
    /// Announce in the status that a replica other than the claimer opens the gate.
    Resume,
    /// Remove the gate of the current pod, which was found gated.
    Open,
    /// Create a candidate.
    Create,
    /// Claim the candidate.
    Claim,
    /// Remove the gate of the claimed candidate.
    OpenCandidate,
    /// Withdraw a claim whose pod was gone.
    Void,
    /// Delete a candidate that could not be claimed.
    Withdraw,
    /// Write the status without a claim.
    Write,
    /// Delete the current pod, which has not started in time, if it is unchanged since it was read.
    Stop,
    /// Read the group again, before finished pods are deleted.
    SecondReadFinished,
    /// Delete a finished pod.
    DeleteFinished,
}

/// A set of pods, by their index.
pub type Mask = u8;

/// An operator process and its memory within a reconcile. Between reconciles, it remembers nothing
/// that the protocol relies on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Replica {
    /// The next request.
    pub next: Next,
    /// Whether the group still has the resource version that this replica read.
    pub fresh: bool,
    /// The UID of the group that it read.
    pub group: u8,
    /// The `status.current` that it read.
    pub current: Option<Current>,
    /// The `status.run` that it read; once the pods are listed, the number of the next run.
    pub run: u8,
    /// Owned candidates to delete, if they are still gated.
    pub stale_gated: Mask,
    /// Owned pods that may run and are not current, to delete.
    pub stale: Mask,
    /// Finished pods to delete.
    pub finished: Mask,
    /// The pod whose gate to remove.
    pub open: PodRef,
    /// Whether the status announces that already.
    pub resumed: bool,
    /// The current pod, to end because it has not started in time.
    pub stop: PodRef,
    /// Whether that pod was gated when it was read.
    pub stop_gated: bool,
    /// The announcement to write about that, if it changes.
    pub stopping: Option<bool>,
    /// The pod whose result to record.
    pub record: PodRef,
    /// The pod to adopt.
    pub adopt: PodRef,
    /// The candidate.
    pub candidate: PodRef,
    /// The item of the candidate or of the adopted pod, from 1; 0 for none.
    pub item: u8,
    /// Whether nothing blocks a start.
    pub may_start: bool,
    /// Whether the API server rejected a candidate: that run failed without a pod.
    pub refused: bool,
    /// The pods as listed, if a mutation requires them to be remembered.
    pub listed: Mask,
}

/// A write of the group's status under a resource version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StatusWrite {
    /// The pod whose result it records.
    pub record: PodRef,
    /// The pod that it makes current.
    pub current: PodRef,
    /// The item of that pod, or 0.
    pub item: u8,
    /// The run number that it uses, or 0.
    pub run: u8,
    /// Whether it withdraws a claim.
    pub void: bool,
    /// Whether it announces that a replica other than the claimer opens the gate.
    pub resume: bool,
    /// Whether it announces that the operator ends the current run, or that it does not after all.
    pub stopping: Option<bool>,
}

/// A request that changes an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Request {
    /// Create a candidate.
    Create {
        /// The UID of the owning group.
        owner: u8,
        /// The run number.
        run: u8,
        /// The item.
        item: u8,
    },
    /// Write the status.
    Status(StatusWrite),
    /// Remove a pod's gate.
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

/// Everything that distinguishes states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Facts {
    /// The group.
    pub group: Group,
    /// The pods.
    pub pods: [Option<Pod>; MAX_PODS],
    /// The replicas; more than the configuration has are never used.
    pub replicas: [Replica; MAX_REPLICAS],
    /// The requests in transit.
    pub late: [Option<Request>; MAX_LATE],
    /// The faults that may still occur.
    pub budget: Budget,
    /// The violation of the protocol, if any.
    pub fault: Option<Fault>,
}

/// The names of pods and replicas in a counterexample. They do not distinguish states.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    /// Pods.
    pub pods: [u8; MAX_PODS],
    /// Replicas.
    pub replicas: [u8; MAX_REPLICAS],
    /// The name of the next pod.
    pub next: u8,
}

/// A state of the model.
#[derive(Clone, Copy, Debug)]
pub struct State {
    /// What distinguishes the state.
    pub facts: Facts,
    /// The names of its parts.
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
    /// Creates a state with a new group, no pods, and idle replicas.
    pub fn new(budget: Budget) -> Self {
        Self {
            facts: Facts {
                group: Group::default(),
                pods: [None; MAX_PODS],
                replicas: [Replica::default(); MAX_REPLICAS],
                late: [None; MAX_LATE],
                budget,
                fault: None,
            },
            names: Names {
                pods: [0; MAX_PODS],
                replicas: std::array::from_fn(|i| i as u8),
                next: 1,
            },
        }
    }

    /// Returns the pod of a reference, if it exists.
    pub fn pod(&self, pod: PodRef) -> Option<&Pod> {
        match pod {
            PodRef::Is(place) => self.facts.pods[usize::from(place)].as_ref(),
            _ => None,
        }
    }

    /// Returns the pod of a reference for changes, if it exists.
    pub fn pod_mut(&mut self, pod: PodRef) -> Option<&mut Pod> {
        match pod {
            PodRef::Is(place) => self.facts.pods[usize::from(place)].as_mut(),
            _ => None,
        }
    }

    /// Returns whether it matters that a pod has started: a pod that does not start in time is
    /// ended.
    pub(crate) fn watches_starts(&self) -> bool {
        let facts = &self.facts;
        let stops = |replica: &Replica| replica.stop != PodRef::None;
        let late = |request: &Request| matches!(request, Request::Stop { .. });
        facts.budget.timeouts > 0
            || facts.group.current.is_some_and(|current| current.stopping)
            || facts.replicas.iter().any(stops)
            || facts.late.iter().flatten().any(late)
    }

    /// Adds a pod.
    pub fn add(&mut self, pod: Pod) -> PodRef {
        let Some(place) = self.facts.pods.iter().position(Option::is_none) else {
            self.facts.fault = Some(Fault::TooManyPods);
            return PodRef::Gone;
        };
        self.facts.pods[place] = Some(pod);
        self.names.pods[place] = self.names.next;
        self.names.next = self.names.next.wrapping_add(1);
        PodRef::Is(place as u8)
    }

    /// Removes a pod. References to it become [`PodRef::Gone`].
    pub fn remove(&mut self, place: usize) {
        self.facts.pods[place] = None;
        let mut places: [u8; MAX_PODS] = std::array::from_fn(|i| i as u8);
        places[place] = GONE;
        self.facts.renumber(&places);
    }
}

/// The index of a pod that is gone.
pub(crate) const GONE: u8 = u8::MAX;

impl Facts {
    /// Moves pod `i` to the index `places[i]`.
    pub(crate) fn renumber(&mut self, places: &[u8; MAX_PODS]) {
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
            m(&mut replica.stale_gated);
            m(&mut replica.stale);
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
