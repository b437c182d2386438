//! The values in a scenario. Each is checked where it stands in the file, so that the
//! message has its path and line.

use policy_host::Instant;
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// As long as anything in a scenario may be: 100 years, as for a group's own durations.
const LONGEST: u64 = 100 * 36_525 * 864_000;

/// A length of time in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Span(pub u64);

/// A length of time that is not nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Positive(pub u64);

/// How often an item must succeed; `None` where one success is enough.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Frequency(pub Option<u64>);

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Moment(pub Instant);

/// A probability.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Share(f64);

/// How long runs take: evenly distributed, both ends included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Took {
    min: u64,
    max: u64,
}

/// A part of the simulated time, from its beginning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spell {
    /// The first millisecond of it.
    pub from: u64,
    /// The first millisecond after it.
    pub to: u64,
}

/// An item's name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Name(pub String);

impl Share {
    /// Draws once, whatever the probability, so that the draws after it stay the same when
    /// the probability is changed.
    pub fn draw(self, random: &mut ChaCha8Rng) -> bool {
        random.random::<f64>() < self.0
    }
}

impl Took {
    /// A duration in milliseconds.
    pub fn draw(self, random: &mut ChaCha8Rng) -> u64 {
        random.random_range(self.min..=self.max)
    }
}

fn span(text: &str) -> Result<u64, String> {
    match policy_cases::time::duration(text)? {
        millis if millis <= LONGEST => Ok(millis),
        _ => Err(format!("{text} is too long; at most 100years are possible")),
    }
}

fn some(text: &str) -> Result<u64, String> {
    match span(text)? {
        0 => Err(format!("{text} is no time at all; 1ms is the least")),
        millis => Ok(millis),
    }
}

fn name(text: &str) -> Result<Name, String> {
    match text.chars().count() {
        1..=300 if text.chars().any(char::is_control) => {
            Err(format!("{text:?} has a control character in it"))
        }
        1..=300 => Ok(Name(text.to_owned())),
        length => Err(format!(
            "the name has {length} characters; an item has 1 to 300"
        )),
    }
}

fn moment(text: &str) -> Result<Moment, String> {
    chrono::DateTime::parse_from_rfc3339(text)
        .map(|at| Moment(at.timestamp_millis()))
        .map_err(|error| {
            format!("{text:?} is no time ({error}); write it like 2026-01-01T00:00:00Z")
        })
}

/// Takes text, and has it read by a function.
struct Text<T>(&'static str, fn(&str) -> Result<T, String>);

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.1)(text).map_err(E::custom)
    }
}

/// Implements `Deserialize` from text.
macro_rules! from_text {
    ($type:ty, $expecting:literal, $read:expr) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                d.deserialize_str(Text($expecting, $read))
            }
        }
    };
}
from_text!(Span, "a duration like 20m", |text| span(text).map(Span));
from_text!(Positive, "a duration like 20m", |text| some(text)
    .map(Positive));
from_text!(Name, "a name", name);
from_text!(Moment, "a time like 2026-01-01T00:00:00Z", moment);
from_text!(
    Frequency,
    "a duration like 1h, or once",
    |text| match text {
        "once" => Ok(Frequency(None)),
        text => some(text).map(|millis| Frequency(Some(millis))),
    }
);

/// Takes a list or an object in its plain form `R`, and has it checked by a function while
/// the reader still knows where it stands.
pub(crate) struct Checked<R, T> {
    /// What is said to be expected where something else is.
    pub expecting: &'static str,
    /// The check.
    pub check: fn(R) -> Result<T, String>,
    /// The plain form.
    pub plain: PhantomData<R>,
}

impl<'de, R: Deserialize<'de>, T> Visitor<'de> for Checked<R, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        let plain = R::deserialize(MapAccessDeserializer::new(map))?;
        (self.check)(plain).map_err(A::Error::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<T, A::Error> {
        let plain = R::deserialize(SeqAccessDeserializer::new(seq))?;
        (self.check)(plain).map_err(A::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Spell {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Plain {
            from: Span,
            to: Span,
        }
        d.deserialize_map(Checked {
            expecting: "an object with from and to",
            check: |plain: Plain| match (plain.from.0, plain.to.0) {
                (from, to) if from < to => Ok(Spell { from, to }),
                _ => Err("from must be earlier than to".to_owned()),
            },
            plain: PhantomData,
        })
    }
}

impl<'de> Deserialize<'de> for Took {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Took;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a duration like 20m, or an object with min and max")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Took, E> {
                let millis = span(text).map_err(E::custom)?;
                Ok(Took {
                    min: millis,
                    max: millis,
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Took, A::Error> {
                #[derive(serde::Deserialize)]
                #[serde(deny_unknown_fields)]
                struct Plain {
                    min: Span,
                    max: Span,
                }
                let plain = Plain::deserialize(MapAccessDeserializer::new(map))?;
                match (plain.min.0, plain.max.0) {
                    (min, max) if min <= max => Ok(Took { min, max }),
                    _ => Err(A::Error::custom("min must not be more than max")),
                }
            }
        }
        d.deserialize_any(Either)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Share;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a probability from 0 to 1")
            }

            fn visit_f64<E: Error>(self, share: f64) -> Result<Share, E> {
                if (0.0..=1.0).contains(&share) {
                    Ok(Share(share))
                } else {
                    Err(E::custom(format!(
                        "{share} is no probability; it must be from 0 to 1"
                    )))
                }
            }

            fn visit_u64<E: Error>(self, share: u64) -> Result<Share, E> {
                self.visit_f64(share as f64)
            }

            fn visit_i64<E: Error>(self, share: i64) -> Result<Share, E> {
                self.visit_f64(share as f64)
            }
        }
        d.deserialize_f64(Number)
    }
}
