//! Builds the programs with Go into the cache.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};

use crate::cache::{self, Module};

/// Programs that are built and cached together.
pub(crate) struct ProgramSet {
    /// The name of the set, for messages.
    pub(crate) name: &'static str,
    /// The suffix of the set's directory in the cache.
    pub(crate) suffix: &'static str,
    /// Each program and its Go package.
    steps: &'static [(&'static str, &'static str)],
}

impl ProgramSet {
    /// Returns the names of the programs.
    pub(crate) fn programs(&self) -> impl Iterator<Item = &'static str> {
        self.steps.iter().map(|(program, _)| *program)
    }
}

/// The servers of the demo and of every test run. etcd is first because it builds fastest, so that
/// progress is visible early.
pub(crate) const SERVERS: ProgramSet = ProgramSet {
    name: "API server",
    suffix: "",
    steps: &[
        ("etcd", "go.etcd.io/etcd/server/v3"),
        ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
    ],
};

/// The controllers, which the demo does not need.
pub(crate) const CONTROLLERS: ProgramSet = ProgramSet {
    name: "controller manager",
    suffix: "-controllers",
    steps: &[(
        "kube-controller-manager",
        "k8s.io/kubernetes/cmd/kube-controller-manager",
    )],
};

/// The client, which many machines have.
pub(crate) const KUBECTL: ProgramSet = ProgramSet {
    name: "kubectl",
    suffix: "-kubectl",
    steps: &[("kubectl", "k8s.io/kubernetes/cmd/kubectl")],
};

/// The programs that only `cargo xtask real-node` needs.
pub(crate) const NODE: ProgramSet = ProgramSet {
    name: "real node",
    suffix: "-node",
    steps: &[
        ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
        ("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
    ],
};

/// Helm, and its plugin that runs the tests of a chart.
pub(crate) const HELM: ProgramSet = ProgramSet {
    name: "tools of the chart",
    suffix: "-helm",
    steps: &[
        ("helm", "helm.sh/helm/v3/cmd/helm"),
        (
            "helm-unittest",
            "github.com/helm-unittest/helm-unittest/cmd/helm-unittest",
        ),
    ],
};

/// The program that checks and tests the rules of Prometheus.
pub(crate) const PROMTOOL: ProgramSet = ProgramSet {
    name: "promtool",
    suffix: "-promtool",
    steps: &[("promtool", "github.com/prometheus/prometheus/cmd/promtool")],
};

/// The program that sends notifications about alerts.
pub(crate) const ALERTMANAGER: ProgramSet = ProgramSet {
    name: "Alertmanager",
    suffix: "-alertmanager",
    steps: &[(
        "alertmanager",
        "github.com/prometheus/alertmanager/cmd/alertmanager",
    )],
};

/// The server that evaluates the alerts in the tour.
pub(crate) const PROMETHEUS: ProgramSet = ProgramSet {
    name: "Prometheus",
    suffix: "-prometheus",
    steps: &[(
        "prometheus",
        "github.com/prometheus/prometheus/cmd/prometheus",
    )],
};

/// The servers of another release of Kubernetes, in one directory.
pub(crate) const RELEASE_SERVERS: ProgramSet = ProgramSet {
    name: "control plane",
    suffix: "-release",
    steps: &[
        ("etcd", "go.etcd.io/etcd/server/v3"),
        ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
        (
            "kube-controller-manager",
            "k8s.io/kubernetes/cmd/kube-controller-manager",
        ),
    ],
};

/// The maximum number of lines of Go's output in an error.
const TAIL_LINES: usize = 30;

/// Builds a set under a lock, so that only one process does the work. A second process waits and
/// uses the result of the first. Returns the directory of the programs.
pub(crate) fn into_cache(
    set: &ProgramSet,
    source: &Module,
    progress: &dyn Fn(&str),
) -> Result<PathBuf> {
    let root = cache::root().context(
        "no cache directory for the control plane: set HOME, XDG_CACHE_HOME, or OAAT_CACHE_DIR",
    )?;
    let key = source.key() + set.suffix;
    fs::create_dir_all(&root).with_context(|| format!("failed to create {}", root.display()))?;

    let lock_file = root.join(format!("{key}.lock"));
    let lock = File::create(&lock_file)
        .with_context(|| format!("failed to create {}", lock_file.display()))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            progress(&format!(
                "waiting for another process that is building the {}",
                set.name
            ));
            lock.lock().context("failed to lock the cache directory")?;
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).context("failed to lock the cache directory");
        }
    }
    let finished = root.join(&key);
    if set
        .programs()
        .all(|program| finished.join(program).is_file())
    {
        return Ok(finished);
    }
    let unfinished = root.join(format!("{key}.unfinished"));
    // An interrupted build may have left these. This process holds the lock, so they are not in
    // use. Go's own cache still contains most of the work.
    for folder in [&unfinished, &finished] {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error)
                    .with_context(|| format!("failed to remove {}", folder.display()));
            }
            _ => {}
        }
    }
    build_all(set, source, &unfinished, progress)?;
    // Only a complete build has the final name.
    fs::rename(&unfinished, &finished)
        .with_context(|| format!("failed to create {}", finished.display()))?;
    Ok(finished)
}

