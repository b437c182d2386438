//! `OaatGroup`: the items, how often each must succeed, and what came of it.

use super::{
    BlackoutWindow, ItemOptions, ItemSource, ItemsFrom, PolicyInUse, PolicySpec, RejectedPolicy,
    Timestamp, duration,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// Lists items of which one runs at a time.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "kawaja.net",
    version = "v1",
    kind = "OaatGroup",
    plural = "oaatgroups",
    singular = "oaatgroup",
    shortname = "og",
    category = "oaat",
    namespaced,
    status = "OaatGroupStatus",
    doc = "Lists items of which one runs at a time.",
    printcolumn = r#"{"name":"LastRun","type":"date","jsonPath":".status.lastRun"}"#,
    printcolumn = r#"{"name":"State","type":"string","jsonPath":".status.state"}"#,
    printcolumn = r#"{"name":"CurrentlyRunning","type":"string","jsonPath":".status.currentlyRunning"}"#,
    printcolumn = r#"{"name":"Next","type":"string","jsonPath":".status.next"}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Pod","type":"string","jsonPath":".status.pod","priority":1}"#
)]
#[serde(rename_all = "camelCase")]
pub struct OaatGroupSpec {
    /// Name of the OaatType, in the same namespace, that says how an item is run.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = super::object_name("oaatType must be the name of an OaatType, such as backup: lower case letters, digits, '-' and '.', with a letter or digit at both ends"))]
    pub oaat_type: String,

    /// The items: names of 1 to 300 characters, each once, at most 2,000. Any text
    /// without control characters will do, a path for instance.
    #[serde(default)]
    #[x_kube(validation = ("self.map(item, size(item)).sum() <= 120000", "oaatItems is too long: all names together may have at most 120000 characters, so that the status has room for each of them; use shorter names, or several groups"))]
    #[x_kube(validation = (r"self.all(item, !item.matches(r'[\x00-\x1f\x7f]'))", "an item of oaatItems has a control character in it (a line break or a tab, say); names are one line of plain text"))]
    #[schemars(
        length(max = 2000),
        inner(length(min = 1, max = 300)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub oaat_items: Vec<String>,

    /// More items, from lists that are kept elsewhere: they come after oaatItems, in the order of
    /// these sources. A name that is there twice counts once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 10),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub items_from: Vec<ItemsFrom>,

    /// While true nothing new is started. What runs is left to run.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub suspend: bool,

    /// Windows of time in which nothing is started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), extend("x-kubernetes-list-type" = "atomic"))]
    pub blackout_windows: Vec<BlackoutWindow>,

    /// Each item is run until it has succeeded once, and then the group is complete. How often
    /// (frequency) counts for nothing then.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub each_once: bool,

    /// How often each item must succeed, such as 5m, 1h 30m or 2days. Default 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = duration(" && self.matches('[1-9]')", "frequency must be a duration longer than zero, such as 5m, 1h 30m or 2days"))]
    pub frequency: Option<String>,

    /// How long an item rests after a failure, such as 10m. Default: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = duration("", "failureCoolOff must be a duration, such as 30s, 10m or 1h 30m"))]
    pub failure_cool_off: Option<String>,

    /// A pod of which no container has started after this time is deleted, and the
    /// run has failed. Default 15m; 0s: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = duration("", "startTimeout must be a duration, such as 15m, or 0s for never"))]
    pub start_timeout: Option<String>,

    /// How long a finished pod is kept, for its log. Default 12h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = duration("", "podRetention must be a duration, such as 12h or 2days, or 0s to keep none"))]
    pub pod_retention: Option<String>,

    /// How many finished pods are kept, newest first. Default 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10000))]
    pub pod_history_limit: Option<i32>,

    /// Of the first implementation of these kinds, and not heeded: see blackoutWindows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), schema_with = "anything")]
    pub windows: Vec<Value>,

    /// Another selection policy than the built-in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicySpec>,

    /// What of single items is not as for the others, by the item's name. Names that are in no
    /// list of items count for nothing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 2000))]
    pub item_options: BTreeMap<String, ItemOptions>,
}

/// A list of whatever.
fn anything(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "items": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
    })
}

