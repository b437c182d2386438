//! Tests the messages for invalid expressions, and properties of the check.

use policy_expression::validate;
use proptest::prelude::*;
use serde_json::json;

fn check(condition: &str) -> Result<(), String> {
    validate(&json!({"eligible": condition}).to_string(), &[])
}

/// A condition, the column of the error, and the message.
const REJECTED: [(&str, usize, &str); 66] = [
    // Names
    (
        "item.failurs < 5",
        6,
        "item has no field \"failurs\"; did you mean \"failures\"?",
    ),
    (
        "true || item.failurs < 5",
        14,
        "item has no field \"failurs\"; did you mean \"failures\"?",
    ),
    (
        "true ? true : item.foo",
        20,
        "item has no field \"foo\"; its fields are coolOff, failures, frequency, lastDuration, lastFailure, lastSuccess, name, runs, settings, standing, startable",
    ),
    (
        "has(item.lastsuccess)",
        10,
        "item has no field \"lastsuccess\"; did you mean \"lastSuccess\"?",
    ),
    (
        "group.nam == 'a'",
        7,
        "group has no field \"nam\"; did you mean \"name\"?",
    ),
    (
        "has(group.last)",
        11,
        "group has no field \"last\"; its fields are lastFinished, lastStarted, name, namespace, size",
    ),
    (
        "items.failures < 5",
        1,
        "unknown name \"items\"; did you mean \"item\"?",
    ),
    (
        "failures < 5",
        1,
        "unknown name \"failures\"; did you mean \"item.failures\"?",
    ),
    (
        "tier == 1",
        1,
        "unknown name \"tier\"; the variables are item, group, and now",
    ),
    (
        "not item.startable",
        1,
        "unknown name \"not\"; use ! for a logical not",
    ),
    (
        "not(item.startable)",
        1,
        "unknown function \"not\"; use ! for a logical not",
    ),
    (
        "item.startable and item.failures < 5",
        16,
        "expected an operator or the end of the expression, but found \"and\"; use && for a logical and",
    ),
    (
        "item.failures desc",
        15,
        "expected an operator or the end of the expression, but found \"desc\"; use - before the expression for descending order",
    ),
    (
        "item.name.startWith('a')",
        11,
        "unknown function \"startWith\"; did you mean \"startsWith\"?",
    ),
    (
        "now.getHour() > 1",
        5,
        "unknown function \"getHour\"; did you mean \"getHours\"?",
    ),
    (
        "item.name.matches('a')",
        11,
        "the CEL function matches is not supported; use startsWith, endsWith, or contains",
    ),
    (
        "item.settings.tags.exists(t, t == 'a')",
        20,
        "the CEL function exists is not supported; use conditions on elements, such as tags[0] == 'a'",
    ),
    (
        "size(item.settings.tags.map(t, t)) == 0",
        25,
        "the CEL function map is not supported; use conditions on elements, such as tags[0] == 'a'",
    ),
    (
        "str(1) == ''",
        1,
        "unknown function \"str\"; the functions are has, double, duration, int, size, string, timestamp",
    ),
    (
        "durations('1h') == item.frequency",
        1,
        "unknown function \"durations\"; did you mean \"duration\"?",
    ),
    (
        "item.name.getHours() > 1",
        11,
        "getHours(…) requires a timestamp or a duration, but this is a string",
    ),
    ("item.failures.foo() > 1", 15, "unknown function \"foo\""),
    (
        "item.name.first == 'a'",
        11,
        "a string has no field \"first\"; only item, group, and settings have fields",
    ),
    (
        "has(item.name.first)",
        15,
        "a string has no field \"first\"; only item, group, and settings have fields",
    ),
    (
        "now.getHours('Europe/Berln') == 1",
        14,
        "unknown time zone \"Europe/Berln\"; did you mean \"Europe/Berlin\"?",
    ),
    (
        "now.getHours('CET+1') == 1",
        14,
        "unknown time zone \"CET+1\"",
    ),
    // Types
    (
        "item.failures",
        1,
        "the expression must be true or false, but its type is int",
    ),
    (
        "item.failures && true",
        1,
        "an operand of \"&&\" must be a bool, but this is an int",
    ),
    (
        "true || 'a'",
        9,
        "an operand of \"||\" must be a bool, but this is a string",
    ),
    (
        "!item.name",
        2,
        "the operand of \"!\" must be a bool, but this is a string",
    ),
    (
        "-item.lastSuccess == now",
        2,
        "the operand of \"-\" must be a number, but this is a timestamp; in orderBy, \"-\" before a whole expression means descending",
    ),
    (
        "item.failures ? true : false",
        1,
        "the condition before \"?\" must be a bool, but this is an int",
    ),
    (
        "(true ? 1 : 'a') == 1",
        13,
        "both sides of \":\" must have the same type, but they are int and string",
    ),
    (
        "item.failures + 1.5 > 2.0",
        1,
        "\"+\" cannot be applied to an int and a double; convert one of them with double(…) or int(…)",
    ),
    (
        "item.name + 1 == ''",
        1,
        "\"+\" cannot be applied to a string and an int; convert a value to text with string(…)",
    ),
    (
        "item.frequency > 90",
        1,
        "\">\" cannot be applied to a duration and an int; compare it with a duration, such as duration('90m'), or use getSeconds()",
    ),
    (
        "now > '2026-01-01'",
        1,
        "\">\" cannot be applied to a timestamp and a string; convert the value with timestamp(…) or duration(…)",
    ),
    (
        "item.lastSuccess == null",
        1,
        "\"==\" cannot be applied to a timestamp and null; use has(…) to check for an absent field",
    ),
    (
        "item.name == 1",
        1,
        "\"==\" cannot be applied to a string and an int",
    ),
    (
        "item.name < 1",
        1,
        "\"<\" cannot be applied to a string and an int",
    ),
    (
        "item == item",
        1,
        "\"==\" cannot be applied to an item and an item",
    ),
    (
        "1.5 % 2.0 == 0.0",
        1,
        "\"%\" cannot be applied to a double and a double",
    ),
    (
        "now + now == now",
        1,
        "\"+\" cannot be applied to a timestamp and a timestamp",
    ),
    (
        "1 in ['a']",
        1,
        "\"in\" cannot be applied to an int and a list",
    ),
    (
        "item.name in 'a'",
        1,
        "\"in\" cannot be applied to a string and a string",
    ),
    (
        "size([1, 'a']) == 2",
        10,
        "all elements of a list must have the same type, but they are int and string",
    ),
    (
        "size([item]) == 1",
        7,
        "a list cannot contain an item; use one of its fields",
    ),
    ("[1]['a'] == 1", 5, "the index of a list must be an int"),
    (
        "item.settings[1.5] == 1",
        15,
        "an index must be an int or a string, but this is a double",
    ),
    (
        "item.name[0] == 'a'",
        1,
        "a string has no elements; use [] only with lists and settings",
    ),
    (
        "item.name.startsWith(1)",
        22,
        "the argument of startsWith(…) must be a string, but this is an int",
    ),
    (
        "item.name.startsWith()",
        11,
        "startsWith(…) takes one argument, but got 0",
    ),
    (
        "item.name.size(1) == 1",
        11,
        "size(…) takes no arguments, but got 1",
    ),
    ("string(item) == ''", 8, "string(…) does not accept an item"),
    (
        "duration('5x') == item.frequency",
        10,
        "\"5x\" is not a duration in whole milliseconds; use for example 30s, 5m, or 1h30m",
    ),
    (
        "timestamp('today') < now",
        11,
        "\"today\" is not a timestamp before 9999-12-30 in whole milliseconds; use for example 2026-01-31T06:00:00Z",
    ),
    (
        "has(item)",
        1,
        "has(…) takes one field, for example has(item.lastSuccess)",
    ),
    // Syntax
    ("", 1, "the expression is empty"),
    (
        "item.failures <",
        16,
        "expected a value, but found the end of the expression",
    ),
    (
        "item.failures < 5)",
        18,
        "expected an operator or the end of the expression, but found \")\"",
    ),
    (
        "item.failures = 5",
        15,
        "unexpected character '='; use == to compare",
    ),
    (
        "item.?lastSuccess == now",
        6,
        "\".?\" is not supported; use has(…) and a condition",
    ),
    ("item.name == 'a", 14, "the string has no closing quote"),
    (
        "item.frequency > 5m",
        18,
        "5m is not a number; write a number without letters, or a duration such as duration('90m')",
    ),
    (
        "item.runs > 9223372036854775808",
        13,
        "the number 9223372036854775808 is out of range",
    ),
    (
        "item.settings == {}",
        18,
        "unexpected character '{'; maps are not supported",
    ),
];

