//! The output format of the `policy` commands.

use crate::terminal;
use anyhow::Result;
use serde::Serialize;

/// An output format other than text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PolicyFormat {
    /// JSON.
    Json,
}

/// Prints a value as JSON.
pub(super) fn print_json(value: &impl Serialize) -> Result<()> {
    super::print(&terminal::to_json(value)?)?;
    Ok(())
}
