//! Tests the compiled component in the operator's evaluator, under the operator's limits.

use {crate}::select;
use policy_sdk::{Item, Request};

#[test]
fn component_answers_like_the_function() {
    let policy = policy_testkit::component!();
    for seed in 0..50 {
        let request = Request::at(0)
            .with_seed(seed)
            .with(Item::named("a"))
            .with(Item::named("b"));
        assert_eq!(policy.select(&request), Ok(select(&request)));
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
