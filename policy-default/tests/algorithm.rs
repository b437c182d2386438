//! Tests the native function with examples and properties.

use policy_default::select;
use policy_sdk::{Choice, Item, ItemSettings, Request, Standing};
use policy_testkit::strategy;
use proptest::prelude::*;

const NOW: i64 = 1_800_000_000_000;
const MINUTE: i64 = 60_000;

fn item(name: &str) -> Item {
    Item::named(name).every(10 * MINUTE as u64)
}

fn ago(minutes: i64) -> i64 {
    NOW - minutes * MINUTE
}

fn request(items: impl IntoIterator<Item = Item>) -> Request {
    items.into_iter().fold(Request::at(NOW), Request::with)
}

/// Returns the name of the chosen item.
fn choice(request: &Request) -> Option<&str> {
    select(request)
        .chosen()
        .map(|index| request.items[index].name.as_str())
}

#[test]
fn new_item_is_chosen() {
    assert_eq!(choice(&request([item("a")])), Some("a"));
}

#[test]
fn item_is_fresh_for_exactly_its_frequency() {
    let at = |success| request([item("a").succeeded(success)]);
    assert_eq!(choice(&at(ago(9))), None);
    assert_eq!(choice(&at(ago(10) + 1)), None);
    assert_eq!(choice(&at(ago(10))), Some("a"));
}

#[test]
fn item_without_frequency_stays_fresh() {
    let request = request([Item::named("a").succeeded(0)]);
    let decision = select(&request);
    assert_eq!(decision.choice, Choice::Wait(None));
    assert_eq!(decision.verdicts[0].standing, Standing::Fresh);
}

#[test]
fn item_without_cool_off_is_ready_after_a_failure() {
    assert_eq!(choice(&request([item("a").failed(NOW)])), Some("a"));
}

#[test]
fn item_is_ready_after_cool_off_and_frequency() {
    let minutes = |n: i64| (n * MINUTE) as u64;
    // cool-off, frequency, failed, succeeded (minutes ago), expected
    let cases = [
        (5, 10, 1, None, None),
        (1, 10, 5, None, Some("a")),
        (10, 1, 5, Some(20), None),
        (10, 1, 10, Some(20), Some("a")),
        (1, 30, 5, Some(20), None),
    ];
    for (cool_off, frequency, failed, succeeded, expected) in cases {
        let mut item = Item::named("a")
            .every(minutes(frequency))
            .with_cool_off(minutes(cool_off))
            .failed(ago(failed));
        item.last_success = succeeded.map(ago);
        let request = request([item]);
        assert_eq!(choice(&request), expected, "{request:?}");
    }
}

#[test]
fn cooling_item_has_the_end_of_its_cool_off() {
    let request = request([item("a").with_cool_off(5 * MINUTE as u64).failed(ago(1))]);
    let decision = select(&request);
    assert_eq!(decision.choice, Choice::Wait(Some(NOW + 4 * MINUTE)));
    assert_eq!(decision.verdicts[0].standing, Standing::Cooling);
    assert_eq!(decision.verdicts[0].until, Some(NOW + 4 * MINUTE));
}

#[test]
fn verdict_is_the_standing_that_lasts_longer() {
    let both = |success, cool_off: i64| {
        let item = item("a").with_cool_off((cool_off * MINUTE) as u64);
        select(&request([item.succeeded(ago(success)).failed(ago(1))])).verdicts[0].clone()
    };
    assert_eq!(both(2, 5).standing, Standing::Fresh);
    assert_eq!(both(2, 5).until, Some(ago(2) + 10 * MINUTE));
    assert_eq!(both(9, 5).standing, Standing::Cooling);
}

#[test]
fn oldest_success_goes_first() {
    let request = request([
        item("a").succeeded(ago(20)),
        item("b").succeeded(ago(40)),
        item("c").succeeded(ago(30)),
    ]);
    assert_eq!(choice(&request), Some("b"));
}

#[test]
fn item_that_never_succeeded_goes_before_any_success() {
    let request = request([
        item("a").succeeded(ago(4000)),
        item("b").failed(ago(1)),
        item("c").succeeded(ago(30)),
    ]);
    assert_eq!(choice(&request), Some("b"));
}

#[test]
fn equal_successes_are_ordered_by_the_oldest_failure() {
    let base = || item("").succeeded(ago(60));
    let named = |name: &str, item: Item| Item {
        name: name.into(),
        ..item
    };
    let two = request([
        named("a", base().failed(ago(5))),
        named("b", base().failed(ago(9))),
    ]);
    assert_eq!(choice(&two), Some("b"));
    let three = two.with(named("c", base()));
    assert_eq!(
        choice(&three),
        Some("c"),
        "an item that never failed goes first"
    );
}

