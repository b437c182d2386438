//! Tests that the compiled component answers like the native functions, within its limits.

use policy_expression::{MAX_DEPTH, MAX_LENGTH, select, validate};
use policy_sdk::{Item, Request};
use policy_testkit::{EvalError, strategy};
use proptest::prelude::*;
use serde_json::json;

const SETTINGS: &str = r#"{
    "eligible": "item.failures < 5 && (!item.name.startsWith('nightly-') || now.getHours('Europe/Berlin') >= 22)",
    "orderBy": ["item.lastSuccess", "-item.settings.tier"],
    "note": "'tier ' + string(item.settings.tier)"
}"#;

/// Returns a request with three expressions, and items that are all ready.
fn request(items: usize) -> Request {
    let now = 1_800_000_000_000;
    let mut request = (0..items).fold(Request::at(now), |request, i| {
        let mut item = Item::named(format!("nightly-{i}")).every(1000);
        item.last_success = Some(now - 3_600_000 - i as i64);
        item.settings = Some(r#"{"tier": 2, "owner": "team-a"}"#.into());
        request.with(item)
    });
    request.settings = SETTINGS.into();
    request
}

#[test]
fn component_is_smaller_than_300_kib() {
    let policy = policy_testkit::component!();
    assert!(policy.size() < 300 << 10, "{} bytes", policy.size());
}

#[test]
fn each_item_uses_at_most_20_000_fuel() {
    let policy = policy_testkit::component!();
    for items in [10, 100, 2000] {
        let request = request(items);
        let evaluation = policy.evaluate(&request);
        assert_eq!(evaluation.answer.ok(), select(&request).ok());
        let fuel_per_item = evaluation.fuel / items as u64;
        assert!(fuel_per_item <= 20_000, "{items} items: {fuel_per_item}");
    }
}

#[test]
fn longest_and_deepest_expressions_fit_into_the_sandbox() {
    let policy = policy_testkit::component!();
    let brackets = MAX_DEPTH - 1;
    let deepest = [
        format!("{}true{}", "(".repeat(brackets), ")".repeat(brackets)),
        format!("{}true", "!".repeat(brackets)),
        format!("{}true", "true ? true : ".repeat(brackets - 1)),
        format!("size([{}]) == 0", ["1"; 600].join(", ")),
        format!("{} == 0", ["1"; MAX_DEPTH - 1].join(" + ")),
        format!("true{}", " && true".repeat(250)),
    ];
    for condition in deepest {
        assert!(condition.len() <= MAX_LENGTH, "{condition}");
        let settings = json!({"eligible": condition}).to_string();
        policy.validate(&settings, &[]).unwrap();
        let mut request = Request::at(0).with(Item::named("a"));
        request.settings = settings;
        assert_eq!(policy.select(&request).ok(), select(&request).ok());
    }
}

fn policy_result<T>(answer: Result<T, EvalError>) -> Result<T, String> {
    answer.map_err(|error| match error {
        EvalError::PolicyError(message) => message,
        other => panic!("{other}"),
    })
}

/// Cleans a message as the host does, because the native function does not.
fn cleaned(message: String) -> String {
    policy_testkit::clean(&message)
}

/// Generates settings, some of them invalid.
fn settings() -> impl Strategy<Value = String> {
    let conditions = prop::sample::select(&[
        "item.runs / item.failures < 3",
        "now - item.lastSuccess > duration('10m')",
        "has(item.lastFailure) && now.getHours('Asia/Kolkata') < 12",
        "group.item('1 a').startable || item.runsWithin(duration('30m')) == 0",
        "item.settings.tier > 1",
        "item.failurs < 3",
    ]);
    let orders = prop::sample::select(&[
        "item.lastSuccess",
        "-item.failures",
        "item.lastSuccess + item.frequency",
        "item.name",
        "item.settings.tier",
        "item",
    ]);
    prop_oneof![
        8 => (conditions, prop::collection::vec(orders, 0..3)).prop_map(|(eligible, order_by)| {
            json!({
                "eligible": eligible,
                "orderBy": order_by,
                "note": "item.standing + ' ' + string(item.runs)",
            })
            .to_string()
        }),
        1 => ".{0,40}".prop_map(|eligible| json!({"eligible": eligible}).to_string()),
        1 => ".{0,20}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn component_and_function_agree(mut request in strategy::request(), settings in settings()) {
        let policy = policy_testkit::component!();
        request.settings = settings;
        for item in request.items.iter_mut().step_by(2) {
            item.settings = Some(r#"{"tier": 2}"#.into());
        }
        let first = policy.evaluate(&request);
        let native = select(&request).map_err(cleaned);
        prop_assert_eq!(policy_result(first.answer), native);
        prop_assert_eq!(first.fuel, policy.evaluate(&request).fuel);
    }

    #[test]
    fn component_and_function_validate_alike(settings in settings()) {
        let policy = policy_testkit::component!();
        let native = validate(&settings, &[]).map_err(cleaned);
        prop_assert_eq!(policy_result(policy.validate(&settings, &[])), native);
    }
}
