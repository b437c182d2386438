//! Builds the built-in policies from source for the library to embed.

use flate2::{Compression, GzBuilder};
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};

const POLICIES: [&str; 3] = include!("names.rs");

const DEFAULT: &str = "policy-default";

fn main() {
    if let Err(error) = build_all() {
        // With a failure code, cargo also shows the errors of the nested build.
        eprintln!("failed to build a built-in policy: {error}");
        std::process::exit(1);
    }
}

fn build_all() -> Result<(), Box<dyn Error>> {
    // Read at run time: the value may have changed since this script was compiled.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    let root = PathBuf::from(manifest).join("../..");
    let folder = |name| format!("policies/{name}");
    let others = [DEFAULT, "crates/policy-sdk"].map(str::to_owned);
    for dir in POLICIES.map(folder).into_iter().chain(others) {
        for watched in ["src", "Cargo.toml", "build.rs"] {
            let path = root.join(&dir).join(watched);
            // A missing path would run this script in each build.
            if path.exists() {
                println!("cargo::rerun-if-changed={}", path.display());
            }
        }
    }
    for watched in ["wit", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(watched).display());
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    // OUT_DIR is <target>/<profile>/build/<package>/out. A directory next to the profiles is shared
    // by all of them, and the cargo process that runs this script does not lock it.
    let target = out.ancestors().nth(4).unwrap_or(&out).join("policies");
    let default = policy_build::build(&root.join(DEFAULT), &target)?;
    std::fs::write(out.join("default.wasm"), default)?;
    for name in POLICIES {
        let wasm = policy_build::build(&root.join(folder(name)), &target)?;
        pack(&wasm, &out.join(format!("{name}.wasm.gz")))?;
    }
    Ok(())
}

/// Writes a component compressed with gzip. The same component always gives the same file.
fn pack(wasm: &[u8], path: &Path) -> std::io::Result<()> {
    let mut packed = GzBuilder::new().write(Vec::new(), Compression::best());
    packed.write_all(wasm)?;
    std::fs::write(path, packed.finish()?)
}
