//! The run in progress, and all other pods of the group.

use super::complete::{self, complete};
use super::conditions::{BlockingPod, not_ready, show};
use super::{CurrentPod, GroupSnapshot, Plan, PodId};
use crate::item_sources;
use crate::legacy;
use crate::mutation::broken;
use crate::pod::{PodView, ended_at, outcome};
use crate::run_history;
use crate::run_now::{self, RunNowUpdate};
use oaat_api::text;
use oaat_api::validate::{FieldError, ValidatedGroup};
use oaat_api::windows;
use oaat_api::{Current, RunResult, Stopping};
use std::time::Duration;

/// How long another replica may take between creating a candidate and claiming it,
/// before one that does not hold the lease removes it.
const CANDIDATE_AGE: Duration = Duration::from_secs(5);

/// Between two looks at a pod that no watch shows.
const UNWATCHED: Duration = Duration::from_secs(5);

/// The farthest that is looked ahead to a window.
const FARTHEST: Duration = Duration::from_secs(30 * 24 * 3600);
/// Why a window ends a run.
pub(crate) const BLACKOUT: &str = "Blackout";

/// Looks at the run in progress and at all other pods.
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
    let old = &snapshot.group.spec.windows;
    if !old.is_empty() && plan.status.observed_generation != snapshot.group.metadata.generation {
        plan.event(true, "WindowsNotHeeded", legacy::windows(old), None);
    }
    plan.status.observed_generation = snapshot.group.metadata.generation;
    if list_items(snapshot, &mut plan) {
        let words = "the items' history was taken over from the operator before this one";
        plan.event(false, "HistoryTakenOver", words.into(), None);
    }
    let problem = plan_current_run(snapshot, valid.as_ref().ok(), &mut plan);
    let blocking_pods = plan_other_pods(snapshot, &mut plan);
    expire(snapshot, valid.as_ref().ok(), &mut plan);

    let not_ready = not_ready(snapshot, valid, &blocking_pods, &plan.status);
    if let Some(until) = not_ready.as_ref().and_then(|h| h.until) {
        plan.requeue_at(until);
    }
    watch_windows(snapshot, valid.as_ref().ok(), &mut plan);
    process(snapshot, &mut plan);
    let free = not_ready.is_none() && plan.status.current.is_none();
    let rests = complete(snapshot, &mut plan)
        && run_now::waiting(&snapshot.group, &snapshot.items, &plan.status).is_none();
    plan.may_start = free && !rests;
    show(snapshot, &mut plan, not_ready, problem);
    if free && rests {
        complete::show(&mut plan);
    }
    plan
}

/// What runs may have to be ended when a window opens, and what people read changes with it.
fn watch_windows(snapshot: &GroupSnapshot, valid: Option<&ValidatedGroup>, plan: &mut Plan) {
    let Some(valid) = valid else { return };
    let next = match windows::blackout(&valid.windows, snapshot.now) {
        None => windows::next(&valid.windows, snapshot.now),
        // One that opens in a blackout is no news, unless it ends what runs.
        Some(_) if plan.status.current.is_none() => None,
        Some(_) => windows::next(
            valid.windows.iter().filter(|window| window.stop),
            snapshot.now,
        ),
    };
    if let Some(next) = next {
        // No timer is good for years.
        plan.requeue_at(next.min(snapshot.now.plus(FARTHEST)));
    }
}

/// Takes note of what people ask for by the annotation.
fn process(snapshot: &GroupSnapshot, plan: &mut Plan) {
    match run_now::process(
        &snapshot.group,
        &snapshot.items,
        &mut plan.status,
        snapshot.now,
    ) {
        None => {}
        Some(RunNowUpdate::Accepted(items)) => {
            plan.event(false, "RunNow", format!("asked to run now: {items}"), None);
        }
        Some(RunNowUpdate::Wrong(what)) => plan.event(true, "RunNowNotUnderstood", what, None),
    }
}

