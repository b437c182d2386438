//! Loads policies from files into the operator's evaluator.

use crate::input;
use anyhow::{Context, Result, ensure};
use oaat_api::BuiltInPolicy;
use policy_build::BuildError;
use policy_host::{FunctionNames, Host, Limits, LoadError, Policy, decompress, is_gzip, sha256};
use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A loaded policy and its bytes.
pub(crate) struct Component {
    pub policy: Policy,
    /// The bytes of the component as read from the file, or as converted from a core module.
    pub wasm: Vec<u8>,
}

/// Loads a policy from a component (plain or gzip) or from the core module that cargo builds. The
/// name of a built-in policy, such as `default`, refers to that policy unless a file has this name.
pub(crate) fn load(file: &Path, built_in: &[u8]) -> Result<Component> {
    load_with(&Host::new(Limits::default())?, file, built_in)
}

/// Loads a policy as [`load`] does, into this host.
pub(crate) fn load_with(host: &Host, file: &Path, built_in: &[u8]) -> Result<Component> {
    let wasm = read(file, built_in)?;
    let names = function_names(file, &wasm);
    match host.load(&wasm, None) {
        Ok(policy) => Ok(Component {
            policy: policy.with_names(names),
            wasm,
        }),
        Err(error) => Err(rejected(file, error.with_names(&names)).into()),
    }
}

/// Returns the names of the functions of a component, from the file beside it or from the component
/// itself. Empty if neither has any.
pub(crate) fn function_names(file: &Path, wasm: &[u8]) -> FunctionNames {
    let wasm = unpack(wasm);
    super::names_file::read(file, &sha256(&wasm))
        .unwrap_or_else(|| policy_build::function_names(&wasm).into())
}

/// Decompresses gzip. Returns other bytes, and damaged or too large data, unchanged.
pub(crate) fn unpack(bytes: &[u8]) -> Cow<'_, [u8]> {
    match decompress(bytes, Limits::default().component) {
        Ok(wasm) if is_gzip(bytes) => Cow::Owned(wasm),
        _ => Cow::Borrowed(bytes),
    }
}

/// A component that the operator rejects. This is a result, not a failure of the command.
#[derive(Debug, thiserror::Error)]
#[error("{}: the operator rejects this component: {}: {error}", .file.display(), .error.reason())]
pub(crate) struct Rejected {
    file: PathBuf,
    error: LoadError,
}

/// Returns the error for a component that the operator rejects.
pub(crate) fn rejected(file: &Path, error: LoadError) -> Rejected {
    let file = file.to_owned();
    Rejected { file, error }
}

/// Returns whether an error is a problem of the policy, and not a failure of the command.
pub(crate) fn is_policy_error(error: &anyhow::Error) -> bool {
    let module = error.downcast_ref::<BuildError>();
    let module = module.is_some_and(BuildError::is_module_error);
    module || error.is::<Rejected>()
}

/// Reads the bytes of a component. Converts a core module to a component.
pub(crate) fn read(file: &Path, built_in: &[u8]) -> Result<Vec<u8>> {
    let named = file.to_str().and_then(BuiltInPolicy::from_name);
    if let Some(policy) = named.filter(|_| !file.exists()) {
        return Ok(self::built_in(policy, built_in));
    }
    check_name(file)?;
    let contains = |name| file.join(name).is_file();
    ensure!(
        !["Cargo.toml", "Makefile"].into_iter().any(contains),
        "{0}: this is a directory; run \"kubectl-oaat policy build {0}\" and use the component that \
         it writes",
        file.display()
    );
    let bytes = input::read(file, input::MAX_COMPONENT)?;
    if is_core_module(&bytes) {
        return policy_build::componentize(&bytes).with_context(|| format!("{}", file.display()));
    }
    Ok(bytes)
}

/// Returns the component of a built-in policy. `default` is that of the policy `default`.
pub(crate) fn built_in(policy: BuiltInPolicy, default: &[u8]) -> Vec<u8> {
    match policy {
        BuiltInPolicy::Default => default.to_vec(),
        policy => unpack(built_in_policies::component(policy)).into_owned(),
    }
}

/// Checks that a single word, which may be a misspelled name of a built-in policy, is a file.
fn check_name(file: &Path) -> Result<()> {
    let is_word = file.extension().is_none() && file.components().count() == 1;
    let names = BuiltInPolicy::ALL.map(BuiltInPolicy::name).join(", ");
    ensure!(
        file.exists() || !is_word,
        "{} is neither a file nor a built-in policy ({names})",
        file.display()
    );
    Ok(())
}

/// Checks whether a file is a core module.
pub(crate) fn is_core_module_file(file: &Path) -> bool {
    let mut header = [0; 8];
    let read = File::open(file).and_then(|mut file| file.read_exact(&mut header));
    read.is_ok() && is_core_module(&header)
}

/// Checks for the header of a core module. The header of a component has another layer field.
pub(crate) fn is_core_module(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\0asm\x01\0\0\0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_of_a_policy_is_rejected_with_the_command_that_builds_it() {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().display().to_string();
        let error = || format!("{:#}", read(folder.path(), &[]).unwrap_err());
        assert!(!error().contains("policy build"), "{}", error());
        for source in ["Cargo.toml", "Makefile"] {
            let source = folder.path().join(source);
            std::fs::write(&source, "").unwrap();
            let expected = format!(
                "{name}: this is a directory; run \"kubectl-oaat policy build {name}\" and use the \
                 component that it writes"
            );
            assert_eq!(error(), expected);
            std::fs::remove_file(source).unwrap();
        }
    }
}
