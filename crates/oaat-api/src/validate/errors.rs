//! The errors of a spec.

use crate::field_error::FieldError;

/// The maximum number of errors that are collected.
pub(super) const MAX_ERRORS: usize = 10;

/// Collects at most [`MAX_ERRORS`] errors.
#[derive(Default)]
pub(super) struct Errors(pub(super) Vec<FieldError>);

impl Errors {
    pub(super) fn add(&mut self, error: FieldError) {
        if self.0.len() < MAX_ERRORS {
            self.0.push(error);
        }
    }

    /// Returns the value. On an error, records it and returns the default.
    pub(super) fn or<T>(&mut self, default: T, value: Result<T, FieldError>) -> T {
        value.unwrap_or_else(|error| {
            self.add(error);
            default
        })
    }
}

/// Adds the path of the surrounding object to each error.
pub(super) fn below(path: &str, errors: Vec<FieldError>) -> Vec<FieldError> {
    errors.into_iter().map(|error| error.below(path)).collect()
}
