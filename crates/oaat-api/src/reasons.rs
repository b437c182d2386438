//! Stable, machine-readable strings: types and reasons of conditions, reasons of events, states of
//! groups, and reasons of runs.
//!
//! Messages are for humans and can change in any release. These constants do not change.

/// The condition `Ready` of a group: whether it does what its spec requests.
pub mod ready {
    /// The type of the condition.
    pub const TYPE: &str = "Ready";

    /// True: an item can start, or is running.
    pub const READY: &str = "Ready";
    /// True: no item is due, or all due items are held. See the group's message.
    pub const NOTHING_DUE: &str = "NothingDue";
    /// True: with `eachOnce`, all items have succeeded. Add items to run more.
    pub const COMPLETE: &str = "Complete";
    /// True: the group is suspended. Unset `spec.suspend` or remove the annotation `pause_new_jobs`.
    pub const SUSPENDED: &str = "Suspended";
    /// True: a blackout window is open. Wait until the time in the message, or change the windows.
    pub const BLACKOUT: &str = "Blackout";
    /// True: the group has no items. Add items, or check the condition `ItemsReady`.
    pub const NO_ITEMS: &str = "NoItems";
    /// A field of the group is invalid. Correct the field that the message names.
    pub const SPEC_INVALID: &str = "SpecInvalid";
    /// The operator cannot decode the object. Correct the field that the message names.
    pub const UNDECODABLE: &str = "Undecodable";
    /// A foreign pod with the group's label may still run. Wait until it ends, or delete it.
    pub const FOREIGN_POD: &str = "ForeignPod";
    /// A pod left over from a crash is being deleted. If this takes long, check the pod's node.
    pub const POD_BEING_REMOVED: &str = "PodBeingRemoved";
    /// The OaatType does not exist in the group's namespace. Create it.
    pub const TYPE_NOT_FOUND: &str = "TypeNotFound";
    /// The operator is checking the OaatType. Wait a moment.
    pub const TYPE_NOT_CHECKED: &str = "TypeNotChecked";
    /// The OaatType is invalid. Correct it as its condition `Valid` describes.
    pub const TYPE_INVALID: &str = "TypeInvalid";
    /// The API server rejected the pod of an item, or something deleted it before it could start.
    /// Remove the cause; the operator retries.
    pub const CREATE_REJECTED: &str = "CreateRejected";
    /// The API server temporarily cannot create a pod. The operator retries; this is not a failure.
    pub const CREATE_UNAVAILABLE: &str = "CreateUnavailable";
    /// A ResourceQuota leaves no room for the pod of an item. Free resources or raise the quota; the
    /// operator retries, and no item fails.
    pub const QUOTA_EXCEEDED: &str = "QuotaExceeded";
    /// With `eachOnce`, nothing is left to try, because items gave up. Request them to run now, or
    /// change their options or type.
    pub const ITEMS_GIVEN_UP: &str = "ItemsGivenUp";
    /// The policy makes no decision. Check the condition `PolicyReady`.
    pub const POLICY_NOT_READY: &str = "PolicyNotReady";

    /// The reasons that follow from a decision, and remain valid until the next one.
    pub const OF_DECISIONS: [&str; 4] = [
        NOTHING_DUE,
        POLICY_NOT_READY,
        QUOTA_EXCEEDED,
        CREATE_UNAVAILABLE,
    ];
    /// The reasons with which `Ready` is true: what the user asked for is not a failure.
    pub const TRUE: [&str; 6] = [READY, NOTHING_DUE, COMPLETE, SUSPENDED, BLACKOUT, NO_ITEMS];
}

/// The conditions `Stalled` and `Reconciling` of a group. They follow the conventions of kstatus,
/// exist only while they are true, and have the reason and the message of the condition `Ready` or
/// `PolicyReady`.
pub mod progress {
    /// Nothing changes until a user acts.
    pub const STALLED: &str = "Stalled";
    /// The operator is checking or loading something.
    pub const RECONCILING: &str = "Reconciling";
}

