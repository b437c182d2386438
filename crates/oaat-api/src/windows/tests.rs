//! Blackouts, compared with a reference that steps through every minute and has its own matcher.

use super::*;
use crate::cron_schedule::ZONES;
use k8s_openapi::jiff::civil::DateTime;
use k8s_openapi::jiff::tz::TimeZone;
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeSet;

const MINUTE: i64 = 60_000;

fn window(schedule: &str, minutes: i64, zone: &str, more: serde_json::Value) -> Window {
    let mut spec = json!({ "schedule": schedule, "duration": "1m", "timeZone": zone });
    if let (Some(spec), Some(more)) = (spec.as_object_mut(), more.as_object()) {
        spec.extend(more.clone());
    }
    let spec: BlackoutWindow = serde_json::from_value(spec).unwrap();
    Window::read(&spec, Duration::from_secs(60 * minutes as u64)).unwrap()
}

fn at(text: &str) -> Timestamp {
    Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
}

/// Returns whether a number matches a field of a schedule.
fn matches_field(field: &str, number: i64, highest: i64) -> bool {
    field.split(',').any(|part| {
        let (range, step) = part.split_once('/').unwrap_or((part, "1"));
        let step: i64 = step.parse().unwrap();
        let (low, high) = match range.split_once('-') {
            _ if range == "*" => (0, highest),
            Some((low, high)) => (low.parse().unwrap(), high.parse().unwrap()),
            None => (range.parse().unwrap(), range.parse().unwrap()),
        };
        let first = if range == "*" && highest < 32 && highest != 23 && highest != 6 {
            1
        } else {
            low
        };
        (low..=high).contains(&number) && (number - first) % step == 0
    })
}

fn matches(schedule: &str, local: DateTime) -> bool {
    let fields: Vec<&str> = schedule.split(' ').collect();
    let day = matches_field(fields[2], local.day().into(), 31);
    let weekday = matches_field(fields[4], local.weekday().to_sunday_zero_offset().into(), 6);
    // As in cron: if both are restricted, either may match.
    let days = match (fields[2] == "*", fields[4] == "*") {
        (false, false) => day || weekday,
        _ => day && weekday,
    };
    matches_field(fields[0], local.minute().into(), 59)
        && matches_field(fields[1], local.hour().into(), 23)
        && days
        && matches_field(fields[3], local.month().into(), 12)
}

/// Returns all minutes from `from` to `to` at which a window opens.
fn openings(schedule: &str, zone: &TimeZone, from: i64, to: i64) -> BTreeSet<i64> {
    let local =
        |minute: i64| zone.to_datetime(jiff::Timestamp::from_millisecond(minute * MINUTE).unwrap());
    let mut found = BTreeSet::new();
    let mut before = local(from - 1);
    for minute in from..=to {
        let now = local(minute);
        if matches(schedule, now) {
            found.insert(minute);
        }
        // The minutes that the clocks skip in between.
        let mut skipped = before.checked_add(SignedDuration::from_mins(1)).unwrap();
        while skipped < now {
            if matches(schedule, skipped) {
                found.insert(minute);
            }
            skipped = skipped.checked_add(SignedDuration::from_mins(1)).unwrap();
        }
        before = now;
    }
    found
}

const SCHEDULES: [&str; 14] = [
    "0 1 * * *",
    "30 2 * * *",
    "59 23 * * *",
    "0 0 1 * *",
    "15 3 31 * *",
    "0 22 * * 1-5",
    "30 1 * * 0",
    "*/20 * * * *",
    "5-10 2 * * *",
    "0 */6 * 3,10,11 *",
    "0 4 29 2 *",
    "0 12 13 * 5",
    "45 0-3 * * *",
    "* 2 * * *",
];

const TEST_ZONES: [&str; 8] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
    "America/St_Johns",
    "Africa/Casablanca",
    "Pacific/Apia",
];

