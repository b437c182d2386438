//! `policy schema`: prints the JSON Schemas of the files for policies.

use crate::policy::simulate;
use anyhow::Result;
use schemars::Schema;
use std::process::ExitCode;

/// Arguments of `policy schema`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The kind of file.
    #[arg(value_enum)]
    pub kind: Kind,
}

/// A kind of file for policies.
#[derive(Debug, Clone, Copy, PartialEq, clap::ValueEnum)]
pub enum Kind {
    /// Test cases, for `policy test`.
    Cases,
    /// A request, for `policy run`.
    Request,
    /// A scenario, for `policy simulate`.
    Scenario,
}

impl Kind {
    /// Returns the JSON Schema of the files of this kind.
    pub fn schema(self) -> Schema {
        match self {
            Self::Cases => policy_cases::schema::cases(),
            Self::Request => policy_cases::schema::request(),
            Self::Scenario => simulate::scenario_schema(),
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let schema = serde_json::to_string_pretty(&args.kind.schema())?;
    crate::policy::print(&(schema + "\n"))?;
    Ok(ExitCode::SUCCESS)
}
