//! The user-visible state of a group: `state`, `message`, and the conditions.

use super::rejected_settings::mention_rejected_settings;
use super::run_message::describe_run;
use super::{PendingEvent, Plan};
use crate::item_sources;
use crate::run_now;
use crate::snapshot::GroupSnapshot;
use crate::snapshot::TypeRead;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use oaat_api::reasons::{
    events, items_ready, policy_ready, progress, ready, running, states, unknown_item_options,
};
use oaat_api::text;
use oaat_api::validate::{self, FieldError, ValidatedGroup, suspended};
use oaat_api::windows;
use oaat_api::{
    ConditionStatus, CurrentRun, ItemState, OaatGroupStatus, Timestamp, condition, set_condition,
};
use std::collections::HashSet;

/// Why no item can start.
pub(super) struct NotReady {
    /// The state of the group, unless an item is running.
    pub state: &'static str,
    /// The reason of the condition `Ready`.
    pub reason: &'static str,
    /// The message of the condition `Ready`.
    pub message: String,
    /// When the cause ends by itself, or when to check again.
    pub until: Option<Timestamp>,
    /// Whether the cause continues after `until`.
    pub endless: bool,
}

impl NotReady {
    pub fn new(state: &'static str, reason: &'static str, message: String) -> Self {
        Self {
            state,
            reason,
            message,
            until: None,
            endless: false,
        }
    }
}

/// What is shown about a current pod that does not make progress as expected.
pub(super) struct RunProblem {
    /// The reason of the condition `Running`.
    pub reason: &'static str,
    /// The problem, as the end of a sentence about the pod.
    pub message: String,
}

impl RunProblem {
    /// Returns a problem that keeps the pod from starting or ending.
    pub fn not_started(message: String) -> Self {
        Self {
            reason: running::NOT_STARTED,
            message,
        }
    }
}

/// A pod that must be gone before anything may start.
pub(super) struct BlockingPod {
    reason: &'static str,
    message: String,
}

impl BlockingPod {
    /// Returns a pod that does not belong to this group.
    pub fn foreign(message: String) -> Self {
        Self {
            reason: ready::FOREIGN_POD,
            message,
        }
    }

    /// Returns a pod of this group that is being removed.
    pub fn stale(message: String) -> Self {
        Self {
            reason: ready::POD_BEING_REMOVED,
            message,
        }
    }
}

/// Sets a condition of the group.
pub(super) fn set_group_condition(
    snapshot: &GroupSnapshot,
    status: &mut OaatGroupStatus,
    condition: (&str, impl Into<ConditionStatus>, &str, String),
) {
    let generation = snapshot.group.metadata.generation;
    set_condition(&mut status.conditions, snapshot.now, generation, condition);
}

/// Returns the first reason why no item can start, except for a run in progress.
pub(super) fn not_ready(
    snapshot: &GroupSnapshot,
    valid: &Result<ValidatedGroup, Vec<FieldError>>,
    blocking_pods: &[BlockingPod],
    status: &OaatGroupStatus,
) -> Option<NotReady> {
    let valid = match valid {
        Ok(valid) => valid,
        Err(errors) => {
            let message = validate::summary(errors);
            return Some(NotReady::new(states::INVALID, ready::SPEC_INVALID, message));
        }
    };
    if let Some(why) = suspended(&snapshot.group) {
        let message = why.into();
        return Some(NotReady::new(states::SUSPENDED, ready::SUSPENDED, message));
    }
    if let Some(blackout) = windows::blackout(&valid.windows, snapshot.now) {
        let message = blackout.to_string();
        return Some(NotReady {
            until: Some(blackout.until),
            endless: blackout.endless,
            ..NotReady::new(states::BLACKOUT, ready::BLACKOUT, message)
        });
    }
    if let Some(blocking_pod) = blocking_pods.first() {
        let others = match blocking_pods.len() {
            1 => String::new(),
            n => format!(" (and {} more)", n - 1),
        };
        let message = format!("{}{others}", blocking_pod.message);
        let reason = blocking_pod.reason;
        return Some(NotReady::new(states::BLOCKED, reason, message));
    }
    if let Some(not_ready) = type_not_ready(snapshot) {
        return Some(not_ready);
    }
    if snapshot.items.is_empty() {
        let message = match &snapshot.listing.ready {
            Some((_, _, sources)) => format!("there are no items; {sources}"),
            None => "there are no items; add names to spec.oaatItems".into(),
        };
        return Some(NotReady::new(states::WAITING, ready::NO_ITEMS, message));
    }
    let rejected = status.rejected.as_ref();
    let rejected = rejected.filter(|rejected| snapshot.now < rejected.until)?;
    let message = format!(
        "waiting until {} before creating another pod: {}",
        rejected.until.seconds(),
        rejected.message
    );
    let reason = if rejected.quota {
        ready::QUOTA_EXCEEDED
    } else {
        ready::CREATE_REJECTED
    };
    Some(NotReady {
        until: Some(rejected.until),
        ..NotReady::new(states::WAITING, reason, message)
    })
}