/// The condition `UnknownItemOptions` of a group. It exists only while it is true.
pub mod unknown_item_options {
    /// The type of the condition.
    pub const TYPE: &str = "UnknownItemOptions";

    /// True: `spec.itemOptions` contains names that are not items. Correct the names in the message.
    /// YAML turns unquoted names such as `y` and `on` into `true`.
    pub const NO_SUCH_ITEM: &str = "NoSuchItem";
}

/// The condition `Running` of a group: whether an item is running.
pub mod running {
    /// The type of the condition.
    pub const TYPE: &str = "Running";

    /// True: the current pod is starting or running.
    pub const POD_ACTIVE: &str = "PodActive";
    /// True: the current pod has not started because of a problem. Fix the problem in the group's
    /// message.
    pub const NOT_STARTED: &str = "NotStarted";
    /// True: the current pod runs longer than expected. See the group's message.
    pub const OVERDUE: &str = "Overdue";
    /// False: no item is running.
    pub const NOT_RUNNING: &str = "NotRunning";
}

/// The condition `PolicyReady` of a group: whether its own policy decides.
pub mod policy_ready {
    /// The type of the condition.
    pub const TYPE: &str = "PolicyReady";

    /// True: the policy that the message names is in use.
    pub const READY: &str = "Ready";
    /// The component is being read and compiled. Wait a moment.
    pub const LOADING: &str = "Loading";
    /// The ConfigMap does not exist. Create it with `kubectl-oaat policy pack`.
    pub const SOURCE_NOT_FOUND: &str = "SourceNotFound";
    /// The operator cannot read the ConfigMap. Grant the permissions of its manifest.
    pub const SOURCE_UNREADABLE: &str = "SourceUnreadable";
    /// The ConfigMap lacks the key in `binaryData`. Use one of the keys that the message lists.
    pub const KEY_NOT_FOUND: &str = "KeyNotFound";
    /// The component is too large. Build it without debug information.
    pub const TOO_LARGE: &str = "TooLarge";
    /// The component does not match `sha256`. Change `sha256` or the ConfigMap.
    pub const DIGEST_MISMATCH: &str = "DigestMismatch";
    /// The value is not a component. Build one with `kubectl-oaat policy build`.
    pub const MALFORMED: &str = "Malformed";
    /// The component imports more than the log. Build it for wasm32-unknown-unknown.
    pub const FORBIDDEN_IMPORT: &str = "ForbiddenImport";
    /// The component needs a later contract. Upgrade the operator, or use an older SDK.
    pub const CONTRACT_TOO_NEW: &str = "ContractTooNew";
    /// The component does not export `selector` as the contract defines it. Use the SDK.
    pub const INTERFACE_MISMATCH: &str = "InterfaceMismatch";
    /// The compiler rejected the component or crashed. Rebuild the component.
    pub const COMPILE_FAILED: &str = "CompileFailed";
    /// The compilation took too long. Use fewer or shorter functions.
    pub const COMPILE_TIMEOUT: &str = "CompileTimeout";
    /// The compilation used too much memory. Use fewer functions, types, and dependencies.
    pub const COMPILE_TOO_LARGE: &str = "CompileTooLarge";
    /// The compiler could not run. The operator retries; check its limits.
    pub const COMPILER_UNAVAILABLE: &str = "CompilerUnavailable";
    /// A component composed by wac or wasi-virt failed to start. Build a single component.
    pub const COMPOSED_COMPONENT: &str = "ComposedComponent";
    /// The component failed on a trial request. Run `kubectl-oaat policy check` for details.
    pub const PROBE_FAILED: &str = "ProbeFailed";
    /// The policy rejected its settings. Correct them as the message describes.
    pub const SETTINGS_REJECTED: &str = "SettingsRejected";
    /// The policy returned an error. Follow the message.
    pub const POLICY_ERROR: &str = "PolicyError";
    /// The policy crashed. Repeat the decision with `kubectl-oaat policy replay`.
    pub const TRAPPED: &str = "Trapped";
    /// The policy used up its fuel. Look for an endless loop.
    pub const OUT_OF_FUEL: &str = "OutOfFuel";
    /// The policy exceeded its time limit. Log less, and check the load of the node.
    pub const DEADLINE: &str = "Deadline";
    /// The policy exceeded its memory limit. Keep less data in memory.
    pub const OUT_OF_MEMORY: &str = "OutOfMemory";
    /// The answer violates the contract. The message names the violated rule.
    pub const BAD_ANSWER: &str = "BadAnswer";

