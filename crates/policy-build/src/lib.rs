//! Builds a policy into a WebAssembly component. Runs a nested `cargo build` for
//! wasm32-unknown-unknown, or `make` for other languages, then converts the core module to a
//! component. Requires only cargo, or what the Makefile requires.
//!
//! `built-in-policies` builds its policies with this crate, and `kubectl-oaat policy build`
//! the policies of authors.

mod imports;
mod limited;
mod names;

pub use imports::ForeignImport;
pub use limited::MAX_MODULE;
pub use names::function_names;

use std::collections::BTreeMap;
use std::io::ErrorKind;
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
    /// The output of a program could not be read.
    #[error("failed to read the output of {program}: {error}")]
    Output {
        /// The program.
        program: String,
        /// The I/O error.
        error: std::io::Error,
    },
    /// cargo failed. It printed its errors to standard error.
    #[error(
        "building {0} for {TARGET} failed; see the cargo errors above (if getrandom is one of them, disable \
         the feature that needs it, and use the seed of the request)"
    )]
    Cargo(PathBuf),
    /// cargo does not build a module.
    #[error(
        "{0}: cargo builds no .wasm file; set crate-type = [\"cdylib\", \"rlib\"] in [lib] of the Cargo.toml"
    )]
    NoModule(PathBuf),
    /// The Cargo.toml contains only a workspace.
    #[error(
        "{0}: the Cargo.toml contains no package; use the directory of a policy in the workspace"
    )]
    NoPackage(PathBuf),
    /// The crate has no bindings for the contract.
    #[error(
        "{0}: the crate is not a policy, because it depends on neither policy-sdk nor wit-bindgen; use the \
         directory of a policy (`policy new` creates one)"
    )]
    NoBindings(PathBuf),
    /// A file could not be read.
    #[error("{path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        error: std::io::Error,
    },
    /// make failed. It printed its errors to standard error.
    #[error("building {0} with make failed; see the errors above")]
    Make(PathBuf),
    /// make did not build a module.
    #[error(
        "make in {0} did not write {MODULE}; write the core module to this file in the Makefile"
    )]
    NoMakeModule(PathBuf),
    /// The directory is not a policy.
    #[error(
        "{0}: there is neither a Cargo.toml nor a Makefile; use the directory of a policy (`policy new` creates one)"
    )]
    NoManifest(PathBuf),
    /// The module imports something other than the log.
    #[error("{0}")]
    ForeignImport(ForeignImport),
    /// The module does not contain the type of its world.
    #[error(
        "the module does not declare the world of oaat:policy; in Rust, call \
         policy_sdk::export_policy!; in C, link the object oaat_component_type.o of `policy new --lang c`; in \
         other languages, use a binding generator for WIT, or `wasm-tools component embed`"
    )]
    NoWorld,
    /// The module is not a policy.
    #[error(
        "failed to convert the module to a component: {0} (in Rust, check that the crate calls \
         policy_sdk::export_policy!)"
    )]
    Componentize(String),
}

impl BuildError {
    /// Returns whether the build wrote a core module that is not a policy.
    pub fn is_module_error(&self) -> bool {
        matches!(
            self,
            Self::ForeignImport(_) | Self::NoWorld | Self::Componentize(_)
        )
    }
}

/// The result of a build.
#[derive(Clone, Debug)]
pub struct Built {
    /// The name of the library target, such as `my_policy`, or of the directory with `_` for `-`.
    pub name: String,
    /// The bytes of the component, without debug information.
    pub component: Vec<u8>,
    /// The names of its functions, by their index in its core module.
    pub names: BTreeMap<u32, String>,
}

/// The file that make must write, relative to the directory of the policy.
const MODULE: &str = "target/policy.core.wasm";

/// Builds the policy in `dir` and returns its component.
///
/// # Errors
/// See [`build_crate`].
pub fn build(dir: &Path, target_dir: &Path) -> Result<Vec<u8>, BuildError> {
    build_crate(dir, target_dir).map(|built| built.component)
}

/// Checks that `dir` is the directory of a policy. Compiles nothing.
///
/// # Errors
/// Returns what is missing and how to fix it.
pub fn check_policy(dir: &Path) -> Result<(), BuildError> {
    if dir.join("Cargo.toml").is_file() {
        check_crate(dir)
    } else if dir.join("Makefile").is_file() {
        Ok(())
    } else {
        Err(BuildError::NoManifest(dir.to_owned()))
    }
}

