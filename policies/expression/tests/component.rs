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
    for items in [7, 10, 100, 2000] {
        let request = request(items);
        let evaluation = policy.evaluate(&request);
        assert_eq!(evaluation.answer.ok(), select(&request).ok());
        let fuel_per_item = evaluation.fuel / items as u64;
        assert!(fuel_per_item <= 20_000, "{items} items: {fuel_per_item}");
    }
}

#[test]
fn deepest_expressions_fit_into_the_sandbox() {
    let policy = policy_testkit::component!();
    let brackets = MAX_DEPTH - 1;
    let deepest = [
        format!("{}true{}", "(".repeat(brackets), ")".repeat(brackets)),
        format!("{}true", "!".repeat(brackets)),
        format!("{}true", "true ? true : ".repeat(brackets - 1)),
        format!("{} == 0", ["1"; MAX_DEPTH - 1].join(" - ")),
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

/// Starts, repeated middles, and ends of expressions that take long to parse.
const LONG: [(&str, &str, &str); 14] = [
    ("size([", "1,", "1]) > 0"),
    ("size([", "((((((((((1)))))))))),", "1]) > 0"),
    ("", "!(!(!(!(true)))) && ", "true"),
    ("", "now.getHours('Europe/Berlin') >= 0 && ", "true"),
    ("", "now.getDay() >= 0 && ", "true"),
    ("", "now.getHours('Europe/Berlim') >= 0 && ", "true"),
    ("", "item.lastDuration > duration('1h2m3s4ms') && ", "true"),
    (
        "",
        "now>timestamp('2026-01-31T06:00:00.123+02:00')&&",
        "true",
    ),
    ("", "item.settings.a.b.c.d.e.f == 1.5e300 && ", "true"),
    ("'", r"\u00e9", "' == 'a'"),
    ("", " ", "true"),
    ("", "//\n", "true"),
    ("", "a", ""),
    ("'", "é", "' + 1 == ''"),
];

/// Returns settings with all expressions as long as possible.
fn longest_settings((start, middle, end): (&str, &str, &str)) -> String {
    let count = (MAX_LENGTH - start.len() - end.len()) / middle.len();
    let condition = format!("{start}{}{end}", middle.repeat(count));
    json!({
        "eligible": condition,
        "note": format!("true ? 'a' : ''{}", " ".repeat(MAX_LENGTH - 15)),
        "orderBy": vec![condition.as_str(); 8],
    })
    .to_string()
}

#[test]
fn longest_settings_are_accepted_or_rejected_with_a_position() {
    let policy = policy_testkit::component!();
    for parts in LONG {
        let settings = longest_settings(parts);
        let native = validate(&settings, &[]);
        if let Err(message) = &native {
            let named = ["eligible", "note", "orderBy"].iter();
            assert!(
                named.copied().any(|name| message.starts_with(name)),
                "{message}"
            );
        }
        let native = native.map_err(EvalError::from_message);
        assert_eq!(policy.validate(&settings, &[]), native, "{parts:?}");
        let mut request = request(0);
        request.settings = settings;
        let fuel = policy.evaluate(&request).fuel;
        assert!(fuel < FUEL / 10 * 9, "{parts:?}: {fuel} fuel");
    }
}

/// The operator's limits of the fuel: for each decision, and additionally for each item.
const FUEL: u64 = 10_000_000;
const FUEL_PER_ITEM: u64 = 50_000;

/// The parts of the most expensive conditions. Each is met, or fails with a long message.
const EXPENSIVE: [&str; 26] = [
    "item.name != 'x'",
    "item.name == item.name + ''",
    "now.getHours('Europe/' + 'Berlin') >= 0",
    "item.lastSuccess.getHours('Europe/Berlin') >= 0",
    "string(now) != ''",
    "string(-123456789.123457).contains('1')",
    "string(5.42396794407799e-300) != ''",
    "size([1, 1, 1, 1, 1, 1, 1, 1]) > 0",
    "!(item.name in ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'])",
    "duration('1h' + '30m') < duration('3h')",
    "duration('1h1m1s1ms1h' + '1m') < duration('3h')",
    "duration('.123456789h' + '') < duration('3h')",
    "timestamp('2026-01-31T06:' + '00:00Z') < now + duration('100000h')",
    "group.item('nightly-1').failures < 5",
    "group.item(item.name).failures < 5",
    "group.runsWithin(duration('1h')) < 50",
    "(1 / item.failures > 1 || true)",
    "item.settings.tags == item.settings.tags",
    "double('1.5' + '3') > 1.0",
    "(double('{\"\":1,\"\":1,\"\":1,\"\":1,\"\":1,\"\":1}') > 1.0 || true)",
    "item.settings.text.contains('éx') || true",
    "item.settings.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa == 1",
    "item.settings['éééééééééééééééééééééééééééééééééééééééééééééééééé'] == 1",
    "int(item.name) < 0",
    "timestamp('é' + item.name) < now",
    "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' + item.name != ''",
];

/// Returns settings with these parts in ten expressions. `None` if an expression is too long.
fn settings_of(parts: &[(usize, &str)]) -> Option<String> {
    let mut conditions = vec!["true".to_owned(); 10];
    for (place, part) in parts {
        let condition = conditions.get_mut(*place)?;
        *condition = format!("{condition} && ({part})");
    }
    let note = conditions.pop()?;
    conditions.push(format!("{note} ? '{}' : ''", "é".repeat(700)));
    if conditions
        .iter()
        .any(|condition| condition.len() > MAX_LENGTH)
    {
        return None;
    }
    let settings = json!({
        "note": conditions.pop()?,
        "eligible": conditions.pop()?,
        "orderBy": conditions,
    });
    Some(settings.to_string())
}

/// Returns a group of the largest size, with long names, and with settings of each item.
fn largest_request() -> Request {
    let mut request = request(2000);
    let text = "é".repeat(300);
    for (i, item) in request.items.iter_mut().enumerate() {
        // The names of a group have at most 120,000 bytes.
        item.name = format!("{i:060}");
        let tags = "1,".repeat(30);
        item.settings = Some(format!(r#"{{"text": "{text}", "tags": [{tags}1]}}"#));
    }
    request
}

/// Adds parts while the settings are accepted, and evaluates them for 2,000 items.
fn assert_answered(request: &mut Request, parts: impl Iterator<Item = (usize, &'static str)>) {
    let mut accepted = Vec::new();
    let mut rejected = 0;
    for part in parts {
        accepted.push(part);
        match settings_of(&accepted) {
            Some(settings) if validate(&settings, &[]).is_ok() => request.settings = settings,
            _ => {
                accepted.pop();
                rejected += 1;
            }
        }
        if rejected == 20 {
            break;
        }
    }
    let policy = policy_testkit::component!();
    let mut evaluation = policy.evaluate(request);
    // On a busy machine, the time may run out before the fuel.
    for _ in 0..50 {
        let Err(EvalError::Deadline(_)) = evaluation.answer else {
            break;
        };
        evaluation = policy.evaluate(request);
    }
    let settings = &request.settings;
    assert!(
        evaluation.answer.is_ok(),
        "{settings}: {:?}",
        evaluation.answer
    );
    let most_fuel = FUEL + FUEL_PER_ITEM * request.items.len() as u64;
    let fuel = evaluation.fuel;
    assert!(fuel < most_fuel / 10 * 9, "{settings}: {fuel} fuel");
}

#[test]
fn accepted_expressions_never_use_up_the_fuel() {
    let mut largest = largest_request();
    for part in EXPENSIVE {
        // In one expression, and in all.
        for places in [1, 10] {
            let parts = (0..500).map(|i| ((8 + i % places) % 10, part));
            assert_answered(&mut largest, parts);
        }
    }
}

#[test]
fn accepted_expressions_never_use_up_the_fuel_for_few_items() {
    for part in EXPENSIVE {
        let mut few = largest_request();
        few.items.truncate(10);
        assert_answered(&mut few, (0..500).map(|i| (i % 10, part)));
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
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn combined_expressions_never_use_up_the_fuel(
        parts in prop::collection::vec((0_usize..10, prop::sample::select(&EXPENSIVE)), 200),
    ) {
        assert_answered(&mut largest_request(), parts.into_iter());
    }
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
        let native = select(&request).map_err(EvalError::from_message);
        prop_assert_eq!(first.answer, native);
        prop_assert_eq!(first.fuel, policy.evaluate(&request).fuel);
    }

    #[test]
    fn component_and_function_validate_alike(settings in settings()) {
        let policy = policy_testkit::component!();
        let native = validate(&settings, &[]).map_err(EvalError::from_message);
        prop_assert_eq!(policy.validate(&settings, &[]), native);
    }
}
