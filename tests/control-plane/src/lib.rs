//! Finds or builds the programs of a Kubernetes control plane.
//!
//! The tests and the demo use real programs: etcd, kube-apiserver, kube-controller-manager, and
//! kubectl. They come from the first of these sources that has them:
//!
//! 1. the directory in `KUBEBUILDER_ASSETS`,
//! 2. `PATH`,
//! 3. the cache, which [`ensure`] fills with programs built with Go.
//!
//! The three servers always come from the same source, because an API server and a controller
//! manager of different releases are not tested together. kubectl supports several releases, and
//! may come from another source.

mod build;
mod cache;

use std::env;
use std::path::{Path, PathBuf};

use anyhow::Result;

/// The paths of the four programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tools {
    /// The database of the API server.
    pub etcd: PathBuf,
    /// The API server.
    pub kube_apiserver: PathBuf,
    /// The controllers for garbage collection, namespaces, and service accounts.
    pub kube_controller_manager: PathBuf,
    /// The command-line client.
    pub kubectl: PathBuf,
}

/// The paths of the programs that run pods on a node, and that schedule them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeTools {
    /// The agent that runs pods.
    pub kubelet: PathBuf,
    /// The scheduler.
    pub kube_scheduler: PathBuf,
}

/// Finds the programs without building anything; `None` if any is missing.
pub fn locate() -> Option<Tools> {
    locate_in(&sources(build::CONTROL_PLANE.suffix))
}

/// Finds kubelet and kube-scheduler without building anything; `None` if either is missing.
pub fn locate_node() -> Option<NodeTools> {
    sources(build::NODE.suffix).iter().find_map(|source| {
        Some(NodeTools {
            kubelet: find(source, "kubelet")?,
            kube_scheduler: find(source, "kube-scheduler")?,
        })
    })
}

/// Returns the sources of programs, in the order of precedence.
fn sources(suffix: &str) -> [Vec<PathBuf>; 3] {
    let assets: Vec<PathBuf> = env::var_os("KUBEBUILDER_ASSETS")
        .filter(|folder| !folder.is_empty())
        .map(PathBuf::from)
        .into_iter()
        .collect();
    let path: Vec<PathBuf> = env::var_os("PATH")
        .map(|path| env::split_paths(&path).collect())
        .unwrap_or_default();
    let cache: Vec<PathBuf> = cache::folder(suffix).into_iter().collect();
    [assets, path, cache]
}

/// Finds the programs, or builds them with Go and stores them in the cache. `progress` receives a
/// short line for each step.
///
/// # Errors
/// If Go is not installed, or if the build fails. The message contains the fix.
pub fn ensure(progress: &dyn Fn(&str)) -> Result<Tools> {
    if let Some(tools) = locate() {
        return Ok(tools);
    }
    if let Some(folder) = env::var_os("KUBEBUILDER_ASSETS").filter(|folder| !folder.is_empty()) {
        // Otherwise it would be unclear why the programs are built.
        progress(&format!(
            "KUBEBUILDER_ASSETS ({}) lacks etcd, kube-apiserver, or kube-controller-manager",
            folder.display()
        ));
    }
    build::into_cache(&build::CONTROL_PLANE, locate, progress)
}

/// Finds or builds kubelet and kube-scheduler. They are built and cached separately, because only a
/// real node needs them.
///
/// # Errors
/// If Go is not installed, or if the build fails. The message contains the fix.
pub fn ensure_node(progress: &dyn Fn(&str)) -> Result<NodeTools> {
    match locate_node() {
        Some(tools) => Ok(tools),
        None => build::into_cache(&build::NODE, locate_node, progress),
    }
}

/// Returns the programs of the first source that has all three servers.
fn locate_in(sources: &[Vec<PathBuf>]) -> Option<Tools> {
    sources.iter().find_map(|source| {
        Some(Tools {
            etcd: find(source, "etcd")?,
            kube_apiserver: find(source, "kube-apiserver")?,
            kube_controller_manager: find(source, "kube-controller-manager")?,
            kubectl: find(source, "kubectl")
                .or_else(|| sources.iter().find_map(|other| find(other, "kubectl")))?,
        })
    })
}

fn find(folders: &[PathBuf], program: &str) -> Option<PathBuf> {
    folders
        .iter()
        .map(|folder| folder.join(program))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata()
        .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// Returns a command that runs the current `cargo` without the variables that Cargo sets for a
/// package.
///
/// With these variables, build scripts that depend on them (such as the one in `ring`) would run
/// again for each calling package, and all their dependents would be rebuilt.
pub fn cargo() -> std::process::Command {
    const PACKAGE_VARIABLES: [&str; 7] = [
        "CARGO_PKG_",
        "CARGO_MANIFEST_",
        "CARGO_BIN_",
        "CARGO_CRATE_NAME",
        "CARGO_PRIMARY_PACKAGE",
        "CARGO_TARGET_TMPDIR",
        "CARGO_RUSTC_CURRENT_DIR",
    ];
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = std::process::Command::new(program);
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if PACKAGE_VARIABLES
            .iter()
            .any(|prefix| name_text.starts_with(prefix))
        {
            cargo.env_remove(&name);
        }
    }
    cargo
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn folder(name: &str, programs: &[&str]) -> PathBuf {
        let folder = env::temp_dir().join(format!("locate-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).expect("a temporary folder can be made");
        for program in programs {
            let file = folder.join(program);
            fs::write(&file, "").expect("a file can be written");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755))
                .expect("a file can be made executable");
        }
        folder
    }

    #[test]
    fn servers_come_from_one_source_and_kubectl_from_any() {
        let partial = folder("partial", &["etcd", "kubectl"]);
        let servers = folder(
            "servers",
            &["etcd", "kube-apiserver", "kube-controller-manager"],
        );
        let tools = locate_in(&[vec![partial.clone()], vec![servers.clone()]])
            .expect("the second source is complete but for kubectl");
        assert_eq!(tools.etcd, servers.join("etcd"));
        assert_eq!(tools.kubectl, partial.join("kubectl"));
        assert_eq!(locate_in(&[vec![partial.clone()]]), None);
        assert_eq!(locate_in(&[vec![servers.clone()]]), None);
        for folder in [partial, servers] {
            fs::remove_dir_all(folder).expect("the temporary folder can be removed");
        }
    }
}
