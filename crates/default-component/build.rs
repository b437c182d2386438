//! Builds the built-in policy from source for [`DEFAULT_POLICY`] to embed.

use std::path::PathBuf;

fn main() {
    // Read at run time: the value may have changed since this script was compiled.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    let root = PathBuf::from(manifest).join("../..");
    for watched in [
        "policy-default/src",
        "policy-default/Cargo.toml",
        "crates/policy-sdk/src",
        "crates/policy-sdk/Cargo.toml",
        "wit",
        "Cargo.lock",
    ] {
        println!("cargo::rerun-if-changed={}", root.join(watched).display());
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    // OUT_DIR is <target>/<profile>/build/<package>/out. A directory next to the profiles is shared
    // by all of them, and the cargo process that runs this script does not lock it.
    let target = out.ancestors().nth(4).unwrap_or(&out).join("policies");
    let built = policy_build::build(&root.join("policy-default"), &target)
        .map_err(|error| error.to_string())
        .and_then(|wasm| {
            std::fs::write(out.join("policy_default.wasm"), wasm).map_err(|e| e.to_string())
        });
    if let Err(error) = built {
        // With a failure code, cargo also shows the errors of the nested build.
        eprintln!("failed to build the built-in policy: {error}");
        std::process::exit(1);
    }
}
