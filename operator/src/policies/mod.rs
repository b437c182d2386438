//! The policies that groups name: read, compiled in a separate process, and used by a group once
//! they have passed every check.

mod cache;
mod compiler;
mod kept;
mod memory;
mod sources;

pub use cache::PolicyCache;
pub use compiler::Compiler;
pub use kept::{KeptLimits, KeptPolicies};
pub use sources::PolicySources;
