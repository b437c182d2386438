//! From what an author names to a policy in the operator's evaluator.

use anyhow::{Context, Result};
use policy_host::{Host, Limits, LoadError, Policy};
use std::path::{Path, PathBuf};

/// A policy, and the bytes it was made of.
pub(crate) struct Component {
    /// Ready to be asked.
    pub policy: Policy,
    /// The component as the operator would be given it, unpacked.
    pub wasm: Vec<u8>,
}

/// Reads a policy: a component, plain or gzip, or the core module that cargo builds, which is
/// made a component here. The name `default` stands for the built-in one where there is no
/// such file.
pub(crate) fn load(file: &Path, built_in: &[u8]) -> Result<Component> {
    let wasm = read(file, built_in)?;
    let host = Host::new(Limits::default())?;
    match host.load(&wasm, None) {
        Ok(policy) => Ok(Component { policy, wasm }),
        Err(error) => Err(Refused {
            file: file.to_owned(),
            error,
        }
        .into()),
    }
}

/// The operator would not take the component: that is an answer, not a failure of the tool.
#[derive(Debug, thiserror::Error)]
#[error("{}: the operator would refuse it, {}: {error}", .file.display(), .error.reason())]
pub(crate) struct Refused {
    file: PathBuf,
    error: LoadError,
}

/// The component's bytes, made from a core module where that is what the file holds.
pub(crate) fn read(file: &Path, built_in: &[u8]) -> Result<Vec<u8>> {
    if file == Path::new("default") && !file.exists() {
        return Ok(built_in.to_vec());
    }
    let bytes = std::fs::read(file).with_context(|| format!("{}", file.display()))?;
    if is_core_module(&bytes) {
        return policy_build::componentise(&bytes).with_context(|| format!("{}", file.display()));
    }
    Ok(bytes)
}

/// By the header of a core module; a component's differs in the layer.
pub(crate) fn is_core_module(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\0asm\x01\0\0\0")
}

/// What gzip begins with.
pub(crate) fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}
