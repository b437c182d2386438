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
        format!("size([{}]) == 0", ["1"; 80].join(", ")),
        format!("{} == 0", ["1"; MAX_DEPTH - 1].join(" + ")),
        format!("true{}", " && true".repeat(150)),
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

/// The parts of the most expensive conditions, and settings of each item.
const EXPENSIVE: [&str; 14] = [
    "item.name != 'x'",
    "now.getHours('Europe/' + 'Berlin') >= 0",
    "item.lastSuccess.getHours('Europe/Berlin') >= 0",
    "string(now) != ''",
    "string(1e308).contains('1')",
    "size([1, 1, 1, 1, 1, 1, 1, 1]) > 0",
    "!(item.name in ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'])",
    "duration('1h' + '30m') < duration('3h')",
    "timestamp('2026-01-31T06:' + '00:00Z') < now + duration('100000h')",
    "group.item('nightly-1').failures < 5",
    "group.runsWithin(duration('1h')) < 50",
    "(1 / item.failures > 1 || true)",
    "item.settings.tags == item.settings.tags",
    "double('1.5' + '3') > 1.0",
];

#[test]
fn accepted_expressions_never_use_up_the_fuel() {
    let policy = policy_testkit::component!();
    for part in EXPENSIVE {
        let condition = |count: usize| json!({"eligible": vec![part; count].join(" && ")});
        let accepted = |count| {
            let length = condition(count)["eligible"].as_str().unwrap_or("").len();
            length <= MAX_LENGTH && validate(&condition(count).to_string(), &[]).is_ok()
        };
        let most = (1..500).take_while(|count| accepted(*count)).count();
        assert!(most > 0, "{part}");
        for items in [10, 100] {
            let mut request = request(items);
            request.settings = condition(most).to_string();
            for item in &mut request.items {
                item.settings = Some(r#"{"tags": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]}"#.into());
            }
            let evaluation = policy.evaluate(&request);
            let most_fuel = 10_000_000 + 50_000 * items as u64;
            assert!(evaluation.answer.is_ok(), "{part}: {:?}", evaluation.answer);
            assert!(
                evaluation.fuel < most_fuel / 10 * 9,
                "{items} items, {most} times {part}: {} fuel",
                evaluation.fuel
            );
            // A margin for each item, without the fuel for any number of items.
            let per_item = evaluation.fuel / items as u64;
            assert!(items < 100 || per_item < 50_000, "{part}: {per_item}");
        }
    }
}

#[test]
fn long_settings_of_all_items_do_not_use_up_the_fuel() {
    let policy = policy_testkit::component!();
    let settings = [
        format!(r#"{{"tags": [{}]}}"#, ["1"; 2000].join(",")),
        format!(r#"{{"tags": {}{}}}"#, "[".repeat(100), "]".repeat(100)),
        format!(r#"{{"tags": "{}"}}"#, "é".repeat(2000)),
        format!(r#"{{"tags": [{}]}}"#, ["1"; 30_000].join(",")),
    ];
    for settings in settings {
        let mut request = request(100);
        request.settings =
            json!({"eligible": "item.settings.tags == item.settings.tags"}).to_string();
        for item in &mut request.items {
            item.settings = Some(settings.clone());
        }
        let evaluation = policy.evaluate(&request);
        let start: String = settings.chars().take(30).collect();
        assert!(
            evaluation.answer.is_ok(),
            "{start}: {:?}",
            evaluation.answer
        );
        assert!(
            evaluation.fuel < 13_000_000,
            "{start}: {} fuel",
            evaluation.fuel
        );
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