    /// The reasons of an evaluation that made no decision.
    pub const EVALUATION: [&str; 6] = [
        POLICY_ERROR,
        TRAPPED,
        OUT_OF_FUEL,
        DEADLINE,
        OUT_OF_MEMORY,
        BAD_ANSWER,
    ];
}

/// The condition `ShadowAgrees` of a group with `spec.policy.shadow`: whether the shadow policy would
/// make the same decisions as the policy of the group.
pub mod shadow_agrees {
    /// The type of the condition.
    pub const TYPE: &str = "ShadowAgrees";

    /// True: the shadow policy agreed with every decision that was compared.
    pub const AGREES: &str = "Agrees";
    /// False: for at least one decision, the shadow policy would start another item, or only one of the
    /// policies would wait. See the message for the latest difference.
    pub const DIFFERS: &str = "Differs";
    /// False: the shadow policy made no decision at least once, for example because it crashed. See the
    /// message.
    pub const FAILED: &str = "Failed";
    /// Unknown: the shadow policy is loaded, but no decision has been compared yet. Wait for the next
    /// decision.
    pub const NOT_COMPARED: &str = "NotCompared";
    /// Unknown: the shadow policy is being read and compiled. Wait a moment.
    pub const LOADING: &str = "Loading";
    /// Unknown: the shadow policy cannot be loaded, or rejects its settings. Fix the problem in the
    /// message.
    pub const NOT_USABLE: &str = "NotUsable";

    /// The reasons that are based on compared decisions.
    pub const COMPARED: [&str; 3] = [AGREES, DIFFERS, FAILED];
}

/// The condition `ItemsReady` of a group with `spec.itemsFrom`: whether all lists are up to date.
pub mod items_ready {
    /// The type of the condition.
    pub const TYPE: &str = "ItemsReady";

    /// True: every list was read.
    pub const LISTED: &str = "Listed";
    /// A list has not been read yet. Wait for its source.
    pub const LISTING: &str = "Listing";
    /// A source could not be read; its last list stays in effect. Fix the problem in the message.
    pub const SOURCE_FAILED: &str = "SourceFailed";
    /// Items were left out because of the limits of a group. Use several groups.
    pub const TOO_MANY_ITEMS: &str = "TooManyItems";
}

/// The condition `Complete` of a group with `spec.eachOnce`: whether all items have succeeded.
pub mod complete {
    /// The type of the condition.
    pub const TYPE: &str = "Complete";

    /// True: all items have succeeded. Add items to run more.
    pub const ALL_SUCCEEDED: &str = "AllSucceeded";
    /// False: some items have not succeeded yet, or a list has not been read yet.
    pub const IN_PROGRESS: &str = "InProgress";
}

/// The condition `Failed` of a group with `spec.eachOnce`: whether nothing is left to try.
pub mod failed {
    /// The type of the condition.
    pub const TYPE: &str = "Failed";

    /// True: all items that have not succeeded gave up. Request them to run now, or change their
    /// options or type.
    pub const ITEMS_GIVEN_UP: &str = "ItemsGivenUp";
    /// False: the group is complete, or items are left to try.
    pub const NOT_FAILED: &str = "NotFailed";
}

