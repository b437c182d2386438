//! Finds or builds the programs of a Kubernetes control plane, Helm, promtool, and Alertmanager.
//! Finds a browser.
//!
//! The tests and the demo use real programs: etcd, kube-apiserver, kubectl, and, except for the
//! demo, kube-controller-manager. They come from the first of these sources that has them:
//!
//! 1. the directory in `KUBEBUILDER_ASSETS`,
//! 2. `PATH`,
//! 3. the cache, which [`ensure()`] fills with programs built with Go.
//!
//! The servers always come from the same source, because an API server and a controller manager of
//! different releases are not tested together. kubectl supports several releases, and may come from
//! another source. Only what is missing is built.
//!
//! Helm, promtool, and Alertmanager always come from the cache, because other versions may behave
//! differently.

mod build;
mod cache;

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use build::ProgramSet;
use cache::Module;
pub use cache::cache_directory;

/// The paths of the programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tools {
    /// The database of the API server.
    pub etcd: PathBuf,
    /// The API server.
    pub kube_apiserver: PathBuf,
    /// The controllers for garbage collection, namespaces, and service accounts.
    pub kube_controller_manager: Option<PathBuf>,
    /// The command-line client.
    pub kubectl: PathBuf,
}

/// Whether kube-controller-manager is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControllerManager {
    /// A source without it is skipped.
    Required,
    /// It is not built.
    NotRequired,
}

/// The paths of the programs that run pods on a node, and that schedule them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeTools {
    /// The agent that runs pods.
    pub kubelet: PathBuf,
    /// The scheduler.
    pub kube_scheduler: PathBuf,
}

/// The paths of Helm and its plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelmTools {
    /// Installs, renders, and lints charts.
    pub helm: PathBuf,
    /// Runs the tests of a chart.
    pub helm_unittest: PathBuf,
}

/// The paths of a browser and of the program that drives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrowserTools {
    /// Chromium or Chrome.
    pub chromium: PathBuf,
    /// Its WebDriver server, of the same version.
    pub chromedriver: PathBuf,
}

/// The names of Chromium and Chrome in packages of distributions.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Finds Chromium and chromedriver on the PATH. They are neither built nor cached.
///
/// # Errors
/// Returns an error that names what is missing.
pub fn locate_browser() -> Result<BrowserTools> {
    let path = env::var_os("PATH").unwrap_or_default();
    locate_browser_in(&env::split_paths(&path).collect::<Vec<_>>())
}

fn locate_browser_in(path: &[PathBuf]) -> Result<BrowserTools> {
    let chromium = BROWSERS.iter().find_map(|name| find(path, name));
    let chromedriver = find(path, "chromedriver");
    let missing = [
        chromium.is_none().then_some("chromium"),
        chromedriver.is_none().then_some("chromedriver"),
    ];
    let missing: Vec<_> = missing.into_iter().flatten().collect();
    let fix = "install the packages chromium and chromium-driver, or those of your system";
    let problem = || format!("not on the PATH: {}; {fix}", missing.join(", "));
    Ok(BrowserTools {
        chromium: chromium.with_context(problem)?,
        chromedriver: chromedriver.with_context(problem)?,
    })
}

/// Checks that the programs that build policies in C are on the PATH.
///
/// # Errors
/// Returns an error that names what is missing.
pub fn check_c_tools() -> Result<()> {
    let path = env::var_os("PATH").unwrap_or_default();
    let path: Vec<_> = env::split_paths(&path).collect();
    let missing = ["clang", "wasm-ld", "make"].map(|name| (name, find(&path, name)));
    let missing = missing.iter().filter(|(_, found)| found.is_none());
    let missing: Vec<_> = missing.map(|(name, _)| *name).collect();
    ensure!(
        missing.is_empty(),
        "not on the PATH: {}; install the packages clang, lld, and make, or those of your system",
        missing.join(", ")
    );
    Ok(())
}

/// Finds kubelet and kube-scheduler without building anything; `None` if either is missing.
pub fn locate_node() -> Option<NodeTools> {
    sources(&[&build::NODE]).iter().find_map(|source| {
        Some(NodeTools {
            kubelet: find(source, "kubelet")?,
            kube_scheduler: find(source, "kube-scheduler")?,
        })
    })
}

/// Returns the directories of each source of programs, in the order of precedence.
fn sources(cached: &[&ProgramSet]) -> [Vec<PathBuf>; 3] {
    let assets: Vec<PathBuf> = env::var_os("KUBEBUILDER_ASSETS")
        .filter(|directory| !directory.is_empty())
        .map(PathBuf::from)
        .into_iter()
        .collect();
    let path: Vec<PathBuf> = env::var_os("PATH")
        .map(|path| env::split_paths(&path).collect())
        .unwrap_or_default();
    let cache = cached.iter().filter_map(|set| cache::folder(set.suffix));
    [assets, path, cache.collect()]
}

