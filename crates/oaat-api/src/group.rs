//! `OaatGroup`: items, how often each must succeed, and their status.

use super::{
    AcceptedSettings, BlackoutWindow, ItemOptions, ItemSource, ItemsFrom, PolicyInUse, PolicySpec,
    RejectedPolicy, Schedule, Timestamp, duration,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// The precision of the times that nodes report.
const NODE_CLOCK_PRECISION: Duration = Duration::from_secs(1);

/// A group of items that run one at a time.
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
    doc = "A group of items that run one at a time.",
    printcolumn = r#"{"name":"LastRun","type":"date","jsonPath":".status.lastRun"}"#,
    printcolumn = r#"{"name":"State","type":"string","jsonPath":".status.state"}"#,
    printcolumn = r#"{"name":"CurrentlyRunning","type":"string","jsonPath":".status.currentlyRunning"}"#,
    printcolumn = r#"{"name":"Next","type":"string","jsonPath":".status.next"}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Pod","type":"string","jsonPath":".status.pod","priority":1}"#
)]
#[x_kube(validation = super::frequency_or_schedule())]
#[serde(rename_all = "camelCase")]
pub struct OaatGroupSpec {
    /// Name of the OaatType, in the same namespace, that defines how items run. itemOptions can name
    /// another one for an item.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = super::object_name("oaatType must be the name of an OaatType, such as backup: lowercase letters, digits, '-', and '.', with a letter or digit at both ends"))]
    pub oaat_type: String,

    /// The items to run: up to 2,000 unique names of 1 to 300 characters. A name is any text
    /// without control characters, such as a path. All names together have at most 120,000 bytes;
    /// the API server checks 120,000 characters.
    #[serde(default)]
    #[x_kube(validation = ("self.map(item, size(item)).sum() <= 120000", "oaatItems must have at most 120000 characters in all names together; use shorter names, or several groups"))]
    #[x_kube(validation = (r"self.all(item, !item.matches(r'[\x00-\x1f\x7f]'))", "an item of oaatItems must not contain a control character, such as a line break or a tab; use one line of plain text, such as /srv/backup"))]
    #[schemars(
        length(max = 2000),
        inner(length(min = 1, max = 300)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub oaat_items: Vec<String>,

    /// Additional sources of items. Their items follow those in oaatItems, in the order of the
    /// sources. Duplicate names are ignored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 10),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub items_from: Vec<ItemsFrom>,

    /// Suspends the group: while true, no item starts. A run in progress continues.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub suspend: bool,

    /// Recurring time windows in which no item starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), extend("x-kubernetes-list-type" = "atomic"))]
    pub blackout_windows: Vec<BlackoutWindow>,

    /// Runs each item until it succeeds once. When all items have succeeded, the group is complete.
    /// While true, frequency and schedule are ignored.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub each_once: bool,

    /// How often each item must succeed, such as 5m, 1h 30m, or 2days. Defaults to 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = duration(" && self.matches('[1-9]')", "frequency must be a duration longer than zero, such as 5m, 1h 30m, or 2days"))]
    pub frequency: Option<String>,

    /// When items are due, instead of a frequency: an item is due if a time of the schedule has
    /// passed since its last success. If several have passed, the item runs only once. An item that
    /// has never succeeded is due at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,

    /// The cool-off period of an item after a failure, such as 10m. Defaults to 0s: no cool-off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = duration("", "failureCoolOff must be a duration, such as 30s, 10m, or 1h 30m"))]
    pub failure_cool_off: Option<String>,

    /// The number of failures in a row after which an item gives up, such as 3. It starts again when
    /// it is requested to run now, and when its options or its OaatType change. Defaults to no
    /// maximum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000000))]
    pub max_failures: Option<i32>,

    /// The maximum time for a pod to start its first container, such as 15m. The timeout restarts when
    /// an init container ends. When it expires, the operator deletes the pod and the run fails. The time
    /// during which scheduling gates of other controllers hold the pod does not count. Defaults to
    /// 15m; 0s disables the timeout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = duration("", "startTimeout must be a duration, such as 15m, or 0s for no timeout"))]
    pub start_timeout: Option<String>,

    /// How long a run may take, such as 6h, from when its node accepts the pod. After that, Kubernetes
    /// ends the pod and the run fails with DeadlineExceeded. A shorter activeDeadlineSeconds of the
    /// OaatType takes precedence. Defaults to 0s: no limit from the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = duration("", "runTimeout must be a duration, such as 6h, or 0s for no limit"))]
    pub run_timeout: Option<String>,

    /// How long finished pods are kept, so that their logs can be read. Defaults to 12h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = duration("", "podRetention must be a duration, such as 12h or 2days, or 0s to keep no finished pods"))]
    pub pod_retention: Option<String>,

    /// The maximum number of finished pods that are kept. The oldest are deleted first, but the
    /// latest failed pod of an item stays until the item succeeds or podRetention ends. Defaults to
    /// 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10000))]
    pub pod_history_limit: Option<i32>,

    /// Ignored. Accepted for compatibility with the original operator; use blackoutWindows instead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), schema_with = "objects")]
    pub windows: Vec<Value>,

    /// The selection policy. Defaults to the built-in policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicySpec>,

    /// Options for individual items, by name. Entries for unknown items are ignored, and the condition
    /// UnknownItemOptions lists them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 2000))]
    pub item_options: BTreeMap<String, ItemOptions>,
}

impl OaatGroupSpec {
    /// Returns the names of the OaatTypes in `itemOptions`.
    pub fn item_types(&self) -> BTreeSet<&str> {
        let options = self.item_options.values();
        options
            .filter_map(|options| options.oaat_type.as_deref())
            .collect()
    }
}

/// The schema of a map of any values that is written as a whole.
fn atomic_map(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "x-kubernetes-map-type": "atomic",
        "x-kubernetes-preserve-unknown-fields": true,
    })
}

