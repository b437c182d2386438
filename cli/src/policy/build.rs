//! `policy build`: builds a policy into a component. Requires only cargo, or what the policy's
//! Makefile requires.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `policy build`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory of the policy. It contains a Cargo.toml, or a Makefile that writes the core
    /// module to `target/policy.core.wasm`.
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// The file to write the component to. The default is `target/NAME.wasm` in the directory of
    /// the policy. The names of its functions are written to `NAME.names.json` beside it.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let built = build(&args.dir, args.output.as_deref())?;
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

/// Builds the policy in a directory, and writes its component to a file, with the names of its
/// functions beside it.
pub(crate) fn build(dir: &Path, output: Option<&Path>) -> Result<BuiltFiles> {
    let target = std::path::absolute(dir)?.join("target/policies");
    let built = policy_build::build_crate(dir, &target)?;
    let file = match output {
        Some(file) => file.to_owned(),
        None => dir.join("target").join(format!("{}.wasm", built.name)),
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
