//! Tests decisions: how they differ from the documented algorithm, and how they do not.

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

/// Returns an item with a number of failures, the last of them this many minutes ago.
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
    select(request).expect("valid settings")
}

/// Returns the verdict on an item.
fn verdict(item: Item) -> Verdict {
    decide(&request([item])).verdicts.remove(0)
}

#[test]
fn backoff_grows_with_each_failure() {
    // failures, minutes since the last, minutes until the end of the backoff
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
fn verdict_notes_the_failure_and_the_backoff() {
    assert_eq!(
        verdict(failed("a", 3, 1)).note.as_deref(),
        Some("failure 3: backoff 4m")
    );
    assert_eq!(verdict(failed("a", 3, 9)).note, None);
}

#[test]
fn cool_off_is_a_lower_bound_even_above_max() {
    let resting = |minutes: i64| failed("a", 2, 1).with_cool_off((minutes * MINUTE) as u64);
    assert_eq!(verdict(resting(1)).until, Some(NOW + MINUTE));
    assert_eq!(verdict(resting(10)).until, Some(NOW + 9 * MINUTE));
    assert_eq!(verdict(resting(90)).until, Some(NOW + 89 * MINUTE));
}

#[test]
fn success_resets_the_backoff() {
    let mut item = item("a")
        .with_cool_off(5 * MINUTE as u64)
        .every(MINUTE as u64);
    item.last_failure = Some(ago(2));
    item.last_success = Some(ago(1));
    assert_eq!(verdict(item).standing, Standing::Ready);
}

#[test]
fn failures_without_a_time_cause_no_backoff() {
    let mut item = item("a");
    item.failures = 5;
    assert_eq!(verdict(item).standing, Standing::Ready);
}

#[test]
fn verdict_is_the_standing_that_lasts_longer() {
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
fn item_in_backoff_does_not_block_others() {
    let due = item("due").succeeded(ago(90));
    let decision = decide(&request([failed("broken", 5, 10), due]));
    assert_eq!(decision.chosen(), Some(1));
}

#[test]
fn item_settings_apply_only_to_the_item() {
    let mut request = request([failed("a", 1, 1), failed("b", 1, 1)]);
    request.settings = r#"{"base": "5m"}"#.into();
    request.items[1].settings = Some(r#"{"base": "10m"}"#.into());
    let untils: Vec<_> = decide(&request).verdicts.iter().map(|v| v.until).collect();
    assert_eq!(untils, [Some(NOW + 4 * MINUTE), Some(NOW + 9 * MINUTE)]);
}

#[test]
fn jittered_end_is_the_same_in_every_decision() {
    let mut request = request([failed("a", 4, 1)]);
    request.settings = r#"{"jitter": 0.5}"#.into();
    let until = decide(&request).verdicts[0].until;
    request.now += MINUTE;
    request.seed = 7;
    assert_eq!(decide(&request).verdicts[0].until, until);
    assert_ne!(until, Some(ago(1) + 8 * MINUTE));
}

proptest! {
    #[test]
    fn choice_is_the_first_of_the_ready_items(request in strategy::request()) {
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

    #[test]
    fn failed_item_is_not_ready_within_its_cool_off(
        mut request in strategy::request(),
        settings in prop_oneof![Just("{}"), Just(r#"{"base":"0s"}"#), Just(r#"{"jitter":1}"#)],
    ) {
        request.settings = settings.into();
        let decision = decide(&request);
        for (item, verdict) in request.items.iter().zip(&decision.verdicts) {
            let cooling = item.failures > 0 && item.last_failure.is_some_and(
                |at| request.now < at.saturating_add_unsigned(item.cool_off));
            prop_assert!(!cooling || verdict.standing != Standing::Ready);
        }
    }
}
