//! The state that all parts of a node share.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::ResourceExt;
use tempfile::TempDir;
use tokio::sync::{broadcast, watch};

use super::signals::Line;
use super::{LogLine, Mode, NodeOptions, Run};
use crate::process::{Signal, Supervised};
use crate::watchdog;

/// The number of lines that a slow receiver may be behind before it misses some.
const LINES: usize = 4096;

/// The pause between two attempts of a failed request.
const PAUSE: Duration = Duration::from_millis(100);

/// The timeout of a request.
const TIMEOUT: Duration = Duration::from_secs(30);

pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) name: String,
    pub(super) mode: Mode,
    pub(super) namespace: Option<String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) entry_points: BTreeMap<String, PathBuf>,
    pub(super) held: watch::Sender<bool>,
    pub(super) skew: AtomicI64,
    pub(super) lines: broadcast::Sender<LogLine>,
    programs: Option<PathBuf>,
    log_dir: PathBuf,
    folder: TempDir,
    runs: Mutex<Runs>,
    /// By UID, until the pod is gone from the API. An old event about an ended pod must not start
    /// it again.
    workers: Mutex<HashMap<String, Line>>,
    scheduling: Mutex<HashSet<String>>,
    processes: Mutex<Processes>,
}

/// The runs in the order of their start, and the index of each UID.
#[derive(Default)]
struct Runs {
    all: Vec<Run>,
    places: HashMap<String, usize>,
}

#[derive(Default)]
struct Processes {
    stopped: bool,
    started: Vec<Weak<Supervised>>,
}

