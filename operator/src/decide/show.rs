//! What people read of it: state, message, conditions.

use super::{Note, Observed, Plan, Start};
use crate::cluster::TypeRead;
use crate::items::{self, Listing};
use crate::record;
use crate::run_now;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use oaat_api::text;
use oaat_api::validate::{self, FieldError, ValidatedGroup, suspended};
use oaat_api::windows;
use oaat_api::{Current, ItemState, OaatGroupStatus, Timestamp, condition, set_condition};
use std::time::Duration;

/// Why nothing can start, for state, condition and message.
pub(super) struct Hindrance {
    pub state: &'static str,
    pub reason: &'static str,
    pub message: String,
    /// When it ends by itself, or is to be looked at again.
    pub until: Option<Timestamp>,
    /// It does not end then.
    pub endless: bool,
}

/// A pod that must be gone before anything may start.
pub(super) struct Blocker {
    reason: &'static str,
    message: String,
}

impl Blocker {
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
pub(super) fn hindrance(
    seen: &Observed,
    valid: &Result<ValidatedGroup, Vec<FieldError>>,
    blockers: &[Blocker],
    status: &OaatGroupStatus,
) -> Option<Hindrance> {
    let because = |state, reason, message| {
        Some(Hindrance {
            state,
            reason,
            message,
            until: None,
            endless: false,
        })
    };
    let until = |hindrance: Option<Hindrance>, at| {
        hindrance.map(|hindrance| Hindrance {
            until: Some(at),
            ..hindrance
        })
    };
    let type_name = &seen.group.spec.oaat_type;
    if let Err(problems) = valid {
        return because("Invalid", "SpecInvalid", validate::summary(problems));
    }
    if let Some(why) = suspended(&seen.group) {
        return because("Suspended", "Suspended", why.into());
    }
    let windows = valid.as_ref().map(|valid| valid.windows.as_slice());
    if let Some(blackout) = windows::blackout(windows.unwrap_or_default(), seen.now) {
        let hindrance = because("Blackout", "Blackout", blackout.to_string());
        return until(hindrance, blackout.until).map(|hindrance| Hindrance {
            endless: blackout.endless,
            ..hindrance
        });
    }
    if let Some(blocker) = blockers.first() {
        let others = match blockers.len() {
            1 => String::new(),
            n => format!(" (and {} more)", n - 1),
        };
        let message = format!("{}{others}", blocker.message);
        return because("Blocked", blocker.reason, message);
    }
    match &seen.type_ {
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
    if seen.group.spec.oaat_items.is_empty() {
        let message = match &seen.listing.ready {
            Some((_, _, sources)) => format!("there are no items; {sources}"),
            None => "there are no items; add names to spec.oaatItems".into(),
        };
        return because("Waiting", "NoItems", message);
    }
    match &status.rejected {
        Some(rejected) if seen.now < rejected.until => {
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
fn news_of_items(before: Option<String>, listing: &Listing) -> Option<Note> {
    let (ready, reason, message) = listing.ready.as_ref()?;
    let note = |warning, reason| {
        Some(Note {
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
    seen: &Observed,
    plan: &mut Plan,
    hindrance: Option<Hindrance>,
    trouble: Option<String>,
) {
    let status = &mut plan.status;
    let asked =
        run_now::waiting(&seen.group, status).map(|items| format!("asked to run now: {items}"));
    let generation = seen.group.metadata.generation;
    let before = items_ready(&status.conditions);
    match &seen.listing.ready {
        Some((ready, reason, message)) => {
            let told = (ITEMS_READY, *ready, *reason, message.clone());
            set_condition(&mut status.conditions, seen.now, generation, told);
        }
        None => status.conditions.retain(|c| c.type_ != ITEMS_READY),
    }
    plan.notes.extend(news_of_items(before, &seen.listing));
    let mut condition = |c| set_condition(&mut status.conditions, seen.now, generation, c);
    match &hindrance {
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
                if trouble.is_some() {
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
            status.message = Some(match (trouble, hindrance, decided) {
                (Some(trouble), ..) => format!("{item}: pod {} {trouble}", current.pod_name),
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
                    items::held(item, since);
                }
            }
            if let Some(h) = hindrance {
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
pub fn claim(seen: &Observed, status: &mut OaatGroupStatus, current: &Current) {
    running(status, current);
    let condition = ("Running", true, "PodActive", words(current));
    set_condition(
        &mut status.conditions,
        seen.now,
        seen.group.metadata.generation,
        condition,
    );
    status.current = Some(current.clone());
}

/// The policy is asked later, because others are asked first. Worth a word only where a run has
/// just ended.
pub fn put_off(seen: &Observed, plan: &mut Plan, wait: Duration) {
    plan.look_again(seen.now.plus(wait));
    if plan.status.current.is_none() && plan.status.state.as_deref() == Some("Running") {
        plan.status.state = Some("Waiting".into());
        plan.status.next = None;
        plan.status.message = Some("the policy is about to decide what is next".into());
    }
}

/// The API server refused the pod of an item that was to be started.
pub fn refuse(seen: &Observed, plan: &mut Plan, start: &Start, code: u16, message: &str) {
    record::reject(
        &mut plan.status,
        &start.item,
        start.run,
        message,
        seen.now,
        seen.retry_floor,
    );
    let until = plan.status.rejected.as_ref().map_or(seen.now, |r| r.until);
    let words = format!(
        "the pod of {} was refused ({code}): {message}",
        text::name(&start.item)
    );
    not_started(
        seen,
        &mut plan.status,
        "CreateRejected",
        &format!("waits until {}: {words}", until.seconds()),
    );
    plan.status.next = Some(until.seconds().to_string());
    plan.note(true, "CreateRejected", words, None);
    plan.look_again(until);
}

/// The pod could not be created for a reason that is nobody's fault: nothing is counted,
/// and what had been settled before is written all the same.
pub fn unavailable(seen: &Observed, status: &mut OaatGroupStatus, start: &Start, error: &str) {
    let words = format!(
        "the pod of {} could not be created for now: {error}",
        text::name(&start.item)
    );
    not_started(seen, status, "CreateUnavailable", &words);
}

fn not_started(seen: &Observed, status: &mut OaatGroupStatus, reason: &str, words: &str) {
    status.state = Some("Waiting".into());
    status.next = None;
    status.message = Some(words.to_owned());
    let condition = ("Ready", false, reason, words.to_owned());
    set_condition(
        &mut status.conditions,
        seen.now,
        seen.group.metadata.generation,
        condition,
    );
}
