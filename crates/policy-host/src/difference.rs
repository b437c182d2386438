//! Compares two answers to the same request, and describes how they differ.

use crate::contract::{Choice, Decision, Instant, Request, Standing};
use crate::eval_error::EvalError;
use crate::record::RecordedAnswer;
use chrono::{DateTime, SecondsFormat};
use plain_text as text;
use std::fmt;

/// The maximum length of an item's name in a description, in bytes.
const MAX_NAME: usize = 128;
/// The maximum number of standings in a description.
const MAX_LISTED: usize = 3;

/// An answer to compare: a decision, or the reason why there is none.
#[derive(Clone, Copy, Debug)]
pub enum AnswerRef<'a> {
    /// A decision about the request.
    Decision(&'a Decision),
    /// The policy made no decision, for this reason, such as `OutOfFuel`.
    Error(&'a str),
}

impl<'a> From<&'a RecordedAnswer> for AnswerRef<'a> {
    fn from(answer: &'a RecordedAnswer) -> Self {
        match answer {
            RecordedAnswer::Decision(decision) => Self::Decision(decision),
            RecordedAnswer::Error { reason, .. } => Self::Error(reason),
        }
    }
}

impl<'a> From<&'a Result<Decision, EvalError>> for AnswerRef<'a> {
    fn from(answer: &'a Result<Decision, EvalError>) -> Self {
        match answer {
            Ok(decision) => Self::Decision(decision),
            Err(error) => Self::Error(error.reason()),
        }
    }
}

/// What an answer makes the operator do. Its `Display` fits after "would".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Start the item with this name.
    Start(&'a str),
    /// Start nothing until this time, if there is one.
    Wait(Option<Instant>),
    /// Make no decision, for this reason, such as `OutOfFuel`.
    Fail(&'a str),
}

impl<'a> Action<'a> {
    /// Returns what an answer makes the operator do.
    pub fn new(request: &'a Request, answer: AnswerRef<'a>) -> Self {
        match answer {
            AnswerRef::Error(reason) => Self::Fail(reason),
            AnswerRef::Decision(decision) => match decision.choice {
                Choice::Wait(until) => Self::Wait(until),
                Choice::Run(index) => match request.items.get(index as usize) {
                    Some(item) => Self::Start(&item.name),
                    // Only an edited record contains such an answer.
                    None => Self::Fail("BadAnswer"),
                },
            },
        }
    }

    /// Returns whether both start the same item, both wait, or both fail for the same reason.
    fn agrees(&self, other: &Self, wait_times: WaitTimes) -> bool {
        match (self, other) {
            (Self::Wait(_), Self::Wait(_)) if wait_times == WaitTimes::Ignore => true,
            _ => self == other,
        }
    }

    /// Describes this action as the one that `other` replaces: the part after "instead of".
    fn replaced_by(&self, other: &Self) -> String {
        let gerund = match (self, other) {
            (Self::Start(_), Self::Start(_))
            | (Self::Wait(Some(_)), Self::Wait(Some(_)))
            | (Self::Fail(_), Self::Fail(_)) => "",
            (Self::Start(_), _) => "starting ",
            (Self::Wait(_), _) => "waiting ",
            (Self::Fail(_), _) => "failing with ",
        };
        format!("{gerund}{}", self.object()).trim_end().to_owned()
    }

    /// Returns the object of the verb, such as the quoted name of the item.
    fn object(&self) -> String {
        match self {
            Self::Start(item) => quoted(item),
            Self::Wait(Some(until)) => format!("until {}", format_instant(*until)),
            Self::Wait(None) => String::new(),
            Self::Fail(reason) => text::clean(reason, MAX_NAME),
        }
    }
}

impl fmt::Display for Action<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(_) => write!(f, "start {}", self.object()),
            Self::Wait(Some(_)) => write!(f, "wait {}", self.object()),
            Self::Wait(None) => f.write_str("wait"),
            Self::Fail(_) => write!(f, "fail with {}", self.object()),
        }
    }
}

