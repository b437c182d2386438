//! `spec.itemOptions`: options for individual items.

use super::{Schedule, duration, policy};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Options of an item that override those of the group.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(validation = super::frequency_or_schedule())]
#[serde(rename_all = "camelCase")]
pub struct ItemOptions {
    /// How often this item must succeed. Overrides the group's frequency and schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = duration(" && self.matches('[1-9]')", "frequency must be a duration longer than zero, such as 5m, 1h 30m, or 2days"))]
    pub frequency: Option<String>,

    /// When this item is due. Overrides the group's frequency and schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,

    /// The cool-off period of this item after a failure. Overrides the group's failureCoolOff.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = duration("", "failureCoolOff must be a duration, such as 30s, 10m, or 1h 30m"))]
    pub failure_cool_off: Option<String>,

    /// The number of failures in a row after which this item gives up. Overrides the group's
    /// maxFailures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000000))]
    pub max_failures: Option<i32>,

    /// How long a run of this item may take. Overrides the group's runTimeout. 0s means that only
    /// activeDeadlineSeconds of the OaatType applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = duration("", "runTimeout must be a duration, such as 6h, or 0s for no limit"))]
    pub run_timeout: Option<String>,

    /// Name of the OaatType, in the same namespace, that defines how this item runs. Overrides the
    /// group's oaatType.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = super::object_name("oaatType must be the name of an OaatType, such as backup: lowercase letters, digits, '-', and '.', with a letter or digit at both ends"))]
    pub oaat_type: Option<String>,

    /// Suspends this item: while true, it does not start.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub suspend: bool,

    /// Environment variables for every container of this item's pods. They override variables of
    /// the same name in the OaatType.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 20),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub env: Vec<Variable>,

    /// Settings of this item for the policy. The policy defines which settings it supports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "policy::object")]
    pub settings: Option<Map<String, Value>>,
}

/// An environment variable of a container.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Variable {
    /// Name of the variable.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = ("self != 'OAAT_ITEM' && self.matches('^[ -<>-~]+$')", "a variable of itemOptions must have a name of ASCII characters without '=', such as LEVEL; OAAT_ITEM is reserved for the item's name"))]
    pub name: String,
    /// Value of the variable. `{{oaat_item}}` is replaced with the item's name, as in the OaatType.
    #[serde(default)]
    #[schemars(length(max = 32768))]
    pub value: String,
}
