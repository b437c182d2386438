//! Length limits for the text that the operator writes, and where that text is cleaned.
//!
//! [`crate::set_condition`] cleans conditions. [`crate::clean_status`] cleans the other messages of a
//! status before it is written, and limits its data. The operator cleans events when it sends them,
//! cleans the API server's messages when it receives them, and escapes its log. Valid data, such as
//! the names of items, is kept unchanged.

pub use plain_text::{clean, escape, is_unprintable, last_lines, list};

/// The maximum length of a condition's message in bytes. The API allows 32 KiB.
pub const CONDITION: usize = 2048;
/// The maximum length of an event's note in bytes, set by the events API.
pub const EVENT: usize = 1024;
/// The maximum length of other messages in a status, in bytes: of the group, of a run, or of an API
/// server error.
pub const MESSAGE: usize = 1024;
/// The maximum length of one problem of a source of items or of a spec, in bytes.
pub const PROBLEM: usize = 400;
/// The maximum length of the name of an item or another object in a message, in bytes.
pub const NAME: usize = 128;
/// The maximum length of a container's termination message in bytes.
pub const TERMINATION_MESSAGE: usize = 512;
/// The maximum length of the state of a policy in bytes. The policy host rejects a longer one.
pub const POLICY_STATE: usize = 4096;

/// Cleans the name of an item or another object for a message.
pub fn name(name: &str) -> String {
    clean(name, NAME)
}
