//! `spec.itemsFrom`: lists of items that are kept elsewhere, and `status.itemSources`: what they
//! last gave.

use super::{Timestamp, duration, policy};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A list of items that is kept elsewhere: in a ConfigMap, in what a container prints, or behind
/// a URL. Exactly one of the three.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("(has(self.configMap) ? 1 : 0) + (has(self.container) ? 1 : 0) + (has(self.http) ? 1 : 0) == 1", "an entry of itemsFrom has exactly one of configMap, container and http, such as configMap: {name: disks, key: items}"))]
pub struct ItemsFrom {
    /// How status and messages call this source. Its last good list goes by this name, so
    /// whatever else of it changes, that list stays in force until there is a new one.
    #[schemars(length(min = 1, max = 40))]
    #[x_kube(validation = ("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')", "the name of a source has lower-case letters, digits and dashes, such as disks"))]
    pub name: String,
    /// A key of a ConfigMap in the group's namespace. It is followed as it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ItemsKey>,
    /// What a container prints, which is run from time to time.
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
    #[x_kube(validation = super::object_name("configMap.name must be the name of a ConfigMap, such as disks: lower case letters, digits, '-' and '.', with a letter or digit at both ends"))]
    pub name: String,
    /// Key in its data: one item a line (blank lines, and those that begin with #, count for
    /// nothing), or a JSON or YAML list of texts. Default items.
    #[serde(default = "items")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = ("self.matches('^[-._a-zA-Z0-9]+$')", "configMap.key must be a key of a ConfigMap, such as items: letters, digits, '-', '_' and '.'"))]
    pub key: String,
}

fn items() -> String {
    "items".into()
}

/// A pod of its own that prints the list.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct ItemsContainer {
    /// The pod, as in an OaatType: a PodSpec that may have `container` instead of `containers`.
    /// What the first container prints is the list. The API server does not tell standard output
    /// and error apart, so with `2>/dev/null` it prints nothing else. What is wrong with the pod is
    /// told when it is first run.
    #[schemars(schema_with = "policy::object")]
    pub podspec: Map<String, Value>,
    /// How long after it was last run it is run again, such as 10m; at least 10s. Default 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = duration(" && self.matches('[1-9]')", "refresh must be a duration of at least 10s, such as 10m or 1h 30m"))]
    pub refresh: Option<String>,
    /// How long it may take, such as 1m, from the creation of its pod to its end; after that the pod is deleted.
    /// Default 5m.
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
    /// Its URL.
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = ("self.matches('^https?://[^/@]+(/.*)?$')", "url must be one of http or https without a password in it, such as https://lists.example.com/disks"))]
    pub url: String,
    /// How long after it was last asked it is asked again, such as 10m; at least 10s. Default 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = duration(" && self.matches('[1-9]')", "refresh must be a duration of at least 10s, such as 10m or 1h 30m"))]
    pub refresh: Option<String>,
    /// Timeout of the whole response, such as 10s; at most 1m. The pod has one more minute to start.
    /// Default 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = duration(" && self.matches('[1-9]')", "timeout must be a duration longer than zero, such as 10s"))]
    pub timeout: Option<String>,
    /// Path of the list in a JSON response, such as `$.items[*].name`. Supports members (`.name`,
    /// `['name']`), indexes (`[0]`, `[-1]`), and wildcards (`[*]`, `.*`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub json_path: Option<String>,
    /// Headers of the request. Everyone who can read the group can read them; use headersFrom for
    /// secret values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 20))]
    pub headers: BTreeMap<String, String>,
    /// Headers of the request whose values are in Secrets of the group's namespace. The operator
    /// does not read the Secrets; the pod receives the values as environment variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub headers_from: Vec<HeaderFrom>,
    /// Certificates in PEM that the server's is verified with, instead of the public ones.
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
    #[x_kube(validation = ("self.matches('^[-_.a-zA-Z0-9]+$')", "the name of a header has letters, digits, '-', '_' and '.', such as Authorization"))]
    pub name: String,
    /// Where its value is.
    pub value_from: HeaderSource,
}

/// Where the value of a header is.
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
    #[x_kube(validation = super::object_name("secretKeyRef.name must be the name of a Secret, such as lists: lower case letters, digits, '-' and '.', with a letter or digit at both ends"))]
    pub name: String,
    /// Key in its data. Whitespace around the value is ignored.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = ("self.matches('^[-._a-zA-Z0-9]+$')", "secretKeyRef.key must be a key of a Secret, such as token: letters, digits, '-', '_' and '.'"))]
    pub key: String,
}

/// What a source of items last gave.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ItemSource {
    /// Its name in spec.itemsFrom.
    pub name: String,
    /// Where its list comes from, in words.
    #[serde(default)]
    pub source: String,
    /// When the list in effect was read. For a ConfigMap, when its current value was first read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// When reading it last succeeded or failed. Not set for a ConfigMap, which is watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tried: Option<Timestamp>,
    /// Why that failed. The list before it stays in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// How many of its items are left out, because a group may have no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<i32>,
    /// The list in force.
    #[serde(default)]
    #[schemars(length(max = 2000), extend("x-kubernetes-list-type" = "atomic"))]
    pub items: Vec<String>,
    /// Hash of what spec.itemsFrom says of it; when that changes it is read anew.
    #[serde(default)]
    pub definition: String,
    /// Name of the pod that prints the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Uid of the last such pod of which the result is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
}
