//! Blackout windows, in which no item starts. These functions are pure.
//!
//! A window opens at each time of its schedule. It stays open for its duration, which is elapsed
//! time. If a clock change repeats a scheduled minute, the window opens twice: with "at 1:00 for one
//! hour", no item starts at either 1:30. Windows that overlap or touch form one blackout.

#[cfg(test)]
mod tests;

use crate::cron_schedule::{CronSchedule, to_jiff};
use crate::field_error::FieldError;
use crate::{BlackoutWindow, RunningAction, Timestamp};
use k8s_openapi::jiff::{self, SignedDuration};
use std::fmt;
use std::time::Duration;

/// The maximum duration of a window: 366 days.
pub(crate) const MAX_DURATION: Duration = Duration::from_secs(366 * 24 * 3600);

/// The maximum number of windows that are merged into one blackout. If there are more, the end of
/// the blackout is calculated again when the last of them closes.
const MAX_MERGED: usize = 100;
/// How far ahead the end of a blackout is searched for.
const SEARCH_HORIZON: Duration = MAX_DURATION.saturating_mul(2);

/// A parsed window.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    name: String,
    /// When the window opens.
    times: CronSchedule,
    duration: SignedDuration,
    /// Whether a run in progress is stopped when the window opens.
    pub stop: bool,
    /// Whether an item is held that might not finish before the window opens.
    pub fits: bool,
}

/// A period in which no item starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blackout {
    /// The end of the blackout. If `endless`, when to calculate it again.
    pub until: Timestamp,
    /// Whether the blackout continues after `until`.
    pub endless: bool,
    /// The name of the open window, or its schedule in quotes.
    pub window: String,
    /// Whether a run in progress must stop.
    pub stop: bool,
}

impl Window {
    /// Parses a window that stays open for `duration`.
    ///
    /// # Errors
    /// Returns an error if the schedule or the time zone is invalid. The path is relative to the
    /// window.
    pub fn read(spec: &BlackoutWindow, duration: Duration) -> Result<Self, FieldError> {
        let zone = spec.time_zone.as_deref();
        let times = CronSchedule::parse("schedule", &spec.schedule, zone)?;
        let text = spec.schedule.trim();
        Ok(Self {
            name: spec.name.clone().unwrap_or_else(|| format!("{text:?}")),
            times,
            duration: SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX),
            stop: spec.running == RunningAction::Stop,
            fits: spec.start_if_fits,
        })
    }

    /// Returns when the window closes, if it is open at `at` and opened at `since` or later.
    fn closes(&self, at: jiff::Timestamp, since: jiff::Timestamp) -> Option<jiff::Timestamp> {
        let first = at.checked_sub(self.duration).unwrap_or(since).max(since);
        let closes = self.times.last(at, first)?.checked_add(self.duration);
        Some(closes.unwrap_or(jiff::Timestamp::MAX)).filter(|closes| *closes > at)
    }
}

impl fmt::Display for Blackout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.endless {
            // Without a time, because it would change with every reconcile.
            f.write_str("blackout until further notice")?;
        } else {
            write!(f, "blackout until {}", self.until.seconds())?;
        }
        write!(f, " (window {})", self.window)
    }
}

/// Returns the blackout at a time, if there is one.
pub fn blackout(windows: &[Window], at: Timestamp) -> Option<Blackout> {
    let now = to_jiff(at)?;
    let open = |at, since| {
        let closes = windows
            .iter()
            .filter_map(move |window| Some((window.closes(at, since)?, window)));
        closes.max_by_key(|(closes, _)| *closes)
    };
    let (mut until, longest) = open(now, jiff::Timestamp::MIN)?;
    let horizon = now.checked_add(SignedDuration::try_from(SEARCH_HORIZON).ok()?);
    let horizon = horizon.unwrap_or(jiff::Timestamp::MAX);
    let (mut endless, mut before) = (true, now);
    for _ in 0..MAX_MERGED {
        if until > horizon {
            break;
        }
        // Every window that opened by `before` has closed by `until`.
        match open(until, before) {
            Some((later, _)) => (before, until) = (until, later),
            None => {
                endless = false;
                break;
            }
        }
    }
    let min = jiff::Timestamp::MIN;
    let stops = |window: &&Window| window.stop && window.closes(now, min).is_some();
    let stop = windows.iter().find(stops);
    Some(Blackout {
        until: Timestamp(until.as_millisecond()),
        endless,
        window: stop.unwrap_or(longest).name.clone(),
        stop: stop.is_some(),
    })
}

/// Returns when the next window opens, if one opens within 366 days.
pub fn next<'a>(
    windows: impl IntoIterator<Item = &'a Window>,
    after: Timestamp,
) -> Option<Timestamp> {
    let after = to_jiff(after)?;
    let until = after
        .checked_add(SignedDuration::try_from(MAX_DURATION).ok()?)
        .ok()?;
    let opens = windows
        .into_iter()
        .filter_map(|window| window.times.next(after, until));
    opens.min().map(|at| Timestamp(at.as_millisecond()))
}