/// The condition `Valid` of a type, and the events on types.
pub mod valid {
    /// The type of the condition.
    pub const TYPE: &str = "Valid";

    /// True: the API server accepts a pod of this type.
    pub const ACCEPTED: &str = "Accepted";
    /// True: a container sets `OAAT_ITEM`, which the operator replaces. Rename the variable.
    pub const ENVIRONMENT_OVERRIDDEN: &str = "EnvironmentOverridden";
    /// True: a dry run was denied temporarily, for example by a quota. The operator checks again.
    pub const TEMPORARILY_DENIED: &str = "TemporarilyDenied";
    /// A field of the type is invalid. Correct the field that the message names.
    pub const SPEC_INVALID: &str = "SpecInvalid";
    /// The API server rejects a pod of this type. Correct the type as the message describes.
    pub const POD_REJECTED: &str = "PodRejected";
    /// A webhook removes the scheduling gate. Exclude `spec.schedulingGates` from the webhook.
    pub const GATE_REMOVED: &str = "GateRemoved";
    /// The operator cannot decode the object. Correct the field that the message names.
    pub const UNDECODABLE: &str = "Undecodable";
}

/// The reasons of events on groups.
pub mod events {
    /// A run started.
    pub const STARTED: &str = "Started";
    /// A run succeeded.
    pub const SUCCEEDED: &str = "Succeeded";
    /// A run failed. See the message, or the log of the pod.
    pub const FAILED: &str = "Failed";
    /// A run was stopped. It counts as neither a success nor a failure.
    pub const STOPPED: &str = "Stopped";
    /// A window opened that ends the run in progress. Use `running: Continue` to let runs finish.
    pub const STOPPING: &str = "Stopping";
    /// No container started in time. Correct the image or the resources, or raise `startTimeout`.
    pub const START_TIMEOUT: &str = "StartTimeout";
    /// The API server rejected the pod of an item. Remove the cause; the operator retries.
    pub const CREATE_REJECTED: &str = "CreateRejected";
    /// A claimed pod was deleted before it could start. Find out what deletes such pods.
    pub const CLAIM_VOID: &str = "ClaimVoid";
    /// A running pod that the status did not contain is now the current run.
    pub const ADOPTED: &str = "Adopted";
    /// An item has failed `maxFailures` times in a row and does not start by itself. Fix its cause, and
    /// then request it to run now.
    pub const GIVEN_UP: &str = "GivenUp";
    /// A ResourceQuota leaves no room for a pod. Free resources or raise the quota.
    pub const QUOTA_EXCEEDED: &str = "QuotaExceeded";
    /// A run takes more than three times as long as the longest of the item's last five successful
    /// runs. Check whether it is stuck, or set `runTimeout`.
    pub const OVERDUE: &str = "Overdue";
    /// `spec.itemOptions` contains names that are not items. Correct the names in the message.
    pub const UNKNOWN_ITEM_OPTIONS: &str = "UnknownItemOptions";
    /// An item that never succeeded runs before items that are due again. Set `failureCoolOff`.
    pub const ITEMS_STARVED: &str = "ItemsStarved";
    /// A request to run items now was accepted.
    pub const RUN_NOW: &str = "RunNow";
    /// The annotation `oaat.kawaja.net/run-now` is invalid. Correct it as the message describes.
    pub const RUN_NOW_INVALID: &str = "RunNowInvalid";
    /// All lists of `spec.itemsFrom` are up to date again.
    pub const ITEMS_READY: &str = "ItemsReady";
    /// A source of `spec.itemsFrom` could not be read. Fix the problem in the message.
    pub const ITEMS_NOT_READY: &str = "ItemsNotReady";
    /// The group's own policy is in use for the first time.
    pub const POLICY_LOADED: &str = "PolicyLoaded";
    /// Another policy is in use, or the same policy is in use again.
    pub const POLICY_CHANGED: &str = "PolicyChanged";
    /// The group's own policy is not in use. Fix the problem in the message.
    pub const POLICY_NOT_READY: &str = "PolicyNotReady";
    /// The shadow policy is loaded and accepts its settings.
    pub const SHADOW_LOADED: &str = "ShadowLoaded";
    /// The shadow policy is not evaluated. Fix the problem in the message.
    pub const SHADOW_NOT_USABLE: &str = "ShadowNotUsable";
    /// With `eachOnce`, all items have succeeded. Add items to run more.
    pub const COMPLETE: &str = "Complete";
    /// The operator migrated the item history from the original operator.
    pub const HISTORY_MIGRATED: &str = "HistoryMigrated";
    /// `spec.windows` is ignored. Replace it with the `blackoutWindows` in the message.
    pub const WINDOWS_IGNORED: &str = "WindowsIgnored";
    /// The status contained times in the future, which were replaced. Check the clocks of the nodes.
    pub const CLOCK_SKEW: &str = "ClockSkew";
    /// Reconciling the group failed four times in a row. Read the operator's log.
    pub const RECONCILE_FAILED: &str = "ReconcileFailed";
}

