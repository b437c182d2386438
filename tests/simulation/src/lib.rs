//! Runs the operator's own cycle on a simulated cluster, in virtual time, under faults: one
//! seed is one history. An oracle that knows the truth about every container checks each.
//!
//! Simulated are the API server as the cycle sees it (the verbs of
//! [`oaat_operator::cluster::Cluster`]), the node, the network and the people. Real are the
//! cycle with all that it decides and does, and the default policy in its sandbox. What turns
//! watch events into cycles is imitated in a few lines; the end-to-end tests have the real one.

pub mod chance;
pub mod cluster;
pub mod event;
pub mod history;
pub mod many;
mod mischief;
pub mod mutation;
mod network;
pub mod node;
pub mod oracle;
mod processes;
pub mod replica;
mod server;
pub mod setting;
pub mod violation;
pub mod world;

pub use history::History;
pub use mutation::Mutation;
pub use setting::{Faults, Kill, Setting, Verdict};
pub use violation::{Kind, Violation};

use default_component::DEFAULT_POLICY;
use policy_host::{Host, Limits, Policy};

/// A history is mostly small values that come and go; with this they take two thirds of the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The default policy, compiled.
///
/// # Errors
/// When this machine cannot run it.
pub fn default_policy() -> anyhow::Result<Policy> {
    Ok(Host::new(Limits::default())?.load(DEFAULT_POLICY, None)?)
}
