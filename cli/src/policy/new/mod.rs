//! `policy new`: creates a policy that builds and passes its tests.

mod c;
mod rust;

use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The test cases of the documented algorithm.
const CASES: &str = include_str!("../../../../policy-default/cases.yaml");

/// Arguments of `policy new`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory to create. It must be empty or not exist. Its name becomes the name of the
    /// policy.
    dir: PathBuf,
    /// The programming language.
    #[arg(long, value_enum, default_value_t = Language::Rust, conflicts_with = "upgrade")]
    lang: Language,
    /// In an existing policy, replace the files that oaat-operator supplies with those of this
    /// release. Your own files do not change.
    #[arg(long)]
    upgrade: bool,
}

/// A language for policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Language {
    /// Rust, with the SDK; needs cargo.
    Rust,
    /// C, without a standard library; needs clang, lld, and make.
    C,
    /// Go: not supported; the command explains why.
    #[value(hide = true)]
    Go,
}

/// A file: its path and content.
type File = (PathBuf, Vec<u8>);

impl Language {
    /// Returns the directory for the files that `--upgrade` replaces.
    fn supplied_dir(self) -> &'static str {
        match self {
            Self::Rust => "vendor/oaat",
            Self::C | Self::Go => "oaat",
        }
    }

    /// Returns the files that `--upgrade` replaces, relative to their directory.
    fn supplied(self) -> Result<Vec<File>> {
        match self {
            Self::Rust => rust::supplied(),
            Self::C => c::supplied(),
            Self::Go => bail!(
                "a policy in Go is not supported: Go's WebAssembly needs the WASI functions for \
                 clocks, random numbers, and files, which a policy must not import; use --lang rust \
                 or --lang c"
            ),
        }
    }

    /// Returns the files that belong to the author.
    fn own(self, name: &str) -> Vec<File> {
        match self {
            Self::Rust => rust::own(name),
            Self::C | Self::Go => c::own(name),
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let dir = &args.dir;
    if args.upgrade {
        return upgrade(dir);
    }
    let supplied = args.lang.supplied()?;
    let name = name(dir)?;
    if dir.exists()
        && dir
            .read_dir()
            .is_ok_and(|mut entries| entries.next().is_some())
    {
        bail!(
            "{}: the directory is not empty; use a new directory, or --upgrade to replace the files \
             of oaat-operator in a policy",
            dir.display()
        );
    }
    for (path, content) in args.lang.own(&name) {
        write(&dir.join(path), &content)?;
    }
    let folder = dir.join(args.lang.supplied_dir());
    for (path, content) in supplied {
        write(&folder.join(path), &content)?;
    }
    let shown = dir.display();
    let test = match args.lang {
        Language::Rust => format!("cargo test --manifest-path {shown}/Cargo.toml"),
        Language::C | Language::Go => format!("make -C {shown} test"),
    };
    println!(
        "created {shown}: a policy with the documented algorithm, its tests, and cases.yaml\n\
         test it with:  {test}\n\
         build it with: kubectl-oaat policy build {shown}"
    );
    Ok(ExitCode::SUCCESS)
}

/// Replaces the files of this project in an existing policy.
fn upgrade(dir: &Path) -> Result<ExitCode> {
    let found = [Language::Rust, Language::C]
        .into_iter()
        .find(|language| dir.join(language.supplied_dir()).is_dir());
    let Some(language) = found else {
        bail!(
            "{}: there is neither vendor/oaat nor oaat in this directory; use the directory of a \
             policy that `policy new` created",
            dir.display()
        );
    };
    let folder = dir.join(language.supplied_dir());
    let files = language.supplied()?;
    std::fs::remove_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
    for (path, content) in files {
        write(&folder.join(path), &content)?;
    }
    println!(
        "replaced {} with the files of {}; your own files are unchanged\n\
         run the tests, and see CHANGELOG.md if they fail",
        folder.display(),
        env!("CARGO_PKG_VERSION")
    );
    Ok(ExitCode::SUCCESS)
}

/// Returns the name of the policy in a directory, which is the name of the directory.
fn name(dir: &Path) -> Result<String> {
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
    Ok(name)
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
    let mut dependencies = rust::LOCK.lines().filter_map(|line| {
        let name = line.strip_prefix("name = \"")?.strip_suffix('"')?;
        Some(name.replace('_', "-"))
    });
    dependencies
        .any(|other| other == name)
        .then_some("is the name of a dependency")
}

/// Replaces the placeholders in a file of a template.
fn fill(text: &str, name: &str) -> String {
    text.replace("{name}", name)
        .replace("{crate}", &name.replace('-', "_"))
        .replace("{version}", env!("CARGO_PKG_VERSION"))
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    }
    std::fs::write(path, content).with_context(|| format!("{}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn upgrade_replaces_only_the_files_of_this_project() {
        for (language, own) in [(Language::Rust, "src/lib.rs"), (Language::C, "select.c")] {
            let folder = tempfile::tempdir().unwrap();
            let dir = folder.path().join("my-policy");
            let args = |upgrade| Args {
                dir: dir.clone(),
                lang: language,
                upgrade,
            };
            run(&args(false)).unwrap();
            let again = run(&args(false)).unwrap_err().to_string();
            assert!(again.contains("--upgrade"), "{again}");
            let supplied = dir.join(language.supplied_dir());
            let (path, content) = language.supplied().unwrap().remove(0);
            std::fs::write(dir.join(own), "mine").unwrap();
            std::fs::write(supplied.join(&path), "old").unwrap();
            std::fs::write(supplied.join("removed.txt"), "old").unwrap();
            run(&args(true)).unwrap();
            assert_eq!(std::fs::read(dir.join(own)).unwrap(), b"mine");
            assert_eq!(std::fs::read(supplied.join(path)).unwrap(), content);
            assert!(!supplied.join("removed.txt").exists());
        }
        let folder = tempfile::tempdir().unwrap();
        let error = upgrade(folder.path()).unwrap_err().to_string();
        assert!(error.contains("policy new"), "{error}");
    }
}