/// Returns why no OaatType can be used, if none can. `None` if at least one item has a usable type.
fn type_not_ready(snapshot: &GroupSnapshot) -> Option<NotReady> {
    let mut items = snapshot.items.iter();
    if items.any(|item| type_problem(snapshot.type_of(item)).is_none()) {
        return None;
    }
    let of_group = (snapshot.group.spec.oaat_type.as_str(), &snapshot.type_);
    let of_items = snapshot.items.iter().map(|item| snapshot.type_of(item));
    // With items, the type of the group matters only if an item uses it.
    let mut types = of_items.chain(snapshot.items.is_empty().then_some(of_group));
    types.find_map(type_problem)
}

/// Returns why an OaatType cannot be used, if it cannot.
pub(super) fn type_problem((name, type_): (&str, &TypeRead)) -> Option<NotReady> {
    let (state, reason, message) = match type_ {
        TypeRead::Valid(_) => return None,
        TypeRead::Missing => (
            states::WAITING,
            ready::TYPE_NOT_FOUND,
            format!("OaatType {name:?} does not exist in this namespace; create it"),
        ),
        TypeRead::Unchecked => (
            states::WAITING,
            ready::TYPE_NOT_CHECKED,
            format!("OaatType {name:?} is being checked"),
        ),
        TypeRead::Invalid(why) => (
            states::INVALID,
            ready::TYPE_INVALID,
            format!("OaatType {name:?} is invalid: {why}"),
        ),
    };
    Some(NotReady::new(state, reason, message))
}

/// Sets or removes the condition `UnknownItemOptions`, and adds an event if it is new or different.
/// Until all lists have been read, the condition is unchanged.
pub(super) fn update_unknown_item_options(snapshot: &GroupSnapshot, plan: &mut Plan) {
    if !snapshot.listing.unread.is_empty() {
        return;
    }
    let options = &snapshot.group.spec.item_options;
    let items: HashSet<_> = snapshot
        .items
        .iter()
        .filter(|_| !options.is_empty())
        .collect();
    let unknown: Vec<_> = options
        .keys()
        .filter(|name| !items.contains(name))
        .collect();
    let conditions = &mut plan.status.conditions;
    if unknown.is_empty() {
        conditions.retain(|c| c.type_ != unknown_item_options::TYPE);
        return;
    }
    let names = text::list(unknown, ", ", text::NAME);
    let message = format!(
        "spec.itemOptions has options for names that are not items: {names}; correct or remove them \
         (quote names such as y and on, which YAML turns into true)"
    );
    let before = condition(conditions, unknown_item_options::TYPE).map(|c| c.message.clone());
    let new = (
        unknown_item_options::TYPE,
        true,
        unknown_item_options::NO_SUCH_ITEM,
        message.clone(),
    );
    set_group_condition(snapshot, &mut plan.status, new);
    let after = condition(&plan.status.conditions, unknown_item_options::TYPE);
    if before.as_ref() != after.map(|c| &c.message) {
        plan.event(true, events::UNKNOWN_ITEM_OPTIONS, message, None);
    }
}