/// Whether two waits until different times differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitTimes {
    /// They differ.
    Compare,
    /// They agree.
    Ignore,
}

/// Two different actions for the same request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActionDifference<'a> {
    /// The action of the first answer.
    pub first: Action<'a>,
    /// The action of the second answer.
    pub second: Action<'a>,
}

impl fmt::Display for ActionDifference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, second } = self;
        write!(f, "would {second} instead of {}", first.replaced_by(second))
    }
}

/// An item on which two answers return verdicts with different standings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StandingDifference<'a> {
    /// The name of the item.
    pub item: &'a str,
    /// The standing in the first answer.
    pub first: Standing,
    /// The standing in the second answer.
    pub second: Standing,
}

impl fmt::Display for StandingDifference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} as {} instead of {}",
            quoted(self.item),
            self.second.name(),
            self.first.name()
        )
    }
}

/// How the second of two answers differs from the first. At least one field is set. Its `Display`
/// is one line of bounded length that describes the second answer: "would …".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerDifference<'a> {
    /// They start different items, only one of them starts an item, or only one of them fails.
    pub action: Option<ActionDifference<'a>>,
    /// The items with different standings, in the order of the request. Empty unless both answers
    /// contain verdicts.
    pub standings: Vec<StandingDifference<'a>>,
    /// Both start an item, and the operator would store different states.
    pub state: bool,
}

impl fmt::Display for AnswerDifference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::from_iter(self.action.map(|action| action.to_string()));
        if !self.standings.is_empty() {
            let listed = self.standings.iter().take(MAX_LISTED);
            let mut standings: Vec<String> = listed.map(ToString::to_string).collect();
            match self.standings.len().saturating_sub(MAX_LISTED) {
                0 => {}
                more => standings.push(format!("and {more} more")),
            }
            parts.push(format!("would show {}", standings.join(", ")));
        }
        if self.state {
            parts.push("would store a different state".to_owned());
        }
        f.write_str(&parts.join("; "))
    }
}

/// Compares two answers to a request. Returns `None` if they agree. Notes, fuel, and the messages
/// of errors are not compared.
pub fn compare_answers<'a>(
    request: &'a Request,
    first: impl Into<AnswerRef<'a>>,
    second: impl Into<AnswerRef<'a>>,
    wait_times: WaitTimes,
) -> Option<AnswerDifference<'a>> {
    let (first, second) = (first.into(), second.into());
    let action = ActionDifference {
        first: Action::new(request, first),
        second: Action::new(request, second),
    };
    let agrees = action.first.agrees(&action.second, wait_times);
    let mut difference = AnswerDifference {
        action: (!agrees).then_some(action),
        standings: Vec::new(),
        state: false,
    };
    if let (AnswerRef::Decision(first), AnswerRef::Decision(second)) = (first, second) {
        difference.standings = different_standings(request, first, second);
        difference.state = first.chosen().is_some()
            && second.chosen().is_some()
            && stored_state(request, first) != stored_state(request, second);
    }
    let AnswerDifference {
        action,
        standings,
        state,
    } = &difference;
    (action.is_some() || !standings.is_empty() || *state).then_some(difference)
}

fn different_standings<'a>(
    request: &'a Request,
    first: &Decision,
    second: &Decision,
) -> Vec<StandingDifference<'a>> {
    let verdicts = first.verdicts.iter().zip(&second.verdicts);
    let items = request.items.iter().zip(verdicts);
    let different = items.filter(|(_, (first, second))| first.standing != second.standing);
    different
        .map(|(item, (first, second))| StandingDifference {
            item: &item.name,
            first: first.standing,
            second: second.standing,
        })
        .collect()
}

/// Returns the state that the operator stores if a decision starts an item.
fn stored_state<'a>(request: &'a Request, decision: &'a Decision) -> &'a str {
    decision.state.as_deref().unwrap_or(&request.state)
}

fn quoted(item: &str) -> String {
    format!("\"{}\"", text::clean(item, MAX_NAME))
}

