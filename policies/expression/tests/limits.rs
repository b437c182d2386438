//! Tests each limit of the README: the largest accepted value, and the smallest rejected one.

use policy_expression::{MAX_COST, MAX_DEPTH, MAX_ITEM_SETTINGS, MAX_LENGTH, select, validate};
use policy_sdk::{Item, Request};
use serde_json::json;

fn check(condition: &str) -> Result<(), String> {
    validate(&json!({"eligible": condition}).to_string(), &[])
}

#[test]
fn expression_length_is_limited() {
    let longest = format!("{}true", " ".repeat(MAX_LENGTH - 4));
    check(&longest).unwrap();
    assert_eq!(
        check(&format!(" {longest}")).unwrap_err(),
        "eligible, line 1, column 1: the expression has 2049 bytes; use at most 2048"
    );
}

#[test]
fn expression_nesting_is_limited() {
    for (open, value, close) in [
        ("(", "true", ")"),
        ("!", "true", ""),
        ("true ? true : ", "true", ""),
    ] {
        let nested = |levels: usize| {
            let levels = levels - 1;
            format!("{}{value}{}", open.repeat(levels), close.repeat(levels))
        };
        check(&nested(MAX_DEPTH)).unwrap();
        let rejected = check(&nested(MAX_DEPTH + 1)).unwrap_err();
        let message = ": the expression is nested more than 48 levels deep; simplify it";
        assert!(
            rejected.starts_with("eligible, line 1, column ") && rejected.ends_with(message),
            "{rejected}"
        );
    }
}

#[test]
fn other_nesting_is_limited_too() {
    for part in ["[", "-", "size(", "1 - ", "item.settings["] {
        let deep = part.repeat(MAX_LENGTH / part.len()) + "1";
        let rejected = check(&deep[..deep.len().min(MAX_LENGTH)]).unwrap_err();
        assert!(
            rejected.contains("nested more than 48 levels"),
            "{part}: {rejected}"
        );
    }
}

#[test]
fn number_of_expressions_in_order_by_is_limited() {
    let of_length = |length| json!({"orderBy": vec!["item.runs"; length]}).to_string();
    validate(&of_length(8), &[]).unwrap();
    assert_eq!(
        validate(&of_length(9), &[]).unwrap_err(),
        "orderBy is a list of 9 values; it must be a list of at most 8 expressions, such as \
         [\"item.lastSuccess\"]"
    );
}

#[test]
fn recheck_is_limited() {
    let of = |recheck: &str| validate(&json!({"recheck": recheck}).to_string(), &[]);
    for accepted in ["1s", "24h"] {
        of(accepted).unwrap();
    }
    for rejected in ["999ms", "24h1ms"] {
        assert_eq!(
            of(rejected).unwrap_err(),
            format!("recheck is {rejected:?}; it must be a duration from 1s to 24h")
        );
    }
}

/// Returns a condition with the largest accepted cost.
fn most_expensive() -> String {
    format!(
        "{}{}",
        "true && ".repeat(131),
        ["group.size > 0"; 6].join(" && ")
    )
}

#[test]
fn expression_cost_is_limited() {
    check(&most_expensive()).unwrap();
    assert_eq!(
        check(&format!("!({})", most_expensive())).unwrap_err(),
        format!(
            "eligible, line 1, column 1: this part uses about 25080 fuel for each item; use at most \
             {MAX_COST} in all expressions together: shorten it, or write a policy as a component"
        )
    );
    let list = ["1"; 100].join(", ");
    let rejected = check(&format!("item.runs > 1\n|| size([{list}]) > 0"));
    let message = "eligible, line 2, column 9: this part uses about 28300 fuel";
    assert!(
        rejected.clone().unwrap_err().starts_with(message),
        "{rejected:?}"
    );
}

#[test]
fn total_cost_of_expressions_is_limited() {
    let of = |order: &[&str]| {
        validate(
            &json!({"eligible": most_expensive(), "orderBy": order}).to_string(),
            &[],
        )
    };
    of(&[]).unwrap();
    assert_eq!(
        of(&["true"]).unwrap_err(),
        format!(
            "eligible: all expressions together use about 25080 fuel for each item, and this one uses \
             25000; use at most {MAX_COST}: shorten it, or write a policy as a component"
        )
    );
}

/// Returns the message of an item with these settings. `None` if the condition is met.
fn message(condition: &str, settings: String) -> Option<String> {
    let mut request = Request::at(0).with(Item::named("a"));
    request.settings = json!({"eligible": condition}).to_string();
    request.items[0].settings = Some(settings);
    let decision = select(&request).expect("the settings are valid");
    decision.verdicts.into_iter().next()?.note
}

#[test]
fn size_of_item_settings_is_limited() {
    let of_length = |length: usize| {
        let settings = json!({"a": ""}).to_string();
        let text = "x".repeat(length - settings.len());
        message("has(item.settings.a)", json!({"a": text}).to_string())
    };
    assert_eq!(of_length(MAX_ITEM_SETTINGS), None);
    assert_eq!(
        of_length(MAX_ITEM_SETTINGS + 1).unwrap(),
        "eligible failed: item.settings: the settings of the item are longer than 4096 bytes, or \
         have too many values; shorten them"
    );
}

const TOO_MUCH_WORK: &str = "the text or the list is too long for an item";

#[test]
fn number_of_compared_elements_is_limited() {
    let of_length = |length: usize| {
        let settings = json!({"tags": vec![1; length]}).to_string();
        message("item.settings.tags == item.settings.tags", settings)
    };
    assert_eq!(of_length(13), None);
    assert!(of_length(14).unwrap().ends_with(TOO_MUCH_WORK));
}

#[test]
fn length_of_processed_text_is_limited() {
    let of_length = |length: usize| {
        let settings = json!({"text": "x".repeat(length)}).to_string();
        message("item.settings.text.startsWith('x')", settings)
    };
    assert_eq!(of_length(64 + 499), None);
    assert!(of_length(64 + 500).unwrap().ends_with(TOO_MUCH_WORK));
}

#[test]
fn parsed_duration() {
    let of_length = |length: usize| {
        let settings = json!({"text": format!("{}1s", "0".repeat(length - 2))}).to_string();
        message("duration(item.settings.text) > duration('0s')", settings)
    };
    assert_eq!(of_length(12 + 23), None);
    assert!(of_length(12 + 24).unwrap().ends_with(TOO_MUCH_WORK));
}

#[test]
fn only_numbers_are_converted_to_doubles() {
    let converted = |text: &str| {
        let settings = json!({"text": text}).to_string();
        message("double(item.settings.text) < 100.0", settings)
    };
    for text in ["1.5", "12", "-1e3"] {
        assert_eq!(converted(text), None, "{text}");
    }
    for text in ["", "[1]", "{}", "null", "true"] {
        assert_eq!(
            converted(text).unwrap(),
            format!("eligible failed: double(item.settings.text): \"{text}\" is not a number")
        );
    }
}