#[test]
fn rejected_expressions_report_the_position_and_the_fix() {
    for (condition, column, message) in REJECTED {
        let rejected = check(condition).expect_err(condition);
        let expected = format!("eligible, line 1, column {column}: {message}");
        assert!(
            rejected.starts_with(&expected),
            "{condition}\n{rejected}\n{expected}"
        );
    }
}

#[test]
fn positions_count_lines_and_characters() {
    let rejected = check("// Zürich\n'ü' == 'ü' &&\n  item.failurs < 5");
    let message = "eligible, line 3, column 8: item has no field";
    assert!(rejected.unwrap_err().starts_with(message));
    let rejected = check("'ü' == failures");
    let message = "eligible, line 1, column 8: unknown name";
    assert!(rejected.unwrap_err().starts_with(message));
}

/// Other settings, and the beginning of the message.
const INVALID: [(&str, &str); 10] = [
    ("[]", "the settings are []; they must be a JSON object"),
    (
        r#"{"eligable": "true"}"#,
        "unknown setting \"eligable\" with the value \"true\"; did you mean \"eligible\"?",
    ),
    (
        r#"{"sort": []}"#,
        "unknown setting \"sort\" with the value a list of 0 values; the settings are eligible, orderBy, note, and recheck",
    ),
    (
        r#"{"eligible": true}"#,
        "eligible is true; it must be an expression in quotes, such as \"item.failures < 5\"",
    ),
    (
        r#"{"note": "item.runs"}"#,
        "note, line 1, column 1: the expression must be a string, such as string(item.runs), but its type is int",
    ),
    (
        r#"{"orderBy": "item.runs"}"#,
        "orderBy is \"item.runs\"; it must be a list of at most 8 expressions, such as [\"item.lastSuccess\"]",
    ),
    (
        r#"{"orderBy": ["item.runs", 1]}"#,
        "orderBy[1] is 1; it must be an expression in quotes",
    ),
    (
        r#"{"orderBy": ["item"]}"#,
        "orderBy[0], line 1, column 1: the expression must be a value with an order",
    ),
    (
        r#"{"recheck": "0s"}"#,
        "recheck is \"0s\"; it must be a duration from 1s to 24h",
    ),
    (
        r#"{"recheck": "soon"}"#,
        "recheck is \"soon\"; it must be a duration from 1s to 24h",
    ),
];