/// Brings the map of items into line with the list. Gives whether there was something of the
/// first implementation of these kinds in it.
fn list_items(snapshot: &GroupSnapshot, plan: &mut Plan) -> bool {
    let items = &snapshot.items;
    let before = &snapshot.listing.before;
    plan.status
        .item_sources
        .clone_from(&snapshot.listing.sources);
    let forgotten = item_sources::put_in_force(&mut plan.status, items, before, snapshot.now);
    for again in snapshot.listing.requeue_at.into_iter().chain(forgotten) {
        plan.requeue_at(again);
    }
    let items = plan.status.items.values_mut();
    items
        .map(legacy::inherit)
        .fold(false, |some, one| some | one)
}

/// The run in progress: recorded if it is over, else looked after. Gives what keeps
/// it from starting.
fn plan_current_run(
    snapshot: &GroupSnapshot,
    valid: Option<&ValidatedGroup>,
    plan: &mut Plan,
) -> Option<String> {
    let current = plan.status.current.clone();
    match (&snapshot.current, current) {
        (CurrentPod::None, _) | (_, None) => adopt(snapshot, plan),
        (CurrentPod::Present(pod), Some(current)) if !pod.terminal() => {
            supervise_current_pod(snapshot, valid, plan, pod, current)
        }
        (CurrentPod::Present(pod), Some(current)) => {
            finish(snapshot, plan, &current, Some(pod));
            None
        }
        (CurrentPod::Absent(last), Some(current)) => {
            finish(snapshot, plan, &current, last.as_ref());
            None
        }
    }
}

fn finish(snapshot: &GroupSnapshot, plan: &mut Plan, current: &Current, pod: Option<&PodView>) {
    let finished = outcome(
        pod,
        snapshot.deleted_while_running,
        current.stopping.as_ref(),
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
        RunResult::Succeeded => "Succeeded",
        RunResult::Failed => "Failed",
        RunResult::Stopped => "Stopped",
    };
    plan.event(
        finished.result == RunResult::Failed,
        reason,
        format!(
            "run {} of {}{aside} {}",
            current.run,
            text::name(&current.item),
            run_history::sentence(&finished)
        ),
        Some(PodId {
            name: current.pod_name.clone(),
            uid: current.pod_uid.clone(),
            version: None,
        }),
    );
}

/// A current pod that is not over.
fn supervise_current_pod(
    snapshot: &GroupSnapshot,
    valid: Option<&ValidatedGroup>,
    plan: &mut Plan,
    pod: &PodView,
    current: Current,
) -> Option<String> {
    let listed = snapshot.pods.iter().any(|other| other.uid == pod.uid);
    if !listed || !pod.labelled {
        // Somebody took its label away, and with it our watch; or it never had one, as those of the
        // first implementation of these kinds.
        plan.requeue_at(snapshot.now.plus(UNWATCHED));
    }
    let problem = pod.problem().or_else(|| {
        let lost = "has lost the label oaat.kawaja.net/group and is looked at every few seconds";
        (!listed).then(|| lost.to_owned())
    });
    if pod.deletion.is_some() {
        return problem;
    }
    if pod.gated && current.stopping.is_none() && !broken!(OnlyClaimerOpens) {
        resume(snapshot, plan, pod, &current);
    }
    let windows = valid.map(|valid| valid.windows.as_slice());
    let blackout = windows::blackout(windows.unwrap_or_default(), snapshot.now).filter(|b| b.stop);
    let by_window = current
        .stopping
        .as_ref()
        .is_some_and(|s| s.reason == BLACKOUT);
    if current.stopping.is_some() && pod.started() && !by_window {
        // Written, and then interrupted for so long that the pod has started after all. (A stop by
        // a window is done also after that has closed: its deletion may be on its way.)
        plan.status.current = Some(Current {
            stopping: None,
            ..current
        });
    } else if let (None, Some(blackout)) = (&current.stopping, blackout) {
        let message = format!("{blackout}, which ends what runs");
        plan.event(
            false,
            "Stopping",
            format!("{}: {message}", text::name(&current.item)),
            Some(pod.into()),
        );
        stop(snapshot, plan, pod, current, BLACKOUT, message);
    } else if current.stopping.is_some() {
        // Written, and then interrupted before the deletion.
        plan.stop = Some(PodId::exactly(pod));
    } else if let Some(timeout) = valid.and_then(|v| v.start_timeout)
        && !pod.started()
    {
        // From the claim on: a candidate's creation is of no concern to the user, and
        // both are on record.
        let since = pod.created.max(current.claimed);
        let since = since
            .max(pod.initialized().unwrap_or(since))
            .min(snapshot.now);
        let deadline = since.plus(timeout);
        if snapshot.now < deadline {
            plan.requeue_at(deadline);
        } else {
            let why = pod.problem().unwrap_or_else(|| "has not started".into());
            let message = format!(
                "no container had started after startTimeout ({}): the pod {why}",
                humantime::format_duration(timeout)
            );
            plan.event(
                true,
                "StartTimeout",
                format!("{}: {message}", text::name(&current.item)),
                Some(pod.into()),
            );
            stop(snapshot, plan, pod, current, "StartTimeout", message);
        }
    }
    if plan.stop.is_some() {
        // Should it change in the moment of its deletion, it is looked at afresh.
        plan.requeue_at(snapshot.now.plus(UNWATCHED));
    }
    problem
}

