//! What follows from a decision: the claim of the new pod, or why no pod was created.

use super::conditions::{run_and_pod, set_group_condition, set_item_running};
use super::pods::finished_pods;
use super::{Plan, Start};
use crate::pod::{Phase, PodView};
use crate::run_history;
use crate::snapshot::GroupSnapshot;
use oaat_api::reasons::{events, ready, running, states};
use oaat_api::text;
use oaat_api::{CurrentRun, OaatGroupStatus, Timestamp};
use std::time::Duration;

/// The maximum number of items in `status.rejected.items`.
const MAX_QUOTA_ITEMS: usize = 20;

/// Makes a candidate the current run.
pub fn claim(snapshot: &GroupSnapshot, status: &mut OaatGroupStatus, current: &CurrentRun) {
    set_item_running(status, current);
    let message = run_and_pod(current);
    let condition = (running::TYPE, true, running::POD_ACTIVE, message);
    set_group_condition(snapshot, status, condition);
    let message = "ready to start the next item".into();
    let condition = (ready::TYPE, true, ready::READY, message);
    set_group_condition(snapshot, status, condition);
    status.current = Some(current.clone());
}

/// Requeues the group after `wait`, because the policy cannot be asked yet. The status changes only
/// if it shows a run that has ended, or why no item could start before.
pub fn defer_decision(snapshot: &GroupSnapshot, plan: &mut Plan, wait: Duration) {
    plan.requeue_at(snapshot.now.plus(wait));
    let reasons = [
        states::BLACKOUT,
        states::BLOCKED,
        states::INVALID,
        states::SUSPENDED,
    ];
    let is_outdated = plan.status.state.as_deref().is_some_and(|state| {
        state == states::RUNNING || (plan.may_start && reasons.contains(&state))
    });
    if plan.status.current.is_none() && is_outdated {
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

/// Records that a quota leaves no room for the pod of an item: a pause for the group, but no run and
/// no failure of the item. If the quota counts finished pods, one of the group's is deleted: the
/// oldest that succeeded, or else the oldest that failed.
pub fn record_quota_exceeded(
    snapshot: &GroupSnapshot,
    plan: &mut Plan,
    start: &Start,
    message: &str,
    counts_finished_pods: bool,
) {
    // Pauses for other reasons do not count.
    plan.status.rejected.take_if(|rejected| !rejected.quota);
    let before = plan.status.rejected.as_ref();
    let is_first = before.is_none();
    let mut items = before.map(|r| r.items.clone()).unwrap_or_default();
    run_history::back_off(&mut plan.status, message, snapshot.now, Duration::ZERO);
    let Some(rejected) = plan.status.rejected.as_mut() else {
        return;
    };
    rejected.quota = true;
    items.retain(|item| *item != start.item);
    items.push(start.item.clone());
    let surplus = items.len().saturating_sub(MAX_QUOTA_ITEMS);
    rejected.items = items.split_off(surplus);
    let until = rejected.until;
    let no_room = format!(
        "a ResourceQuota leaves no room for the pod of {}: {message}",
        text::name(&start.item)
    );
    if is_first {
        plan.event(true, events::QUOTA_EXCEEDED, no_room.clone(), None);
    }
    let message = format!("waiting until {}: {no_room}", until.seconds());
    set_not_started_status(snapshot, &mut plan.status, ready::QUOTA_EXCEEDED, message);
    plan.status.next = Some(until.seconds().to_string());
    if counts_finished_pods {
        let finished = finished_pods(snapshot, &plan.status);
        let oldest_success =
            |(ended, pod): &(Timestamp, &PodView)| (pod.phase != Phase::Succeeded, *ended);
        let oldest = finished.into_iter().min_by_key(oldest_success);
        plan.expired.extend(oldest.map(|(_, pod)| pod.into()));
    }
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