/// The schema of a list of any objects.
fn objects(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "items": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
    })
}

/// The observed state of a group, written by the operator.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct OaatGroupStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// One of Running, Idle, Waiting, Blackout, Suspended, Complete, Failed, Invalid, and Blocked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// A human-readable description of the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The item that is running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currently_running: Option<String>,
    /// The pod of the item that is running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// When a run last started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<Timestamp>,
    /// When the next item is due, if no item is running and the time is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// `Ready`, `PolicyReady`, and `Running`. Also `ItemsReady` with itemsFrom, `ShadowAgrees` with
    /// policy.shadow, `Complete` and `Failed` with eachOnce, and, only while they are true,
    /// `Reconciling`, `Stalled`, and `UnknownItemOptions`.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The number of the latest run. It never decreases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<i64>,
    /// The run in progress. Only the pod with the UID in podUid may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<CurrentRun>,
    /// The latest result of each source in spec.itemsFrom.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub item_sources: Vec<ItemSource>,
    /// The status of each item, by name. Items that are missing from their source are kept for a
    /// day.
    ///
    /// The schema does not list the fields of an item, because validating them would double the time
    /// of a status write for large groups. An item has these fields. Fields that are zero or that
    /// follow from other fields are omitted:
    /// `item`: the exact name, if `kubectl describe` reformats it.
    /// `state`: Running, Ready (it is due), Fresh (it is not due before `next`), Cooling (it failed and
    /// is in its cool-off period), Deferred (by the policy), Held (by the operator), or GivenUp (after
    /// maxFailures).
    /// `message`: why it is in that state, unless the other fields already show it.
    /// `lastSuccess`, `lastFailure`: when it last succeeded and last failed.
    /// `lastStarted`: when it last started.
    /// `lastFinished`: when its last run ended, if that run was stopped.
    /// `failures`: the number of failures since the last success.
    /// `lastExitCode`: the exit code of the last run. Absent if it is 0 or no container exited.
    /// `durations`: how long the last five successful runs took, in seconds, newest first.
    /// `runs`: the number of recorded runs.
    /// `attempts`: which failures count toward maxFailures.
    /// `next`: when the state is next expected to change.
    /// `marked`: who marked it as succeeded, and when. Absent if its last success was a run.
    /// `missingSince`: when it went missing from all sources.
    #[serde(default)]
    #[schemars(schema_with = "atomic_map")]
    pub items: BTreeMap<String, ItemStatus>,
    /// The latest runs, newest first.
    #[serde(default)]
    #[schemars(length(max = 20), extend("x-kubernetes-list-type" = "atomic"))]
    pub history: Vec<RunRecord>,
    /// The policy that made the latest decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyInUse>,
    /// The built-in policy that stays in use, even after a restart, if the policy in the spec cannot be
    /// used. Absent if the policy last in use is not built in, or if spec.policy is not set.
    // `status.policy` is not enough: it names `default` also if onError applied or the group had no
    // policy, and it does not name a policy that has not decided yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good_built_in: Option<LastGoodBuiltIn>,
    /// The last settings that the policy accepted. Present only while the settings in the spec are not
    /// in effect, for example because the policy rejects them. After a restart, the operator uses these
    /// settings again. Absent if they are larger than 32 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub accepted_settings: Option<AcceptedSettings>,
    /// The sha256 of the policy whose latest evaluation failed. Absent after its next decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_policy: Option<String>,
    /// The component in the group's policy ConfigMap, if the operator rejected it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected_policy: Option<RejectedPolicy>,
    /// The state that the policy keeps between decisions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_state: Option<String>,
    /// The source that `policyState` belongs to. Later policies from the same source receive the
    /// state. Policies from other sources do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_state_of: Option<String>,
    /// The decision that started the latest run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_decision: Option<LastDecision>,
    /// The latest request in the annotation oaat.kawaja.net/run-now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_now: Option<RunNow>,
    /// Consecutive pods that the API server rejected, or that were deleted before they could start.
    /// Absent if the latest pod was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<PodRejections>,
}