/// The values of `status.state` of a group.
pub mod states {
    /// An item is running.
    pub const RUNNING: &str = "Running";
    /// No item is due. Wait, or request items with the annotation `oaat.kawaja.net/run-now`.
    pub const IDLE: &str = "Idle";
    /// No item can start, for example because of a cool-off or a missing type. See the message.
    pub const WAITING: &str = "Waiting";
    /// A blackout window is open. Wait until the time in the message, or change the windows.
    pub const BLACKOUT: &str = "Blackout";
    /// The group is suspended. Unset `spec.suspend` or remove the annotation `pause_new_jobs`.
    pub const SUSPENDED: &str = "Suspended";
    /// With `eachOnce`, all items have succeeded. Add items to run more.
    pub const COMPLETE: &str = "Complete";
    /// With `eachOnce`, nothing is left to try, because items gave up. See the message.
    pub const FAILED: &str = "Failed";
    /// The group or its type is invalid. Correct the field that the message names.
    pub const INVALID: &str = "Invalid";
    /// A pod other than the current one may run. Wait until it ends, or delete it if it is foreign.
    pub const BLOCKED: &str = "Blocked";
}

/// The values of `status.current.stopping.reason`, which are also reasons of runs.
pub mod stopping {
    /// No container started in time. Correct the image or the resources, or raise `startTimeout`.
    pub const START_TIMEOUT: &str = "StartTimeout";
    /// A window with `running: Stop` opened. Use `running: Continue` to let runs finish.
    pub const BLACKOUT: &str = "Blackout";
    /// The gate was removed, but not by the operator. Exclude `spec.schedulingGates` from webhooks.
    pub const GATE_REMOVED: &str = "GateRemoved";
    /// All `completionContainers` of the OaatType have ended.
    pub const COMPLETED: &str = "Completed";
}

/// The reasons of runs in `status.history`, in addition to those in [`stopping`] and the reasons
/// that Kubernetes sets on pods and containers, such as `Evicted` or `OOMKilled`.
pub mod runs {
    /// All containers, or all `completionContainers`, exited with 0.
    pub const COMPLETED: &str = "Completed";
    /// A container failed and Kubernetes gave no reason. Read the log of the pod.
    pub const ERROR: &str = "Error";
    /// The pod failed, and neither it nor a container has a reason. Read the log of the pod.
    pub const POD_FAILED: &str = "PodFailed";
    /// The pod was deleted while it was running. See the message for what requested it.
    pub const POD_DELETED: &str = "PodDeleted";
    /// The pod was deleted, or its node was lost, before it finished. See the message for the cause.
    pub const POD_DISAPPEARED: &str = "PodDisappeared";
    /// The API server rejected the pod. Remove the cause in the message; the operator retries.
    pub const CREATE_REJECTED: &str = "CreateRejected";
}
