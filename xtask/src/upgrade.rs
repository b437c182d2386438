//! `cargo xtask upgrade`: builds the operator of the previous release, and tests the upgrade from it
//! and back.

use crate::{build, built, cargo, finish, root, target, tools};
use anyhow::{Context, Result, bail};
use control_plane::ControllerManager;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// The commit that counts as the previous release until there is a tag.
const FALLBACK_COMMIT: &str = "fa17106";

/// Runs the test. `from` is the tag or commit to upgrade from.
pub fn run(from: Option<&str>) -> Result<ExitCode> {
    let commit = match from {
        Some(from) => commit(from)?,
        None => previous()?,
    };
    tools::build_with_control_plane(Some(ControllerManager::Required), &build(&[]))?;
    let folder = target().join("previous");
    let source = folder.join(&commit);
    if !source.is_dir() {
        extract(&commit, &source)?;
    }
    let programs = folder.join("target");
    eprintln!(
        "building the operator of {commit} in {}; the first time, this takes 10 to 20 minutes on \
         two cores",
        programs.display()
    );
    let mut command = control_plane::cargo();
    command
        .current_dir(&source)
        .env_remove("CARGO_TARGET_DIR")
        .args(["build", "--locked", "--package", "oaat-operator"])
        .args(["--bin", "oaat-operator", "--target-dir"])
        .arg(&programs);
    tools::show_cargo(command)?;
    // Other commits build to the same path.
    let program = source.join("oaat-operator");
    fs::copy(programs.join("debug/oaat-operator"), &program)
        .with_context(|| program.display().to_string())?;
    finish(
        cargo()
            .args(["test", "--workspace", "--test", "upgrade"])
            .env("OAAT_OPERATOR_BINARY", built("debug", "oaat-operator"))
            .env("OAAT_PREVIOUS_OPERATOR", program)
            .env("OAAT_PREVIOUS_MANIFESTS", source.join("manifests")),
    )
}

/// Returns the commit of the latest release tag before the current commit.
fn previous() -> Result<String> {
    let tag = git(&["describe", "--tags", "--abbrev=0", "--match", "v*", "HEAD^"]);
    commit(&tag.unwrap_or_else(|_| FALLBACK_COMMIT.to_owned()))
}

/// Returns the full name of a commit.
fn commit(name: &str) -> Result<String> {
    git(&["rev-parse", "--verify", "--quiet", &format!("{name}^{{commit}}")]).with_context(|| {
        format!("{name} is not a commit of this clone; fetch the history with: git fetch --unshallow --tags")
    })
}

/// Runs git in the repository and returns its output without the line break.
fn git(arguments: &[&str]) -> Result<String> {
    let output = Command::new("git")
        .current_dir(root())
        .args(arguments)
        .stderr(Stdio::null())
        .output()
        .context("failed to start git")?;
    if !output.status.success() {
        bail!("git {} failed", arguments.join(" "));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Writes the files of a commit to a folder.
fn extract(commit: &str, folder: &Path) -> Result<()> {
    // Incomplete folders have another name.
    let partial = PathBuf::from(format!("{}.partial", folder.display()));
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    fs::create_dir_all(&partial).with_context(|| partial.display().to_string())?;
    let mut git = Command::new("git")
        .current_dir(root())
        .args(["archive", "--format=tar", commit])
        .stdout(Stdio::piped())
        .spawn()
        .context("failed to start git")?;
    let output = git.stdout.take().context("git has no output")?;
    let unpacked = tar::Archive::new(output).unpack(&partial);
    if !git.wait()?.success() {
        bail!("git archive {commit} failed");
    }
    unpacked.with_context(|| format!("failed to unpack {commit}"))?;
    fs::rename(&partial, folder).with_context(|| folder.display().to_string())
}
