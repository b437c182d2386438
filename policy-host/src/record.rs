//! A decision written down so that it can be repeated: what was asked, of which policy,
//! and what came of it.

use crate::contract::{Decision, Request};
use crate::load;
use crate::policy::{Evaluation, Policy};
use serde::{Deserialize, Serialize};

/// A decision, whole. The same policy gives the same answer to the same request, for the same
/// fuel, on every machine; so a record can be checked anywhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DecisionRecord {
    /// sha256 of the policy's component.
    pub digest: String,
    /// Version of the contract it speaks.
    pub contract: String,
    /// [`request_digest`] of the request.
    pub request_sha256: String,
    /// What was asked.
    pub request: Request,
    /// Fuel that the answer took.
    pub fuel: u64,
    /// The answer.
    pub answer: RecordedAnswer,
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

/// sha256, in lower-case hex, of the request as compact JSON with its fields in the order of
/// the contract.
pub fn request_digest(request: &Request) -> String {
    // Plain numbers, strings and lists: there is nothing in it that JSON cannot say.
    load::sha256(&serde_json::to_vec(request).unwrap_or_default())
}
