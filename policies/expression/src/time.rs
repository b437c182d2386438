//! Timestamps and durations as text, and the calendar.

use jiff_core::Timestamp;
use jiff_core::civil::{Date, DateTime, Time};
use jiff_core::tz::Offset;
use jiff_core::tz::posix::TimeZone;
use std::cell::Cell;

/// A time zone.
#[derive(Clone, Debug)]
pub enum Zone {
    Offset(Offset),
    Rule(Box<Rule>),
}

/// A zone whose offset may change during the year.
#[derive(Clone, Debug)]
pub struct Rule {
    zone: TimeZone,
    /// The latest timestamp and its offset: all items ask for the local time of `now`.
    latest: Cell<Option<(Timestamp, Offset)>>,
}

impl Rule {
    fn offset(&self, timestamp: Timestamp) -> Offset {
        match self.latest.get() {
            Some((latest, offset)) if latest == timestamp => offset,
            _ => {
                let offset = self.zone.to_offset(timestamp);
                self.latest.set(Some((timestamp, offset)));
                offset
            }
        }
    }
}

impl Zone {
    pub const UTC: Self = Self::Offset(Offset::UTC);

    /// Creates a zone from a rule in the format of the POSIX variable TZ.
    pub fn from_rule(rule: &str) -> Option<Self> {
        let zone = TimeZone::parse(rule).ok()?;
        let latest = Cell::new(None);
        Some(Self::Rule(Box::new(Rule { zone, latest })))
    }

    /// Returns the local time at a number of milliseconds since 1970; `None` if the year is not
    /// between -9999 and 9999.
    pub fn local(&self, millis: i64) -> Option<DateTime> {
        let timestamp = Timestamp::from_millisecond(millis).ok()?;
        let offset = match self {
            Self::Offset(offset) => *offset,
            Self::Rule(rule) => rule.offset(timestamp),
        };
        Some(timestamp.to_datetime(offset))
    }
}

/// Formats a timestamp as RFC 3339; `None` if it is out of range.
pub fn format_timestamp(millis: i64) -> Option<String> {
    let local = Zone::UTC.local(millis)?;
    let (date, time) = (local.date(), local.time());
    let (year, month, day) = (date.year(), date.month(), date.day());
    let (hour, minute, second) = (time.hour(), time.minute(), time.second());
    let fraction = fraction(millis.rem_euclid(1000));
    Some(format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z"
    ))
}

/// Formats a duration as CEL does: in seconds.
pub fn format_duration(millis: i64) -> String {
    let sign = if millis < 0 { "-" } else { "" };
    let millis = millis.unsigned_abs();
    // The remainder is less than 1000.
    format!(
        "{sign}{}{}s",
        millis / 1000,
        fraction((millis % 1000) as i64)
    )
}

/// Formats milliseconds as a fraction of a second.
fn fraction(millis: i64) -> String {
    if millis == 0 {
        return String::new();
    }
    format!(".{millis:03}").trim_end_matches('0').to_owned()
}

/// Parses a timestamp of RFC 3339, such as `2026-01-31T06:00:00.5+02:00`.
pub fn parse_timestamp(text: &str) -> Option<i64> {
    let (date_time, rest) = text.split_at_checked("2026-01-31T06:00:00".len())?;
    let bytes = date_time.as_bytes();
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if !separators
        .iter()
        .all(|(at, separator)| bytes[*at] == *separator)
    {
        return None;
    }
    let number = |from: usize, to: usize| {
        let digits = &bytes[from..to];
        let valid = digits.iter().all(u8::is_ascii_digit);
        // At most four digits.
        valid.then(|| {
            digits
                .iter()
                .fold(0, |sum, digit| sum * 10 + i16::from(digit - b'0'))
        })
    };
    // Two digits fit.
    let small = |from: usize| number(from, from + 2).map(|number| number as i8);
    let (nanos, zone) = match rest.strip_prefix('.') {
        None => (0, rest),
        Some(rest) => {
            let end = rest.find(|c: char| !c.is_ascii_digit())?;
            let (digits, zone) = rest.split_at(end);
            (fraction_of(digits, 1_000_000_000)?, zone)
        }
    };
    let offset = match zone {
        "Z" => Offset::UTC,
        _ => fixed_offset(zone)?,
    };
    let date = Date::new(number(0, 4)?, small(5)?, small(8)?).ok()?;
    let time = Time::new(small(11)?, small(14)?, small(17)?, nanos.try_into().ok()?).ok()?;
    let timestamp = DateTime::from_parts(date, time).to_timestamp(offset).ok()?;
    whole_millis(timestamp.as_nanosecond())
}

/// Parses `+HH:MM` or `-HH:MM`.
pub fn fixed_offset(text: &str) -> Option<Offset> {
    let (sign, digits) = match text.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = digits.split_once(':')?;
    let number = |text: &str, most: i32| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse::<i32>().ok()?;
        (digits && number <= most).then_some(number)
    };
    let seconds = number(hours, 23)? * 3600 + number(minutes, 59)? * 60;
    Offset::from_seconds(sign * seconds).ok()
}

const UNITS: [(&str, i64); 7] = [
    ("h", 3_600_000_000_000),
    ("ms", 1_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("us", 1000),
    ("µs", 1000),
    ("ns", 1),
];

/// Parses a duration of CEL, such as `-1h30m` or `1.5s`.
pub fn parse_duration(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanos: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let (name, unit) = UNITS.iter().find(|(name, _)| after.starts_with(name))?;
        rest = after.strip_prefix(name)?;
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && part.is_empty() {
            return None;
        }
        let whole: u64 = if whole.is_empty() {
            0
        } else {
            whole.parse().ok()?
        };
        nanos += i128::from(whole) * i128::from(*unit) + i128::from(fraction_of(part, *unit)?);
    }
    whole_millis(sign * nanos)
}

/// Returns the fraction of `unit` that the digits after a decimal point represent.
fn fraction_of(digits: &str, unit: i64) -> Option<i64> {
    if digits.is_empty() {
        return Some(0);
    }
    if digits.len() > 9 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: i128 = digits.parse().ok()?;
    let scale = 10_i128.pow(digits.len() as u32);
    i64::try_from(number * i128::from(unit) / scale).ok()
}

/// Returns the milliseconds; `None` if there is a remainder. Times in requests have none.
fn whole_millis(nanos: i128) -> Option<i64> {
    let whole = nanos % 1_000_000 == 0;
    whole.then(|| i64::try_from(nanos / 1_000_000).ok())?
}
