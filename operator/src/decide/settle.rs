//! The run in progress, and all other pods of the group.

use super::complete::{self, complete};
use super::show::{Blocker, hindrance, show};
use super::{CurrentPod, Observed, Plan, PodId};
use crate::items;
use crate::legacy;
use crate::mutation::broken;
use crate::pod::{PodView, ended_at, outcome};
use crate::record;
use crate::run_now::{self, News};
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
pub fn settle(seen: &Observed, valid: &Result<ValidatedGroup, Vec<FieldError>>) -> Plan {
    let mut plan = Plan {
        status: seen.group.status.clone().unwrap_or_default(),
        ..Plan::default()
    };
    if seen.ends {
        return plan;
    }
    let old = &seen.group.spec.windows;
    if !old.is_empty() && plan.status.observed_generation != seen.group.metadata.generation {
        plan.note(true, "WindowsNotHeeded", legacy::windows(old), None);
    }
    plan.status.observed_generation = seen.group.metadata.generation;
    if list_items(seen, &mut plan) {
        let words = "the items' history was taken over from the operator before this one";
        plan.note(false, "HistoryTakenOver", words.into(), None);
    }
    let trouble = settle_current(seen, valid.as_ref().ok(), &mut plan);
    let blockers = settle_others(seen, &mut plan);
    expire(seen, valid.as_ref().ok(), &mut plan);

    let hindrance = hindrance(seen, valid, &blockers, &plan.status);
    if let Some(until) = hindrance.as_ref().and_then(|h| h.until) {
        plan.look_again(until);
    }
    watch_windows(seen, valid.as_ref().ok(), &mut plan);
    heed(seen, &mut plan);
    let free = hindrance.is_none() && plan.status.current.is_none();
    let rests = complete(seen, &mut plan) && run_now::waiting(&seen.group, &plan.status).is_none();
    plan.free = free && !rests;
    show(seen, &mut plan, hindrance, trouble);
    if free && rests {
        complete::show(&mut plan);
    }
    plan
}

/// What runs may have to be ended when a window opens, and what people read changes with it.
fn watch_windows(seen: &Observed, valid: Option<&ValidatedGroup>, plan: &mut Plan) {
    let Some(valid) = valid else { return };
    let next = match windows::blackout(&valid.windows, seen.now) {
        None => windows::next(&valid.windows, seen.now),
        // One that opens in a blackout is no news, unless it ends what runs.
        Some(_) if plan.status.current.is_none() => None,
        Some(_) => windows::next(valid.windows.iter().filter(|window| window.stop), seen.now),
    };
    if let Some(next) = next {
        // No timer is good for years.
        plan.look_again(next.min(seen.now.plus(FARTHEST)));
    }
}

/// Takes note of what people ask for by the annotation.
fn heed(seen: &Observed, plan: &mut Plan) {
    match run_now::heed(&seen.group, &mut plan.status, seen.now) {
        None => {}
        Some(News::Accepted(items)) => {
            plan.note(false, "RunNow", format!("asked to run now: {items}"), None);
        }
        Some(News::Wrong(what)) => plan.note(true, "RunNowNotUnderstood", what, None),
    }
}

/// Brings the map of items into line with the list. Gives whether there was something of the
/// first implementation of these kinds in it.
fn list_items(seen: &Observed, plan: &mut Plan) -> bool {
    let items = &seen.group.spec.oaat_items;
    let before = &seen.listing.before;
    plan.status.item_sources.clone_from(&seen.listing.sources);
    let forgotten = items::put_in_force(&mut plan.status, items, before, seen.now);
    for again in seen.listing.again.into_iter().chain(forgotten) {
        plan.look_again(again);
    }
    let items = plan.status.items.values_mut();
    items
        .map(legacy::inherit)
        .fold(false, |some, one| some | one)
}

/// The run in progress: recorded if it is over, else looked after. Gives what keeps
/// it from starting.
fn settle_current(
    seen: &Observed,
    valid: Option<&ValidatedGroup>,
    plan: &mut Plan,
) -> Option<String> {
    let current = plan.status.current.clone();
    match (&seen.current, current) {
        (CurrentPod::None, _) | (_, None) => adopt(seen, plan),
        (CurrentPod::Present(pod), Some(current)) if !pod.terminal() => {
            look_after(seen, valid, plan, pod, current)
        }
        (CurrentPod::Present(pod), Some(current)) => {
            finish(seen, plan, &current, Some(pod));
            None
        }
        (CurrentPod::Absent(last), Some(current)) => {
            finish(seen, plan, &current, last.as_ref());
            None
        }
    }
}