/// Builds the policy in `dir`: with cargo if it has a Cargo.toml, with make if it has a Makefile.
/// Before it compiles anything, it checks the directory as [`check_policy`] does.
///
/// `target_dir` is the target directory of a build with cargo. It must not be the target directory of
/// a cargo process that is waiting for this build, because cargo locks its target directory.
///
/// # Errors
/// Returns what failed and how to fix it.
pub fn build_crate(dir: &Path, target_dir: &Path) -> Result<Built, BuildError> {
    check_policy(dir)?;
    let (name, module) = if dir.join("Cargo.toml").is_file() {
        build_module(dir, target_dir)?
    } else {
        make_module(dir)?
    };
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
    let cargo = cargo();
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
        // Removes unused code, because each operator compiles the component again. A panic need not
        // unwind, because a trap ends the sandbox. The optimization level is that of the crate, by
        // default 3: with "s", policy-backoff is 3% larger and uses 32% more fuel for 10 items.
        .args(["--config", "profile.release.lto=true"])
        .args(["--config", "profile.release.codegen-units=1"])
        .args(["--config", "profile.release.panic='abort'"])
        .args(["--config", "profile.release.strip=true"])
        .args(["--config", "profile.release.debug=false"])
        .stderr(Stdio::inherit());
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
    // Keeps the names of functions, which `build_crate` removes later. Setting `strip` instead would
    // change the crate hashes of cargo, and thus the digest of the component.
    flags.push("-Clink-arg=--keep-section=name".to_owned());
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    let (status, messages) = limited::output(&mut command)?;
    if !status.success() {
        return Err(BuildError::Cargo(dir.to_owned()));
    }
    let module = find_module(&messages, dir).ok_or_else(|| BuildError::NoModule(dir.to_owned()))?;
    let stem = module.file_stem().unwrap_or_default();
    let name = stem.to_string_lossy().into_owned();
    let bytes = limited::read_module(&module).map_err(|error| BuildError::Read {
        path: module,
        error,
    })?;
    Ok((name, bytes))
}

/// Builds the core module in `dir` with make. Returns the name of the policy and the bytes.
fn make_module(dir: &Path) -> Result<(String, Vec<u8>), BuildError> {
    let status = Command::new("make")
        .current_dir(dir)
        // The Makefile may call this program.
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL")
        .arg("--silent")
        .stdout(Stdio::null())
        .status()
        .map_err(|error| BuildError::Start {
            program: "make".into(),
            error,
        })?;
    if !status.success() {
        return Err(BuildError::Make(dir.to_owned()));
    }
    let path = dir.join(MODULE);
    let bytes = limited::read_module(&path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => BuildError::NoMakeModule(dir.to_owned()),
        _ => BuildError::Read { path, error },
    })?;
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    Ok((name.replace('-', "_"), bytes))
}

/// Converts a core module to a component.
///
/// # Errors
/// Returns an error if the module imports more than the log, does not embed the type of its world,
/// or does not match it.
pub fn componentize(module: &[u8]) -> Result<Vec<u8>, BuildError> {
    if let Some(import) = imports::first_foreign(module) {
        return Err(BuildError::ForeignImport(import));
    }
    if !imports::has_world(module) {
        return Err(BuildError::NoWorld);
    }
    let error = |e: &dyn std::fmt::Display| BuildError::Componentize(format!("{e:#}"));
    wit_component::ComponentEncoder::default()
        .validate(true)
        .module(module)
        .map_err(|e| error(&e))?
        .encode()
        .map_err(|e| error(&e))
}

/// Returns the name of the program cargo.
fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".into())
}

/// Checks that the crate in `dir` has bindings for the contract, and that cargo builds a module.
/// Without this check, the build fails only after cargo has compiled all dependencies.
fn check_crate(dir: &Path) -> Result<(), BuildError> {
    let metadata = cargo_output(dir, &["metadata", "--no-deps", "--format-version", "1"])?;
    let metadata: serde_json::Value = serde_json::from_slice(&metadata).unwrap_or_default();
    let manifest = manifest_in(dir);
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let mut packages = list(&metadata["packages"]).into_iter();
    let package = packages
        .find(|package| package["manifest_path"].as_str().map(Path::new) == manifest.as_deref())
        .ok_or_else(|| BuildError::NoPackage(dir.to_owned()))?;
    // Other binding generators take the contract from a directory `wit`.
    if !dir.join("wit").is_dir() && !depends_on_bindings(dir)? {
        return Err(BuildError::NoBindings(dir.to_owned()));
    }
    let targets = list(&package["targets"]).into_iter();
    let mut crate_types = targets.flat_map(|target| list(&target["crate_types"]));
    if crate_types.any(|crate_type| crate_type == "cdylib") {
        Ok(())
    } else {
        Err(BuildError::NoModule(dir.to_owned()))
    }
}