/// Sets or removes the conditions `Stalled` and `Reconciling`, which follow from `Ready` and
/// `PolicyReady`. Call this when everything else in the status is decided.
pub fn update_progress(snapshot: &GroupSnapshot, status: &mut OaatGroupStatus) {
    let progress = progress(status).map(|(type_, cause)| {
        let (reason, message) = (cause.reason.clone(), cause.message.clone());
        (type_, reason, message)
    });
    for type_ in [progress::STALLED, progress::RECONCILING] {
        if progress.as_ref().is_none_or(|(other, ..)| *other != type_) {
            status.conditions.retain(|c| c.type_ != type_);
        }
    }
    if let Some((type_, reason, message)) = progress {
        set_group_condition(snapshot, status, (type_, true, &reason, message));
    }
}

/// Returns the condition that is true according to the conventions of kstatus, and its cause.
fn progress(status: &OaatGroupStatus) -> Option<(&'static str, &Condition)> {
    let conditions = &status.conditions;
    let ready = condition(conditions, ready::TYPE).filter(|c| c.status == "False")?;
    match ready.reason.as_str() {
        ready::SPEC_INVALID | ready::UNDECODABLE | ready::TYPE_INVALID | ready::ITEMS_GIVEN_UP => {
            Some((progress::STALLED, ready))
        }
        ready::TYPE_NOT_CHECKED => Some((progress::RECONCILING, ready)),
        ready::POLICY_NOT_READY => {
            let policy = condition(conditions, policy_ready::TYPE);
            let policy = policy.filter(|c| c.status == "False")?;
            match policy.reason.as_str() {
                policy_ready::LOADING => Some((progress::RECONCILING, policy)),
                // These may pass without a change by the user.
                policy_ready::SOURCE_NOT_FOUND
                | policy_ready::SOURCE_UNREADABLE
                | policy_ready::COMPILER_UNAVAILABLE
                | policy_ready::DEADLINE => None,
                // If the machine was too busy, the component is not recorded as rejected, and is
                // compiled again.
                policy_ready::COMPILE_TIMEOUT | policy_ready::PROBE_FAILED
                    if status.rejected_policy.is_none() =>
                {
                    None
                }
                _ => Some((progress::STALLED, policy)),
            }
        }
        // The cause passes by itself, or is outside the group.
        _ => None,
    }
}

/// Sets or removes the condition `ItemsReady`. Returns an event if its reason has changed.
fn update_items_ready(
    snapshot: &GroupSnapshot,
    status: &mut OaatGroupStatus,
) -> Option<PendingEvent> {
    let Some((ready, reason, message)) = &snapshot.listing.ready else {
        status.conditions.retain(|c| c.type_ != items_ready::TYPE);
        return None;
    };
    let before = condition(&status.conditions, items_ready::TYPE).map(|c| c.reason.clone());
    let condition = (items_ready::TYPE, *ready, *reason, message.clone());
    set_group_condition(snapshot, status, condition);
    if before.as_deref() == Some(*reason) || *reason == items_ready::LISTING {
        return None;
    }
    Some(PendingEvent {
        warning: !ready,
        reason: if *ready {
            events::ITEMS_READY
        } else {
            events::ITEMS_NOT_READY
        },
        action: Some((*reason).to_owned()),
        message: message.clone(),
        pod: None,
    })
}

