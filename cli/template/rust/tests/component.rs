//! Tests the compiled component in the operator's evaluator, under the operator's limits.

use policy_sdk::{Item, Policy, Request};
use policy_testkit::{EvalError, strategy};
use proptest::prelude::*;
use {crate}::MyPolicy;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn component_answers_like_the_function(request in strategy::request()) {
        let answer = policy_testkit::component!().select(&request);
        let native = MyPolicy::select(&request).map_err(EvalError::from_message);
        prop_assert_eq!(answer, native);
    }
}

#[test]
fn component_decides_about_two_thousand_items() {
    let request = (0..2000).fold(Request::at(0), |request, i| {
        request.with(Item::named(format!("item {i}")))
    });
    let answer = policy_testkit::component!().select(&request);
    assert!(answer.is_ok(), "{answer:?}");
}
