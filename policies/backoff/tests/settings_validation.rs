//! Settings: what they mean, and what is said of bad ones.

use policy_backoff::{Backoff, Settings, select, validate};
use policy_sdk::{Item, ItemSettings, Request};

const MINUTE: u64 = 60_000;

fn of_group(json: &str) -> Result<Backoff, String> {
    Settings::of_group(json)?.in_force("b", None)
}

#[test]
fn what_is_not_given_has_a_default_that_gives_way() {
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
fn an_items_settings_lie_over_those_of_its_group() {
    let item = |json| Settings::of_group(r#"{"base": "5m", "factor": 3}"#)?.in_force("b", json);
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
fn bad_settings_of_a_group_are_refused_although_each_item_has_its_own() {
    let mut request = Request::at(0).with(Item::named("b"));
    request.settings = r#"{"base": "5m", "max": "1m"}"#.into();
    request.items[0].settings = Some(r#"{"max": "1h"}"#.into());
    assert!(select(&request).is_err());
}

/// Settings, and what is said of them.
const BAD: [(&str, &str); 14] = [
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
        r#"the setting "bse" is unknown and was given "1m"; the settings are base, factor, max and jitter"#,
    ),
    (
        r#"{"base": 60}"#,
        r#"base is 60; it must be a duration in quotes, such as "5m" or "1h 30m""#,
    ),
    (
        r#"{"base": "60"}"#,
        r#"base is "60", which is no duration (time unit needed, for example 60sec or 60ms); write it like 30s, 5m or 1h 30m"#,
    ),
    (
        r#"{"base": "-1m"}"#,
        r#"base is "-1m", which is no duration (expected number at 0); write it like 30s, 5m or 1h 30m"#,
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
fn bad_settings_are_refused_with_the_way_out() {
    for (json, words) in BAD {
        assert_eq!(validate(json, &[]), Err(words.to_owned()), "{json}");
    }
}

#[test]
fn bad_settings_of_an_item_name_the_item() {
    for (json, words) in BAD {
        let name = "b".to_owned();
        let settings = json.to_owned();
        let refused = validate("{}", &[ItemSettings { name, settings }]).unwrap_err();
        assert_eq!(refused.replace(r#" of item "b""#, ""), words, "{json}");
        assert_ne!(refused, words, "{json}");
    }
}

#[test]
fn a_decision_says_of_bad_settings_what_validate_says() {
    for (json, words) in BAD {
        let mut request = Request::at(0).with(Item::named("b"));
        request.settings = json.to_owned();
        assert_eq!(select(&request), Err(words.to_owned()), "{json}");

        let mut request = Request::at(0).with(Item::named("b"));
        request.items[0].settings = Some(json.to_owned());
        let name = "b".to_owned();
        let settings = json.to_owned();
        let refused = validate("{}", &[ItemSettings { name, settings }]);
        assert_eq!(select(&request).map(|_| ()), refused, "{json}");
    }
}
