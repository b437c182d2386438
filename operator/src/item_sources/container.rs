//! The pod that prints a list of items. It is not a run of an item, and it delays nothing but its
//! own list.
//!
//! A source never has two such pods at the same time: its pod name is fixed, and the API server
//! allows only one pod with a name until that pod is removed.

use super::merge::read_interval;
use super::{MAX_TEXT, SourceReading, parse};
use crate::cluster::{Cluster, ClusterError};
use crate::mutation::broken;
use crate::pod::{PodView, completion, judge, names};
use crate::run_history;
use crate::snapshot::SourceUpdate;
use k8s_openapi::api::core::v1::Pod;
use oaat_api::validate::SourceRules;
use oaat_api::{ItemSource, RunResult, Timestamp};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::task::spawn_blocking;

/// The requeue delay for changes that no watch reports.
pub const UNWATCHED: Duration = Duration::from_secs(5);

/// Manages the pods that print the lists of a group.
pub struct Lister<'a, C> {
    /// The cluster.
    pub cluster: &'a C,
    /// The namespace of the group.
    pub namespace: &'a str,
    /// The name of the group.
    pub group: &'a str,
    /// The uid of the group.
    pub uid: &'a str,
    /// The time of the reconcile.
    pub now: Timestamp,
    /// Why no pod may start, such as a suspended group.
    pub hold: Option<String>,
    /// Whether the output of a pod may be read. At most one output is read in a reconcile, because
    /// a node may take long to respond.
    pub may_read: bool,
}

