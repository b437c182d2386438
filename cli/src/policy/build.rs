//! `policy build`: from a crate to a component, with nothing but cargo.

use anyhow::{Context, Result};
use std::path::PathBuf;
use std::process::ExitCode;

/// What to build, and where to.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the crate.
    #[arg(default_value = ".", value_name = "CRATE")]
    krate: PathBuf,
    /// Where to write the component. By default `target/NAME.wasm` in the crate's folder.
    #[arg(long, short)]
    output: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let krate = &args.krate;
    anyhow::ensure!(
        krate.join("Cargo.toml").is_file(),
        "{}: there is no Cargo.toml in it; name the folder of a policy's crate (`policy new` makes one)",
        krate.display()
    );
    let built = policy_build::build_crate(krate, &krate.canonicalize()?.join("target/policies"))?;
    let output = args
        .output
        .clone()
        .unwrap_or_else(|| krate.join("target").join(format!("{}.wasm", built.name)));
    std::fs::write(&output, &built.component)
        .with_context(|| format!("{} cannot be written", output.display()))?;
    println!(
        "wrote {} ({} bytes)",
        output.display(),
        built.component.len()
    );
    crate::policy::check::report(&output, &built.component)
}
