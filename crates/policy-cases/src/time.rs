//! Parses and formats human-readable times and durations.

use chrono::DateTime;
pub use policy_host::format_instant;
use policy_host::{Duration, Instant};

/// The form of a duration, for messages.
pub(crate) const DURATION: &str = "a duration such as 30s, 10m, or 1h 30m";
/// The form of a time, for messages.
pub(crate) const TIME: &str =
    "a time such as \"2h ago\", \"in 10m\", \"now\", or 2026-01-01T12:00:00Z";

/// A time, absolute or relative to the time of the decision.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum When {
    /// The time of the decision.
    Now,
    /// This long before the decision.
    Ago(Duration),
    /// This long after the decision.
    In(Duration),
    /// An absolute time.
    At(Instant),
}

impl When {
    /// Returns the absolute time, for a decision at `now`. Saturates at the limits of [`Instant`].
    pub fn at(self, now: Instant) -> Instant {
        match self {
            Self::Now => now,
            Self::Ago(duration) => now.saturating_sub_unsigned(duration),
            Self::In(duration) => now.saturating_add_unsigned(duration),
            Self::At(instant) => instant,
        }
    }
}

impl std::str::FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text == "now" {
            return Ok(Self::Now);
        }
        if let Some(length) = text.strip_suffix(" ago") {
            return duration(length).map(Self::Ago);
        }
        if let Some(length) = text.strip_prefix("in ") {
            return duration(length).map(Self::In);
        }
        match DateTime::parse_from_rfc3339(text) {
            Ok(time) => Ok(Self::At(time.timestamp_millis())),
            Err(_) => Err(format!("{text:?} is not a time; use {TIME}")),
        }
    }
}

/// Parses a duration such as `1h 30m`.
///
/// # Errors
/// Returns the value, the problem, and the fix.
pub fn duration(text: &str) -> Result<Duration, String> {
    let error = |why: &str| Err(format!("{text:?} is not a duration: {why}; use {DURATION}"));
    // humantime panics if the sum overflows. These limits exclude such durations.
    let digits = text
        .split(|c: char| !c.is_ascii_digit())
        .map(str::len)
        .max();
    if text.len() > 64 || digits.is_some_and(|digits| digits > 11) {
        return error("it is too long");
    }
    let length = match humantime::parse_duration(text.trim()) {
        Ok(length) => length,
        Err(cause) => return error(&cause.to_string()),
    };
    if length.subsec_nanos() % 1_000_000 != 0 {
        return error("it has fractions of a millisecond");
    }
    match Duration::try_from(length.as_millis()) {
        Ok(millis) => Ok(millis),
        Err(_) => error("it is too long"),
    }
}

/// Formats a duration: `1h 30m`.
pub fn format_duration(duration: Duration) -> String {
    humantime::format_duration(std::time::Duration::from_millis(duration)).to_string()
}

/// Formats a time relative to `now`: `in 10m`, `2h ago`, or `now`.
pub fn format_distance(instant: Instant, now: Instant) -> String {
    let distance = format_duration(instant.abs_diff(now));
    match instant.cmp(&now) {
        std::cmp::Ordering::Less => format!("{distance} ago"),
        std::cmp::Ordering::Equal => "now".to_owned(),
        std::cmp::Ordering::Greater => format!("in {distance}"),
    }
}

/// Formats a time both ways: `2026-01-01T12:10:00Z (in 10m)`.
pub fn format_both(instant: Instant, now: Instant) -> String {
    let distance = format_distance(instant, now);
    format!("{} ({distance})", format_instant(instant))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOON: Instant = 1_767_268_800_000;

    #[test]
    fn when_parses_all_forms() {
        for (text, at) in [
            ("now", NOON),
            ("2h ago", NOON - 7_200_000),
            ("1h 30m ago", NOON - 5_400_000),
            ("in 10m", NOON + 600_000),
            ("in 1500ms", NOON + 1500),
            ("in 0s", NOON),
            ("2026-01-01T12:00:00Z", NOON),
            ("2026-01-01T13:00:00.250+01:00", NOON + 250),
        ] {
            assert_eq!(text.parse::<When>().unwrap().at(NOON), at, "{text}");
        }
    }

    #[test]
    fn when_parse_errors_name_the_fix() {
        for (text, expected) in [
            (
                "yesterday",
                "\"yesterday\" is not a time; use a time such as \"2h ago\"",
            ),
            ("2026-01-01", "2026-01-01T12:00:00Z"),
            ("2h", "\"2h ago\""),
            ("2 ago", "time unit needed"),
            ("in a while", "is not a duration"),
            ("in 5us", "fractions of a millisecond"),
            ("in 584942417355y", "is not a duration"),
        ] {
            let error = text.parse::<When>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn times_are_formatted_both_ways() {
        assert_eq!(
            format_both(NOON + 600_000, NOON),
            "2026-01-01T12:10:00Z (in 10m)"
        );
        assert_eq!(
            format_both(NOON - 1, NOON),
            "2026-01-01T11:59:59.999Z (1ms ago)"
        );
        assert_eq!(format_distance(NOON, NOON), "now");
        assert!(format_both(Instant::MAX, Instant::MIN).contains("ms since 1970"));
    }

    proptest! {
        #[test]
        fn formatted_times_round_trip(at in 0..4_102_444_800_000_i64, now in 0..4_102_444_800_000_i64) {
            prop_assert_eq!(format_instant(at).parse(), Ok(When::At(at)));
            let distance: When = format_distance(at, now).parse().unwrap();
            prop_assert_eq!(distance.at(now), at);
        }

        #[test]
        fn when_saturates_at_the_limits(now: i64, length: u64) {
            prop_assert!(When::Ago(length).at(now) <= now);
            prop_assert!(When::In(length).at(now) >= now);
        }
    }
}
