//! `policy build`: builds a crate into a component. Requires only cargo.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `policy build`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory of the crate.
    #[arg(default_value = ".", value_name = "CRATE")]
    krate: PathBuf,
    /// The file to write the component to. The default is `target/NAME.wasm` in the crate's
    /// directory. The names of its functions are written to `NAME.names.json` beside it.
    #[arg(long, short)]
    output: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let built = build(&args.krate, args.output.as_deref())?;
    let (file, names) = (built.file.display(), built.names.display());
    println!("wrote {file} ({} bytes)", built.component.len());
    println!("wrote {names} (the names of its functions)");
    crate::policy::check::report(&built.file, &built.component)
}

/// The files that a build wrote.
pub(crate) struct BuiltFiles {
    /// The component.
    pub file: PathBuf,
    /// The bytes of the component.
    pub component: Vec<u8>,
    /// The file with the names of its functions.
    names: PathBuf,
}

/// Builds a crate, and writes its component to a file, with the names of its functions beside it.
pub(crate) fn build(krate: &Path, output: Option<&Path>) -> Result<BuiltFiles> {
    require_crate(krate)?;
    let built = policy_build::build_crate(krate, &krate.canonicalize()?.join("target/policies"))?;
    let file = match output {
        Some(file) => file.to_owned(),
        None => krate.join("target").join(format!("{}.wasm", built.name)),
    };
    std::fs::write(&file, &built.component)
        .with_context(|| format!("failed to write {}", file.display()))?;
    let names = crate::policy::names_file::write(&file, &built.component, built.names)?;
    Ok(BuiltFiles {
        file,
        component: built.component,
        names,
    })
}

/// Checks that there is a crate in a directory.
pub(crate) fn require_crate(krate: &Path) -> Result<()> {
    anyhow::ensure!(
        krate.join("Cargo.toml").is_file(),
        "{}: no Cargo.toml found; use the directory of a policy crate (`policy new` creates one)",
        krate.display()
    );
    Ok(())
}
