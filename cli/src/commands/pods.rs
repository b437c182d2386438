//! The pods of an item, and their logs.

use crate::cluster::{Access, ClusterError, PAGE, Session};
use crate::terminal::{LogText, write};
use futures::AsyncReadExt;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::{ListParams, LogParams};
use kube::{Api, ResourceExt};
use oaat_api::text::{self, clean};
use std::io::IsTerminal;
use std::time::Duration;
use tokio::sync::watch;

/// The label and annotation with the name of the group.
const GROUP: &str = "oaat.kawaja.net/group";
/// The label and annotation with the name of the item.
const ITEM: &str = "oaat.kawaja.net/item";
/// The label with the number of the run.
const RUN: &str = "oaat.kawaja.net/run";
/// The annotation with the containers that determine when a run ends.
const COMPLETION_CONTAINERS: &str = "oaat.kawaja.net/completion-containers";
/// The scheduling gate of a pod that is not a run yet.
const GATE: &str = "oaat.kawaja.net/claim";
/// The maximum length of a label value.
const MAX_LABEL: usize = 63;
/// The size of the parts of a log.
const PART: usize = 16 << 10;
/// The time before a log that ended early is read again.
const RETRY: Duration = Duration::from_millis(500);

/// A pod of an item.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ItemPod {
    pub name: String,
    pub run: i64,
    /// The container whose log is shown.
    pub container: String,
    pub is_finished: bool,
}

/// Lists the pods of an item's runs, latest first.
pub(super) async fn item_pods(
    session: &Session,
    group: &str,
    item: &str,
) -> Result<Vec<ItemPod>, ClusterError> {
    let namespace = session.namespace.as_str();
    let api: Api<Pod> = Api::namespaced(session.client.clone(), namespace);
    let mut pods = Vec::new();
    let mut page = ListParams::default()
        .labels(&selector(group, item))
        .limit(PAGE);
    loop {
        let access = Access::new("list", "", "pods", Some(namespace));
        let list = session.request(access, api.list(&page)).await?;
        pods.extend(
            list.items
                .iter()
                .filter_map(|pod| item_pod(pod, group, item)),
        );
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => break,
        }
    }
    pods.sort_by_key(|pod| std::cmp::Reverse(pod.run));
    Ok(pods)
}

/// Returns a selector for the pods of an item. If a name is not a valid label value, the label is
/// derived from it, so only its existence is requested.
fn selector(group: &str, item: &str) -> String {
    let is_value = |text: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        text.len() <= MAX_LABEL
            && text.chars().all(inner)
            && ends(text.chars().next())
            && ends(text.chars().next_back())
    };
    let part = |label: &str, value: &str| {
        if is_value(value) {
            format!("{label}={value}")
        } else {
            label.to_owned()
        }
    };
    format!("{},{}", part(GROUP, group), part(ITEM, item))
}

/// Returns a pod if it is a run of the item.
fn item_pod(pod: &Pod, group: &str, item: &str) -> Option<ItemPod> {
    let annotation = |name: &str| pod.annotations().get(name).map(String::as_str);
    if annotation(GROUP) != Some(group) || annotation(ITEM) != Some(item) {
        return None;
    }
    let spec = pod.spec.as_ref()?;
    let gates = spec.scheduling_gates.iter().flatten();
    if gates.into_iter().any(|gate| gate.name == GATE) {
        return None;
    }
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    Some(ItemPod {
        name: pod.name_any(),
        run: pod
            .labels()
            .get(RUN)
            .and_then(|run| run.parse().ok())
            .unwrap_or(0),
        container: container(pod)?,
        is_finished: matches!(phase, Some("Succeeded" | "Failed")),
    })
}

/// Returns the container whose log matters most: one that failed, or else the first one that
/// determines the result.
fn container(pod: &Pod) -> Option<String> {
    let failed = |status: &&ContainerStatus| {
        let ended = status.state.as_ref().and_then(|s| s.terminated.as_ref());
        ended.is_some_and(|ended| ended.exit_code != 0)
    };
    if let Some(failed) = container_statuses(pod).find(failed) {
        return Some(failed.name.clone());
    }
    let containers = &pod.spec.as_ref()?.containers;
    let completion = pod.annotations().get(COMPLETION_CONTAINERS);
    let determines = |name: &String| {
        completion.is_none_or(|names| names.split(',').any(|determines| determines == name))
    };
    let first = containers.iter().find(|c| determines(&c.name));
    first.or(containers.first()).map(|c| c.name.clone())
}

