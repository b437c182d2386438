//! Runs cases.

use crate::check;
use crate::expect::{Expect, ExpectedValidation};
use crate::explain::{describe_validation, explain, explain_validation};
use crate::field_path::FieldPath;
use crate::given::item_settings;
use crate::report::{Difference, Failure, Report};
use crate::yaml::Seeds;
use policy_host::{Decision, EvalError, Evaluation, ItemSettings, Policy, Request};
use std::collections::HashSet;

/// A policy under test.
pub trait Evaluator {
    /// Evaluates `select` in a new sandbox.
    fn select(&self, request: &Request) -> Evaluation<Decision>;
    /// Evaluates `validate` in a new sandbox.
    fn validate(&self, settings: &str, items: &[ItemSettings]) -> Evaluation<()>;
}

impl Evaluator for Policy {
    fn select(&self, request: &Request) -> Evaluation<Decision> {
        self.evaluate(request)
    }

    fn validate(&self, settings: &str, items: &[ItemSettings]) -> Evaluation<()> {
        Policy::validate(self, settings, items)
    }
}

/// A parsed case.
#[derive(Debug, Clone)]
pub struct Case {
    /// The name, which is unique in its list.
    pub name: String,
    pub(crate) path: FieldPath,
    pub(crate) check: Check,
}

#[derive(Debug, Clone)]
pub(crate) enum Check {
    Select {
        request: Box<Request>,
        seeds: Seeds,
        expect: Box<Expect>,
    },
    Validate {
        settings: String,
        items: Vec<ItemSettings>,
        expect: ExpectedValidation,
    },
}

impl Case {
    /// Returns the line of the case in the file that it was parsed from.
    pub fn line(&self, yaml: &str) -> Option<usize> {
        self.path.position(yaml).map(|(line, _)| line)
    }

    /// Returns the list that contains the case: `cases` or `validate`.
    pub fn list(&self) -> &'static str {
        match self.check {
            Check::Select { .. } => "cases",
            Check::Validate { .. } => "validate",
        }
    }

    /// Runs the case with its seeds. A case with a number of seeds is run with at least `min_seeds`;
    /// a case with a list of seeds is run with exactly these.
    ///
    /// Each request is evaluated twice, and the answers and their fuel must be equal. The policy
    /// must accept the settings unless the case expects an error.
    pub fn run(&self, policy: &impl Evaluator, min_seeds: u64) -> Report {
        let (tried, failure) = match &self.check {
            Check::Select {
                request,
                seeds,
                expect,
            } => {
                let seeds = match seeds {
                    Seeds::Count(count) => (0..(*count).max(min_seeds)).collect(),
                    Seeds::List(list) => list.clone(),
                };
                select(policy, request, &seeds, expect)
            }
            Check::Validate {
                settings,
                items,
                expect,
            } => (1, validate(policy, settings, items, expect)),
        };
        Report {
            case: self.name.clone(),
            tried,
            failure,
        }
    }
}

/// Runs a case of `cases`. Returns the number of seeds tried and the failure, if any.
fn select(
    policy: &impl Evaluator,
    request: &Request,
    seeds: &[u64],
    expect: &Expect,
) -> (usize, Option<Failure>) {
    // The operator does not evaluate a policy with settings that it rejects. A case that expects
    // an error may test such settings.
    if !matches!(expect.answer, crate::expect::Answer::Error(_))
        && let Some(failure) = settings_rejected(policy, request)
    {
        return (0, Some(failure));
    }
    let mut request = request.clone();
    let mut failure: Option<Failure> = None;
    let mut chosen = HashSet::new();
    let mut tried = 0;
    for &seed in seeds {
        request.seed = seed;
        tried += 1;
        let (evaluation, nondeterminism) = evaluate_twice(|| policy.select(&request));
        let mut differences = check::evaluation(expect, &request, &evaluation);
        let reason = match (&evaluation.answer, &nondeterminism) {
            (_, Some(_)) => "NotDeterministic",
            (Err(error), None) => error.reason(),
            (Ok(_), None) => "Unexpected",
        };
        differences.extend(nondeterminism);
        chosen.extend(evaluation.answer.as_ref().ok().and_then(Decision::chosen));
        match &mut failure {
            _ if differences.is_empty() => {}
            Some(failure) => failure.others.push(seed),
            None => {
                failure = Some(Failure {
                    reason,
                    seed: Some(seed),
                    others: Vec::new(),
                    differences,
                    answer: Some(explain(&request, &evaluation)),
                });
            }
        }
        // Each further seed would probably also take the whole deadline.
        if matches!(evaluation.answer, Err(EvalError::Deadline(_))) {
            return (tried, failure);
        }
    }
    if let Some(difference) = check::every_one_of(expect, &request, &chosen, tried) {
        failure
            .get_or_insert_with(|| Failure::without_seed(Vec::new()))
            .differences
            .push(difference);
    }
    (tried, failure)
}

impl Failure {
    /// Creates a failure that does not depend on a seed.
    fn without_seed(differences: Vec<Difference>) -> Self {
        Self {
            reason: "Unexpected",
            seed: None,
            others: Vec::new(),
            differences,
            answer: None,
        }
    }
}

/// Returns a failure if the policy rejects the settings of the request.
fn settings_rejected(policy: &impl Evaluator, request: &Request) -> Option<Failure> {
    let validation = policy.validate(&request.settings, &item_settings(&request.items));
    if validation.answer.is_ok() {
        return None;
    }
    Some(Failure {
        reason: "SettingsRejected",
        answer: explain_validation(&validation),
        ..Failure::without_seed(vec![Difference {
            what: "settings".to_owned(),
            expected: "settings that the policy accepts".to_owned(),
            found: describe_validation(&validation.answer),
        }])
    })
}

/// Runs a case of `validate`.
fn validate(
    policy: &impl Evaluator,
    settings: &str,
    items: &[ItemSettings],
    expect: &ExpectedValidation,
) -> Option<Failure> {
    let (evaluation, nondeterminism) = evaluate_twice(|| policy.validate(settings, items));
    let difference = check::validation(expect, &evaluation.answer);
    let reason = match (&evaluation.answer, &nondeterminism) {
        (_, Some(_)) => "NotDeterministic",
        (Ok(()) | Err(EvalError::PolicyError(_)), None) => "Unexpected",
        (Err(error), None) => error.reason(),
    };
    let differences: Vec<_> = difference.into_iter().chain(nondeterminism).collect();
    (!differences.is_empty()).then(|| Failure {
        reason,
        answer: explain_validation(&evaluation),
        ..Failure::without_seed(differences)
    })
}

/// Evaluates twice. Returns the first evaluation, and how the second one differs from it.
fn evaluate_twice<T: PartialEq>(
    evaluate: impl Fn() -> Evaluation<T>,
) -> (Evaluation<T>, Option<Difference>) {
    let (first, second) = (evaluate(), evaluate());
    let interrupted = |of: &Evaluation<T>| matches!(of.answer, Err(EvalError::Deadline(_)));
    let found = if interrupted(&first) || interrupted(&second) {
        // The deadline depends on the clock, so the fuel differs.
        None
    } else if first.answer != second.answer {
        Some("two different answers".to_owned())
    } else if first.fuel != second.fuel {
        Some(format!(
            "the same answer with {} and {} fuel",
            first.fuel, second.fuel
        ))
    } else {
        None
    };
    let difference = found.map(|found| Difference {
        what: "determinism".to_owned(),
        expected: "the same answer and fuel in two evaluations".to_owned(),
        found,
    });
    (first, difference)
}

#[cfg(test)]
mod tests;
