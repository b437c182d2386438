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
        r#"max of item "b" is 1m, which is less than base, 5m; max must be at least base"#
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
const INVALID: [(&str, &str); 14] = [
    (
        "[]",
        r#"the settings are []; they must be a JSON object, such as {"base": "1m"}"#,
    ),
    (
        "",
        r#"the settings are ; they must be a JSON object, such as {"base": "1m"}"#,
    ),
    (
        r#"{"bse": "1m"}"#,
        r#"unknown setting "bse" with the value "1m"; the settings are base, factor, max, and jitter"#,
    ),
    (
        r#"{"base": 60}"#,
        r#"base is 60; it must be a duration in quotes, such as "5m" or "1h 30m""#,
    ),
    (
        r#"{"base": "60"}"#,
        r#"base is "60", which is not a duration (time unit needed, for example 60sec or 60ms); use for example 30s, 5m, or 1h 30m"#,
    ),
    (
        r#"{"base": "-1m"}"#,
        r#"base is "-1m", which is not a duration (expected number at 0); use for example 30s, 5m, or 1h 30m"#,
    ),
    (
        r#"{"max": "101years"}"#,
        r#"max is "101years"; it must be at most 100years"#,
    ),
    (
        r#"{"base": "5m", "max": "1m"}"#,
        "max is 1m, which is less than base, 5m; max must be at least base",
    ),
    (
        r#"{"factor": 0.5}"#,
        "factor is 0.5; it must be a number of at least 1",
    ),
    (
        r#"{"factor": "2"}"#,
        r#"factor is "2"; it must be a number of at least 1"#,
    ),
    (
        r#"{"factor": null}"#,
        "factor is null; it must be a number of at least 1",
    ),
    (
        r#"{"jitter": -0.1}"#,
        "jitter is -0.1; it must be a number from 0 to 1",
    ),
    (
        r#"{"jitter": 1.5}"#,
        "jitter is 1.5; it must be a number from 0 to 1",
    ),
    (
        r#"{"jitter": true}"#,
        "jitter is true; it must be a number from 0 to 1",
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
        assert_eq!(rejected.replace(r#" of item "b""#, ""), message, "{json}");
        assert_ne!(rejected, message, "{json}");
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