impl<C: Cluster> Lister<'_, C> {
    /// Returns the pod that prints a list.
    fn build(&self, reading: &SourceReading, spec: &Value, rules: SourceRules) -> Value {
        let mut spec = spec.clone();
        let timeout = rules.timeout.as_secs().max(1);
        let from_spec = spec.get("activeDeadlineSeconds").and_then(Value::as_u64);
        // The pod must end even if no operator is running.
        let deadline = from_spec.map_or(timeout, |seconds| seconds.min(timeout));
        spec["activeDeadlineSeconds"] = json!(deadline);
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "namespace": self.namespace,
                "name": reading.pod,
                "labels": {
                    names::MANAGED_BY: names::OPERATOR,
                    names::LISTER: names::group_label(self.group),
                },
                "annotations": { names::LISTER: self.group, names::DEFINITION: reading.definition },
                "ownerReferences": names::owner(self.group, self.uid),
            },
            "spec": spec,
        })
    }

    /// Returns the name of the pod of a source.
    pub fn pod_name(&self, source: &str) -> String {
        let name = names::lister_name(self.group, source);
        if broken!(ManyListers) {
            return format!("{name}-{}", self.now.0);
        }
        name
    }

    /// Takes the next step for a source that is due: deletes the last pod, creates a new one, waits
    /// for it, or reads its output.
    pub async fn advance(
        &self,
        reading: &mut SourceReading,
        spec: &Value,
        rules: SourceRules,
        known: Option<&ItemSource>,
    ) {
        // An error of the API server does not count as a failed read of the source.
        if let Err(error) = self.step(reading, spec, rules, known).await {
            self.pending(reading, error.to_string());
        }
    }

    /// Reports the current step, and requeues the group.
    fn pending(&self, reading: &mut SourceReading, message: String) {
        reading.update = SourceUpdate::Pending(message);
        reading.requeue_at = Some(self.now.plus(UNWATCHED));
    }

    async fn step(
        &self,
        reading: &mut SourceReading,
        spec: &Value,
        rules: SourceRules,
        known: Option<&ItemSource>,
    ) -> Result<(), ClusterError> {
        let name = reading.pod.clone().unwrap_or_default();
        let Some(pod) = self.cluster.pod(self.namespace, &name).await? else {
            return self.start(reading, spec, rules).await;
        };
        let view = PodView::from(&pod);
        let already_read = known.and_then(|known| known.pod_uid.as_ref()) == Some(&view.uid);
        let foreign = view.owner.as_deref() != Some(self.uid);
        // A pod of a deleted group of the same name.
        let orphan = foreign && annotation(&pod, names::LISTER) == Some(self.group);
        let outdated = annotation(&pod, names::DEFINITION) != Some(&reading.definition);
        if foreign && !(orphan && view.is_terminal()) {
            self.pending(
                reading,
                format!("pod {name} exists and does not belong to this group; delete it"),
            );
        } else if view.deletion_is_in_progress() && !view.is_terminal() {
            self.pending(reading, format!("waiting for pod {name} to end"));
        } else if foreign || already_read || outdated || view.deletion_is_incomplete() {
            self.cluster
                .delete_pod(self.namespace, &name, &view.uid, None)
                .await?;
            self.pending(
                reading,
                format!("deleting pod {name} before the next one is created"),
            );
        } else if has_printed(&view, spec) && !self.may_read {
            self.pending(
                reading,
                format!("pod {name} has ended; its output is read next"),
            );
            reading.requeue_at = Some(self.now);
        } else if has_printed(&view, spec) {
            self.read(reading, spec, &view).await?;
        } else {
            self.wait(reading, &view, rules).await?;
        }
        Ok(())
    }

    async fn start(
        &self,
        reading: &mut SourceReading,
        spec: &Value,
        rules: SourceRules,
    ) -> Result<(), ClusterError> {
        if let Some(hold) = &self.hold {
            // The group is requeued at the end of a blackout anyway.
            reading.update = SourceUpdate::Pending(format!("no pod is started: {hold}"));
            return Ok(());
        }
        let pod = self.build(reading, spec, rules);
        match self.cluster.create_pod(self.namespace, &pod).await {
            Ok(pod) => {
                let name = pod.metadata.name.unwrap_or_default();
                reading.update = SourceUpdate::Pending(running(&name));
                reading.requeue_at = Some(self.now.plus(rules.timeout));
            }
            Err(ClusterError::NamespaceTerminating) => {}
            Err(ClusterError::Rejected { code, message }) => {
                let error = format!("the API server rejected its pod ({code}): {message}");
                reading.update = SourceUpdate::Read(self.now, Err(error));
            }
            Err(ClusterError::QuotaExceeded { message, .. }) => {
                let message = format!("its pod is not created: {message}");
                reading.update = SourceUpdate::Pending(message);
                reading.requeue_at = Some(self.now.plus(read_interval(rules, true)));
            }
            // Usually another replica created the pod first.
            Err(other) => return Err(other),
        }
        Ok(())
    }

    /// Waits for a pod that has not ended. Deletes it after the timeout.
    async fn wait(
        &self,
        reading: &mut SourceReading,
        pod: &PodView,
        rules: SourceRules,
    ) -> Result<(), ClusterError> {
        let problem = pod
            .problem()
            .map(|problem| format!("pod {} {problem}", pod.name));
        let deadline = pod.created.plus(rules.timeout);
        if self.now < deadline {
            let message = problem.unwrap_or_else(|| running(&pod.name));
            reading.update = SourceUpdate::Pending(message);
            reading.requeue_at = Some(deadline);
            return Ok(());
        }
        self.cluster
            .delete_pod(self.namespace, &pod.name, &pod.uid, None)
            .await?;
        let timeout = humantime::format_duration(rules.timeout);
        let cause = problem
            .map(|problem| format!(": {problem}"))
            .unwrap_or_default();
        let error = format!("pod {} did not finish within {timeout}{cause}", pod.name);
        reading.update = SourceUpdate::Read(self.now, Err(error));
        reading.pod_uid = Some(pod.uid.clone());
        Ok(())
    }

    /// Reads the list from a pod that has ended.
    async fn read(
        &self,
        reading: &mut SourceReading,
        spec: &Value,
        view: &PodView,
    ) -> Result<(), ClusterError> {
        reading.pod_uid = Some(view.uid.clone());
        let printed = completion(view, &[container_name(spec).to_owned()], self.now);
        let finished = printed.unwrap_or_else(|| judge(Some(view), false, None, self.now));
        if finished.result != RunResult::Succeeded {
            let error = format!(
                "pod {} {}",
                view.name,
                run_history::describe_result(&finished)
            );
            reading.update = SourceUpdate::Read(self.now, Err(error));
            return Ok(());
        }
        let container = container_name(spec);
        let output = self
            .cluster
            .output(self.namespace, &view.name, container)
            .await;
        // Logs are requested by pod name. The output is certainly from this pod only if the pod
        // still exists after the read.
        let pod_after = self.cluster.pod(self.namespace, &view.name).await?;
        if pod_after.and_then(|pod| pod.metadata.uid).as_deref() != Some(&view.uid) {
            reading.pod_uid = None;
            self.pending(
                reading,
                format!("pod {} was deleted before its output was read", view.name),
            );
            return Ok(());
        }
        let list = match output {
            Ok(text) if text.len() > MAX_TEXT => {
                Err(format!("it printed more than {MAX_TEXT} bytes"))
            }
            Ok(text) => match log_error(&text) {
                Some(error) => Err(format!("the node lost the pod's output: {error}")),
                None => spawn_blocking(move || parse::list(&text))
                    .await
                    .unwrap_or_else(|error| Err(error.to_string())),
            },
            Err(error) => {
                // The pod is kept, so its output is requested again.
                reading.pod_uid = None;
                let name = &view.name;
                Err(format!("failed to read the output of pod {name}: {error}"))
            }
        };
        reading.update = SourceUpdate::Read(self.now, list);
        Ok(())
    }

    /// Deletes the pod of a source that was removed from the spec. Returns true once it is gone.
    pub async fn removed(&self, source: &ItemSource) -> bool {
        let name = source.pod.as_deref().unwrap_or_default();
        match self.cluster.pod(self.namespace, name).await {
            Ok(None) => true,
            Ok(Some(pod)) => {
                let view = PodView::from(&pod);
                if view.owner.as_deref() != Some(self.uid) {
                    return true;
                }
                if !view.deletion_is_in_progress() {
                    // An error is ignored: the next reconcile deletes the pod again.
                    let _ = self
                        .cluster
                        .delete_pod(self.namespace, name, &view.uid, None)
                        .await;
                }
                false
            }
            Err(_) => false,
        }
    }
}

