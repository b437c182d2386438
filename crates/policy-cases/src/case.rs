//! A case, and how it is run.

use crate::check;
use crate::expect::{Expect, Judgement};
use crate::explain::{explain, explain_judgement, judgement_words};
use crate::given::item_settings;
use crate::place::Place;
use crate::report::{Difference, Failure, Report};
use crate::yaml::Seeds;
use policy_host::{Decision, EvalError, Evaluation, ItemSettings, Policy, Request};
use std::collections::HashSet;

/// Who answers the requests of cases.
pub trait Evaluator {
    /// Asks for a decision, each time afresh.
    fn select(&self, request: &Request) -> Evaluation<Decision>;
    /// Asks whether settings are right, each time afresh.
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

/// A case that was read without fault.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name.
    pub name: String,
    pub(crate) place: Place,
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
        expect: Judgement,
    },
}

impl Case {
    /// The line of the case in the text that it was read from.
    pub fn line(&self, yaml: &str) -> Option<usize> {
        self.place.position(yaml).map(|(line, _)| line)
    }

    /// The list of the file that it stands in: `cases` or `validate`.
    pub fn list(&self) -> &'static str {
        match self.check {
            Check::Select { .. } => "cases",
            Check::Validate { .. } => "validate",
        }
    }

    /// Runs the case. Where it gives a number of seeds, at least `at_least` are tried; a list
    /// of seeds is tried as it is.
    ///
    /// Every request is asked twice, and both answers and their fuel must be the same. Settings
    /// must be such as the policy accepts, unless the case expects an error.
    pub fn run(&self, policy: &impl Evaluator, at_least: u64) -> Report {
        let (tried, failure) = match &self.check {
            Check::Select {
                request,
                seeds,
                expect,
            } => {
                let seeds = match seeds {
                    Seeds::Count(count) => (0..(*count).max(at_least)).collect(),
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

/// The number of requests tried, and what is wrong.
fn select(
    policy: &impl Evaluator,
    request: &Request,
    seeds: &[u64],
    expect: &Expect,
) -> (usize, Option<Failure>) {
    // The operator asks no policy to decide by settings that it refuses. A case that
    // expects an error may be about just such a policy.
    if !matches!(expect.answer, crate::expect::Answer::Error(_))
        && let Some(failure) = refused(policy, request)
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
        let (evaluation, differs) = twice(|| policy.select(&request));
        let mut differences = check::answer(expect, &request, &evaluation);
        let reason = match (&evaluation.answer, &differs) {
            (_, Some(_)) => "NotDeterministic",
            (Err(error), None) => error.reason(),
            (Ok(_), None) => "Unexpected",
        };
        differences.extend(differs);
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
        // It takes its time, and would for every seed.
        if matches!(evaluation.answer, Err(EvalError::Deadline(_))) {
            return (tried, failure);
        }
    }
    if let Some(difference) = check::together(expect, &request, &chosen, tried) {
        failure
            .get_or_insert_with(|| Failure::of(Vec::new()))
            .differences
            .push(difference);
    }
    (tried, failure)
}

impl Failure {
    /// One in which seeds do not matter.
    fn of(differences: Vec<Difference>) -> Self {
        Self {
            reason: "Unexpected",
            seed: None,
            others: Vec::new(),
            differences,
            answer: None,
        }
    }
}

/// What the policy has against the settings of the request.
fn refused(policy: &impl Evaluator, request: &Request) -> Option<Failure> {
    let judgement = policy.validate(&request.settings, &item_settings(&request.items));
    let reason = match &judgement.answer {
        Ok(()) => return None,
        Err(EvalError::PolicyError(_)) => "SettingsRejected",
        Err(error) => error.reason(),
    };
    Some(Failure {
        reason,
        answer: explain_judgement(&judgement),
        ..Failure::of(vec![Difference {
            what: "settings".to_owned(),
            expected: "settings that the policy's `validate` accepts".to_owned(),
            found: judgement_words(&judgement.answer),
        }])
    })
}

fn validate(
    policy: &impl Evaluator,
    settings: &str,
    items: &[ItemSettings],
    expect: &Judgement,
) -> Option<Failure> {
    let (evaluation, differs) = twice(|| policy.validate(settings, items));
    let difference = check::judgement(expect, &evaluation.answer);
    let reason = match (&evaluation.answer, &differs) {
        (_, Some(_)) => "NotDeterministic",
        (Ok(()) | Err(EvalError::PolicyError(_)), None) => "Unexpected",
        (Err(error), None) => error.reason(),
    };
    let differences: Vec<_> = difference.into_iter().chain(differs).collect();
    (!differences.is_empty()).then(|| Failure {
        reason,
        answer: explain_judgement(&evaluation),
        ..Failure::of(differences)
    })
}

/// Evaluates the same twice, and says how the second time differs from the first.
fn twice<T: PartialEq>(
    evaluate: impl Fn() -> Evaluation<T>,
) -> (Evaluation<T>, Option<Difference>) {
    let (first, second) = (evaluate(), evaluate());
    let interrupted = |of: &Evaluation<T>| matches!(of.answer, Err(EvalError::Deadline(_)));
    let found = if interrupted(&first) || interrupted(&second) {
        // By the clock, and so never at the same instruction.
        None
    } else if first.answer != second.answer {
        Some("two answers".to_owned())
    } else if first.fuel != second.fuel {
        let fuel = (first.fuel, second.fuel);
        Some(format!(
            "the same answer with {} and with {} of fuel",
            fuel.0, fuel.1
        ))
    } else {
        None
    };
    let difference = found.map(|found| Difference {
        what: "asked twice".to_owned(),
        expected: "the same answer with the same fuel, as a pure function gives".to_owned(),
        found,
    });
    (first, difference)
}

#[cfg(test)]
mod tests;
