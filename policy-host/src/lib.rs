//! Runs selection policies: WebAssembly components that decide which item of a
//! group is next.
//!
//! This crate takes bytes and gives decisions. It knows WebAssembly and the
//! contract in `wit/`; it knows nothing of Kubernetes.
//!
//! - [`Host`] is made once in a process: the compiler, the limits, the clock
//!   that interrupts runaway guests.
//! - [`Host::load`] turns bytes into a [`Policy`], or says in a [`LoadError`]
//!   at which step and why it did not.
//! - [`Policy::evaluate`] makes a fresh sandbox, asks for one decision, checks the
//!   answer against the contract, and throws the sandbox away.
//!
//! Nothing here panics on what a component does, and no answer is handed on
//! unchecked.

mod answer;
mod contract;
mod inspect;
mod load;
mod policy;
mod record;
mod sandbox;
pub mod text;

pub use contract::{
    CONTRACT, Choice, Decision, Duration, Instant, Item, ItemSettings, Level, Outcome, Request,
    Run, Standing, Verdict,
};
pub use load::LoadError;
pub use policy::{EvalError, Evaluation, Host, HostError, Policy};
pub use record::{DecisionRecord, RecordedAnswer, request_digest};
pub use sandbox::{Limits, LogLine};
