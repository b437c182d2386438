//! Plans the run in progress and all other pods of the group.

use super::Plan;
use super::clock;
use super::complete;
use super::conditions::{
    BlockingPod, RunProblem, not_ready, set_running_or_idle_status, update_unknown_item_options,
};
use super::give_up;
use super::schedule_times::ScheduleTimes;
use crate::item_sources;
use crate::legacy;
use crate::mutation::broken;
use crate::pod::{Phase, PodView, completion, ended_at, judge};
use crate::run_history;
use crate::run_now::{self, RunNowUpdate};
use crate::snapshot::{CurrentPod, GroupSnapshot, PodId};
use oaat_api::reasons::stopping::BLACKOUT;
use oaat_api::reasons::{events, running, stopping};
use oaat_api::text;
use oaat_api::validate::{FieldError, ValidatedGroup};
use oaat_api::windows;
use oaat_api::{
    CurrentRun, ItemStatus, OaatGroupStatus, OtherGates, RunResult, Stopping, Timestamp, condition,
};
use std::collections::HashSet;
use std::time::Duration;

/// The age at which a replica without the lease deletes an unclaimed candidate. Until then, the
/// replica that created the candidate may still claim it.
const CANDIDATE_AGE: Duration = Duration::from_secs(5);

/// The requeue delay for a pod whose changes no watch reports.
const UNWATCHED: Duration = Duration::from_secs(5);

/// The requeue delay for a pod whose containers have not started.
const UNSTARTED: Duration = Duration::from_secs(30);
/// The shortest run that is reported as overdue.
const SHORTEST_OVERDUE: Duration = Duration::from_secs(60);

/// The maximum requeue delay for the opening of a window.
const MAX_WINDOW_DELAY: Duration = Duration::from_secs(30 * 24 * 3600);

/// Plans the run in progress and all other pods, and sets the status, except for the selection of
/// the next item.
pub fn plan_group(
    snapshot: &GroupSnapshot,
    valid: &Result<ValidatedGroup, Vec<FieldError>>,
) -> Plan {
    let mut plan = Plan {
        status: snapshot.group.status.clone().unwrap_or_default(),
        ..Plan::default()
    };
    if snapshot.terminating {
        return plan;
    }
    let old_windows = &snapshot.group.spec.windows;
    let new_spec = plan.status.observed_generation != snapshot.group.metadata.generation;
    if !old_windows.is_empty() && new_spec {
        let message = legacy::windows(old_windows);
        plan.event(true, events::WINDOWS_IGNORED, message, None);
    }
    plan.status.observed_generation = snapshot.group.metadata.generation;
    if update_items(snapshot, &mut plan) {
        let message = "migrated the item history from the original operator";
        plan.event(false, events::HISTORY_MIGRATED, message.into(), None);
    }
    if let Some(message) = clock::correct_future_times(snapshot, &mut plan.status) {
        plan.event(true, events::CLOCK_SKEW, message, None);
    }
    let problem = plan_current_run(snapshot, valid.as_ref().ok(), &mut plan);
    let blocking_pods = plan_other_pods(snapshot, &mut plan);
    expire_finished_pods(snapshot, valid.as_ref().ok(), &mut plan);
    give_up::update(snapshot, valid.as_ref().ok(), &mut plan);
    update_unknown_item_options(snapshot, &mut plan);

    let not_ready = not_ready(snapshot, valid, &blocking_pods, &plan.status);
    if let Some(until) = not_ready.as_ref().and_then(|n| n.until) {
        plan.requeue_at(until);
    }
    requeue_for_windows(snapshot, valid.as_ref().ok(), &mut plan);
    apply_run_now(snapshot, &mut plan);
    let requested = run_now::waiting(&snapshot.group, &snapshot.items, &plan.status).is_some();
    let (is_complete, failed) =
        complete::update_conditions(snapshot, valid.as_ref().ok(), requested, &mut plan);
    let not_ready = not_ready.or(failed);
    let nothing_prevents_start = not_ready.is_none() && plan.status.current.is_none();
    let nothing_to_do = is_complete && !requested;
    plan.may_start = nothing_prevents_start && !nothing_to_do;
    set_running_or_idle_status(snapshot, valid.as_ref().ok(), &mut plan, not_ready, problem);
    if nothing_prevents_start && nothing_to_do {
        complete::set_complete_status(snapshot, &mut plan);
    }
    plan
}

