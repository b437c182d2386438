//! The shared control plane of this test binary, and fixtures in it.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{ContainerState, Pod};
use kube::Api;
use kube::api::PostParams;
use kube::runtime::wait::await_condition;
use oaat_tests::{ControlPlane, Mode, Node, NodeOptions, Options};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::time::timeout;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn plane() -> Result<&'static ControlPlane> {
    static PLANE: OnceCell<ControlPlane> = OnceCell::const_new();
    PLANE
        .get_or_try_init(async || {
            let manifests = tempfile::tempdir()?;
            let crd = manifests.path().join("crd.json");
            fs::write(&crd, widgets().to_string())?;
            let options = Options {
                manifests: vec![crd],
                ..Default::default()
            };
            let start = Instant::now();
            let plane = ControlPlane::start(options).await?;
            eprintln!("control plane ready after {:?}", start.elapsed());
            Ok(plane)
        })
        .await
}

/// Returns the CRD of a custom resource that can own objects.
fn widgets() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.net"},
        "spec": {
            "group": "example.net", "scope": "Namespaced",
            "names": {"kind": "Widget", "plural": "widgets"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {
                "openAPIV3Schema": {"type": "object"},
            }}],
        },
    })
}

/// A namespace with its own node.
pub(crate) struct Fixture {
    pub(crate) plane: &'static ControlPlane,
    pub(crate) namespace: String,
    pub(crate) node: Node,
    pub(crate) pods: Api<Pod>,
}

impl Fixture {
    pub(crate) async fn new(name: &str, mode: Mode) -> Result<Self> {
        let plane = plane().await?;
        plane.namespace(name).await?;
        let client = plane.admin();
        let options = NodeOptions {
            name: format!("node-{name}"),
            namespace: Some(name.to_owned()),
            mode,
            ..Default::default()
        };
        Ok(Self {
            plane,
            node: Node::start(client.clone(), options).await?,
            pods: Api::namespaced(client, name),
            namespace: name.to_owned(),
        })
    }

    /// Creates a pod that runs a shell script. `more` is merged into its spec.
    pub(crate) async fn pod(&self, name: &str, script: &str, more: Value) -> Result<Pod> {
        let mut spec = json!({
            "restartPolicy": "Never",
            "containers": [{"name": "main", "image": "any", "command": ["sh", "-c", script]}],
        });
        if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
            spec.extend(more);
        }
        let pod = serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec}))?;
        Ok(self.pods.create(&PostParams::default(), &pod).await?)
    }

    pub(crate) async fn until(&self, name: &str, what: fn(&Pod) -> bool) -> Result<Pod> {
        let condition = await_condition(self.pods.clone(), name, move |pod: Option<&Pod>| {
            pod.is_some_and(what)
        });
        timeout(PATIENCE, condition)
            .await
            .with_context(|| format!("pod {name}: timed out"))??
            .context("the pod is gone")
    }

    pub(crate) async fn until_gone(&self, name: &str) -> Result<()> {
        let condition = await_condition(self.pods.clone(), name, |pod: Option<&Pod>| pod.is_none());
        timeout(PATIENCE, condition)
            .await
            .with_context(|| format!("pod {name} was not removed"))??;
        Ok(())
    }

    pub(crate) fn log(&self, pod: &str) -> Result<String> {
        Ok(fs::read_to_string(self.node.log_path(
            &self.namespace,
            pod,
            "main",
        ))?)
    }
}

pub(crate) fn phase(pod: &Pod) -> &str {
    let status = pod.status.as_ref();
    status
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

pub(crate) fn state(pod: &Pod) -> ContainerState {
    pod.status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref()?.first()?.state.clone())
        .unwrap_or_default()
}

pub(crate) fn exit_code(pod: &Pod) -> Option<i32> {
    state(pod).terminated.map(|ended| ended.exit_code)
}

pub(crate) fn waiting(pod: &Pod) -> String {
    state(pod)
        .waiting
        .and_then(|waiting| waiting.reason)
        .unwrap_or_default()
}

pub(crate) const RUNNING: fn(&Pod) -> bool = |pod| phase(pod) == "Running";
pub(crate) const OVER: fn(&Pod) -> bool = |pod| matches!(phase(pod), "Succeeded" | "Failed");
