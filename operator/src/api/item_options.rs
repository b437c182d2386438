//! `spec.itemOptions`: what of single items is not as for the others.

use super::{duration, policy};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What of an item is not as for the others.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ItemOptions {
    /// How often this item must succeed, instead of the group's frequency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = duration(" && self.matches('[1-9]')", "frequency must be a duration longer than zero, such as 5m, 1h 30m or 2days"))]
    pub frequency: Option<String>,

    /// How long this item rests after a failure, instead of the group's failureCoolOff.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = duration("", "failureCoolOff must be a duration, such as 30s, 10m or 1h 30m"))]
    pub failure_cool_off: Option<String>,

    /// While true this item is not started.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub suspend: bool,

    /// Variables for every container of this item's pods, over those of the same name in the
    /// OaatType.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 20),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub env: Vec<Variable>,

    /// Settings of this item for the policy; what it understands is the policy's own business.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "policy::object")]
    pub settings: Option<Map<String, Value>>,
}

/// A variable of a container.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Variable {
    /// Its name.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = ("self != 'OAAT_ITEM' && self.matches('^[ -<>-~]+$')", "a variable of itemOptions has a name of ASCII characters without '=', such as LEVEL, and not OAAT_ITEM: that is the item's name in every container"))]
    pub name: String,
    /// Its value. `{{oaat_item}}` is replaced in it, as in the OaatType.
    #[serde(default)]
    #[schemars(length(max = 32768))]
    pub value: String,
}
