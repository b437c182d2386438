//! Builds a policy crate into a WebAssembly component. Runs a nested `cargo build` for
//! wasm32-unknown-unknown, then converts the core module to a component. Requires only cargo.
//!
//! `built-in-policies` builds its policies with this crate, and `policy-testkit` the
//! components that it tests.

mod names;

pub use names::function_names;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The target that policies are built for. A policy may import only its log, but the standard
/// libraries of the wasi targets import wasi.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// The reason why a build failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The standard library for [`TARGET`] is not installed.
    #[error("the Rust target {TARGET} is not installed; run: rustup target add {TARGET}")]
    TargetMissing,
    /// A program could not be started.
    #[error("failed to start {program}: {error}")]
    Start {
        /// The program.
        program: String,
        /// The I/O error.
        error: std::io::Error,
    },
    /// cargo failed. It printed its errors to standard error.
    #[error("building {0} for {TARGET} failed; see the cargo errors above")]
    Cargo(PathBuf),
    /// cargo did not build a module.
    #[error(
        "building {0} produced no .wasm file; set crate-type = [\"cdylib\", \"rlib\"] in [lib] of its Cargo.toml"
    )]
    NoModule(PathBuf),
    /// A file could not be read.
    #[error("{path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        error: std::io::Error,
    },
    /// The module is not a policy.
    #[error(
        "failed to convert the module to a component: {0} (check that the crate calls policy_sdk::export_policy!)"
    )]
    Componentize(String),
}

/// The result of a build.
#[derive(Clone, Debug)]
pub struct Built {
    /// The name of the library target, such as `my_policy`.
    pub name: String,
    /// The bytes of the component, without debug information.
    pub component: Vec<u8>,
    /// The names of its functions, by their index in its core module.
    pub names: BTreeMap<u32, String>,
}

/// Builds the policy crate in `dir` and returns its component.
///
/// # Errors
/// See [`build_crate`].
pub fn build(dir: &Path, target_dir: &Path) -> Result<Vec<u8>, BuildError> {
    build_crate(dir, target_dir).map(|built| built.component)
}

/// Builds the policy crate in `dir`.
///
/// `target_dir` is the target directory of the nested build. It must not be the target directory of
/// a cargo process that is waiting for this build, because cargo locks its target directory.
///
/// # Errors
/// Returns what failed and how to fix it.
pub fn build_crate(dir: &Path, target_dir: &Path) -> Result<Built, BuildError> {
    let (name, module) = build_module(dir, target_dir)?;
    let names = function_names(&module);
    let component = componentize(&names::without_names(&module))?;
    Ok(Built {
        name,
        component,
        names,
    })
}

/// Builds the crate in `dir` into a core module. Returns its name, and its bytes with the names of
/// its functions.
fn build_module(dir: &Path, target_dir: &Path) -> Result<(String, Vec<u8>), BuildError> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    check_target(dir)?;
    let mut command = Command::new(&cargo);
    command
        .current_dir(dir)
        .args(["build", "--lib", "--release", "--target", TARGET])
        .args([
            "--message-format",
            "json-render-diagnostics",
            "--target-dir",
        ])
        .arg(target_dir)
        // Optimizes for size: each operator compiles the component again. A panic need not unwind,
        // because a trap ends the sandbox.
        .args(["--config", "profile.release.lto=true"])
        .args(["--config", "profile.release.codegen-units=1"])
        .args(["--config", "profile.release.panic='abort'"])
        .args(["--config", "profile.release.strip=true"])
        .args(["--config", "profile.release.debug=false"])
        .stderr(Stdio::inherit())
        .stdout(Stdio::piped());
    // Removes the variables that an outer cargo or clippy sets for its own build.
    for name in [
        "RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "CARGO_BUILD_TARGET",
        "CARGO_BUILD_RUSTFLAGS",
        "CARGO_TARGET_DIR",
        "CLIPPY_ARGS",
    ] {
        command.env_remove(name);
    }
    let root = workspace_root(&cargo, dir);
    let mut flags = remap_flags(&root);
    // Keeps the names of functions, which `build_crate` removes again. Without `strip`, cargo gives
    // the crate other hashes, and the component would have another digest.
    flags.push("-Clink-arg=--keep-section=name".to_owned());
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    let output = command.output().map_err(|error| BuildError::Start {
        program: cargo,
        error,
    })?;
    if !output.status.success() {
        return Err(BuildError::Cargo(dir.to_owned()));
    }
    let module =
        find_module(&output.stdout, dir).ok_or_else(|| BuildError::NoModule(dir.to_owned()))?;
    let stem = module.file_stem().unwrap_or_default();
    let name = stem.to_string_lossy().into_owned();
    let bytes = std::fs::read(&module).map_err(|error| BuildError::Read {
        path: module,
        error,
    })?;
    Ok((name, bytes))
}

