//! Tests that the compiled component answers like the native functions.

use policy_backoff::{select, validate};
use policy_sdk::{Item, ItemSettings, Request};
use policy_testkit::{EvalError, strategy};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

#[test]
fn component_is_smaller_than_70_kib() {
    let policy = policy_testkit::component!();
    assert!(policy.size() < 70 << 10, "{} bytes", policy.size());
}

#[test]
fn two_thousand_items_use_a_fraction_of_the_fuel() {
    let policy = policy_testkit::component!();
    let mut request = (0..2000).fold(Request::at(1000), |request, i| {
        let mut item = Item::named(format!("item {i}")).every(1000).failed(0);
        item.settings = Some(r#"{"base": "1m", "factor": 1.5, "max": "1h 30m"}"#.into());
        item.failures = 40;
        request.with(item)
    });
    request.settings = r#"{"jitter": 0.1}"#.into();
    let evaluation = policy.evaluate(&request);
    assert_eq!(evaluation.answer.ok(), select(&request).ok());
    // The limit is 110 million.
    assert!(evaluation.fuel < 60_000_000, "{}", evaluation.fuel);
}

/// Generates settings of a group or of an item, some of them invalid.
fn settings() -> impl Strategy<Value = String> {
    prop_oneof![
        5 => Just("{}".to_owned()),
        5 => (0_u32..90, 1.0..3.0, 0.0..=1.0).prop_map(|(base, factor, jitter)| {
            format!(r#"{{"base": "{base}s", "factor": {factor:.3}, "jitter": {jitter:.3}}}"#)
        }),
        5 => (0_u32..90).prop_map(|max| format!(r#"{{"max": "{max}m"}}"#)),
        1 => "[a-z0-9.]{0,4}".prop_map(|text| format!(r#"{{"base": "{text}"}}"#)),
        1 => any::<f64>().prop_map(|factor| format!(r#"{{"factor": {factor:e}}}"#)),
        1 => ".{0,20}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn component_and_function_agree(
        mut request in strategy::request(),
        group in settings(),
        own in vec(option::weighted(0.2, settings()), 12),
    ) {
        let policy = policy_testkit::component!();
        request.settings = group;
        for (item, own) in request.items.iter_mut().zip(own) {
            item.settings = own;
        }
        let first = policy.evaluate(&request);
        prop_assert_eq!(first.answer, select(&request).map_err(EvalError::from_message));
        prop_assert_eq!(first.fuel, policy.evaluate(&request).fuel);
    }

    #[test]
    fn component_and_function_validate_alike(group in settings(), own in settings()) {
        let policy = policy_testkit::component!();
        let items = [ItemSettings { name: "a".into(), settings: own }];
        let native = validate(&group, &items).map_err(EvalError::from_message);
        prop_assert_eq!(policy.validate(&group, &items), native);
    }
}