impl Shared {
    pub(super) fn new(client: Client, options: NodeOptions) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("node-")
            .tempdir()
            .context("cannot create a temporary folder")?;
        watchdog::folder(folder.path()).context("cannot start the watchdog")?;
        let mut labels = options.labels;
        labels.insert("kubernetes.io/hostname".to_owned(), options.name.clone());
        Ok(Self {
            client,
            name: options.name,
            mode: options.mode,
            namespace: options.namespace,
            labels,
            entry_points: options.entry_points,
            programs: options.programs,
            held: watch::Sender::new(false),
            skew: AtomicI64::new(0),
            lines: broadcast::Sender::new(LINES),
            log_dir: options
                .log_dir
                .unwrap_or_else(|| folder.path().join("logs")),
            folder,
            runs: Mutex::default(),
            workers: Mutex::default(),
            scheduling: Mutex::default(),
            processes: Mutex::default(),
        })
    }

    pub(super) fn log_path(&self, namespace: &str, pod: &str, container: &str) -> PathBuf {
        let folder = self.log_dir.join(namespace).join(pod);
        folder.join(format!("{container}.log"))
    }

    /// Removes the log of an earlier pod of the same name.
    pub(super) fn forget_log(&self, pod: &Pod) {
        let folder = self.log_dir.join(pod.namespace().unwrap_or_default());
        let _ = std::fs::remove_dir_all(folder.join(pod.name_any()));
    }

    /// Returns the working directory of a pod's processes.
    pub(super) fn scratch(&self, pod: &Pod) -> PathBuf {
        self.folder
            .path()
            .join("homes")
            .join(pod.uid().unwrap_or_default())
    }

    /// Returns the folder of volumes that outlive their pods.
    pub(super) fn volumes(&self) -> PathBuf {
        self.folder.path().join("volumes")
    }

    /// Returns the `PATH` of the pods' processes.
    pub(super) fn path(&self) -> OsString {
        let mut path = OsString::new();
        if let Some(programs) = &self.programs {
            path.push(programs);
            path.push(":");
        }
        path.push(std::env::var_os("PATH").unwrap_or_default());
        path
    }

    pub(super) fn is_held(&self) -> bool {
        *self.held.borrow()
    }

    /// Starts a process that does not outlive the node.
    pub(super) fn start_process(&self, command: &mut Command) -> io::Result<Arc<Supervised>> {
        // Held during the start, so that no process is missed while the node stops.
        let mut processes = lock(&self.processes);
        if processes.stopped {
            return Err(io::Error::other("the node has stopped"));
        }
        let process = Arc::new(Supervised::spawn_as_is(command)?);
        processes.started.retain(|one| one.strong_count() > 0);
        processes.started.push(Arc::downgrade(&process));
        Ok(process)
    }

    /// Kills all processes.
    pub(super) fn stop(&self) {
        let mut processes = lock(&self.processes);
        processes.stopped = true;
        for process in processes.started.drain(..).filter_map(|one| one.upgrade()) {
            process.signal_group(Signal::Kill);
        }
    }

    pub(super) fn workers(&self) -> MutexGuard<'_, HashMap<String, Line>> {
        lock(&self.workers)
    }

    /// Forgets a pod that is gone, and stops its worker.
    pub(super) fn forget(&self, uid: &str) {
        self.workers().remove(uid);
    }

    pub(super) fn keep_only(&self, uids: &HashSet<String>) {
        self.workers().retain(|uid, _| uids.contains(uid));
    }

    /// Ends the pod's worker. If the pod was deleted meanwhile, returns the pod, because nothing
    /// else completes that deletion.
    pub(super) fn pod_over(self: &Arc<Self>, pod: &Pod) -> Option<Arc<Pod>> {
        // Best effort: the folder is temporary.
        let _ = std::fs::remove_dir_all(self.scratch(pod));
        let mut workers = self.workers();
        let line = workers.get_mut(&pod.uid().unwrap_or_default())?;
        line.over = true;
        let latest = Arc::clone(&line.pod.borrow());
        Self::awaits_deletion(&latest).then_some(latest)
    }

    /// Returns whether a pod only waits for its kubelet to confirm the deletion. (Without a
    /// remaining grace period, it waits for finalizers, which a kubelet does not handle.)
    pub(super) fn awaits_deletion(pod: &Pod) -> bool {
        pod.metadata.deletion_timestamp.is_some()
            && pod.metadata.deletion_grace_period_seconds.unwrap_or(0) > 0
    }

    /// Instructs a pod's worker to evict it. The future completes when that is done.
    pub(super) fn evict(
        &self,
        namespace: &str,
        name: &str,
    ) -> Option<impl Future<Output = ()> + use<>> {
        let workers = self.workers();
        let line = workers.values().find(|line| {
            let pod = line.pod.borrow();
            !line.over
                && pod.metadata.namespace.as_deref() == Some(namespace)
                && pod.metadata.name.as_deref() == Some(name)
        })?;
        line.evict.send_replace(true);
        let over = line.evict.clone();
        Some(async move { over.closed().await })
    }

    pub(super) fn begin_scheduling(&self, uid: &str) -> bool {
        lock(&self.scheduling).insert(uid.to_owned())
    }

    pub(super) fn end_scheduling(&self, uid: &str) {
        lock(&self.scheduling).remove(uid);
    }

    pub(super) fn runs(&self) -> Vec<Run> {
        lock(&self.runs).all.clone()
    }

    /// Records that a container of the pod starts. Only the first one counts.
    pub(super) fn run_started(&self, pod: &Pod) {
        let uid = pod.uid().unwrap_or_default();
        let mut runs = lock(&self.runs);
        if runs.places.contains_key(&uid) {
            return;
        }
        let place = runs.all.len();
        runs.places.insert(uid.clone(), place);
        runs.all.push(Run {
            namespace: pod.namespace().unwrap_or_default(),
            pod: pod.name_any(),
            uid,
            started: SystemTime::now(),
            ended: None,
        });
    }

    pub(super) fn run_ended(&self, pod: &Pod) {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let mut runs = lock(&self.runs);
        if let Some(place) = runs.places.get(uid).copied() {
            runs.all[place].ended = Some(SystemTime::now());
        }
    }

    /// Repeats a request until the API server handles it, through restarts and overload. Returns
    /// `None` if the API server rejected it.
    pub(super) async fn insist<T, F>(&self, what: &str, request: impl Fn() -> F) -> Option<T>
    where
        F: Future<Output = kube::Result<T>>,
    {
        loop {
            if lock(&self.processes).stopped {
                // A node without power reports nothing, not even that its processes have just died.
                return std::future::pending().await;
            }
            match tokio::time::timeout(TIMEOUT, request()).await {
                Ok(Ok(done)) => return Some(done),
                Ok(Err(error)) => {
                    tracing::debug!(node = self.name, what, %error, "request failed");
                    if is_rejection(&error) {
                        return None;
                    }
                }
                Err(_) => tracing::debug!(node = self.name, what, "request timed out"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Returns whether the API server rejected a request for good.
fn is_rejection(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else {
        return false;
    };
    // A conflict that mentions the latest version is one between writers. Any other conflict means
    // that the object changed in another way.
    let race = status.code == 409 && status.message.contains("latest version");
    // After a restart, admission plugins reject requests with 403 until their caches are filled.
    let retried = [401, 403, 408, 429].contains(&status.code);
    (400..500).contains(&status.code) && !retried && !race
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic leaves no state inconsistent.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_a_restarting_api_server_are_not_rejections() {
        let race = "the object has been modified; please apply your changes to the latest version";
        for (code, message, expected) in [
            (403, "not yet ready to handle request", false),
            (429, "too many requests", false),
            (500, "etcdserver: leader changed", false),
            (503, "apiserver not ready", false),
            (409, race, false),
            (409, "already assigned to node", true),
            (404, "not found", true),
            (422, "invalid", true),
        ] {
            let status = kube::core::Status::failure(message, "").with_code(code);
            let error = kube::Error::Api(Box::new(status));
            assert_eq!(is_rejection(&error), expected, "{code} {message}");
        }
    }
}