/// Finds the programs, or builds the missing ones with Go and stores them in the cache. `progress`
/// receives a short line for each step.
///
/// # Errors
/// Returns an error if Go is not installed, or if the build fails. The message contains the fix.
pub fn ensure(controller_manager: ControllerManager, progress: &dyn Fn(&str)) -> Result<Tools> {
    let [assets, path, cache] = sources(&[&build::SERVERS, &build::CONTROLLERS, &build::KUBECTL]);
    let locate = || {
        locate_in(
            &[assets.clone(), path.clone(), cache.clone()],
            controller_manager,
        )
    };
    if let Some(tools) = locate() {
        return Ok(tools);
    }
    let mut needed = vec![&build::SERVERS];
    if controller_manager == ControllerManager::Required {
        needed.push(&build::CONTROLLERS);
    }
    if needed
        .iter()
        .flat_map(|set| set.programs())
        .all(|program| find(&assets, program).is_some())
    {
        // Only kubectl is missing.
        needed.clear();
    }
    let mut required = needed.iter().flat_map(|set| set.programs());
    if !assets.is_empty()
        && let Some(missing) = required.find(|program| find(&assets, program).is_none())
    {
        // Otherwise it would be unclear why the servers are built.
        progress(&format!(
            "KUBEBUILDER_ASSETS ({}) has no {missing}",
            assets[0].display()
        ));
    }
    if find(&assets, "kubectl")
        .or_else(|| find(&path, "kubectl"))
        .is_none()
    {
        needed.push(&build::KUBECTL);
    }
    for set in needed {
        if set
            .programs()
            .any(|program| find(&cache, program).is_none())
        {
            build::into_cache(set, &Module::pinned(), progress)?;
        }
    }
    locate().context("programs are missing from the cache directory after they were built")
}

/// Finds or builds etcd, kube-apiserver, and kube-controller-manager of a release of Kubernetes.
/// `release` is a patch release, such as `1.31.13`, or a minor release, such as `1.31`, for its latest
/// patch release. Returns their directory, for `KUBEBUILDER_ASSETS`.
///
/// # Errors
/// Returns an error if Go is not installed, if the release does not exist, or if the build fails.
pub fn ensure_release(release: &str, progress: &dyn Fn(&str)) -> Result<PathBuf> {
    let module = build::module_of_release(release)?;
    progress(&format!("using Kubernetes {}", module.version()));
    let pinned = sources(&[&build::KUBECTL]);
    if pinned
        .iter()
        .all(|source| find(source, "kubectl").is_none())
    {
        build::into_cache(&build::KUBECTL, &Module::pinned(), progress)?;
    }
    build::into_cache(&build::RELEASE_SERVERS, &module, progress)
}

/// Finds or builds kubelet and kube-scheduler. They are built and cached separately, because only a
/// real node needs them.
///
/// # Errors
/// Returns an error if Go is not installed, or if the build fails. The message contains the fix.
pub fn ensure_node(progress: &dyn Fn(&str)) -> Result<NodeTools> {
    if locate_node().is_none() {
        build::into_cache(&build::NODE, &Module::pinned(), progress)?;
    }
    locate_node().context("programs are missing from the cache directory after they were built")
}

/// Finds Helm and helm-unittest in the cache, or builds them with Go. `progress` receives a short
/// line for each step.
///
/// # Errors
/// Returns an error if Go is not installed, or if the build fails. The message contains the fix.
pub fn ensure_helm(progress: &dyn Fn(&str)) -> Result<HelmTools> {
    let folder = build::into_cache(&build::HELM, &Module::helm(), progress)?;
    Ok(HelmTools {
        helm: folder.join("helm"),
        helm_unittest: folder.join("helm-unittest"),
    })
}

/// Finds promtool in the cache, or builds it with Go. `progress` receives a short line for each step.
///
/// # Errors
/// Returns an error if Go is not installed, or if the build fails. The message contains the fix.
pub fn ensure_promtool(progress: &dyn Fn(&str)) -> Result<PathBuf> {
    let folder = build::into_cache(&build::PROMTOOL, &Module::promtool(), progress)?;
    Ok(folder.join("promtool"))
}

/// Finds Alertmanager in the cache, or builds it with Go. `progress` receives a short line for each
/// step.
///
/// # Errors
/// Returns an error if Go is not installed, or if the build fails. The message contains the fix.
pub fn ensure_alertmanager(progress: &dyn Fn(&str)) -> Result<PathBuf> {
    let folder = build::into_cache(&build::ALERTMANAGER, &Module::alertmanager(), progress)?;
    Ok(folder.join("alertmanager"))
}

