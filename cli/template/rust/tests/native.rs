//! Tests the function natively, without WebAssembly, which is fast and easy to debug.

use policy_sdk::{Item, Policy, Request};
use {crate}::MyPolicy;

const MINUTE: i64 = 60_000;

/// Returns the index of the item that the policy selects.
fn chosen(request: &Request) -> Option<usize> {
    MyPolicy::select(request).expect("a decision").chosen()
}

#[test]
fn oldest_success_goes_first() {
    let request = Request::at(100 * MINUTE)
        .with(Item::named("newer").every(1000).succeeded(80 * MINUTE))
        .with(Item::named("older").every(1000).succeeded(20 * MINUTE));
    assert_eq!(chosen(&request), Some(1));
}

#[test]
fn held_item_is_never_chosen() {
    let request = Request::at(0).with(Item::named("held").held());
    assert_eq!(chosen(&request), None);
}