impl OaatGroupStatus {
    /// Returns the name of the built-in policy that stays in use. Ignores one that is older than
    /// `policy`: an earlier release changes `policy` only.
    pub fn last_good_built_in(&self) -> Option<&str> {
        let last = self.last_good_built_in.as_ref()?;
        let is_current = last.policy_digest == self.policy_digest();
        is_current.then_some(last.name.as_str())
    }

    /// Sets the built-in policy that stays in use.
    pub fn set_last_good_built_in(&mut self, name: Option<String>) {
        let policy_digest = self.policy_digest();
        self.last_good_built_in = name.map(|name| LastGoodBuiltIn {
            name,
            policy_digest,
        });
    }

    /// Sets the policy that made the latest decision.
    pub fn set_policy(&mut self, policy: PolicyInUse) {
        let name = self.last_good_built_in().map(ToOwned::to_owned);
        self.policy = Some(policy);
        self.set_last_good_built_in(name);
    }

    fn policy_digest(&self) -> Option<String> {
        self.policy.as_ref().map(|policy| policy.digest.clone())
    }
}

/// The built-in policy that stays in use if the policy in the spec cannot be used.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LastGoodBuiltIn {
    /// The name of the policy.
    pub name: String,
    /// The sha256 in status.policy. If it differs, an earlier release of the operator has changed
    /// status.policy since, and this policy is ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_digest: Option<String>,
}

/// The run in progress.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CurrentRun {
    /// The number of the run.
    pub run: i64,
    /// The item that is running.
    pub item: String,
    /// The name of the pod.
    pub pod_name: String,
    /// The UID of the pod. A pod with the same name and another UID is a different pod.
    pub pod_uid: String,
    /// When the operator claimed the pod.
    pub claimed: Timestamp,
    /// Why the operator is ending the run. Set before it ends the run. Always written, as null if
    /// unset, because a merge patch keeps omitted fields.
    #[serde(default)]
    pub stopping: Option<Stopping>,
    /// When a later reconcile took over the removal of the pod's scheduling gate, because the
    /// reconcile that claimed the pod was slow or interrupted. Always written, like `stopping`.
    #[serde(default)]
    pub resumed: Option<Timestamp>,
    /// The scheduling gates of other controllers, if the pod had any. Always written, like `stopping`.
    #[serde(default)]
    pub other_gates: Option<OtherGates>,
}

