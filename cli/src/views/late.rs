//! When an item is due, and how late it is.

use oaat_api::validate::{ItemRules, Recurrence};
use oaat_api::{ItemStatus, Timestamp};
use serde::Serialize;
use std::time::Duration;

/// The number of cells of a bar. A full bar is a whole period.
const CELLS: u32 = 10;

/// When an item must succeed next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// It has never succeeded, so it is due at once.
    AtOnce,
    /// At this time. `period` is the time from one success to the next.
    At { at: Timestamp, period: Duration },
    /// Not again: with `eachOnce`, it has succeeded; or the schedule has no further time.
    Never,
}

impl Due {
    /// Returns when an item must succeed, according to its frequency or schedule.
    pub fn of(rules: &ItemRules, item: &ItemStatus) -> Self {
        let Some(success) = item.last_success else {
            return Self::AtOnce;
        };
        match &rules.recurrence {
            Recurrence::Once => Self::Never,
            Recurrence::Frequency(period) => Self::At {
                at: success.plus(*period),
                period: *period,
            },
            Recurrence::Schedule(schedule) => match schedule.next_match_after(success) {
                Some(at) => Self::At {
                    at,
                    period: schedule
                        .next_match_after(at)
                        .map_or(Duration::MAX, |following| following.since(at)),
                },
                None => Self::Never,
            },
        }
    }

    /// Returns whether the item is due.
    pub fn is_due(self, now: Timestamp) -> bool {
        match self {
            Self::AtOnce => true,
            Self::At { at, .. } => at <= now,
            Self::Never => false,
        }
    }

    /// Returns how late an item is, if it has succeeded before and has been due again for at least a
    /// second.
    pub fn lateness(self, now: Timestamp) -> Option<Lateness> {
        let Self::At { at, period } = self else {
            return None;
        };
        let late = now.since(at);
        (late.as_secs() > 0).then(|| Lateness {
            seconds: late.as_secs(),
            periods: late.as_secs_f64() / period.as_secs_f64().max(0.001),
        })
    }
}

/// How late an item is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Lateness {
    /// The time since the item was due, in seconds.
    pub seconds: u64,
    /// The same in periods of its frequency or schedule.
    pub periods: f64,
}

impl Lateness {
    /// Returns a bar and the lateness, such as `███░░░░░░░ 12m`.
    pub fn bar(&self) -> String {
        let filled = (self.periods * f64::from(CELLS)).ceil();
        // Saturates, so that a full bar is at least one period.
        let filled = (filled.clamp(1.0, f64::from(CELLS))) as usize;
        let late = super::short(Duration::from_secs(self.seconds));
        format!(
            "{}{} {late}",
            "█".repeat(filled),
            "░".repeat(CELLS as usize - filled)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oaat_api::validate::validate;
    use serde_json::json;

    fn lateness(
        spec: serde_json::Value,
        success: Option<&str>,
        now: &str,
    ) -> (bool, Option<String>) {
        let mut spec = spec;
        spec["oaatType"] = json!("t");
        let spec = serde_json::from_value(spec).unwrap();
        let rules = validate(&spec).unwrap().defaults;
        let time = |text: &str| serde_json::from_value::<Timestamp>(json!(text)).unwrap();
        let item = ItemStatus {
            last_success: success.map(time),
            ..ItemStatus::default()
        };
        let due = Due::of(&rules, &item);
        (
            due.is_due(time(now)),
            due.lateness(time(now)).map(|late| late.bar()),
        )
    }

    #[test]
    fn lateness_is_the_time_since_the_item_was_due() {
        let hourly = json!({ "frequency": "1h" });
        let nightly = json!({ "schedule": { "cron": "0 2 * * *" } });
        let once = json!({ "eachOnce": true });
        let (noon, night) = ("2026-03-02T12:00:00Z", "2026-03-02T02:00:00Z");
        let late = |bar: &str| Some(bar.to_owned());
        for (spec, success, expected) in [
            (&hourly, None, (true, None)),
            (&hourly, Some(noon), (false, None)),
            (&hourly, Some("2026-03-02T11:00:00Z"), (true, None)),
            (&hourly, Some("2026-03-02T10:59:59.001Z"), (true, None)),
            (
                &hourly,
                Some("2026-03-02T10:59:59Z"),
                (true, late("█░░░░░░░░░ 1s")),
            ),
            (
                &hourly,
                Some("2026-03-02T10:45:00Z"),
                (true, late("███░░░░░░░ 15m")),
            ),
            (
                &hourly,
                Some("2026-03-01T12:00:00Z"),
                (true, late("██████████ 23h")),
            ),
            // A success at the scheduled time covers it.
            (&nightly, Some(night), (false, None)),
            (
                &nightly,
                Some("2026-03-02T01:59:59Z"),
                (true, late("█████░░░░░ 10h")),
            ),
            (&once, None, (true, None)),
            (&once, Some(night), (false, None)),
        ] {
            assert_eq!(
                lateness(spec.clone(), success, noon),
                expected,
                "{spec} {success:?}"
            );
        }
    }
}
