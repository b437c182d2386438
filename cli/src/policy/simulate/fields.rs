//! The types of the values in a scenario. Values are validated while they are deserialized, so
//! that errors have a path and a line.

use policy_host::Instant;
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// The maximum duration in a scenario: 100 years, as for the durations of a group.
const MAX_DURATION: u64 = 100 * 36_525 * 864_000;

/// A duration in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct DurationMs(pub u64);

/// A duration in milliseconds that is longer than zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct PositiveDurationMs(pub u64);

/// How often an item must succeed; `None` for once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Frequency(pub Option<u64>);

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Timestamp(pub Instant);

/// A probability.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Probability(f64);

/// The duration of runs: uniformly distributed from `min` to `max`, both included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RunDuration {
    min: u64,
    max: u64,
}

/// A period of the simulated time, relative to its start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Period {
    /// The first millisecond of the period.
    pub from: u64,
    /// The first millisecond after the period.
    pub to: u64,
}

/// The name of an item.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Name(pub String);

impl Probability {
    /// Draws whether the event happens. Always consumes one random number, so that a change of the
    /// probability does not change later draws.
    pub fn draw(self, random: &mut ChaCha8Rng) -> bool {
        random.random::<f64>() < self.0
    }
}

impl RunDuration {
    /// Draws a duration in milliseconds.
    pub fn draw(self, random: &mut ChaCha8Rng) -> u64 {
        random.random_range(self.min..=self.max)
    }
}

fn parse_duration(text: &str) -> Result<u64, String> {
    match policy_cases::time::duration(text)? {
        millis if millis <= MAX_DURATION => Ok(millis),
        _ => Err(format!("{text} is too long; use at most 100years")),
    }
}

fn parse_positive_duration(text: &str) -> Result<u64, String> {
    match parse_duration(text)? {
        0 => Err(format!("{text} is too short; use at least 1ms")),
        millis => Ok(millis),
    }
}

fn parse_name(text: &str) -> Result<Name, String> {
    match text.chars().count() {
        1..=300 if text.chars().any(char::is_control) => {
            Err(format!("{text:?} contains a control character; remove it"))
        }
        1..=300 => Ok(Name(text.to_owned())),
        length => Err(format!(
            "the name has {length} characters; use 1 to 300 characters"
        )),
    }
}

fn parse_timestamp(text: &str) -> Result<Timestamp, String> {
    chrono::DateTime::parse_from_rfc3339(text)
        .map(|at| Timestamp(at.timestamp_millis()))
        .map_err(|error| {
            format!("{text:?} is not a time ({error}); use for example 2026-01-01T00:00:00Z")
        })
}

/// Visits a string and parses it.
struct ParseVisitor<T> {
    expecting: &'static str,
    parse: fn(&str) -> Result<T, String>,
}

impl<T> Visitor<'_> for ParseVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(E::custom)
    }
}

/// Implements `Deserialize` by parsing a string.
macro_rules! deserialize_by_parsing {
    ($type:ty, $expecting:literal, $parse:expr) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                d.deserialize_str(ParseVisitor {
                    expecting: $expecting,
                    parse: $parse,
                })
            }
        }
    };
}
deserialize_by_parsing!(DurationMs, "a duration, for example 20m", |text| {
    parse_duration(text).map(DurationMs)
});
deserialize_by_parsing!(PositiveDurationMs, "a duration, for example 20m", |text| {
    parse_positive_duration(text).map(PositiveDurationMs)
});
deserialize_by_parsing!(Name, "a name", parse_name);
deserialize_by_parsing!(
    Timestamp,
    "a time, for example 2026-01-01T00:00:00Z",
    parse_timestamp
);
deserialize_by_parsing!(
    Frequency,
    "a duration, for example 1h, or once",
    |text| match text {
        "once" => Ok(Frequency(None)),
        text => parse_positive_duration(text).map(|millis| Frequency(Some(millis))),
    }
);

/// Deserializes a list or an object as `R` and validates it. Validating here gives errors a path
/// and a line.
pub(crate) struct ValidateVisitor<R, T> {
    /// What the error for a value of another type says is expected.
    pub expecting: &'static str,
    /// Validates and converts the raw value.
    pub validate: fn(R) -> Result<T, String>,
    /// The type of the raw value.
    pub raw: PhantomData<R>,
}

impl<'de, R: Deserialize<'de>, T> Visitor<'de> for ValidateVisitor<R, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        let raw = R::deserialize(MapAccessDeserializer::new(map))?;
        (self.validate)(raw).map_err(A::Error::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<T, A::Error> {
        let raw = R::deserialize(SeqAccessDeserializer::new(seq))?;
        (self.validate)(raw).map_err(A::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Raw {
            from: DurationMs,
            to: DurationMs,
        }
        d.deserialize_map(ValidateVisitor {
            expecting: "an object with from and to",
            validate: |raw: Raw| match (raw.from.0, raw.to.0) {
                (from, to) if from < to => Ok(Period { from, to }),
                _ => Err("from must be earlier than to".to_owned()),
            },
            raw: PhantomData,
        })
    }
}

impl<'de> Deserialize<'de> for RunDuration {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct DurationOrRange;
        impl<'de> Visitor<'de> for DurationOrRange {
            type Value = RunDuration;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a duration, for example 20m, or an object with min and max")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<RunDuration, E> {
                let millis = parse_duration(text).map_err(E::custom)?;
                Ok(RunDuration {
                    min: millis,
                    max: millis,
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RunDuration, A::Error> {
                #[derive(serde::Deserialize)]
                #[serde(deny_unknown_fields)]
                struct Raw {
                    min: DurationMs,
                    max: DurationMs,
                }
                let raw = Raw::deserialize(MapAccessDeserializer::new(map))?;
                match (raw.min.0, raw.max.0) {
                    (min, max) if min <= max => Ok(RunDuration { min, max }),
                    _ => Err(A::Error::custom("min must not be more than max")),
                }
            }
        }
        d.deserialize_any(DurationOrRange)
    }
}

impl<'de> Deserialize<'de> for Probability {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Probability;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a probability from 0 to 1")
            }

            fn visit_f64<E: Error>(self, probability: f64) -> Result<Probability, E> {
                if (0.0..=1.0).contains(&probability) {
                    Ok(Probability(probability))
                } else {
                    Err(E::custom(format!(
                        "{probability} is not a probability; use a number from 0 to 1"
                    )))
                }
            }

            fn visit_u64<E: Error>(self, probability: u64) -> Result<Probability, E> {
                self.visit_f64(probability as f64)
            }

            fn visit_i64<E: Error>(self, probability: i64) -> Result<Probability, E> {
                self.visit_f64(probability as f64)
            }
        }
        d.deserialize_f64(Number)
    }
}