fn finish(seen: &Observed, plan: &mut Plan, current: &Current, pod: Option<&PodView>) {
    let finished = outcome(pod, seen.deleted_alive, current.stopping.as_ref(), seen.now);
    record::finish(&mut plan.status, current, &finished);
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
    plan.note(
        finished.result == RunResult::Failed,
        reason,
        format!(
            "run {} of {}{aside} {}",
            current.run,
            text::name(&current.item),
            record::sentence(&finished)
        ),
        Some(PodId {
            name: current.pod_name.clone(),
            uid: current.pod_uid.clone(),
            version: None,
        }),
    );
}

/// A current pod that is not over.
fn look_after(
    seen: &Observed,
    valid: Option<&ValidatedGroup>,
    plan: &mut Plan,
    pod: &PodView,
    current: Current,
) -> Option<String> {
    let listed = seen.pods.iter().any(|other| other.uid == pod.uid);
    if !listed || !pod.labelled {
        // Somebody took its label away, and with it our watch; or it never had one, as those of the
        // first implementation of these kinds.
        plan.look_again(seen.now.plus(UNWATCHED));
    }
    let trouble = pod.trouble().or_else(|| {
        let lost = "has lost the label oaat.kawaja.net/group and is looked at every few seconds";
        (!listed).then(|| lost.to_owned())
    });
    if pod.deletion.is_some() {
        return trouble;
    }
    if pod.gated && current.stopping.is_none() && !broken!(OnlyClaimerOpens) {
        resume(seen, plan, pod, &current);
    }
    let windows = valid.map(|valid| valid.windows.as_slice());
    let blackout = windows::blackout(windows.unwrap_or_default(), seen.now).filter(|b| b.stop);
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
        plan.note(
            false,
            "Stopping",
            format!("{}: {message}", text::name(&current.item)),
            Some(pod.into()),
        );
        stop(seen, plan, pod, current, BLACKOUT, message);
    } else if current.stopping.is_some() {
        // Written, and then interrupted before the deletion.
        plan.stop = Some(PodId::exactly(pod));
    } else if let Some(timeout) = valid.and_then(|v| v.start_timeout)
        && !pod.started()
    {
        // From the claim on: a candidate's creation is of no concern to the user, and
        // both are on record.
        let since = pod.created.max(current.claimed);
        let since = since.max(pod.initialized().unwrap_or(since)).min(seen.now);
        let deadline = since.plus(timeout);
        if seen.now < deadline {
            plan.look_again(deadline);
        } else {
            let why = pod.trouble().unwrap_or_else(|| "has not started".into());
            let message = format!(
                "no container had started after startTimeout ({}): the pod {why}",
                humantime::format_duration(timeout)
            );
            plan.note(
                true,
                "StartTimeout",
                format!("{}: {message}", text::name(&current.item)),
                Some(pod.into()),
            );
            stop(seen, plan, pod, current, "StartTimeout", message);
        }
    }
    if plan.stop.is_some() {
        // Should it change in the moment of its deletion, it is looked at afresh.
        plan.look_again(seen.now.plus(UNWATCHED));
    }
    trouble
}

/// The run is to be ended: the status says why, and then its pod is deleted.
fn stop(
    seen: &Observed,
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
            since: seen.now,
        }),
        ..current
    });
}

/// The run was claimed and its gate is still shut. The status says who opens it, and that from
/// a write that comes before: whoever claimed it may be slow and not gone, and takes the claim
/// back if the pod is not there to be opened. After that write it cannot, so that a run which
/// began, and whose pod was gone at once, is not forgotten.
fn resume(seen: &Observed, plan: &mut Plan, pod: &PodView, current: &Current) {
    plan.open = Some(pod.into());
    plan.status.current = Some(Current {
        resumed: current.resumed.or(Some(seen.now)),
        ..current.clone()
    });
}

