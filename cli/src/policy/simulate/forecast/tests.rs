use super::*;
use crate::views::test_groups::{NOW, backup, group, time, with_accepted_settings};
use oaat_api::{BuiltInPolicy, run_now};
use policy_host::{Host, Limits};
use serde_json::json;

fn forecast(group: &OaatGroup, hours: u64) -> Forecast {
    forecast_with(built_in_policies::DEFAULT_POLICY, group, hours)
}

fn forecast_with(component: &[u8], group: &OaatGroup, hours: u64) -> Forecast {
    let host = Host::new(Limits::default()).unwrap();
    let policy = host.load(component, None).unwrap();
    let length = Duration::from_secs(hours * 3600);
    let listed = group.spec.oaat_items.clone();
    Forecast::new(group, &listed, &policy, NOW, length, |_| None).unwrap()
}

fn starts(forecast: &Forecast) -> Vec<(String, String)> {
    let starts = forecast.view().starts.into_iter();
    starts
        .map(|start| (start.item, start.at.to_string()))
        .collect()
}

#[test]
fn live_group_continues_from_its_status() {
    let forecast = forecast(&backup(), 2);
    let view = forecast.view();
    // photos runs since 11:55 and takes 90 seconds, so it ends now.
    assert_eq!(view.from, NOW);
    assert_eq!(
        view.assumptions,
        [
            "photos ends at 2026-03-02T12:00:00Z",
            "the durations of 4 items are unknown, and each run of them takes 1m 30s",
            "all runs succeed",
        ]
    );
    let expected = [
        // It is the only one that is due and not cooling off.
        ("late", "2026-03-02T12:00:00Z"),
        ("broken", "2026-03-02T12:10:00Z"),
        ("mail", "2026-03-02T12:30:00Z"),
        ("photos", "2026-03-02T13:00:00Z"),
        ("late", "2026-03-02T13:01:30Z"),
        ("broken", "2026-03-02T13:11:30Z"),
        ("mail", "2026-03-02T13:31:30Z"),
    ]
    .map(|(item, at)| (item.to_owned(), at.to_owned()));
    assert_eq!(starts(&forecast), expected);
    // The suspended item is neither late nor starved.
    let late: Vec<_> = view
        .late
        .iter()
        .map(|late| (late.item.as_str(), late.seconds))
        .collect();
    assert_eq!(late, [("late", 900), ("broken", 600)]);
    assert_eq!(view.starved, [""; 0]);
    let text = forecast.text(80);
    for words in [
        "backup in media, 2026-03-02T12:00:00Z to 2026-03-02T14:00:00Z",
        "assumes that all runs succeed",
        "2026-03-02T12:30:00Z  mail for 1m",
        "late: late by up to 15m",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let svg = forecast.svg();
    assert!(roxmltree::Document::parse(&svg).is_ok(), "{svg}");
    assert!(svg.contains("Forecast of backup in media"), "{svg}");
}

#[test]
fn settings_that_the_policy_accepted_last_decide() {
    let backoff = built_in_policies::component(BuiltInPolicy::Backoff);
    let forecast = forecast_with(backoff, &with_accepted_settings(), 1);
    let assumption = &forecast.view().assumptions[0];
    assert!(assumption.starts_with("backoff decides with the settings that it accepted"));
    let text = forecast.text(80);
    assert!(
        text.contains(&format!("assumes that {assumption}\n")),
        "{text}"
    );
    // It failed 3 times, last at 11:50, and the accepted `base` is 10 minutes.
    let broken = ("broken".to_owned(), "2026-03-02T12:30:00Z".to_owned());
    assert!(
        starts(&forecast).contains(&broken),
        "{:?}",
        starts(&forecast)
    );
}

#[test]
fn schedules_and_windows_are_simulated() {
    let spec = json!({
        "oaatType": "t", "oaatItems": ["a", "b"], "schedule": { "cron": "0 13,15 * * *" },
        "itemOptions": { "b": { "frequency": "30m" } },
        "blackoutWindows": [{ "name": "lunch", "schedule": "0 13 * * *", "duration": "1h" }],
    });
    let success = json!({ "lastSuccess": "2026-03-02T11:59:00Z", "durations": [60] });
    let group = group(&spec, &json!({ "items": { "a": success, "b": success } }));
    let expected = [
        ("b", "2026-03-02T12:29:00Z"),
        // Due at 13:00, in the window.
        ("a", "2026-03-02T14:00:00Z"),
        ("b", "2026-03-02T14:01:00Z"),
        ("b", "2026-03-02T14:32:00Z"),
        ("a", "2026-03-02T15:00:00Z"),
        ("b", "2026-03-02T15:03:00Z"),
        ("b", "2026-03-02T15:34:00Z"),
    ]
    .map(|(item, at)| (item.to_owned(), at.to_owned()));
    assert_eq!(starts(&forecast(&group, 4)), expected);
}

#[test]
fn group_without_a_status_starts_with_unknown_durations() {
    let spec = json!({ "oaatType": "t", "oaatItems": ["a"], "eachOnce": true, "suspend": true });
    let forecast = forecast(&group(&spec, &json!({})), 1);
    let view = forecast.view();
    assert_eq!(view.starts.len(), 1, "{view:?}");
    assert_eq!(view.starts[0].at, time("2026-03-02T12:00:00Z"));
    assert_eq!(view.assumptions[0], "the group is resumed now");
    assert_eq!(
        view.assumptions[1],
        "the durations of 1 item are unknown, and each run of them takes 1m"
    );
}

#[test]
fn requested_item_starts_first_and_runs_fit_before_a_window() {
    let spec = json!({
        "oaatType": "t", "oaatItems": ["a", "b", "c", "off"], "frequency": "1d",
        "itemOptions": { "off": { "suspend": true } },
        "blackoutWindows": [
            { "schedule": "10 12 * * *", "duration": "1h", "startIfFits": true },
        ],
    });
    let status = json!({ "items": {
        // Takes up to 20 minutes, so it does not fit before 12:10.
        "a": { "lastSuccess": "2026-03-01T11:00:00Z", "durations": [60, 1200, 60] },
        "b": { "lastSuccess": "2026-03-01T12:00:00Z", "durations": [120] },
        "c": { "lastSuccess": "2026-03-02T11:00:00Z", "durations": [60] },
    } });
    let mut group = group(&spec, &status);
    let request = r#"{"token": "t", "items": ["off", "c"]}"#;
    let annotations = [(run_now::ANNOTATION.to_owned(), request.to_owned())];
    group.metadata.annotations = Some(annotations.into());
    let forecast = forecast(&group, 3);
    let expected = [
        ("c", "2026-03-02T12:00:00Z"),
        ("b", "2026-03-02T12:01:00Z"),
        ("a", "2026-03-02T13:10:00Z"),
    ]
    .map(|(item, at)| (item.to_owned(), at.to_owned()));
    assert_eq!(starts(&forecast), expected);
    let note = forecast.view().starts[0].note.clone();
    assert_eq!(note.as_deref(), Some("requested to run now"));
}
