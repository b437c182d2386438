//! The times of a cron schedule in a time zone.
//!
//! A schedule matches whenever the local time matches its fields. If a clock change skips a matching
//! minute, the schedule matches at the change. If a clock change repeats a matching minute, it
//! matches twice.

use crate::Timestamp;
use crate::field_error::FieldError;
use crate::text::clean;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use croner::time::Weekday;
use k8s_openapi::jiff;
use k8s_openapi::jiff::SignedDuration;
use k8s_openapi::jiff::civil::{Date, DateTime, date};
use k8s_openapi::jiff::tz::{Offset, TimeZone, TimeZoneDatabase};
use std::iter::successors;
use std::sync::LazyLock;

/// The time zones of this build, so that they do not depend on the machine.
pub(crate) static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// The maximum length of a schedule in bytes, as in the schema.
const MAX_SCHEDULE: usize = 100;
/// How far a schedule is searched for its next or previous match: the rarest schedule, February 29
/// on a fixed weekday across the end of a century, matches every 40 years.
const SEARCH: SignedDuration = SignedDuration::from_hours(41 * 366 * 24);

/// A parsed cron schedule.
#[derive(Clone, Debug, PartialEq)]
pub struct CronSchedule {
    schedule: Cron,
    /// The minutes of a day that match the schedule, in order.
    minutes: Vec<u16>,
    zone: TimeZone,
}

impl CronSchedule {
    /// Parses a schedule. `zone` is the IANA name of a time zone; `None` means UTC.
    ///
    /// # Errors
    /// Returns an error if the schedule or the time zone is invalid. `field` is the name of the
    /// schedule's field.
    pub(crate) fn parse(field: &str, text: &str, zone: Option<&str>) -> Result<Self, FieldError> {
        let text = text.trim();
        let invalid =
            |why: &str, fix: &str| FieldError::invalid(field, &clean(text, MAX_SCHEDULE), why, fix);
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
        let zone = zone.unwrap_or("UTC");
        let zone = ZONES.get(zone).map_err(|_| {
            let (why, fix) = (
                "an unknown time zone",
                "use for example Europe/Berlin or UTC",
            );
            FieldError::invalid("timeZone", zone, why, fix)
        })?;
        Ok(Self {
            schedule,
            minutes,
            zone,
        })
    }

    /// Returns the latest match up to `at`.
    pub fn last_match_until(&self, at: Timestamp) -> Option<Timestamp> {
        let at = to_jiff(at)?;
        let since = at.checked_sub(SEARCH).unwrap_or(jiff::Timestamp::MIN);
        self.last(at, since).map(from_jiff)
    }

    /// Returns the earliest match after `after`.
    pub fn next_match_after(&self, after: Timestamp) -> Option<Timestamp> {
        let after = to_jiff(after)?;
        let until = after.checked_add(SEARCH).unwrap_or(jiff::Timestamp::MAX);
        self.next(after, until).map(from_jiff)
    }

    /// Returns whether the month of a day matches. In other months, no day needs to be checked.
    fn matches_month(&self, day: Date) -> bool {
        let month = day.month().unsigned_abs().into();
        self.schedule.pattern.month_match(month).unwrap_or(false)
    }

    /// Returns the latest matching minute up to `at`, on day `first` or later.
    fn last_local(&self, at: DateTime, first: Date) -> Option<DateTime> {
        let days = successors(Some(at.date()), |day| {
            if self.matches_month(*day) {
                day.yesterday().ok()
            } else {
                day.first_of_month().yesterday().ok()
            }
        });
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
    fn next_local(&self, after: DateTime, inclusive: bool, last: Date) -> Option<DateTime> {
        let days = successors(Some(after.date()), |day| {
            if self.matches_month(*day) {
                day.tomorrow().ok()
            } else {
                day.last_of_month().tomorrow().ok()
            }
        });
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

    /// Returns the latest time from `since` to `at` that matches.
    pub(crate) fn last(
        &self,
        at: jiff::Timestamp,
        since: jiff::Timestamp,
    ) -> Option<jiff::Timestamp> {
        const MOMENT: SignedDuration = SignedDuration::from_nanos(1);
        let mut at = at;
        loop {
            let offset = self.zone.to_offset(at);
            // The time at which this offset began.
            let began = self.zone.preceding(at.checked_add(MOMENT).ok()?).next();
            let began = began.map(|transition| transition.timestamp());
            let bound = began.map_or(since, |began| began.max(since));
            let first = offset.to_datetime(bound).date();
            let found = self.last_local(offset.to_datetime(at), first);
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

    /// Returns the earliest time after `after`, up to `until`, that matches.
    pub(crate) fn next(
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
            let found = self.next_local(offset.to_datetime(from), inclusive, last);
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
        let next = self.next_local(first, true, end.date());
        next.is_some_and(|next| next < end)
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

pub(crate) fn to_jiff(at: Timestamp) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_millisecond(at.0).ok()
}

fn from_jiff(at: jiff::Timestamp) -> Timestamp {
    Timestamp(at.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        from_jiff(text.parse().unwrap())
    }

    #[test]
    fn previous_and_next_match_are_found_across_clock_changes_and_decades() {
        for (text, zone, now, last, next) in [
            (
                "30 2 * * *",
                "Europe/Berlin",
                "2026-06-01T12:00:00Z",
                "2026-06-01T00:30:00Z",
                "2026-06-02T00:30:00Z",
            ),
            // The clock change skips 2:30.
            (
                "30 2 * * *",
                "Europe/Berlin",
                "2026-03-28T12:00:00Z",
                "2026-03-28T01:30:00Z",
                "2026-03-29T01:00:00Z",
            ),
            // A match at the current time is the last one.
            (
                "0 0 29 2 *",
                "UTC",
                "2096-02-29T00:00:00Z",
                "2096-02-29T00:00:00Z",
                "2104-02-29T00:00:00Z",
            ),
            // Either day field suffices: June 5 is a Friday.
            (
                "0 0 13 * FRI",
                "UTC",
                "2026-06-01T00:00:00Z",
                "2026-05-29T00:00:00Z",
                "2026-06-05T00:00:00Z",
            ),
            // The last day of the month.
            (
                "0 0 L * *",
                "UTC",
                "2026-06-15T00:00:00Z",
                "2026-05-31T00:00:00Z",
                "2026-06-30T00:00:00Z",
            ),
        ] {
            let schedule = CronSchedule::parse("cron", text, Some(zone)).unwrap();
            let now = at(now);
            assert_eq!(schedule.last_match_until(now), Some(at(last)), "{text}");
            assert_eq!(schedule.next_match_after(now), Some(at(next)), "{text}");
        }
    }
}