/// No run is in progress by the status, but a pod of ours that may run is there:
/// somebody wiped the status. The pod was opened once, so it is the current one.
fn adopt(seen: &Observed, plan: &mut Plan) -> Option<String> {
    plan.status.current = None;
    if broken!(NoAdoption) {
        return None;
    }
    let ours = |pod: &&PodView| owned(seen, pod) && !pod.terminal() && !pod.gated;
    let pod = seen.pods.iter().filter(ours).max_by_key(|pod| pod.run)?;
    let run = next_run(seen);
    let item = pod.item.clone().unwrap_or_default();
    plan.note(
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
    pod.trouble()
}

/// Whether this very group controls a pod; one of the same name does not count.
fn owned(seen: &Observed, pod: &PodView) -> bool {
    pod.owner.as_ref() == Some(&seen.uid)
}

/// The next run's number: above every number seen, so that it only grows even where
/// the status was wiped.
pub fn next_run(seen: &Observed) -> i64 {
    let recorded = seen.group.status.as_ref().and_then(|status| status.run);
    let labels = seen
        .pods
        .iter()
        .filter(|pod| owned(seen, pod))
        .filter(|_| !broken!(NumberFromStatus))
        .filter_map(|pod| pod.run);
    labels.chain(recorded).max().unwrap_or(0).saturating_add(1)
}

/// All pods but the current one. Gives those that must be gone before anything may
/// start, in words.
fn settle_others(seen: &Observed, plan: &mut Plan) -> Vec<Blocker> {
    let current = plan.status.current.as_ref().map(|c| c.pod_uid.clone());
    let mut blockers = Vec::new();
    for pod in &seen.pods {
        if pod.terminal() || current.as_ref() == Some(&pod.uid) {
            continue;
        }
        if !pod.labelled {
            plan.look_again(seen.now.plus(UNWATCHED));
        }
        if !owned(seen, pod) {
            blockers.push(Blocker::foreign(format!(
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
        blockers.push(Blocker::ours(format!(
            "pod {} is {what}: it is deleted and waited for",
            pod.name
        )));
        if pod.deletion.is_some() {
            continue;
        }
        let age = seen.now.0.saturating_sub(pod.created.0);
        // Another replica may be about to claim it. One from the future says that a
        // clock is wrong; deleting is safe at any time, so it does not wait for ever.
        let young = (0..CANDIDATE_AGE.as_millis() as i64).contains(&age);
        if pod.gated && broken!(OpenAnyGated) {
            plan.open = Some(pod.into());
        } else if pod.gated && young && !seen.leads {
            plan.look_again(pod.created.plus(CANDIDATE_AGE));
        } else if pod.gated && !broken!(DeleteAnyVersion) {
            // Its number is used up. Once that is written, whoever has created it has read an
            // older group, and claims it no more.
            if !broken!(RemoveUnannounced) {
                plan.status.run = plan.status.run.max(pod.run);
            }
            // Another replica may open it in this very moment: then it is not this one.
            plan.strays.push(PodId::exactly(pod));
            plan.look_again(seen.now.plus(UNWATCHED));
        } else {
            plan.strays.push(pod.into());
        }
    }
    blockers
}

/// Finished pods beyond what the user wants kept.
fn expire(seen: &Observed, valid: Option<&ValidatedGroup>, plan: &mut Plan) {
    let Some(valid) = valid else { return };
    let current = plan.status.current.as_ref().map(|c| c.pod_uid.clone());
    let mut finished: Vec<_> = seen
        .pods
        .iter()
        .chain(match &seen.current {
            // A historic pod may be missing from the list; the current one never is.
            CurrentPod::Present(pod) if !seen.pods.iter().any(|p| p.uid == pod.uid) => Some(pod),
            _ => None,
        })
        .filter(|pod| owned(seen, pod) && pod.terminal() && pod.deletion.is_none())
        .filter(|pod| Some(&pod.uid) != current.as_ref())
        .map(|pod| (ended_at(pod, seen.now), pod))
        .collect();
    finished.sort_by_key(|(ended, pod)| std::cmp::Reverse((*ended, pod.run)));
    for (index, (ended, pod)) in finished.into_iter().enumerate() {
        let until = ended.plus(valid.pod_retention);
        if index >= valid.pod_history_limit || until <= seen.now {
            plan.expired.push(pod.into());
        } else {
            plan.look_again(until);
        }
    }
}
