use super::*;
use policy_host::{Choice, Level, LogLine, Standing, Verdict};
use std::cell::Cell;

type Answer = Result<Decision, EvalError>;

/// A policy that is a function of the request and the number of the call.
struct FakePolicy<F> {
    /// Returns the answer and the fuel.
    answer: F,
    calls: Cell<u64>,
    validation: Result<(), EvalError>,
}

impl<F: Fn(&Request, u64) -> (Answer, u64)> Evaluator for FakePolicy<F> {
    fn select(&self, request: &Request) -> Evaluation<Decision> {
        self.calls.set(self.calls.get() + 1);
        let (answer, fuel) = (self.answer)(request, self.calls.get());
        Evaluation {
            answer,
            fuel,
            log: vec![LogLine {
                level: Level::Info,
                text: "hm".into(),
            }],
            log_dropped: 0,
        }
    }

    fn validate(&self, _: &str, _: &[ItemSettings]) -> Evaluation<()> {
        Evaluation {
            answer: self.validation.clone(),
            fuel: 1,
            log: vec![],
            log_dropped: 0,
        }
    }
}

fn fake<F: Fn(&Request, u64) -> (Answer, u64)>(answer: F) -> FakePolicy<F> {
    FakePolicy {
        answer,
        calls: Cell::new(0),
        validation: Ok(()),
    }
}

fn case(expect: &str) -> Case {
    let yaml =
        format!("cases: [{{name: n, seeds: 4, given: {{items: [a, b]}}, expect: {{{expect}}}}}]");
    crate::parse(&yaml).unwrap().remove(0)
}

fn decision(choice: Choice) -> Decision {
    let verdict = |standing, until| Verdict {
        standing,
        until,
        note: Some("resting".into()),
    };
    Decision {
        choice,
        note: Some("by lot".into()),
        verdicts: vec![
            verdict(Standing::Ready, None),
            verdict(Standing::Cooling, Some(1_767_269_400_000)),
        ],
        state: Some("s".into()),
    }
}

/// Returns the differences for a policy that always gives this answer.
fn differences(expect: &str, answer: &Answer) -> Vec<String> {
    let report = case(expect).run(&fake(|_, _| (answer.clone(), 1)), 0);
    let differences = report.failure.map(|failure| failure.differences);
    let lines = differences.iter().flatten().map(Difference::to_string);
    lines.collect()
}

#[test]
fn expectations_hold_or_report_the_difference() {
    let run = Ok(decision(Choice::Run(0)));
    let wait = Ok(decision(Choice::Wait(Some(1_767_270_600_000))));
    let wait_on = Ok(decision(Choice::Wait(None)));
    let policy_error = Err(EvalError::PolicyError("no base".into()));
    let trap = Err(EvalError::Trapped("unreachable".into()));
    for (expect, answer, expected) in [
        ("run: a", &run, ""),
        ("run: [b, a]", &run, ""),
        ("run: b", &run, "run: expected run b, found run a"),
        (
            "run: [a, b]",
            &wait_on,
            "run: expected run a or b, found wait (no time given)",
        ),
        (
            "run: a",
            &trap,
            "run: expected run a, found Trapped: the policy crashed: unreachable",
        ),
        ("wait: true", &wait, ""),
        ("wait: true", &run, "wait: expected wait, found run a"),
        ("wait: in 30m", &wait, ""),
        (
            "wait: in 31m",
            &wait,
            "wait: expected wait until 2026-01-01T12:31:00Z (in 31m), found wait until 2026-01-01T12:30:00Z (in 30m)",
        ),
        ("wait: none", &wait_on, ""),
        (
            "wait: none",
            &wait,
            "wait: expected wait (no time given), found wait until 2026-01-01T12:30:00Z (in 30m)",
        ),
        ("error: base", &policy_error, ""),
        (
            "error: factor",
            &policy_error,
            "error: expected an error that contains \"factor\", found PolicyError: the policy cannot decide: no base",
        ),
        (
            "error: base",
            &run,
            "error: expected an error that contains \"base\", found run a",
        ),
        (
            "error: unreachable",
            &trap,
            "error: expected an error that contains \"unreachable\", found Trapped: the policy crashed: unreachable",
        ),
        ("run: a, note: lot", &run, ""),
        (
            "run: a, note: age",
            &run,
            "note: expected a note that contains \"age\", found \"by lot\"",
        ),
        ("run: a, state: s", &run, ""),
        (
            "run: a, state: null",
            &run,
            "state: expected none, found \"s\"",
        ),
        (
            "run: a, verdicts: {a: ready, b: {standing: cooling, until: in 10m, note: rest}}",
            &run,
            "",
        ),
        (
            "run: a, verdicts: {a: fresh}",
            &run,
            "verdicts.a: expected fresh, found ready",
        ),
        ("run: a, verdicts: {a: {until: none}}", &run, ""),
        (
            "run: a, verdicts: {a: {until: in 1m}}",
            &run,
            "verdicts.a.until: expected 2026-01-01T12:01:00Z (in 1m), found none",
        ),
        (
            "run: a, verdicts: {b: {note: tired}}",
            &run,
            "verdicts.b.note: expected a note that contains \"tired\", found \"resting\"",
        ),
        ("run: a, everyOneOf: [a]", &run, ""),
        (
            "run: a, everyOneOf: [a, b]",
            &run,
            "everyOneOf: expected each of a, b chosen at least once in 4 seeds, found never b",
        ),
    ] {
        assert_eq!(differences(expect, answer).join("; "), expected, "{expect}");
    }
}

