//! What happens in a history, each at its moment.

use crate::cluster::{Reply, Verb};
use crate::node::Step;
use crate::world::Change;

/// What happens at a moment.
#[derive(Clone, Debug)]
pub enum Event {
    /// A replica is to look at the group.
    Wake(usize, u64),
    /// A request reaches the server; the answer comes back so much later, or never.
    Arrives(usize, u64, u64, Box<Verb>, Option<u64>),
    /// An answer reaches a replica.
    Answers(usize, u64, u64, Box<Reply>),
    /// A watch event reaches a replica.
    Sees(usize, u64, Box<Change>),
    /// A step of the node.
    Node(String, Step),
    /// Something may go wrong.
    Mischief,
    /// The garbage collector looks around.
    Collect,
    /// A replica is started again.
    Restart(usize),
    /// A stopped replica goes on.
    Resume(usize, u64),
    /// A replica's watch is taken up again.
    Relist(usize, u64),
    /// The group is created again.
    Recreate,
    /// The type is there again, for a replica.
    Type(usize),
    /// The faults end.
    Calm,
    /// What was under way when the faults ended has come to an end.
    Quiet,
}
