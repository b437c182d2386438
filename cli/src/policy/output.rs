//! The format of the output of commands that also print JSON.

use crate::terminal;
use anyhow::Result;
use serde::Serialize;

/// A format of the output. Text is the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// JSON.
    Json,
}

/// Prints a value as JSON.
pub(super) fn print_json(value: &impl Serialize) -> Result<()> {
    super::print(&terminal::json(value)?)?;
    Ok(())
}
