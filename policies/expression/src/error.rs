//! What can be wrong with an expression before it is evaluated.

use std::fmt;

/// An error in an expression, with its position.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpressionError {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// What is wrong, and what to write instead.
    pub message: String,
}

impl fmt::Display for ExpressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            line,
            column,
            message,
        } = self;
        write!(f, "line {line}, column {column}: {message}")
    }
}

/// An error at a byte of the expression.
#[derive(Debug)]
pub struct ErrorAt {
    pub at: usize,
    pub message: String,
}

impl ErrorAt {
    pub fn new(at: usize, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { at, message }
    }

    /// Converts the byte to a line and a column.
    pub fn in_source(self, source: &str) -> ExpressionError {
        let before = source.get(..self.at).unwrap_or(source);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        ExpressionError {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: self.message,
        }
    }
}