#[test]
fn fuel_above_the_maximum_is_reported_for_decisions_and_errors() {
    let run = Ok(decision(Choice::Run(0)));
    let error = Err(EvalError::PolicyError("no base".into()));
    for (expect, answer) in [("run: a", &run), ("error: base", &error)] {
        let found = |max: u64| {
            let case = case(&format!("{expect}, fuel: {{max: {max}}}"));
            let report = case.run(&fake(|_, _| (answer.clone(), 1_000)), 0);
            report.failure.map(|failure| failure.summary())
        };
        assert_eq!(found(1_000), None);
        let words = "fuel: expected at most 999, found 1000, which is 1 more";
        assert_eq!(found(999).as_deref(), Some(words));
    }
}

#[test]
fn all_differences_are_reported() {
    let run = Ok(decision(Choice::Run(0)));
    let differences = differences(
        "run: b, note: age, everyOneOf: [b], verdicts: {a: fresh, b: ready}",
        &run,
    );
    let fields: Vec<_> = differences
        .iter()
        .filter_map(|line| line.split(':').next())
        .collect();
    assert_eq!(
        fields,
        ["run", "note", "verdicts.a", "verdicts.b", "everyOneOf"]
    );
}

#[test]
fn missing_verdicts_are_reported() {
    let mut bare = decision(Choice::Run(0));
    bare.verdicts.clear();
    let differences = differences("run: a, verdicts: {a: ready}", &Ok(bare));
    assert_eq!(
        differences,
        ["verdicts: expected one verdict per item, found no verdicts"]
    );
}

#[test]
fn report_shows_seeds_differences_and_answer() {
    let policy = fake(|request, _| (Ok(decision(Choice::Run((request.seed % 2) as u32))), 1));
    let report = case("run: a").run(&policy, 6);
    let expected = "\
Unexpected at seed 1, also at 3, 5 (6 seeds tried)
  run: expected run a, found run b
  the policy answered:
    run b
    note: by lot
      ITEM  STANDING  UNTIL                          NOTE
      a     ready                                    resting
    > b     cooling   2026-01-01T12:10:00Z (in 10m)  resting
    state: \"s\"
    log:
      info: hm
";
    assert_eq!(report.to_string(), expected);
    assert!(
        case("run: [a, b], everyOneOf: [a, b]")
            .run(&policy, 0)
            .passed()
    );
}

#[test]
fn nondeterministic_policy_fails() {
    let by_call = fake(|_, call| (Ok(decision(Choice::Run((call % 2) as u32))), 1));
    let failure = case("run: [a, b]").run(&by_call, 0).failure.unwrap();
    assert_eq!(failure.reason, "NotDeterministic");
    assert!(
        failure.differences[0]
            .found
            .contains("two different answers")
    );

    let by_fuel = fake(|_, call| (Ok(decision(Choice::Run(0))), 100 + call));
    let report = case("run: a").run(&by_fuel, 0);
    assert!(
        report.to_string().contains("with 101 and 102 fuel"),
        "{report}"
    );
}

#[test]
fn deadline_stops_further_seeds() {
    let late = EvalError::Deadline(std::time::Duration::from_secs(1));
    let policy = fake(|_, call| (Err(late.clone()), call));
    let report = case("run: a").run(&policy, 0);
    assert_eq!((report.tried, policy.calls.get()), (1, 2));
    assert_eq!(report.failure.unwrap().reason, "Deadline");
}

#[test]
fn rejected_settings_fail_without_a_decision() {
    let mut policy = fake(|_, _| (Ok(decision(Choice::Run(0))), 1));
    policy.validation = Err(EvalError::PolicyError("no base".into()));
    let report = case("run: a").run(&policy, 0);
    assert_eq!((report.tried, policy.calls.get()), (0, 0));
    assert!(
        report
            .to_string()
            .contains("SettingsRejected\n  settings: expected"),
        "{report}"
    );
    assert!(report.to_string().contains("rejected: no base"), "{report}");
}

#[test]
fn validations_are_compared() {
    let refused = Err(EvalError::PolicyError("factor 0.5".into()));
    let trapped = Err(EvalError::Trapped("x".into()));
    for (expect, found, reason) in [
        ("accepted", &Ok(()), None),
        ("accepted", &refused, Some("Unexpected")),
        ("accepted", &trapped, Some("Trapped")),
        ("{rejected: factor}", &refused, None),
        ("{rejected: weight}", &refused, Some("Unexpected")),
        ("{rejected: factor}", &Ok(()), Some("Unexpected")),
        ("{rejected: x}", &trapped, Some("Trapped")),
    ] {
        let mut policy = fake(|_, _| (Ok(decision(Choice::Run(0))), 1));
        policy.validation = found.clone();
        let case = crate::parse(&format!("validate: [{{name: n, expect: {expect}}}]"));
        let report = case.unwrap()[0].run(&policy, 0);
        assert_eq!(
            report.failure.map(|failure| failure.reason),
            reason,
            "{expect}"
        );
    }
}
