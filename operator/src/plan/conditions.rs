//! The user-visible state of a group: `state`, `message`, and the conditions.

use super::decision::describe_run;
use super::{PendingEvent, Plan};
use crate::item_sources;
use crate::run_now;
use crate::snapshot::GroupSnapshot;
use crate::snapshot::TypeRead;
use oaat_api::reasons::{events, items_ready, ready, running, states};
use oaat_api::text;
use oaat_api::validate::{self, FieldError, ValidatedGroup, suspended};
use oaat_api::windows;
use oaat_api::{CurrentRun, ItemState, OaatGroupStatus, Timestamp, condition, set_condition};

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
    fn new(state: &'static str, reason: &'static str, message: String) -> Self {
        Self {
            state,
            reason,
            message,
            until: None,
            endless: false,
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
    condition: (&str, bool, &str, String),
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
    Some(NotReady {
        until: Some(rejected.until),
        ..NotReady::new(states::WAITING, ready::CREATE_REJECTED, message)
    })
}

/// Returns why the group's OaatType cannot be used, if it cannot.
fn type_not_ready(snapshot: &GroupSnapshot) -> Option<NotReady> {
    let name = &snapshot.group.spec.oaat_type;
    let (state, reason, message) = match &snapshot.type_ {
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
        message: message.clone(),
        pod: None,
    })
}

/// Sets `state`, `message`, and the conditions, except for what follows from a decision of the
/// policy. `problem` is what keeps the current pod from starting or ending.
pub(super) fn set_running_or_idle_status(
    snapshot: &GroupSnapshot,
    valid: Option<&ValidatedGroup>,
    plan: &mut Plan,
    not_ready: Option<NotReady>,
    problem: Option<String>,
) {
    let status = &mut plan.status;
    let requested = run_now::waiting(&snapshot.group, &snapshot.items, status)
        .map(|items| format!("requested to run now: {items}"));
    plan.events.extend(update_items_ready(snapshot, status));
    let condition = match &not_ready {
        Some(n) => (ready::TYPE, false, n.reason, n.message.clone()),
        None => {
            let message = "ready to start the next item".into();
            (ready::TYPE, true, ready::READY, message)
        }
    };
    set_group_condition(snapshot, status, condition);
    let Some(current) = status.current.clone() else {
        set_idle_status(snapshot, status, not_ready, requested);
        return;
    };
    let reason = if problem.is_some() {
        running::NOT_STARTED
    } else {
        running::POD_ACTIVE
    };
    let condition = (running::TYPE, true, reason, run_and_pod(&current));
    set_group_condition(snapshot, status, condition);
    status.state = Some(states::RUNNING.into());
    status.next = None;
    let item = text::name(&current.item);
    let next = not_ready.map(|n| n.message).or(requested);
    status.message = Some(match (problem, next) {
        (Some(problem), _) => format!("{item}: pod {} {problem}", current.pod_name),
        (None, Some(next)) => format!("running {item}; next: {next}"),
        (None, None) => {
            // The decision that started this run. A run that was adopted has none.
            let decision = status.last_decision.as_ref();
            let decision =
                decision.filter(|last| last.item == current.item && last.time == current.claimed);
            describe_run(status, valid, &current.item, decision)
        }
    });
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
            item.message = Some(format!("run {} in pod {}", current.run, current.pod_name));
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
