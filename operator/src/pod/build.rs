//! Builds the pod of a run, as JSON. Fields that this release does not know must reach the API
//! server unchanged.

use crate::mutation::broken;
use crate::pod::names;
use oaat_api::{OaatTypeSpec, Variable};
use serde_json::{Map, Value, json};
use std::time::Duration;

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

/// The maximum bytes that an item and its variables may add to a pod. etcd rejects objects of 1.5
/// MiB.
const MAX_ADDED: usize = 1 << 20;
/// The message if they would add more.
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

/// The texts that are replaced with the name of the item.
const PLACEHOLDERS: [&str; 2] = ["{{oaat_item}}", "%%oaat_item%%"];
/// The variable with the item, which every container gets.
const ITEM_VARIABLE: &str = "OAAT_ITEM";

/// Inserts an item into a pod. The methods return `None` if that exceeds [`MAX_ADDED`].
struct Substitution<'a> {
    item: &'a str,
    /// The item for fields in which Kubernetes expands `$(NAME)`, and replaces `$$` with `$`.
    escaped: String,
    /// How many more bytes may be added to the pod.
    budget: usize,
}

impl<'a> Substitution<'a> {
    fn new(item: &'a str) -> Self {
        Self {
            item,
            escaped: item.replace('$', "$$"),
            budget: MAX_ADDED,
        }
    }

    /// Replaces the placeholders in all values of an object of the pod spec, at any depth. `path`
    /// is the path of the object, without the indexes of lists.
    fn replace_in_object<'v>(
        &mut self,
        object: &'v mut Map<String, Value>,
        path: &mut Vec<&'v str>,
    ) -> Option<()> {
        for (key, value) in object {
            path.push(key);
            self.replace_in(value, path)?;
            path.pop();
        }
        Some(())
    }

    fn replace_in<'v>(&mut self, value: &'v mut Value, path: &mut Vec<&'v str>) -> Option<()> {
        match value {
            Value::String(text) => self.replace(text, is_expanded(path)),
            Value::Array(list) => list
                .iter_mut()
                .try_for_each(|element| self.replace_in(element, path)),
            Value::Object(object) => self.replace_in_object(object, path),
            _ => Some(()),
        }
    }

    /// Replaces the placeholders in a text. `expanded` is whether Kubernetes expands `$(NAME)` in
    /// it.
    fn replace(&mut self, text: &mut String, expanded: bool) -> Option<()> {
        if !PLACEHOLDERS
            .iter()
            .any(|placeholder| text.contains(placeholder))
        {
            return Some(());
        }
        let item = if expanded {
            self.escaped.as_str()
        } else {
            self.item
        };
        let mut out = String::new();
        let mut rest = text.as_str();
        // In one pass: an item that looks like a placeholder is not replaced again.
        while let Some(at) = rest.find(['{', '%']) {
            let (before, candidate) = rest.split_at(at);
            out.push_str(before);
            let after = PLACEHOLDERS
                .iter()
                .find_map(|placeholder| candidate.strip_prefix(placeholder));
            rest = if let Some(after) = after {
                self.budget = self.budget.checked_sub(item.len())?;
                out.push_str(item);
                after
            } else {
                out.push_str(&candidate[..1]);
                &candidate[1..]
            };
        }
        out.push_str(rest);
        *text = out;
        Some(())
    }

    /// Sets an item's own variables and OAAT_ITEM in a container. A variable takes the place of one
    /// with the same name, so that others can still refer to it.
    fn set_variables(&mut self, container: &mut Value, variables: &[Variable]) -> Option<()> {
        let Some(container) = container.as_object_mut() else {
            return Some(());
        };
        let env = container.entry("env").or_insert_with(|| json!([]));
        let Value::Array(env) = env else {
            return Some(());
        };
        for variable in variables {
            let added = variable.name.len() + variable.value.len();
            self.budget = self.budget.checked_sub(added)?;
            let mut new = variable.clone();
            self.replace(&mut new.value, true)?;
            let new = json!(new);
            match env.iter_mut().find(|old| old["name"] == variable.name) {
                Some(old) => *old = new,
                None => env.push(new),
            }
        }
        env.retain(|variable| variable["name"] != ITEM_VARIABLE);
        // First, so that the user's variables may refer to it.
        let item = json!({ "name": ITEM_VARIABLE, "value": self.escaped });
        env.insert(0, item);
        Some(())
    }
}