impl CurrentRun {
    /// Returns when the pod was claimed or, if later, when the last scheduling gate of another
    /// controller was removed.
    pub fn runnable_since(&self) -> Timestamp {
        let removed = self.other_gates.as_ref().and_then(|gates| gates.removed);
        removed.map_or(self.claimed, |removed| removed.max(self.claimed))
    }
}

/// The scheduling gates of other controllers on the current pod.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct OtherGates {
    /// When the operator first saw the pod without them. startTimeout counts from then. Always
    /// written, because a merge patch would otherwise keep the time of an earlier run.
    #[serde(default)]
    pub removed: Option<Timestamp>,
}

/// Why the operator is ending a run.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Stopping {
    /// `StartTimeout`: no container started in time. `Blackout`: a window that stops runs opened.
    /// `GateRemoved`: the pod's scheduling gate was removed, but not by the operator. If all
    /// completionContainers of the OaatType have ended: `Completed`, or the termination reason of the
    /// container that failed, such as `Error`.
    pub reason: String,
    /// A human-readable description of the reason.
    pub message: String,
    /// When the operator decided to end the run.
    pub since: Timestamp,
    /// The exit code of the run if all completionContainers have ended: their first nonzero exit code,
    /// or 0. This field is always written, because a merge patch would otherwise keep the
    /// exit code of an earlier run.
    #[serde(default)]
    pub exit_code: Option<i32>,
}

/// The state of an item.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ItemState {
    /// It is running.
    Running,
    /// It can run now.
    #[default]
    Ready,
    /// It succeeded recently and is not due.
    Fresh,
    /// It failed recently and is in its cool-off period.
    Cooling,
    /// The policy defers it.
    Deferred,
    /// The operator does not allow it to start now.
    Held,
    /// It has failed maxFailures times in a row, and does not start by itself.
    GivenUp,
}

/// Reads a state. A later release may have written one that this release does not know; the next
/// decision replaces it.
fn known_state<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ItemState, D::Error> {
    let state = Value::deserialize(deserializer)?;
    Ok(ItemState::deserialize(state).unwrap_or_default())
}

impl fmt::Display for ItemState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The status and the history of an item.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ItemStatus {
    /// The exact name, if `kubectl describe` reformats it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub item: String,
    /// The state of the item.
    #[serde(default, deserialize_with = "known_state")]
    pub state: ItemState,
    /// A human-readable description of the state, unless it only repeats the other fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When the item last succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success: Option<Timestamp>,
    /// When the item last failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<Timestamp>,
    /// The number of failures since the last success. Absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<i32>,
    /// The exit code of the last run. Absent if it is 0 or no container exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit_code: Option<i32>,
    /// When the item last started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_started: Option<Timestamp>,
    /// When the last run of the item ended, if it was stopped. Otherwise, it ended at the later of the
    /// last success and the last failure; see [`Self::finished`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_finished: Option<Timestamp>,
    /// How long the last five successful runs took, in seconds, rounded up, newest first. The time
    /// during which scheduling gates of other controllers held the pod does not count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub durations: Vec<i64>,
    /// Which failures count toward maxFailures. Absent without maxFailures and after a success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<Attempts>,
    /// The number of recorded runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<i64>,
    /// When the state is next expected to change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Timestamp>,
    /// Who marked the item as succeeded. Absent if the last success is that of a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marked: Option<Mark>,
    /// When the item went missing from all sources. It does not start, and its history is deleted
    /// after a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_since: Option<Timestamp>,
    /// The last success as the original operator wrote it, until it is migrated.
    #[serde(
        default,
        rename = "last_success",
        skip_serializing_if = "Option::is_none"
    )]
    pub old_last_success: Option<Value>,
    /// The last failure as the original operator wrote it, until it is migrated.
    #[serde(
        default,
        rename = "last_failure",
        skip_serializing_if = "Option::is_none"
    )]
    pub old_last_failure: Option<Value>,
    /// The failure count as the original operator wrote it, until it is migrated.
    #[serde(
        default,
        rename = "failure_count",
        skip_serializing_if = "Option::is_none"
    )]
    pub old_failure_count: Option<Value>,
}

