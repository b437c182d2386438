//! An emulated node for tests and the demo. **It is not a kubelet.**
//!
//! It acts as scheduler and kubelet for a real API server: it binds pods to itself and runs their
//! containers as local processes, without any isolation. Images are never pulled. `command` and
//! `args` run with the programs and files of this machine, and with the rights of the test. A
//! container without a command runs the program that [`NodeOptions::entry_points`] has for its
//! image. Do not use it with a cluster whose pods you would not run in your own shell.
//!
//! The reported status follows the kubelet: phases, conditions, container states, exit codes and
//! reasons, deletion grace periods, and `activeDeadlineSeconds`. The node never restarts a
//! container, whatever the `restartPolicy`. It mounts no volumes but replaces their mount paths with
//! folders of the node, runs no probes or lifecycle hooks, treats sidecars as ordinary init containers, and ignores taints and resources. `kubectl
//! logs` shows the output so far and does not follow it; [`Node::lines`] does.

mod container;
mod environment;
mod logs;
mod scheduler;
mod shared;
mod signals;
mod status;
mod volumes;
mod watch;
mod worker;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1 as core;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use shared::Shared;

/// How the node runs a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Runs the containers' commands as local processes.
    Processes,
    /// Runs nothing: a bound pod ends at once, and each of its containers has this exit code. For
    /// throughput.
    Instant {
        /// The exit code of every container.
        exit_code: i32,
    },
}

/// The options of a node.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// The name of the Node object, and the value of its `kubernetes.io/hostname` label.
    pub name: String,
    /// How the node runs pods.
    pub mode: Mode,
    /// The namespace whose pods it runs; `None` for all. Tests that share a control plane each have
    /// their own namespace and node.
    pub namespace: Option<String>,
    /// Additional labels of the Node object.
    pub labels: BTreeMap<String, String>,
    /// The programs of images, by the name of the image.
    pub entry_points: BTreeMap<String, PathBuf>,
    /// A folder with programs that containers find before those of this machine.
    pub programs: Option<PathBuf>,
    /// The folder for logs; `None` for a folder that is removed with the node.
    pub log_dir: Option<PathBuf>,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self {
            name: "node-1".to_owned(),
            mode: Mode::Processes,
            namespace: None,
            labels: BTreeMap::new(),
            entry_points: BTreeMap::new(),
            programs: None,
            log_dir: None,
        }
    }
}

/// A line of a container's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// The namespace of the pod.
    pub namespace: String,
    /// The name of the pod.
    pub pod: String,
    /// The name of the container.
    pub container: String,
    /// The text without the line ending.
    pub line: String,
}

/// A pod that ran on the node, from the start of its first process to the end of its last one, by
/// the clock of this machine (never skewed). The operator guarantees that no two of these overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The namespace of the pod.
    pub namespace: String,
    /// The name of the pod.
    pub pod: String,
    /// The UID of the pod.
    pub uid: String,
    /// When the first container started.
    pub started: SystemTime,
    /// When the last container ended; `None` while one runs.
    pub ended: Option<SystemTime>,
}

/// A running node. Dropping it kills its processes and leaves the pods unchanged, like a machine
/// that loses power.
pub struct Node {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
    logs: JoinHandle<()>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Node")
            .field("name", &self.shared.name)
            .finish_non_exhaustive()
    }
}

impl Node {
    /// Registers the node and starts to process pods, on the current async runtime.
    ///
    /// # Errors
    /// Returns an error if the Node object cannot be written.
    pub async fn start(client: Client, options: NodeOptions) -> Result<Self> {
        let shared = Arc::new(Shared::new(client, options)?);
        let logs = logs::Logs::new().await?;
        register(&shared, logs.port()?).await?;
        let task = tokio::spawn(watch::pods(Arc::clone(&shared)));
        let logs = tokio::spawn(logs.serve(Arc::downgrade(&shared)));
        Ok(Self { shared, task, logs })
    }

    /// Returns the name of the Node object.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Holds the node, or releases it. While it is held, newly bound pods stay Pending
    /// (ContainerCreating); running pods continue.
    pub fn hold(&self, on: bool) {
        self.shared.held.send_replace(on);
    }

    /// Kills a pod's processes and reports it as Failed (Evicted) without container statuses, as a
    /// kubelet does under memory pressure. Returns when that is written.
    ///
    /// # Errors
    /// Returns an error if the pod does not run on this node.
    pub async fn evict(&self, namespace: &str, name: &str) -> Result<()> {
        let over = self
            .shared
            .evict(namespace, name)
            .with_context(|| format!("pod {namespace}/{name} does not run on this node"))?;
        over.await;
        Ok(())
    }

    /// Sets the error of the node's clock, in seconds. It affects all times that the node reports
    /// from now on.
    pub fn set_clock_skew(&self, seconds: i64) {
        self.shared.skew.store(seconds, Ordering::Relaxed);
    }

    /// Returns the path of a container's output. If several pods had the same name, it is that of
    /// the last one.
    pub fn log_path(&self, namespace: &str, pod: &str, container: &str) -> PathBuf {
        self.shared.log_path(namespace, pod, container)
    }

    /// Returns a receiver of every line that a container writes from now on.
    pub fn lines(&self) -> broadcast::Receiver<LogLine> {
        self.shared.lines.subscribe()
    }

    /// Returns every pod that ran on the node, in the order of their start.
    pub fn runs(&self) -> Vec<Run> {
        self.shared.runs()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
        self.logs.abort();
        // The runtime ends the tasks later; the processes end now.
        self.shared.stop();
    }
}

/// Creates the Node object, or reuses the existing one.
async fn register(shared: &Shared, port: u16) -> Result<()> {
    let nodes: Api<core::Node> = Api::all(shared.client.clone());
    let node: core::Node = serde_json::from_value(json!({
        "metadata": {"name": shared.name, "labels": shared.labels},
    }))?;
    match nodes.create(&PostParams::default(), &node).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        done => drop(done.with_context(|| format!("cannot create node {}", shared.name))?),
    }
    // The API server taints every new node until it is reported as ready.
    let spec = json!({
        "metadata": {"labels": shared.labels}, "spec": {"taints": null},
    });
    let params = PatchParams::default();
    nodes
        .patch(&shared.name, &params, &Patch::Merge(spec))
        .await
        .context("cannot write the node's labels")?;

    let now = status::timestamp(shared.now());
    let resources = json!({"cpu": "64", "memory": "256Gi", "pods": "10000"});
    let ready = json!({"status": {
        "capacity": resources,
        "allocatable": resources,
        "addresses": [
            {"type": "InternalIP", "address": status::ADDRESS},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "conditions": [{
            "type": "Ready", "status": "True", "reason": "TestNode",
            "message": "runs pods as local processes",
            "lastHeartbeatTime": now, "lastTransitionTime": now,
        }],
    }});
    nodes
        .patch_status(&shared.name, &params, &Patch::Strategic(ready))
        .await
        .context("cannot write the node's status")?;
    Ok(())
}
