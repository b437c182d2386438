//! Paths of fields, and their positions in a file.

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use std::fmt;

/// An error in a file, with its position.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadError {
    /// The line and the column, counted from 1, if they are known.
    pub position: Option<(usize, usize)>,
    /// The path of the field, the problem, and the fix.
    pub message: String,
}

impl ReadError {
    /// Converts an error of the YAML parser, whose message contains the path of the field.
    pub(crate) fn from_yaml(error: &serde_norway::Error) -> Self {
        let position = error.location().map(|at| (at.line(), at.column()));
        let text = error.to_string();
        let message = position
            .and_then(|(line, column)| {
                text.strip_suffix(&format!(" at line {line} column {column}"))
            })
            .unwrap_or(&text);
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

/// A step of a path.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// A key of a mapping.
    Field(String),
    /// An index of a list, counted from 0.
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

/// A path of fields from the root of a file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FieldPath(pub Vec<Step>);

impl FieldPath {
    /// Returns the path with another step.
    pub fn child(&self, step: impl Into<Step>) -> Self {
        let mut steps = self.0.clone();
        steps.push(step.into());
        Self(steps)
    }

    /// Creates an error at the position of this path in `text`.
    pub fn error(&self, text: &str, message: &str) -> ReadError {
        ReadError {
            position: self.position(text),
            message: format!("{self}: {message}"),
        }
    }

    /// Returns the line and the column of this path in `text`. If the path does not exist, returns
    /// those of its longest existing prefix.
    pub fn position(&self, text: &str) -> Option<(usize, usize)> {
        // Errors of the deserializer have a position, so this provokes an error at the path.
        let document = serde_norway::Deserializer::from_str(text);
        let error = FailAt(&self.0).deserialize(document).err()?;
        error.location().map(|at| (at.line(), at.column()))
    }
}

impl fmt::Display for FieldPath {
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

/// Deserializes up to a path and fails there.
struct FailAt<'a>(&'a [Step]);

impl<'de> DeserializeSeed<'de> for FailAt<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FailAt<'_> {
    type Value = ();

    // A value of any other type fails by default, at its own position.
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map or a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if let Some((Step::Field(wanted), rest)) = self.0.split_first() {
            while let Some(name) = map.next_key::<String>()? {
                if name == *wanted {
                    return map.next_value_seed(FailAt(rest));
                }
                map.next_value::<IgnoredAny>()?;
            }
        }
        Err(A::Error::custom("end of path"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if let Some((Step::Index(wanted), rest)) = self.0.split_first() {
            for _ in 0..*wanted {
                list.next_element::<IgnoredAny>()?;
            }
            if list.next_element_seed(FailAt(rest))?.is_some() {
                return Ok(());
            }
        }
        Err(A::Error::custom("end of path"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_falls_back_to_the_longest_existing_prefix() {
        let text =
            "given: {now: x}\ncases:\n  - name: a\n  - name: b\n    expect:\n      run: [c, d]\n";
        let case = FieldPath::default().child("cases").child(1);
        for (path, position) in [
            (FieldPath::default(), (1, 1)),
            (case.clone(), (4, 5)),
            (case.child("name"), (4, 11)),
            (case.child("expect").child("run"), (6, 12)),
            (case.child("expect").child("run").child(1), (6, 16)),
            (case.child("expect").child("wait").child("until"), (6, 7)),
            (FieldPath::default().child("given").child("now"), (1, 14)),
        ] {
            assert_eq!(path.position(text), Some(position), "{path}");
        }
        assert_eq!(
            case.child("expect").child("run").to_string(),
            "cases[1].expect.run"
        );
    }
}
