//! JSON Schemas of the files, for editors and for the reference. The fields and their descriptions
//! are those of the types that the files are parsed into.

use crate::expect::{ExpectedValidation, RawStanding, RawVerdict, RejectedMap, VerdictMap};
use crate::given::{ItemMap, RawItem, RawRequest};
use crate::time::When;
use crate::yaml::{
    BoundedDuration, Entries, Frequency, Name, Names, PositiveDuration, Seeds, Settings, Until,
    Wait,
};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

/// Returns the schema of a type as a document, in draft 7, which most editors support.
pub fn document<T: JsonSchema>() -> Schema {
    SchemaSettings::draft07()
        .into_generator()
        .into_root_schema_for::<T>()
}

/// Returns the schema of a file of cases, which [`crate::parse`] parses.
pub fn cases() -> Schema {
    document::<crate::file::File>()
}

/// Returns the schema of a request in YAML, which [`crate::request`] parses.
pub fn request() -> Schema {
    document::<RawRequest>()
}

/// Implements the schema of a type whose parser is written by hand.
#[macro_export]
macro_rules! schema_of {
    ($type:ty, $name:literal, $generator:ident => $schema:expr) => {
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn json_schema($generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                $schema
            }
        }
    };
}

schema_of!(Name, "Name", _generator => json_schema!({
    "description": "The name of an item or a case. Put a name that looks like a number, a boolean, \
                    or null in quotes.",
    "type": "string",
    "minLength": 1,
    "maxLength": 300,
    "examples": ["photos", "1"],
}));

schema_of!(When, "Time", _generator => json_schema!({
    "description": "A time, absolute or relative to the time of the decision.",
    "type": "string",
    "examples": ["2h ago", "in 10m", "now", "2026-01-01T12:00:00Z"],
}));

schema_of!(BoundedDuration, "Duration", _generator => json_schema!({
    "description": "A duration of at most 100 years.",
    "type": "string",
    "examples": ["30s", "10m", "1h 30m", "0s"],
}));

schema_of!(PositiveDuration, "PositiveDuration", _generator => json_schema!({
    "description": "A duration from 1 millisecond to 100 years.",
    "type": "string",
    "examples": ["30s", "7days"],
}));

schema_of!(Frequency, "Frequency", _generator => json_schema!({
    "description": "How often an item must succeed: a duration from 1 millisecond to 100 years, or \
                    `once`.",
    "type": "string",
    "examples": ["1h", "1day", "once"],
}));

schema_of!(Until, "TimeOrNone", _generator => json_schema!({
    "description": "A time, or `none`.",
    "type": "string",
    "examples": ["in 10m", "2026-01-01T12:00:00Z", "none"],
}));

schema_of!(Wait, "Wait", _generator => json_schema!({
    "description": "`true` for any wait, `none` for a wait without a time, or the exact time.",
    "anyOf": [{ "const": true }, { "type": "string" }],
    "examples": [true, "none", "in 10m"],
}));

schema_of!(Names, "Names", generator => json_schema!({
    "description": "A name, or a list of at least one name.",
    "anyOf": [
        generator.subschema_for::<Name>(),
        { "type": "array", "items": generator.subschema_for::<Name>(), "minItems": 1 },
    ],
    "examples": ["a", ["a", "b"]],
}));

schema_of!(Seeds, "Seeds", _generator => json_schema!({
    "description": "The number of seeds to try, from 1 to 100,000, or a list of seeds.",
    "anyOf": [
        { "type": "integer", "minimum": 1, "maximum": 100_000 },
        { "type": "array", "items": { "type": "integer", "minimum": 0 }, "minItems": 1 },
    ],
    "examples": [1, 100, [7, 8]],
}));

schema_of!(Settings, "Settings", _generator => json_schema!({
    "description": "Settings for the policy, which receives them as JSON.",
    "type": "object",
    "examples": [{ "base": "1m" }],
}));

schema_of!(RawItem, "NameOrItem", generator => json_schema!({
    "description": "An item: its name, or a mapping.",
    "anyOf": [generator.subschema_for::<Name>(), generator.subschema_for::<ItemMap>()],
    "examples": ["a", { "name": "a", "lastSuccess": "2h ago" }],
}));

schema_of!(RawVerdict, "StandingOrVerdict", generator => json_schema!({
    "description": "An expected verdict: its standing, or a mapping.",
    "anyOf": [
        generator.subschema_for::<RawStanding>(),
        generator.subschema_for::<VerdictMap>(),
    ],
    "examples": ["fresh", { "standing": "deferred", "note": "not on Mondays" }],
}));

schema_of!(ExpectedValidation, "ExpectedValidation", generator => json_schema!({
    "description": "Whether the policy accepts the settings.",
    "anyOf": [{ "const": "accepted" }, generator.subschema_for::<RejectedMap>()],
    "examples": ["accepted", { "rejected": "must be a number" }],
}));

impl<T: JsonSchema> JsonSchema for Entries<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("MapOf{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "additionalProperties": generator.subschema_for::<T>(),
        })
    }
}

#[cfg(test)]
mod tests;
