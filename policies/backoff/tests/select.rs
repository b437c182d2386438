//! Decisions: where back-off differs from the documented algorithm, and that nothing
//! else does.

use policy_backoff::select;
use policy_sdk::{Choice, Decision, Item, Request, Standing, Verdict};
use policy_testkit::strategy;
use proptest::prelude::*;

const NOW: i64 = 1_800_000_000_000;
const MINUTE: i64 = 60_000;

fn ago(minutes: i64) -> i64 {
    NOW - minutes * MINUTE
}

fn item(name: &str) -> Item {
    Item::named(name).every(60 * MINUTE as u64)
}

/// An item that failed so often, the last time so many minutes ago.
fn failed(name: &str, times: u32, minutes: i64) -> Item {
    Item {
        failures: times,
        ..item(name).failed(ago(minutes))
    }
}

fn request(items: impl IntoIterator<Item = Item>) -> Request {
    items.into_iter().fold(Request::at(NOW), Request::with)
}

fn decide(request: &Request) -> Decision {
    select(request).expect("the settings are good")
}

/// The verdict on the only item.
fn verdict(item: Item) -> Verdict {
    decide(&request([item])).verdicts.remove(0)
}

#[test]
fn an_item_rests_the_longer_the_more_often_it_failed() {
    // failures, minutes since the last, minutes from now until the end of the rest
    let cases = [
        (1, 0, Some(1)),
        (1, 1, None),
        (2, 1, Some(1)),
        (3, 1, Some(3)),
        (3, 4, None),
        (40, 1, Some(59)),
    ];
    for (failures, since, ends) in cases {
        let verdict = verdict(failed("a", failures, since));
        let until = ends.map(|minutes| NOW + minutes * MINUTE);
        assert_eq!(verdict.until, until, "{failures} {since}");
        let cooling = verdict.standing == Standing::Cooling;
        assert_eq!(cooling, ends.is_some(), "{failures} {since}");
    }
}

#[test]
fn the_verdict_says_which_failure_and_how_long() {
    assert_eq!(
        verdict(failed("a", 3, 1)).note.as_deref(),
        Some("failure 3: rests 4m")
    );
    assert_eq!(verdict(failed("a", 3, 9)).note, None);
}

#[test]
fn the_operators_cool_off_is_a_lower_bound_also_above_max() {
    let resting = |minutes: i64| failed("a", 2, 1).resting((minutes * MINUTE) as u64);
    assert_eq!(verdict(resting(1)).until, Some(NOW + MINUTE));
    assert_eq!(verdict(resting(10)).until, Some(NOW + 9 * MINUTE));
    assert_eq!(verdict(resting(90)).until, Some(NOW + 89 * MINUTE));
}

#[test]
fn a_success_ends_the_rest_although_the_failure_stays() {
    let mut item = item("a").resting(5 * MINUTE as u64).every(MINUTE as u64);
    item.last_failure = Some(ago(2));
    item.last_success = Some(ago(1));
    assert_eq!(verdict(item).standing, Standing::Ready);
}

#[test]
fn a_count_without_a_time_is_no_rest() {
    let mut item = item("a");
    item.failures = 5;
    assert_eq!(verdict(item).standing, Standing::Ready);
}

#[test]
fn of_success_and_failure_the_one_that_keeps_longer_is_shown() {
    let both = |failures| {
        let mut item = failed("a", failures, 1);
        item.last_success = Some(ago(2));
        verdict(item)
    };
    assert_eq!(both(1).standing, Standing::Fresh);
    assert_eq!(both(1).note, None);
    assert_eq!(both(9).standing, Standing::Cooling);
}

#[test]
fn an_item_that_goes_on_failing_lets_the_others_pass() {
    let due = item("due").succeeded(ago(90));
    let decision = decide(&request([failed("broken", 5, 10), due]));
    assert_eq!(decision.chosen(), Some(1));
}

#[test]
fn an_items_own_settings_count_for_it_alone() {
    let mut request = request([failed("a", 1, 1), failed("b", 1, 1)]);
    request.settings = r#"{"base": "5m"}"#.into();
    request.items[1].settings = Some(r#"{"base": "10m"}"#.into());
    let untils: Vec<_> = decide(&request).verdicts.iter().map(|v| v.until).collect();
    assert_eq!(untils, [Some(NOW + 4 * MINUTE), Some(NOW + 9 * MINUTE)]);
}

#[test]
fn with_jitter_every_decision_of_a_rest_names_the_same_end() {
    let mut request = request([failed("a", 4, 1)]);
    request.settings = r#"{"jitter": 0.5}"#.into();
    let until = decide(&request).verdicts[0].until;
    request.now += MINUTE;
    request.seed = 7;
    assert_eq!(decide(&request).verdicts[0].until, until);
    assert_ne!(until, Some(ago(1) + 8 * MINUTE));
}

proptest! {
    /// Rests apart, the documented order.
    #[test]
    fn the_choice_is_the_first_of_the_ready_items(request in strategy::request()) {
        let decision = decide(&request);
        prop_assert_eq!(decision.verdicts.len(), request.items.len());
        let candidate = |i: usize| {
            request.items[i].startable && decision.verdicts[i].standing == Standing::Ready
        };
        let rank = |i: usize| (request.items[i].last_success, request.items[i].last_failure);
        match decision.choice {
            Choice::Run(index) => {
                let index = index as usize;
                prop_assert!(candidate(index));
                for other in (0..request.items.len()).filter(|i| candidate(*i)) {
                    prop_assert!(rank(index) <= rank(other));
                }
            }
            Choice::Wait(until) => {
                prop_assert!(!(0..request.items.len()).any(candidate));
                prop_assert_eq!(until, decision.verdicts.iter().filter_map(|v| v.until).min());
            }
        }
    }

    /// The operator's cool-off is what an item rests at least, whatever the settings.
    #[test]
    fn an_item_that_failed_since_its_success_rests_for_its_cool_off(
        mut request in strategy::request(),
        settings in prop_oneof![Just("{}"), Just(r#"{"base":"0s"}"#), Just(r#"{"jitter":1}"#)],
    ) {
        request.settings = settings.into();
        let decision = decide(&request);
        for (item, verdict) in request.items.iter().zip(&decision.verdicts) {
            let rests = item.failures > 0 && item.last_failure.is_some_and(
                |at| request.now < at.saturating_add_unsigned(item.cool_off));
            prop_assert!(!rests || verdict.standing != Standing::Ready);
        }
    }
}
