//! Tests defaults, overrides, and error messages of settings.

use policy_backoff::{Backoff, Settings, select, validate};
use policy_sdk::{Item, ItemSettings, Request};

const MINUTE: u64 = 60_000;

fn of_group(json: &str) -> Result<Backoff, String> {
    Settings::of_group(json)?.effective("b", None)
}

#[test]
fn defaults_adjust_to_the_other_setting() {
    let minutes = |base, max| Backoff {
        base: base * MINUTE,
        factor: 2.0,
        max: max * MINUTE,
        jitter: 0.0,
    };
    let cases = [
        ("{}", minutes(1, 60)),
        (r#"{"base": "5m"}"#, minutes(5, 60)),
        (r#"{"base": "1h 30m"}"#, minutes(90, 90)),
        (r#"{"max": "2h"}"#, minutes(1, 120)),
        (r#"{"base": "0s"}"#, minutes(0, 60)),
        (r#"{"max": "0s"}"#, minutes(0, 0)),
        (
            r#"{"factor": 3, "jitter": 0.25}"#,
            Backoff {
                factor: 3.0,
                jitter: 0.25,
                ..minutes(1, 60)
            },
        ),
    ];
    for (json, expected) in cases {
        assert_eq!(of_group(json), Ok(expected), "{json}");
    }
}

#[test]
fn item_settings_override_group_settings() {
    let item = |json| Settings::of_group(r#"{"base": "5m", "factor": 3}"#)?.effective("b", json);
    let group = Backoff {
        base: 5 * MINUTE,
        factor: 3.0,
        max: 60 * MINUTE,
        jitter: 0.0,
    };
    assert_eq!(item(None), Ok(group));
    assert_eq!(item(Some("{}")), Ok(group));
    let base = MINUTE;
    assert_eq!(
        item(Some(r#"{"base": "1m"}"#)),
        Ok(Backoff { base, ..group })
    );
    let error = item(Some(r#"{"max": "1m"}"#)).unwrap_err();
    assert_eq!(
        error,
        r#"item "b": max is 1m, which is less than base, 5m; max must be at least base"#
    );
}

#[test]
fn invalid_group_settings_are_rejected_even_if_items_override_them() {
    let mut request = Request::at(0).with(Item::named("b"));
    request.settings = r#"{"base": "5m", "max": "1m"}"#.into();
    request.items[0].settings = Some(r#"{"max": "1h"}"#.into());
    assert!(select(&request).is_err());
}

/// Invalid settings and their error messages.
const INVALID: [(&str, &str); 15] = [
    (
        "[]",
        "the settings are []; they must be a JSON object of strings, numbers, and booleans, such as {}",
    ),
    (
        "",
        "the settings are ; they must be a JSON object of strings, numbers, and booleans, such as {}",
    ),
    (
        r#"{"bse": "1m"}"#,
        r#"unknown setting "bse"; use base, factor, max, jitter"#,
    ),
    (
        r#"{"base": 60}"#,
        r#"base is 60; it must be a duration of at most 100years in quotes, such as "5m" or "1h 30m""#,
    ),
    (
        r#"{"base": "60"}"#,
        r#"base is "60"; it must be a duration of at most 100years in quotes, such as "5m" or "1h 30m""#,
    ),
    (
        r#"{"base": "-1m"}"#,
        r#"base is "-1m"; it must be a duration of at most 100years in quotes, such as "5m" or "1h 30m""#,
    ),
    (
        r#"{"max": "101years"}"#,
        r#"max is "101years"; it must be a duration of at most 100years in quotes, such as "5m" or "1h 30m""#,
    ),
    (
        r#"{"base": "5m", "max": "1m"}"#,
        "max is 1m, which is less than base, 5m; max must be at least base",
    ),
    (
        r#"{"factor": 0.5}"#,
        "factor is 0.5; it must be a number from 1 to 1000 with at most three decimals",
    ),
    (
        r#"{"factor": 1.0625}"#,
        "factor is 1.0625; it must be a number from 1 to 1000 with at most three decimals",
    ),
    (
        r#"{"factor": "2"}"#,
        r#"factor is "2"; it must be a number from 1 to 1000 with at most three decimals"#,
    ),
    (
        r#"{"factor": null}"#,
        "factor is null; it must be a number from 1 to 1000 with at most three decimals",
    ),
    (
        r#"{"jitter": -0.1}"#,
        "jitter is -0.1; it must be a number from 0 to 1 with at most three decimals",
    ),
    (
        r#"{"jitter": 1.5}"#,
        "jitter is 1.5; it must be a number from 0 to 1 with at most three decimals",
    ),
    (
        r#"{"jitter": true}"#,
        "jitter is true; it must be a number from 0 to 1 with at most three decimals",
    ),
];

#[test]
fn invalid_settings_are_rejected_with_the_fix() {
    for (json, message) in INVALID {
        assert_eq!(validate(json, &[]), Err(message.to_owned()), "{json}");
    }
}

#[test]
fn invalid_item_settings_name_the_item() {
    for (json, message) in INVALID {
        let name = "b".to_owned();
        let settings = json.to_owned();
        let rejected = validate("{}", &[ItemSettings { name, settings }]).unwrap_err();
        assert_eq!(rejected, format!(r#"item "b": {message}"#), "{json}");
    }
}

#[test]
fn select_returns_the_message_of_validate() {
    for (json, message) in INVALID {
        let mut request = Request::at(0).with(Item::named("b"));
        request.settings = json.to_owned();
        assert_eq!(select(&request), Err(message.to_owned()), "{json}");

        let mut request = Request::at(0).with(Item::named("b"));
        request.items[0].settings = Some(json.to_owned());
        let name = "b".to_owned();
        let settings = json.to_owned();
        let rejected = validate("{}", &[ItemSettings { name, settings }]);
        assert_eq!(select(&request).map(|_| ()), rejected, "{json}");
    }
}