/// The run is to be ended: the status says why, and then its pod is deleted.
fn stop(
    snapshot: &GroupSnapshot,
    plan: &mut Plan,
    pod: &PodView,
    current: Current,
    reason: &str,
    message: String,
) {
    plan.open = None;
    plan.stop = Some(PodId::exactly(pod));
    plan.status.current = Some(Current {
        stopping: Some(Stopping {
            reason: reason.into(),
            message,
            since: snapshot.now,
        }),
        ..current
    });
}

/// The run was claimed and its gate is still shut. The status says who opens it, and that from
/// a write that comes before: whoever claimed it may be slow and not gone, and takes the claim
/// back if the pod is not there to be opened. After that write it cannot, so that a run which
/// began, and whose pod was gone at once, is not forgotten.
fn resume(snapshot: &GroupSnapshot, plan: &mut Plan, pod: &PodView, current: &Current) {
    plan.open = Some(pod.into());
    plan.status.current = Some(Current {
        resumed: current.resumed.or(Some(snapshot.now)),
        ..current.clone()
    });
}

/// No run is in progress by the status, but a pod of ours that may run is there:
/// somebody wiped the status. The pod was opened once, so it is the current one.
fn adopt(snapshot: &GroupSnapshot, plan: &mut Plan) -> Option<String> {
    plan.status.current = None;
    if broken!(NoAdoption) {
        return None;
    }
    let ours = |pod: &&PodView| owned(snapshot, pod) && !pod.terminal() && !pod.gated;
    let pod = snapshot
        .pods
        .iter()
        .filter(ours)
        .max_by_key(|pod| pod.run)?;
    let run = next_run(snapshot);
    let item = pod.item.clone().unwrap_or_default();
    plan.event(
        true,
        "Adopted",
        format!(
            "pod {} runs {} and is not in the status; adopted as run {run}",
            pod.name,
            text::name(&item)
        ),
        Some(pod.into()),
    );
    if let Some(item) = plan.status.items.get_mut(&item) {
        item.last_started = Some(pod.created);
    }
    plan.status.run = Some(run);
    plan.status.current = Some(Current {
        run,
        item,
        pod_name: pod.name.clone(),
        pod_uid: pod.uid.clone(),
        claimed: pod.created,
        stopping: None,
        resumed: None,
    });
    pod.problem()
}

