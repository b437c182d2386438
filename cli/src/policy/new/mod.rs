//! `policy new`: creates the crate of a policy, which builds and passes its tests.

use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The files of the crates that a policy depends on: path and text.
const VENDORED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/vendored.rs"));
/// The manifest of this workspace.
const WORKSPACE: &str = include_str!("../../../Cargo.toml");
/// The versions of all dependencies that this workspace is tested with.
const LOCK: &str = include_str!("../../../Cargo.lock");
/// The documented algorithm, which is the initial source of a new policy.
const ALGORITHM: &str = include_str!("../../../policy-default/src/lib.rs");
/// The test cases of the documented algorithm.
const CASES: &str = include_str!("../../../policy-default/cases.yaml");

/// Arguments of `policy new`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory to create. It must be empty or not exist. Its name becomes the name of the
    /// policy.
    dir: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let dir = &args.dir;
    let name = dir
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    ensure!(
        name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(letters),
        "{}: the directory name is the name of the policy, and {name:?} is not valid; use lowercase letters, \
         digits, and -, starting with a letter, for example my-policy",
        dir.display()
    );
    if let Some(why) = reserved(&name) {
        bail!(
            "{}: the directory name is the name of the policy, and {name:?} {why}; use another name, for example my-policy",
            dir.display()
        );
    }
    if dir.exists()
        && dir
            .read_dir()
            .is_ok_and(|mut entries| entries.next().is_some())
    {
        bail!(
            "{}: the directory is not empty; use a new directory",
            dir.display()
        );
    }
    for (path, text) in files(&name)? {
        write(&dir.join(path), &text)?;
    }
    println!(
        "created {dir}: a policy with the documented algorithm, its tests, and cases.yaml\n\
         test it with:  cargo test --manifest-path {dir}/Cargo.toml\n\
         build it with: kubectl-oaat policy build {dir}",
        dir = dir.display()
    );
    Ok(ExitCode::SUCCESS)
}

/// Names that cargo rejects for a crate, or that rustc interprets differently.
#[rustfmt::skip]
const KEYWORDS: &[&str] = &[
    "abstract", "alloc", "as", "async", "await", "become", "box", "break", "const", "continue", "core", "crate", "do",
    "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro",
    "match", "mod", "move", "mut", "override", "priv", "proc-macro", "pub", "ref", "return", "self", "static", "std",
    "struct", "super", "test", "trait", "true", "try", "type", "typeof", "unsafe", "unsized", "use", "virtual", "where",
    "while", "yield",
];

/// Returns why a crate cannot have this name; `None` if it can.
fn reserved(name: &str) -> Option<&'static str> {
    if KEYWORDS.contains(&name) {
        return Some("is reserved by cargo or Rust");
    }
    let mut dependencies = LOCK.lines().filter_map(|line| {
        let name = line.strip_prefix("name = \"")?.strip_suffix('"')?;
        Some(name.replace('_', "-"))
    });
    dependencies
        .any(|other| other == name)
        .then_some("is the name of a dependency")
}

/// Returns the files of a new policy: path and text.
fn files(name: &str) -> Result<Vec<(PathBuf, String)>> {
    let krate = name.replace('-', "_");
    let fill = |text: &str| {
        text.replace("{name}", name)
            .replace("{crate}", &krate)
            .replace("{version}", env!("CARGO_PKG_VERSION"))
    };
    let (workspace, profiles) = workspace()?;
    let manifest = fill(include_str!("../../template/Cargo.toml"));
    let mut files = vec![
        ("Cargo.toml".into(), format!("{manifest}{profiles}")),
        ("Cargo.lock".into(), LOCK.into()),
        (".gitignore".into(), "/target\n".into()),
        (
            "README.md".into(),
            fill(include_str!("../../template/README.md")),
        ),
        (
            "src/lib.rs".into(),
            ALGORITHM.replace("the built-in policy takes", "this policy takes"),
        ),
        (
            "tests/native.rs".into(),
            fill(include_str!("../../template/tests/native.rs")),
        ),
        (
            "tests/component.rs".into(),
            fill(include_str!("../../template/tests/component.rs")),
        ),
        (
            "tests/cases.rs".into(),
            include_str!("../../template/tests/cases.rs").into(),
        ),
        ("cases.yaml".into(), CASES.into()),
    ];
    let vendor = Path::new("vendor/oaat");
    files.push((vendor.join("Cargo.toml"), workspace));
    for (path, text) in VENDORED {
        files.push((vendor.join(path), (*text).to_owned()));
    }
    Ok(files)
}

/// Returns the manifest of a workspace with the vendored crates, and the profiles, which belong in
/// the manifest of the policy.
fn workspace() -> Result<(String, String)> {
    let mut members = String::new();
    for (path, _) in VENDORED {
        if let Some(member) = path.strip_suffix("/Cargo.toml") {
            members.push_str(&format!("    {member:?},\n"));
        }
    }
    let cut = |from: &str, to: &str| -> Result<&str> {
        let (_, rest) = WORKSPACE
            .split_once(from)
            .with_context(|| format!("no {from:?}"))?;
        Ok(rest.split_once(to).with_context(|| format!("no {to:?}"))?.0)
    };
    let shared = cut("\n]\n", "[profile.dev]")?;
    // The profiles after these are for crates that a policy does not depend on.
    let profiles = cut("[profile.dev]", "# Thousands of histories")?;
    Ok((
        format!("[workspace]\nresolver = \"3\"\nmembers = [\n{members}]\n{shared}"),
        format!("[profile.dev]{profiles}"),
    ))
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    }
    std::fs::write(path, text).with_context(|| format!("{}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cargo warns about each profile of a crate that is not a dependency.
    #[test]
    fn manifest_has_profiles_of_dependencies_only() {
        let files = files("mine").unwrap();
        let manifest = files
            .iter()
            .find(|(path, _)| path == Path::new("Cargo.toml"));
        let (_, manifest) = manifest.unwrap();
        assert!(manifest.contains("[profile.dev.package.cranelift-codegen]"));
        for other in ["oaat-operator", "oaat-simulation", "stateright"] {
            assert!(!manifest.contains(&format!("package.{other}]")), "{other}");
        }
    }

    #[test]
    fn reserved_names_are_keywords_and_dependencies() {
        for name in [
            "test",
            "std",
            "match",
            "self",
            "gen",
            "policy-sdk",
            "serde",
            "policy-host",
        ] {
            assert!(reserved(name).is_some(), "{name}");
        }
        for name in ["my-policy", "tests", "backoff", "p2", "oldest-first"] {
            assert_eq!(reserved(name), None, "{name}");
        }
        assert!(KEYWORDS.is_sorted());
    }
}
