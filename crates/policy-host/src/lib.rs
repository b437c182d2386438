//! Runs selection policies: WebAssembly components that decide which item of a
//! group is next.
//!
//! This crate takes bytes and gives decisions. It knows WebAssembly and the
//! contract in `wit/`; it knows nothing of Kubernetes.
//!
//! - [`Host`] is made once in a process: the engine, the limits, the clock
//!   that interrupts runaway guests.
//! - [`CompileProcess`] turns the bytes of anyone into a [`Policy`], or returns a [`LoadError`]
//!   with the step that failed and why. The compiler runs in a child process with hard limits.
//! - [`Host::load`] does the same in this process, for components that the caller trusts.
//! - [`Policy::evaluate`] makes a fresh sandbox, asks for one decision, checks the
//!   answer against the contract, and throws the sandbox away.
//!
//! Nothing here panics on what a component does, and no answer is handed on
//! unchecked.

mod answer;
mod compile_child;
mod compile_process;
mod contract;
mod load;
mod policy;
mod record;
mod sandbox;

pub use compile_child::{Landlock, run as run_compile_child};
pub use compile_process::{CompileProcess, Compiled};
pub use contract::{
    CONTRACT, Choice, Decision, Duration, Instant, Item, ItemSettings, Level, Outcome, Request,
    Run, Standing, Verdict,
};
pub use load::{CompileMemory, LoadError, sha256};
pub use plain_text as text;
pub use policy::{CompiledPolicy, EvalError, Evaluation, Host, HostError, Policy, WeakPolicy};
pub use record::{DecisionRecord, Engine, RecordedAnswer, request_digest};
pub use sandbox::{Limits, LogLine};
