//! The pod that prints a list of items. It is no run of an item, and nothing of the group waits
//! for it but its list.
//!
//! It never runs beside itself: its name is always the same, and the API server gives a name to
//! one pod at a time, until that pod has ended and is gone.

use super::{MAX_TEXT, SourceReading, SourceUpdate, parse};
use crate::cluster::{Cluster, ClusterError};
use crate::mutation::broken;
use crate::pod::{Phase, PodView, names, outcome};
use crate::run_history;
use k8s_openapi::api::core::v1::Pod;
use oaat_api::validate::SourceRules;
use oaat_api::{ItemSource, Timestamp};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::task::spawn_blocking;

/// Between two looks at what may change without anybody telling.
pub const UNWATCHED: Duration = Duration::from_secs(5);

/// Who looks after the pods that print a group's lists.
pub struct Lister<'a, C> {
    /// The cluster.
    pub cluster: &'a C,
    /// Namespace of the group.
    pub namespace: &'a str,
    /// Its name.
    pub group: &'a str,
    /// Its uid.
    pub uid: &'a str,
    /// The time.
    pub now: Timestamp,
    /// Why no pod is to be started, in words.
    pub held: Option<String>,
    /// What a pod has printed may be read: once in a look, since a node that does not answer takes
    /// its time.
    pub may_read: bool,
}

/// The pod that prints a list.
pub fn build(
    (namespace, group, uid): (&str, &str, &str),
    reading: &SourceReading,
    spec: &Value,
    rules: SourceRules,
) -> Value {
    let mut spec = spec.clone();
    let seconds = rules.timeout.as_secs().max(1);
    let given = spec.get("activeDeadlineSeconds").and_then(Value::as_u64);
    // So that it ends also while no operator is there.
    let deadline = given.map_or(seconds, |given| given.min(seconds));
    spec["activeDeadlineSeconds"] = json!(deadline);
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": namespace,
            "name": reading.pod,
            "labels": {
                names::MANAGED_BY: names::OPERATOR,
                names::LISTER: names::group_label(group),
            },
            "annotations": { names::LISTER: group, names::DEFINITION: reading.definition },
            "ownerReferences": names::owner(group, uid),
        },
        "spec": spec,
    })
}

