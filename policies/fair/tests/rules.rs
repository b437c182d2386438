//! Tests each rule on the native function.

use policy_fair::{select, validate};
use policy_sdk::{Choice, Decision, Item, ItemSettings, Outcome, Request, Run, Standing};

const NOW: i64 = 1_800_000_000_000;
const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;

/// Returns an item that is always due.
fn item(name: &str) -> Item {
    Item::named(name).every(0)
}

fn weighted_item(name: &str, weight: &str) -> Item {
    Item {
        settings: Some(format!(r#"{{"weight": {weight}}}"#)),
        ..item(name)
    }
}

fn request(items: impl IntoIterator<Item = Item>) -> Request {
    items.into_iter().fold(Request::at(NOW), Request::with)
}

/// Returns a run that started and finished these numbers of seconds ago.
fn run(item: u32, started: i64, finished: i64) -> Run {
    Run {
        item,
        started: NOW - started * SECOND,
        finished: NOW - finished * SECOND,
        outcome: Outcome::Succeeded,
        exit_code: Some(0),
    }
}

fn decide(request: &Request) -> Decision {
    select(request).expect("valid settings")
}

/// Returns the state of the decision, with `NOW` instead of the time.
fn state(request: &Request) -> String {
    let state = decide(request).state.unwrap_or_default();
    state.replace(&NOW.to_string(), "NOW")
}

#[test]
fn frequency_and_cool_off_work_as_documented() {
    let minutes = |n: i64| (n * MINUTE) as u64;
    let fresh = item("fresh").every(minutes(9)).succeeded(NOW - MINUTE);
    let cooling = item("cooling")
        .with_cool_off(minutes(5))
        .failed(NOW - MINUTE);
    let decision = decide(&request([fresh, cooling, item("held").held()]));
    assert_eq!(decision.choice, Choice::Wait(Some(NOW + 4 * MINUTE)));
    let standings: Vec<_> = decision.verdicts.iter().map(|v| v.standing).collect();
    assert_eq!(
        standings,
        [Standing::Fresh, Standing::Cooling, Standing::Ready]
    );
}

#[test]
fn item_with_the_least_time_for_its_weight_goes_first() {
    // weights of a and b, seconds that each ran, who is next
    let cases = [
        ("1", "1", 30, 20, 1),
        ("1", "1", 20, 30, 0),
        ("2", "1", 30, 20, 0),
        ("3", "2", 30, 21, 0),
        ("3", "2", 33, 21, 1),
        ("0.5", "1", 15, 20, 1),
    ];
    for (a, b, ran_a, ran_b, next) in cases {
        let mut request = request([weighted_item("a", a), weighted_item("b", b)]);
        request.recent = vec![run(1, ran_b, 0), run(0, 100 + ran_a, 100)];
        assert_eq!(decide(&request).chosen(), Some(next), "{a} {b}");
    }
}

#[test]
fn run_is_charged_for_any_outcome_and_for_at_least_a_second() {
    for outcome in [Outcome::Succeeded, Outcome::Failed, Outcome::Stopped] {
        let mut request = request([item("a"), item("b")]);
        request.recent = vec![Run {
            outcome,
            ..run(0, 5, 5)
        }];
        let decision = decide(&request);
        assert_eq!(decision.chosen(), Some(1));
        let note = decision.verdicts[0].note.as_deref();
        assert_eq!(note, Some("1s ahead of its share"));
    }
}

#[test]
fn ties_are_broken_by_the_oldest_run() {
    let request = request([
        item("a").succeeded(NOW - 3 * MINUTE).failed(NOW - MINUTE),
        item("b").succeeded(NOW - 2 * MINUTE),
        item("c").failed(NOW - MINUTE),
    ]);
    assert_eq!(decide(&request).chosen(), Some(1));
    let with_new = request.with(item("d"));
    assert_eq!(decide(&with_new).chosen(), Some(3));
}

#[test]
fn state_has_only_differences_of_listed_items() {
    let mut request = request([item("a"), item("b"), item("c")]);
    request.state = "2 5\n9000 a\n4000 b\n6000 c\n1 gone\n".into();
    assert_eq!(state(&request), "2 5\n5000 a\n2000 c\n");
}

#[test]
fn level_is_the_lowest_candidate() {
    // b has had no time, but it is not a candidate, so it does not lower the level.
    let fresh = item("b").every(MINUTE as u64).succeeded(NOW);
    let mut request = request([item("a"), fresh, item("c")]);
    request.state = "2 5\n9000 a\n6000 c\n".into();
    assert_eq!(state(&request), "2 5\n3000 a\n");
}

#[test]
fn run_is_charged_once() {
    let mut request = request([item("a"), item("b")]);
    request.recent = vec![run(0, 0, 0), run(1, 60, 50), run(0, 90, 60)];
    assert_eq!(state(&request), "2 NOW\n21000 a\n");

    // The same runs after the decision that charged them, and then one more run.
    request.state = decide(&request).state.unwrap_or_default();
    assert_eq!(decide(&request).state, Some(request.state.clone()));
    request.recent.insert(0, run(1, -20, -50));
    assert_eq!(state(&request), "2 1800000020000\n9000 b\n");
}

#[test]
fn clock_set_back_skips_one_charge() {
    let mut request = request([item("a"), item("b")]);
    request.state = "2 9900000000000\n".into();
    request.recent = vec![run(0, 30, 20)];
    assert_eq!(state(&request), "2 1799999970000\n");
    request.state = decide(&request).state.unwrap_or_default();
    request.recent.insert(0, run(0, 10, 0));
    assert_eq!(state(&request), "2 1799999990000\n10000 a\n");
}

#[test]
fn unreadable_state_is_treated_as_empty() {
    for unreadable in [
        "nonsense",
        "\n",
        "2\n",
        "2 soon\n",
        "1 5\n1 a\n",
        "2 5\n-1 a\n",
        "2 5\na\n",
        r#"{"version":1,"seen":5,"ahead":{"a":1}}"#,
    ] {
        let mut request = request([item("a"), item("b")]);
        request.recent = vec![run(0, 30, 20)];
        let expected = decide(&request);
        request.state = unreadable.into();
        assert_eq!(decide(&request), expected, "{unreadable}");
    }
}

#[test]
fn gap_defers_ready_items() {
    let mut request = request([item("a"), item("b").held()]);
    request.settings = r#"{"gap": "30s"}"#.into();
    assert_eq!(decide(&request).chosen(), Some(0), "no run yet");

    request.recent = vec![run(0, 60, 10)];
    let decision = decide(&request);
    let end = NOW + 20 * SECOND;
    assert_eq!(decision.choice, Choice::Wait(Some(end)));
    assert_eq!(decision.state, None);
    for verdict in &decision.verdicts {
        assert_eq!(verdict.standing, Standing::Deferred);
        assert_eq!(verdict.until, Some(end));
        assert_eq!(
            verdict.note.as_deref(),
            Some("waiting for the gap of 30s between runs")
        );
    }

    request.now = end;
    assert_eq!(decide(&request).chosen(), Some(0));
}

#[test]
fn skewed_clock_without_a_gap_causes_no_wait() {
    let mut request = request([item("a")]);
    request.recent = vec![run(0, 10, -60)];
    assert_eq!(decide(&request).chosen(), Some(0));
}

#[test]
fn invalid_settings_are_rejected_with_the_fix() {
    // settings of the group, settings of item b, error
    let cases = [
        ("{}", r#"{"weight": 3}"#, None),
        (r#"{"gap": "30s"}"#, "{}", None),
        (
            r#"{"gap": 30}"#,
            "{}",
            Some(r#"gap is 30; it must be a duration of at most 24h in quotes, such as "30s""#),
        ),
        (
            r#"{"gap": "soon"}"#,
            "{}",
            Some(r#"gap is "soon"; it must be a duration of at most 24h in quotes, such as "30s""#),
        ),
        (
            r#"{"gap": "25h"}"#,
            "{}",
            Some(r#"gap is "25h"; it must be a duration of at most 24h in quotes, such as "30s""#),
        ),
        (
            r#"{"weight": 3}"#,
            "{}",
            Some(r#"unknown setting "weight"; use gap"#),
        ),
        (
            "{}",
            r#"{"gap": "1m"}"#,
            Some(r#"item "b": unknown setting "gap"; use weight"#),
        ),
        (
            "{}",
            r#"{"weight": 0}"#,
            Some(
                r#"item "b": weight is 0; it must be a number from 0.01 to 100 with at most three decimals"#,
            ),
        ),
        (
            "{}",
            r#"{"weight": "3"}"#,
            Some(
                r#"item "b": weight is "3"; it must be a number from 0.01 to 100 with at most three decimals"#,
            ),
        ),
        (
            "{}",
            "3",
            Some(
                r#"item "b": the settings are 3; they must be a JSON object of strings, numbers, and booleans, such as {}"#,
            ),
        ),
    ];
    for (group, own, expected) in cases {
        let items = [ItemSettings {
            name: "b".into(),
            settings: own.into(),
        }];
        let error = validate(group, &items).err();
        assert_eq!(error.as_deref(), expected, "{group} {own}");

        let mut request = request([item("a"), item("b")]);
        request.settings = group.into();
        request.items[1].settings = Some(own.into());
        assert_eq!(select(&request).err(), error, "{group} {own}");
    }
}
