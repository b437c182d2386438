//! Blackout windows: when nothing starts. Pure.
//!
//! The rule. A window opens whenever the clocks of its time zone show a minute that its schedule
//! names, and stays open for its duration, which is elapsed time. A minute that the clocks skip
//! (they are put forward) opens it in the moment of the skip. A minute that they show twice (they
//! are put back) opens it twice. So whoever says "from 1 o'clock for an hour" has nothing start at
//! half past one, whichever of the two it is. Windows that overlap or touch are one blackout.

#[cfg(test)]
mod tests;

use crate::api::{BlackoutWindow, Running, Timestamp};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use k8s_openapi::jiff::civil::{DateTime, date};
use k8s_openapi::jiff::tz::{Offset, TimeZone, TimeZoneDatabase};
use k8s_openapi::jiff::{self, SignedDuration};
use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

/// Longest window.
pub const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// The same time zones on every machine, also on one that has none.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// Pieces of windows that one blackout is put together from; one that goes on for longer is looked
/// at again where that ends.
const PIECES: usize = 100;

/// A window, understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    name: String,
    schedule: Cron,
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
    /// Understands a window that is open for `duration`.
    ///
    /// # Errors
    /// What is wrong with schedule or zone, in words.
    pub fn read(spec: &BlackoutWindow, duration: Duration) -> Result<Self, String> {
        let text = spec.schedule.trim();
        let right = "it has five fields (minute, hour, day of the month, month, day of the week), such as \"0 22 * * 1-5\"";
        if text.starts_with('@') || text.split_whitespace().count() != 5 {
            return Err(format!("schedule is {text:?}; {right}"));
        }
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build();
        let schedule = parser.parse(text).map_err(|error| {
            format!("schedule is {text:?}, which cannot be read ({error}); {right}")
        })?;
        // From a leap year's first day on, so that the 29th of February is found soon.
        if schedule
            .find_next_occurrence(&date(2028, 1, 1).at(0, 0, 0, 0), true)
            .is_err()
        {
            return Err(format!("schedule is {text:?}; there is no such day"));
        }
        let zone = spec.time_zone.as_deref().unwrap_or("UTC");
        let zone = ZONES.get(zone).map_err(|_| {
            format!(
                "timeZone is {zone:?}, which is not known; it is written like Europe/Berlin or UTC"
            )
        })?;
        Ok(Self {
            name: spec.name.clone().unwrap_or_else(|| format!("{text:?}")),
            schedule,
            duration: SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX),
            zone,
            stop: spec.running == Running::Stop,
            fits: spec.start_if_fits,
        })
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
            let local = offset.to_datetime(at);
            let found = self.schedule.find_previous_occurrence(&local, true).ok();
            let found = found.and_then(|local| offset.to_timestamp(local).ok());
            let Some(began) = began else {
                return found.filter(|found| *found >= since);
            };
            if let Some(found) = found.filter(|found| *found >= began) {
                return Some(found).filter(|found| *found >= since);
            }
            if began < since {
                return None;
            }
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
            let ends = self.zone.following(from).next();
            let local = offset.to_datetime(from);
            let found = self.schedule.find_next_occurrence(&local, inclusive).ok();
            let found = found.and_then(|local| offset.to_timestamp(local).ok());
            let Some(ends) = ends else {
                return found.filter(|found| *found <= until);
            };
            if let Some(found) = found.filter(|found| *found < ends.timestamp()) {
                return Some(found).filter(|found| *found <= until);
            }
            if ends.timestamp() > until {
                return None;
            }
            if self.skipped(ends.timestamp(), offset, ends.offset()) {
                return Some(ends.timestamp());
            }
            (from, inclusive) = (ends.timestamp(), true);
        }
    }

    /// Whether the clocks skip a minute at `when` that the schedule names, going from one offset
    /// to another.
    fn skipped(&self, when: jiff::Timestamp, from: Offset, to: Offset) -> bool {
        if to <= from {
            return false;
        }
        let (first, end): (DateTime, DateTime) = (from.to_datetime(when), to.to_datetime(when));
        let next = self.schedule.find_next_occurrence(&first, true);
        next.is_ok_and(|next| next < end)
    }

    /// When it closes that is open at this time.
    fn closes(&self, at: jiff::Timestamp) -> Option<jiff::Timestamp> {
        let since = at
            .checked_sub(self.duration)
            .unwrap_or(jiff::Timestamp::MIN);
        let closes = self.opened(at, since)?.checked_add(self.duration);
        Some(closes.unwrap_or(jiff::Timestamp::MAX)).filter(|closes| *closes > at)
    }
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
    let open = |at| {
        let closes = windows
            .iter()
            .filter_map(move |window| Some((window.closes(at)?, window)));
        closes.max_by_key(|(closes, _)| *closes)
    };
    let (mut until, longest) = open(now)?;
    let mut endless = true;
    for _ in 0..PIECES {
        match open(until) {
            Some((later, _)) => until = later,
            None => {
                endless = false;
                break;
            }
        }
    }
    let stops = |window: &&Window| window.stop && window.closes(now).is_some();
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