/// The message while a pod of this name prints a list.
fn running(pod: &str) -> String {
    format!("pod {pod} is running")
}

/// Returns the error if the log consists of a kubelet error. A kubelet that has lost a log responds
/// with status 200 and an error message instead of the log.
fn log_error(text: &str) -> Option<&str> {
    const PREFIXES: [&str; 4] = [
        "unable to retrieve container logs for ",
        "failed to try resolving symlinks in path ",
        "failed to open log file ",
        "rpc error: ",
    ];
    let line = text.trim_end();
    let is_error = !line.contains('\n') && PREFIXES.iter().any(|prefix| line.starts_with(prefix));
    is_error.then_some(line)
}

/// Returns the name of the container that prints the list. It comes from the spec, because a webhook
/// may have added a container before it.
fn container_name(spec: &Value) -> &str {
    spec["containers"][0]["name"].as_str().unwrap_or_default()
}

/// Returns whether the container that prints the list has ended. Others, such as an injected
/// sidecar, may run on.
fn has_printed(pod: &PodView, spec: &Value) -> bool {
    let named = [container_name(spec).to_owned()];
    pod.is_terminal() || completion(pod, &named, pod.created).is_some()
}

fn annotation<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let annotations = pod.metadata.annotations.as_ref()?;
    annotations.get(name).map(String::as_str)
}
