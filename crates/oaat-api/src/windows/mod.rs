//! Blackout windows: when nothing starts. Pure.
//!
//! The rule. A window opens whenever the clocks of its time zone show a minute that its schedule
//! names, and stays open for its duration, which is elapsed time. A minute that the clocks skip
//! (they are put forward) opens it in the moment of the skip. A minute that they show twice (they
//! are put back) opens it twice. So whoever says "from 1 o'clock for an hour" has nothing start at
//! half past one, whichever of the two it is. Windows that overlap or touch are one blackout.

#[cfg(test)]
mod tests;

use crate::text::clean;
use crate::validate::FieldError;
use crate::{BlackoutWindow, Running, Timestamp};
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

/// Longest window.
pub const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// The same time zones on every machine, also on one that has none.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// Pieces of windows that one blackout is put together from; one that goes on for longer is looked
/// at again where that ends.
const PIECES: usize = 100;
/// How far ahead the end of a blackout is searched for.
const FARTHEST: Duration = LONGEST.saturating_mul(2);

/// The maximum length of a schedule in bytes, as in the schema.
const LONGEST_SCHEDULE: usize = 100;

/// A window, understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    name: String,
    schedule: Cron,
    /// The minutes of a day that match the schedule, in order.
    minutes: Vec<u16>,
    duration: SignedDuration,
    zone: TimeZone,
    /// What runs is ended when it opens.
    pub stop: bool,
    /// An item that would run into it is not started.
    pub fits: bool,
}

/// A time in which nothing starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blackout {
    /// Its end; or, where it goes on for very long, when to look again.
    pub until: Timestamp,
    /// It goes on beyond that.
    pub endless: bool,
    /// The window that is open, by name or else by schedule.
    pub window: String,
    /// What runs is to be ended.
    pub stop: bool,
}

impl Window {
    /// Reads a window that is open for `duration`.
    ///
    /// # Errors
    /// What is wrong with its schedule or time zone. The path is relative to the window.
    pub fn read(spec: &BlackoutWindow, duration: Duration) -> Result<Self, FieldError> {
        let text = spec.schedule.trim();
        let wrong = |why: String| {
            let fix = "use five fields (minute, hour, day of the month, month, day of the week), such as 0 22 * * 1-5";
            FieldError::invalid("schedule", &clean(text, LONGEST_SCHEDULE), why, fix)
        };
        if text.len() > LONGEST_SCHEDULE
            || text.starts_with('@')
            || text.split_whitespace().count() != 5
        {
            return Err(wrong("not a schedule".into()));
        }
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build();
        let schedule = parser
            .parse(text)
            .map_err(|error| wrong(format!("not a schedule ({error})")))?;
        // These 28 years contain every kind of year: each first weekday, with and without a leap
        // day. A day that does not occur in them never occurs.
        let days = successors(Some(date(2001, 1, 1)), |day| day.tomorrow().ok());
        let pattern = &schedule.pattern;
        let minutes = (0..24 * 60).filter(|minute: &u16| {
            pattern.hour_match((minute / 60).into()).unwrap_or(false)
                && pattern.minute_match((minute % 60).into()).unwrap_or(false)
        });
        let minutes: Vec<u16> = minutes.collect();
        if minutes.is_empty() || !days.take(28 * 366).any(|day| names(&schedule, day)) {
            return Err(wrong("a schedule that never occurs".into()));
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
            stop: spec.running == Running::Stop,
            fits: spec.start_if_fits,
        })
    }

    /// Returns the latest minute of the schedule up to `at`, on day `first` or later.
    fn before(&self, at: DateTime, first: Date) -> Option<DateTime> {
        let days = successors(Some(at.date()), |day| day.yesterday().ok());
        let day = |day: &Date| {
            let of_day = match *day == at.date() {
                true => self.minutes.partition_point(|m| *m <= minute_of(at)),
                false => self.minutes.len(),
            };
            names(&self.schedule, *day).then_some(())?;
            self.minutes
                .get(of_day.checked_sub(1)?)
                .map(|m| minute(*day, *m))
        };
        days.take_while(|day| *day >= first).find_map(|d| day(&d))
    }

    /// The earliest minute of the schedule after `after`, or from then on, and on no day after
    /// `last`.
    fn after(&self, after: DateTime, inclusive: bool, last: Date) -> Option<DateTime> {
        let days = successors(Some(after.date()), |day| day.tomorrow().ok());
        let inclusive = inclusive && after.second() == 0 && after.subsec_nanosecond() == 0;
        let day = |day: &Date| {
            let of_day = match *day == after.date() {
                true => self.minutes.partition_point(|m| {
                    *m < minute_of(after) || (!inclusive && *m == minute_of(after))
                }),
                false => 0,
            };
            names(&self.schedule, *day).then_some(())?;
            self.minutes.get(of_day).map(|m| minute(*day, *m))
        };
        days.take_while(|day| *day <= last).find_map(|d| day(&d))
    }

    /// The latest time up to `at`, and not before `since`, at which it opens.
    fn opened(&self, at: jiff::Timestamp, since: jiff::Timestamp) -> Option<jiff::Timestamp> {
        const MOMENT: SignedDuration = SignedDuration::from_nanos(1);
        let mut at = at;
        loop {
            let offset = self.zone.to_offset(at);
            // Where this offset began.
            let began = self.zone.preceding(at.checked_add(MOMENT).ok()?).next();
            let began = began.map(|transition| transition.timestamp());
            let bound = began.map_or(since, |began| began.max(since));
            let first = offset.to_datetime(bound).date();
            let found = self.before(offset.to_datetime(at), first);
            let found = found.and_then(|local| offset.to_timestamp(local).ok());
            if let Some(found) = found.filter(|found| *found >= bound) {
                return Some(found);
            }
            let began = began.filter(|began| *began >= since)?;
            let before = began.checked_sub(MOMENT).ok()?;
            if self.skipped(began, self.zone.to_offset(before), offset) {
                return Some(began);
            }
            at = before;
        }
    }

    /// The earliest time after `after`, and not after `until`, at which it opens.
    fn opens(&self, after: jiff::Timestamp, until: jiff::Timestamp) -> Option<jiff::Timestamp> {
        let (mut from, mut inclusive) = (after, false);
        loop {
            let offset = self.zone.to_offset(from);
            let next = self.zone.following(from).next();
            let ends = next.as_ref().map(|next| next.timestamp());
            let bound = ends.map_or(until, |ends| ends.min(until));
            let last = offset.to_datetime(bound).date();
            let found = self.after(offset.to_datetime(from), inclusive, last);
            let found = found.and_then(|local| offset.to_timestamp(local).ok());
            let in_time = |at: &jiff::Timestamp| *at <= until && ends.is_none_or(|ends| *at < ends);
            if let Some(found) = found.filter(in_time) {
                return Some(found);
            }
            let ends = ends.filter(|ends| *ends <= until)?;
            if self.skipped(ends, offset, next?.offset()) {
                return Some(ends);
            }
            (from, inclusive) = (ends, true);
        }
    }

    /// Whether the clocks skip a minute at `when` that the schedule names, going from one offset
    /// to another.
    fn skipped(&self, when: jiff::Timestamp, from: Offset, to: Offset) -> bool {
        let (first, end): (DateTime, DateTime) = (from.to_datetime(when), to.to_datetime(when));
        let next = self.after(first, true, end.date());
        next.is_some_and(|next| next < end)
    }

    /// Returns when the window closes that is open at this time and opened at `since` or later.
    fn closes(&self, at: jiff::Timestamp, since: jiff::Timestamp) -> Option<jiff::Timestamp> {
        let first = at.checked_sub(self.duration).unwrap_or(since).max(since);
        let closes = self.opened(at, first)?.checked_add(self.duration);
        Some(closes.unwrap_or(jiff::Timestamp::MAX)).filter(|closes| *closes > at)
    }
}

