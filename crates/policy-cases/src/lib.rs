//! Declarative test cases for selection policies. A case consists of a request and the expected
//! answer.
//!
//! ```
//! let cases = policy_cases::parse("
//! cases:
//!   - name: an item that never ran goes first
//!     given:
//!       items: [a, {name: b, lastSuccess: 2h ago}]
//!     expect: {run: a}
//! ").unwrap();
//! assert_eq!(cases[0].name, "an item that never ran goes first");
//! ```
//!
//! - [`parse`] parses a file of cases; [`request`] parses a single request.
//! - [`Case::run`] evaluates a case with each of its seeds and returns a [`Report`].
//! - [`parse_yaml`] parses other kinds of files, with the same errors.
//! - [`Similar`] finds the known names that are similar to an unknown one.
//! - [`explain`] describes a decision.
//! - [`schema`] contains the JSON Schemas of the files, with the feature `schema`.
//! - [`yaml`] contains the value types, for other kinds of files that share them.
//! - [`time`] parses and formats times and durations.
//!
//! All of this is pure, except for the [`Evaluator`].

mod case;
mod check;
mod document;
mod expect;
mod explain;
mod field_path;
mod file;
mod given;
mod report;
mod request;
#[cfg(feature = "schema")]
pub mod schema;
mod similar;
pub mod time;
pub mod yaml;

pub use case::{Case, Evaluator};
pub use document::parse_yaml;
pub use explain::{Explanation, ItemLine, explain};
pub use field_path::{FieldPath, ReadError, Step};
pub use file::parse;
pub use given::item_settings;
pub use report::{Difference, Failure, Report};
pub use request::request;
pub use similar::Similar;