/// Requeues the group for the opening of the next window, which may end the run in progress and
/// changes the status.
fn requeue_for_windows(snapshot: &GroupSnapshot, valid: Option<&ValidatedGroup>, plan: &mut Plan) {
    let Some(valid) = valid else { return };
    let next = match windows::blackout(&valid.windows, snapshot.now) {
        None => windows::next(&valid.windows, snapshot.now),
        // During a blackout, the opening of another window matters only if it ends the run.
        Some(_) if plan.status.current.is_none() => None,
        Some(_) => windows::next(
            valid.windows.iter().filter(|window| window.stop),
            snapshot.now,
        ),
    };
    if let Some(next) = next {
        // Timers do not support delays of years.
        plan.requeue_at(next.min(snapshot.now.plus(MAX_WINDOW_DELAY)));
    }
}

/// Records what the annotation `run-now` requests.
fn apply_run_now(snapshot: &GroupSnapshot, plan: &mut Plan) {
    match run_now::process(
        &snapshot.group,
        &snapshot.items,
        &mut plan.status,
        snapshot.now,
    ) {
        None => {}
        Some(RunNowUpdate::Accepted(items)) => {
            let message = format!("requested to run now: {items}");
            plan.event(false, events::RUN_NOW, message, None);
        }
        Some(RunNowUpdate::Invalid(problem)) => {
            plan.event(true, events::RUN_NOW_INVALID, problem, None);
        }
    }
}

/// Updates `status.items` and `status.itemSources`. Returns whether an item had a history from the
/// original operator.
fn update_items(snapshot: &GroupSnapshot, plan: &mut Plan) -> bool {
    let items = &snapshot.items;
    let before = &snapshot.listing.before;
    plan.status
        .item_sources
        .clone_from(&snapshot.listing.sources);
    let next_removal = item_sources::update_items(&mut plan.status, items, before, snapshot.now);
    for at in snapshot.listing.requeue_at.into_iter().chain(next_removal) {
        plan.requeue_at(at);
    }
    let items = plan.status.items.values_mut();
    // Without a short circuit: the history of every item is taken over.
    items
        .map(legacy::migrate_history)
        .fold(false, |any, inherited| any | inherited)
}

/// Records the current run if it has ended, and supervises it otherwise. Returns the problem that
/// keeps its pod from starting or ending.
fn plan_current_run(
    snapshot: &GroupSnapshot,
    valid: Option<&ValidatedGroup>,
    plan: &mut Plan,
) -> Option<RunProblem> {
    let current = plan.status.current.clone();
    match (&snapshot.current, current) {
        (CurrentPod::None, _) | (_, None) => adopt(snapshot, plan).map(RunProblem::not_started),
        (CurrentPod::Present(pod), Some(current)) if !pod.is_terminal() => {
            supervise_current_pod(snapshot, valid, plan, pod, current)
        }
        (CurrentPod::Present(pod), Some(mut current)) => {
            if let Some(OtherGates { removed }) = &mut current.other_gates {
                *removed = removed.or(pod.accepted);
            }
            finish(snapshot, plan, &current, Some(pod));
            None
        }
        (CurrentPod::Absent(last), Some(current)) => {
            finish(snapshot, plan, &current, last.as_ref());
            None
        }
    }
}

/// Records the end of the current run.
fn finish(snapshot: &GroupSnapshot, plan: &mut Plan, current: &CurrentRun, pod: Option<&PodView>) {
    let completed = pod.and_then(|pod| completed(snapshot, pod));
    let finished = judge(
        pod,
        snapshot.deleted_while_running,
        current.stopping.as_ref().or(completed.as_ref()),
        snapshot.now,
    );
    run_history::finish(&mut plan.status, current, &finished);
    let listed = plan.status.items.contains_key(&current.item);
    let aside = if listed {
        ""
    } else {
        " (it is no longer in the list of items)"
    };
    let reason = match finished.result {
        RunResult::Succeeded => events::SUCCEEDED,
        RunResult::Failed => events::FAILED,
        RunResult::Stopped => events::STOPPED,
    };
    plan.event(
        finished.result == RunResult::Failed,
        reason,
        format!(
            "run {} of {}{aside} {}",
            current.run,
            text::name(&current.item),
            run_history::describe_result(&finished)
        ),
        Some(PodId {
            name: current.pod_name.clone(),
            uid: current.pod_uid.clone(),
            version: None,
        }),
    );
}

