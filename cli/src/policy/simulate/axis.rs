//! Formats times and durations as human-readable text, and computes the ticks of a time axis.

use chrono::{DateTime, Datelike, Months, Timelike, Utc};
use policy_host::Instant;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// The first Monday after the epoch.
const MONDAY: i64 = 4 * DAY;

/// A labelled tick of the axis.
#[derive(Debug, PartialEq)]
pub(crate) struct Tick {
    pub at: Instant,
    pub label: String,
}

/// The distances between ticks up to two weeks, in milliseconds.
const STEPS: [i64; 17] = [
    1_000,
    5_000,
    15_000,
    30_000,
    MINUTE,
    5 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    2 * DAY,
    7 * DAY,
    14 * DAY,
];
/// The distances between ticks beyond two weeks, in months.
const MONTHS: [u32; 6] = [1, 3, 6, 12, 60, 120];

/// Returns about `max` ticks at round times (UTC), from `start` to before `end`.
pub(crate) fn ticks(start: Instant, end: Instant, max: usize) -> Vec<Tick> {
    let max = max.max(1) as i64;
    let length = end.saturating_sub(start);
    if let Some(step) = STEPS.into_iter().find(|step| length / step <= max) {
        let origin = if step % (7 * DAY) == 0 { MONDAY } else { 0 };
        let first = start + (origin - start).rem_euclid(step);
        let all = std::iter::successors(Some(first), |at| Some(at + step));
        return all
            .take_while(|at| *at < end)
            .map(|at| Tick {
                at,
                label: label(at, step),
            })
            .collect();
    }
    let months = MONTHS
        .into_iter()
        .find(|months| length / (i64::from(*months) * 30 * DAY) <= max)
        .unwrap_or(120);
    monthly_ticks(start, end, months)
}

fn monthly_ticks(start: Instant, end: Instant, months: u32) -> Vec<Tick> {
    let beginning = |at: DateTime<Utc>| {
        let year = at.date_naive().with_day(1)?.with_month(1)?;
        let year = match months {
            60 | 120 => year.with_year(year.year() - year.year().rem_euclid(months as i32 / 12))?,
            _ => year,
        };
        Some(year.and_hms_opt(0, 0, 0)?.and_utc())
    };
    let format = if months < 12 { "%b %Y" } else { "%Y" };
    let first = time(start).and_then(beginning);
    std::iter::successors(first, |at| at.checked_add_months(Months::new(months)))
        .skip_while(|at| at.timestamp_millis() < start)
        .take_while(|at| at.timestamp_millis() < end)
        .map(|at| Tick {
            at: at.timestamp_millis(),
            label: at.format(format).to_string(),
        })
        .collect()
}

fn label(at: Instant, step: i64) -> String {
    let Some(time) = time(at) else {
        return String::new();
    };
    let midnight = time.num_seconds_from_midnight() == 0;
    let format = match step {
        _ if midnight => "%a %-d %b",
        ..MINUTE => "%H:%M:%S",
        _ => "%H:%M",
    };
    time.format(format).to_string()
}

fn time(at: Instant) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(at)
}

/// Formats a time to the minute.
pub(crate) fn format_minute(at: Instant) -> String {
    time(at).map_or_else(
        || at.to_string(),
        |at| at.format("%Y-%m-%d %H:%M").to_string(),
    )
}

/// Formats a time as RFC 3339.
pub(crate) fn format_exact(at: Instant) -> String {
    time(at).map_or_else(
        || at.to_string(),
        |at| at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true),
    )
}

/// Formats a duration with its two largest units, rounded down.
pub(crate) fn format_brief(millis: u64) -> String {
    let seconds = millis / 1_000;
    let units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let Some(first) = units.iter().position(|(_, unit)| seconds >= *unit) else {
        return if millis == 0 {
            "0".into()
        } else {
            format!("{millis}ms")
        };
    };
    let (name, unit) = units[first];
    let mut text = format!("{}{name}", seconds / unit);
    if let Some((name, smaller)) = units.get(first + 1) {
        let rest = seconds % unit / smaller;
        if rest > 0 {
            text.push_str(&format!(" {rest}{name}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Instant {
        DateTime::parse_from_rfc3339(text)
            .unwrap()
            .timestamp_millis()
    }

    #[test]
    fn ticks_are_at_round_times() {
        for (from, to, max, expected) in [
            (
                "2026-01-01T00:00:00Z",
                "2026-01-03T00:00:00Z",
                4,
                "Thu 1 Jan, 12:00, Fri 2 Jan, 12:00",
            ),
            (
                "2026-01-01T07:10:00Z",
                "2026-01-01T09:00:00Z",
                4,
                "07:30, 08:00, 08:30",
            ),
            (
                "2026-01-01T07:10:10Z",
                "2026-01-01T07:11:10Z",
                2,
                "07:10:30, 07:11:00",
            ),
            (
                "2026-01-01T00:00:00Z",
                "2026-01-30T00:00:00Z",
                5,
                "Mon 5 Jan, Mon 12 Jan, Mon 19 Jan, Mon 26 Jan",
            ),
            (
                "2026-01-15T00:00:00Z",
                "2026-06-01T00:00:00Z",
                6,
                "Feb 2026, Mar 2026, Apr 2026, May 2026",
            ),
            (
                "2026-01-15T00:00:00Z",
                "2029-06-01T00:00:00Z",
                4,
                "2027, 2028, 2029",
            ),
            (
                "2026-01-15T00:00:00Z",
                "2126-01-01T00:00:00Z",
                12,
                "2030, 2040, 2050, 2060, 2070, 2080, 2090, 2100, 2110, 2120",
            ),
        ] {
            let ticks = ticks(at(from), at(to), max);
            let labels: Vec<_> = ticks.into_iter().map(|tick| tick.label).collect();
            assert_eq!(labels.join(", "), expected);
        }
    }

    proptest! {
        #[test]
        fn ticks_are_in_order_in_range_and_few(
            start in -4_000_000_000_000_i64..4_000_000_000_000,
            length in 1_i64..3_155_760_000_000,
            max in 1_usize..20,
        ) {
            let end = start + length;
            let ticks = ticks(start, end, max);
            prop_assert!(ticks.iter().all(|tick| (start..end).contains(&tick.at)));
            prop_assert!(ticks.windows(2).all(|pair| pair[0].at < pair[1].at));
            prop_assert!(ticks.len() <= max + 2 || length > 110 * 365 * DAY / 12 * max as i64);
        }
    }

    #[test]
    fn durations_are_formatted_with_two_units() {
        for (millis, text) in [
            (0, "0"),
            (999, "999ms"),
            (61_000, "1m 1s"),
            (3_600_000, "1h"),
            (3_659_000, "1h"),
            (90_000_000, "1d 1h"),
            (10 * 86_400_000 + 59_000, "10d"),
        ] {
            assert_eq!(format_brief(millis), text);
        }
        assert_eq!(format_minute(0), "1970-01-01 00:00");
        assert_eq!(format_exact(1500), "1970-01-01T00:00:01.500Z");
    }
}
