//! Compares the parser, the type check, and the evaluation with another implementation of CEL.

use crate::evaluate::Scope;
use crate::parser::parse;
use crate::types::Type;
use crate::value::Value;
use cel::Value as CelValue;
use chrono::DateTime;
use policy_sdk::{Item, Outcome, Request, Run, Standing};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use serde_json::Value as Json;
use std::cell::Cell;
use std::collections::HashMap;

/// 2026-03-28T22:30:15.250Z
const NOW: i64 = 1_774_737_015_250;
const HOUR: i64 = 3_600_000;
const SETTINGS: &str = r#"{"tier": 2, "weight": 1.5, "zone": "UTC", "on": true, "none": null,
    "tags": ["daily", "big"], "nested": {"deep": [1, 2]}}"#;

fn request() -> Request {
    let mut item = Item::named("photos")
        .every(HOUR as u64)
        .with_cool_off(600_000);
    item.last_success = Some(NOW - 3 * HOUR);
    item.failures = 2;
    item.runs = 12;
    item.settings = Some(SETTINGS.into());
    let mut request = Request::at(NOW).with(item).with(Item::named("mail"));
    request.recent.push(Run {
        item: 0,
        started: NOW - HOUR,
        finished: NOW - HOUR / 2,
        outcome: Outcome::Succeeded,
        exit_code: Some(0),
    });
    request
}

/// Evaluates an expression for the first item. `None` means that the check rejects it.
fn ours(source: &str) -> Option<Result<CelValue, String>> {
    let node = parse(source).ok()?.node;
    let request = request();
    let scope = Scope::new(&request, &[Standing::Ready; 2], 0);
    let value = node.evaluate(&scope, 0).map(|value| to_cel(&value));
    Some(value.map_err(|failure| failure.reason.to_string()))
}

/// Evaluates an expression with the oracle.
fn theirs(source: &str) -> Result<CelValue, String> {
    let program = cel::Program::compile(source).map_err(|error| format!("{error:?}"))?;
    let mut context = cel::Context::default();
    context.add_variable_from_value("now", timestamp(NOW));
    let item: HashMap<&str, CelValue> = HashMap::from([
        ("name", "photos".into()),
        ("failures", CelValue::Int(2)),
        ("runs", CelValue::Int(12)),
        ("startable", CelValue::Bool(true)),
        ("standing", "Ready".into()),
        ("frequency", duration(HOUR)),
        ("coolOff", duration(600_000)),
        ("lastSuccess", timestamp(NOW - 3 * HOUR)),
        ("settings", json(&serde_json::from_str(SETTINGS).unwrap())),
    ]);
    context.add_variable_from_value("item", item);
    let group: HashMap<&str, CelValue> = HashMap::from([
        ("name", "group".into()),
        ("namespace", "default".into()),
        ("size", CelValue::Int(2)),
        ("lastStarted", timestamp(NOW - HOUR)),
        ("lastFinished", timestamp(NOW - HOUR / 2)),
    ]);
    context.add_variable_from_value("group", group);
    // The oracle panics on the negation of the least integer.
    let execute = std::panic::AssertUnwindSafe(|| program.execute(&context));
    std::panic::catch_unwind(execute)
        .map_err(|_| "panic".to_owned())?
        .map_err(|error| error.to_string())
}

fn timestamp(millis: i64) -> CelValue {
    CelValue::Timestamp(
        DateTime::from_timestamp_millis(millis)
            .unwrap()
            .fixed_offset(),
    )
}

fn duration(millis: i64) -> CelValue {
    CelValue::Duration(chrono::Duration::milliseconds(millis))
}

fn json(json: &Json) -> CelValue {
    match json {
        Json::Array(list) => list.iter().map(self::json).collect::<Vec<_>>().into(),
        Json::Object(object) => object
            .iter()
            .map(|(key, value)| (key.as_str(), self::json(value)))
            .collect::<HashMap<_, _>>()
            .into(),
        scalar => to_cel(&Value::from_json(scalar)),
    }
}

fn to_cel(value: &Value<'_>) -> CelValue {
    match value {
        Value::Null => CelValue::Null,
        Value::Bool(value) => CelValue::Bool(*value),
        Value::Int(value) => CelValue::Int(*value),
        Value::Double(value) => CelValue::Float(*value),
        Value::String(text) => text.as_ref().into(),
        Value::Timestamp(millis) => timestamp(*millis),
        Value::Duration(millis) => duration(*millis),
        Value::List(list) => list.iter().map(to_cel).collect::<Vec<_>>().into(),
        Value::Json(value) => json(value),
        Value::Item(_) | Value::Group => panic!("the generator returns no items"),
    }
}

