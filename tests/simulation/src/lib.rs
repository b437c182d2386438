//! Runs the operator's own reconcile loop on a simulated cluster, in virtual time and under faults.
//! One seed is one history. An oracle that knows the true state of every container checks each
//! history.
//!
//! The API server behind the requests of [`oaat_operator::cluster::Cluster`], the node, the
//! network, and the users are simulated. The reconcile loop and the default policy in its sandbox
//! are real. A few lines approximate how watch events trigger a reconcile; the end-to-end tests use
//! the real mechanism.

pub mod config;
mod controllers;
pub mod event;
mod fault_injection;
pub mod faults;
pub mod history;
pub mod many;
pub mod mutation;
mod network;
pub mod node;
pub mod oracle;
mod processes;
pub mod randomness;
pub mod replica;
pub mod replica_client;
mod server;
pub mod shards;
pub mod simulated_cluster;
pub mod turns;
mod user_interference;
pub mod violation;

pub use config::{HistoryConfig, HistoryResult, Kill};
pub use faults::FaultSet;
pub use history::History;
pub use mutation::Mutation;
pub use violation::{Violation, ViolationKind};

use built_in_policies::DEFAULT_POLICY;
use policy_host::{Host, Limits, Policy};

/// Histories allocate many small values; this allocator reduces the time by one third.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Returns the default policy, compiled.
///
/// # Errors
/// Returns an error if this machine cannot run the policy.
pub fn default_policy() -> anyhow::Result<Policy> {
    Ok(Host::new(Limits::default())?.load(DEFAULT_POLICY, None)?)
}
