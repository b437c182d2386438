//! What the tests of a selection policy need, as a dev-dependency.
//!
//! ```no_run
//! use policy_sdk::{Item, Request};
//!
//! // Builds this crate into a component, once in a test run, and loads it as the
//! // operator does, under the operator's limits.
//! let policy = policy_testkit::component!();
//! let request = Request::at(0).with(Item::named("a"));
//! assert_eq!(policy.select(&request).unwrap().chosen(), Some(0));
//! ```
//!
//! [`cases!`] runs the declarative cases of the crate's `cases.yaml`;
//! [`strategy::request`] gives requests of every shape to property tests.

mod convert;
pub mod strategy;

pub use policy_cases::{ReadError, Report};
pub use policy_host::{EvalError, Evaluation};
use policy_host::{Host, Limits, Policy};
use policy_sdk::{Decision, ItemSettings, Request};
use std::path::{Path, PathBuf};

/// The component of the crate whose tests this is called in; built once in a
/// process. Panics, which fails the test, with the reason where it does not build or load.
#[macro_export]
macro_rules! component {
    () => {{
        static COMPONENT: std::sync::OnceLock<$crate::TestPolicy> = std::sync::OnceLock::new();
        COMPONENT.get_or_init(|| $crate::TestPolicy::build(env!("CARGO_MANIFEST_DIR")))
    }};
}

/// Runs the cases in `cases.yaml`, beside the `Cargo.toml` of the crate whose tests this is
/// called in, against its component; another file is given as a path from there. Panics,
/// which fails the test, with all that differs in all cases that failed.
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

/// A compiled policy in the operator's evaluator.
pub struct TestPolicy {
    policy: Policy,
    size: usize,
}

impl TestPolicy {
    /// Builds the policy crate in `dir` and loads its component.
    ///
    /// # Panics
    /// With the reason, when it does not build or load.
    pub fn build(dir: impl AsRef<Path>) -> Self {
        match policy_build::build(dir.as_ref(), &target_dir()) {
            Ok(wasm) => Self::load(&wasm),
            Err(error) => panic!("{error}"),
        }
    }

    /// Loads a component that exists already.
    ///
    /// # Panics
    /// With the reason, when it does not load.
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

    /// Bytes of the component.
    pub fn size(&self) -> usize {
        self.size
    }

    /// One decision in a fresh sandbox.
    ///
    /// # Errors
    /// As the operator would see them.
    pub fn select(&self, request: &Request) -> Result<Decision, EvalError> {
        self.evaluate(request).answer
    }

    /// One decision, with the fuel it took and what the policy logged.
    pub fn evaluate(&self, request: &Request) -> Evaluation<Decision> {
        let evaluation = self.policy.evaluate(&convert::request(request));
        Evaluation {
            answer: evaluation.answer.map(convert::decision),
            fuel: evaluation.fuel,
            log: evaluation.log,
            log_dropped: evaluation.log_dropped,
        }
    }

    /// The policy's judgement of settings.
    ///
    /// # Errors
    /// [`EvalError::PolicyError`] with the policy's words when it refuses them.
    pub fn validate(&self, settings: &str, items: &[ItemSettings]) -> Result<(), EvalError> {
        let items: Vec<_> = items.iter().map(convert::item_settings).collect();
        self.policy.validate(settings, &items).answer
    }

    /// Runs declarative cases: what came of each.
    ///
    /// # Errors
    /// Where the text is wrong, and what would be right.
    pub fn cases(&self, yaml: &str) -> Result<Vec<Report>, ReadError> {
        let cases = policy_cases::parse(yaml)?;
        Ok(cases.iter().map(|case| case.run(&self.policy, 0)).collect())
    }

    /// Runs declarative cases.
    ///
    /// # Panics
    /// With all that differs in all cases that failed, or where the text is wrong.
    pub fn check_cases(&self, yaml: &str) {
        let reports = match self.cases(yaml) {
            Ok(reports) => reports,
            Err(error) => panic!("the cases cannot be read: {error}"),
        };
        let failed: Vec<_> = reports.iter().filter(|report| !report.passed()).collect();
        let told: Vec<_> = failed
            .iter()
            .map(|report| format!("{}\n{report}", report.case))
            .collect();
        assert!(
            failed.is_empty(),
            "{} of {} cases failed\n\n{}",
            failed.len(),
            reports.len(),
            told.join("\n")
        );
    }
}

/// A folder of its own below the target folder of the running test, which lies in
/// `<target>/<profile>/deps`.
fn target_dir() -> PathBuf {
    let test = std::env::current_exe().unwrap_or_default();
    let target = test.ancestors().nth(3).unwrap_or(Path::new("target"));
    target.join("policies")
}