/// Returns the stop of a run whose completion containers have ended, with its result.
fn completed(snapshot: &GroupSnapshot, pod: &PodView) -> Option<Stopping> {
    let outcome = completion(pod, &pod.completion_containers, snapshot.now)?;
    Some(Stopping {
        reason: outcome.reason,
        message: outcome.message.unwrap_or_default(),
        since: outcome.finished,
        exit_code: outcome.exit_code,
    })
}

/// Supervises a current pod that has not ended: opens its gate if necessary, and stops it if its
/// completion containers have ended, or if a window or `startTimeout` requires that. Returns the
/// problem that keeps it from starting or ending.
fn supervise_current_pod(
    snapshot: &GroupSnapshot,
    valid: Option<&ValidatedGroup>,
    plan: &mut Plan,
    pod: &PodView,
    mut current: CurrentRun,
) -> Option<RunProblem> {
    let listed = snapshot.pods.iter().any(|other| other.uid == pod.uid);
    if !listed || !pod.labelled {
        // The watch does not report this pod: someone removed its label, or it is a pod of the
        // original operator, which set no label.
        plan.requeue_at(snapshot.now.plus(UNWATCHED));
    }
    let problem = pod.problem().or_else(|| {
        let unlabelled =
            "is missing the label oaat.kawaja.net/group, so the operator polls it every few seconds";
        (!listed).then(|| unlabelled.to_owned())
    });
    let problem = problem.map(RunProblem::not_started);
    let problem = problem.or_else(|| slow_progress(snapshot, valid, plan, pod, &current));
    if !pod.started() && !pod.gated && pod.other_gates.is_empty() {
        // Neither the start of a container nor a slow start triggers a reconcile.
        plan.requeue_at(snapshot.now.plus(UNSTARTED));
    }
    if pod.deletion_is_in_progress() {
        // The containers had ended before the deletion, so their result counts.
        if current.stopping.is_none()
            && let Some(completed) = completed(snapshot, pod)
        {
            current.stopping = Some(completed);
            plan.status.current = Some(current);
        }
        return problem;
    }
    if pod.deletion_is_incomplete() {
        plan.stop = Some(PodId::exactly(pod));
        plan.requeue_at(snapshot.now.plus(UNWATCHED));
        return problem;
    }
    record_other_gates(snapshot, plan, pod, &mut current);
    if pod.gated && current.stopping.is_none() && !broken!(OnlyClaimerOpens) {
        resume(snapshot, plan, pod, &current);
    }
    stop_if_required(snapshot, valid, plan, pod, current);
    if plan.stop.is_some() {
        // The deletion fails if the pod changes in the meantime. Then the group is planned again.
        plan.requeue_at(snapshot.now.plus(UNWATCHED));
    }
    problem
}

/// Records whether scheduling gates of other controllers hold the pod, and when the last of them was
/// removed. The pod does not show that time.
fn record_other_gates(
    snapshot: &GroupSnapshot,
    plan: &mut Plan,
    pod: &PodView,
    current: &mut CurrentRun,
) {
    let held = !pod.other_gates.is_empty();
    match &mut current.other_gates {
        gates @ None if held => *gates = Some(OtherGates::default()),
        Some(OtherGates { removed }) if !held && removed.is_none() => {
            // The node may have accepted the pod before the operator saw it without those gates.
            *removed = Some(pod.accepted.map_or(snapshot.now, |at| at.min(snapshot.now)));
        }
        _ => return,
    }
    plan.status.current = Some(current.clone());
}

/// Returns what takes unexpectedly long: the start of a pod, the end of its last containers, or the
/// whole run.
fn slow_progress(
    snapshot: &GroupSnapshot,
    valid: Option<&ValidatedGroup>,
    plan: &mut Plan,
    pod: &PodView,
    current: &CurrentRun,
) -> Option<RunProblem> {
    if let Some(delay) = pod.delay() {
        if snapshot.now < delay.at {
            plan.requeue_at(delay.at);
        } else {
            return Some(RunProblem {
                reason: if pod.started() {
                    running::POD_ACTIVE
                } else {
                    running::NOT_STARTED
                },
                message: delay.message,
            });
        }
    }
    let valid = valid.filter(|_| !pod.has_deadline && pod.started())?;
    let item = plan.status.items.get(&current.item)?;
    let longest = run_history::longest_success(item)?;
    let since = current.runnable_since();
    let overdue_at = since.plus((longest * 3).max(SHORTEST_OVERDUE));
    if snapshot.now < overdue_at {
        plan.requeue_at(overdue_at);
        return None;
    }
    let waiting = match count_due_items(snapshot, valid, plan, &current.item) {
        0 => String::new(),
        1 => "; 1 other item is due".to_owned(),
        n => format!("; {n} other items are due"),
    };
    let longest = humantime::format_duration(longest);
    let message = format!(
        "has been running since {}, more than three times as long as the longest of the item's last \
         successful runs ({longest}){waiting}",
        since.seconds(),
    );
    let before = condition(&plan.status.conditions, running::TYPE);
    if before.is_none_or(|before| before.reason != running::OVERDUE) {
        let event = format!("{}: pod {} {message}", text::name(&current.item), pod.name);
        plan.event(true, events::OVERDUE, event, Some(pod.into()));
    }
    Some(RunProblem {
        reason: running::OVERDUE,
        message,
    })
}

