//! Builds the pod of a run, as JSON. Fields that this release does not know must reach the API
//! server unchanged.

mod substitution;
#[cfg(test)]
mod tests;

use crate::mutation::broken;
use crate::pod::names;
use oaat_api::{OaatTypeSpec, Variable};
use serde_json::{Map, Value, json};
use std::time::Duration;
use substitution::{ITEM_VARIABLE, Substitution};

/// The run that a pod is built for.
pub struct PodParams<'a> {
    /// The namespace of the group.
    pub namespace: &'a str,
    /// The name of the group.
    pub group: &'a str,
    /// The uid of the group.
    pub group_uid: &'a str,
    /// The unchanged name of the item.
    pub item: &'a str,
    /// The variables in `spec.itemOptions` of the item.
    pub env: &'a [Variable],
    /// The number of the run.
    pub run: i64,
    /// How long the run may take; zero means unlimited.
    pub timeout: Duration,
    /// Ten random characters of a to z and 0 to 9.
    pub nonce: &'a str,
}

/// The message if the pod would be too large.
pub const TOO_LARGE: &str = "the pod is larger than 1 MiB with the item and its variables filled in; use fewer placeholders \
     in the OaatType, or smaller itemOptions.env";

/// Returns the gated candidate for a run; `None` if it would be [`TOO_LARGE`].
pub fn build(spec: &OaatTypeSpec, params: &PodParams<'_>) -> Option<Value> {
    let mut pod = skeleton(spec, params.item, params.env)?;
    let metadata = &mut pod["metadata"];
    metadata["namespace"] = json!(params.namespace);
    metadata["name"] = json!(names::pod_name(params.group, params.item, params.nonce));
    metadata["labels"][names::GROUP] = json!(names::group_label(params.group));
    metadata["labels"][names::RUN] = json!(params.run.to_string());
    metadata["annotations"][names::GROUP] = json!(params.group);
    metadata["ownerReferences"] = names::owner(params.group, params.group_uid);
    limit_run_time(&mut pod["spec"], params.timeout);
    Some(pod)
}

/// Returns a pod for a dry run, which shows whether the API server accepts this type.
pub fn dry_run_pod(spec: &OaatTypeSpec) -> Value {
    let mut pod = skeleton(spec, "item", &[]).unwrap_or_default();
    // The name is always the same. The API server's message contains it and goes into the type's
    // status, so it must not change between dry runs.
    pod["metadata"]["name"] = json!("oaat-trial");
    pod
}

/// Returns the parts of a pod that do not depend on the group and the run; `None` if it would be
/// [`TOO_LARGE`].
fn skeleton(spec: &OaatTypeSpec, item: &str, env: &[Variable]) -> Option<Value> {
    let mut substitution = Substitution::new(item);
    let user = spec.pod_metadata.clone().unwrap_or_default();
    let (mut labels, mut annotations) = (user.labels, user.annotations);
    for text in labels.values_mut().chain(annotations.values_mut()) {
        substitution.replace(text, false)?;
    }
    labels.insert(names::MANAGED_BY.into(), names::OPERATOR.into());
    labels.insert(names::ITEM.into(), names::item_label(item));
    annotations.insert(names::ITEM.into(), item.into());
    // The pod keeps the names, because the type may change while it runs.
    let mut completion_containers = spec.completion_containers.clone();
    for name in &mut completion_containers {
        substitution.replace(name, false)?;
    }
    if !completion_containers.is_empty() {
        let names = completion_containers.join(",");
        annotations.insert(names::COMPLETION_CONTAINERS.into(), names);
    }

    // The user's fields are complete before the operator's are added. The name of a gate or of the
    // node may contain a placeholder.
    let mut pod_spec = normalized_pod_spec(spec);
    substitution.replace_in_object(&mut pod_spec, &mut Vec::new())?;
    for list in ["initContainers", "containers"] {
        for container in elements(&mut pod_spec, list) {
            substitution.set_variables(container, env)?;
        }
    }
    if !broken!(NoGate) {
        add_gate(&mut pod_spec);
    }
    pin_to_node(&mut pod_spec);
    Some(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "labels": labels, "annotations": annotations },
        "spec": pod_spec,
    }))
}

