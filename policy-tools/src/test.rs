use anyhow::{Result, bail};
use std::path::PathBuf;
use std::process::ExitCode;

/// Settings.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The policy.
    pub file: PathBuf,
}

pub(crate) fn run(args: &Args, built_in: &[u8]) -> Result<ExitCode> {
    let component = crate::component::load(&args.file, built_in)?;
    bail!("{} {}", component.policy.digest(), component.wasm.len())
}
