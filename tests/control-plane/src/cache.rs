//! The cache directory: its location and its name.
//!
//! It is outside `target/`, because a cold build of Kubernetes takes five minutes, which should not
//! be necessary after `cargo clean`.

use std::env;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

/// The module that pins the versions.
pub(crate) const GO_MOD: &str = include_str!("../go.mod");
/// The checksums of all dependencies.
pub(crate) const GO_SUM: &str = include_str!("../go.sum");

/// Returns the directory of all builds and their locks.
pub(crate) fn root() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    let base = set("OAAT_CACHE_DIR")
        .map(PathBuf::from)
        .or_else(|| set("XDG_CACHE_HOME").map(|base| PathBuf::from(base).join("oaat-operator")))
        .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".cache/oaat-operator")))?;
    Some(base.join("control-plane"))
}

/// Returns the directory of the build of this source. `suffix` identifies the set of programs.
pub(crate) fn folder(suffix: &str) -> Option<PathBuf> {
    Some(root()?.join(key() + suffix))
}

/// Returns a key that changes whenever a build would result in different programs.
pub(crate) fn key() -> String {
    let mut hash = Sha256::new();
    hash.update(GO_MOD);
    hash.update(GO_SUM);
    for flag in build_flags() {
        hash.update(flag);
    }
    hash.finalize()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Returns the flags of `go build`.
///
/// They set the version, as the build of Kubernetes does. Without it, the server reports
/// v0.0.0-master, which kubectl cannot parse.
pub(crate) fn build_flags() -> Vec<String> {
    let version = kubernetes_version();
    let mut numbers = version.trim_start_matches('v').split('.');
    let (major, minor) = (
        numbers.next().unwrap_or_default(),
        numbers.next().unwrap_or_default(),
    );
    let set = "-X k8s.io/component-base/version";
    vec![
        "-trimpath".to_owned(),
        "-mod=readonly".to_owned(),
        "-ldflags".to_owned(),
        format!("-s -w {set}.gitVersion={version} {set}.gitMajor={major} {set}.gitMinor={minor}"),
    ]
}

/// Returns the release that go.mod requires, such as `v1.37.2`.
pub(crate) fn kubernetes_version() -> &'static str {
    GO_MOD
        .lines()
        .filter_map(|line| line.trim().strip_prefix("k8s.io/kubernetes "))
        .filter_map(|rest| rest.split_whitespace().next())
        .next()
        .expect("go.mod requires k8s.io/kubernetes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_comes_from_go_mod() {
        assert!(kubernetes_version().starts_with("v1."));
        let flags = build_flags().join(" ");
        assert!(flags.contains(&format!("gitVersion={} ", kubernetes_version())));
        assert!(flags.contains("gitMajor=1 "));
        assert_eq!(key().len(), 16);
    }
}
