//! The scheduler: which pods fit the node, and how they are bound to it.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Binding, NodeSelectorRequirement, NodeSelectorTerm, ObjectReference, Pod,
};
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams, ResourceExt};
use serde_json::{Value, json};

use super::shared::Shared;
use super::status::timestamp;

/// The pause between two attempts to bind a pod.
const PAUSE: Duration = Duration::from_millis(100);

const UNFIT: &str = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. \
    preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";

/// Returns whether the scheduler processes a pod. It does not if the pod has any scheduling gate;
/// the API server would also reject the binding.
pub(super) fn is_waiting(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let ours = spec
        .scheduler_name
        .as_deref()
        .unwrap_or("default-scheduler");
    spec.node_name.as_deref().unwrap_or_default().is_empty()
        && spec.scheduling_gates.as_ref().is_none_or(Vec::is_empty)
        && pod.metadata.deletion_timestamp.is_none()
        && ours == "default-scheduler"
}

/// Binds the pod to this node, or reports on the pod why it does not fit.
pub(super) async fn schedule(shared: &Shared, pod: &Pod) {
    let pods: Api<Pod> =
        Api::namespaced(shared.client.clone(), &pod.namespace().unwrap_or_default());
    if fits(pod, &shared.labels, &shared.name) {
        bind(shared, &pods, pod).await;
    } else if !says_unfit(pod) {
        let condition = json!({
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": UNFIT, "lastTransitionTime": timestamp(shared.now()),
        });
        let patch = json!({
            "metadata": {"uid": pod.uid()}, "status": {"conditions": [condition]},
        });
        // If this write is lost, the next attempt repeats it.
        let written = pods
            .patch_status(
                &pod.name_any(),
                &PatchParams::default(),
                &Patch::Strategic(patch),
            )
            .await;
        if let Err(error) = written {
            tracing::debug!(pod = pod.name_any(), %error, "unschedulable, and not written");
        }
    }
}

async fn bind(shared: &Shared, pods: &Api<Pod>, pod: &Pod) {
    let name = pod.name_any();
    let binding = Binding {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            // Not for another pod that has since been created with the name.
            uid: pod.uid(),
            ..Default::default()
        },
        target: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(shared.name.clone()),
            ..Default::default()
        },
    };
    let bind = || async {
        pods.create_subresource::<_, Value>("binding", &name, &PostParams::default(), &binding)
            .await
    };
    while shared.insist("bind", bind).await.is_none() {
        // For this request, the API server also reports errors of etcd as conflicts. Therefore, a
        // rejection is final only if the pod no longer waits.
        let latest = shared.insist("get", || pods.get_opt(&name)).await.flatten();
        if !latest.is_some_and(|latest| latest.uid() == pod.uid() && is_waiting(&latest)) {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn says_unfit(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| {
        condition.type_ == "PodScheduled" && condition.message.as_deref() == Some(UNFIT)
    })
}

/// Evaluates node selector and required node affinity as the real scheduler does. Taints,
/// resources, and everything about other pods are ignored.
fn fits(pod: &Pod, labels: &BTreeMap<String, String>, node: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let selected = spec
        .node_selector
        .iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| {
            affinity
                .required_during_scheduling_ignored_during_execution
                .as_ref()
        });
    selected
        && required.is_none_or(|required| {
            let terms = &required.node_selector_terms;
            terms.iter().any(|term| term_matches(term, labels, node))
        })
}

fn term_matches(term: &NodeSelectorTerm, labels: &BTreeMap<String, String>, node: &str) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    // An empty term matches nothing.
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions
        .iter()
        .all(|wanted| matches(wanted, labels.get(&wanted.key).map(String::as_str)))
        && fields
            .iter()
            .all(|wanted| matches(wanted, (wanted.key == "metadata.name").then_some(node)))
}

fn matches(wanted: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = wanted.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|value| values.iter().any(|one| one == value));
    let numbers = || {
        let value: i64 = value?.parse().ok()?;
        let bound: i64 = values.first()?.parse().ok()?;
        Some((value, bound))
    };
    match wanted.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => numbers().is_some_and(|(value, bound)| value > bound),
        "Lt" => numbers().is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec}))
            .expect("the test wrote a valid pod")
    }

    fn affinity(term: Value) -> Value {
        json!({"containers": [], "affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]},
        }}})
    }

    #[test]
    fn selectors_and_affinity() {
        let labels = BTreeMap::from([("disk".to_owned(), "ssd".to_owned())]);
        let field = |operator: &str, name: &str| {
            affinity(json!({"matchFields": [
                {"key": "metadata.name", "operator": operator, "values": [name]},
            ]}))
        };
        for (spec, expected) in [
            (json!({"containers": []}), true),
            (
                json!({"containers": [], "nodeSelector": {"disk": "ssd"}}),
                true,
            ),
            (
                json!({"containers": [], "nodeSelector": {"disk": "tape"}}),
                false,
            ),
            (field("In", "here"), true),
            (field("In", "there"), false),
            (field("NotIn", "there"), true),
            (affinity(json!({})), false),
            (
                affinity(json!({"matchExpressions": [{"key": "disk", "operator": "Exists"}]})),
                true,
            ),
        ] {
            assert_eq!(
                fits(&pod(spec.clone()), &labels, "here"),
                expected,
                "{spec}"
            );
        }
    }

    #[test]
    fn gated_pods_are_not_scheduled() {
        assert!(is_waiting(&pod(json!({"containers": []}))));
        let gated = json!({"containers": [], "schedulingGates": [{"name": "x"}]});
        assert!(!is_waiting(&pod(gated)));
    }
}
