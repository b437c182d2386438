//! Policies that groups refer to: read from ConfigMaps, compiled in a separate process, and used by
//! each group once they have passed every check.

mod cache;
mod compiler;
mod memory;
mod source;
mod sources;

pub use cache::PolicyCache;
pub use compiler::Compiler;
pub use source::{Problem, Source};
pub use sources::Sources;

use oaat_api::Timestamp;
use policy_host::Policy;

/// What is known of the policy in a ConfigMap's key.
#[derive(Clone, Debug)]
pub enum PolicyRead {
    /// It is being read or compiled, since then.
    Loading(Timestamp),
    /// It may serve.
    Loaded(Policy),
    /// It may not, or it is not there.
    Failed(Problem),
}
