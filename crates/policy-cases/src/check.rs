//! Compares answers with expectations.

use crate::expect::{Answer, Expect, ExpectedValidation, ExpectedVerdict};
use crate::explain::{describe_choice, describe_error, describe_validation, describe_wait};
use crate::report::Difference;
use crate::time::format_both;
use policy_host::{Choice, Decision, EvalError, Evaluation, Instant, Request};
use std::collections::HashSet;

fn difference(
    what: impl Into<String>,
    expected: impl Into<String>,
    found: impl Into<String>,
) -> Difference {
    Difference {
        what: what.into(),
        expected: expected.into(),
        found: found.into(),
    }
}

/// Returns the differences between an evaluation and the expectation.
pub(crate) fn evaluation(
    expect: &Expect,
    request: &Request,
    evaluation: &Evaluation<Decision>,
) -> Vec<Difference> {
    let mut differences = answer(expect, request, evaluation);
    if let Some(max) = expect.max_fuel
        && evaluation.fuel > max
    {
        let used = evaluation.fuel;
        differences.push(difference(
            "fuel",
            format!("at most {max}"),
            format!("{used}, which is {} more", used - max),
        ));
    }
    differences
}

/// Returns the differences between an answer and the expectation.
fn answer(
    expect: &Expect,
    request: &Request,
    evaluation: &Evaluation<Decision>,
) -> Vec<Difference> {
    let decision = match &evaluation.answer {
        Ok(decision) => decision,
        Err(error) => return Vec::from_iter(unexpected_error(expect, request, error)),
    };
    let mut differences = Vec::from_iter(choice(&expect.answer, request, &decision.choice));
    differences.extend(note("note".to_owned(), &expect.note, &decision.note));
    if let Some(state) = &expect.state
        && *state != decision.state
    {
        differences.push(difference(
            "state",
            describe_state(state),
            describe_state(&decision.state),
        ));
    }
    if decision.verdicts.is_empty() && !expect.verdicts.is_empty() {
        differences.push(difference(
            "verdicts",
            "one verdict per item",
            "no verdicts",
        ));
        return differences;
    }
    for (index, expected) in &expect.verdicts {
        if let (Some(item), Some(found)) =
            (request.items.get(*index), decision.verdicts.get(*index))
        {
            differences.extend(verdict(&item.name, expected, found, request.now));
        }
    }
    differences
}

/// Returns the difference for an answer that is an error.
fn unexpected_error(expect: &Expect, request: &Request, error: &EvalError) -> Option<Difference> {
    if let (Answer::Error(part), EvalError::PolicyError(message)) = (&expect.answer, error)
        && message.contains(part)
    {
        return None;
    }
    let (what, expected) = expected(&expect.answer, request);
    Some(difference(what, expected, describe_error(error)))
}

fn choice(expect: &Answer, request: &Request, choice: &Choice) -> Option<Difference> {
    let as_expected = match (expect, choice) {
        (Answer::Run(any), Choice::Run(chosen)) => any.contains(&(*chosen as usize)),
        (Answer::Wait(None), Choice::Wait(_)) => true,
        (Answer::Wait(Some(until)), Choice::Wait(found)) => until == found,
        _ => false,
    };
    let (what, expected) = expected(expect, request);
    (!as_expected).then(|| difference(what, expected, describe_choice(request, choice)))
}

/// Returns the field of an expected answer and a description of the answer.
fn expected(answer: &Answer, request: &Request) -> (&'static str, String) {
    match answer {
        Answer::Run(any) => ("run", format!("run {}", names(request, any).join(" or "))),
        Answer::Wait(None) => ("wait", "wait".to_owned()),
        Answer::Wait(Some(until)) => ("wait", describe_wait(*until, request.now)),
        Answer::Error(part) => ("error", format!("an error that contains {part:?}")),
    }
}

fn names<'a>(request: &'a Request, indices: &[usize]) -> Vec<&'a str> {
    let name = |index: &usize| Some(request.items.get(*index)?.name.as_str());
    indices.iter().filter_map(name).collect()
}

fn note(what: String, expected: &Option<String>, found: &Option<String>) -> Option<Difference> {
    let part = expected.as_ref()?;
    let found = match found {
        Some(note) if note.contains(part) => return None,
        Some(note) => format!("{note:?}"),
        None => "no note".to_owned(),
    };
    Some(difference(
        what,
        format!("a note that contains {part:?}"),
        found,
    ))
}

fn describe_state(state: &Option<String>) -> String {
    match state {
        Some(text) => format!("{text:?}"),
        None => "none".to_owned(),
    }
}

fn verdict(
    name: &str,
    expected: &ExpectedVerdict,
    found: &policy_host::Verdict,
    now: Instant,
) -> Vec<Difference> {
    let mut differences = Vec::new();
    if let Some(standing) = expected.standing
        && standing != found.standing
    {
        differences.push(difference(
            format!("verdicts.{name}"),
            standing.name(),
            found.standing.name(),
        ));
    }
    let describe = |until: Option<Instant>| match until {
        Some(until) => format_both(until, now),
        None => "none".to_owned(),
    };
    if let Some(until) = expected.until
        && until != found.until
    {
        let what = format!("verdicts.{name}.until");
        differences.push(difference(what, describe(until), describe(found.until)));
    }
    let what = format!("verdicts.{name}.note");
    differences.extend(note(what, &expected.note, &found.note));
    differences
}

/// Returns the difference if an item of `everyOneOf` was not chosen with any seed.
pub(crate) fn every_one_of(
    expect: &Expect,
    request: &Request,
    chosen: &HashSet<usize>,
    tried: usize,
) -> Option<Difference> {
    let wanted = &expect.every_one_of;
    let never = |index: &&usize| !chosen.contains(*index);
    let never: Vec<_> = wanted.iter().filter(never).copied().collect();
    if never.is_empty() {
        return None;
    }
    Some(difference(
        "everyOneOf",
        format!(
            "each of {} chosen at least once in {tried} seeds",
            names(request, wanted).join(", ")
        ),
        format!("never {}", names(request, &never).join(", ")),
    ))
}

/// Compares the result of `validate` with the expectation.
pub(crate) fn validation(
    expect: &ExpectedValidation,
    found: &Result<(), EvalError>,
) -> Option<Difference> {
    let expected = match (expect, found) {
        (ExpectedValidation::Accepted, Ok(())) => return None,
        (ExpectedValidation::Rejected(part), Err(EvalError::PolicyError(message)))
            if message.contains(part) =>
        {
            return None;
        }
        (ExpectedValidation::Accepted, _) => "accepted".to_owned(),
        (ExpectedValidation::Rejected(part), _) => {
            format!("rejected with a message that contains {part:?}")
        }
    };
    Some(difference("validate", expected, describe_validation(found)))
}
