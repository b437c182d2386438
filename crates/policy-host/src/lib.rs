//! Runs selection policies: WebAssembly components that decide which item of a group runs next.
//!
//! This crate depends on WebAssembly and on the contract in `wit/`, but not on Kubernetes.
//!
//! - [`Host`] contains the engine, the limits, and the clock that interrupts runaway guests. Create
//!   one per process.
//! - [`CompileProcess`] compiles untrusted bytes to a [`Policy`], or returns a [`LoadError`] with the
//!   check that failed. The compiler runs in a child process with hard limits.
//! - [`Host::load`] does the same in this process, for trusted components.
//! - [`Policy::evaluate`] requests one decision in a fresh sandbox and checks the answer against the
//!   contract.
//!
//! No behavior of a component makes this crate panic, and every answer is checked.

mod answer;
mod backtrace;
mod compile_child;
mod compile_process;
mod contract;
mod difference;
mod eval_error;
mod load;
mod policy;
mod record;
mod sandbox;

pub use answer::MAX_STATE;
pub use backtrace::{Backtrace, Frame, FunctionNames};
pub use compile_child::{Landlock, run as run_compile_child};
pub use compile_process::{CompileProcess, Compiled};
pub use contract::{
    CONTRACT, Choice, Decision, Duration, Instant, Item, ItemSettings, Level, Outcome, Request,
    Run, Standing, Verdict,
};
pub use difference::{
    Action, ActionDifference, AnswerDifference, AnswerRef, StandingDifference, WaitTimes,
    compare_answers, format_instant,
};
pub use eval_error::{Crash, EvalError};
pub use load::{CompileMemory, LoadError, compress, decompress, is_gzip, sha256};
pub use plain_text as text;
pub use policy::{CompiledPolicy, Evaluation, Host, HostError, Policy, WeakPolicy};
pub use record::{DecisionRecord, Engine, RecordedAnswer, request_digest};
pub use sandbox::{Limits, LogLine};
