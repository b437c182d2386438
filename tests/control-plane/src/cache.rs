//! The cache directory: its location and its name.
//!
//! It is outside `target/`, because a cold build of Kubernetes takes five minutes, which should not
//! be necessary after `cargo clean`.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// The module that pins the versions.
const GO_MOD: &str = include_str!("../go.mod");
/// The checksums of all dependencies.
const GO_SUM: &str = include_str!("../go.sum");

/// The module that requires Kubernetes.
const KUBERNETES: &str = "k8s.io/kubernetes";
/// The module that requires Helm.
const HELM: &str = "helm.sh/helm/v3";

/// The module that requires promtool.
pub(crate) const PROMETHEUS: &str = "github.com/prometheus/prometheus";
/// The module that requires Alertmanager. That of Prometheus requires it as well.
pub(crate) const ALERTMANAGER: &str = "github.com/prometheus/alertmanager";

/// A Go module that requires the programs to build: a release of Kubernetes, Helm, promtool, or
/// Alertmanager.
pub(crate) struct Module {
    pub(crate) go_mod: String,
    /// The checksums of all dependencies. If empty, Go takes them from its checksum database.
    pub(crate) go_sum: String,
}

/// Returns the directory of everything that this repository caches outside `target/`.
pub fn cache_directory() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    set("OAAT_CACHE_DIR")
        .map(PathBuf::from)
        .or_else(|| set("XDG_CACHE_HOME").map(|base| PathBuf::from(base).join("oaat-operator")))
        .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".cache/oaat-operator")))
}

/// Returns the directory of all builds and their locks.
pub(crate) fn root() -> Option<PathBuf> {
    Some(cache_directory()?.join("control-plane"))
}

/// Returns the directory of the pinned build. `suffix` identifies the set of programs.
pub(crate) fn folder(suffix: &str) -> Option<PathBuf> {
    Some(root()?.join(Module::pinned().key() + suffix))
}

impl Module {
    /// Returns the module that pins the versions.
    pub(crate) fn pinned() -> Self {
        Self {
            go_mod: GO_MOD.to_owned(),
            go_sum: GO_SUM.to_owned(),
        }
    }

    /// Returns the module that pins Helm.
    pub(crate) fn helm() -> Self {
        Self {
            go_mod: include_str!("../helm/go.mod").to_owned(),
            go_sum: include_str!("../helm/go.sum").to_owned(),
        }
    }

    /// Returns the module that pins promtool.
    pub(crate) fn promtool() -> Self {
        Self {
            go_mod: include_str!("../promtool/go.mod").to_owned(),
            go_sum: include_str!("../promtool/go.sum").to_owned(),
        }
    }

    /// Returns the module that pins Alertmanager.
    pub(crate) fn alertmanager() -> Self {
        Self {
            go_mod: include_str!("../alertmanager/go.mod").to_owned(),
            go_sum: include_str!("../alertmanager/go.sum").to_owned(),
        }
    }

    /// Returns a module for a release of Kubernetes, such as `v1.31.14`. `go_mod` is the go.mod of
    /// k8s.io/kubernetes in that release. Its staging modules are released as `v0.31.14`.
    pub(crate) fn of_release(version: &str, go_mod: &str) -> Result<Self> {
        let numbers = version
            .strip_prefix("v1.")
            .with_context(|| format!("{version:?} is not a release of Kubernetes 1.x"))?;
        let staging: String = go_mod
            .lines()
            .filter_map(|line| line.trim().split_once(" => ./staging/"))
            .map(|(module, _)| format!("\t{module} => {module} v0.{numbers}\n"))
            .collect();
        let go = GO_MOD.lines().find(|line| line.starts_with("go "));
        let go = go.context("go.mod has no version of Go")?;
        Ok(Self {
            go_mod: format!(
                "module oaat-operator/control-plane\n\n{go}\n\nrequire k8s.io/kubernetes \
                 {version}\n\nreplace (\n{staging})\n"
            ),
            go_sum: String::new(),
        })
    }