/// Returns whether a day matches a schedule.
fn names(schedule: &Cron, day: Date) -> bool {
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

/// A minute of a day.
fn minute(day: Date, minute: u16) -> DateTime {
    day.at((minute / 60) as i8, (minute % 60) as i8, 0, 0)
}

fn instant(at: Timestamp) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_millisecond(at.0).ok()
}

impl fmt::Display for Blackout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.endless {
            // No time: it would be another one each time.
            true => write!(f, "blackout with no end in sight")?,
            false => write!(f, "blackout until {}", self.until.seconds())?,
        }
        write!(f, " (window {})", self.window)
    }
}

/// The blackout at a time, if there is one.
pub fn blackout(windows: &[Window], at: Timestamp) -> Option<Blackout> {
    let now = instant(at)?;
    let open = |at, since| {
        let closes = windows
            .iter()
            .filter_map(move |window| Some((window.closes(at, since)?, window)));
        closes.max_by_key(|(closes, _)| *closes)
    };
    let (mut until, longest) = open(now, jiff::Timestamp::MIN)?;
    let farthest = now.checked_add(SignedDuration::try_from(FARTHEST).ok()?);
    let farthest = farthest.unwrap_or(jiff::Timestamp::MAX);
    let (mut endless, mut before) = (true, now);
    for _ in 0..PIECES {
        if until > farthest {
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

/// When the next window opens, within a year.
pub fn next<'a>(
    windows: impl IntoIterator<Item = &'a Window>,
    after: Timestamp,
) -> Option<Timestamp> {
    let after = instant(after)?;
    let until = after
        .checked_add(SignedDuration::try_from(LONGEST).ok()?)
        .ok()?;
    let opens = windows
        .into_iter()
        .filter_map(|window| window.opens(after, until));
    opens.min().map(|at| Timestamp(at.as_millisecond()))
}
