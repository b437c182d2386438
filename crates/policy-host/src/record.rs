//! A decision written down so that it can be repeated: what was asked, of which policy,
//! and what came of it.

use crate::contract::{Decision, Request};
use crate::load;
use crate::policy::{Evaluation, Policy};
use serde::{Deserialize, Serialize};

/// A decision with everything that it depends on.
///
/// The same policy gives the same answer to the same request, with the same fuel, on every machine
/// with the same [`Engine`]. Two outcomes also depend on the machine: an evaluation that its
/// deadline interrupts, and the depth of recursion at which the stack is exhausted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DecisionRecord {
    /// sha256 of the policy's component.
    pub digest: String,
    /// Version of the contract it speaks.
    pub contract: String,
    /// The engine that evaluated it. Absent in records of older releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<Engine>,
    /// [`request_digest`] of the request.
    pub request_sha256: String,
    /// What was asked.
    pub request: Request,
    /// Fuel that the answer took.
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
    /// Version of wasmtime.
    pub wasmtime: String,
    /// The processor architecture, such as `x86_64`.
    pub arch: String,
    /// [`Limits::fuel`](crate::Limits::fuel) and the share of the request's items.
    pub fuel: u64,
    /// [`Limits::memory`](crate::Limits::memory).
    pub memory: usize,
    /// [`Limits::stack`](crate::Limits::stack).
    pub stack: usize,
}

/// An answer, as it is written down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RecordedAnswer {
    /// A decision that kept to the contract.
    Decision(Decision),
    /// No decision.
    Error {
        /// The token, as in conditions: `OutOfFuel`, say.
        reason: String,
        /// The same in words.
        message: String,
    },
}

impl DecisionRecord {
    /// Writes an evaluation down.
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

/// sha256, in lower-case hex, of the request as compact JSON with its fields in the order of
/// the contract.
pub fn request_digest(request: &Request) -> String {
    // Plain numbers, strings and lists: there is nothing in it that JSON cannot say.
    load::sha256(&serde_json::to_vec(request).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_wasmtime_is_the_one_that_is_linked() {
        let lock = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock");
        let lock = std::fs::read_to_string(lock).unwrap();
        let linked = format!("name = \"wasmtime\"\nversion = \"{WASMTIME}\"\n");
        assert!(lock.contains(&linked), "Cargo.lock has another version");
    }
}