/// Formats a time as RFC 3339, with milliseconds if there are any.
pub fn format_instant(instant: Instant) -> String {
    match DateTime::from_timestamp_millis(instant) {
        Some(time) => time.to_rfc3339_opts(SecondsFormat::AutoSi, true),
        None => format!("{instant} ms since 1970"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{Item, Verdict};
    use crate::policy::trial_request;
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    const NOON: Instant = 1_767_268_800_000;

    fn request(names: &[String]) -> Request {
        let trial = trial_request();
        let item = |name: &String| Item {
            name: name.clone(),
            ..trial.items[0].clone()
        };
        Request {
            items: names.iter().map(item).collect(),
            state: "stored".into(),
            ..trial
        }
    }

    fn decision(choice: Choice, standings: &[Standing], state: Option<&str>) -> RecordedAnswer {
        let verdict = |&standing: &Standing| Verdict {
            standing,
            until: None,
            note: None,
        };
        RecordedAnswer::Decision(Decision {
            choice,
            note: None,
            verdicts: standings.iter().map(verdict).collect(),
            state: state.map(ToOwned::to_owned),
        })
    }

    fn error(reason: &str) -> RecordedAnswer {
        RecordedAnswer::Error {
            reason: reason.into(),
            message: String::new(),
        }
    }

    fn describe(
        first: &RecordedAnswer,
        second: &RecordedAnswer,
        wait_times: WaitTimes,
    ) -> Option<String> {
        let request = request(&["a", "b", "c", "d", "e"].map(String::from));
        compare_answers(&request, first, second, wait_times).map(|d| d.to_string())
    }

    #[test]
    fn different_actions_are_described_in_words() {
        use Choice::{Run, Wait};
        let action = |choice| decision(choice, &[], None);
        let (a, b) = (action(Run(0)), action(Run(1)));
        let (noon, wait) = (action(Wait(Some(NOON))), action(Wait(None)));
        let (fuel, trap) = (error("OutOfFuel"), error("Trapped"));
        for (first, second, expected) in [
            (&a, &b, "start \"b\" instead of \"a\""),
            (
                &a,
                &noon,
                "wait until 2026-01-01T12:00:00Z instead of starting \"a\"",
            ),
            (&a, &wait, "wait instead of starting \"a\""),
            (&a, &fuel, "fail with OutOfFuel instead of starting \"a\""),
            (&wait, &b, "start \"b\" instead of waiting"),
            (
                &noon,
                &b,
                "start \"b\" instead of waiting until 2026-01-01T12:00:00Z",
            ),
            (
                &wait,
                &noon,
                "wait until 2026-01-01T12:00:00Z instead of waiting",
            ),
            (
                &noon,
                &action(Wait(Some(NOON + 1500))),
                "wait until 2026-01-01T12:00:01.500Z instead of until 2026-01-01T12:00:00Z",
            ),
            (&wait, &trap, "fail with Trapped instead of waiting"),
            (&fuel, &trap, "fail with Trapped instead of OutOfFuel"),
            (&fuel, &a, "start \"a\" instead of failing with OutOfFuel"),
        ] {
            let described = describe(first, second, WaitTimes::Compare);
            assert_eq!(described, Some(format!("would {expected}")));
        }
        assert_eq!(describe(&wait, &noon, WaitTimes::Ignore), None);
        assert_eq!(
            describe(&fuel, &error("OutOfFuel"), WaitTimes::Compare),
            None
        );
    }

    #[test]
    fn different_standings_are_listed_up_to_a_limit() {
        use Standing::{Cooling, Deferred, Fresh, Ready};
        let wait = |standings: &[Standing]| decision(Choice::Wait(None), standings, None);
        let first = wait(&[Ready, Ready, Fresh, Cooling, Deferred]);
        let described = |second: &[Standing]| describe(&first, &wait(second), WaitTimes::Compare);
        assert_eq!(
            described(&[Fresh, Ready, Fresh, Cooling, Ready]).as_deref(),
            Some("would show \"a\" as fresh instead of ready, \"e\" as ready instead of deferred")
        );
        let all = described(&[Fresh, Fresh, Ready, Ready, Ready]).unwrap_or_default();
        assert!(
            all.ends_with("\"c\" as ready instead of fresh, and 2 more"),
            "{all}"
        );
        // Without verdicts, nothing is known about the items.
        assert_eq!(described(&[]), None);
    }

    #[test]
    fn states_differ_only_if_both_are_stored() {
        let run = |state| decision(Choice::Run(0), &[], state);
        let different = Some("would store a different state".to_owned());
        assert_eq!(
            describe(&run(Some("x")), &run(Some("y")), WaitTimes::Compare),
            different
        );
        assert_eq!(
            describe(&run(None), &run(Some("y")), WaitTimes::Compare),
            different
        );
        assert_eq!(
            describe(&run(None), &run(Some("stored")), WaitTimes::Compare),
            None
        );
        let wait = decision(Choice::Wait(None), &[], Some("x"));
        let described = describe(&wait, &run(Some("y")), WaitTimes::Compare);
        assert_eq!(
            described.as_deref(),
            Some("would start \"a\" instead of waiting")
        );
    }

    fn any_answer() -> impl Strategy<Value = RecordedAnswer> {
        let standing = prop_oneof![
            Just(Standing::Ready),
            Just(Standing::Fresh),
            Just(Standing::Cooling),
            Just(Standing::Deferred),
        ];
        let choice = prop_oneof![
            (0_u32..6).prop_map(Choice::Run),
            any::<Option<i64>>().prop_map(Choice::Wait),
        ];
        let state = option::of(prop_oneof![Just("stored"), Just("other")]);
        prop_oneof![
            4 => (choice, vec(standing, 0..6), state)
                .prop_map(|(choice, standings, state)| decision(choice, &standings, state)),
            1 => prop_oneof![Just("OutOfFuel"), Just("Trapped")].prop_map(error),
        ]
    }

    fn names() -> impl Strategy<Value = Vec<String>> {
        let long = (any::<char>(), 0_usize..400).prop_map(|(c, n)| c.to_string().repeat(n));
        vec(prop_oneof![any::<String>(), long], 5)
    }

    proptest! {
        #[test]
        fn comparison_is_reflexive_symmetric_and_bounded(
            names in names(), one in any_answer(), other in any_answer(), compare_times: bool,
        ) {
            let request = request(&names);
            let times = if compare_times { WaitTimes::Compare } else { WaitTimes::Ignore };
            prop_assert_eq!(compare_answers(&request, &one, &one, times), None);
            let there = compare_answers(&request, &one, &other, times);
            let back = compare_answers(&request, &other, &one, times);
            prop_assert_eq!(there.is_some(), back.is_some());
            if let (Some(there), Some(back)) = (there, back) {
                let line = there.to_string();
                prop_assert!(line.starts_with("would ") && line.len() < 1024, "{line}");
                prop_assert!(!line.contains(text::is_unprintable), "{line}");
                let swapped = back.action.map(|ActionDifference { first, second }| {
                    ActionDifference { first: second, second: first }
                });
                prop_assert_eq!(there.action, swapped);
                prop_assert_eq!(there.standings.len(), back.standings.len());
                prop_assert_eq!(there.state, back.state);
            }
        }

        #[test]
        fn equal_actions_agree_and_others_differ(one in any_answer(), other in any_answer()) {
            let request = request(&["a", "b", "c", "d", "e", "f"].map(String::from));
            let difference = compare_answers(&request, &one, &other, WaitTimes::Compare);
            let action = |answer: &RecordedAnswer| match answer {
                RecordedAnswer::Decision(decision) => Ok(decision.choice),
                RecordedAnswer::Error { reason, .. } => Err(reason.clone()),
            };
            let differs = difference.is_some_and(|difference| difference.action.is_some());
            prop_assert_eq!(differs, action(&one) != action(&other));
        }
    }
}
