//! Helpers of the tests: runs that last until the test releases them, reconciles on demand, pods
//! and statuses written by hand, and views on pods and groups.

use crate::fixture::{Fixture, PATIENCE};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams, PostParams};
use oaat_tests::node::Run;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::time::sleep;

/// The label with the name of a pod's group.
pub const GROUP_LABEL: &str = "oaat.kawaja.net/group";
/// The scheduling gate of the operator's pods.
pub const GATE: &str = "oaat.kawaja.net/claim";

/// A barrier at which scripts wait until the test releases it.
pub struct Barrier {
    file: PathBuf,
    _folder: TempDir,
}

impl Barrier {
    /// Creates a barrier.
    pub fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        Ok(Self {
            file: folder.path().join("open"),
            _folder: folder,
        })
    }

    /// Returns a line of shell that waits for the release.
    pub fn wait(&self) -> String {
        format!("while [ ! -e {} ]; do sleep 0.1; done", self.file.display())
    }

    /// Returns a line of shell that succeeds if the barrier is released.
    pub fn is_open(&self) -> String {
        format!("[ -e {} ]", self.file.display())
    }

    /// Returns a line of shell like [`Self::wait`] that ignores SIGTERM meanwhile.
    pub fn wait_deaf(&self) -> String {
        format!("trap '' TERM; {}", self.wait())
    }

    /// Releases all scripts, including later ones.
    pub fn release(&self) -> Result<()> {
        Ok(std::fs::write(&self.file, "")?)
    }
}

/// Returns the state of a group.
pub fn state(group: &Value) -> &str {
    group["status"]["state"].as_str().unwrap_or_default()
}

/// The annotation that requests items to run now.
pub const RUN_NOW: &str = "oaat.kawaja.net/run-now";

impl Fixture {
    /// Patches the group.
    pub async fn change(&self, patch: Value) -> Result<()> {
        self.api("OaatGroup")
            .patch("group", &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
        Ok(())
    }

    /// Requests items to run now with `kubectl annotate`.
    pub async fn ask(&self, request: &str) -> Result<()> {
        let annotation = format!("{RUN_NOW}={request}");
        let args = ["annotate", "--overwrite", "oaatgroup", "group"];
        self.kubectl(&[&args[..], &[&annotation]].concat()).await?;
        Ok(())
    }

    /// Waits until the process of the current pod runs, and returns the pod.
    pub async fn until_running(&self) -> Result<Pod> {
        let group = self
            .until("a run is in progress", |g| {
                g["status"]["current"]["podName"].is_string()
            })
            .await?;
        let name = text(&group["status"]["current"]["podName"]);
        self.until_pod(&name, "runs", |pod| phase(pod) == "Running")
            .await
    }

    /// Makes the operator reconcile the group, waits for it, and returns the group.
    pub async fn look(&self) -> Result<Value> {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // A change of the spec without an effect.
        let patch = json!({ "spec": { "podHistoryLimit": 1000 + count } });
        let patched = self
            .api("OaatGroup")
            .patch("group", &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
        let generation = patched.metadata.generation;
        self.until("the operator has reconciled", |g| {
            g["status"]["observedGeneration"].as_i64() >= generation
        })
        .await
    }

    /// Patches the status of the group, instead of the operator.
    pub async fn write_status(&self, status: Value) -> Result<()> {
        let patch = json!({ "status": status });
        self.api("OaatGroup")
            .patch_status("group", &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
        Ok(())
    }

    /// Patches the status of a pod, instead of its node.
    pub async fn write_pod_status(&self, name: &str, status: Value) -> Result<()> {
        let patch = json!({ "status": status });
        self.pods()
            .patch_status(name, &PatchParams::default(), &Patch::Strategic(&patch))
            .await?;
        Ok(())
    }

    /// Creates a pod whose only container runs a shell script.
    pub async fn pod_by_hand(&self, metadata: Value, script: &str, gated: bool) -> Result<Pod> {
        let gates = if gated {
            json!([{ "name": GATE }])
        } else {
            json!([])
        };
        let pod = serde_json::from_value(json!({
            "metadata": metadata,
            "spec": {
                "restartPolicy": "Never",
                "schedulingGates": gates,
                "containers": [{ "name": "main", "image": "any", "command": ["sh", "-c", script] }],
            },
        }))?;
        Ok(self.pods().create(&PostParams::default(), &pod).await?)
    }

    /// Waits until a run of the item is recorded, and returns the group.
    pub async fn until_recorded(&self, item: &str) -> Result<Value> {
        self.until("the run is recorded", |g| {
            g["status"]["items"][item]["runs"].as_i64() >= Some(1)
        })
        .await
    }

    /// Checks that this pod, and no other, may run now.
    pub async fn ensure_alone(&self, name: &str) -> Result<()> {
        let names: Vec<_> = self
            .list_pods()
            .await?
            .iter()
            .filter(|pod| runnable(pod))
            .map(ResourceExt::name_any)
            .collect();
        ensure!(names == [name], "these pods may run: {names:?}");
        Ok(())
    }
}

/// Makes the API server reject pods in this namespace with a ValidatingAdmissionPolicy. Waits until it
/// rejects a pod for the item `named`.
pub async fn refuse_pods(fixture: &Fixture, validation: Value, named: &str) -> Result<()> {
    let name = &fixture.namespace;
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": { "name": name },
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": { "resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
                "resources": ["pods"],
            }] },
            "validations": [validation],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": { "name": name },
        "spec": {
            "policyName": name, "validationActions": ["Deny"],
            "matchResources": { "namespaceSelector": { "matchLabels": {
                "kubernetes.io/metadata.name": name,
            } } },
        },
    });
    for object in [policy, binding] {
        fixture.plane.apply(&object.to_string()).await?;
    }
    until_refused(fixture, named).await
}

