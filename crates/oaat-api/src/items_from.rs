//! `spec.itemsFrom`: sources of items. `status.itemSources`: their latest results.

use super::{Timestamp, duration, policy};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A source of items: a ConfigMap, the output of a container, or a URL. Exactly one of configMap,
/// container, and http must be set.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("(has(self.configMap) ? 1 : 0) + (has(self.container) ? 1 : 0) + (has(self.http) ? 1 : 0) == 1", "an entry of itemsFrom must have exactly one of configMap, container, and http, such as configMap: {name: disks, key: items}"))]
pub struct ItemsFrom {
    /// Name of the source in the status and in messages. The last good list is stored under this
    /// name. It stays in effect until a newer one is read, even if other fields change.
    #[schemars(length(min = 1, max = 40))]
    #[x_kube(validation = ("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')", "the name of a source must contain only lowercase letters, digits, and '-', with a letter or digit at both ends, such as disks"))]
    pub name: String,
    /// A key of a ConfigMap in the group's namespace. The operator watches the ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ItemsKey>,
    /// The output of a container, which runs periodically.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ItemsContainer>,
    /// The response of a web server, which a pod fetches periodically.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<ItemsHttp>,
}

/// A key of a ConfigMap in the group's namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct ItemsKey {
    /// Name of the ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = super::object_name("configMap.name must be the name of a ConfigMap, such as disks: lowercase letters, digits, '-', and '.', with a letter or digit at both ends"))]
    pub name: String,
    /// Key in the `data` of the ConfigMap. The value has one item per line, or is a JSON or YAML
    /// list of strings. Blank lines and lines that begin with # are ignored. Defaults to items.
    #[serde(default = "default_key")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = ("self.matches('^[-._a-zA-Z0-9]+$')", "configMap.key must be a key of a ConfigMap, such as items: letters, digits, '-', '_', and '.'"))]
    pub key: String,
}

fn default_key() -> String {
    "items".into()
}

/// A pod that prints the list.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct ItemsContainer {
    /// The pod, as in an OaatType: a PodSpec that may have `container` instead of `containers`.
    /// The output of the first container is the list. It includes standard error, which the API
    /// server does not separate; discard that with `2>/dev/null`. The API server
    /// validates the pod when the operator first creates it.
    #[schemars(schema_with = "policy::object")]
    pub podspec: Map<String, Value>,
    /// The time between two reads, such as 10m. The minimum is 10s. Defaults to 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = duration(" && self.matches('[1-9]')", "refresh must be a duration of at least 10s, such as 10m or 1h 30m"))]
    pub refresh: Option<String>,
    /// The maximum time from the creation of the pod to its end, such as 1m. After that, the
    /// operator deletes the pod. Defaults to 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = duration(" && self.matches('[1-9]')", "timeout must be a duration longer than zero, such as 30s or 5m"))]
    pub timeout: Option<String>,
}

/// A web server that provides the list. A pod in the group's namespace that runs the operator's
/// image fetches it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ItemsHttp {
    /// The URL of the list.
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = ("self.matches('^https?://[^/@]+(/.*)?$')", "url must be an http or https URL without a password, such as https://lists.example.com/disks"))]
    pub url: String,
    /// The time from one request to the next, such as 10m. The minimum is 10s. Defaults to 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = duration(" && self.matches('[1-9]')", "refresh must be a duration of at least 10s, such as 10m or 1h 30m"))]
    pub refresh: Option<String>,
    /// The timeout of the whole response, such as 10s. The maximum is 1m. The pod gets one
    /// additional minute to start. Defaults to 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = duration(" && self.matches('[1-9]')", "timeout must be a duration longer than zero, such as 10s"))]
    pub timeout: Option<String>,
    /// Path of the list in a JSON response, such as `$.items[*].name`. Supports members (`.name`,
    /// `['name']`), indexes (`[0]`, `[-1]`), and wildcards (`[*]`, `.*`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub json_path: Option<String>,
    /// Headers of the request. Anyone who can read the group can read them. Use headersFrom for
    /// secret values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 20))]
    pub headers: BTreeMap<String, String>,
    /// Headers of the request whose values are in Secrets of the group's namespace. The operator
    /// does not read the Secrets; the pod receives the values as environment variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub headers_from: Vec<HeaderFrom>,
    /// CA certificates in PEM format. If set, they replace the public CAs for verifying the
    /// server's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    pub ca_bundle: Option<String>,
}

/// A header whose value is in a Secret.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HeaderFrom {
    /// Name of the header, such as Authorization.
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = ("self.matches('^[-_.a-zA-Z0-9]+$')", "the name of a header must contain only letters, digits, '-', '_', and '.', such as Authorization"))]
    pub name: String,
    /// The source of its value.
    pub value_from: HeaderSource,
}

/// The source of a header's value.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HeaderSource {
    /// A key of a Secret in the group's namespace.
    pub secret_key_ref: SecretKeyRef,
}

/// A key of a Secret in the group's namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = super::object_name("secretKeyRef.name must be the name of a Secret, such as lists: lowercase letters, digits, '-', and '.', with a letter or digit at both ends"))]
    pub name: String,
    /// Key in the `data` of the Secret. Whitespace around the value is ignored.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = ("self.matches('^[-._a-zA-Z0-9]+$')", "secretKeyRef.key must be a key of a Secret, such as token: letters, digits, '-', '_', and '.'"))]
    pub key: String,
}

/// The latest result of a source of items.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ItemSource {
    /// The name of the source in spec.itemsFrom.
    pub name: String,
    /// A human-readable description of the source.
    #[serde(default)]
    pub source: String,
    /// When the operator read the list in effect. For a ConfigMap, when it first read the current
    /// value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// When reading the list last succeeded or failed. Not set for a ConfigMap, which is watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tried: Option<Timestamp>,
    /// Why the latest read failed. The last good list stays in effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The number of items that are left out because the group has the maximum number of items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<i32>,
    /// The list in effect.
    #[serde(default)]
    #[schemars(length(max = 2000), extend("x-kubernetes-list-type" = "atomic"))]
    pub items: Vec<String>,
    /// A hash of the source's entry in spec.itemsFrom. If it changes, the operator reads the list
    /// again.
    #[serde(default)]
    pub definition: String,
    /// The name of the pod that prints the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The UID of the latest such pod whose result is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
}