/// Generates an expression of a type, most of them valid. Release 0.13 of the oracle reads `!!` and
/// `--` as one operator, and accepts `contains` and others for numbers, so they do not occur.
fn expression(ty: Type, depth: u32) -> BoxedStrategy<String> {
    let leaf = leaf(&ty);
    if depth == 0 {
        return leaf;
    }
    let of = |ty: Type| expression(ty, depth - 1);
    let infix = |ty: &Type, operators: &'static [&'static str]| {
        (of(*ty), select(operators), of(*ty), any::<bool>()).prop_map(
            |(left, operator, right, brackets)| {
                if brackets {
                    format!("({left} {operator} {right})")
                } else {
                    format!("{left} {operator} {right}")
                }
            },
        )
    };
    let conditional = (of(Type::Bool), of(ty), of(ty))
        .prop_map(|(condition, then, otherwise)| format!("({condition} ? {then} : {otherwise})"));
    let compound = match ty {
        Type::Bool => prop_oneof![
            3 => infix(&Type::Bool, &["&&", "||"]),
            1 => infix(&Type::Bool, &["==", "!="]),
            2 => infix(&Type::Int, COMPARISONS),
            1 => infix(&Type::Double, &["<", ">"]),
            1 => infix(&Type::String, COMPARISONS),
            1 => infix(&Type::Timestamp, COMPARISONS),
            1 => infix(&Type::Duration, COMPARISONS),
            1 => of(Type::Bool).prop_map(|operand| format!("!({operand})")),
            1 => (of(Type::String), select(&["startsWith", "endsWith", "contains"]), of(Type::String))
                .prop_map(|(text, function, part)| format!("('' + {text}).{function}('' + {part})")),
            1 => (of(Type::Int), of(Type::Int), of(Type::Int))
                .prop_map(|(value, a, b)| format!("{value} in [{a}, {b}]")),
            1 => of(Type::String).prop_map(|text| format!("{text} in item.settings.tags")),
        ]
        .boxed(),
        Type::Int => prop_oneof![
            3 => infix(&Type::Int, &["+", "-", "*", "/", "%"]),
            1 => of(Type::Int).prop_map(|operand| format!("-({operand})")),
            1 => of(Type::String).prop_map(|text| format!("size({text})")),
            1 => (of(Type::Timestamp), select(CALENDAR))
                .prop_map(|(time, function)| format!("({time}).{function}()")),
            1 => (of(Type::Duration), select(&["getHours", "getMinutes", "getSeconds"]))
                .prop_map(|(length, function)| format!("({length}).{function}()")),
            1 => self::leaf(&Type::Double).prop_map(|operand| format!("int({operand})")),
        ]
        .boxed(),
        Type::Double => prop_oneof![
            2 => infix(&Type::Double, &["+", "-", "*"]),
            1 => of(Type::Int).prop_map(|operand| format!("double({operand})")),
        ]
        .boxed(),
        Type::String => prop_oneof![
            2 => infix(&Type::String, &["+"]),
            1 => of(Type::Int).prop_map(|operand| format!("string({operand})")),
        ]
        .boxed(),
        Type::Timestamp => (of(Type::Timestamp), select(&["+", "-"]), of(Type::Duration))
            .prop_map(|(time, operator, length)| format!("({time} {operator} {length})"))
            .boxed(),
        _ => prop_oneof![
            infix(&Type::Duration, &["+", "-"]),
            (of(Type::Timestamp), of(Type::Timestamp))
                .prop_map(|(one, other)| format!("({one} - {other})")),
        ]
        .boxed(),
    };
    prop_oneof![1 => leaf, 4 => compound, 1 => conditional].boxed()
}

const COMPARISONS: &[&str] = &["==", "!=", "<", "<=", ">", ">="];
const CALENDAR: &[&str] = &[
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getFullYear",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getSeconds",
];