/// Sets `state`, `message`, and the conditions, except for what follows from a decision of the
/// policy. `problem` is what is wrong with the current pod.
pub(super) fn set_running_or_idle_status(
    snapshot: &GroupSnapshot,
    valid: Option<&ValidatedGroup>,
    plan: &mut Plan,
    not_ready: Option<NotReady>,
    problem: Option<RunProblem>,
) {
    let status = &mut plan.status;
    let requested = run_now::waiting(&snapshot.group, &snapshot.items, status)
        .map(|items| format!("requested to run now: {items}"));
    plan.events.extend(update_items_ready(snapshot, status));
    let before = condition(&status.conditions, ready::TYPE).cloned();
    let condition = match (&not_ready, &before) {
        (Some(n), _) => {
            let as_requested = ready::TRUE.contains(&n.reason);
            (ready::TYPE, as_requested, n.reason, n.message.clone())
        }
        // Until the next decision, the last one remains valid.
        (None, Some(before))
            if status.current.is_none()
                && ready::OF_DECISIONS.contains(&before.reason.as_str()) =>
        {
            let (is_true, message) = (before.status == "True", before.message.clone());
            (ready::TYPE, is_true, before.reason.as_str(), message)
        }
        (None, _) => {
            let message = "ready to start the next item".into();
            (ready::TYPE, true, ready::READY, message)
        }
    };
    set_group_condition(snapshot, status, condition);
    let Some(current) = status.current.clone() else {
        set_idle_status(snapshot, status, not_ready, requested);
        return;
    };
    let reason = problem.as_ref().map_or(running::POD_ACTIVE, |p| p.reason);
    let condition = (running::TYPE, true, reason, run_and_pod(&current));
    set_group_condition(snapshot, status, condition);
    status.state = Some(states::RUNNING.into());
    status.next = None;
    let item = text::name(&current.item);
    let next = not_ready.map(|n| n.message).or(requested);
    let message = match (problem, next) {
        (Some(problem), _) => format!("{item}: pod {} {}", current.pod_name, problem.message),
        (None, Some(next)) => format!("running {item}; next: {next}"),
        (None, None) => {
            // The decision that started this run. A run that was adopted has none.
            let decision = status.last_decision.as_ref();
            let decision =
                decision.filter(|last| last.item == current.item && last.time == current.claimed);
            describe_run(status, valid, &current.item, decision)
        }
    };
    status.message = Some(mention_rejected_settings(status, message));
    set_item_running(status, &current);
}

/// Sets what is shown while no item runs. Without a reason why no item can start, the state and the
/// message are left to the decision.
fn set_idle_status(
    snapshot: &GroupSnapshot,
    status: &mut OaatGroupStatus,
    not_ready: Option<NotReady>,
    requested: Option<String>,
) {
    let message = "no item is running".into();
    let condition = (running::TYPE, false, running::NOT_RUNNING, message);
    set_group_condition(snapshot, status, condition);
    status.currently_running = None;
    status.pod = None;
    for item in status
        .items
        .values_mut()
        .filter(|i| i.state == ItemState::Running)
    {
        item.state = ItemState::Ready;
    }
    for item in status.items.values_mut() {
        if let Some(since) = item.missing_since {
            item_sources::hold_missing(item, since);
        }
    }
    if let Some(not_ready) = not_ready {
        status.state = Some(not_ready.state.into());
        let until = not_ready.until.filter(|_| !not_ready.endless);
        status.next = until.map(|until| until.seconds().to_string());
        status.message = Some(match requested {
            Some(requested) => format!("{}; {requested}", not_ready.message),
            None => not_ready.message,
        });
    }
}

/// Shows the item of the current run as running.
pub(super) fn set_item_running(status: &mut OaatGroupStatus, current: &CurrentRun) {
    status.currently_running = Some(current.item.clone());
    status.pod = Some(current.pod_name.clone());
    status.last_run = Some(current.claimed);
    for (name, item) in &mut status.items {
        if *name == current.item {
            item.state = ItemState::Running;
            item.message = None;
            item.next = None;
        } else if item.state == ItemState::Running {
            item.state = ItemState::Ready;
        }
    }
}

/// Describes the item, the number, and the pod of the current run.
pub(super) fn run_and_pod(current: &CurrentRun) -> String {
    let CurrentRun {
        item,
        run,
        pod_name,
        ..
    } = current;
    format!("{} as run {run} in pod {pod_name}", text::name(item))
}