/// Returns whether Kubernetes expands `$(NAME)` in a field of a pod spec.
fn is_expanded(path: &[&str]) -> bool {
    let ["containers" | "initContainers", field @ ..] = path else {
        return false;
    };
    matches!(
        field,
        ["command" | "args"]
            | ["env", "value"]
            | ["volumeMounts", "subPathExpr"]
            | [
                "livenessProbe" | "readinessProbe" | "startupProbe",
                "exec",
                "command"
            ]
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(podspec: Value) -> OaatTypeSpec {
        spec_with_metadata(podspec, json!({}))
    }

    fn spec_with_metadata(podspec: Value, metadata: Value) -> OaatTypeSpec {
        let spec = json!({ "type": "pod", "podspec": podspec, "podMetadata": metadata });
        serde_json::from_value(spec).unwrap()
    }

    fn params(item: &str) -> PodParams<'_> {
        PodParams {
            namespace: "ns",
            group: "g",
            group_uid: "uid",
            item,
            env: &[],
            run: 7,
            timeout: Duration::ZERO,
            nonce: "0123456789",
        }
    }

    fn built(podspec: Value, item: &str) -> Value {
        build(&spec(podspec), &params(item)).unwrap()
    }

    #[test]
    fn container_field_becomes_the_only_container() {
        let pod = built(
            json!({"container": {"name": "a", "image": "b"}, "newField": 1}),
            "i",
        );
        assert_eq!(pod["spec"]["containers"][0]["name"], "a");
        assert!(pod["spec"].get("container").is_none());
        assert_eq!(pod["spec"]["newField"], 1, "unknown fields pass through");
        assert_eq!(pod["spec"]["restartPolicy"], "Never");
        let policy = &pod["spec"]["containers"][0]["terminationMessagePolicy"];
        assert_eq!(policy, "FallbackToLogsOnError");
        assert_eq!(pod["metadata"]["labels"][names::RUN], "7");
        assert_eq!(pod["metadata"]["ownerReferences"][0]["uid"], "uid");
    }

    #[test]
    fn completion_containers_are_stored_on_the_pod() {
        let mut type_ =
            spec(json!({"containers": [{"name": "main-{{oaat_item}}"}, {"name": "x"}]}));
        let annotation = |type_: &OaatTypeSpec| {
            let pod = build(type_, &params("i")).unwrap();
            pod["metadata"]["annotations"][names::COMPLETION_CONTAINERS].clone()
        };
        assert_eq!(annotation(&type_), Value::Null);
        type_.completion_containers = vec!["main-{{oaat_item}}".into(), "x".into()];
        assert_eq!(annotation(&type_), "main-i,x");
    }

    #[test]
    fn item_variables_replace_those_of_the_type() {
        let podspec = json!({
            "initContainers": [{"name": "first"}],
            "container": {"name": "c", "env": [
                {"name": "LEVEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "PATHS", "value": "$(LEVEL)/x"},
            ]},
        });
        let variable = |name: &str, value: &str| Variable {
            name: name.into(),
            value: value.into(),
        };
        let own = [variable("LEVEL", "3"), variable("WHO", "{{oaat_item}}")];
        let pod = skeleton(&spec(podspec), "i", &own).unwrap();
        let level = json!({"name": "LEVEL", "value": "3"});
        let who = json!({"name": "WHO", "value": "i"});
        let item = json!({"name": "OAAT_ITEM", "value": "i"});
        let paths = json!({"name": "PATHS", "value": "$(LEVEL)/x"});
        assert_eq!(
            pod["spec"]["containers"][0]["env"],
            json!([item, level, paths, who])
        );
        assert_eq!(
            pod["spec"]["initContainers"][0]["env"],
            json!([item, level, who])
        );
    }

    #[test]
    fn placeholders_are_replaced_in_all_containers() {
        let container = json!({
            "name": "c",
            "command": ["x{{oaat_item}}y%%oaat_item%%z", "{{oaat_item}}"],
            "args": ["%%oaat_item%%%%oaat_item%%"],
            "env": [
                {"name": "A", "value": "-{{oaat_item}}-"},
                {"name": "B", "valueFrom": {"secretKeyRef": {"name": "{{oaat_item}}", "key": "k"}}},
            ],
            "image": "registry/{{oaat_item}}:%%oaat_item%%",
        });
        let pod = built(
            json!({"containers": [container.clone(), container.clone()], "initContainers": [container]}),
            "it em",
        );
        for path in [
            "/spec/containers/0",
            "/spec/containers/1",
            "/spec/initContainers/0",
        ] {
            let c = pod.pointer(path).cloned().unwrap_or_default();
            assert_eq!(c["command"], json!(["xit emyit emz", "it em"]), "{path}");
            assert_eq!(c["args"], json!(["it emit em"]));
            assert_eq!(c["env"][0], json!({"name": "OAAT_ITEM", "value": "it em"}));
            assert_eq!(c["env"][1]["value"], "-it em-");
            assert_eq!(c["env"][2]["valueFrom"]["secretKeyRef"]["name"], "it em");
            assert_eq!(c["image"], "registry/it em:it em");
        }
    }

    #[test]
    fn placeholders_are_replaced_in_every_value_of_the_podspec() {
        let podspec = json!({
            "container": {
                "name": "c",
                "volumeMounts": [{"name": "data", "subPath": "{{oaat_item}}/x"}],
                "lifecycle": {"preStop": {"exec": {"command": ["{{oaat_item}}"]}}},
            },
            "hostname": "%%oaat_item%%",
            "serviceAccountName": "{{oaat_item}}",
            "volumes": [{"name": "data", "secret": {"secretName": "key-{{oaat_item}}"}}],
            "nodeSelector": {"{{oaat_item}}": "{{oaat_item}}"},
            "newField": [[{"deep": "{{oaat_item}}"}], 1, null, true],
        });
        let pod = built(podspec, "a$b");
        for (path, expected) in [
            ("/containers/0/volumeMounts/0/subPath", "a$b/x"),
            ("/containers/0/lifecycle/preStop/exec/command/0", "a$b"),
            ("/hostname", "a$b"),
            ("/serviceAccountName", "a$b"),
            ("/volumes/0/secret/secretName", "key-a$b"),
            ("/nodeSelector/{{oaat_item}}", "a$b"),
            ("/newField/0/0/deep", "a$b"),
        ] {
            let value = pod["spec"].pointer(path);
            assert_eq!(value, Some(&json!(expected)), "{path}");
        }
        assert_eq!(pod["spec"]["newField"][1], 1);
    }

    /// `$(NAME)` in an item must not become the value of a variable.
    #[test]
    fn item_is_escaped_where_kubernetes_expands_variables() {
        let probe = json!({"exec": {"command": ["{{oaat_item}}"]}});
        let podspec = json!({"container": {
            "name": "c",
            "command": ["{{oaat_item}}"],
            "args": ["{{oaat_item}}"],
            "env": [{"name": "A", "value": "{{oaat_item}}"}],
            "volumeMounts": [{"name": "data", "subPathExpr": "{{oaat_item}}"}],
            "livenessProbe": probe, "readinessProbe": probe, "startupProbe": probe,
        }});
        let pod = built(podspec, "$(PATH)");
        for path in [
            "/command/0",
            "/args/0",
            "/env/0/value",
            "/env/1/value",
            "/volumeMounts/0/subPathExpr",
            "/livenessProbe/exec/command/0",
            "/readinessProbe/exec/command/0",
            "/startupProbe/exec/command/0",
        ] {
            let value = pod["spec"]["containers"][0].pointer(path);
            assert_eq!(value, Some(&json!("$$(PATH)")), "{path}");
        }
    }

    #[test]
    fn placeholders_are_replaced_in_labels_and_annotations() {
        let metadata = json!({
            "labels": {"app": "backup-{{oaat_item}}", names::ITEM: "{{oaat_item}}"},
            "annotations": {"note": "%%oaat_item%%, $"},
        });
        let pod = build(&spec_with_metadata(json!({}), metadata), &params("a b$")).unwrap();
        assert_eq!(pod["metadata"]["labels"]["app"], "backup-a b$");
        assert_eq!(pod["metadata"]["annotations"]["note"], "a b$, $");
        let label = &pod["metadata"]["labels"][names::ITEM];
        assert_eq!(label, &json!(names::item_label("a b$")));
    }

    #[test]
    fn dry_run_uses_the_item_named_item() {
        let metadata = json!({"labels": {"app": "{{oaat_item}}"}});
        let podspec = json!({"container": {"name": "c", "image": "{{oaat_item}}:1"}});
        let pod = dry_run_pod(&spec_with_metadata(podspec, metadata));
        assert_eq!(pod["metadata"]["labels"]["app"], "item");
        assert_eq!(pod["spec"]["containers"][0]["image"], "item:1");
    }

    #[test]
    fn pod_that_is_too_large_is_not_built() {
        let item = "ü".repeat(300);
        let long = json!({"container": {"name": "a", "args": ["{{oaat_item}}".repeat(100_000)]}});
        let many = json!({"containers": vec![json!({"name": "a"}); 100]});
        let large = Variable {
            name: "LARGE".into(),
            value: "x".repeat(32_768),
        };
        assert!(skeleton(&spec(long.clone()), &item, &[]).is_none());
        assert!(skeleton(&spec(long), "a", &[]).is_some());
        assert!(skeleton(&spec(many.clone()), &item, &[large]).is_none());
        assert!(skeleton(&spec(many), &item, &[]).is_some());
        // The limit applies to the sum of what is added to all fields.
        let half = "{{oaat_item}}".repeat(1000);
        let annotated = |podspec: Value| {
            let spec = spec_with_metadata(podspec, json!({"annotations": {"note": half}}));
            skeleton(&spec, &item, &[])
        };
        assert!(annotated(json!({})).is_some());
        assert!(annotated(json!({"hostname": half})).is_none());
    }

    #[test]
    fn item_is_neither_expanded_nor_replaced_twice() {
        let pod = built(
            json!({"container": {"name": "a", "args": ["{{oaat_item}}"]}}),
            "$(PATH) {{oaat_item}}",
        );
        let container = &pod["spec"]["containers"][0];
        assert_eq!(container["args"][0], "$$(PATH) {{oaat_item}}");
        assert_eq!(container["env"][0]["value"], "$$(PATH) {{oaat_item}}");
    }

    #[test]
    fn oaat_item_replaces_the_users_value_and_is_reported() {
        let podspec = json!({"container": {"name": "a", "env": [
            {"name": "X", "value": "1"}, {"name": "OAAT_ITEM", "value": "mine"}]}});
        assert_eq!(overridden_env(&spec(podspec.clone())), ["a"]);
        let pod = built(podspec, "i");
        let env = &pod["spec"]["containers"][0]["env"];
        assert_eq!(
            env,
            &json!([{"name": "OAAT_ITEM", "value": "i"}, {"name": "X", "value": "1"}])
        );
    }

    #[test]
    fn shorter_time_limit_applies() {
        let limited = |own: Value, timeout| {
            let mut spec = json!({ "activeDeadlineSeconds": own });
            limit_run_time(&mut spec, Duration::from_millis(timeout));
            spec["activeDeadlineSeconds"].clone()
        };
        for (own, timeout, expected) in [
            (Value::Null, 0, Value::Null),
            (json!(60), 0, json!(60)),
            (Value::Null, 1500, json!(2)),
            (json!(60), 90_000, json!(60)),
            (json!(60), 30_000, json!(30)),
            (Value::Null, 100 * 31_557_600_000, json!(i32::MAX)),
        ] {
            assert_eq!(limited(own, timeout), expected, "{timeout}");
        }
        let params = PodParams {
            timeout: Duration::from_secs(90),
            ..params("i")
        };
        let pod = build(&spec(json!({})), &params).unwrap();
        assert_eq!(pod["spec"]["activeDeadlineSeconds"], 90);
    }

    #[test]
    fn gate_is_added_to_those_of_the_user() {
        let pod = built(json!({"schedulingGates": [{"name": "mine"}]}), "i");
        assert_eq!(
            pod["spec"]["schedulingGates"],
            json!([{"name": "mine"}, {"name": names::GATE}])
        );
        let pod = built(
            json!({"schedulingGates": [{"name": "{{oaat_item}}"}]}),
            names::GATE,
        );
        assert_eq!(
            pod["spec"]["schedulingGates"],
            json!([{"name": names::GATE}])
        );
    }

    #[test]
    fn node_name_becomes_an_affinity_in_every_term() {
        let fields = "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
        let on_node = json!({"key": "metadata.name", "operator": "In", "values": ["n1"]});
        let pod = built(json!({"nodeName": "n1"}), "i");
        assert!(pod["spec"].get("nodeName").is_none());
        assert_eq!(
            pod["spec"].pointer(fields),
            Some(&json!([{"matchFields": [on_node]}]))
        );

        let pod = built(json!({"nodeName": "{{oaat_item}}"}), "n1");
        assert_eq!(
            pod["spec"].pointer(fields),
            Some(&json!([{"matchFields": [on_node]}]))
        );

        let terms = json!([{"matchExpressions": [1]}, {"matchFields": [2]}]);
        let affinity = json!({"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}});
        let pod = built(json!({"nodeName": "n1", "affinity": affinity}), "i");
        assert_eq!(
            pod["spec"].pointer(fields),
            Some(&json!([
                {"matchExpressions": [1], "matchFields": [on_node]},
                {"matchFields": [2, on_node]},
            ]))
        );
    }

    #[test]
    fn user_labels_do_not_replace_those_of_the_operator() {
        let metadata = json!({
            "labels": {names::GROUP: "x", "team": "a"},
            "annotations": {"note": "b"},
        });
        let spec = spec_with_metadata(json!({}), metadata);
        let pod = build(&spec, &params("i")).unwrap();
        assert_eq!(pod["metadata"]["labels"][names::GROUP], "g");
        assert_eq!(pod["metadata"]["labels"]["team"], "a");
        assert_eq!(pod["metadata"]["annotations"]["note"], "b");
    }
}
