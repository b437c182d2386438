//! Static binaries for the architectures of a release. Everything that ends up in them is pinned:
//! rustc, its linker, and musl by rust-toolchain.toml, and the C compiler by zig.txt.

use crate::{cargo, root, target, tools};
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An architecture, with its name in images and in Go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Arch {
    /// x86_64.
    Amd64,
    /// aarch64.
    Arm64,
}

impl Arch {
    /// Returns the architecture of this machine.
    pub(crate) fn of_this_machine() -> Result<Self> {
        match env::consts::ARCH {
            "x86_64" => Ok(Self::Amd64),
            "aarch64" => Ok(Self::Arm64),
            other => bail!("cannot build an image on {other}; use x86_64 or aarch64"),
        }
    }

    /// Returns the name in images and in Go.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// Returns the name of the processor in targets.
    fn processor(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    /// Returns the Rust target.
    pub(crate) fn triple(self) -> String {
        format!("{}-unknown-linux-musl", self.processor())
    }
}

/// The compiler for the C code of dependencies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compiler {
    /// The compiler of this machine, for its own architecture. The code needs no C library.
    System,
    /// A pinned compiler for all architectures.
    Pinned,
}

/// Builds static binaries. Features are the same for each set of `programs`, so that the operator of
/// `cargo xtask image` is built like that of a release.
pub(crate) fn build(archs: &[Arch], programs: &[&str], compiler: Compiler) -> Result<()> {
    let mut build = cargo();
    build.args(["build", "--locked", "--profile", "image"]);
    build.args(["--package", "oaat-operator", "--package", "kubectl-oaat"]);
    for program in programs {
        build.args(["--bin", program]);
    }
    for arch in archs {
        let triple = arch.triple();
        tools::rust_target(&triple)?;
        build.args(["--target", &triple]);
        let suffix = triple.replace('-', "_");
        if env::var_os(format!("CC_{suffix}")).is_some() {
            continue;
        }
        match compiler {
            Compiler::System => build.env(format!("CC_{suffix}"), "cc"),
            Compiler::Pinned => build
                .env(format!("CC_{suffix}"), format!("{} cc", tools::zig()?))
                // The name of the target in zig, which overrides the one that the build passes. In
                // builds without optimization, zig adds checks that need its own library.
                .env(
                    format!("CFLAGS_{suffix}"),
                    format!(
                        "--target={}-linux-musl -fno-sanitize=undefined",
                        arch.processor()
                    ),
                ),
        };
    }
    build.env("CARGO_ENCODED_RUSTFLAGS", flags()?.join("\x1f"));
    if !build.status().context("failed to start cargo")?.success() {
        bail!("failed to build the static binaries; see the cargo output above");
    }
    Ok(())
}

/// Returns the path of a program that [`build`] built.
pub(crate) fn path(arch: Arch, program: &str) -> PathBuf {
    target().join(arch.triple()).join("image").join(program)
}

/// Returns the content of a program that [`build`] built.
pub(crate) fn read(arch: Arch, program: &str) -> Result<Vec<u8>> {
    let path = path(arch, program);
    fs::read(&path).with_context(|| path.display().to_string())
}

/// Returns the flags of rustc. They select its own linker, and remove the directories of this
/// machine from panic messages.
fn flags() -> Result<Vec<String>> {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    let home = home.context("found no home directory of cargo; set CARGO_HOME")?;
    // The last flag that matches applies.
    let mut remapped = vec![
        (target(), "target".to_owned()),
        (root(), String::new()),
        (home, "cargo".to_owned()),
    ];
    let library = Path::new(&rustc(&["--print", "sysroot"])?).join("lib/rustlib/src/rust");
    if library.is_dir() {
        // With the component rust-src, panic messages name the sources on this machine.
        let version = rustc(&["--version", "--verbose"])?;
        let mut lines = version.lines();
        let commit = lines.find_map(|line| line.strip_prefix("commit-hash: "));
        let commit = commit.context("rustc --version --verbose prints no commit-hash")?;
        remapped.push((library, format!("/rustc/{commit}")));
    }
    let remap =
        |(from, to): (PathBuf, String)| format!("--remap-path-prefix={}={to}", from.display());
    let linker = "-Clinker=rust-lld".to_owned();
    let remapped = remapped.into_iter().map(remap);
    Ok([linker].into_iter().chain(remapped).collect())
}

/// Returns what rustc prints.
fn rustc(arguments: &[&str]) -> Result<String> {
    let output = Command::new("rustc")
        .current_dir(root())
        .args(arguments)
        .output()
        .context("failed to start rustc; install Rust with rustup")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
