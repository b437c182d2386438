//! Why an expression could not be evaluated for an item.

use crate::budget::MAX_ITEM_SETTINGS;
use std::borrow::Cow;
use std::fmt;

/// The maximum length of an excerpt in a message, in bytes.
const EXCERPT: usize = 80;

/// A failed evaluation of the part of an expression from byte `start` to byte `end`.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub start: usize,
    pub end: usize,
    pub reason: Reason,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// An optional field of an item or of the group has no value.
    Absent,
    /// An object in the settings does not have this key.
    NoKey(Quote),
    /// A list does not have this element.
    NoElement(i64),
    DivisionByZero,
    /// A result is not representable.
    OutOfRange,
    /// An operator or a function does not accept values of these types.
    WrongTypes(&'static str, Option<&'static str>),
    /// The group has no item with this name.
    UnknownItem(Quote),
    NotADuration(Quote),
    NotATimestamp(Quote),
    NotANumber(Quote),
    UnknownZone(Quote),
    /// A value has another type than required.
    Expected {
        expected: &'static str,
        found: &'static str,
    },
    /// A calculation has no numeric result, such as 0.0 / 0.0.
    NotOrdered,
    /// The settings of an item cannot be parsed.
    Settings,
    /// The settings of an item are too long.
    LongSettings,
    /// The texts or lists of an item are too long.
    TooMuchWork,
}

/// The beginning of a text in quotes. The text may be long, and a message about each item costs fuel
/// and memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Quote(String);

impl Quote {
    pub fn new(text: &str) -> Self {
        Self(["\"", &excerpt(text), "\""].concat())
    }
}

impl fmt::Display for Quote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Truncates a text to [`EXCERPT`] bytes.
pub fn excerpt(text: &str) -> Cow<'_, str> {
    if text.len() <= EXCERPT {
        return Cow::Borrowed(text);
    }
    let start = text.get(..text.floor_char_boundary(EXCERPT));
    Cow::Owned([start.unwrap_or_default(), "…"].concat())
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("the value is absent; use has(…) to check for it"),
            Self::NoKey(key) => write!(f, "no key {key}; use has(…) to check for it"),
            Self::NoElement(index) => write!(f, "no element {index}"),
            Self::DivisionByZero => f.write_str("division by zero"),
            Self::OutOfRange => f.write_str("the result is out of range"),
            Self::WrongTypes(one, None) => write!(f, "not supported for a value of type {one}"),
            Self::WrongTypes(one, Some(other)) => {
                write!(f, "not supported for values of type {one} and {other}")
            }
            Self::UnknownItem(name) => write!(f, "the group has no item {name}"),
            Self::NotADuration(text) => write!(
                f,
                "{text} is not a duration in whole milliseconds; use for example 30s, 5m, or 1h30m"
            ),
            Self::NotATimestamp(text) => write!(
                f,
                "{text} is not a timestamp before 9999-12-30 in whole milliseconds; use for example \
                 2026-01-31T06:00:00Z"
            ),
            Self::NotANumber(text) => write!(f, "{text} is not a number"),
            Self::UnknownZone(name) => write!(
                f,
                "unknown time zone {name}; use for example Europe/Berlin or +02:00"
            ),
            Self::Expected { expected, found } => {
                write!(f, "expected a value of type {expected}, but found {found}")
            }
            Self::NotOrdered => f.write_str("the result is not a number"),
            Self::LongSettings => write!(
                f,
                "the settings of the item are longer than {MAX_ITEM_SETTINGS} bytes, or have too \
                 many values; shorten them"
            ),
            Self::TooMuchWork => f.write_str("the text or the list is too long for an item"),
            Self::Settings => f.write_str("the settings of the item are not a JSON object"),
        }
    }
}