/// Returns the number of items that are due while `running` runs.
fn count_due_items(
    snapshot: &GroupSnapshot,
    valid: &ValidatedGroup,
    plan: &Plan,
    running: &str,
) -> usize {
    let mut schedules = ScheduleTimes::new(snapshot.now);
    let is_due = |name: &&String| {
        let rules = valid.rules(name);
        let item = plan.status.items.get(*name);
        let success = item.and_then(|item| item.last_success);
        let given_up = item.is_some_and(|item| give_up::has_given_up(rules, item));
        let mut recurs = |success| schedules.is_due_again(&rules.recurrence, success);
        *name != running && !rules.suspended && !given_up && success.is_none_or(&mut recurs)
    };
    snapshot.items.iter().filter(is_due).count()
}

/// Stops the current run if its completion containers have ended or if a window or `startTimeout`
/// requires that, or completes or withdraws a stop that the status already contains.
fn stop_if_required(
    snapshot: &GroupSnapshot,
    valid: Option<&ValidatedGroup>,
    plan: &mut Plan,
    pod: &PodView,
    current: CurrentRun,
) {
    let windows = valid.map(|valid| valid.windows.as_slice());
    let blackout = windows::blackout(windows.unwrap_or_default(), snapshot.now).filter(|b| b.stop);
    // A stop of a pod that never started.
    let withdrawable = |stopping: &Stopping| {
        stopping.reason != BLACKOUT && stopping.exit_code.is_none() && pod.started()
    };
    if current.stopping.as_ref().is_some_and(withdrawable) {
        // The pod started after all, because the operator was interrupted between writing the
        // reason and deleting the pod. (A stop by a window is completed even after the window has
        // closed, because the deletion may be on its way.)
        plan.status.current = Some(CurrentRun {
            stopping: None,
            ..current
        });
    } else if let (None, Some(completed)) = (&current.stopping, completed(snapshot, pod)) {
        stop(plan, pod, current, completed);
    } else if let (None, Some(blackout)) = (&current.stopping, blackout) {
        let message = format!("{blackout}, with running: Stop");
        plan.event(
            false,
            events::STOPPING,
            format!("stopping {}: {message}", text::name(&current.item)),
            Some(pod.into()),
        );
        let stopping = stopping_now(snapshot, BLACKOUT, message);
        stop(plan, pod, current, stopping);
    } else if current.stopping.is_some() {
        // The operator was interrupted between writing the reason and deleting the pod.
        plan.stop = Some(PodId::exactly(pod));
    } else if let Some(timeout) = valid.and_then(|v| v.start_timeout)
        && !pod.started()
    {
        enforce_start_timeout(snapshot, plan, pod, current, timeout);
    }
}

/// Stops the current run if no container has started within `startTimeout`, and requeues the group
/// for the timeout otherwise.
fn enforce_start_timeout(
    snapshot: &GroupSnapshot,
    plan: &mut Plan,
    pod: &PodView,
    current: CurrentRun,
    timeout: Duration,
) {
    if !pod.other_gates.is_empty() && !broken!(GatedPodTimesOut) {
        return;
    }
    // The timeout starts at the claim, because the time before it is not visible to the user, and
    // restarts when scheduling gates of other controllers were removed and when the init containers
    // have finished. All these times are stored, so the deadline does not move between reconciles.
    let gates_removed = current.other_gates.as_ref().and_then(|gates| gates.removed);
    let since = [gates_removed, pod.initialized()].into_iter().flatten();
    let since = since.fold(pod.created.max(current.claimed), Timestamp::max);
    let since = since.min(snapshot.now);
    let deadline = since.plus(timeout);
    if snapshot.now < deadline {
        plan.requeue_at(deadline);
        return;
    }
    let slow = || pod.delay().map(|delay| delay.message);
    let why = pod.problem().or_else(slow);
    let why = why.unwrap_or_else(|| "has not started".into());
    let message = format!(
        "no container started within startTimeout ({}): the pod {why}",
        humantime::format_duration(timeout)
    );
    plan.event(
        true,
        events::START_TIMEOUT,
        format!("{}: {message}", text::name(&current.item)),
        Some(pod.into()),
    );
    let stopping = stopping_now(snapshot, stopping::START_TIMEOUT, message);
    stop(plan, pod, current, stopping);
}