/// What the operator knows of a group. Everything here is written by it alone.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct OaatGroupStatus {
    /// The generation of the spec that the rest speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Running, Idle, Waiting, Blackout, Suspended, Complete, Invalid or Blocked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// What goes on, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The item that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currently_running: Option<String>,
    /// The pod of the item that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// When a run last started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<Timestamp>,
    /// When the next item is due, where nothing runs and that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// `Ready`, `PolicyReady`, `Running`, with itemsFrom `ItemsReady`, and with eachOnce `Complete`.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Number of the latest run. Only grows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<i64>,
    /// The run in progress. Only the pod with this uid may ever run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<Current>,
    /// What the sources of spec.itemsFrom last gave.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub item_sources: Vec<ItemSource>,
    /// Each item that is in force, by its name, and those that are missing from a source for less than a day.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub items: BTreeMap<String, ItemStatus>,
    /// The latest runs, newest first.
    #[serde(default)]
    #[schemars(length(max = 20), extend("x-kubernetes-list-type" = "atomic"))]
    pub history: Vec<RunRecord>,
    /// The policy that decided last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyInUse>,
    /// The component in the group's policy ConfigMap, if the operator rejected it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected_policy: Option<RejectedPolicy>,
    /// What the policy keeps for itself between decisions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_state: Option<String>,
    /// The source that `policyState` belongs to. Whatever policy that source has next is given it, one of another source never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_state_of: Option<String>,
    /// The decision that started the latest run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_decision: Option<LastDecision>,
    /// What the annotation oaat.kawaja.net/run-now last asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_now: Option<RunNow>,
    /// Pods that the API server refused, one after the other; absent when the latest
    /// was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Rejected>,
}

/// The run in progress.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Current {
    /// Its number.
    pub run: i64,
    /// The item.
    pub item: String,
    /// The pod.
    pub pod_name: String,
    /// The pod's uid: a pod of the same name with another uid is another pod.
    pub pod_uid: String,
    /// When the pod was chosen to run.
    pub claimed: Timestamp,
    /// Set before the operator itself ends the run. Always written, as null where
    /// there is none: a merge patch keeps what it does not name.
    #[serde(default)]
    pub stopping: Option<Stopping>,
    /// When a cycle other than the one that chose the pod set about letting it run: the former
    /// was slow, or interrupted. Always written, like `stopping`.
    #[serde(default)]
    pub resumed: Option<Timestamp>,
}

/// Why the operator itself ends a run.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Stopping {
    /// `StartTimeout`: no container had started in time; `Blackout`: a window opened that stops
    /// what runs; `GateRemoved`: something took its scheduling gate away.
    pub reason: String,
    /// The same in words.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
}

/// Where an item stands.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ItemState {
    /// It runs.
    Running,
    /// It could run now.
    #[default]
    Ready,
    /// It succeeded recently enough.
    Fresh,
    /// It failed recently and rests.
    Cooling,
    /// The policy puts it off.
    Deferred,
    /// The operator holds it.
    Held,
}

impl fmt::Display for ItemState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// An item's history.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct ItemStatus {
    /// The exact name; kubectl describe shows the map's keys prettified.
    #[serde(default)]
    pub item: String,
    /// Where it stands.
    #[serde(default)]
    pub state: ItemState,
    /// The same in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it last succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success: Option<Timestamp>,
    /// When it last failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<Timestamp>,
    /// Failures since the last success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<i32>,
    /// Exit code of the last run, where a container exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit_code: Option<i32>,
    /// When it was last started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_started: Option<Timestamp>,
    /// When its last run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_finished: Option<Timestamp>,
    /// Runs recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<i64>,
    /// When its state changes by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Timestamp>,
    /// Since when no source has had it any more. It is not run, and after a day it is forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_since: Option<Timestamp>,
    /// As the first implementation of these kinds wrote it, until it is read.
    #[serde(
        default,
        rename = "last_success",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(skip)]
    pub old_last_success: Option<Value>,
    /// Likewise.
    #[serde(
        default,
        rename = "last_failure",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(skip)]
    pub old_last_failure: Option<Value>,
    /// Likewise.
    #[serde(
        default,
        rename = "failure_count",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(skip)]
    pub old_failure_count: Option<Value>,
}

/// How a run ended.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunResult {
    /// All containers exited with 0.
    Succeeded,
    /// Anything else.
    Failed,
    /// The operator ended it; neither of the two.
    Stopped,
}

impl fmt::Display for RunResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A run that is over.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RunRecord {
    /// Its number.
    pub run: i64,
    /// The item.
    pub item: String,
    /// The pod; absent when none was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// When it was started.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// How it ended.
    pub result: RunResult,
    /// A CamelCase token: Completed, Error, Evicted, PodDisappeared, …
    pub reason: String,
    /// The same in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The exit code that decided, where a container exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}

/// The decision that started the latest run.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct LastDecision {
    /// When it was made.
    pub time: Timestamp,
    /// The seed that broke ties, as hex.
    pub seed: String,
    /// Fuel that the policy used.
    pub fuel: i64,
    /// sha256 of the policy's component.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// sha256 of the request, by which the decision is found in the operator's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The item it chose.
    pub item: String,
    /// Why, in the policy's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What became of the annotation oaat.kawaja.net/run-now. An item that it names is still to be
/// started if it was last started before `time`, and the request is not done with.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct RunNow {
    /// The token of the latest request: the same token is not heeded again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// When that request was first seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// All items that it named have been started, or it was taken away.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub done: bool,
    /// What is wrong with the annotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Pods that the API server refused, one after the other.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Rejected {
    /// How many.
    pub count: i32,
    /// The group starts nothing before this.
    pub until: Timestamp,
    /// The server's words about the latest.
    pub message: String,
}
