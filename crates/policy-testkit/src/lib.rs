//! Test support for selection policies. Add this crate as a dev-dependency.
//!
//! ```no_run
//! use policy_sdk::{Item, Request};
//!
//! // Builds this crate into a component, once per test process, and loads it under the operator's
//! // limits.
//! let policy = policy_testkit::component!();
//! let request = Request::at(0).with(Item::named("a"));
//! assert_eq!(policy.select(&request).unwrap().chosen(), Some(0));
//! ```
//!
//! The component runs in the child process `kubectl-oaat policy serve`, so that the tests do
//! not need to compile the evaluator. Install kubectl-oaat of this version, or set `OAAT_KUBECTL` to its path.
//!
//! - [`component!`] builds and loads the component of the crate.
//! - [`cases!`] runs the declarative cases in the crate's `cases.yaml`.
//! - [`strategy::request`] generates requests for property tests.

mod child;
pub mod strategy;
mod wire;

use child::{ChildError, Server};
use policy_sdk::log::Level;
use policy_sdk::{Decision, ItemSettings, Request};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Returns the component of the crate whose tests call this macro. Builds it once per process.
///
/// # Panics
/// Panics if the component cannot be built or loaded.
#[macro_export]
macro_rules! component {
    () => {
        $crate::TestPolicy::shared(env!("CARGO_MANIFEST_DIR"))
    };
}

/// Runs the cases in `cases.yaml` against the component of the crate whose tests call this macro.
/// An optional argument is the path of another file, relative to the crate's `Cargo.toml`.
///
/// # Panics
/// Panics with the reports of all failed cases.
///
/// ```text
/// #[test]
/// fn cases() {
///     policy_testkit::cases!();
/// }
/// ```
#[macro_export]
macro_rules! cases {
    () => {
        $crate::cases!("cases.yaml")
    };
    ($file:literal) => {
        $crate::component!().check_cases(include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/",
            $file
        )))
    };
}

/// The result of one call of a policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation<T> {
    /// The checked answer, or why there is none.
    pub answer: Result<T, EvalError>,
    /// The fuel used. The same request uses the same fuel on every machine.
    pub fuel: u64,
    /// The lines that the policy logged.
    pub log: Vec<LogLine>,
    /// The number of log lines that were dropped.
    pub log_dropped: u64,
}

/// A line that a policy logged.
#[derive(Clone, Debug, PartialEq)]
pub struct LogLine {
    /// The severity.
    pub level: Level,
    /// The text as one line, without unprintable characters.
    pub text: String,
}

/// Why an evaluation returned no decision. Each variant has a message for people, and the name of
/// the reason in the condition `PolicyReady`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EvalError {
    /// The policy returned this error.
    #[error("the policy returned an error: {0}")]
    PolicyError(String),
    /// The policy crashed.
    #[error("{0}")]
    Trapped(String),
    /// The policy used up its fuel.
    #[error("{0}")]
    OutOfFuel(String),
    /// The policy exceeded its deadline.
    #[error("{0}")]
    Deadline(String),
    /// The policy exceeded its limit on memory.
    #[error("{0}")]
    OutOfMemory(String),
    /// The answer violates the contract.
    #[error("{0}")]
    BadAnswer(String),
}

impl EvalError {
    /// Returns the error of a component whose function returned this message. The host displays a
    /// message as one line of at most 1,024 bytes, without invisible characters.
    pub fn from_message(message: String) -> Self {
        Self::PolicyError(plain_text::clean(&message, plain_text::ERROR))
    }
}

/// A compiled policy in the operator's evaluator, which runs as a child process.
pub struct TestPolicy {
    server: Server,
}

impl TestPolicy {
    /// Builds the policy in the directory `dir`, once per process, and loads its component.
    ///
    /// # Panics
    /// Panics if the component cannot be built or loaded, or if kubectl-oaat cannot be started.
    pub fn shared(dir: &'static str) -> &'static Self {
        static POLICIES: Mutex<BTreeMap<&str, &TestPolicy>> = Mutex::new(BTreeMap::new());
        let mut policies = POLICIES.lock().unwrap_or_else(PoisonError::into_inner);
        policies
            .entry(dir)
            .or_insert_with(|| Box::leak(Box::new(Self::build(dir))))
    }

    /// Builds the policy in the directory `dir` and loads its component.
    ///
    /// # Panics
    /// Panics if the component cannot be built or loaded, or if kubectl-oaat cannot be started.
    pub fn build(dir: impl AsRef<Path>) -> Self {
        Self::load(dir)
    }

    /// Loads a component from a file.
    ///
    /// # Panics
    /// Panics if the component cannot be loaded, or if kubectl-oaat cannot be started.
    pub fn load(file: impl AsRef<Path>) -> Self {
        match Server::start(file.as_ref()) {
            Ok(server) => Self { server },
            Err(error) => panic!("{error}"),
        }
    }

    /// Returns the size of the component in bytes.
    pub fn size(&self) -> u64 {
        self.server.size
    }

    /// Evaluates `select` in a new sandbox.
    ///
    /// # Errors
    /// Returns the error that the operator would get.
    pub fn select(&self, request: &Request) -> Result<Decision, EvalError> {
        self.evaluate(request).answer
    }

    /// Evaluates `select` in a new sandbox. Also returns the fuel and the log.
    ///
    /// # Panics
    /// Panics if kubectl-oaat ends.
    pub fn evaluate(&self, request: &Request) -> Evaluation<Decision> {
        self.call(&wire::select(request), |line| {
            wire::evaluation(line, wire::decision)
        })
    }

    /// Evaluates `validate` in a new sandbox.
    ///
    /// # Errors
    /// Returns [`EvalError::PolicyError`] with the policy's message if it rejects the settings.
    ///
    /// # Panics
    /// Panics if kubectl-oaat ends.
    pub fn validate(&self, settings: &str, items: &[ItemSettings]) -> Result<(), EvalError> {
        self.call(&wire::validate(settings, items), |line| {
            wire::evaluation(line, |_| Some(()))
        })
        .answer
    }

    /// Runs declarative cases.
    ///
    /// # Panics
    /// Panics with the reports of all failed cases, or if the text cannot be parsed.
    pub fn check_cases(&self, yaml: &str) {
        let (count, failed) = self.call(&json!({ "cases": yaml }), |line| {
            let failed = line.get("failed")?.as_array()?.iter();
            let failed = failed.map(|report| report.as_str().map(str::to_owned));
            Some((
                line.get("cases")?.as_u64()?,
                failed.collect::<Option<Vec<_>>>()?,
            ))
        });
        assert!(
            failed.is_empty(),
            "{} of {count} cases failed\n\n{}",
            failed.len(),
            failed.join("\n")
        );
    }

    fn call<T>(&self, request: &Value, parse: impl FnOnce(&Value) -> Option<T>) -> T {
        let line = match self.server.call(request) {
            Ok(line) => line,
            Err(error) => panic!("{error}"),
        };
        if let Some(error) = line["error"].as_str() {
            panic!("{error}");
        }
        parse(&line).unwrap_or_else(|| panic!("{}", ChildError::Protocol(line.to_string())))
    }
}