/// Converts the core module that cargo built to a component.
///
/// # Errors
/// Returns an error if the module does not embed the type of its world, or does not match it.
pub fn componentize(module: &[u8]) -> Result<Vec<u8>, BuildError> {
    let error = |e: &dyn std::fmt::Display| BuildError::Componentize(format!("{e:#}"));
    wit_component::ComponentEncoder::default()
        .validate(true)
        .module(module)
        .map_err(|e| error(&e))?
        .encode()
        .map_err(|e| error(&e))
}

/// Checks that the target is installed, because cargo's error does not name the command that
/// installs it.
fn check_target(dir: &Path) -> Result<(), BuildError> {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let output = Command::new(&rustc)
        .current_dir(dir)
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .map_err(|error| BuildError::Start {
            program: rustc,
            error,
        })?;
    let folder = String::from_utf8_lossy(&output.stdout);
    if Path::new(folder.trim()).is_dir() {
        Ok(())
    } else {
        Err(BuildError::TargetMissing)
    }
}

/// Returns the root of the workspace of the crate in `dir`, or `dir` itself. Asks cargo, because the
/// nearest Cargo.lock may belong to another crate, or not exist before the first build.
fn workspace_root(cargo: &str, dir: &Path) -> PathBuf {
    let located = Command::new(cargo)
        .current_dir(dir)
        .args(["locate-project", "--workspace", "--message-format", "plain"])
        .stderr(Stdio::null())
        .output();
    let manifest = located.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let root = manifest.ok().and_then(|manifest| {
        let root = Path::new(manifest.trim()).parent()?;
        root.is_dir().then(|| root.to_owned())
    });
    root.or_else(|| dir.canonicalize().ok())
        .unwrap_or_else(|| dir.to_owned())
}

/// Returns flags that remove local directories from panic messages. The same source then gives the
/// same bytes, and so the same digest, on every machine.
fn remap_flags(root: &Path) -> Vec<String> {
    let mut flags = Vec::new();
    let mut remap = |from: PathBuf, to: &str| {
        flags.push(format!("--remap-path-prefix={}={to}", from.display()));
    };
    remap(root.to_owned(), "");
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    if let Some(home) = home {
        remap(home, "cargo");
    }
    flags
}

/// Finds the module among the artifacts that cargo reports for the crate in `dir`.
fn find_module(messages: &[u8], dir: &Path) -> Option<PathBuf> {
    let manifest = dir.canonicalize().ok()?.join("Cargo.toml");
    String::from_utf8_lossy(messages)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|m| m["reason"] == "compiler-artifact")
        .filter(|m| m["manifest_path"].as_str().map(Path::new) == Some(&manifest))
        .flat_map(|m| m["filenames"].as_array().cloned().unwrap_or_default())
        .filter_map(|f| f.as_str().map(PathBuf::from))
        .find(|f| f.extension().is_some_and(|e| e == "wasm"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a crate whose module contains the path of its source.
    fn write_crate(folder: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(folder.join("src"))?;
        std::fs::write(
            folder.join("Cargo.toml"),
            "[package]\nname = \"tiny\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
             [lib]\ncrate-type = [\"cdylib\"]\n[workspace]\n",
        )?;
        std::fs::write(
            folder.join("src/lib.rs"),
            "pub fn file() -> &'static str { std::panic::Location::caller().file() }\n\
             #[unsafe(no_mangle)]\npub extern \"C\" fn first() -> u8 { file().as_bytes()[0] }\n",
        )
    }

    #[test]
    fn build_is_reproducible_in_any_folder_with_and_without_a_lock() {
        let folder = std::env::temp_dir().join(format!("policy-build-{}", std::process::id()));
        let built = |path: &str| {
            let crate_ = folder.join(path);
            write_crate(&crate_).unwrap_or_else(|e| panic!("{e}"));
            let target = crate_.join("target");
            let module = || {
                let built = build_module(&crate_, &target);
                built.unwrap_or_else(|e| panic!("{e}")).1
            };
            let without = module();
            assert!(crate_.join("Cargo.lock").is_file());
            let _ = std::fs::remove_dir_all(&target);
            (without, module())
        };
        let (without, with) = built("one");
        // A lock in a parent folder belongs to another crate.
        let up = std::fs::write(folder.join("Cargo.lock"), "");
        up.unwrap_or_else(|e| panic!("{e}"));
        let elsewhere = built("other/longer");
        let _ = std::fs::remove_dir_all(&folder);
        assert!(without == with, "a Cargo.lock changes the bytes");
        assert!(elsewhere == (without, with), "the folder changes the bytes");
    }

    #[test]
    fn componentize_rejects_other_modules_with_the_fix() {
        let error = componentize(b"\0asm\x01\0\0\0").map(|bytes| bytes.len());
        match error {
            // A module without exports matches the empty world.
            Ok(size) => assert!(size > 0),
            Err(error) => assert!(error.to_string().contains("export_policy")),
        }
        let error = componentize(b"not wasm").map(|bytes| bytes.len());
        assert!(error.is_err_and(|e| e.to_string().contains("export_policy")));
    }
}
