//! The value types that only scenarios use. Values are validated while they are deserialized, so that
//! errors have a path and a line.

use policy_cases::schema_of;
use policy_cases::time::When;
use policy_cases::yaml::{BoundedDuration, ParseVisitor};
use policy_host::Instant;
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use schemars::{JsonSchema, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Unexpected, Visitor};
use std::fmt;

/// The maximum number of items in a group.
pub(super) const MAX_ITEMS: usize = 2_000;

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

/// A number of items.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Count(pub u32);

/// A period of the simulated time, relative to its start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Period {
    /// The first millisecond of the period.
    pub from: u64,
    /// The first millisecond after the period.
    pub to: u64,
}

impl Probability {
    /// Returns `part` divided by `all`, or 0 if `all` is 0.
    pub fn of(part: usize, all: usize) -> Self {
        Self((part as f64 / all.max(1) as f64).min(1.0))
    }

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

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct CountVisitor;
        impl Visitor<'_> for CountVisitor {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                write!(f, "a number of items from 1 to {MAX_ITEMS}")
            }

            fn visit_u64<E: Error>(self, count: u64) -> Result<Count, E> {
                match u32::try_from(count) {
                    Ok(number) if (1..=MAX_ITEMS as u64).contains(&count) => Ok(Count(number)),
                    _ => Err(E::invalid_value(Unexpected::Unsigned(count), &self)),
                }
            }
        }
        d.deserialize_u64(CountVisitor)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct PeriodVisitor;
        impl<'de> Visitor<'de> for PeriodVisitor {
            type Value = Period;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a mapping such as {from: 1day, to: 2days}")
            }

            // Validating here gives errors a path and a line.
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Period, A::Error> {
                let raw = RawPeriod::deserialize(MapAccessDeserializer::new(map))?;
                match (raw.from.0, raw.to.0) {
                    (from, to) if from < to => Ok(Period { from, to }),
                    _ => Err(A::Error::custom("from must be earlier than to")),
                }
            }
        }
        d.deserialize_any(PeriodVisitor)
    }
}

/// A period, from the start of the simulation.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Period")]
struct RawPeriod {
    /// The start of the period, included.
    from: BoundedDuration,
    /// The end of the period, not included.
    to: BoundedDuration,
}

/// A duration that is different for each run.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "DurationRange")]
struct RawRange {
    /// The minimum, included.
    min: BoundedDuration,
    /// The maximum, included.
    max: BoundedDuration,
}

impl<'de> Deserialize<'de> for RunDuration {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct DurationOrRange;
        impl<'de> Visitor<'de> for DurationOrRange {
            type Value = RunDuration;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a duration such as 20m, or a mapping such as {min: 10m, max: 20m}")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<RunDuration, E> {
                let BoundedDuration(length) = text.parse().map_err(E::custom)?;
                Ok(RunDuration {
                    min: length,
                    max: length,
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RunDuration, A::Error> {
                let raw = RawRange::deserialize(MapAccessDeserializer::new(map))?;
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

schema_of!(Timestamp, "AbsoluteTime", _generator => json_schema!({
    "description": "An absolute time.",
    "type": "string",
    "examples": ["2026-01-01T00:00:00Z"],
}));

schema_of!(Probability, "Probability", _generator => json_schema!({
    "description": "A probability.",
    "type": "number",
    "minimum": 0,
    "maximum": 1,
    "examples": [0.1, 1],
}));

schema_of!(Count, "Count", _generator => json_schema!({
    "description": "A number of items.",
    "type": "integer",
    "minimum": 1,
    "maximum": MAX_ITEMS,
    "examples": [10],
}));

schema_of!(RunDuration, "RunDuration", generator => json_schema!({
    "description": "How long runs take: always the same, or uniformly distributed in a range.",
    "anyOf": [
        generator.subschema_for::<BoundedDuration>(),
        generator.subschema_for::<RawRange>(),
    ],
    "examples": ["20m", { "min": "10m", "max": "20m" }],
}));

schema_of!(Period, "Period", generator => RawPeriod::json_schema(generator));
