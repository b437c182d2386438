use super::*;
use crate::Timestamp;
use serde_json::json;

fn spec(more: serde_json::Value) -> OaatGroupSpec {
    let mut whole = json!({"oaatType": "t", "oaatItems": ["a"]});
    if let (Some(whole), Some(more)) = (whole.as_object_mut(), more.as_object()) {
        whole.extend(more.clone());
    }
    serde_json::from_value(whole).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn omitted_fields_have_their_defaults() {
    let valid = validate(&spec(json!({})));
    assert_eq!(
        valid,
        Ok(ValidatedGroup {
            start_timeout: Some(Duration::from_secs(900)),
            pod_retention: Duration::from_secs(43200),
            pod_history_limit: 100,
            windows: Vec::new(),
            sources: Vec::new(),
            defaults: ItemRules {
                recurrence: Recurrence::Frequency(Duration::from_secs(3600)),
                cool_off: Duration::ZERO,
                run_timeout: Duration::ZERO,
                max_failures: None,
                suspended: false,
            },
            items: BTreeMap::new(),
        })
    );
}

#[test]
fn durations_are_parsed() {
    for (text, seconds) in [
        ("5m", 300),
        ("1h 30m", 5400),
        ("2days", 172_800),
        (" 90s ", 90),
    ] {
        let valid = validate(&spec(json!({"frequency": text})));
        assert_eq!(
            valid.map(|v| v.defaults.recurrence),
            Ok(Recurrence::Frequency(Duration::from_secs(seconds))),
            "{text}"
        );
    }
    let never = validate(&spec(json!({"startTimeout": "0s"})));
    assert_eq!(never.map(|v| v.start_timeout), Ok(None));
}

#[test]
fn errors_name_the_field_and_the_value() {
    let cases = [
        (
            json!({"frequency": "banana"}),
            vec!["frequency", "banana", "5m"],
        ),
        (json!({"frequency": "0s"}), vec!["frequency", "0s"]),
        (
            json!({"frequency": "100000y"}),
            vec!["frequency", "100000y", "at most 100years"],
        ),
        (
            json!({"frequency": "99999999999999999999y"}),
            vec!["frequency", "999"],
        ),
        (
            json!({"podRetention": "18446744073709551615s 1000ms"}),
            vec!["podRetention", "at most 100years"],
        ),
        (
            json!({"failureCoolOff": "-5m"}),
            vec!["failureCoolOff", "-5m"],
        ),
        (
            json!({"podHistoryLimit": -1}),
            vec!["podHistoryLimit", "-1"],
        ),
        (
            json!({"blackoutWindows": [{"schedule": "0 0 * * *", "duration": "never"}]}),
            vec!["blackoutWindows[0].duration", "never", "5m"],
        ),
        (
            json!({"blackoutWindows": [{"schedule": "0 0 * * *", "duration": "2y"}]}),
            vec!["blackoutWindows[0].duration", "2y", "at most one year"],
        ),
        (
            json!({"blackoutWindows": [{"schedule": "0 25 * * *", "duration": "1h"}]}),
            vec!["blackoutWindows[0].schedule", "0 25 * * *", "five fields"],
        ),
        (
            json!({"itemOptions": {"a": {"frequency": "soon"}}}),
            vec![r#"itemOptions["a"].frequency"#, "soon", "5m"],
        ),
        (
            json!({"schedule": {"cron": "0 25 * * *"}}),
            vec!["spec.schedule.cron", "0 25 * * *", "five fields"],
        ),
        (
            json!({"schedule": {"cron": "0 2 * * *"}, "frequency": "1h"}),
            vec!["spec.schedule: cannot be combined with frequency"],
        ),
        (
            json!({"itemOptions": {"a": {"schedule": {"cron": "0 2 * * *", "timeZone": "X"}}}}),
            vec![r#"itemOptions["a"].schedule.timeZone"#, "Europe/Berlin"],
        ),
        (
            json!({"itemOptions": (0..101).map(|n| {
                let cron = format!("{} {} * * *", n % 60, n / 60);
                (n.to_string(), json!({"schedule": {"cron": cron}}))
            }).collect::<serde_json::Map<_, _>>()}),
            vec!["100", "several groups"],
        ),
        (
            json!({"itemOptions": (0..200).map(|n| {
                let cron = format!("{} {} 31 2 *", n % 60, n / 60);
                (n.to_string(), json!({"schedule": {"cron": cron}}))
            }).collect::<serde_json::Map<_, _>>()}),
            vec!["never occurs"],
        ),
        (
            json!({"maxFailures": 0}),
            vec!["spec.maxFailures", "1 or more"],
        ),
        (
            json!({"itemOptions": {"a": {"env": [{"name": "OAAT_ITEM"}]}}}),
            vec![r#"itemOptions["a"].env[0]"#, "set by the operator"],
        ),
        (
            json!({"itemOptions": {"a": {"env": [{"name": "X"}, {"name": "X"}]}}}),
            vec![r#"itemOptions["a"].env[1]"#, "twice"],
        ),
        (
            json!({"oaatItems": ["a", "b", "a"]}),
            vec!["oaatItems[2]", "twice"],
        ),
        (
            json!({"oaatItems": [""]}),
            vec!["oaatItems[0]", "1 to 300 characters"],
        ),
        (
            json!({"oaatItems": ["a\nb"]}),
            vec!["oaatItems[0]", "control"],
        ),
        (json!({"oaatItems": vec!["x"; 2001]}), vec!["2001", "2000"]),
        (
            json!({"oaatItems": (0..1200).map(|i| format!("{i:0300}")).collect::<Vec<_>>()}),
            vec!["360000 bytes", "120000"],
        ),
    ];
    for (more, words) in cases {
        let problems = summary(&validate(&spec(more.clone())).err().unwrap_or_default());
        for word in words {
            assert!(problems.contains(word), "{more}: {problems}");
        }
    }
}

#[test]
fn item_options_override_the_group() {
    let options = json!({
        "frequency": "2h", "failureCoolOff": "1m", "runTimeout": "6h",
        "itemOptions": {
            "a": { "frequency": "5m" }, "b": { "suspend": true, "runTimeout": "0s" }, "c": {},
        },
    });
    let rules = |frequency: u64, hours: u64, suspended: bool| ItemRules {
        recurrence: Recurrence::Frequency(Duration::from_secs(frequency)),
        cool_off: Duration::from_secs(60),
        run_timeout: Duration::from_secs(hours * 3600),
        max_failures: None,
        suspended,
    };
    let valid = validate(&spec(options.clone())).unwrap_or_else(|e| panic!("{e:?}"));
    assert_eq!(valid.rules("a"), &rules(300, 6, false));
    assert_eq!(valid.rules("b"), &rules(7200, 0, true));
    assert_eq!(valid.rules("c"), &rules(7200, 6, false));
    assert_eq!(valid.items.len(), 2);
    let mut once = options;
    once["eachOnce"] = json!(true);
    let valid = validate(&spec(once)).unwrap_or_else(|e| panic!("{e:?}"));
    assert_eq!(valid.rules("a").recurrence, Recurrence::Once);
    assert_eq!(valid.defaults.recurrence, Recurrence::Once);
}

#[test]
fn item_option_takes_precedence_over_frequency_and_schedule_of_the_group() {
    let daily = json!({ "cron": "0 2 * * *", "timeZone": "Europe/Berlin" });
    let valid = validate(&spec(json!({
        "schedule": daily, "maxFailures": 3,
        "itemOptions": {
            "a": { "schedule": daily },
            "b": { "frequency": "5m", "maxFailures": 1 },
            "c": { "schedule": { "cron": "0 3 * * *" } },
        },
    })));
    let valid = valid.unwrap_or_else(|e| panic!("{e:?}"));
    assert_eq!(valid.rules("a"), &valid.defaults);
    let five_minutes = Recurrence::Frequency(Duration::from_secs(300));
    assert_eq!(valid.rules("b").recurrence, five_minutes);
    assert_eq!(valid.rules("b").max_failures, Some(1));
    let Recurrence::Schedule(schedule) = &valid.rules("c").recurrence else {
        panic!("{valid:?}");
    };
    let two = Timestamp(2 * 3_600_000);
    assert_eq!(
        schedule.next_match_after(two),
        Some(Timestamp(3 * 3_600_000))
    );
    assert_eq!(valid.rules("c").max_failures, Some(3));
}

#[test]
fn suspend_is_read_from_the_spec_and_the_annotation() {
    let group = |spec: serde_json::Value, annotation: Option<&str>| {
        let mut group = OaatGroup::new("g", self::spec(spec));
        group.metadata.annotations =
            annotation.map(|value| [(PAUSED.to_owned(), value.to_owned())].into());
        suspended(&group).is_some()
    };
    assert!(group(json!({"suspend": true}), None));
    assert!(!group(json!({"suspend": false}), None));
    for (value, paused) in [("yes", true), ("true", true), ("No", false), ("", false)] {
        assert_eq!(group(json!({}), Some(value)), paused, "{value}");
    }
}

#[test]
fn errors_are_reported_together() {
    let problems = validate(&spec(json!({"frequency": "x", "podRetention": "y"})));
    assert_eq!(problems.map_err(|p| p.len()), Err(2));
}