/// Returns the pod spec of a type in the form that Kubernetes defines: with `containers`, and with
/// the fields that are the same for all pods.
pub fn normalized_pod_spec(spec: &OaatTypeSpec) -> Map<String, Value> {
    let mut pod_spec = spec.podspec.clone().unwrap_or_default();
    if let Some(container) = pod_spec.remove("container") {
        pod_spec.insert("containers".into(), json!([container]));
    }
    pod_spec.insert("restartPolicy".into(), json!("Never"));
    for list in ["initContainers", "containers"] {
        elements(&mut pod_spec, list).for_each(default_termination_message_policy);
    }
    pod_spec
}

/// The message if the API server removed the gate of a new pod.
pub const GATE_REMOVED: &str = "the API server accepted the pod without its scheduling gate; mutating webhooks must not change \
     spec.schedulingGates";

/// Limits the time of a run, unless the type's own limit is shorter.
fn limit_run_time(spec: &mut Value, timeout: Duration) {
    if timeout.is_zero() {
        return;
    }
    // Kubernetes accepts whole seconds, up to the maximum of an i32.
    let seconds = timeout.as_secs() + u64::from(timeout.subsec_nanos() > 0);
    let seconds = seconds.min(i32::MAX as u64);
    let deadline = &mut spec["activeDeadlineSeconds"];
    let own = deadline.as_u64().unwrap_or(u64::MAX);
    *deadline = json!(own.min(seconds));
}

/// Adds the operator's gate to those of the user.
fn add_gate(spec: &mut Map<String, Value>) {
    let gates = spec.entry("schedulingGates").or_insert_with(|| json!([]));
    if let Value::Array(gates) = gates {
        gates.retain(|gate| gate["name"] != names::GATE);
        gates.push(json!({ "name": names::GATE }));
    }
}

/// Replaces `nodeName` with an equivalent node affinity. The API server rejects gates on a pod with
/// `nodeName`, and with an affinity the scheduler binds the pod.
fn pin_to_node(spec: &mut Map<String, Value>) {
    let Some(Value::String(node)) = spec.remove("nodeName") else {
        return;
    };
    let on_node = json!({ "key": "metadata.name", "operator": "In", "values": [node] });
    let affinity = spec.entry("affinity").or_insert_with(|| json!({}));
    let required = &mut affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    // Terms are alternatives, so each of them must require the node.
    match required["nodeSelectorTerms"].as_array_mut() {
        Some(terms) if !terms.is_empty() => {
            for term in terms {
                match term["matchFields"].as_array_mut() {
                    Some(fields) => fields.push(on_node.clone()),
                    None => term["matchFields"] = json!([on_node]),
                }
            }
        }
        _ => required["nodeSelectorTerms"] = json!([{ "matchFields": [on_node] }]),
    }
}

/// Returns the elements of an array in an object; none if it is not an array.
fn elements<'a>(
    spec: &'a mut Map<String, Value>,
    key: &str,
) -> impl Iterator<Item = &'a mut Value> {
    spec.get_mut(key)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}

/// Sets `terminationMessagePolicy: FallbackToLogsOnError` unless the user set a policy. With the
/// default of Kubernetes, a failed run shows only an exit code.
fn default_termination_message_policy(container: &mut Value) {
    if let Some(container) = container.as_object_mut() {
        let policy = container.entry("terminationMessagePolicy");
        policy.or_insert_with(|| json!("FallbackToLogsOnError"));
    }
}

/// Returns the names of the containers that set OAAT_ITEM. The operator replaces their value, and
/// reports that.
pub fn overridden_env(spec: &OaatTypeSpec) -> Vec<String> {
    let Some(pod) = &spec.podspec else {
        return Vec::new();
    };
    let lists = ["initContainers", "containers"]
        .into_iter()
        .filter_map(|list| pod.get(list).and_then(Value::as_array))
        .flatten();
    lists
        .chain(pod.get("container"))
        .filter(|container| {
            let env = container["env"].as_array();
            env.is_some_and(|env| env.iter().any(|v| v["name"] == ITEM_VARIABLE))
        })
        .map(|container| container["name"].as_str().unwrap_or_default().to_owned())
        .collect()
}
