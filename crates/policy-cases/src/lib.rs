//! Declarative cases for selection policies: what is given, what is expected, and how
//! an answer differs from it.
//!
//! ```
//! let cases = policy_cases::parse("
//! cases:
//!   - name: what never ran goes first
//!     given:
//!       items: [a, {name: b, lastSuccess: 2h ago}]
//!     expect: {run: a}
//! ").unwrap();
//! assert_eq!(cases[0].name, "what never ran goes first");
//! ```
//!
//! - [`parse`] reads a file of cases, [`request`] the request of a single decision.
//! - [`Case::run`] evaluates a case over its seeds and gives a [`Report`].
//! - [`explain`] puts a decision into words.
//! - [`time`] reads and writes times and durations as people write them.
//!
//! Everything here is a function of text and values; only an [`Evaluator`] evaluates.

mod case;
mod check;
mod expect;
mod explain;
mod file;
mod given;
mod place;
mod report;
mod request;
pub mod time;
mod yaml;

pub use case::{Case, Evaluator};
pub use explain::{Explanation, ItemLine, explain};
pub use file::parse;
pub use given::item_settings;
pub use place::ReadError;
pub use report::{Difference, Failure, Report};
pub use request::request;