/// Returns the statuses of the containers of a pod, in the order in which they start.
fn container_statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let init = status.and_then(|s| s.init_container_statuses.as_ref());
    let main = status.and_then(|s| s.container_statuses.as_ref());
    init.into_iter().flatten().chain(main.into_iter().flatten())
}

/// Returns whether a container has ended, so that its log is complete.
fn has_ended(pod: &Pod, container: &str) -> bool {
    let ended = |status: &ContainerStatus| {
        let state = status.state.as_ref();
        status.name == container && state.is_some_and(|state| state.terminated.is_some())
    };
    container_statuses(pod).any(ended)
}

/// Prints the log of a container that has started.
pub(super) async fn print_log(
    session: &Session,
    pod: &str,
    container: Option<&str>,
    follow: bool,
) -> Result<(), ClusterError> {
    let mut printer = LogPrinter::default();
    match printer.read(session, pod, container, follow).await? {
        LogEnd::Complete => Ok(()),
        LogEnd::Lost(cause) => Err(ClusterError::IncompleteLog(cause)),
    }
}

/// Prints the log of a pod while it runs, until `ended` is true.
pub(super) async fn follow_log(
    session: &Session,
    pod: &str,
    mut ended: watch::Receiver<bool>,
) -> Result<(), ClusterError> {
    let mut printer = LogPrinter::default();
    let mut container: Option<String> = None;
    let mut is_complete = false;
    loop {
        let is_last = is_complete || *ended.borrow();
        let read = async {
            // All parts are of the same container, even if another one fails later.
            let name = match container.take() {
                Some(name) => name,
                None => container_of(session, pod).await?,
            };
            let name = container.insert(name);
            printer.read(session, pod, Some(name), !is_last).await
        };
        let read = tokio::select! {
            biased;
            read = read => read.map(Some),
            // A connection that is lost does not end by itself.
            () = wait_until_ended(ended.clone()), if !is_last => Ok(None),
        };
        match read {
            Ok(Some(LogEnd::Complete)) if !is_last => {
                // The pod may run on with other containers. If this one has ended, its log is read
                // only once more, because it may have ended after the log was read.
                let name = container.as_deref().unwrap_or_default();
                let pod = get_pod(session, pod).await;
                is_complete = pod.is_ok_and(|pod| has_ended(&pod, name));
            }
            // Before its start, a container has no log.
            Err(ClusterError::Rejected { .. }) if !is_last => {}
            // The pod was deleted after its log was read.
            Err(ClusterError::Rejected { .. }) if printer.printed > 0 => {}
            Err(error) => return Err(error),
            Ok(Some(LogEnd::Lost(cause))) if is_last => {
                return Err(ClusterError::IncompleteLog(cause));
            }
            Ok(_) => {}
        }
        if is_last {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            _ = ended.changed() => {}
        }
    }
}

/// Returns the container of a pod whose log is shown.
async fn container_of(session: &Session, name: &str) -> Result<String, ClusterError> {
    let pod = get_pod(session, name).await?;
    Ok(container(&pod).unwrap_or_default())
}

async fn get_pod(session: &Session, name: &str) -> Result<Pod, ClusterError> {
    let namespace = session.namespace.as_str();
    let api: Api<Pod> = Api::namespaced(session.client.clone(), namespace);
    let access = Access::new("get", "", "pods", Some(namespace));
    session.request(access, api.get(name)).await
}

/// Waits until a run has ended, and a moment longer, in which the rest of its log arrives.
async fn wait_until_ended(mut ended: watch::Receiver<bool>) {
    // An error means that the sender is gone, so nothing is left to wait for.
    let _ = ended.wait_for(|ended| *ended).await;
    tokio::time::sleep(RETRY).await;
}

/// How the response with a log ended.
enum LogEnd {
    /// The API server sent everything.
    Complete,
    /// The connection was lost. Contains the cause.
    Lost(String),
}