impl<C: Cluster> Lister<'_, C> {
    /// The name of the pod of a source.
    pub fn pod_name(&self, source: &str) -> String {
        let name = names::lister_name(self.group, source);
        if broken!(ManyListers) {
            return format!("{name}-{}", self.now.0);
        }
        name
    }

    /// Goes one step towards the next list, of a source that is to be read: has the last pod
    /// removed, makes a new one, waits for it, or reads what it has printed.
    pub async fn advance(
        &self,
        reading: &mut SourceReading,
        spec: &Value,
        rules: SourceRules,
        known: Option<&ItemSource>,
    ) {
        let step = self.step(reading, spec, rules, known).await;
        match step {
            Ok(()) => {}
            // Nobody's fault: again soon.
            Err(error) => self.busy(reading, error.to_string()),
        }
    }

    fn busy(&self, reading: &mut SourceReading, words: String) {
        reading.news = SourceUpdate::Busy(words);
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
        let read = known.and_then(|known| known.pod_uid.as_ref()) == Some(&view.uid);
        let former = view.owner.as_deref() != Some(self.uid);
        // Left by a group of the same name, and of no use any more.
        let left = former && annotation(&pod, names::LISTER) == Some(self.group);
        let other = annotation(&pod, names::DEFINITION) != Some(&reading.definition);
        if former && !(left && view.terminal()) {
            self.busy(
                reading,
                format!("pod {name} is there and not of this group: it must be gone first"),
            );
        } else if view.deletion.is_some() && !view.terminal() {
            self.busy(reading, format!("waits for the end of pod {name}"));
        } else if former || read || other {
            self.cluster
                .delete_pod(self.namespace, &name, &view.uid, None)
                .await?;
            self.busy(reading, format!("pod {name} makes room for the next one"));
        } else if view.terminal() && !self.may_read {
            self.busy(reading, format!("pod {name} has printed it"));
            reading.requeue_at = Some(self.now);
        } else if view.terminal() {
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
        if let Some(held) = &self.held {
            // The end of that is another's business to look at.
            reading.news = SourceUpdate::Busy(format!("nothing is started: {held}"));
            return Ok(());
        }
        let pod = build((self.namespace, self.group, self.uid), reading, spec, rules);
        match self.cluster.create_pod(self.namespace, &pod).await {
            Ok(pod) => {
                let name = pod.metadata.name.unwrap_or_default();
                reading.news = SourceUpdate::Busy(format!("pod {name} prints it"));
                reading.requeue_at = Some(self.now.plus(rules.timeout));
            }
            Err(ClusterError::NamespaceEnds) => {}
            Err(ClusterError::Rejected { code, message }) => {
                let words = format!("the API server refused its pod ({code}): {message}");
                reading.news = SourceUpdate::Read(self.now, Err(words));
            }
            // Another replica was faster, as a rule.
            Err(other) => return Err(other),
        }
        Ok(())
    }

    /// A pod that has not ended.
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
            reading.news = SourceUpdate::Busy(
                problem.unwrap_or_else(|| format!("pod {} prints it", pod.name)),
            );
            reading.requeue_at = Some(deadline);
            return Ok(());
        }
        self.cluster
            .delete_pod(self.namespace, &pod.name, &pod.uid, None)
            .await?;
        let timeout = humantime::format_duration(rules.timeout);
        let why = problem
            .map(|problem| format!(": {problem}"))
            .unwrap_or_default();
        let words = format!("pod {} did not finish within {timeout}{why}", pod.name);
        reading.news = SourceUpdate::Read(self.now, Err(words));
        reading.pod_uid = Some(pod.uid.clone());
        Ok(())
    }

    /// A pod that has ended.
    async fn read(
        &self,
        reading: &mut SourceReading,
        spec: &Value,
        view: &PodView,
    ) -> Result<(), ClusterError> {
        reading.pod_uid = Some(view.uid.clone());
        if view.phase != Phase::Succeeded {
            let finished = outcome(Some(view), false, None, self.now);
            let words = format!("pod {} {}", view.name, run_history::sentence(&finished));
            reading.news = SourceUpdate::Read(self.now, Err(words));
            return Ok(());
        }
        // By the spec: something on the pod's way may have put another one first.
        let container = spec["containers"][0]["name"].as_str().unwrap_or_default();
        let output = self
            .cluster
            .output(self.namespace, &view.name, container)
            .await;
        // A log is asked for by name: that it is this pod's is sure only if it is still there.
        let still = self.cluster.pod(self.namespace, &view.name).await?;
        if still.and_then(|pod| pod.metadata.uid).as_deref() != Some(&view.uid) {
            reading.pod_uid = None;
            self.busy(
                reading,
                format!("pod {} has gone before its output was read", view.name),
            );
            return Ok(());
        }
        let list = match output {
            Ok(text) if text.len() > MAX_TEXT => {
                Err(format!("it printed more than {MAX_TEXT} bytes"))
            }
            Ok(text) => match lost(&text) {
                Some(words) => Err(format!("the node has not got what it printed: {words}")),
                None => spawn_blocking(move || parse::list(&text))
                    .await
                    .unwrap_or_else(|error| Err(error.to_string())),
            },
            Err(error) => {
                // What it has printed is still there, and is asked for again.
                reading.pod_uid = None;
                let name = &view.name;
                Err(format!("what pod {name} printed cannot be read: {error}"))
            }
        };
        reading.news = SourceUpdate::Read(self.now, list);
        Ok(())
    }

    /// Whether the pod of a source that the spec has no more is gone; asks for that.
    pub async fn removed(&self, source: &ItemSource) -> bool {
        let name = source.pod.as_deref().unwrap_or_default();
        match self.cluster.pod(self.namespace, name).await {
            Ok(None) => true,
            Ok(Some(pod)) => {
                let view = PodView::from(&pod);
                if view.owner.as_deref() != Some(self.uid) {
                    return true;
                }
                if view.deletion.is_none() {
                    // Tried again at the next look.
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

/// A kubelet that has lost a log answers with its trouble in place of the log, as if that were it.
fn lost(text: &str) -> Option<&str> {
    const WORDS: [&str; 4] = [
        "unable to retrieve container logs for ",
        "failed to try resolving symlinks in path ",
        "failed to open log file ",
        "rpc error: ",
    ];
    let line = text.trim_end();
    let said = !line.contains('\n') && WORDS.iter().any(|words| line.starts_with(words));
    said.then_some(line)
}

fn annotation<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let annotations = pod.metadata.annotations.as_ref()?;
    annotations.get(name).map(String::as_str)
}
