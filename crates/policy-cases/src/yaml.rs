//! The small forms that the files are made of, each with a message of its own when
//! something else is given.

use crate::time::{DURATION, TIME, When, duration};
use policy_host::Duration;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// Text with a form: anything but text is refused, a number or a bool too.
struct Text<T> {
    expecting: &'static str,
    parse: fn(&str) -> Result<T, String>,
}

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(E::custom)
    }
}

macro_rules! text {
    ($type:ty, $expecting:expr, $parse:expr) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                // Not deserialize_str: to that a YAML reader gives numbers as text.
                deserializer.deserialize_any(Text {
                    expecting: $expecting,
                    parse: $parse,
                })
            }
        }
    };
}

/// A name, within the bounds that the contract has for those of items.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Name(pub String);

const NAME: &str =
    "a name, which is text; what YAML takes for a number, a bool or null goes in quotes, \"1\"";

text!(Name, NAME, Name::new);

impl Name {
    pub fn new(text: &str) -> Result<Self, String> {
        let length = text.chars().count();
        if text.chars().any(char::is_control) {
            return Err(format!(
                "the name {text:?} has a control character; leave it out"
            ));
        }
        if !(1..=300).contains(&length) {
            return Err(format!(
                "the name has {length} characters; it must have 1 to 300"
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

text!(When, TIME, str::parse);

/// A length of time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span(pub Duration);

text!(Span, DURATION, |text| duration(text).map(Span));

/// How often an item must succeed; `None`: once is enough.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frequency(pub Option<Duration>);

text!(
    Frequency,
    "a duration such as 30s, 10m or 1h 30m, or \"once\"",
    |text| match text {
        "once" => Ok(Frequency(None)),
        _ => duration(text)
            .map(|every| Frequency(Some(every)))
            .map_err(|error| format!("{error}, or \"once\"")),
    }
);

/// A time that may be absent, as an answer has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Until(pub Option<When>);

text!(Until, "\"none\" or a time", Until::new);

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

/// Which waiting is expected; `None`: any.
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
                match any {
                    true => Ok(Wait(None)),
                    false => Err(E::custom(
                        "false says nothing; write `run` for what is to run, or `wait: true`",
                    )),
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

/// One name, or a list of at least one.
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
                    return Err(A::Error::custom(
                        "the list is empty; name at least one item",
                    ));
                }
                Ok(Names(names))
            }
        }
        deserializer.deserialize_any(NamesVisitor)
    }
}

/// The most seeds that one case may ask for.
const SEEDS: u64 = 100_000;

/// The seeds of a case.
#[derive(Debug, Clone)]
pub(crate) enum Seeds {
    /// 0 up to, and without, this number.
    Count(u64),
    /// These.
    List(Vec<u64>),
}

impl<'de> Deserialize<'de> for Seeds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SeedsVisitor;
        impl<'de> Visitor<'de> for SeedsVisitor {
            type Value = Seeds;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a number of seeds from 1 to {SEEDS}, or a list of seeds")
            }

            fn visit_u64<E: Error>(self, count: u64) -> Result<Seeds, E> {
                match count {
                    1..=SEEDS => Ok(Seeds::Count(count)),
                    _ => Err(E::invalid_value(
                        serde::de::Unexpected::Unsigned(count),
                        &self,
                    )),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Seeds, A::Error> {
                let seeds = Vec::<u64>::deserialize(SeqAccessDeserializer::new(list))?;
                if seeds.is_empty() {
                    return Err(A::Error::custom(
                        "the list is empty; give at least one seed",
                    ));
                }
                Ok(Seeds::List(seeds))
            }
        }
        deserializer.deserialize_any(SeedsVisitor)
    }
}

/// Settings: a YAML mapping, kept as the JSON object that a policy is given.
#[derive(Debug, Clone)]
pub(crate) struct Settings(pub String);

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SettingsVisitor;
        impl<'de> Visitor<'de> for SettingsVisitor {
            type Value = Settings;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("settings, a mapping such as {base: 1m}")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Settings, A::Error> {
                // By way of YAML's own type, which refuses a key that is given twice.
                let map = MapAccessDeserializer::new(map);
                let mapping = serde_norway::Mapping::deserialize(map)?;
                if !mapping.values().all(finite) {
                    return Err(A::Error::custom(
                        "settings are JSON, which has no .nan and no .inf; write another number",
                    ));
                }
                match serde_json::to_value(mapping) {
                    Ok(object) => Ok(Settings(object.to_string())),
                    Err(error) => Err(A::Error::custom(format!(
                        "this cannot be written as a JSON object: {error}"
                    ))),
                }
            }
        }
        deserializer.deserialize_any(SettingsVisitor)
    }
}

/// Whether every number in it is one in JSON too, where it would silently become null.
fn finite(value: &serde_norway::Value) -> bool {
    use serde_norway::Value;
    match value {
        Value::Number(number) => number.as_f64().is_none_or(f64::is_finite),
        Value::Sequence(list) => list.iter().all(finite),
        Value::Mapping(mapping) => mapping.values().all(finite),
        Value::Tagged(tagged) => finite(&tagged.value),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

/// A mapping from names, in order; a name given twice is refused.
#[derive(Debug, Clone)]
pub(crate) struct Entries<T>(pub Vec<(Name, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for EntriesVisitor<T> {
            type Value = Entries<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping from names of items")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<T>, A::Error> {
                let mut entries: Vec<(Name, T)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<Name, T>()? {
                    if entries.iter().any(|(earlier, _)| *earlier == name) {
                        return Err(A::Error::custom(format!(
                            "{:?} is given twice; give it once",
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

/// A word, or a mapping that says more.
pub(crate) trait Short<'de>: Sized {
    /// What is expected, for messages.
    const EXPECTING: &'static str;
    /// The type of the mapping.
    type Long: Deserialize<'de> + Into<Self>;

    /// From the word alone.
    fn short(text: &str) -> Result<Self, String>;

    /// Reads either.
    fn either<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<S>(PhantomData<S>);
        impl<'de, S: Short<'de>> Visitor<'de> for Either<S> {
            type Value = S;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(S::EXPECTING)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<S, E> {
                S::short(text).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<S, A::Error> {
                S::Long::deserialize(MapAccessDeserializer::new(map)).map(Into::into)
            }
        }
        deserializer.deserialize_any(Either::<Self>(PhantomData))
    }
}
