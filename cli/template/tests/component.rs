//! The compiled component, in the operator's own evaluator and under its limits.

use {crate}::select;
use policy_sdk::{Item, Request};

#[test]
fn the_component_answers_as_the_function_does() {
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
fn two_thousand_items_are_no_trouble() {
    let request = (0..2000).fold(Request::at(0), |request, i| {
        request.with(Item::named(format!("item {i}")))
    });
    let answer = policy_testkit::component!().select(&request);
    assert!(answer.is_ok(), "{answer:?}");
}
