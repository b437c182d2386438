//! The policies in ConfigMaps: read, compiled in a separate process, and used by a group once they
//! have passed every check.

mod cache;
mod compiler;
mod memory;
mod sources;

pub use cache::PolicyCache;
pub use compiler::Compiler;
pub use sources::PolicySources;
