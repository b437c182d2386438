//! Tests that the compiled component answers like the native function.

use policy_default::select;
use policy_sdk::{Item, Request};
use policy_testkit::strategy;
use proptest::prelude::*;

#[test]
fn component_is_smaller_than_32_kib() {
    let policy = policy_testkit::component!();
    assert!(policy.size() < 32 << 10, "{} bytes", policy.size());
}

#[test]
fn two_thousand_items_use_a_fraction_of_the_fuel() {
    let policy = policy_testkit::component!();
    let request = (0..2000).fold(Request::at(0), |request, i| {
        request.with(Item::named(format!("item {i}")).every(1000))
    });
    let evaluation = policy.evaluate(&request);
    assert_eq!(evaluation.answer, Ok(select(&request)));
    assert!(evaluation.fuel < 21_000_000, "{}", evaluation.fuel);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn component_and_function_agree(request in strategy::request()) {
        let policy = policy_testkit::component!();
        let first = policy.evaluate(&request);
        prop_assert_eq!(&first.answer, &Ok(select(&request)));
        prop_assert_eq!(first.fuel, policy.evaluate(&request).fuel);
    }
}
