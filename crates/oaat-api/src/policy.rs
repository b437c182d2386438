//! `spec.policy`: the selection policy of a group. `status.policy`: the policy that made the latest
//! decision.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;

/// A selection policy that replaces the default one.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = one_source())]
#[x_kube(validation = pinned_config_map())]
pub struct PolicySpec {
    /// The key of a ConfigMap that contains the policy's component. Mutually exclusive with
    /// builtIn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<PolicyKey>,

    /// A policy that is part of the operator. Mutually exclusive with configMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built_in: Option<BuiltInPolicy>,

    /// The sha256 of the uncompressed component in the ConfigMap, as 64 hexadecimal digits. If set,
    /// a component with another digest is never used. `kubectl-oaat policy check` prints it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = sha256_digits())]
    #[schemars(length(max = 71))]
    pub sha256: Option<String>,

    /// Settings for the policy. The policy defines which settings it supports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "object")]
    pub settings: Option<Map<String, Value>>,

    /// What to do if the policy cannot be loaded and no earlier version is available, or if its
    /// evaluation fails. Hold (the default) starts no item. UseDefault lets the built-in policy
    /// `default` decide.
    #[serde(default)]
    pub on_error: OnError,

    /// A second policy that gets the same requests as the group's policy but never decides. The
    /// condition ShadowAgrees shows how its answers differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowPolicy>,
}

/// A policy whose answers are compared with those of the group's policy.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = one_source())]
#[x_kube(validation = pinned_config_map())]
pub struct ShadowPolicy {
    /// The key of a ConfigMap that contains the policy's component. Mutually exclusive with
    /// builtIn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<PolicyKey>,

    /// A policy that is part of the operator. Mutually exclusive with configMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built_in: Option<BuiltInPolicy>,

    /// The sha256 of the uncompressed component in the ConfigMap, as 64 hexadecimal digits. If set,
    /// a component with another digest is never evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = sha256_digits())]
    #[schemars(length(max = 71))]
    pub sha256: Option<String>,

    /// Settings for the policy, instead of those of the group's policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "object")]
    pub settings: Option<Map<String, Value>>,
}

fn one_source() -> (&'static str, &'static str) {
    (
        "has(self.configMap) != has(self.builtIn)",
        "a policy must have exactly one of configMap and builtIn, such as builtIn: backoff or configMap: {name: my-policy}; a merge patch that sets one must set the other to null",
    )
}

fn pinned_config_map() -> (&'static str, &'static str) {
    (
        "!has(self.sha256) || !has(self.builtIn)",
        "sha256 is only for a policy in a configMap; remove it, because a built-in policy is part of the operator",
    )
}

fn sha256_digits() -> (&'static str, &'static str) {
    (
        "self.matches('^(sha256:)?[0-9a-fA-F]{64}$')",
        "sha256 must be 64 hex digits, as sha256sum and `kubectl-oaat policy check` print them",
    )
}

/// A policy that is part of the operator.
#[derive(
    JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord,
)]
#[serde(rename_all = "lowercase")]
pub enum BuiltInPolicy {
    /// The documented algorithm, which decides for groups without a policy.
    Default,
    /// Waits longer after each consecutive failure.
    Backoff,
    /// Shares the time by weight.
    Fair,
    /// Evaluates expressions in the settings.
    Expression,
}

impl BuiltInPolicy {
    /// All built-in policies.
    pub const ALL: [Self; 4] = [Self::Default, Self::Backoff, Self::Fair, Self::Expression];

    /// Returns the name in `spec.policy.builtIn` and in `status.policy.source`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Backoff => "backoff",
            Self::Fair => "fair",
            Self::Expression => "expression",
        }
    }

    /// Returns the policy with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.name() == name)
    }
}

impl fmt::Display for BuiltInPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A key of a ConfigMap in the group's namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct PolicyKey {
    /// Name of the ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = super::object_name("configMap.name must be the name of a ConfigMap, such as backoff: lowercase letters, digits, '-', and '.', with a letter or digit at both ends"))]
    pub name: String,
    /// Key in the `binaryData` of the ConfigMap. The value is a WebAssembly component, plain or
    /// compressed with gzip. Defaults to policy.wasm.
    #[serde(default = "default_key")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = ("self.matches('^[-._a-zA-Z0-9]+$')", "configMap.key must be a key of a ConfigMap, such as policy.wasm: letters, digits, '-', '_', and '.'"))]
    pub key: String,
}

fn default_key() -> String {
    "policy.wasm".into()
}

/// Formats the source of a policy, as in `status.policy.source`.
impl fmt::Display for PolicyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConfigMap {}, key {}", self.name, self.key)
    }
}

/// What to do while a policy makes no decision.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// Start no item.
    #[default]
    Hold,
    /// Let the built-in policy `default` decide.
    UseDefault,
}

/// The schema of any JSON object.
pub(super) fn object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// The policy that made the latest decision.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct PolicyInUse {
    /// Where the policy comes from: the name of a built-in policy, such as `default`, or a key of a
    /// ConfigMap.
    pub source: String,
    /// The sha256 of its component.
    pub digest: String,
    /// The contract version that it implements.
    pub contract: String,
    /// The sha256 of the group's own policy, if that policy is no longer available and the built-in
    /// policy `default` decides instead.
    #[serde(default, rename = "insteadOf", skip_serializing_if = "Option::is_none")]
    pub instead_of: Option<String>,
}

/// Settings that are in effect although the group's spec has others.
// As objects, they would lose nulls in a merge patch.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct AcceptedSettings {
    /// The source of the policy that accepted them, as in status.policy.
    #[schemars(length(max = AcceptedSettings::MAX_SOURCE))]
    pub source: String,
    /// The sha256 of that policy's component.
    #[schemars(length(max = 64))]
    pub digest: String,
    /// The settings of the group, as a serialized JSON object.
    #[schemars(length(max = 32768))]
    pub settings: String,
    /// The settings of each item by name, as serialized JSON objects.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 2000))]
    pub items: BTreeMap<String, String>,
}

impl AcceptedSettings {
    /// The maximum size in bytes that is kept in a status. See [`crate::text`] for the size of a
    /// status.
    pub const MAX_SIZE: usize = 32 * 1024;
    /// The maximum length of the source: that of the longest name and key of a ConfigMap.
    pub const MAX_SOURCE: usize = "ConfigMap , key ".len() + 253 + 253;

    /// Returns the size in bytes, as JSON.
    pub fn size(&self) -> usize {
        serde_json::to_vec(self).map_or(usize::MAX, |json| json.len())
    }
}

/// A component that the operator rejected. It is compiled again only if the value in the ConfigMap
/// or the operator's version changes, so a restart does not repeat the failure.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct RejectedPolicy {
    /// The sha256 of the value in the ConfigMap, in lowercase hexadecimal.
    pub sha256: String,
    /// The reason, as in the PolicyReady condition.
    pub reason: String,
    /// The message, as in the PolicyReady condition.
    pub message: String,
    /// The version of the operator that rejected it.
    pub operator: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_settings_have_room_for_the_longest_source() {
        let longest = PolicyKey {
            name: "a".repeat(253),
            key: "b".repeat(253),
        };
        assert_eq!(longest.to_string().len(), AcceptedSettings::MAX_SOURCE);
        let schema = schemars::schema_for!(AcceptedSettings);
        let max = |field: &str| {
            let pointer = format!("/properties/{field}/maxLength");
            schema.pointer(&pointer).and_then(serde_json::Value::as_u64)
        };
        assert_eq!(max("source"), Some(522));
        assert_eq!(max("digest"), Some(64));
    }
}