/// Whether this very group controls a pod; one of the same name does not count.
fn owned(snapshot: &GroupSnapshot, pod: &PodView) -> bool {
    pod.owner.as_ref() == Some(&snapshot.uid)
}

/// The next run's number: above every number seen, so that it only grows even where
/// the status was wiped.
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

/// All pods but the current one. Gives those that must be gone before anything may
/// start, in words.
fn plan_other_pods(snapshot: &GroupSnapshot, plan: &mut Plan) -> Vec<BlockingPod> {
    let current = plan.status.current.as_ref().map(|c| c.pod_uid.clone());
    let mut blocking_pods = Vec::new();
    for pod in &snapshot.pods {
        if pod.terminal() || current.as_ref() == Some(&pod.uid) {
            continue;
        }
        if !pod.labelled {
            plan.requeue_at(snapshot.now.plus(UNWATCHED));
        }
        if !owned(snapshot, pod) {
            blocking_pods.push(BlockingPod::foreign(format!(
                "pod {} carries this group's name, is not of this group ({}), and may still run: \
                 it must end or be deleted first",
                pod.name,
                match &pod.owner {
                    Some(uid) => format!("it belongs to a group with uid {uid}"),
                    None => "no group owns it".to_owned(),
                }
            )));
            continue;
        }
        let what = if pod.gated {
            "a candidate that was not chosen"
        } else {
            "not the current run"
        };
        blocking_pods.push(BlockingPod::ours(format!(
            "pod {} is {what}: it is deleted and waited for",
            pod.name
        )));
        if pod.deletion.is_some() {
            continue;
        }
        let age = snapshot.now.0.saturating_sub(pod.created.0);
        // Another replica may be about to claim it. One from the future says that a
        // clock is wrong; deleting is safe at any time, so it does not wait for ever.
        let young = (0..CANDIDATE_AGE.as_millis() as i64).contains(&age);
        if pod.gated && broken!(OpenAnyGated) {
            plan.open = Some(pod.into());
        } else if pod.gated && young && !snapshot.leads {
            plan.requeue_at(pod.created.plus(CANDIDATE_AGE));
        } else if pod.gated && !broken!(DeleteAnyVersion) {
            // Its number is used up. Once that is written, whoever has created it has read an
            // older group, and claims it no more.
            if !broken!(RemoveUnannounced) {
                plan.status.run = plan.status.run.max(pod.run);
            }
            // Another replica may open it in this very moment: then it is not this one.
            plan.stale_pods.push(PodId::exactly(pod));
            plan.requeue_at(snapshot.now.plus(UNWATCHED));
        } else {
            plan.stale_pods.push(pod.into());
        }
    }
    blocking_pods
}

/// Finished pods beyond what the user wants kept.
fn expire(snapshot: &GroupSnapshot, valid: Option<&ValidatedGroup>, plan: &mut Plan) {
    let Some(valid) = valid else { return };
    let current = plan.status.current.as_ref().map(|c| c.pod_uid.clone());
    let mut finished: Vec<_> = snapshot
        .pods
        .iter()
        .chain(match &snapshot.current {
            // A historic pod may be missing from the list; the current one never is.
            CurrentPod::Present(pod) if !snapshot.pods.iter().any(|p| p.uid == pod.uid) => {
                Some(pod)
            }
            _ => None,
        })
        .filter(|pod| owned(snapshot, pod) && pod.terminal() && pod.deletion.is_none())
        .filter(|pod| Some(&pod.uid) != current.as_ref())
        .map(|pod| (ended_at(pod, snapshot.now), pod))
        .collect();
    finished.sort_by_key(|(ended, pod)| std::cmp::Reverse((*ended, pod.run)));
    for (index, (ended, pod)) in finished.into_iter().enumerate() {
        let until = ended.plus(valid.pod_retention);
        if index >= valid.pod_history_limit || until <= snapshot.now {
            plan.expired.push(pod.into());
        } else {
            plan.requeue_at(until);
        }
    }
}
