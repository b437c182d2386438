//! The value types of case files and scenarios. Values are validated while they are deserialized, so
//! that errors have a path and a line.

use crate::time::{DURATION, TIME, When, duration};
use policy_host::Duration;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

/// The maximum duration in a file: 100 years, as for the durations of a group.
const MAX_DURATION: Duration = 100 * 36_525 * 864_000;

/// Visits a string and parses it. Rejects values of other types, including numbers and booleans.
pub struct ParseVisitor<T> {
    /// The expected value, for errors about values of other types.
    pub expecting: &'static str,
    /// Parses and validates the string.
    pub parse: fn(&str) -> Result<T, String>,
}

impl<T> Visitor<'_> for ParseVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(E::custom)
    }
}

macro_rules! deserialize_by_parsing {
    ($type:ty, $expecting:expr, $parse:expr) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                // `deserialize_str` would also accept numbers, as strings.
                deserializer.deserialize_any(ParseVisitor {
                    expecting: $expecting,
                    parse: $parse,
                })
            }
        }
    };
}

/// A name that is valid for an item.
#[derive(Debug, Clone, PartialEq)]
pub struct Name(pub String);

const NAME: &str = "a name, which is a string; put a name that looks like a number, a boolean, or null in quotes: \"1\"";

deserialize_by_parsing!(Name, NAME, Name::new);

impl Name {
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        let length = text.chars().count();
        if text.chars().any(char::is_control) {
            return Err(format!(
                "the name {text:?} has a control character; remove it"
            ));
        }
        if !(1..=300).contains(&length) {
            return Err(format!(
                "the name has {length} characters; use 1 to 300 characters"
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

deserialize_by_parsing!(When, TIME, str::parse);

/// A duration of at most 100 years.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BoundedDuration(pub Duration);

deserialize_by_parsing!(BoundedDuration, DURATION, str::parse);

impl FromStr for BoundedDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match duration(text)? {
            length if length <= MAX_DURATION => Ok(Self(length)),
            _ => Err(format!("{text:?} is too long; use at most 100years")),
        }
    }
}

/// A duration longer than zero and at most 100 years.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PositiveDuration(pub Duration);

deserialize_by_parsing!(PositiveDuration, DURATION, str::parse);

impl FromStr for PositiveDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse()? {
            BoundedDuration(0) => Err(format!("{text:?} is too short; use at least 1ms")),
            BoundedDuration(length) => Ok(Self(length)),
        }
    }
}

/// How often an item must succeed; `None` for once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Frequency(pub Option<Duration>);

deserialize_by_parsing!(
    Frequency,
    "a duration such as 30s, 10m, or 1h 30m, or \"once\"",
    |text| match text {
        "once" => Ok(Frequency(None)),
        _ => text
            .parse()
            .map(|PositiveDuration(every)| Frequency(Some(every)))
            .map_err(|error| format!("{error}, or \"once\"")),
    }
);

/// The optional time of a wait or a verdict; `None` for `none`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Until(pub Option<When>);

deserialize_by_parsing!(Until, "\"none\" or a time", Until::new);

impl Until {
    fn new(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(None));
        }
        match text.parse() {
            Ok(when) => Ok(Self(Some(when))),
            Err(error) => Err(format!("{error}, or \"none\"")),
        }
    }
}

/// An expected wait; `None` for any wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wait(pub Option<Until>);

impl<'de> Deserialize<'de> for Wait {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WaitVisitor;
        impl Visitor<'_> for WaitVisitor {
            type Value = Wait;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "true for any wait, \"none\", or {TIME}")
            }

            fn visit_bool<E: Error>(self, any: bool) -> Result<Wait, E> {
                if any {
                    Ok(Wait(None))
                } else {
                    Err(E::custom(
                        "false is not supported; set `run` instead, or use true",
                    ))
                }
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Wait, E> {
                Until::new(text)
                    .map(|until| Wait(Some(until)))
                    .map_err(E::custom)
            }
        }
        deserializer.deserialize_any(WaitVisitor)
    }
}

/// A name, or a list of at least one name.
#[derive(Debug, Clone)]
pub(crate) struct Names(pub Vec<Name>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NamesVisitor;
        impl<'de> Visitor<'de> for NamesVisitor {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{NAME}, or a list of names")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Names, E> {
                Name::new(text)
                    .map(|name| Names(vec![name]))
                    .map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Names, A::Error> {
                let names = Vec::deserialize(SeqAccessDeserializer::new(list))?;
                if names.is_empty() {
                    return Err(A::Error::custom("the list is empty; add at least one item"));
                }
                Ok(Names(names))
            }
        }
        deserializer.deserialize_any(NamesVisitor)
    }
}

