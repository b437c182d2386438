//! The schemas of `podspec` and `podMetadata`.

use k8s_openapi::api::core::v1::{Container, PodSpec};
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

/// Returns the schema of `podspec`: a PodSpec that may have a single `container` instead of
/// `containers`.
///
/// Known fields are typed, for `kubectl explain` and for validation by the API server. Fields that
/// this release does not know are preserved; the API server validates them in a dry run.
/// Descriptions are omitted: with them, the CRD is too large for a client-side `kubectl apply`.
pub(crate) fn pod_spec(_: &mut SchemaGenerator) -> Schema {
    let mut pod = inlined_schema::<PodSpec>();
    if let Some(properties) = pod.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert(
            "container".into(),
            Value::Object(inlined_schema::<Container>()),
        );
        for list in ["containers", "initContainers"] {
            if let Some(Value::Object(schema)) = properties.get_mut(list) {
                schema.insert("maxItems".into(), json!(100));
            }
        }
    }
    // The rules below require one of `container` and `containers`.
    pod.remove("required");
    pod.insert(
        "x-kubernetes-validations".into(),
        json!([
            {
                "rule": "has(self.container) || (has(self.containers) && size(self.containers) > 0)",
                "message": "podspec needs a container, such as container: {name: main, image: busybox, command: [\"true\"]}"
            },
            {
                "rule": "!(has(self.container) && has(self.containers))",
                "message": "podspec must not have both container and containers; remove one of them"
            },
            {
                "rule": "!has(self.restartPolicy) || self.restartPolicy == 'Never'",
                "message": "restartPolicy must be Never or omitted, because the operator decides when an item runs again"
            }
        ]),
    );
    Schema::from(pod)
}

/// Returns the schema of `podMetadata.labels`: what the API server accepts as labels of a pod.
pub(crate) fn labels(_: &mut SchemaGenerator) -> Schema {
    // A letter, a digit, or a placeholder, whose value the API server checks for each pod.
    const ALPHANUMERIC: &str = "([A-Za-z0-9]|[{][{]oaat_item[}][}]|%%oaat_item%%)";
    let mut labels = qualified_name_map("a label", "a-z");
    labels.insert(
        "additionalProperties".into(),
        json!({
            "type": "string",
            "maxLength": 63,
            "x-kubernetes-validations": [{
                "rule": format!("self.matches('^(({ALPHANUMERIC}({ALPHANUMERIC}|[-_.])*)?{ALPHANUMERIC})?$')"),
                "message": "the value of a label must contain only letters, digits, '-', '_', '.', and {{oaat_item}}, with a letter or digit at both ends, such as nightly"
            }]
        }),
    );
    Schema::from(labels)
}

/// Returns the schema of `podMetadata.annotations`: what the API server accepts as annotations of a
/// pod.
pub(crate) fn annotations(_: &mut SchemaGenerator) -> Schema {
    let mut annotations = qualified_name_map("an annotation", "A-Za-z");
    annotations.insert("additionalProperties".into(), json!({ "type": "string" }));
    Schema::from(annotations)
}

/// Returns the schema of a map whose keys are qualified names: a name with an optional domain as a
/// prefix. `letters` may occur in the domain. The number of keys is limited only because of the
/// estimated cost of the rule.
fn qualified_name_map(of: &str, letters: &str) -> Map<String, Value> {
    let part = format!("[{letters}0-9]([-{letters}0-9]*[{letters}0-9])?");
    let domain = format!(r"{part}(\\.{part})*/");
    let name = "[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?";
    let mut map = Map::new();
    map.insert("type".into(), json!("object"));
    map.insert("maxProperties".into(), json!(100));
    map.insert(
        "x-kubernetes-validations".into(),
        json!([{
            "rule": format!("self.all(key, key.matches('^({domain})?{name}$'))"),
            "message": format!(
                "the key of {of} must be a name of up to 63 letters, digits, '-', '_', and '.', with an optional domain and '/' before it, such as team or example.com/team"
            )
        }]),
    );
    map
}

/// Returns the schema of a Kubernetes type with all references inlined, as a structural schema
/// requires.
fn inlined_schema<T: JsonSchema>() -> Map<String, Value> {
    let settings = SchemaSettings::openapi3().with(|s| {
        s.inline_subschemas = true;
        s.meta_schema = None;
    });
    let mut schema = settings
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value();
    make_structural(&mut schema);
    match schema {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Makes a generated schema structural and small, and lets its objects preserve unknown fields.
fn make_structural(schema: &mut Value) {
    let Value::Object(map) = schema else {
        if let Value::Array(schemas) = schema {
            schemas.iter_mut().for_each(make_structural);
        }
        return;
    };
    for keyword in [
        "description",
        "title",
        "nullable",
        "default",
        "$schema",
        "components",
    ] {
        // A property may have one of these names. Its schema is an object; a keyword's value is not.
        if map
            .get(keyword)
            .is_some_and(|v| !v.is_object() || keyword == "components")
        {
            map.remove(keyword);
        }
    }
    if map.get("type").is_some_and(|t| t == "object") && map.contains_key("properties") {
        map.insert("x-kubernetes-preserve-unknown-fields".into(), json!(true));
    }
    map.values_mut().for_each(make_structural);
}
