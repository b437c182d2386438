//! The files of a policy in Rust.

use super::{CASES, File, fill};
use anyhow::{Context, Result};
use std::path::Path;

/// The files of the crates that a policy depends on: path and text.
const VENDORED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/vendored.rs"));
/// The manifest of this workspace.
const WORKSPACE: &str = include_str!("../../../../Cargo.toml");
/// The versions of all dependencies that this workspace is tested with.
pub(super) const LOCK: &str = include_str!("../../../../Cargo.lock");
/// The documented algorithm, which is the initial source of a new policy.
const ALGORITHM: &str = include_str!("../../../../policy-default/src/lib.rs");

/// Returns the files that belong to the author.
pub(super) fn own(name: &str) -> Vec<File> {
    let algorithm = ALGORITHM
        .replace("the built-in policy default takes", "this policy takes")
        .replace("Documented", "MyPolicy");
    [
        (
            "Cargo.toml",
            include_str!("../../../template/rust/Cargo.toml"),
        ),
        ("Cargo.lock", LOCK),
        (".gitignore", "/target\n"),
        (
            "README.md",
            include_str!("../../../template/rust/README.md"),
        ),
        ("src/lib.rs", &algorithm),
        (
            "tests/native.rs",
            include_str!("../../../template/rust/tests/native.rs"),
        ),
        (
            "tests/component.rs",
            include_str!("../../../template/rust/tests/component.rs"),
        ),
        (
            "tests/cases.rs",
            include_str!("../../../template/rust/tests/cases.rs"),
        ),
        ("cases.yaml", CASES),
    ]
    .map(|(path, text)| (path.into(), fill(text, name).into_bytes()))
    .into()
}

/// Returns the files of this release, relative to their directory.
pub(super) fn supplied() -> Result<Vec<File>> {
    let mut files = vec![("Cargo.toml".into(), workspace()?.into_bytes())];
    for (path, text) in VENDORED {
        files.push((Path::new(path).into(), text.as_bytes().into()));
    }
    Ok(files)
}

/// Returns the manifest of a workspace with the vendored crates.
fn workspace() -> Result<String> {
    let mut members = String::new();
    for (path, _) in VENDORED {
        if let Some(member) = path.strip_suffix("/Cargo.toml") {
            members.push_str(&format!("    {member:?},\n"));
        }
    }
    let cut = |text: &'static str, from: &str, to: &str| -> Result<(&str, &str)> {
        let (_, rest) = text
            .split_once(from)
            .with_context(|| format!("no {from:?}"))?;
        rest.split_once(to).with_context(|| format!("no {to:?}"))
    };
    let (shared, _) = cut(WORKSPACE, "\n]\n", "[profile.dev]")?;
    Ok(format!(
        "[workspace]\nresolver = \"3\"\nmembers = [\n{members}]\n{shared}"
    ))
}
