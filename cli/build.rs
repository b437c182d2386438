//! Lists the files that `policy new` copies into a new crate: the crates that a policy and its
//! tests depend on. They are copied because they are not published.

use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The directories to copy, relative to the root of the repository.
const VENDORED: [&str; 4] = [
    "wit",
    "crates/plain-text",
    "crates/policy-sdk",
    "crates/policy-testkit",
];

fn main() {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    let root = PathBuf::from(manifest).join("..");
    let mut files = Vec::new();
    for folder in VENDORED {
        println!("cargo::rerun-if-changed={}", root.join(folder).display());
        collect(&root.join(folder), &mut files);
    }
    files.sort();
    let mut code = String::from("&[\n");
    for file in files {
        let name = file.strip_prefix(&root).unwrap_or(&file);
        let _ = writeln!(code, "({:?}, include_str!({:?})),", name, file);
    }
    code.push(']');
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    if let Err(error) = std::fs::write(out.join("vendored.rs"), code) {
        println!("cargo::error=failed to write the list of vendored files: {error}");
    }
}

/// Collects the sources and manifests in a directory. Skips tests, which depend on other files.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() {
            if name != "tests" && name != "examples" && name != "target" {
                collect(&path, files);
            }
        } else if path
            .extension()
            .is_some_and(|e| e == "rs" || e == "toml" || e == "wit")
        {
            files.push(path);
        }
    }
}