#[test]
fn new_items_go_before_a_failed_item() {
    let mut failing = item("failing").failed(ago(1));
    let mut seen = Vec::new();
    let mut rest: Vec<_> = ["a", "b", "c"].map(item).into();
    for round in 0..3 {
        failing.last_failure = Some(ago(1) + round);
        let request = request(rest.iter().cloned().chain([failing.clone()]));
        let name = choice(&request).unwrap_or_default().to_owned();
        rest.retain(|item| item.name != name);
        seen.push(name);
    }
    seen.sort();
    assert_eq!(seen, ["a", "b", "c"]);
}

#[test]
fn wait_ends_when_the_first_item_is_due() {
    let request = request([item("a").succeeded(ago(3)), item("b").succeeded(ago(7))]);
    assert_eq!(
        select(&request).choice,
        Choice::Wait(Some(NOW + 3 * MINUTE))
    );
}

#[test]
fn held_item_has_a_verdict_but_is_not_chosen() {
    let request = request([item("a").held(), item("b").succeeded(ago(20))]);
    let decision = select(&request);
    assert_eq!(decision.chosen(), Some(1));
    assert_eq!(decision.verdicts[0].standing, Standing::Ready);
}

#[test]
fn equal_items_are_chosen_equally_often() {
    for n in [2_usize, 5, 7] {
        let mut request = request((0..n).map(|i| item(&i.to_string())));
        let rounds = 4000 * n;
        let mut counts = vec![0_u32; n];
        for seed in 0..rounds {
            request.seed = seed as u64;
            let index = select(&request).chosen().unwrap_or(usize::MAX);
            counts[index] += 1;
        }
        // The mean is 4,000 and the standard deviation is less than 64. Allows six of them.
        for count in &counts {
            assert!((3616..=4384).contains(count), "{counts:?}");
        }
    }
}

/// Pins the random choices, which must never change between releases.
#[test]
fn random_choice_is_the_same_in_every_release() {
    let mut request = request((0..1000).map(|i| item(&i.to_string())));
    let drawn = [0, 1, 2, u64::MAX].map(|seed| {
        request.seed = seed;
        select(&request).chosen()
    });
    assert_eq!(drawn, DRAWN.map(Some));
}

const DRAWN: [usize; 4] = [654, 549, 193, 889];

#[test]
fn group_settings_are_rejected_and_item_settings_are_ignored() {
    let policy = policy_testkit::component!();
    let items = [ItemSettings {
        name: "a".into(),
        settings: r#"{"weight":2}"#.into(),
    }];
    for items in [&[][..], &items] {
        assert!(policy.validate("{ }", items).is_ok());
    }
    let rejected = policy
        .validate(r#"{"base":"5m"}"#, &[])
        .map_err(|e| e.to_string());
    assert!(rejected.is_err_and(|e| e.contains("base") && e.contains("remove the settings")));
}

proptest! {
    #[test]
    fn choice_is_the_first_candidate(request in strategy::request()) {
        let decision = select(&request);
        let candidate = |i: usize| {
            let item = &request.items[i];
            let fresh = match (item.last_success, item.frequency) {
                (None, _) => false,
                (Some(_), None) => true,
                (Some(at), Some(f)) => i128::from(request.now) < i128::from(at) + i128::from(f),
            };
            let cooling = item.last_failure.is_some_and(
                |at| i128::from(request.now) < i128::from(at) + i128::from(item.cool_off));
            item.startable && !fresh && !cooling
        };
        match decision.chosen() {
            Some(index) => {
                prop_assert!(candidate(index));
                let rank = |i: usize| (request.items[i].last_success, request.items[i].last_failure);
                for other in (0..request.items.len()).filter(|i| candidate(*i)) {
                    prop_assert!(rank(index) <= rank(other));
                }
            }
            None => prop_assert!(!(0..request.items.len()).any(candidate)),
        }
    }

    #[test]
    fn select_is_deterministic(request in strategy::request()) {
        prop_assert_eq!(select(&request), select(&request.clone()));
    }

    #[test]
    fn every_item_has_a_verdict_and_a_wait_ends_with_the_first(
        request in strategy::request()
    ) {
        let decision = select(&request);
        prop_assert_eq!(decision.verdicts.len(), request.items.len());
        for verdict in &decision.verdicts {
            prop_assert!(verdict.until.is_none_or(|until| until > request.now));
            prop_assert!(verdict.standing != Standing::Ready || verdict.until.is_none());
        }
        if let Choice::Wait(until) = decision.choice {
            prop_assert_eq!(until, decision.verdicts.iter().filter_map(|v| v.until).min());
        }
    }
}
