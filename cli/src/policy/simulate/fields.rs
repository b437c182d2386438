//! The value types that only scenarios use. Values are validated while they are deserialized, so that
//! errors have a path and a line.

use policy_cases::time::When;
use policy_cases::yaml::{BoundedDuration, ParseVisitor};
use policy_host::Instant;
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

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

impl Probability {
    /// Draws whether the event happens. Always consumes one random number, so that a change of the
    /// probability does not change later draws.
    pub fn draw(self, random: &mut ChaCha8Rng) -> bool {
        random.random::<f64>() < self.0
    }
}

impl RunDuration {
    /// Returns a duration that is always the same.
    pub fn fixed(millis: u64) -> Self {
        Self {
            min: millis,
            max: millis,
        }
    }

    /// Draws a duration in milliseconds.
    pub fn draw(self, random: &mut ChaCha8Rng) -> u64 {
        random.random_range(self.min..=self.max)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(ParseVisitor {
            expecting: "a time such as 2026-01-01T00:00:00Z",
            parse: |text| match text.parse() {
                Ok(When::At(at)) => Ok(Self(at)),
                _ => Err(format!(
                    "{text:?} is not an absolute time; use for example 2026-01-01T00:00:00Z"
                )),
            },
        })
    }
}

/// Deserializes a list or a mapping as `R` and validates it. Validating here gives errors a path
/// and a line.
pub(crate) struct ValidateVisitor<R, T> {
    /// The expected value, for errors about values of other types.
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
            from: BoundedDuration,
            to: BoundedDuration,
        }
        d.deserialize_map(ValidateVisitor {
            expecting: "a mapping with from and to",
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
                f.write_str("a duration such as 20m, or a mapping with min and max")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<RunDuration, E> {
                let BoundedDuration(length) = text.parse().map_err(E::custom)?;
                Ok(RunDuration {
                    min: length,
                    max: length,
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RunDuration, A::Error> {
                #[derive(serde::Deserialize)]
                #[serde(deny_unknown_fields)]
                struct Raw {
                    min: BoundedDuration,
                    max: BoundedDuration,
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
