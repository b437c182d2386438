//! Builds a policy crate into a WebAssembly component with nothing but cargo:
//! a nested `cargo build` for wasm32-unknown-unknown, then the step from core
//! module to component, by library.
//!
//! The operator's build script makes the default policy with it, and
//! policy-testkit the component that a policy's tests run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The target that policies are built for. Not one of the wasi targets: a policy
/// may import nothing but its log, and a wasi standard library imports wasi.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// Why there is no component.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The standard library for [`TARGET`] is not installed.
    #[error("the Rust target {TARGET} is missing; install it with: rustup target add {TARGET}")]
    TargetMissing,
    /// A program could not be started.
    #[error("{program} could not be started: {error}")]
    Start {
        /// The program.
        program: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// cargo said no; its own messages went to stderr.
    #[error("building {0} for {TARGET} failed; cargo's messages above say why")]
    Cargo(PathBuf),
    /// The crate built, but not into a module.
    #[error(
        "{0} built no .wasm file; its Cargo.toml needs [lib] with crate-type = [\"cdylib\", \"rlib\"]"
    )]
    NoModule(PathBuf),
    /// A file could not be read.
    #[error("{path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The module is no policy.
    #[error(
        "the module could not be made a component: {0} (does the crate call policy_sdk::export_policy! ?)"
    )]
    Componentise(String),
}

/// A policy crate, built.
#[derive(Clone, Debug)]
pub struct Built {
    /// Its name, as its files have it: `my_policy`.
    pub name: String,
    /// Its component.
    pub component: Vec<u8>,
}

/// Builds the policy crate in `dir` and returns its component.
///
/// # Errors
/// As [`build_crate`].
pub fn build(dir: &Path, target_dir: &Path) -> Result<Vec<u8>, BuildError> {
    build_crate(dir, target_dir).map(|built| built.component)
}

/// Builds the policy crate in `dir`.
///
/// `target_dir` is where the nested build works. It must not be the target
/// folder of a cargo that waits for this one, or the two would wait for each other.
///
/// # Errors
/// What failed, with what to do about it.
pub fn build_crate(dir: &Path, target_dir: &Path) -> Result<Built, BuildError> {
    let (name, module) = build_module(dir, target_dir)?;
    let component = componentise(&module)?;
    Ok(Built { name, component })
}

/// Builds the crate in `dir` into a core module; gives its name, too.
fn build_module(dir: &Path, target_dir: &Path) -> Result<(String, Vec<u8>), BuildError> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    target_installed(dir)?;
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
        // A policy is small, is compiled again in every operator, and its trap is
        // as good as its unwinding.
        .args(["--config", "profile.release.lto=true"])
        .args(["--config", "profile.release.codegen-units=1"])
        .args(["--config", "profile.release.panic='abort'"])
        .args(["--config", "profile.release.strip=true"])
        .args(["--config", "profile.release.debug=false"])
        .stderr(Stdio::inherit())
        .stdout(Stdio::piped());
    // What the outer cargo (or clippy) set for itself is not meant for this build.
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
    let root = workspace(&cargo, dir);
    command.env("CARGO_ENCODED_RUSTFLAGS", remapped(&root).join("\x1f"));
    let output = command.output().map_err(|error| BuildError::Start {
        program: cargo,
        error,
    })?;
    if !output.status.success() {
        return Err(BuildError::Cargo(dir.to_owned()));
    }
    let module =
        module_of(&output.stdout, dir).ok_or_else(|| BuildError::NoModule(dir.to_owned()))?;
    let stem = module.file_stem().unwrap_or_default();
    let name = stem.to_string_lossy().into_owned();
    let bytes = std::fs::read(&module).map_err(|error| BuildError::Read {
        path: module,
        error,
    })?;
    Ok((name, bytes))
}

/// Makes a component of the core module that cargo built.
///
/// # Errors
/// When the module does not carry, or does not fit, the type of its world.
pub fn componentise(module: &[u8]) -> Result<Vec<u8>, BuildError> {
    let said = |e: &dyn std::fmt::Display| BuildError::Componentise(format!("{e:#}"));
    wit_component::ComponentEncoder::default()
        .validate(true)
        .module(module)
        .map_err(|e| said(&e))?
        .encode()
        .map_err(|e| said(&e))
}

/// Whether the target's standard library is there; cargo's own complaint about
/// it is long and does not name the command.
fn target_installed(dir: &Path) -> Result<(), BuildError> {
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

/// The folder of the workspace that the crate in `dir` belongs to, or else `dir` itself. Cargo
/// says which: a Cargo.lock need not be there before the first build, and a folder further up may
/// have one of its own.
fn workspace(cargo: &str, dir: &Path) -> PathBuf {
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

/// Takes the builder's folders out of panic messages, so that the same source
/// gives the same bytes, and so the same digest, wherever it is built.
fn remapped(root: &Path) -> Vec<String> {
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

/// The module among the artefacts that cargo reports for the crate in `dir`.
fn module_of(messages: &[u8], dir: &Path) -> Option<PathBuf> {
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

    /// A crate that names its own file in a panic, in a folder of some name.
    fn krate(folder: &Path) -> std::io::Result<()> {
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
    fn the_bytes_are_the_same_with_and_without_a_lock_wherever_it_is() {
        let folder = std::env::temp_dir().join(format!("policy-build-{}", std::process::id()));
        let built = |place: &str| {
            let crate_ = folder.join(place);
            krate(&crate_).unwrap_or_else(|e| panic!("{e}"));
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
        // A lock further up belongs to someone else.
        let up = std::fs::write(folder.join("Cargo.lock"), "");
        up.unwrap_or_else(|e| panic!("{e}"));
        let elsewhere = built("other/longer");
        let _ = std::fs::remove_dir_all(&folder);
        assert!(without == with, "a lock makes a difference");
        assert!(elsewhere == (without, with), "the place makes a difference");
    }

    #[test]
    fn a_module_that_is_no_policy_is_refused_with_the_way_out() {
        let error = componentise(b"\0asm\x01\0\0\0").map(|bytes| bytes.len());
        match error {
            // A module without exports fits the empty world.
            Ok(size) => assert!(size > 0),
            Err(error) => assert!(error.to_string().contains("export_policy")),
        }
        let error = componentise(b"not wasm").map(|bytes| bytes.len());
        assert!(error.is_err_and(|e| e.to_string().contains("export_policy")));
    }
}
