//! The policies in ConfigMaps: read, compiled in a separate process, and used by a group once they
//! have passed every check.

mod cache;
mod compiler;
mod memory;
mod source;
mod sources;

pub use cache::PolicyCache;
pub use compiler::Compiler;
pub use source::{PolicyProblem, Source};
pub use sources::PolicySources;

use oaat_api::Timestamp;
use policy_host::Policy;

/// The state of the policy in a key of a ConfigMap.
#[derive(Clone, Debug)]
pub enum PolicyRead {
    /// The policy is being read or compiled, since this time.
    Loading(Timestamp),
    /// The policy passed every check.
    Loaded(Policy),
    /// The policy is missing, or failed a check.
    Failed(PolicyProblem),
}