/// The maximum number of seeds of a case.
const MAX_SEEDS: u64 = 100_000;

/// The seeds of a case.
#[derive(Debug, Clone)]
pub(crate) enum Seeds {
    /// The seeds from 0 up to this number, exclusive.
    Count(u64),
    /// Exactly these seeds.
    List(Vec<u64>),
}

impl<'de> Deserialize<'de> for Seeds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SeedsVisitor;
        impl<'de> Visitor<'de> for SeedsVisitor {
            type Value = Seeds;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(
                    f,
                    "a number of seeds from 1 to {MAX_SEEDS}, or a list of seeds"
                )
            }

            fn visit_u64<E: Error>(self, count: u64) -> Result<Seeds, E> {
                match count {
                    1..=MAX_SEEDS => Ok(Seeds::Count(count)),
                    _ => Err(E::invalid_value(
                        serde::de::Unexpected::Unsigned(count),
                        &self,
                    )),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Seeds, A::Error> {
                let seeds = Vec::<u64>::deserialize(SeqAccessDeserializer::new(list))?;
                if seeds.is_empty() {
                    return Err(A::Error::custom("the list is empty; add at least one seed"));
                }
                Ok(Seeds::List(seeds))
            }
        }
        deserializer.deserialize_any(SeedsVisitor)
    }
}

/// The error for a YAML tag in settings.
const TAG: &str = "settings are JSON, which has no YAML tags; remove the tag";

/// Settings: a YAML mapping, converted to the JSON object that a policy receives.
#[derive(Debug, Clone)]
pub struct Settings(pub String);

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SettingsVisitor;
        impl<'de> Visitor<'de> for SettingsVisitor {
            type Value = Settings;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("settings, a mapping such as {base: 1m}")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Settings, A::Error> {
                let object = JsonVisitor.visit_map(map)?;
                Ok(Settings(object.to_string()))
            }

            fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Settings, A::Error> {
                Err(A::Error::custom(TAG))
            }
        }
        deserializer.deserialize_any(SettingsVisitor)
    }
}

/// A JSON value in a YAML file. Rejects values that JSON cannot represent.
struct Json(Value);

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor).map(Self)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        match Number::from_f64(number) {
            Some(number) => Ok(number.into()),
            None => Err(E::custom(
                "settings are JSON, which has no .nan or .inf; use a finite number",
            )),
        }
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Json(value)) = list.next_element()? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((key, Json(value))) = map.next_entry::<String, Json>()? {
            if object.contains_key(&key) {
                return Err(A::Error::custom(format!(
                    "{key:?} is listed twice; remove one of them"
                )));
            }
            object.insert(key, value);
        }
        Ok(object.into())
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Value, A::Error> {
        Err(A::Error::custom(TAG))
    }
}

/// A mapping from names, in order. Duplicate names are rejected.
#[derive(Debug, Clone)]
pub(crate) struct Entries<T>(pub Vec<(Name, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for EntriesVisitor<T> {
            type Value = Entries<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping whose keys are names of items")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<T>, A::Error> {
                let mut entries: Vec<(Name, T)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<Name, T>()? {
                    if entries.iter().any(|(earlier, _)| *earlier == name) {
                        return Err(A::Error::custom(format!(
                            "{:?} is listed twice; remove one of them",
                            name.0
                        )));
                    }
                    entries.push((name, value));
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_any(EntriesVisitor(PhantomData))
    }
}

/// A value that is written as a string or as a mapping with more fields.
pub(crate) trait ScalarOrMap<'de>: Sized {
    /// The expected value, for messages.
    const EXPECTING: &'static str;
    /// The type of the mapping.
    type Map: Deserialize<'de> + Into<Self>;

    /// Converts the string form.
    fn from_scalar(text: &str) -> Result<Self, String>;

    /// Deserializes either form.
    fn deserialize_either<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<S>(PhantomData<S>);
        impl<'de, S: ScalarOrMap<'de>> Visitor<'de> for Either<S> {
            type Value = S;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(S::EXPECTING)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<S, E> {
                S::from_scalar(text).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<S, A::Error> {
                S::Map::deserialize(MapAccessDeserializer::new(map)).map(Into::into)
            }
        }
        deserializer.deserialize_any(Either::<Self>(PhantomData))
    }
}
