//! Records of decisions that make them repeatable: the request, the policy, and the answer.

use crate::contract::{Decision, Request};
use crate::load;
use crate::policy::{Evaluation, Policy};
use serde::{Deserialize, Serialize};

/// A decision with everything that it depends on.
///
/// The same policy returns the same answer to the same request, with the same fuel, on every machine
/// with the same [`Engine`]. Two outcomes also depend on the machine: whether the deadline interrupts
/// an evaluation, and at which depth recursion exhausts the stack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DecisionRecord {
    /// The sha256 of the policy's component.
    pub digest: String,
    /// The contract version that the policy implements.
    pub contract: String,
    /// The engine that evaluated it. Absent in records of older releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<Engine>,
    /// [`request_digest`] of the request.
    pub request_sha256: String,
    /// The request.
    pub request: Request,
    /// The fuel that the evaluation used.
    pub fuel: u64,
    /// The answer.
    pub answer: RecordedAnswer,
}

/// The linked version of wasmtime, on which the fuel of a decision depends.
const WASMTIME: &str = "48.0.8";

/// What an evaluation depends on besides the policy and the request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Engine {
    /// The version of wasmtime.
    pub wasmtime: String,
    /// The processor architecture, such as `x86_64`.
    pub arch: String,
    /// The fuel limit for this number of items, as [`Policy::fuel_limit`] returns it.
    pub fuel: u64,
    /// The memory limit in bytes, [`Limits::memory`](crate::Limits::memory).
    pub memory: usize,
    /// The stack limit in bytes, [`Limits::stack`](crate::Limits::stack).
    pub stack: usize,
}

/// A recorded answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RecordedAnswer {
    /// A decision that satisfies the contract.
    Decision(Decision),
    /// The policy made no decision.
    Error {
        /// The reason, such as `OutOfFuel`, as in conditions.
        reason: String,
        /// A human-readable description of the reason.
        message: String,
    },
}

impl DecisionRecord {
    /// Creates the record of an evaluation.
    pub fn new(policy: &Policy, request: &Request, evaluation: &Evaluation<Decision>) -> Self {
        Self {
            digest: policy.digest().to_owned(),
            contract: policy.contract().to_owned(),
            engine: Some(policy.engine(request.items.len())),
            request_sha256: request_digest(request),
            request: request.clone(),
            fuel: evaluation.fuel,
            answer: match &evaluation.answer {
                Ok(decision) => RecordedAnswer::Decision(decision.clone()),
                Err(error) => RecordedAnswer::Error {
                    reason: error.reason().to_owned(),
                    message: error.to_string(),
                },
            },
        }
    }
}

impl Policy {
    /// Returns the engine for an evaluation of this policy with this number of items.
    pub fn engine(&self, items: usize) -> Engine {
        let limits = self.limits();
        Engine {
            wasmtime: WASMTIME.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            fuel: self.fuel_limit(items),
            memory: limits.memory,
            stack: limits.stack,
        }
    }
}

/// Returns the sha256, in lowercase hexadecimal, of the request as compact JSON with its fields in
/// the order of the contract.
pub fn request_digest(request: &Request) -> String {
    // A request contains only numbers, strings, and lists, which JSON can represent.
    load::sha256(&serde_json::to_vec(request).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wasmtime_version_matches_the_lock_file() {
        let lock = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock");
        let lock = std::fs::read_to_string(lock).unwrap();
        let linked = format!("name = \"wasmtime\"\nversion = \"{WASMTIME}\"\n");
        assert!(lock.contains(&linked), "Cargo.lock has another version");
    }
}
