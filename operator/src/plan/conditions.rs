//! What people read of it: state, message, conditions.

use super::{GroupSnapshot, PendingEvent, Plan, Start};
use crate::cluster::TypeRead;
use crate::item_sources::{self, SourceLists};
use crate::run_history;
use crate::run_now;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use oaat_api::text;
use oaat_api::validate::{self, FieldError, ValidatedGroup, suspended};
use oaat_api::windows;
use oaat_api::{Current, ItemState, OaatGroupStatus, Timestamp, condition, set_condition};
use std::time::Duration;

/// Why nothing can start, for state, condition and message.
pub(super) struct NotReady {
    pub state: &'static str,
    pub reason: &'static str,
    pub message: String,
    /// When it ends by itself, or is to be looked at again.
    pub until: Option<Timestamp>,
    /// It does not end then.
    pub endless: bool,
}

/// A pod that must be gone before anything may start.
pub(super) struct BlockingPod {
    reason: &'static str,
    message: String,
}

impl BlockingPod {
    /// One that is not this group's.
    pub fn foreign(message: String) -> Self {
        Self {
            reason: "ForeignPod",
            message,
        }
    }

    /// One of this group's own, which is being removed.
    pub fn ours(message: String) -> Self {
        Self {
            reason: "PodBeingRemoved",
            message,
        }
    }
}

/// The first reason why nothing can start, apart from a run in progress.
pub(super) fn not_ready(
    snapshot: &GroupSnapshot,
    valid: &Result<ValidatedGroup, Vec<FieldError>>,
    blocking_pods: &[BlockingPod],
    status: &OaatGroupStatus,
) -> Option<NotReady> {
    let because = |state, reason, message| {
        Some(NotReady {
            state,
            reason,
            message,
            until: None,
            endless: false,
        })
    };
    let until = |not_ready: Option<NotReady>, at| {
        not_ready.map(|not_ready| NotReady {
            until: Some(at),
            ..not_ready
        })
    };
    let type_name = &snapshot.group.spec.oaat_type;
    if let Err(problems) = valid {
        return because("Invalid", "SpecInvalid", validate::summary(problems));
    }
    if let Some(why) = suspended(&snapshot.group) {
        return because("Suspended", "Suspended", why.into());
    }
    let windows = valid.as_ref().map(|valid| valid.windows.as_slice());
    if let Some(blackout) = windows::blackout(windows.unwrap_or_default(), snapshot.now) {
        let not_ready = because("Blackout", "Blackout", blackout.to_string());
        return until(not_ready, blackout.until).map(|not_ready| NotReady {
            endless: blackout.endless,
            ..not_ready
        });
    }
    if let Some(blocking_pod) = blocking_pods.first() {
        let others = match blocking_pods.len() {
            1 => String::new(),
            n => format!(" (and {} more)", n - 1),
        };
        let message = format!("{}{others}", blocking_pod.message);
        return because("Blocked", blocking_pod.reason, message);
    }
    match &snapshot.type_ {
        TypeRead::Missing => {
            let message =
                format!("waits for OaatType {type_name:?}, which does not exist in this namespace");
            return because("Waiting", "TypeNotFound", message);
        }
        TypeRead::Unchecked => {
            return because(
                "Waiting",
                "TypeNotChecked",
                format!("OaatType {type_name:?} is being checked"),
            );
        }
        TypeRead::Invalid(why) => {
            return because(
                "Invalid",
                "TypeInvalid",
                format!("OaatType {type_name:?} is invalid: {why}"),
            );
        }
        TypeRead::Valid(_) => {}
    }
    if snapshot.items.is_empty() {
        let message = match &snapshot.listing.ready {
            Some((_, _, sources)) => format!("there are no items; {sources}"),
            None => "there are no items; add names to spec.oaatItems".into(),
        };
        return because("Waiting", "NoItems", message);
    }
    match &status.rejected {
        Some(rejected) if snapshot.now < rejected.until => {
            let message = format!(
                "waits until {} after a refused pod: {}",
                rejected.until.seconds(),
                rejected.message
            );
            until(
                because("Waiting", "CreateRejected", message),
                rejected.until,
            )
        }
        _ => None,
    }
}

/// The condition that speaks of the sources of items.
const ITEMS_READY: &str = "ItemsReady";

/// Why all of the sources were ready or not.
fn items_ready(conditions: &[Condition]) -> Option<String> {
    condition(conditions, ITEMS_READY).map(|ready| ready.reason.clone())
}

/// What is new of the sources of items, for an event.
fn news_of_items(before: Option<String>, listing: &SourceLists) -> Option<PendingEvent> {
    let (ready, reason, message) = listing.ready.as_ref()?;
    let note = |warning, reason| {
        Some(PendingEvent {
            warning,
            reason,
            message: message.clone(),
            pod: None,
        })
    };
    match (ready, *reason) {
        _ if before.as_deref() == Some(reason) => None,
        (true, _) => note(false, ITEMS_READY),
        (false, "Listing") => None,
        (false, _) => note(true, "ItemsNotReady"),
    }
}

/// Between what runs and what will hinder the next start.
const AFTER: &str = "; after that: ";

