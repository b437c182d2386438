//! Tests that the compiled component answers like the native functions, even with invalid settings
//! and states.

use policy_fair::{select, validate};
use policy_sdk::{Item, ItemSettings, Outcome, Request, Run};
use policy_testkit::{EvalError, strategy};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

#[test]
fn component_is_smaller_than_90_kib() {
    let policy = policy_testkit::component!();
    assert!(policy.size() < 90 << 10, "{} bytes", policy.size());
}

#[test]
fn unreadable_state_is_logged() {
    let policy = policy_testkit::component!();
    let mut request = Request::at(0).with(Item::named("a"));
    assert!(policy.evaluate(&request).log.is_empty());
    request.state = "from another version".into();
    let evaluation = policy.evaluate(&request);
    assert!(evaluation.answer.is_ok());
    assert_eq!(evaluation.log.len(), 1);
    assert!(evaluation.log[0].text.contains("recalculating the shares"));
}

/// The items have weights, and the state is full.
#[test]
fn two_thousand_items_use_a_fraction_of_the_fuel() {
    let policy = policy_testkit::component!();
    let mut request = (0..2000).fold(Request::at(1000), |request, i| {
        let mut item = Item::named(format!("{i}")).every(0);
        item.settings = Some(r#"{"weight": 1.5}"#.into());
        request.with(item)
    });
    let kept: String = (0..400).map(|i| format!("{} {i}\n", i + 1)).collect();
    request.state = format!("2 0\n{kept}");
    request.recent = (0..20)
        .map(|i| Run {
            item: 1000 + i,
            started: 20 - i64::from(i),
            finished: 1000,
            outcome: Outcome::Succeeded,
            exit_code: Some(0),
        })
        .collect();
    let evaluation = policy.evaluate(&request);
    assert_eq!(evaluation.answer.ok(), select(&request).ok());
    // The limit is 110 million.
    assert!(evaluation.fuel < 60_000_000, "{}", evaluation.fuel);
}

/// Generates settings of a group or of an item, some of them invalid.
fn settings() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => Just("{}".to_owned()),
        8 => (0.01..10.0).prop_map(|weight| format!(r#"{{"weight": {weight:.3}}}"#)),
        1 => (0_u32..90).prop_map(|gap| format!(r#"{{"gap": "{gap}s"}}"#)),
        1 => ".{0,20}",
    ]
}

fn group_settings() -> impl Strategy<Value = String> {
    prop_oneof![
        9 => (0_u32..90).prop_map(|gap| format!(r#"{{"gap": "{gap}m"}}"#)),
        1 => settings(),
    ]
}

/// Generates states of this version and others, some of them invalid.
fn state(request: &Request) -> impl Strategy<Value = String> + use<> {
    let names: Vec<_> = request.items.iter().map(|item| item.name.clone()).collect();
    let entry = (proptest::sample::select(names), 0_u64..500_000);
    let kept = (
        1_u32..4,
        strategy::NOW - 600_000..strategy::NOW,
        vec(entry, 0..8),
    );
    prop_oneof![
        2 => Just(String::new()),
        7 => kept.prop_map(|(version, seen, ahead)| {
            let ahead = ahead.iter().map(|(name, by)| format!("{by} {name}\n"));
            format!("{version} {seen}\n{}", ahead.collect::<String>())
        }),
        // Without the characters that the host removes from messages.
        1 => r"[^\p{C}\p{Zl}\p{Zp}]{0,20}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn component_and_function_agree(
        (mut request, state) in strategy::request().prop_flat_map(|request| {
            let state = state(&request);
            (Just(request), state)
        }),
        group in group_settings(),
        own in vec(option::weighted(0.3, settings()), 12),
    ) {
        let policy = policy_testkit::component!();
        request.settings = group;
        request.state = state;
        for (item, own) in request.items.iter_mut().zip(own) {
            item.settings = own;
        }
        let first = policy.evaluate(&request);
        prop_assert_eq!(first.answer, select(&request).map_err(EvalError::from_message));
        prop_assert_eq!(first.fuel, policy.evaluate(&request).fuel);
    }

    #[test]
    fn component_and_function_validate_alike(group in group_settings(), own in settings()) {
        let policy = policy_testkit::component!();
        let items = [ItemSettings { name: "a".into(), settings: own }];
        let native = validate(&group, &items).map_err(EvalError::from_message);
        prop_assert_eq!(policy.validate(&group, &items), native);
    }
}