/// Returns whether the crate in `dir` depends on the SDK, or on the generator of the SDK's bindings.
fn depends_on_bindings(dir: &Path) -> Result<bool, BuildError> {
    let options = ["--edges", "normal", "--prefix", "none", "--target", TARGET];
    let tree = cargo_output(dir, &[&["tree"], &options[..]].concat())?;
    let tree = String::from_utf8_lossy(&tree);
    let mut names = tree.lines().filter_map(|line| line.split(' ').next());
    Ok(names.any(|name| name == "policy-sdk" || name.starts_with("wit-bindgen")))
}

/// Runs cargo in `dir`, and returns its output. Its errors are printed to standard error.
fn cargo_output(dir: &Path, args: &[&str]) -> Result<Vec<u8>, BuildError> {
    let mut command = Command::new(cargo());
    command.current_dir(dir).args(args).stderr(Stdio::inherit());
    let (status, output) = limited::output(&mut command)?;
    if status.success() {
        Ok(output)
    } else {
        Err(BuildError::Cargo(dir.to_owned()))
    }
}

/// Returns the path of the manifest in `dir`, as cargo prints it.
fn manifest_in(dir: &Path) -> Option<PathBuf> {
    Some(dir.canonicalize().ok()?.join("Cargo.toml"))
}

/// Checks that the target is installed, because cargo's error does not name the command that
/// installs it.
fn check_target(dir: &Path) -> Result<(), BuildError> {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let mut command = Command::new(rustc);
    command
        .current_dir(dir)
        .args(["--print", "target-libdir", "--target", TARGET])
        .stderr(Stdio::null());
    let (_, output) = limited::output(&mut command)?;
    let folder = String::from_utf8_lossy(&output);
    if Path::new(folder.trim()).is_dir() {
        Ok(())
    } else {
        Err(BuildError::TargetMissing)
    }
}

/// Returns the root of the workspace of the crate in `dir`, or `dir` itself. Asks cargo, because the
/// nearest Cargo.lock may belong to another crate, or not exist before the first build.
fn workspace_root(cargo: &str, dir: &Path) -> PathBuf {
    let mut command = Command::new(cargo);
    command
        .current_dir(dir)
        .args(["locate-project", "--workspace", "--message-format", "plain"])
        .stderr(Stdio::null());
    let root = limited::output(&mut command).ok().and_then(|(_, output)| {
        let manifest = String::from_utf8_lossy(&output);
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
    let manifest = manifest_in(dir)?;
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
    fn crate_that_is_not_a_policy_is_rejected_before_anything_is_compiled() {
        let folder = std::env::temp_dir().join(format!("not-a-policy-{}", std::process::id()));
        let package =
            "[package]\nname = \"tiny\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n";
        let cdylib = "[lib]\ncrate-type = [\"cdylib\"]\n";
        std::fs::create_dir_all(folder.join("src")).unwrap_or_else(|e| panic!("{e}"));
        let write = |path: &str, text: &str| {
            std::fs::write(folder.join(path), text).unwrap_or_else(|e| panic!("{e}"));
        };
        // If cargo compiled it, it would fail with an error of rustc.
        write("src/lib.rs", "not Rust");
        let checked = || build(&folder, &folder.join("target")).map(|bytes| bytes.len());
        let rejects = |manifest: &str, expected: &str| {
            write("Cargo.toml", manifest);
            let error = checked().map_err(|error| error.to_string());
            assert!(
                error.as_ref().is_err_and(|e| e.contains(expected)),
                "{error:?}"
            );
        };
        rejects("[workspace]\n", "contains no package");
        rejects(package, "depends on neither policy-sdk nor wit-bindgen");
        // The bindings may come from another generator.
        std::fs::create_dir_all(folder.join("wit")).unwrap_or_else(|e| panic!("{e}"));
        rejects(package, "cargo builds no .wasm file; set crate-type");
        write("Cargo.toml", &format!("{package}{cdylib}"));
        assert!(check_policy(&folder).is_ok());
        let _ = std::fs::remove_dir_all(&folder);
    }

    #[test]
    fn componentize_rejects_modules_without_a_world() {
        for bytes in [&b"\0asm\x01\0\0\0"[..], b"not wasm"] {
            let error = componentize(bytes).map(|bytes| bytes.len());
            assert!(error.is_err_and(|error| error.to_string().contains("export_policy")));
        }
    }
}