/// Times around clock changes, ends of months, leap days, and the day that Samoa skipped; and any
/// others.
fn times() -> impl Strategy<Value = i64> {
    let special = [
        "2024-02-28T12:00:00Z",
        "2025-03-30T00:00:00Z",
        "2025-10-26T00:00:00Z",
        "2026-03-08T06:00:00Z",
        "2026-11-01T05:00:00Z",
        "2026-04-04T15:00:00Z",
        "2026-10-03T15:30:00Z",
        "2025-03-02T02:00:00Z",
        "2011-12-30T10:00:00Z",
        "2027-12-31T22:00:00Z",
    ];
    let special = special.map(|text| at(text).0 / MINUTE);
    let near = (0..special.len(), -2000..2000_i64).prop_map(move |(n, off)| special[n] + off);
    let (from, to) = (at("2008-01-01T00:00:00Z").0, at("2039-12-31T00:00:00Z").0);
    prop_oneof![near, (from / MINUTE..to / MINUTE)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn windows_follow_the_wall_clock(
        which in prop::collection::vec((0..SCHEDULES.len(), 1..3000_i64), 1..4),
        zone in 0..TEST_ZONES.len(),
        now in times(),
        second in 0..60_000_i64,
    ) {
        let name = TEST_ZONES[zone];
        let zone = ZONES.get(name).unwrap();
        let windows: Vec<Window> = which
            .iter()
            .map(|(n, minutes)| window(SCHEDULES[*n], *minutes, name, json!({})))
            .collect();
        let instant = Timestamp(now * MINUTE + second);
        // The reference covers a period in which most blackouts end.
        let (from, to) = (now - 3000, now + 4000);
        let mut open = vec![false; (to - from + 1) as usize];
        let mut opens = BTreeSet::new();
        for (n, minutes) in &which {
            for opening in openings(SCHEDULES[*n], &zone, from, to) {
                opens.insert(opening);
                for minute in opening..(opening + minutes).min(to + 1) {
                    open[(minute - from) as usize] = true;
                }
            }
        }
        let is_open = |minute: i64| open[(minute - from) as usize];
        let expected = is_open(now).then(|| (now..=to).find(|minute| !is_open(*minute)));
        let found = blackout(&windows, instant);
        match expected {
            None => prop_assert_eq!(found, None),
            // The blackout is longer than the period of the reference.
            Some(None) => prop_assert!(found.is_some_and(|found| found.until > instant)),
            Some(Some(end)) => {
                let until = found.map(|found| found.until);
                // A blackout of very many windows may be calculated again before its end.
                let merged = opens.iter().filter(|o| **o > now && **o <= end).count();
                if merged < MAX_MERGED {
                    prop_assert_eq!(until, Some(Timestamp(end * MINUTE)));
                } else {
                    prop_assert!(until.is_some_and(|until| until > instant && until.0 <= end * MINUTE));
                }
            }
        }
        let expected = opens.range(now + 1..).next().map(|minute| minute * MINUTE);
        if let Some(expected) = expected {
            prop_assert_eq!(next(&windows, instant), Some(Timestamp(expected)));
        }
    }
}

#[test]
fn clock_changes_have_the_documented_effect() {
    for (schedule, minutes, zone, open, until) in [
        // Forward: 2:30 is skipped, and the window opens at that moment.
        (
            "30 2 * * *",
            60,
            "Europe/Berlin",
            "2026-03-29T01:00:00Z",
            "2026-03-29T02:00:00Z",
        ),
        // Back: from 1:00 to 3:00 by the wall clock takes three hours.
        (
            "0 1 * * *",
            120,
            "America/New_York",
            "2026-11-01T06:30:00Z",
            "2026-11-01T08:00:00Z",
        ),
        // Across midnight and the end of a month.
        (
            "0 22 * * *",
            480,
            "UTC",
            "2026-02-28T23:00:00Z",
            "2026-03-01T06:00:00Z",
        ),
        // Two windows that touch form one blackout.
        (
            "0 0,8 * * *",
            480,
            "UTC",
            "2026-05-05T07:59:59.999Z",
            "2026-05-05T16:00:00Z",
        ),
        // A clock change by half an hour.
        (
            "0 2 * * *",
            30,
            "Australia/Lord_Howe",
            "2026-10-03T15:30:00Z",
            "2026-10-03T16:00:00Z",
        ),
    ] {
        let windows = [window(schedule, minutes, zone, json!({}))];
        let found = blackout(&windows, at(open)).map(|found| found.until);
        assert_eq!(found, Some(at(until)), "{schedule} {zone}");
        assert_eq!(blackout(&windows, at(until)), None, "{schedule} {zone}");
    }
}

#[test]
fn blackout_stops_runs_only_while_a_stopping_window_is_open() {
    let windows = [
        window("0 0 * * *", 600, "UTC", json!({ "name": "night" })),
        window("0 2 * * *", 60, "UTC", json!({ "running": "Stop" })),
    ];
    let of = |text: &str| blackout(&windows, at(text)).map(|b| (b.stop, b.window));
    assert_eq!(of("2026-01-01T01:00:00Z"), Some((false, "night".into())));
    assert_eq!(
        of("2026-01-01T02:30:00Z"),
        Some((true, "\"0 2 * * *\"".into()))
    );
    assert_eq!(of("2026-01-01T03:00:00Z"), Some((false, "night".into())));
    assert_eq!(of("2026-01-01T10:00:00Z"), None);
}

#[test]
fn endless_blackout_has_a_constant_message() {
    let always = [window("* * * * *", 2, "UTC", json!({}))];
    let now = at("2026-01-01T00:00:00Z");
    let until = blackout(&always, now).unwrap().until;
    assert!(until > now.plus(Duration::from_secs(3600)), "{until}");
    let words = |at: Timestamp| blackout(&always, at).unwrap().to_string();
    assert_eq!(words(now), words(now.plus(Duration::from_secs(60))));
}

#[test]
fn invalid_windows_have_helpful_errors() {
    let read = |schedule: &str, zone: &str| {
        let spec = json!({ "schedule": schedule, "duration": "1m", "timeZone": zone });
        Window::read(
            &serde_json::from_value(spec).unwrap(),
            Duration::from_secs(60),
        )
    };
    for (schedule, zone, words) in [
        ("* * * *", "UTC", "five fields"),
        ("@daily", "UTC", "five fields"),
        ("0 0 1 1 * 2027", "UTC", "five fields"),
        ("61 * * * *", "UTC", "61 * * * *"),
        ("0 0 30 2 *", "UTC", "never occurs; use a day that exists"),
        ("0 0 * * *", "Europe/Nowhere", "Europe/Berlin"),
    ] {
        let error = read(schedule, zone).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    for schedule in [
        "0 22 * * MON-FRI",
        "0 0 29 2 *",
        "0 0 L * *",
        " */5 1,2 * JAN 7 ",
    ] {
        assert!(read(schedule, "Europe/Berlin").is_ok(), "{schedule}");
    }
}