fn stopping_now(snapshot: &GroupSnapshot, reason: &str, message: String) -> Stopping {
    Stopping {
        reason: reason.into(),
        message,
        since: snapshot.now,
        exit_code: None,
    }
}

/// Ends the current run: the status records the reason, and then the pod is deleted.
fn stop(plan: &mut Plan, pod: &PodView, current: CurrentRun, stopping: Stopping) {
    plan.open = None;
    plan.stop = Some(PodId::exactly(pod));
    plan.status.current = Some(CurrentRun {
        stopping: Some(stopping),
        ..current
    });
}

/// Opens the gate of a claimed pod. A write before that records in the status that this replica
/// opens it: the replica that claimed the pod may be slow rather than gone, and withdraws its claim
/// if it finds no pod whose gate it can open. After the write, it cannot withdraw the claim, so a
/// run that began is recorded even if its pod disappears immediately.
fn resume(snapshot: &GroupSnapshot, plan: &mut Plan, pod: &PodView, current: &CurrentRun) {
    plan.open = Some(pod.into());
    plan.status.current = Some(CurrentRun {
        resumed: current.resumed.or(Some(snapshot.now)),
        ..current.clone()
    });
}

/// Adopts a pod of this group that may run although the status contains no current run, because
/// someone wiped the status. Its gate was opened, so it was the current pod. Returns the problem
/// that keeps it from starting or ending.
fn adopt(snapshot: &GroupSnapshot, plan: &mut Plan) -> Option<String> {
    plan.status.current = None;
    if broken!(NoAdoption) {
        return None;
    }
    let may_run = |pod: &&PodView| owned(snapshot, pod) && !pod.is_terminal() && !pod.gated;
    let pod = snapshot
        .pods
        .iter()
        .filter(may_run)
        .max_by_key(|pod| pod.run)?;
    let run = next_run(snapshot);
    let item = pod.item.clone().unwrap_or_default();
    plan.event(
        true,
        events::ADOPTED,
        format!(
            "adopted pod {} as run {run}: it runs {}, but the status did not contain it",
            pod.name,
            text::name(&item)
        ),
        Some(pod.into()),
    );
    if let Some(item) = plan.status.items.get_mut(&item) {
        item.last_started = Some(pod.created);
    }
    plan.status.run = Some(run);
    plan.status.current = Some(CurrentRun {
        run,
        item,
        pod_name: pod.name.clone(),
        pod_uid: pod.uid.clone(),
        claimed: pod.created,
        stopping: None,
        resumed: None,
        other_gates: None,
    });
    // The next reconcile supervises the pod.
    plan.requeue_at(snapshot.now);
    pod.problem()
}

/// Returns whether exactly this group, and not another one of the same name, controls a pod.
fn owned(snapshot: &GroupSnapshot, pod: &PodView) -> bool {
    pod.owner.as_ref() == Some(&snapshot.uid)
}

/// Returns the number of the next run. It is above every number in the status and on the group's
/// pods, so that numbers only grow even if the status was wiped.
pub fn next_run(snapshot: &GroupSnapshot) -> i64 {
    let recorded = snapshot.group.status.as_ref().and_then(|status| status.run);
    let labels = snapshot
        .pods
        .iter()
        .filter(|pod| owned(snapshot, pod))
        .filter(|_| !broken!(NumberFromStatus))
        .filter_map(|pod| pod.run);
    labels.chain(recorded).max().unwrap_or(0).saturating_add(1)
}