#[test]
fn invalid_settings_are_rejected_with_the_fix() {
    for (settings, message) in INVALID {
        let rejected = validate(settings, &[]).expect_err(settings);
        assert!(rejected.starts_with(message), "{settings}\n{rejected}");
    }
}

proptest! {
    #[test]
    fn check_never_panics(text in any::<String>()) {
        let _ = check(&text);
        let _ = validate(&text, &[]);
    }

    #[test]
    fn check_of_similar_text_never_panics(
        parts in prop::collection::vec(prop::sample::select(PARTS), 0..60),
    ) {
        let _ = check(&parts.concat());
    }

    #[test]
    fn check_of_cut_and_changed_text_never_panics(at in 0_usize..120, inserted in ".{0,2}") {
        let mut text = "item.failures < 5 && (!item.name.startsWith('n\\u00e9') || \
                        now.getHours('Europe/Berlin') >= 22) ? 1.5e3 : -0x1f".to_owned();
        text.insert_str(at.min(text.len()), &inserted);
        let _ = check(&text);
        let cut: String = text.chars().take(at).collect();
        let _ = check(&cut);
    }
}

const PARTS: &[&str] = &[
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
    "/",
    "%",
    "!",
    "&&",
    "||",
    "==",
    "<",
    " in ",
    "?",
    ":",
    ",",
    "1",
    "9223372036854775808",
    "2.5",
    "1e999",
    "0x",
    "'a'",
    "'",
    "\"",
    "\\",
    "r'",
    "null",
    "has",
    "string",
    "getHours",
    "//",
    "\n",
    " ",
    "é",
    "\u{200b}",
];