/// Returns the module of a release of Kubernetes. `release` is a patch release, such as `1.31.13`, or
/// a minor release, such as `1.31`, for its latest patch release.
pub(crate) fn module_of_release(release: &str) -> Result<Module> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Download {
        #[serde(default)]
        version: String,
        #[serde(default)]
        go_mod: String,
        #[serde(default)]
        error: String,
    }
    let output = go()
        .args(["mod", "download", "-json"])
        .arg(format!("k8s.io/kubernetes@v{release}"))
        // Outside of any module.
        .current_dir(std::env::temp_dir())
        .stderr(Stdio::null())
        .output()
        .map_err(go_start_error)?;
    let found: Download = serde_json::from_slice(&output.stdout)
        .context("go mod download printed something other than JSON")?;
    if !found.error.is_empty() {
        bail!(
            "failed to download release {release:?} of Kubernetes; use for example 1.31 or 1.31.13: {}",
            found.error
        );
    }
    let go_mod = fs::read_to_string(&found.go_mod)
        .with_context(|| format!("failed to read {}", found.go_mod))?;
    Module::of_release(&found.version, &go_mod)
}

/// Returns a command that runs Go independently of the caller's settings.
fn go() -> Command {
    let mut go = Command::new("go");
    // A go.work file or GOFLAGS of the caller would change the result.
    go.env("GOWORK", "off")
        .env_remove("GOFLAGS")
        .stdin(Stdio::null());
    go
}

/// Returns the error for a `go` command that could not be started.
fn go_start_error(error: std::io::Error) -> anyhow::Error {
    if error.kind() == ErrorKind::NotFound {
        anyhow!(
            "building the programs that the tests run needs Go 1.26 or later; install it. For a \
             control plane, you can instead set KUBEBUILDER_ASSETS to a directory with etcd, \
             kube-apiserver, kube-controller-manager, and kubectl"
        )
    } else {
        anyhow::Error::new(error).context("failed to run go")
    }
}

fn build_all(
    set: &ProgramSet,
    source: &Module,
    folder: &Path,
    progress: &dyn Fn(&str),
) -> Result<()> {
    // The module is copied, so that Go does not write into the repository, and so that a compiled
    // xtask works after the repository has moved.
    let module = folder.join("module");
    fs::create_dir_all(&module)
        .with_context(|| format!("failed to create {}", module.display()))?;
    fs::write(module.join("go.mod"), &source.go_mod)?;
    fs::write(module.join("go.sum"), &source.go_sum)?;
    for (number, (program, package)) in set.steps.iter().enumerate() {
        progress(&format!(
            "building {program}{} ({} of {}; the first build takes several minutes)",
            release(source, program),
            number + 1,
            set.steps.len()
        ));
        build_one(source, &module, &folder.join(program), (program, package))?;
    }
    Ok(())
}

fn build_one(
    source: &Module,
    module: &Path,
    output: &Path,
    (program, package): (&str, &str),
) -> Result<()> {
    let log_file = module.join("go.log");
    let log = File::create(&log_file)?;
    let status = go()
        .arg("build")
        .args(source.build_flags())
        .arg("-o")
        .arg(output)
        .arg(package)
        .current_dir(module)
        .env("CGO_ENABLED", "0")
        .stdout(log.try_clone()?)
        .stderr(log)
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            let output = fs::read_to_string(&log_file).unwrap_or_default();
            let lines: Vec<&str> = output.lines().collect();
            let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
            bail!("failed to build {program} with Go ({status}):\n{tail}")
        }
        Err(error) => Err(go_start_error(error)),
    }
}

/// Returns the version for a progress line. Empty for etcd, which is not versioned with Kubernetes.
fn release(source: &Module, program: &str) -> String {
    let version = match program {
        "etcd" => None,
        "helm" => source.required("helm.sh/helm/v3"),
        "helm-unittest" => source.required("github.com/helm-unittest/helm-unittest"),
        "prometheus" | "promtool" => source.required(cache::PROMETHEUS),
        "alertmanager" => source.required(cache::ALERTMANAGER),
        _ => Some(source.version()),
    };
    version.map_or_else(String::new, |version| format!(" {version}"))
}
