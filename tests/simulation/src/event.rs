//! What happens in a history, each at its moment.

use crate::cluster::{Reply, Verb};
use crate::node::Step;
use crate::world::Change;
use std::fmt;
use std::sync::Arc;

/// A request on its way.
#[derive(Clone, Debug)]
pub struct Request {
    /// The replica that made it.
    pub replica: usize,
    /// In which of its lives.
    pub life: u64,
    /// Its number among the requests of that life.
    pub call: u64,
    /// What it asks for.
    pub verb: Box<Verb>,
    /// What its sender's clock has shown since its look began, earliest and latest.
    pub clock: (i64, i64),
    /// Its sender is killed in the moment in which it has taken effect, for so long.
    pub fatal: Option<u64>,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.verb, self.replica)
    }
}

/// What happens at a moment.
#[derive(Clone, Debug)]
pub enum Event {
    /// A replica is to look at the group.
    Wake(usize, u64),
    /// A request reaches the server; the answer comes back so much later, or never.
    Arrives(Box<Request>, Option<u64>),
    /// An answer reaches a replica.
    Answers(usize, u64, u64, Box<Reply>),
    /// A watch event reaches a replica.
    Sees(usize, u64, Arc<Change>),
    /// A replica has had time to know whether a version of the status is its own.
    Edited(usize, u64, u64),
    /// A step of the node.
    Node(String, Step),
    /// Something may go wrong.
    Mischief,
    /// The garbage collector and the namespace controller look around.
    Collect,
    /// A replica is started again.
    Restart(usize),
    /// A stopped replica goes on.
    Resume(usize, u64),
    /// A replica finds that it has lost the lease, and ends.
    Deposed(usize, u64),
    /// A replica's watch is taken up again.
    Relist(usize, u64),
    /// The group and its items are suspended no longer.
    Resumed,
    /// The group is created again.
    Recreate,
    /// The type is there again, for a replica.
    Type(usize),
    /// The faults end.
    Calm,
    /// What was under way when the faults ended has come to an end.
    Quiet,
}
