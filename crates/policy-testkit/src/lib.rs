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
//! - [`component!`] builds and loads the component of the crate.
//! - [`cases!`] runs the declarative cases in the crate's `cases.yaml`.
//! - [`strategy::request`] generates requests for property tests.

mod convert;
pub mod strategy;

pub use policy_cases::{ReadError, Report};
pub use policy_host::{EvalError, Evaluation};
use policy_host::{Host, Limits, Policy};
use policy_sdk::{Decision, ItemSettings, Request};
use std::path::{Path, PathBuf};

/// Returns the component of the crate whose tests call this macro. Builds it once per process.
///
/// # Panics
/// Panics if the component cannot be built or loaded.
#[macro_export]
macro_rules! component {
    () => {{
        static COMPONENT: std::sync::OnceLock<$crate::TestPolicy> = std::sync::OnceLock::new();
        COMPONENT.get_or_init(|| $crate::TestPolicy::build(env!("CARGO_MANIFEST_DIR")))
    }};
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

/// Returns a policy's message as the host displays it: one line of at most 1,024 bytes, without
/// invisible characters.
pub fn clean(message: &str) -> String {
    policy_host::text::clean(message, policy_host::text::ERROR)
}

/// A compiled policy, loaded into the operator's evaluator.
pub struct TestPolicy {
    policy: Policy,
    size: usize,
}

impl TestPolicy {
    /// Builds the policy crate in `dir` and loads its component.
    ///
    /// # Panics
    /// Panics if the component cannot be built or loaded.
    pub fn build(dir: impl AsRef<Path>) -> Self {
        match policy_build::build(dir.as_ref(), &target_dir()) {
            Ok(wasm) => Self::load(&wasm),
            Err(error) => panic!("{error}"),
        }
    }

    /// Loads a compiled component.
    ///
    /// # Panics
    /// Panics if the component cannot be loaded.
    pub fn load(wasm: &[u8]) -> Self {
        let host = Host::new(Limits::default()).unwrap_or_else(|error| panic!("{error}"));
        match host.load(wasm, None) {
            Ok(policy) => Self {
                policy,
                size: wasm.len(),
            },
            Err(error) => panic!("{}: {error}", error.reason()),
        }
    }

    /// Returns the size of the component in bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Evaluates `select` in a new sandbox.
    ///
    /// # Errors
    /// Returns the error that the operator would get.
    pub fn select(&self, request: &Request) -> Result<Decision, EvalError> {
        self.evaluate(request).answer
    }

    /// Evaluates `select` in a new sandbox. Also returns the fuel and the log.
    pub fn evaluate(&self, request: &Request) -> Evaluation<Decision> {
        let evaluation = self.policy.evaluate(&convert::request(request));
        Evaluation {
            answer: evaluation.answer.map(convert::decision),
            fuel: evaluation.fuel,
            log: evaluation.log,
            log_dropped: evaluation.log_dropped,
        }
    }

    /// Evaluates `validate` in a new sandbox.
    ///
    /// # Errors
    /// Returns [`EvalError::PolicyError`] with the policy's message if it rejects the settings.
    pub fn validate(&self, settings: &str, items: &[ItemSettings]) -> Result<(), EvalError> {
        let items: Vec<_> = items.iter().map(convert::item_settings).collect();
        self.policy.validate(settings, &items).answer
    }

    /// Runs declarative cases and returns a report for each.
    ///
    /// # Errors
    /// Returns the position and the problem if the text cannot be parsed.
    pub fn cases(&self, yaml: &str) -> Result<Vec<Report>, ReadError> {
        let cases = policy_cases::parse(yaml)?;
        Ok(cases.iter().map(|case| case.run(&self.policy, 0)).collect())
    }

    /// Runs declarative cases.
    ///
    /// # Panics
    /// Panics with the reports of all failed cases, or if the text cannot be parsed.
    pub fn check_cases(&self, yaml: &str) {
        let reports = match self.cases(yaml) {
            Ok(reports) => reports,
            Err(error) => panic!("failed to parse the cases: {error}"),
        };
        let failed: Vec<_> = reports.iter().filter(|report| !report.passed()).collect();
        let texts: Vec<_> = failed
            .iter()
            .map(|report| format!("{}\n{report}", report.case))
            .collect();
        assert!(
            failed.is_empty(),
            "{} of {} cases failed\n\n{}",
            failed.len(),
            reports.len(),
            texts.join("\n")
        );
    }
}

/// Returns a directory in the target directory for nested builds. The running test is in
/// `<target>/<profile>/deps`.
fn target_dir() -> PathBuf {
    let test = std::env::current_exe().unwrap_or_default();
    let target = test.ancestors().nth(3).unwrap_or(Path::new("target"));
    target.join("policies")
}