/// Prints a log. If it is read again, prints only what is new.
#[derive(Default)]
struct LogPrinter {
    printed: usize,
    text: LogText,
}

impl LogPrinter {
    async fn read(
        &mut self,
        session: &Session,
        pod: &str,
        container: Option<&str>,
        follow: bool,
    ) -> Result<LogEnd, ClusterError> {
        let namespace = session.namespace.as_str();
        let api: Api<Pod> = Api::namespaced(session.client.clone(), namespace);
        let params = LogParams {
            follow,
            container: container.map(str::to_owned),
            ..LogParams::default()
        };
        let access = Access::new("get", "", "pods/log", Some(namespace));
        let stream = session
            .request(access, api.log_stream(pod, &params))
            .await?;
        let mut stream = std::pin::pin!(stream);
        let is_terminal = std::io::stdout().is_terminal();
        let mut part = vec![0; PART];
        let mut skip = self.printed;
        loop {
            let length = match stream.read(&mut part).await {
                Ok(0) => return Ok(LogEnd::Complete),
                Ok(length) => length,
                Err(error) => return Ok(LogEnd::Lost(clean(&error.to_string(), text::PROBLEM))),
            };
            let skipped = skip.min(length);
            skip -= skipped;
            let new = &part[skipped..length];
            self.printed += new.len();
            if is_terminal {
                write(self.text.next(new).as_bytes())?;
            } else {
                write(new)?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(annotations: Value, status: Value, gates: Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": "p", "labels": { RUN: "7" }, "annotations": annotations,
            },
            "spec": {
                "schedulingGates": gates,
                "containers": [{ "name": "sidecar" }, { "name": "main" }],
            },
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn selector_requests_only_valid_label_values() {
        for (group, item, expected) in [
            ("g", "a", "oaat.kawaja.net/group=g,oaat.kawaja.net/item=a"),
            (
                "g",
                "/srv/a",
                "oaat.kawaja.net/group=g,oaat.kawaja.net/item",
            ),
            (
                &"g".repeat(64),
                "a_",
                "oaat.kawaja.net/group,oaat.kawaja.net/item",
            ),
        ] {
            assert_eq!(selector(group, item), expected);
        }
    }

    #[test]
    fn container_ends_before_the_pod() {
        let status = |name: &str, state: &Value| {
            json!({
                "name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": state,
            })
        };
        let ended = json!({ "terminated": { "exitCode": 0 } });
        let running = json!({ "running": {} });
        let status = json!({
            "phase": "Running",
            "initContainerStatuses": [status("init", &ended)],
            "containerStatuses": [status("main", &ended), status("sidecar", &running)],
        });
        let pod = pod(json!({}), status, json!([]));
        let found = ["init", "main", "sidecar", "absent"].map(|name| has_ended(&pod, name));
        assert_eq!(found, [true, true, false, false]);
    }

    #[test]
    fn only_runs_of_the_item_are_found_with_their_most_important_container() {
        let named = json!({ GROUP: "g", ITEM: "a" });
        let with_completion = json!({ GROUP: "g", ITEM: "a", COMPLETION_CONTAINERS: "main" });
        let failed = json!({ "phase": "Failed", "containerStatuses": [
            { "name": "sidecar", "image": "", "imageID": "", "ready": false, "restartCount": 0,
              "state": { "terminated": { "exitCode": 0 } } },
            { "name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 0,
              "state": { "terminated": { "exitCode": 3 } } },
        ] });
        let found = |container: &str, is_finished| {
            Some(ItemPod {
                name: "p".into(),
                run: 7,
                container: container.into(),
                is_finished,
            })
        };
        let gated = json!([{ "name": GATE }]);
        let other = json!({ GROUP: "g", ITEM: "b" });
        for (annotations, status, gates, expected) in [
            (named.clone(), json!({}), json!([]), found("sidecar", false)),
            (with_completion, json!({}), json!([]), found("main", false)),
            (named.clone(), failed, json!([]), found("main", true)),
            (named, json!({}), gated, None),
            (other, json!({}), json!([]), None),
        ] {
            assert_eq!(
                item_pod(&pod(annotations, status, gates), "g", "a"),
                expected
            );
        }
    }
}