/// Waits until the API server rejects a pod for this item.
pub async fn until_refused(fixture: &Fixture, named: &str) -> Result<()> {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {
            "generateName": "trial-", "annotations": { "oaat.kawaja.net/item": named },
        },
        "spec": { "containers": [{ "name": "main", "image": "any" }] },
    }))?;
    let trial = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let start = Instant::now();
    while fixture.pods().create(&trial, &pod).await.is_ok() {
        ensure!(
            start.elapsed() < PATIENCE,
            "the API server still accepts the pod"
        );
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Returns a JSON string, or an empty string.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Returns the phase of a pod.
pub fn phase(pod: &Pod) -> &str {
    let status = pod.status.as_ref();
    status.and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

/// Returns whether a pod has a scheduling gate.
pub fn gated(pod: &Pod) -> bool {
    let gates = pod.spec.as_ref().and_then(|s| s.scheduling_gates.as_ref());
    gates.is_some_and(|gates| !gates.is_empty())
}

/// Returns whether a process of a pod runs or may still run.
pub fn runnable(pod: &Pod) -> bool {
    !gated(pod) && !matches!(phase(pod), "Succeeded" | "Failed")
}

/// Returns when the last container of a pod ended, in milliseconds since 1970.
pub fn ended(pod: &Pod) -> Option<i64> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let ends = statuses.iter().filter_map(|status| {
        let ended = status.state.as_ref()?.terminated.as_ref()?;
        Some(ended.finished_at.as_ref()?.0.as_millisecond())
    });
    ends.max()
}

/// Returns the history of a group, newest run first.
pub fn history(group: &Value) -> Vec<Value> {
    let history = group["status"]["history"].as_array();
    history.cloned().unwrap_or_default()
}

/// Returns the latest run of a group.
pub fn latest(group: &Value) -> Result<Value> {
    let history = history(group);
    history.first().cloned().context("the history is empty")
}

/// Checks that no two pods ran at the same time.
pub fn ensure_apart(runs: &[Run]) -> Result<()> {
    for pair in runs.windows(2) {
        let [one, other] = pair else { continue };
        ensure!(
            one.ended.is_some_and(|ended| ended <= other.started),
            "two pods ran at the same time: {one:?} and {other:?}"
        );
    }
    Ok(())
}