/// Finds Prometheus in the cache, or builds it with Go. `progress` receives a short line for each
/// step.
///
/// # Errors
/// Returns an error if Go is not installed, or if the build fails. The message contains the fix.
pub fn ensure_prometheus(progress: &dyn Fn(&str)) -> Result<PathBuf> {
    let folder = build::into_cache(&build::PROMETHEUS, &Module::promtool(), progress)?;
    Ok(folder.join("prometheus"))
}

/// Returns the programs of the first source that has the required servers.
fn locate_in(sources: &[Vec<PathBuf>], controller_manager: ControllerManager) -> Option<Tools> {
    sources.iter().find_map(|source| {
        let kube_controller_manager = find(source, "kube-controller-manager");
        if controller_manager == ControllerManager::Required {
            kube_controller_manager.as_ref()?;
        }
        Some(Tools {
            etcd: find(source, "etcd")?,
            kube_apiserver: find(source, "kube-apiserver")?,
            kube_controller_manager,
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

/// Returns a command that runs the current `cargo` [without the variables that Cargo sets for a
/// package](remove_package_variables).
pub fn cargo() -> std::process::Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = std::process::Command::new(program);
    remove_package_variables(&mut cargo);
    cargo
}

/// Removes the variables that Cargo sets for a package from the environment of a command that runs
/// `cargo`.
///
/// With these variables, build scripts that depend on them (such as the one in `ring`) would run
/// again for each calling package, and all their dependents would be rebuilt.
pub fn remove_package_variables(command: &mut std::process::Command) {
    const PACKAGE_VARIABLES: [&str; 7] = [
        "CARGO_PKG_",
        "CARGO_MANIFEST_",
        "CARGO_BIN_",
        "CARGO_CRATE_NAME",
        "CARGO_PRIMARY_PACKAGE",
        "CARGO_TARGET_TMPDIR",
        "CARGO_RUSTC_CURRENT_DIR",
    ];
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if PACKAGE_VARIABLES
            .iter()
            .any(|prefix| text.starts_with(prefix))
        {
            command.env_remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn folder(name: &str, programs: &[&str]) -> PathBuf {
        let folder = env::temp_dir().join(format!("locate-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).expect("the temporary folder can be created");
        for program in programs {
            let file = folder.join(program);
            fs::write(&file, "").expect("a file can be written");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755))
                .expect("a file can be made executable");
        }
        folder
    }

    #[test]
    fn missing_programs_of_the_browser_are_named() {
        let both = folder("both", &["google-chrome", "chromedriver"]);
        let driver = folder("driver", &["chromedriver"]);
        let found = locate_browser_in(&[driver.clone(), both.clone()]).expect("both exist");
        assert_eq!(found.chromium, both.join("google-chrome"));
        assert_eq!(found.chromedriver, driver.join("chromedriver"));
        let missing = |path: &[PathBuf]| {
            let error = locate_browser_in(path).expect_err("one is missing");
            error.to_string().split(';').next().map(str::to_owned)
        };
        let of_driver = missing(std::slice::from_ref(&driver));
        assert_eq!(of_driver.as_deref(), Some("not on the PATH: chromium"));
        let of_none = missing(&[]);
        let expected = "not on the PATH: chromium, chromedriver";
        assert_eq!(of_none.as_deref(), Some(expected));
        for folder in [both, driver] {
            fs::remove_dir_all(folder).expect("the temporary folder can be removed");
        }
    }

    #[test]
    fn servers_come_from_one_source_and_kubectl_from_any() {
        let assets = folder("assets", &["etcd", "kube-apiserver"]);
        let servers = folder(
            "servers",
            &["etcd", "kube-apiserver", "kube-controller-manager"],
        );
        let kubectl = folder("kubectl", &["kubectl"]);
        let locate = |sources: &[&PathBuf], controller_manager| {
            let sources: Vec<_> = sources
                .iter()
                .map(|source| vec![(*source).clone()])
                .collect();
            locate_in(&sources, controller_manager)
        };
        use ControllerManager::{NotRequired, Required};
        let tools = locate(&[&assets, &servers, &kubectl], Required)
            .expect("the second source has all servers");
        assert_eq!(tools.etcd, servers.join("etcd"));
        assert_eq!(tools.kubectl, kubectl.join("kubectl"));
        let tools = locate(&[&assets, &servers, &kubectl], NotRequired)
            .expect("the first source has the required servers");
        assert_eq!(tools.kube_apiserver, assets.join("kube-apiserver"));
        assert_eq!(tools.kube_controller_manager, None);
        assert_eq!(locate(&[&assets, &kubectl], Required), None);
        assert_eq!(locate(&[&servers], Required), None, "there is no kubectl");
        for folder in [assets, servers, kubectl] {
            fs::remove_dir_all(folder).expect("the temporary folder can be removed");
        }
    }
}
