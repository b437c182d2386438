//! The events of a history.

use crate::node::Step;
use crate::replica_client::{RequestResult, Verb};
use crate::simulated_cluster::Change;
use std::fmt;
use std::sync::Arc;

/// A request in transit.
#[derive(Clone, Debug)]
pub struct Request {
    /// The replica that sent the request.
    pub replica: usize,
    /// The life of the replica's process that sent it.
    pub life: u64,
    /// The number of the request in that life.
    pub call: u64,
    /// What the request asks for.
    pub verb: Box<Verb>,
    /// The earliest and latest time of the sender's clock since its reconcile began, in
    /// milliseconds.
    pub clock: (i64, i64),
    /// If set, the sender is killed when the request takes effect, and restarted after this time in
    /// milliseconds.
    pub kill_sender_for: Option<u64>,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.verb, self.replica)
    }
}

/// An event.
#[derive(Clone, Debug)]
pub enum Event {
    /// A replica reconciles the group.
    Wake(usize, u64),
    /// A request reaches the server. The response returns after this delay in milliseconds, or
    /// never.
    RequestArrives(Box<Request>, Option<u64>),
    /// A response reaches a replica.
    ResponseArrives(usize, u64, u64, Box<RequestResult>),
    /// A watch event reaches a replica.
    WatchEvent(usize, u64, Arc<Change>),
    /// A replica knows by now whether it wrote this version of the status itself.
    StatusChanged(usize, u64, u64),
    /// The node takes a step with the pod of this UID.
    Node(String, Step),
    /// A fault may be injected.
    InjectFault,
    /// The garbage collector and the namespace controller run.
    RunControllers,
    /// A killed replica is restarted.
    Restart(usize),
    /// A paused replica resumes.
    Resume(usize, u64),
    /// A replica notices that it lost the lease, and ends.
    LeaseLost(usize, u64),
    /// A replica's watch is established again.
    Relist(usize, u64),
    /// Nothing suspends the group or its items any more, and there is no blackout.
    LiftRestrictions,
    /// The group is created again.
    Recreate,
    /// A replica finds the OaatType again.
    RestoreType(usize),
    /// No more faults are injected.
    FaultsEnd,
    /// Everything that was in progress when the faults ended has finished.
    FaultsSettled,
}
