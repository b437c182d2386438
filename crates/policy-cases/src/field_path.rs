//! Where in a file something stands: as a path of fields, and as line and column.

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use std::fmt;

/// A file that cannot be used, with the place where it is wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadError {
    /// Line and column, counted from 1, where they are known.
    pub position: Option<(usize, usize)>,
    /// The path of fields to the place, what was given, and what would be right.
    pub message: String,
}

impl ReadError {
    pub(crate) fn of_yaml(error: &serde_norway::Error) -> Self {
        let position = error.location().map(|at| (at.line(), at.column()));
        let said = error.to_string();
        let message = position
            .and_then(|(line, column)| {
                said.strip_suffix(&format!(" at line {line} column {column}"))
            })
            .unwrap_or(&said);
        Self {
            position,
            message: message.to_owned(),
        }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.position {
            write!(f, "line {line}, column {column}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for ReadError {}

/// One step of a path.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    Field(String),
    Index(usize),
}

impl From<&str> for Step {
    fn from(field: &str) -> Self {
        Self::Field(field.to_owned())
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

/// A path of fields from the top of a file.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Place(pub Vec<Step>);

impl Place {
    /// The place of a part of this one.
    pub fn of(&self, step: impl Into<Step>) -> Self {
        let mut steps = self.0.clone();
        steps.push(step.into());
        Self(steps)
    }

    /// An error at this place of `text`.
    pub fn error(&self, text: &str, message: &str) -> ReadError {
        ReadError {
            position: self.position(text),
            message: format!("{self}: {message}"),
        }
    }

    /// Line and column of this place, or of the innermost part of it that there is.
    pub fn position(&self, text: &str) -> Option<(usize, usize)> {
        // The reader says where it is when it fails, so it is made to fail at the place.
        let document = serde_norway::Deserializer::from_str(text);
        let error = Find(&self.0).deserialize(document).err()?;
        error.location().map(|at| (at.line(), at.column()))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(name) if number == 0 => write!(f, "{name}")?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Reads up to a place and fails there.
struct Find<'a>(&'a [Step]);

impl<'de> DeserializeSeed<'de> for Find<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Find<'_> {
    type Value = ();

    // Whatever is not visited below fails by itself, at its place.
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a place to fail at")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if let Some((Step::Field(wanted), rest)) = self.0.split_first() {
            while let Some(name) = map.next_key::<String>()? {
                if name == *wanted {
                    return map.next_value_seed(Find(rest));
                }
                map.next_value::<IgnoredAny>()?;
            }
        }
        Err(A::Error::custom("here"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if let Some((Step::Index(wanted), rest)) = self.0.split_first() {
            for _ in 0..*wanted {
                list.next_element::<IgnoredAny>()?;
            }
            if list.next_element_seed(Find(rest))?.is_some() {
                return Ok(());
            }
        }
        Err(A::Error::custom("here"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_found_or_the_innermost_part_of_it() {
        let text =
            "given: {now: x}\ncases:\n  - name: a\n  - name: b\n    expect:\n      run: [c, d]\n";
        let case = Place::default().of("cases").of(1);
        for (place, found) in [
            (Place::default(), (1, 1)),
            (case.clone(), (4, 5)),
            (case.of("name"), (4, 11)),
            (case.of("expect").of("run"), (6, 12)),
            (case.of("expect").of("run").of(1), (6, 16)),
            (case.of("expect").of("wait").of("until"), (6, 7)),
            (Place::default().of("given").of("now"), (1, 14)),
        ] {
            assert_eq!(place.position(text), Some(found), "{place}");
        }
        assert_eq!(
            case.of("expect").of("run").to_string(),
            "cases[1].expect.run"
        );
    }
}