/// Fills in what people read, for every case but a decision of the policy.
pub(super) fn show(
    snapshot: &GroupSnapshot,
    plan: &mut Plan,
    not_ready: Option<NotReady>,
    problem: Option<String>,
) {
    let status = &mut plan.status;
    let asked = run_now::waiting(&snapshot.group, &snapshot.items, status)
        .map(|items| format!("asked to run now: {items}"));
    let generation = snapshot.group.metadata.generation;
    let before = items_ready(&status.conditions);
    match &snapshot.listing.ready {
        Some((ready, reason, message)) => {
            let told = (ITEMS_READY, *ready, *reason, message.clone());
            set_condition(&mut status.conditions, snapshot.now, generation, told);
        }
        None => status.conditions.retain(|c| c.type_ != ITEMS_READY),
    }
    plan.events.extend(news_of_items(before, &snapshot.listing));
    let mut condition = |c| set_condition(&mut status.conditions, snapshot.now, generation, c);
    match &not_ready {
        Some(h) => condition(("Ready", false, h.reason, h.message.clone())),
        None => condition((
            "Ready",
            true,
            "Ready",
            "nothing stands in the way of a start".into(),
        )),
    }
    match status.current.clone() {
        Some(current) => {
            condition((
                "Running",
                true,
                if problem.is_some() {
                    "NotStarted"
                } else {
                    "PodActive"
                },
                words(&current),
            ));
            status.state = Some("Running".into());
            status.next = None;
            let item = text::name(&current.item);
            // The decision's own words, where nothing newer has to be said.
            let decided = status
                .message
                .take()
                .filter(|m| m.starts_with(&format!("runs {item}")) && !m.contains(AFTER));
            status.message = Some(match (problem, not_ready, decided) {
                (Some(problem), ..) => format!("{item}: pod {} {problem}", current.pod_name),
                (None, Some(h), _) => format!("runs {item}{AFTER}{}", h.message),
                (None, None, decided) => match (asked, decided) {
                    (Some(asked), _) => format!("runs {item}{AFTER}{asked}"),
                    (None, Some(decided)) => decided,
                    (None, None) => format!("runs {item}"),
                },
            });
            running(status, &current);
        }
        None => {
            condition(("Running", false, "NothingRuns", "nothing runs".into()));
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
                    item_sources::held(item, since);
                }
            }
            if let Some(h) = not_ready {
                status.state = Some(h.state.into());
                let until = h.until.filter(|_| !h.endless);
                status.next = until.map(|until| until.seconds().to_string());
                status.message = Some(match asked {
                    Some(asked) => format!("{}; {asked}", h.message),
                    None => h.message,
                });
            }
        }
    }
}

/// Shows an item as the one that runs.
fn running(status: &mut OaatGroupStatus, current: &Current) {
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

/// The run in progress, in words.
fn words(current: &Current) -> String {
    let Current {
        item,
        run,
        pod_name,
        ..
    } = current;
    format!("{} as run {run} in pod {pod_name}", text::name(item))
}

/// Makes a candidate the run in progress.
pub fn claim(snapshot: &GroupSnapshot, status: &mut OaatGroupStatus, current: &Current) {
    running(status, current);
    let condition = ("Running", true, "PodActive", words(current));
    set_condition(
        &mut status.conditions,
        snapshot.now,
        snapshot.group.metadata.generation,
        condition,
    );
    status.current = Some(current.clone());
}

/// The policy is asked later, because others are asked first. Worth a word only where a run has
/// just ended.
pub fn defer_decision(snapshot: &GroupSnapshot, plan: &mut Plan, wait: Duration) {
    plan.requeue_at(snapshot.now.plus(wait));
    if plan.status.current.is_none() && plan.status.state.as_deref() == Some("Running") {
        plan.status.state = Some("Waiting".into());
        plan.status.next = None;
        plan.status.message = Some("the policy is about to decide what is next".into());
    }
}

/// The API server refused the pod of an item that was to be started.
pub fn refuse(snapshot: &GroupSnapshot, plan: &mut Plan, start: &Start, code: u16, message: &str) {
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
    let words = format!(
        "the pod of {} was refused ({code}): {message}",
        text::name(&start.item)
    );
    not_started(
        snapshot,
        &mut plan.status,
        "CreateRejected",
        &format!("waits until {}: {words}", until.seconds()),
    );
    plan.status.next = Some(until.seconds().to_string());
    plan.event(true, "CreateRejected", words, None);
    plan.requeue_at(until);
}

/// The pod could not be created for a reason that is nobody's fault: nothing is counted,
/// and what had been settled before is written all the same.
pub fn unavailable(
    snapshot: &GroupSnapshot,
    status: &mut OaatGroupStatus,
    start: &Start,
    error: &str,
) {
    let words = format!(
        "the pod of {} could not be created for now: {error}",
        text::name(&start.item)
    );
    not_started(snapshot, status, "CreateUnavailable", &words);
}

fn not_started(snapshot: &GroupSnapshot, status: &mut OaatGroupStatus, reason: &str, words: &str) {
    status.state = Some("Waiting".into());
    status.next = None;
    status.message = Some(words.to_owned());
    let condition = ("Ready", false, reason, words.to_owned());
    set_condition(
        &mut status.conditions,
        snapshot.now,
        snapshot.group.metadata.generation,
        condition,
    );
}
