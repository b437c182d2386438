//! A node for tests and the demo. **It is not a kubelet.**
//!
//! It plays scheduler and kubelet against any API server, real as that may be:
//! it binds pods to itself and runs their containers as local processes, with
//! nothing around them. Images are never pulled; `command` and `args` run with
//! the programs of this machine (`sh`, `sleep`, `echo`, …), with its files and
//! with the rights of whoever started the test. A container without a command
//! runs the program that [`NodeOptions::entry_points`] has for its image. So never point it at a cluster
//! whose pods you would not run in your own shell.
//!
//! What it reports through the pods' status follows the kubelet: phases,
//! conditions, container states, exit codes and reasons, deletion grace,
//! activeDeadlineSeconds. What it does not do: it never restarts a container,
//! whatever restartPolicy says, mounts no volumes, runs no probes or lifecycle
//! hooks, treats sidecars like any other init container, ignores taints and
//! resources, and serves `kubectl logs` what was written so far, and no more
//! of it as it comes ([`Node::lines`] has that).

mod container;
mod environment;
mod logs;
mod scheduler;
mod shared;
mod signals;
mod status;
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

/// What the node does with a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Runs the containers' commands as local processes.
    Processes,
    /// Runs nothing: a bound pod has ended at once, each of its containers with
    /// this exit code. For throughput.
    Instant {
        /// What every container ends with.
        exit_code: i32,
    },
}

/// What kind of node is wanted.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// The name of its Node object, and its `kubernetes.io/hostname` label.
    pub name: String,
    /// Processes or nothing.
    pub mode: Mode,
    /// Only pods of this namespace; `None` for all. Tests that share a control
    /// plane each have a namespace and a node of their own.
    pub namespace: Option<String>,
    /// Further labels for the Node object.
    pub labels: BTreeMap<String, String>,
    /// The programs that images run, by the name of the image.
    pub entry_points: BTreeMap<String, PathBuf>,
    /// Where the logs go; `None` for a folder that goes with the node.
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
            log_dir: None,
        }
    }
}

/// A line that a container wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The container's name.
    pub container: String,
    /// What it wrote, without the line end.
    pub line: String,
}

/// A pod that ran on the node, by the clock of this machine (never skewed): from
/// the start of its first process to the end of its last. Two of them that
/// overlap are what the operator promises never to let happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's uid.
    pub uid: String,
    /// When the first container started.
    pub started: SystemTime,
    /// When the last one had ended; `None` while any runs.
    pub ended: Option<SystemTime>,
}

/// A running node. Dropping it kills its processes and leaves the pods as they
/// are, like a machine that loses its power.
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
    /// Registers the node and starts to look for pods. It lives on the async
    /// runtime that this is called on.
    ///
    /// # Errors
    /// If the Node object cannot be written.
    pub async fn start(client: Client, options: NodeOptions) -> Result<Self> {
        let shared = Arc::new(Shared::new(client, options)?);
        let logs = logs::Logs::new().await?;
        register(&shared, logs.port()?).await?;
        let task = tokio::spawn(watch::pods(Arc::clone(&shared)));
        let logs = tokio::spawn(logs.serve(Arc::downgrade(&shared)));
        Ok(Self { shared, task, logs })
    }

    /// The name of its Node object.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// While held, pods that get bound stay Pending (ContainerCreating); those
    /// that run already go on.
    pub fn hold(&self, on: bool) {
        self.shared.held.send_replace(on);
    }

    /// Kills a pod's processes and reports it as Failed (Evicted), without any
    /// container statuses, as a kubelet does that runs out of memory. Returns
    /// when that is written.
    ///
    /// # Errors
    /// If the pod does not run here.
    pub async fn evict(&self, namespace: &str, name: &str) -> Result<()> {
        let over = self
            .shared
            .evict(namespace, name)
            .with_context(|| format!("pod {namespace}/{name} does not run on this node"))?;
        over.await;
        Ok(())
    }

    /// Sets the node's clock: all times that it reports from now on are this
    /// many seconds off.
    pub fn set_clock_skew(&self, seconds: i64) {
        self.shared.skew.store(seconds, Ordering::Relaxed);
    }

    /// Where the output of a container is. Of pods of the same name it is the last one's.
    pub fn log_path(&self, namespace: &str, pod: &str, container: &str) -> PathBuf {
        self.shared.log_path(namespace, pod, container)
    }

    /// Every line that a container writes from now on.
    pub fn lines(&self) -> broadcast::Receiver<LogLine> {
        self.shared.lines.subscribe()
    }

    /// Every pod that ran here, in the order in which they started.
    pub fn runs(&self) -> Vec<Run> {
        self.shared.runs()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
        self.logs.abort();
        // The tasks end whenever the runtime gets to it, the processes now.
        self.shared.stop();
    }
}

/// Creates the Node object, or takes over the one there is.
async fn register(shared: &Shared, port: u16) -> Result<()> {
    let nodes: Api<core::Node> = Api::all(shared.client.clone());
    let node: core::Node = serde_json::from_value(json!({
        "metadata": {"name": shared.name, "labels": shared.labels},
    }))?;
    match nodes.create(&PostParams::default(), &node).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        done => drop(done.with_context(|| format!("cannot create node {}", shared.name))?),
    }
    // The API server taints every new node until someone calls it ready.
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
