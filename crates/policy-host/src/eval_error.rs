//! The errors of evaluations, and their reasons.

use crate::backtrace::{Backtrace, FunctionNames};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Why an evaluation returned no decision. The alternate form (`{:#}`) also shows where the policy
/// crashed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub enum EvalError {
    /// The policy returned an error with a message.
    #[error("the policy cannot decide: {0}")]
    PolicyError(String),
    /// The policy crashed.
    #[error(fmt = fmt_crash)]
    Trapped(Crash),
    /// The policy used up its fuel, a limit on executed instructions.
    #[error("the policy used up its fuel of {0}")]
    OutOfFuel(u64),
    /// The policy exceeded its deadline.
    #[error("the policy was interrupted after {} ms", .0.as_millis())]
    Deadline(Duration),
    /// The policy exceeded its limit on memory, in bytes, or on tables.
    #[error("the policy exceeded its limit of {0} bytes of memory, or its limit on tables")]
    OutOfMemory(usize),
    /// The answer breaks the contract.
    #[error("the policy's answer breaks the contract: it {0}")]
    BadAnswer(String),
}

/// How a policy crashed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Crash {
    /// A human-readable description.
    pub message: String,
    /// Where it crashed. Empty if that is unknown.
    pub backtrace: Backtrace,
}

impl<T: Into<String>> From<T> for Crash {
    fn from(message: T) -> Self {
        Self {
            message: message.into(),
            backtrace: Backtrace::default(),
        }
    }
}

fn fmt_crash(crash: &Crash, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "the policy crashed: {}", crash.message)?;
    if f.alternate() && !crash.backtrace.frames().is_empty() {
        write!(f, " in {}", crash.backtrace)?;
    }
    Ok(())
}

impl EvalError {
    /// Returns the CamelCase reason for conditions and events.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::PolicyError(_) => "PolicyError",
            Self::Trapped(_) => "Trapped",
            Self::OutOfFuel(_) => "OutOfFuel",
            Self::Deadline(_) => "Deadline",
            Self::OutOfMemory(_) => "OutOfMemory",
            Self::BadAnswer(_) => "BadAnswer",
        }
    }

    /// Describes this error as the result of validating settings.
    pub fn settings_problem(&self) -> String {
        match self {
            Self::PolicyError(message) => format!("the policy rejects its settings: {message}"),
            other => format!("failed to check the settings: {other:#}"),
        }
    }

    /// Adds the names of functions to the backtrace of a crash.
    pub fn with_names(self, names: &FunctionNames) -> Self {
        match self {
            Self::Trapped(crash) => Self::Trapped(Crash {
                backtrace: crash.backtrace.with_names(names),
                ..crash
            }),
            other => other,
        }
    }
}
