//! The errors of evaluations, and their reasons.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Why an evaluation returned no decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub enum EvalError {
    /// The policy returned an error with a message.
    #[error("the policy cannot decide: {0}")]
    PolicyError(String),
    /// The policy crashed.
    #[error("the policy crashed: {0}")]
    Trapped(String),
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
}