/// Generates a constant, a field, or a setting. Some settings are absent or have another type.
fn leaf(ty: &Type) -> BoxedStrategy<String> {
    let fixed: &'static [&'static str] = match ty {
        Type::Bool => &[
            "true",
            "false",
            "item.startable",
            "item.settings.on",
            "has(item.lastSuccess)",
            "has(item.lastFailure)",
            "has(item.settings.tier)",
            "has(item.settings.other)",
            "item.settings.other",
            "item.settings.none == null",
            "'tier' in item.settings",
        ],
        Type::Int => &[
            "item.failures",
            "item.runs",
            "item.settings.tier",
            "item.settings.other",
            "item.settings['tier']",
            "item.settings.nested.deep[1]",
            "item.settings.nested.deep[7]",
            "group.size",
            "0",
            "0x1F",
            "9223372036854775807",
            "-9223372036854775808",
        ],
        Type::Double => &["1.5", "2e3", "0.0", "item.settings.weight"],
        Type::String => &[
            "item.name",
            "group.name",
            "item.settings.zone",
            "item.settings.tags[0]",
            r"'a\n\x41\u0065'",
            "\"it's\"",
            r"r'\n'",
            "item.settings.tier",
        ],
        Type::Timestamp => &[
            "now",
            "item.lastSuccess",
            "item.lastFailure",
            "group.lastStarted",
            "timestamp('2026-01-31T06:00:00Z')",
        ],
        _ => &[
            "item.frequency",
            "item.coolOff",
            "item.lastDuration",
            "duration('90m')",
            "duration('1h30m')",
            "duration('-1.5h')",
        ],
    };
    let fixed = select(fixed).prop_map(str::to_owned);
    match ty {
        Type::Int => {
            prop_oneof![3 => fixed, 1 => (0..100).prop_map(|n: i32| n.to_string())].boxed()
        }
        _ => fixed.boxed(),
    }
}

fn any_expression() -> impl Strategy<Value = String> {
    let ty = select(&[
        Type::Bool,
        Type::Int,
        Type::Double,
        Type::String,
        Type::Timestamp,
        Type::Duration,
    ]);
    (ty, 0_u32..5).prop_flat_map(|(ty, depth)| expression(ty, depth))
}

/// Compares the results. Messages of failures differ.
fn assert_same(source: &str, ours: Result<CelValue, String>) -> Result<(), TestCaseError> {
    let theirs = theirs(source);
    match (&ours, &theirs) {
        (Ok(ours), Ok(theirs)) => prop_assert_eq!(ours, theirs, "{}", source),
        (Err(_), Err(_)) => {}
        _ => prop_assert!(false, "{}\nours: {:?}\ntheirs: {:?}", source, ours, theirs),
    }
    Ok(())
}

#[test]
fn expressions_have_the_values_of_cel() {
    // The same expressions in each run: other ones may meet another bug of the oracle.
    let mut runner = TestRunner::new_with_rng(
        ProptestConfig {
            cases: 2000,
            failure_persistence: None,
            ..ProptestConfig::default()
        },
        TestRng::deterministic_rng(RngAlgorithm::ChaCha),
    );
    let values = Cell::new(0);
    let compared = runner.run(&any_expression(), |source| {
        let Some(ours) = ours(&source) else {
            return Ok(());
        };
        values.set(values.get() + u32::from(ours.is_ok()));
        assert_same(&source, ours)
    });
    compared.unwrap_or_else(|error| panic!("{error}"));
    // Fewer would mean that the generator no longer fits the language.
    let values = values.get();
    assert!(values > 600, "only {values} expressions have a value");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    /// What the check accepts is also CEL: expressions are a subset.
    #[test]
    fn accepted_text_is_cel(tokens in proptest::collection::vec(select(TOKENS), 1..12)) {
        let source = tokens.join(" ");
        if parse(&source).is_ok() {
            prop_assert!(cel::Program::compile(&source).is_ok(), "{}", source);
        }
    }
}

const TOKENS: &[&str] = &[
    "item",
    ".",
    "name",
    "failures",
    "lastSuccess",
    "settings",
    "now",
    "group",
    "size",
    "(",
    ")",
    "[",
    "]",
    "+",
    "-",
    "*",
    "!",
    "&&",
    "||",
    "==",
    "<",
    "in",
    "?",
    ":",
    ",",
    "1",
    "2.5",
    "'a'",
    "true",
    "null",
    "has",
    "string",
    "getHours",
    "startsWith",
    "duration('1h')",
];
