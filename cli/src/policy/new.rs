//! `policy new`: a policy's crate that builds and passes its tests as it is.

use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The parts of this repository that a policy is built with: path and text.
const COPIED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/copied.rs"));
/// The manifest of the workspace that they are members of.
const WORKSPACE: &str = include_str!("../../../Cargo.toml");
/// The versions that they were tested with.
const LOCK: &str = include_str!("../../../Cargo.lock");
/// The documented algorithm, which a new policy starts from.
const ALGORITHM: &str = include_str!("../../../policy-default/src/lib.rs");
/// What it must do.
const CASES: &str = include_str!("../../../policy-default/cases.yaml");

/// Where to put it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A folder that does not exist yet, or is empty. Its name is the policy's.
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
        "{}: the folder's name becomes the policy's, and {name:?} cannot; use lower-case letters, digits and -, \
         such as my-policy",
        dir.display()
    );
    if let Some(why) = taken(&name) {
        bail!(
            "{}: the folder's name becomes the policy's, and {name:?} {why}; use another, such as my-policy",
            dir.display()
        );
    }
    if dir.exists()
        && dir
            .read_dir()
            .is_ok_and(|mut entries| entries.next().is_some())
    {
        bail!("{}: it is there already, and not empty", dir.display());
    }
    for (path, text) in files(&name)? {
        write(&dir.join(path), &text)?;
    }
    println!(
        "made {dir}: a policy with the documented algorithm, its tests, and cases.yaml\n\
         next: cargo test --manifest-path {dir}/Cargo.toml, and: kubectl-oaat policy build {dir}",
        dir = dir.display()
    );
    Ok(ExitCode::SUCCESS)
}

/// What cargo calls no crate, or rustc would take for something else.
#[rustfmt::skip]
const KEYWORDS: &[&str] = &[
    "abstract", "alloc", "as", "async", "await", "become", "box", "break", "const", "continue", "core", "crate", "do",
    "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro",
    "match", "mod", "move", "mut", "override", "priv", "proc-macro", "pub", "ref", "return", "self", "static", "std",
    "struct", "super", "test", "trait", "true", "try", "type", "typeof", "unsafe", "unsized", "use", "virtual", "where",
    "while", "yield",
];

/// Why a crate cannot have this name.
fn taken(name: &str) -> Option<&'static str> {
    if KEYWORDS.contains(&name) {
        return Some("means something else to cargo or to Rust");
    }
    let mut built_with = LOCK.lines().filter_map(|line| {
        let name = line.strip_prefix("name = \"")?.strip_suffix('"')?;
        Some(name.replace('_', "-"))
    });
    built_with
        .any(|other| other == name)
        .then_some("is the name of a crate that it is built with")
}

/// All files of a new policy.
fn files(name: &str) -> Result<Vec<(PathBuf, String)>> {
    let krate = name.replace('-', "_");
    let filled = |text: &str| {
        text.replace("{name}", name)
            .replace("{crate}", &krate)
            .replace("{version}", env!("CARGO_PKG_VERSION"))
    };
    let (workspace, profiles) = workspace()?;
    let manifest = filled(include_str!("../../template/Cargo.toml"));
    let mut files = vec![
        ("Cargo.toml".into(), format!("{manifest}{profiles}")),
        ("Cargo.lock".into(), LOCK.into()),
        (".gitignore".into(), "/target\n".into()),
        (
            "README.md".into(),
            filled(include_str!("../../template/README.md")),
        ),
        (
            "src/lib.rs".into(),
            ALGORITHM.replace("the default policy takes", "this policy takes"),
        ),
        (
            "tests/native.rs".into(),
            filled(include_str!("../../template/tests/native.rs")),
        ),
        (
            "tests/component.rs".into(),
            filled(include_str!("../../template/tests/component.rs")),
        ),
        (
            "tests/cases.rs".into(),
            include_str!("../../template/tests/cases.rs").into(),
        ),
        ("cases.yaml".into(), CASES.into()),
    ];
    let vendor = Path::new("vendor/oaat");
    files.push((vendor.join("Cargo.toml"), workspace));
    for (path, text) in COPIED {
        files.push((vendor.join(path), (*text).to_owned()));
    }
    Ok(files)
}

/// The manifest of a workspace of the copied crates alone, and the profiles, which belong to
/// the policy's own manifest.
fn workspace() -> Result<(String, String)> {
    let mut members = String::new();
    for (path, _) in COPIED {
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
    let shared = cut("\n]\n", "# A debug build of the compiler")?;
    // Those that come after it are of crates that a policy does not depend on.
    let profiles = cut("# A debug", "# Thousands of histories")?;
    Ok((
        format!("[workspace]\nresolver = \"3\"\nmembers = [\n{members}]\n{shared}"),
        format!("# A debug{profiles}"),
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

    /// Cargo warns of each profile of a crate that is not there.
    #[test]
    fn the_profiles_are_of_crates_that_it_is_built_with() {
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
    fn a_name_that_no_crate_can_have_is_refused() {
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
            assert!(taken(name).is_some(), "{name}");
        }
        for name in ["my-policy", "tests", "backoff", "p2", "oldest-first"] {
            assert_eq!(taken(name), None, "{name}");
        }
        assert!(KEYWORDS.is_sorted());
    }
}
