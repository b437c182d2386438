//! What is wrong with a field of a spec.

use crate::text;
use std::fmt;

/// An invalid field of a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Path of the field, such as `spec.itemsFrom[0].http.url`.
    pub field: String,
    /// What is wrong with the field.
    pub problem: FieldProblem,
}

/// What is wrong with a field, and how to fix it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldProblem {
    /// A required field is missing.
    Missing {
        /// What to add: an imperative without a period.
        fix: &'static str,
    },
    /// The value cannot be parsed.
    Invalid {
        /// The value, cleaned and truncated.
        value: String,
        /// The reason: completes "is …".
        why: String,
        /// What to use instead: an imperative without a period.
        fix: String,
    },
    /// The value is outside its range.
    OutOfRange {
        /// The value, cleaned and truncated.
        value: String,
        /// The range: completes "must be …".
        range: String,
    },
    /// A list or text is too long.
    TooLong {
        /// Its size, with the unit.
        size: String,
        /// The maximum, and how to stay below it.
        most: String,
    },
    /// An entry occurs twice.
    Duplicate {
        /// The entry, cleaned and truncated.
        value: String,
    },
    /// Mutually exclusive fields are set, or none of them is.
    Conflict {
        /// What is wrong, as a clause.
        why: String,
    },
}

impl FieldError {
    pub(crate) fn new(field: impl Into<String>, problem: FieldProblem) -> Self {
        let field = field.into();
        Self { field, problem }
    }

    pub(crate) fn invalid(
        field: impl Into<String>,
        value: &str,
        why: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        let value = text::name(value);
        let (why, fix) = (why.into(), fix.into());
        Self::new(field, FieldProblem::Invalid { value, why, fix })
    }

    pub(crate) fn out_of_range(
        field: impl Into<String>,
        value: &str,
        range: impl Into<String>,
    ) -> Self {
        let value = text::name(value);
        let range = range.into();
        Self::new(field, FieldProblem::OutOfRange { value, range })
    }

    pub(crate) fn conflict(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(field, FieldProblem::Conflict { why: why.into() })
    }

    pub(crate) fn duplicate(field: impl Into<String>, value: &str) -> Self {
        let value = text::name(value);
        Self::new(field, FieldProblem::Duplicate { value })
    }

    /// Prepends a path to the path of the field.
    pub(crate) fn below(mut self, path: &str) -> Self {
        self.field = format!("{path}.{}", self.field);
        self
    }
}

impl fmt::Display for FieldProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { fix } => write!(f, "is missing; {fix}"),
            Self::Invalid { value, why, fix } => write!(f, "{value:?} is {why}; {fix}"),
            Self::OutOfRange { value, range } => {
                write!(f, "invalid value {value:?}: must be {range}")
            }
            Self::TooLong { size, most } => write!(f, "has {size}; the maximum is {most}"),
            Self::Duplicate { value } => write!(f, "{value:?} is listed twice; remove one of them"),
            Self::Conflict { why } => f.write_str(why),
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)
    }
}
