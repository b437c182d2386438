//! The documented algorithm, row by row and as properties, on the native function.

use policy_default::select;
use policy_sdk::{Choice, Item, Request, Standing};
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

/// The name of the chosen item.
fn choice(request: &Request) -> Option<&str> {
    select(request)
        .chosen()
        .map(|index| request.items[index].name.as_str())
}

#[test]
fn an_item_that_never_ran_is_started() {
    assert_eq!(choice(&request([item("a")])), Some("a"));
}

#[test]
fn a_success_counts_for_the_frequency_and_not_a_millisecond_longer() {
    let at = |success| request([item("a").succeeded(success)]);
    assert_eq!(choice(&at(ago(9))), None);
    assert_eq!(choice(&at(ago(10) + 1)), None);
    assert_eq!(choice(&at(ago(10))), Some("a"));
}

#[test]
fn without_a_frequency_one_success_is_enough() {
    let request = request([Item::named("a").succeeded(0)]);
    let decision = select(&request);
    assert_eq!(decision.choice, Choice::Wait(None));
    assert_eq!(decision.verdicts[0].standing, Standing::Fresh);
}

#[test]
fn without_a_cool_off_a_failure_does_not_keep_an_item() {
    assert_eq!(choice(&request([item("a").failed(NOW)])), Some("a"));
}

#[test]
fn cool_off_and_frequency() {
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
            .resting(minutes(cool_off))
            .failed(ago(failed));
        item.last_success = succeeded.map(ago);
        let request = request([item]);
        assert_eq!(choice(&request), expected, "{request:?}");
    }
}

#[test]
fn a_cooling_item_says_until_when() {
    let request = request([item("a").resting(5 * MINUTE as u64).failed(ago(1))]);
    let decision = select(&request);
    assert_eq!(decision.choice, Choice::Wait(Some(NOW + 4 * MINUTE)));
    assert_eq!(decision.verdicts[0].standing, Standing::Cooling);
    assert_eq!(decision.verdicts[0].until, Some(NOW + 4 * MINUTE));
}

#[test]
fn of_success_and_failure_the_one_that_keeps_longer_is_shown() {
    let both = |success, cool_off: i64| {
        let item = item("a").resting((cool_off * MINUTE) as u64);
        select(&request([item.succeeded(ago(success)).failed(ago(1))])).verdicts[0].clone()
    };
    assert_eq!(both(2, 5).standing, Standing::Fresh);
    assert_eq!(both(2, 5).until, Some(ago(2) + 10 * MINUTE));
    assert_eq!(both(9, 5).standing, Standing::Cooling);
}

#[test]
fn the_oldest_success_goes_first() {
    let request = request([
        item("a").succeeded(ago(20)),
        item("b").succeeded(ago(40)),
        item("c").succeeded(ago(30)),
    ]);
    assert_eq!(choice(&request), Some("b"));
}

#[test]
fn never_succeeded_is_older_than_any_success() {
    let request = request([
        item("a").succeeded(ago(4000)),
        item("b").failed(ago(1)),
        item("c").succeeded(ago(30)),
    ]);
    assert_eq!(choice(&request), Some("b"));
}

#[test]
fn among_equal_successes_the_oldest_failure_goes_first() {
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
    assert_eq!(choice(&three), Some("c"), "never failed is the oldest");
}

#[test]
fn items_that_never_ran_go_before_one_that_failed() {
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
fn nothing_due_waits_for_the_earliest() {
    let request = request([item("a").succeeded(ago(3)), item("b").succeeded(ago(7))]);
    assert_eq!(
        select(&request).choice,
        Choice::Wait(Some(NOW + 3 * MINUTE))
    );
}

#[test]
fn a_held_item_is_seen_but_not_chosen() {
    let request = request([item("a").held(), item("b").succeeded(ago(20))]);
    let decision = select(&request);
    assert_eq!(decision.chosen(), Some(1));
    assert_eq!(decision.verdicts[0].standing, Standing::Ready);
}

#[test]
fn equals_are_chosen_about_equally_often() {
    for n in [2_usize, 5, 7] {
        let mut request = request((0..n).map(|i| item(&i.to_string())));
        let rounds = 4000 * n;
        let mut counts = vec![0_u32; n];
        for seed in 0..rounds {
            request.seed = seed as u64;
            let index = select(&request).chosen().unwrap_or(usize::MAX);
            counts[index] += 1;
        }
        // 4,000 expected each, standard deviation below 64: six of them.
        for count in &counts {
            assert!((3616..=4384).contains(count), "{counts:?}");
        }
    }
}

/// What the generator gives for these seeds in this release, for ever.
#[test]
fn the_lot_does_not_change_between_releases() {
    let mut request = request((0..1000).map(|i| item(&i.to_string())));
    let drawn = [0, 1, 2, u64::MAX].map(|seed| {
        request.seed = seed;
        select(&request).chosen()
    });
    assert_eq!(drawn, DRAWN.map(Some));
}

const DRAWN: [usize; 4] = [654, 549, 193, 889];

#[test]
fn settings_are_refused_with_the_way_out() {
    let policy = policy_testkit::component!();
    assert!(policy.validate("{ }", &[]).is_ok());
    let refused = policy
        .validate(r#"{"base":"5m"}"#, &[])
        .map_err(|e| e.to_string());
    assert!(refused.is_err_and(|e| e.contains("base") && e.contains("leave settings out")));
}

proptest! {
    #[test]
    fn the_choice_is_always_a_candidate(request in strategy::request()) {
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
    fn the_same_request_gives_the_same_answer(request in strategy::request()) {
        prop_assert_eq!(select(&request), select(&request.clone()));
    }

    #[test]
    fn every_item_has_a_verdict_and_a_wait_ends_with_the_first_of_them(
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
