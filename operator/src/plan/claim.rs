//! What follows from a decision: the claim of the new pod, or why no pod was created.

use super::conditions::{run_and_pod, set_group_condition, set_item_running};
use super::{Plan, Start};
use crate::run_history;
use crate::snapshot::GroupSnapshot;
use oaat_api::reasons::{events, ready, running, states};
use oaat_api::text;
use oaat_api::{CurrentRun, OaatGroupStatus};
use std::time::Duration;

/// Makes a candidate the current run.
pub fn claim(snapshot: &GroupSnapshot, status: &mut OaatGroupStatus, current: &CurrentRun) {
    set_item_running(status, current);
    let message = run_and_pod(current);
    let condition = (running::TYPE, true, running::POD_ACTIVE, message);
    set_group_condition(snapshot, status, condition);
    status.current = Some(current.clone());
}

/// Requeues the group after `wait`, because the policy cannot be asked yet. The status changes only
/// if a run has just ended.
pub fn defer_decision(snapshot: &GroupSnapshot, plan: &mut Plan, wait: Duration) {
    plan.requeue_at(snapshot.now.plus(wait));
    let shows_running = plan.status.state.as_deref() == Some(states::RUNNING);
    if plan.status.current.is_none() && shows_running {
        plan.status.state = Some(states::WAITING.into());
        plan.status.next = None;
        plan.status.message = Some("waiting for the policy to select the next item".into());
    }
}

/// Records that the pod of an item was rejected: a failure of the item, and a pause for the group.
/// `code` is the HTTP status of the rejection.
pub fn record_rejected_pod(
    snapshot: &GroupSnapshot,
    plan: &mut Plan,
    start: &Start,
    code: u16,
    message: &str,
) {
    run_history::reject(
        &mut plan.status,
        &start.item,
        start.run,
        message,
        snapshot.now,
        snapshot.retry_floor,
    );
    let until = plan
        .status
        .rejected
        .as_ref()
        .map_or(snapshot.now, |r| r.until);
    let rejection = format!(
        "the pod of {} was rejected ({code}): {message}",
        text::name(&start.item)
    );
    let message = format!("waiting until {}: {rejection}", until.seconds());
    set_not_started_status(snapshot, &mut plan.status, ready::CREATE_REJECTED, message);
    plan.status.next = Some(until.seconds().to_string());
    plan.event(true, events::CREATE_REJECTED, rejection, None);
    plan.requeue_at(until);
}

/// Reports that a pod could not be created for a reason other than the pod itself. Nothing is
/// counted, and the caller writes the status that was planned before the start.
pub fn record_create_unavailable(
    snapshot: &GroupSnapshot,
    status: &mut OaatGroupStatus,
    start: &Start,
    error: &str,
) {
    let message = format!(
        "failed to create the pod of {}, retrying: {error}",
        text::name(&start.item)
    );
    set_not_started_status(snapshot, status, ready::CREATE_UNAVAILABLE, message);
}

fn set_not_started_status(
    snapshot: &GroupSnapshot,
    status: &mut OaatGroupStatus,
    reason: &str,
    message: String,
) {
    status.state = Some(states::WAITING.into());
    status.next = None;
    status.message = Some(message.clone());
    set_group_condition(snapshot, status, (ready::TYPE, false, reason, message));
}
