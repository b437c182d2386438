//! Parses YAML documents.

use crate::field_path::ReadError;
use crate::similar::Similar;
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{Deserialize, DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_norway::Value;
use std::fmt;

/// Parses a YAML or JSON document. An empty document is the default value.
///
/// # Errors
/// Returns the position, the path, and the problem. For an unknown field or value, the message
/// suggests similar names.
pub fn parse_yaml<T: DeserializeOwned + Default>(text: &str) -> Result<T, ReadError> {
    // An empty document is null.
    let document: Result<Option<T>, _> = serde_norway::from_str(text);
    document.map(Option::unwrap_or_default).map_err(|error| {
        let mut error = ReadError::from_yaml(&error);
        error.message += &similar_names::<T>(text).to_string();
        error
    })
}

/// Returns the known names that are similar to the unknown name in a rejected document.
fn similar_names<T: DeserializeOwned>(text: &str) -> Similar {
    // The YAML parser's error is only text, so deserialize again with an error type that keeps the
    // names.
    match serde_norway::from_str(text).map(|value| Option::<T>::deserialize(Document(value))) {
        Ok(Err(error)) => error.similar(),
        _ => Similar::default(),
    }
}

/// An error that keeps an unknown name and the known ones.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NameError {
    #[error("unknown name {name:?}")]
    Unknown {
        name: String,
        known: &'static [&'static str],
    },
    #[error("another error")]
    Other,
}

impl NameError {
    /// Returns the known names that are similar to the unknown one.
    pub fn similar(&self) -> Similar {
        match self {
            Self::Unknown { name, known } => Similar::to(name, known.iter().copied()),
            Self::Other => Similar::default(),
        }
    }
}

impl serde::de::Error for NameError {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Other
    }

    fn unknown_field(name: &str, known: &'static [&'static str]) -> Self {
        let name = name.to_owned();
        Self::Unknown { name, known }
    }

    fn unknown_variant(name: &str, known: &'static [&'static str]) -> Self {
        Self::unknown_field(name, known)
    }
}

/// A document whose deserialization fails with a [`NameError`].
struct Document(Value);

impl<'de> IntoDeserializer<'de, NameError> for Document {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Document {
    type Error = NameError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NameError> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(number), ..) => visitor.visit_u64(number),
                (_, Some(number), _) => visitor.visit_i64(number),
                (.., Some(number)) => visitor.visit_f64(number),
                _ => Err(NameError::Other),
            },
            Value::String(text) => visitor.visit_string(text),
            Value::Sequence(list) => {
                visitor.visit_seq(SeqDeserializer::new(list.into_iter().map(Document)))
            }
            Value::Mapping(map) => {
                let entries = map.into_iter();
                let entries = entries.map(|(key, value)| (Document(key), Document(value)));
                visitor.visit_map(MapDeserializer::new(entries))
            }
            Value::Tagged(tagged) => Document(tagged.value).deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NameError> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, NameError> {
        match self.0 {
            Value::String(variant) => visitor.visit_enum(variant.into_deserializer()),
            _ => Err(NameError::Other),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}
