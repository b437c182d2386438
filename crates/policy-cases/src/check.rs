//! How an answer differs from what is expected of it.

use crate::expect::{Answer, Expect, ExpectVerdict, Judgement};
use crate::explain::{choice_words, error_words, judgement_words, standing_word, wait_words};
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

/// All that differs in one answer.
pub(crate) fn answer(
    expect: &Expect,
    request: &Request,
    evaluation: &Evaluation<Decision>,
) -> Vec<Difference> {
    let decision = match &evaluation.answer {
        Ok(decision) => decision,
        Err(error) => return Vec::from_iter(refusal(expect, request, error)),
    };
    let mut differences = Vec::from_iter(choice(&expect.answer, request, &decision.choice));
    differences.extend(note("note".to_owned(), &expect.note, &decision.note));
    if let Some(state) = &expect.state
        && *state != decision.state
    {
        differences.push(difference(
            "state",
            state_words(state),
            state_words(&decision.state),
        ));
    }
    if decision.verdicts.is_empty() && !expect.verdicts.is_empty() {
        differences.push(difference(
            "verdicts",
            "a verdict for each item",
            "no verdicts at all",
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

/// What differs where there is no decision.
fn refusal(expect: &Expect, request: &Request, error: &EvalError) -> Option<Difference> {
    if let (Answer::Error(words), EvalError::PolicyError(said)) = (&expect.answer, error)
        && said.contains(words)
    {
        return None;
    }
    let (what, expected) = expected(&expect.answer, request);
    Some(difference(what, expected, error_words(error)))
}

fn choice(expect: &Answer, request: &Request, choice: &Choice) -> Option<Difference> {
    let as_expected = match (expect, choice) {
        (Answer::Run(any), Choice::Run(chosen)) => any.contains(&(*chosen as usize)),
        (Answer::Wait(None), Choice::Wait(_)) => true,
        (Answer::Wait(Some(until)), Choice::Wait(found)) => until == found,
        _ => false,
    };
    let (what, expected) = expected(expect, request);
    (!as_expected).then(|| difference(what, expected, choice_words(request, choice)))
}

/// The field of an expected answer, and the answer in words.
fn expected(answer: &Answer, request: &Request) -> (&'static str, String) {
    match answer {
        Answer::Run(any) => ("run", format!("run {}", names(request, any).join(" or "))),
        Answer::Wait(None) => ("wait", "wait".to_owned()),
        Answer::Wait(Some(until)) => ("wait", wait_words(*until, request.now)),
        Answer::Error(words) => ("error", format!("an error that contains {words:?}")),
    }
}

fn names<'a>(request: &'a Request, indices: &[usize]) -> Vec<&'a str> {
    let name = |index: &usize| Some(request.items.get(*index)?.name.as_str());
    indices.iter().filter_map(name).collect()
}

fn note(what: String, expected: &Option<String>, found: &Option<String>) -> Option<Difference> {
    let part = expected.as_ref()?;
    let words = match found {
        Some(note) if note.contains(part) => return None,
        Some(note) => format!("{note:?}"),
        None => "no note".to_owned(),
    };
    Some(difference(
        what,
        format!("a note that contains {part:?}"),
        words,
    ))
}

fn state_words(state: &Option<String>) -> String {
    match state {
        Some(text) => format!("{text:?}"),
        None => "none".to_owned(),
    }
}

fn verdict(
    name: &str,
    expected: &ExpectVerdict,
    found: &policy_host::Verdict,
    now: Instant,
) -> Vec<Difference> {
    let mut differences = Vec::new();
    if let Some(standing) = expected.standing
        && standing != found.standing
    {
        differences.push(difference(
            format!("verdicts.{name}"),
            standing_word(standing),
            standing_word(found.standing),
        ));
    }
    let words = |until: Option<Instant>| match until {
        Some(until) => format_both(until, now),
        None => "none".to_owned(),
    };
    if let Some(until) = expected.until
        && until != found.until
    {
        let what = format!("verdicts.{name}.until");
        differences.push(difference(what, words(until), words(found.until)));
    }
    let what = format!("verdicts.{name}.note");
    differences.extend(note(what, &expected.note, &found.note));
    differences
}

/// What differs over all seeds together.
pub(crate) fn together(
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

/// How a judgement of settings differs.
pub(crate) fn judgement(expect: &Judgement, found: &Result<(), EvalError>) -> Option<Difference> {
    let expected = match (expect, found) {
        (Judgement::Accepted, Ok(())) => return None,
        (Judgement::Refused(words), Err(EvalError::PolicyError(said))) if said.contains(words) => {
            return None;
        }
        (Judgement::Accepted, _) => "accepted".to_owned(),
        (Judgement::Refused(words), _) => format!("refused with words that contain {words:?}"),
    };
    Some(difference("validate", expected, judgement_words(found)))
}