    /// Returns a key that changes whenever a build would result in different programs.
    pub(crate) fn key(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(&self.go_mod);
        hash.update(&self.go_sum);
        for flag in self.build_flags() {
            hash.update(flag);
        }
        hash.finalize()
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// Returns the flags of `go build`.
    pub(crate) fn build_flags(&self) -> Vec<String> {
        let module = if self.go_sum.is_empty() {
            "-mod=mod"
        } else {
            "-mod=readonly"
        };
        let mut flags = vec![
            "-trimpath".to_owned(),
            module.to_owned(),
            "-ldflags".to_owned(),
            format!("-s -w {}", self.version_flags()),
        ];
        if self.required(PROMETHEUS).is_some() {
            // A test of rules needs no service discovery, so its clients are not built.
            flags.extend(["-tags".to_owned(), "remove_all_sd".to_owned()]);
        }
        flags
    }

    /// Returns the flags of the linker that set versions, as the build of each project does.
    ///
    /// Without them, the API server reports v0.0.0-master, which kubectl cannot parse, and Helm
    /// renders and lints charts for Kubernetes 1.20.
    fn version_flags(&self) -> String {
        let numbers = |version: &str| {
            let mut numbers = version.trim_start_matches('v').split('.');
            let mut next = || numbers.next().unwrap_or_default().to_owned();
            (next(), next())
        };
        if let Some(version) = self.required(HELM) {
            // The libraries v0.37.2 belong to Kubernetes 1.37.
            let (_, minor) = numbers(self.required("k8s.io/client-go").unwrap_or_default());
            let kubernetes = ["pkg/chartutil", "pkg/lint/rules"].map(|package| {
                format!(
                    "-X {HELM}/{package}.k8sVersionMajor=1 \
                     -X {HELM}/{package}.k8sVersionMinor={minor}"
                )
            });
            return format!(
                "-X {HELM}/internal/version.version={version} {}",
                kubernetes.join(" ")
            );
        }
        let monitoring = [PROMETHEUS, ALERTMANAGER];
        if let Some(version) = monitoring.iter().find_map(|name| self.required(name)) {
            return format!("-X github.com/prometheus/common/version.Version={version}");
        }
        let version = self.version();
        let (major, minor) = numbers(version);
        let set = "-X k8s.io/component-base/version";
        format!("{set}.gitVersion={version} {set}.gitMajor={major} {set}.gitMinor={minor}")
    }

    /// Returns the release of Kubernetes that the module requires, such as `v1.37.2`.
    pub(crate) fn version(&self) -> &str {
        self.required(KUBERNETES).unwrap_or_default()
    }

    /// Returns the version of a module that this module requires; `None` if it does not.
    pub(crate) fn required(&self, module: &str) -> Option<&str> {
        self.go_mod
            .lines()
            .map(|line| line.trim().trim_start_matches("require "))
            .filter_map(|line| line.strip_prefix(module)?.strip_prefix(' '))
            .find_map(|rest| rest.split_whitespace().next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_comes_from_go_mod() {
        let module = Module::pinned();
        assert!(module.version().starts_with("v1."));
        let flags = module.build_flags().join(" ");
        assert!(flags.contains(&format!("gitVersion={} ", module.version())));
        assert!(flags.contains("gitMajor=1 "));
        assert_eq!(module.key().len(), 16);
    }

    #[test]
    fn helm_assumes_the_pinned_release_of_kubernetes() {
        let helm = Module::helm();
        assert!(helm.required(HELM).is_some_and(|v| v.starts_with("v3.")));
        let libraries = helm.required("k8s.io/client-go");
        let pinned = Module::pinned().version().replacen("v1.", "v0.", 1);
        assert_eq!(libraries, Some(&*pinned));
        let (_, minor) = pinned.split_once('.').expect("it has a minor version");
        let (minor, _) = minor.split_once('.').expect("it has a patch version");
        let flags = helm.build_flags().join(" ");
        assert!(flags.contains(&format!("rules.k8sVersionMinor={minor}")));
        assert!(!flags.contains("component-base"));
        assert_ne!(helm.key(), Module::pinned().key());
    }

    #[test]
    fn promtool_is_built_without_service_discovery() {
        let promtool = Module::promtool();
        let version = promtool.required(PROMETHEUS);
        let version = version.expect("the module requires Prometheus").to_owned();
        let flags = promtool.build_flags().join(" ");
        assert!(flags.contains(&format!("version.Version={version}")));
        assert!(flags.ends_with("-tags remove_all_sd"));
        assert!(!Module::helm().build_flags().contains(&"-tags".to_owned()));
    }

    #[test]
    fn alertmanager_uses_the_dependencies_of_promtool() {
        let (alertmanager, promtool) = (Module::alertmanager(), Module::promtool());
        let version = alertmanager.required(ALERTMANAGER);
        let version = version.expect("the module requires Alertmanager");
        let flags = alertmanager.build_flags().join(" ");
        assert!(flags.contains(&format!("version.Version={version}")));
        for shared in ["github.com/prometheus/common", "github.com/aws/smithy-go"] {
            let version = alertmanager.required(shared);
            assert!(version.is_some(), "{shared}");
            assert_eq!(version, promtool.required(shared));
        }
    }

    #[test]
    fn staging_modules_use_the_version_of_the_release() {
        let go_mod = "replace (\n\tk8s.io/api => ./staging/src/k8s.io/api\n)\n";
        let module =
            Module::of_release("v1.31.14", go_mod).expect("it is a release of Kubernetes 1");
        assert_eq!(module.version(), "v1.31.14");
        assert!(
            module
                .go_mod
                .contains("\tk8s.io/api => k8s.io/api v0.31.14\n")
        );
        assert!(module.build_flags().contains(&"-mod=mod".to_owned()));
        assert!(Module::of_release("v2.0.0", go_mod).is_err());
    }
}
