//! `OaatType`: what "run an item" means.

use crate::api::crd;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Says what to run for an item of the groups that name it.
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
    doc = "Says what to run for an item of the groups that name it.",
    printcolumn = r#"{"name":"Valid","type":"string","jsonPath":".status.conditions[?(@.type==\"Valid\")].status"}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.conditions[?(@.type==\"Valid\")].message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[x_kube(validation = ("has(self.podspec)", "podspec is missing: say what to run, such as podspec: {container: {name: main, image: busybox, command: [\"true\"]}}"))]
#[serde(rename_all = "camelCase")]
pub struct OaatTypeSpec {
    /// How items are run. `pod` is the only way there is.
    #[serde(rename = "type")]
    #[x_kube(validation = ("self == 'pod'", "type must be pod, the only kind of run there is"))]
    #[schemars(length(max = 64))]
    pub type_: String,

    /// The pod of a run: a PodSpec with `containers`, or with the singular
    /// `container`. In commands, arguments and environment values {{oaat_item}}
    /// stands for the item's name; every container also gets it as OAAT_ITEM.
    /// restartPolicy is Never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crd::pod_spec")]
    pub podspec: Option<serde_json::Map<String, serde_json::Value>>,

    /// Labels and annotations that the pods get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_metadata: Option<PodMetadata>,
}

/// Labels and annotations for pods. The operator's own win over them.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct PodMetadata {
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crd::labels")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crd::annotations")]
    pub annotations: BTreeMap<String, String>,
}

/// What the operator found out about an OaatType.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct OaatTypeStatus {
    /// The generation that the conditions speak of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Valid`: whether the API server would accept a pod of this type.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