/// Plans all pods except the current one. Returns those that must be gone before anything may
/// start.
fn plan_other_pods(snapshot: &GroupSnapshot, plan: &mut Plan) -> Vec<BlockingPod> {
    let current = plan.status.current.as_ref().map(|c| c.pod_uid.clone());
    let mut blocking_pods = Vec::new();
    for pod in &snapshot.pods {
        if pod.is_terminal() || current.as_ref() == Some(&pod.uid) {
            continue;
        }
        if !pod.labelled {
            plan.requeue_at(snapshot.now.plus(UNWATCHED));
        }
        if !owned(snapshot, pod) {
            let owner = match &pod.owner {
                Some(uid) => format!("it belongs to the OaatGroup with UID {uid}"),
                None => "no OaatGroup owns it".to_owned(),
            };
            blocking_pods.push(BlockingPod::foreign(format!(
                "pod {} has the label of this group but does not belong to it ({owner}), and may \
                 still run; wait until it ends, or delete it",
                pod.name,
            )));
            continue;
        }
        let what = if pod.gated {
            "an unclaimed candidate"
        } else {
            "not the current run"
        };
        blocking_pods.push(BlockingPod::stale(format!(
            "waiting for the deletion of pod {}, which is {what}",
            pod.name
        )));
        if !pod.deletion_is_in_progress() {
            remove_stale_pod(snapshot, plan, pod);
        }
    }
    blocking_pods
}

/// Plans the deletion of a pod of this group that is not the current one.
fn remove_stale_pod(snapshot: &GroupSnapshot, plan: &mut Plan, pod: &PodView) {
    let age = snapshot.now.0.saturating_sub(pod.created.0);
    // Another replica may be about to claim a young candidate. A creation time in the future means
    // that a clock is wrong. Deleting is safe at any time, so such a candidate does not wait
    // forever.
    let young = (0..CANDIDATE_AGE.as_millis() as i64).contains(&age);
    if pod.gated && broken!(OpenAnyGated) {
        plan.open = Some(pod.into());
    } else if pod.gated && young && !snapshot.leads {
        plan.requeue_at(pod.created.plus(CANDIDATE_AGE));
    } else if pod.gated && !broken!(DeleteAnyVersion) {
        // The number of the candidate is used. Once that is written, the replica that created the
        // candidate has read an older version of the group and can no longer claim it.
        if !broken!(RemoveUnannounced) {
            plan.status.run = plan.status.run.max(pod.run);
        }
        // Another replica may open the gate at this moment. Then the resource version differs, and
        // the pod is not deleted.
        plan.stale_pods.push(PodId::exactly(pod));
        plan.requeue_at(snapshot.now.plus(UNWATCHED));
    } else {
        plan.stale_pods.push(pod.into());
    }
}

/// Plans the deletion of finished pods that exceed `podRetention` or `podHistoryLimit`.
fn expire_finished_pods(snapshot: &GroupSnapshot, valid: Option<&ValidatedGroup>, plan: &mut Plan) {
    let Some(valid) = valid else { return };
    let finished = finished_pods(snapshot, &plan.status);
    let mut kept_failures = HashSet::new();
    let mut kept = 0;
    for (ended, pod) in finished {
        let until = ended.plus(valid.pod_retention);
        // The log of the latest failed pod of an item explains its failure.
        let item = pod.item.as_ref();
        let is_failing = |item: &ItemStatus| item.failures.unwrap_or(0) > 0;
        let failing = item.is_some_and(|name| plan.status.items.get(name).is_some_and(is_failing));
        let is_latest_failure = failing && pod.phase == Phase::Failed && kept_failures.insert(item);
        if until <= snapshot.now || (kept >= valid.pod_history_limit && !is_latest_failure) {
            plan.expired.push(pod.into());
        } else {
            kept += usize::from(!is_latest_failure);
            plan.requeue_at(until);
        }
    }
}

/// Returns the finished pods of the group and when they ended, latest first.
pub(super) fn finished_pods<'a>(
    snapshot: &'a GroupSnapshot,
    status: &OaatGroupStatus,
) -> Vec<(Timestamp, &'a PodView)> {
    let current = status.current.as_ref().map(|current| &current.pod_uid);
    let mut finished: Vec<_> = snapshot
        .pods
        .iter()
        .chain(match &snapshot.current {
            // A pod of the original operator may be missing from the list, but never from here.
            CurrentPod::Present(pod) if !snapshot.pods.iter().any(|p| p.uid == pod.uid) => {
                Some(pod)
            }
            _ => None,
        })
        .filter(|pod| owned(snapshot, pod) && pod.is_terminal() && pod.deletion.is_none())
        .filter(|pod| Some(&pod.uid) != current)
        .map(|pod| (ended_at(pod, snapshot.now), pod))
        .collect();
    finished.sort_by_key(|(ended, pod)| std::cmp::Reverse((*ended, pod.run)));
    finished
}
