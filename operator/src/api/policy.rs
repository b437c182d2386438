//! `spec.policy`: which policy decides for a group, and `status.policy`: which one did.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Another policy than the built-in one.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PolicySpec {
    /// Where its component is.
    pub config_map: PolicyKey,

    /// sha256 of the component (uncompressed): 64 hex digits. With it no other component ever
    /// decides for this group. `oaat-operator policy check` prints it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = (r"self.matches('^(sha256:)?[0-9a-fA-F]{64}$')", "sha256 must be 64 hex digits, as sha256sum and `oaat-operator policy check` print them"))]
    #[schemars(length(max = 71))]
    pub sha256: Option<String>,

    /// Settings for the policy; what it understands is the policy's own business.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "object")]
    pub settings: Option<Map<String, Value>>,

    /// What to do while the policy gives no decision and no earlier one is at hand: Hold
    /// (start nothing, the default) or UseDefault (let the built-in policy decide).
    #[serde(default)]
    pub on_error: OnError,
}

/// A key of a ConfigMap in the group's namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct PolicyKey {
    /// Name of the ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = super::object_name("configMap.name must be the name of a ConfigMap, such as backoff: lower case letters, digits, '-' and '.', with a letter or digit at both ends"))]
    pub name: String,
    /// Key in its binaryData: a component as .wasm, or gzip of it. Default policy.wasm.
    #[serde(default = "policy_wasm")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = ("self.matches('^[-._a-zA-Z0-9]+$')", "configMap.key must be a key of a ConfigMap, such as policy.wasm: letters, digits, '-', '_' and '.'"))]
    pub key: String,
}

fn policy_wasm() -> String {
    "policy.wasm".into()
}

/// What to do while a policy gives no decision.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// Start nothing.
    #[default]
    Hold,
    /// Let the built-in policy decide.
    UseDefault,
}

/// Any JSON object.
pub(super) fn object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// The policy that decided last.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct PolicyInUse {
    /// Where it comes from: `default`, the one built into the operator, or a ConfigMap's key.
    pub source: String,
    /// sha256 of its component.
    pub digest: String,
    /// Version of the contract it speaks.
    pub contract: String,
    /// sha256 of the group's own policy, which decided before and is not at hand any more, where
    /// the built-in one stands in for it.
    #[serde(default, rename = "insteadOf", skip_serializing_if = "Option::is_none")]
    pub instead_of: Option<String>,
}

/// A component that the operator rejected. It is compiled again only if the value in the ConfigMap
/// or the operator's version changes, so a restart does not repeat the failure.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct RejectedPolicy {
    /// sha256 of the value in the ConfigMap, in lower-case hex.
    pub sha256: String,
    /// The reason, as in the condition PolicyReady.
    pub reason: String,
    /// The message, as in the condition PolicyReady.
    pub message: String,
    /// Version of the operator that rejected it.
    pub operator: String,
}
