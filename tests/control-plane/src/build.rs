//! Builds the programs with Go, once, into the cache.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};

use crate::cache;

/// Programs that are built and cached together.
pub(crate) struct Set {
    /// What they are, for people.
    pub(crate) name: &'static str,
    /// What the name of their folder in the cache ends with.
    pub(crate) suffix: &'static str,
    /// Each program and the package that it is built from.
    steps: &'static [(&'static str, &'static str)],
}

/// What every test run needs. etcd comes first: it is done soonest, so that
/// there is something to see.
pub(crate) const CONTROL_PLANE: Set = Set {
    name: "control plane",
    suffix: "",
    steps: &[
        ("etcd", "go.etcd.io/etcd/server/v3"),
        ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
        (
            "kube-controller-manager",
            "k8s.io/kubernetes/cmd/kube-controller-manager",
        ),
        ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
    ],
};

/// What only `cargo xtask e2e` needs, so that nobody else waits for it.
pub(crate) const NODE: Set = Set {
    name: "real node",
    suffix: "-node",
    steps: &[
        ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
        ("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
    ],
};

/// How many lines of Go's output an error carries.
const TAIL_LINES: usize = 30;

/// Builds under a lock, so that two processes do not do the same work; the
/// second waits and finds the result of the first.
pub(crate) fn into_cache<T>(
    set: &Set,
    locate: impl Fn() -> Option<T>,
    progress: &dyn Fn(&str),
) -> Result<T> {
    let root = cache::root().context(
        "no place for the control plane's programs: set HOME, XDG_CACHE_HOME or OAAT_CACHE_DIR",
    )?;
    let key = cache::key() + set.suffix;
    fs::create_dir_all(&root).with_context(|| format!("cannot create {}", root.display()))?;

    let lock_file = root.join(format!("{key}.lock"));
    let lock = File::create(&lock_file)
        .with_context(|| format!("cannot create {}", lock_file.display()))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            progress(&format!(
                "waiting for another process that is building the {}",
                set.name
            ));
            lock.lock().context("cannot lock the cache folder")?;
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).context("cannot lock the cache folder");
        }
    }
    if let Some(tools) = locate() {
        return Ok(tools);
    }

    let finished = root.join(&key);
    let unfinished = root.join(format!("{key}.unfinished"));
    // Left over from a build that was interrupted: the lock is ours, so nobody
    // is using it. Go's own cache still has most of that work.
    for folder in [&unfinished, &finished] {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot clear {}", folder.display()));
            }
            _ => {}
        }
    }
    build_all(set, &unfinished, progress)?;
    // Complete only under its final name.
    fs::rename(&unfinished, &finished)
        .with_context(|| format!("cannot put {} in place", finished.display()))?;
    drop(lock);
    locate().ok_or_else(|| {
        anyhow!(
            "the {} was built into {} but not all of it is there",
            set.name,
            finished.display()
        )
    })
}

fn build_all(set: &Set, folder: &Path, progress: &dyn Fn(&str)) -> Result<()> {
    // The module is copied, so that Go never writes beside our source, and so
    // that a compiled xtask works wherever the repository has gone since.
    let module = folder.join("module");
    fs::create_dir_all(&module).with_context(|| format!("cannot create {}", module.display()))?;
    fs::write(module.join("go.mod"), cache::GO_MOD)?;
    fs::write(module.join("go.sum"), cache::GO_SUM)?;
    for (number, (program, package)) in set.steps.iter().enumerate() {
        progress(&format!(
            "building {program}{} ({} of {}; the first build takes some minutes in all)",
            release(program),
            number + 1,
            set.steps.len()
        ));
        build_one(&module, &folder.join(program), program, package)?;
    }
    Ok(())
}

fn build_one(module: &Path, output: &Path, program: &str, package: &str) -> Result<()> {
    let log_file = module.join("go.log");
    let log = File::create(&log_file)?;
    let status = Command::new("go")
        .arg("build")
        .args(cache::build_flags())
        .arg("-o")
        .arg(output)
        .arg(package)
        .current_dir(module)
        .env("CGO_ENABLED", "0")
        // A go.work or flags of the caller's would build something else.
        .env("GOWORK", "off")
        .env_remove("GOFLAGS")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            let output = fs::read_to_string(&log_file).unwrap_or_default();
            let lines: Vec<&str> = output.lines().collect();
            let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
            bail!("building {program} with Go failed ({status}):\n{tail}")
        }
        Err(error) if error.kind() == ErrorKind::NotFound => bail!(
            "Go 1.26 or newer is needed to build the control plane: install it, or set \
             KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver, kube-controller-manager \
             and kubectl"
        ),
        Err(error) => Err(error).context("cannot run go"),
    }
}

/// The release for a progress line. etcd has numbers of its own, which are
/// nothing to anyone who waits for a build.
fn release(program: &str) -> String {
    match program {
        "etcd" => String::new(),
        _ => format!(" {}", cache::kubernetes_version()),
    }
}
