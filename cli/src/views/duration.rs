//! Durations in tables, as kubectl shows an age.

use oaat_api::Timestamp;
use std::time::Duration;

/// Formats a duration with at most two units, such as `42s`, `5m30s`, `2h10m`, or `12d`.
pub(crate) fn short(duration: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let seconds = duration.as_secs();
    let index = UNITS.iter().position(|(length, _)| seconds >= *length);
    let index = index.unwrap_or(UNITS.len() - 1);
    let (length, unit) = UNITS[index];
    let count = seconds / length;
    // The second unit matters only if the first one is small.
    let rest = UNITS
        .get(index + 1)
        .map(|(length, unit)| (seconds % UNITS[index].0 / length, unit));
    match rest {
        Some((rest, smaller)) if count < 10 && rest > 0 => format!("{count}{unit}{rest}{smaller}"),
        _ => format!("{count}{unit}"),
    }
}

/// Formats a time in the past relative to the current time.
pub(super) fn ago(at: Timestamp, now: Timestamp) -> String {
    let passed = now.since(at);
    match passed.as_secs() {
        0 => "just now".to_owned(),
        _ => format!("{} ago", short(passed)),
    }
}

/// Formats a time in the future relative to the current time.
pub(crate) fn from_now(at: Timestamp, now: Timestamp) -> String {
    let left = at.seconds().since(now);
    match left.as_secs() {
        0 => "now".to_owned(),
        _ => format!("in {}", short(left)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_at_most_two_units() {
        for (seconds, expected) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (330, "5m30s"),
            (630, "10m"),
            (7_800, "2h10m"),
            (36_060, "10h"),
            (90_000, "1d1h"),
            (1_080_000, "12d"),
        ] {
            assert_eq!(short(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn times_are_relative_to_the_current_time() {
        let now = Timestamp(1_000_500);
        for (at, expected) in [
            (400_500, "10m ago"),
            (999_500, "1s ago"),
            (999_501, "just now"),
            (1_000_500, "just now"),
            // The clock of another machine may be ahead.
            (1_005_000, "just now"),
        ] {
            assert_eq!(ago(Timestamp(at), now), expected, "{at}");
        }
        for (at, expected) in [
            (0, "now"),
            (1_000_499, "now"),
            (1_000_501, "now"),
            (1_001_000, "now"),
            (1_001_001, "in 1s"),
            (1_060_100, "in 1m"),
        ] {
            assert_eq!(from_now(Timestamp(at), now), expected, "{at}");
        }
    }
}
