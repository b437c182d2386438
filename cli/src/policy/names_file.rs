//! The file with the names of functions that `policy build` writes next to a component.

use crate::input;
use anyhow::{Context, Result};
use policy_host::{FunctionNames, sha256};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The maximum size of the file in bytes. A larger one is ignored.
const MAX_SIZE: u64 = 32 << 20;

#[derive(Serialize, Deserialize)]
struct NamesFile {
    /// The sha256 of the component.
    sha256: String,
    /// The names by the index of the function in the core module.
    functions: BTreeMap<u32, String>,
}

/// Returns the path of the file for a component: `policy.names.json` for `policy.wasm`.
pub(crate) fn path(component: &Path) -> PathBuf {
    component.with_extension("names.json")
}

/// Writes the names of the functions of a component that was written to a file.
pub(crate) fn write(file: &Path, wasm: &[u8], functions: BTreeMap<u32, String>) -> Result<PathBuf> {
    let path = path(file);
    let names = NamesFile {
        sha256: sha256(wasm),
        functions,
    };
    let text = serde_json::to_string_pretty(&names)? + "\n";
    std::fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
    Ok(path)
}

/// Reads the names of the functions of a component with this digest. Returns `None` if there is no
/// file, or it belongs to another build.
pub(crate) fn read(component: &Path, digest: &str) -> Option<FunctionNames> {
    let text = input::read(&path(component), MAX_SIZE).ok()?;
    let names: NamesFile = serde_json::from_slice(&text).ok()?;
    (names.sha256 == digest).then(|| names.functions.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_another_build_are_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mine.wasm");
        assert_eq!(read(&file, &sha256(b"one")), None);
        let names = BTreeMap::from([(7, "select".to_owned())]);
        let path = write(&file, b"one", names.clone()).unwrap();
        assert!(path.ends_with("mine.names.json"));
        assert_eq!(read(&file, &sha256(b"one")), Some(names.into()));
        assert_eq!(read(&file, &sha256(b"two")), None);
    }
}
