//! `policy build`: builds a crate into a component. Requires only cargo.

use anyhow::{Context, Result};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `policy build`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory of the crate.
    #[arg(default_value = ".", value_name = "CRATE")]
    krate: PathBuf,
    /// The file to write the component to. The default is `target/NAME.wasm` in the crate's
    /// directory.
    #[arg(long, short)]
    output: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let krate = &args.krate;
    anyhow::ensure!(
        krate.join("Cargo.toml").is_file(),
        "{}: no Cargo.toml found; use the directory of a policy crate (`policy new` creates one)",
        krate.display()
    );
    let built = policy_build::build_crate(krate, &krate.canonicalize()?.join("target/policies"))?;
    let output = args
        .output
        .clone()
        .unwrap_or_else(|| krate.join("target").join(format!("{}.wasm", built.name)));
    std::fs::write(&output, &built.component)
        .with_context(|| format!("failed to write {}", output.display()))?;
    println!(
        "wrote {} ({} bytes)",
        output.display(),
        built.component.len()
    );
    crate::policy::check::report(&output, &built.component)
}
