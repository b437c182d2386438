//! Blackout windows, in which no item starts. These functions are pure.
//!
//! A window opens whenever the local time in its time zone matches its schedule. It stays open for
//! its duration, which is elapsed time. If a clock change skips a matching minute, the window opens
//! at the change. If a clock change repeats a matching minute, the window opens twice: with "at
//! 1:00 for one hour", no item starts at either 1:30. Windows that overlap or touch form one
//! blackout.

#[cfg(test)]
mod tests;

use crate::text::clean;
use crate::validate::FieldError;
use crate::{BlackoutWindow, RunningAction, Timestamp};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use croner::time::Weekday;
use k8s_openapi::jiff::civil::{Date, DateTime, date};
use k8s_openapi::jiff::tz::{Offset, TimeZone, TimeZoneDatabase};
use k8s_openapi::jiff::{self, SignedDuration};
use std::fmt;
use std::iter::successors;
use std::sync::LazyLock;
use std::time::Duration;

/// The maximum duration of a window: 366 days.
pub(crate) const MAX_DURATION: Duration = Duration::from_secs(366 * 24 * 3600);

/// The time zones of this build, so that they do not depend on the machine.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// The maximum number of windows that are merged into one blackout. If there are more, the end of
/// the blackout is calculated again when the last of them closes.
const MAX_MERGED: usize = 100;
/// How far ahead the end of a blackout is searched for.
const SEARCH_HORIZON: Duration = MAX_DURATION.saturating_mul(2);

/// The maximum length of a schedule in bytes, as in the schema.
const MAX_SCHEDULE: usize = 100;

