//! Lists the files that `policy new` copies into an author's folder: what a policy and its
//! tests are built with, as long as none of it is published.

use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Folders of the repository.
const COPIED: [&str; 7] = [
    "wit",
    "crates/plain-text",
    "crates/policy-sdk",
    "crates/policy-build",
    "crates/policy-cases",
    "crates/policy-host",
    "crates/policy-testkit",
];

fn main() {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    let root = PathBuf::from(manifest).join("..");
    let mut files = Vec::new();
    for folder in COPIED {
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
    if let Err(error) = std::fs::write(out.join("copied.rs"), code) {
        println!("cargo::error=the list of files was not written: {error}");
    }
}

/// Sources and manifests below a folder; not its tests, which need more than is copied.
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