impl ItemStatus {
    /// Returns when the last run of the item ended.
    pub fn finished(&self) -> Option<Timestamp> {
        // Nothing ran for a success that a user marked.
        let success = self.last_success.filter(|_| self.marked.is_none());
        self.last_finished.max(success).max(self.last_failure)
    }

    /// Returns how long the last run of the item took. `None` if no run has ended since the last
    /// start.
    pub fn last_duration(&self) -> Option<Duration> {
        let (started, finished) = (self.last_started?, self.finished()?);
        // A start whose pod was never created has no end, so the end of an earlier run may come before
        // the start.
        let has_ended = started <= finished.plus(NODE_CLOCK_PRECISION);
        has_ended.then(|| finished.since(started))
    }

    /// Records that the work of the item was done at a time, although no run of the operator succeeded.
    /// This resets the failures, and removes the last one, so that its cool-off ends. The next decision
    /// of the operator sets the state.
    pub fn mark_succeeded(&mut self, at: Timestamp, mark: Mark) {
        self.last_success = Some(at);
        self.marked = Some(mark);
        self.last_failure = None;
        self.failures = None;
        self.attempts = None;
        self.last_exit_code = None;
        self.state = ItemState::Ready;
        self.message = None;
        self.next = None;
    }
}

/// A user's mark that counts as the last success of an item.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Mark {
    /// When the user marked the item.
    pub time: Timestamp,
    /// The name of the user.
    #[serde(default)]
    pub by: String,
}

/// Which failures of an item count toward maxFailures.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Attempts {
    /// A hash of the item's options and its OaatType. Failures before a change do not count.
    pub definition: String,
    /// The number of failures that do not count.
    #[serde(default)]
    pub ignored_failures: i32,
}

/// The result of a run.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunResult {
    /// All containers, or all completionContainers, exited with 0.
    Succeeded,
    /// The run failed.
    Failed,
    /// The operator or a disruption, such as a drained node, stopped the run. It counts as neither a
    /// success nor a failure.
    Stopped,
}

impl fmt::Display for RunResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A finished run.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RunRecord {
    /// The number of the run.
    pub run: i64,
    /// The item that ran.
    pub item: String,
    /// The name of the pod. Absent if no pod was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// When the run started.
    pub started: Timestamp,
    /// When the run ended.
    pub finished: Timestamp,
    /// The result of the run.
    pub result: RunResult,
    /// A CamelCase reason, such as Completed, Error, Evicted, or PodDisappeared.
    pub reason: String,
    /// A human-readable description of the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The exit code that determined the result, if a container exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}

/// The decision that started the latest run.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct LastDecision {
    /// When the decision was made.
    pub time: Timestamp,
    /// The seed that broke ties, in hexadecimal.
    pub seed: String,
    /// The fuel that the policy used.
    pub fuel: i64,
    /// The sha256 of the policy's component.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The sha256 of the request. It identifies the decision in the operator's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The item that was selected.
    pub item: String,
    /// Why the item was selected: the policy's note, or the token of a request to run it now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// The latest request in the annotation oaat.kawaja.net/run-now. Until the request is done, its
/// items that last started before `time` are pending.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct RunNow {
    /// The token of the latest request. Each token is processed once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// When the operator first saw the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// Whether all items of the request have started, or the annotation was removed.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub done: bool,
    /// What is wrong with the annotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Consecutive pods that the API server rejected, or that were deleted before they could start.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct PodRejections {
    /// The number of these pods.
    pub count: i32,
    /// The group starts no item before this time.
    pub until: Timestamp,
    /// Why the latest of these pods was rejected or deleted.
    pub message: String,
    /// Whether a ResourceQuota left no room for the latest of these pods.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub quota: bool,
    /// The items whose pods did not fit into the quota, latest last. When the group's pause ends,
    /// these items are held for the same duration again, so that items whose pods may fit start first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub items: Vec<String>,
}