/// A parsed window.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    name: String,
    schedule: Cron,
    /// The minutes of a day that match the schedule, in order.
    minutes: Vec<u16>,
    duration: SignedDuration,
    zone: TimeZone,
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
        let text = spec.schedule.trim();
        let invalid = |why: &str, fix: &str| {
            FieldError::invalid("schedule", &clean(text, MAX_SCHEDULE), why, fix)
        };
        let syntax = "use five fields (minute, hour, day of the month, month, and day of the week), for example 0 22 * * 1-5";
        if text.len() > MAX_SCHEDULE
            || text.starts_with('@')
            || text.split_whitespace().count() != 5
        {
            return Err(invalid("not a schedule", syntax));
        }
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build();
        let schedule = parser
            .parse(text)
            .map_err(|error| invalid(&format!("not a schedule ({error})"), syntax))?;
        // These 28 years contain every kind of year: each weekday on January 1, with and without a
        // leap day. A day that does not occur in them never occurs.
        let days = successors(Some(date(2001, 1, 1)), |day| day.tomorrow().ok());
        let pattern = &schedule.pattern;
        let minutes = (0..24 * 60).filter(|minute: &u16| {
            pattern.hour_match((minute / 60).into()).unwrap_or(false)
                && pattern.minute_match((minute % 60).into()).unwrap_or(false)
        });
        let minutes: Vec<u16> = minutes.collect();
        if minutes.is_empty() || !days.take(28 * 366).any(|day| matches_day(&schedule, day)) {
            let fix = "use a day that exists in one of its months, or L, the last day of the month";
            return Err(invalid("a schedule that never occurs", fix));
        }
        let zone = spec.time_zone.as_deref().unwrap_or("UTC");
        let zone = ZONES.get(zone).map_err(|_| {
            let (why, fix) = (
                "an unknown time zone",
                "use for example Europe/Berlin or UTC",
            );
            FieldError::invalid("timeZone", zone, why, fix)
        })?;
        Ok(Self {
            name: spec.name.clone().unwrap_or_else(|| format!("{text:?}")),
            schedule,
            minutes,
            duration: SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX),
            zone,
            stop: spec.running == RunningAction::Stop,
            fits: spec.start_if_fits,
        })
    }

    /// Returns the latest matching minute up to `at`, on day `first` or later.
    fn last_match(&self, at: DateTime, first: Date) -> Option<DateTime> {
        let days = successors(Some(at.date()), |day| day.yesterday().ok());
        let day = |day: &Date| {
            let count = if *day == at.date() {
                self.minutes.partition_point(|m| *m <= minute_of(at))
            } else {
                self.minutes.len()
            };
            matches_day(&self.schedule, *day).then_some(())?;
            self.minutes
                .get(count.checked_sub(1)?)
                .map(|m| at_minute(*day, *m))
        };
        days.take_while(|day| *day >= first).find_map(|d| day(&d))
    }

    /// Returns the earliest matching minute after `after`, or at `after` if `inclusive`, on day
    /// `last` or earlier.
    fn next_match(&self, after: DateTime, inclusive: bool, last: Date) -> Option<DateTime> {
        let days = successors(Some(after.date()), |day| day.tomorrow().ok());
        let inclusive = inclusive && after.second() == 0 && after.subsec_nanosecond() == 0;
        let day = |day: &Date| {
            let index = if *day == after.date() {
                self.minutes.partition_point(|m| {
                    *m < minute_of(after) || (!inclusive && *m == minute_of(after))
                })
            } else {
                0
            };
            matches_day(&self.schedule, *day).then_some(())?;
            self.minutes.get(index).map(|m| at_minute(*day, *m))
        };
        days.take_while(|day| *day <= last).find_map(|d| day(&d))
    }

    /// Returns the latest time from `since` to `at` at which the window opens.
    fn last_opening(&self, at: jiff::Timestamp, since: jiff::Timestamp) -> Option<jiff::Timestamp> {
        const MOMENT: SignedDuration = SignedDuration::from_nanos(1);
        let mut at = at;
        loop {
            let offset = self.zone.to_offset(at);
            // The time at which this offset began.
            let began = self.zone.preceding(at.checked_add(MOMENT).ok()?).next();
            let began = began.map(|transition| transition.timestamp());
            let bound = began.map_or(since, |began| began.max(since));
            let first = offset.to_datetime(bound).date();
            let found = self.last_match(offset.to_datetime(at), first);
            let found = found.and_then(|local| offset.to_timestamp(local).ok());
            if let Some(found) = found.filter(|found| *found >= bound) {
                return Some(found);
            }
            let began = began.filter(|began| *began >= since)?;
            let before = began.checked_sub(MOMENT).ok()?;
            if self.skips_match(began, self.zone.to_offset(before), offset) {
                return Some(began);
            }
            at = before;
        }
    }

    /// Returns the earliest time after `after`, up to `until`, at which the window opens.
    fn next_opening(
        &self,
        after: jiff::Timestamp,
        until: jiff::Timestamp,
    ) -> Option<jiff::Timestamp> {
        let (mut from, mut inclusive) = (after, false);
        loop {
            let offset = self.zone.to_offset(from);
            let next = self.zone.following(from).next();
            let ends = next.as_ref().map(|next| next.timestamp());
            let bound = ends.map_or(until, |ends| ends.min(until));
            let last = offset.to_datetime(bound).date();
            let found = self.next_match(offset.to_datetime(from), inclusive, last);
            let found = found.and_then(|local| offset.to_timestamp(local).ok());
            let in_time = |at: &jiff::Timestamp| *at <= until && ends.is_none_or(|ends| *at < ends);
            if let Some(found) = found.filter(in_time) {
                return Some(found);
            }
            let ends = ends.filter(|ends| *ends <= until)?;
            if self.skips_match(ends, offset, next?.offset()) {
                return Some(ends);
            }
            (from, inclusive) = (ends, true);
        }
    }

    /// Returns whether the clocks skip a matching minute at `when`, when they change from one offset
    /// to another.
    fn skips_match(&self, when: jiff::Timestamp, from: Offset, to: Offset) -> bool {
        let (first, end): (DateTime, DateTime) = (from.to_datetime(when), to.to_datetime(when));
        let next = self.next_match(first, true, end.date());
        next.is_some_and(|next| next < end)
    }

    /// Returns when the window closes, if it is open at `at` and opened at `since` or later.
    fn closes(&self, at: jiff::Timestamp, since: jiff::Timestamp) -> Option<jiff::Timestamp> {
        let first = at.checked_sub(self.duration).unwrap_or(since).max(since);
        let closes = self.last_opening(at, first)?.checked_add(self.duration);
        Some(closes.unwrap_or(jiff::Timestamp::MAX)).filter(|closes| *closes > at)
    }
}

/// Returns whether a day matches a schedule.
fn matches_day(schedule: &Cron, day: Date) -> bool {
    let (year, month) = (day.year().into(), day.month().unsigned_abs().into());
    let weekday = day.weekday().to_sunday_zero_offset().unsigned_abs();
    let weekday = Weekday::from_days_from_sunday(weekday.into());
    let day = day.day().unsigned_abs().into();
    let pattern = &schedule.pattern;
    pattern.month_match(month).unwrap_or(false)
        && pattern
            .day_match(year, month, day, weekday)
            .unwrap_or(false)
}

/// Returns the minute of the day.
fn minute_of(at: DateTime) -> u16 {
    u16::from(at.hour().unsigned_abs()) * 60 + u16::from(at.minute().unsigned_abs())
}

/// Returns the time at a minute of a day.
fn at_minute(day: Date, minute: u16) -> DateTime {
    day.at((minute / 60) as i8, (minute % 60) as i8, 0, 0)
}

fn to_jiff(at: Timestamp) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_millisecond(at.0).ok()
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
        .filter_map(|window| window.next_opening(after, until));
    opens.min().map(|at| Timestamp(at.as_millisecond()))
}
