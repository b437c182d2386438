//! `OaatType`: how to run an item.

use crate::pod_schema;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Defines how to run the items of the groups that reference it.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "kawaja.net",
    version = "v1",
    kind = "OaatType",
    plural = "oaattypes",
    singular = "oaattype",
    shortname = "ot",
    category = "oaat",
    namespaced,
    status = "OaatTypeStatus",
    doc = "Defines how to run the items of the groups that reference it.",
    printcolumn = r#"{"name":"Valid","type":"string","jsonPath":".status.conditions[?(@.type==\"Valid\")].status"}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.conditions[?(@.type==\"Valid\")].message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[x_kube(validation = ("has(self.podspec)", "podspec is missing; set the pod to run, such as podspec: {container: {name: main, image: busybox, command: [\"true\"]}}"))]
#[serde(rename_all = "camelCase")]
pub struct OaatTypeSpec {
    /// How items run. The only supported value is `pod`.
    #[serde(rename = "type")]
    #[x_kube(validation = ("self == 'pod'", "type must be pod, which is the only supported value"))]
    #[schemars(length(max = 64))]
    pub type_: String,

    /// The pod of a run: a PodSpec with `containers`, or with a single `container`. In all values,
    /// {{oaat_item}} is replaced with the item's name. Every container also gets the name in the
    /// environment variable OAAT_ITEM. restartPolicy must be Never or omitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "pod_schema::pod_spec")]
    pub podspec: Option<serde_json::Map<String, serde_json::Value>>,

    /// Labels and annotations of the pods. In all values, {{oaat_item}} is replaced with the item's
    /// name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_metadata: Option<PodMetadata>,

    /// The containers that determine when a run ends, for pods with containers that never end by
    /// themselves, such as injected sidecars. When all of them have ended, their exit codes are the
    /// result, and the operator deletes the pod. Without this field, a run ends when all containers
    /// of its pod have ended, except for native sidecars.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 20),
        inner(length(min = 1, max = 63)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub completion_containers: Vec<String>,
}

/// Labels and annotations of pods. Those that the operator sets take precedence.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct PodMetadata {
    /// Labels of the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "pod_schema::labels")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "pod_schema::annotations")]
    pub annotations: BTreeMap<String, String>,
}

/// The observed state of an OaatType.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct OaatTypeStatus {
    /// The generation of the spec that the conditions describe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Valid`: whether the API server accepts pods of this type.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
