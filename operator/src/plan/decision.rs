//! The request to the policy, and what follows from its answer.

use super::conditions::{set_group_condition, type_problem};
use super::hold::{HoldReason, Holds};
use super::policy_condition::{describe_stop, lost, record_policy_decision};
use super::rejected_settings::mention_rejected_settings;
use super::run_message::{describe_run, starvation_hint};
use super::schedule_times::ScheduleTimes;
use super::{Plan, Start, next_run};
use crate::policy_selection::{BUILT_IN, PolicySelection};
use crate::run_now;
use crate::snapshot::GroupSnapshot;
use oaat_api::reasons::{events, ready, states};
use oaat_api::text;
use oaat_api::validate::{Recurrence, ValidatedGroup};
use oaat_api::windows;
use oaat_api::{
    ItemState, ItemStatus, LastDecision, OaatGroupStatus, PolicyInUse, RunRecord, RunResult,
    Timestamp,
};
use policy_host::{Choice, Decision, EvalError, Evaluation, Item, Outcome, Request, Run, Standing};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::time::Duration;

/// The minimum time before the policy is asked again after it decided to wait.
const MIN_WAIT: Duration = Duration::from_secs(1);
/// The maximum time before the policy is asked again after it decided to wait.
const MAX_WAIT: Duration = Duration::from_secs(24 * 3600);
/// When a run is first checked for a slow start and for an unexpectedly long time.
const FIRST_CHECK: Duration = Duration::from_secs(30);
// A longer state is removed from the status.
const _: () = assert!(policy_host::MAX_STATE == text::POLICY_STATE);
/// The message of an item that its options suspend.
const SUSPENDED: &str = "suspended by itemOptions";

/// Returns the seed of a run. Every replica and every retry gets the same seed, and every run gets
/// a different one.
pub fn seed(uid: &str, run: i64) -> u64 {
    let digest = Sha256::new()
        .chain_update(uid)
        .chain_update(run.to_be_bytes())
        .finalize();
    digest
        .iter()
        .take(8)
        .fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}

/// Builds the request to the policy.
pub fn policy_request(
    snapshot: &GroupSnapshot,
    valid: &ValidatedGroup,
    plan: &Plan,
    selection: &PolicySelection,
) -> Request {
    let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let status = &plan.status;
    let count = |n: i64| u32::try_from(n.max(0)).unwrap_or(u32::MAX);
    let names = &snapshot.items;
    let holds = Holds::new(snapshot, valid, &status.history);
    let mut schedules = ScheduleTimes::new(snapshot.now);
    let items = names.iter().map(|name| {
        let item = status.items.get(name).cloned().unwrap_or_default();
        let rules = valid.rules(name);
        let frequency = schedules.frequency(&rules.recurrence, &item);
        Item {
            name: name.clone(),
            frequency: frequency.map(millis),
            cool_off: millis(rules.cool_off),
            settings: selection.items.get(name).cloned(),
            startable: holds.of(name, &item).is_none(),
            last_success: item.last_success.map(|t| t.0),
            last_failure: item.last_failure.map(|t| t.0),
            failures: count(item.failures.unwrap_or(0).into()),
            runs: count(item.runs.unwrap_or(0)),
            last_duration: item.last_duration().map(millis),
        }
    });
    let indices: HashMap<&String, usize> = names
        .iter()
        .enumerate()
        .map(|(index, name)| (name, index))
        .collect();
    let recent = status.history.iter().filter_map(|run| {
        Some(Run {
            item: u32::try_from(*indices.get(&run.item)?).ok()?,
            started: run.started.0,
            finished: run.finished.0,
            outcome: match run.result {
                RunResult::Succeeded => Outcome::Succeeded,
                RunResult::Failed => Outcome::Failed,
                RunResult::Stopped => Outcome::Stopped,
            },
            exit_code: run.exit_code,
        })
    });
    Request {
        namespace: snapshot
            .group
            .metadata
            .namespace
            .clone()
            .unwrap_or_default(),
        group: snapshot.group.metadata.name.clone().unwrap_or_default(),
        now: snapshot.now.0,
        seed: seed(&snapshot.uid, next_run(snapshot)),
        settings: selection.settings.clone(),
        // A policy receives only the state that a policy from the same source returned.
        state: match &selection.in_use {
            Some(policy) if status.policy_state_of.as_ref() == Some(&policy.source) => {
                status.policy_state.clone().unwrap_or_default()
            }
            _ => String::new(),
        },
        items: items.collect(),
        recent: recent.collect(),
        extra: "{}".into(),
    }
}

/// A policy's answer and the request that it answers.
pub struct AnsweredRequest {
    /// The policy.
    pub policy: PolicyInUse,
    /// The request.
    pub request: Request,
    /// The sha256 of the request.
    pub request_sha256: String,
    /// The result of the evaluation.
    pub evaluation: Evaluation<Decision>,
}

/// Adds what follows from the policy's answer to the plan.
pub fn plan_decision(
    snapshot: &GroupSnapshot,
    valid: &ValidatedGroup,
    plan: &mut Plan,
    selection: &PolicySelection,
    answered: &AnsweredRequest,
) {
    match &answered.evaluation.answer {
        Ok(decision) => {
            record_policy_decision(snapshot, plan, selection, &answered.policy);
            // If the built-in policy is used, the status records which policy it replaces,
            // regardless of the cause.
            let built_in = answered.policy.source == BUILT_IN;
            plan.status.set_policy(PolicyInUse {
                instead_of: built_in
                    .then(|| lost(snapshot))
                    .flatten()
                    .map(ToOwned::to_owned),
                ..answered.policy.clone()
            });
            plan_choice(snapshot, valid, plan, answered, decision);
        }
        Err(error) => record_no_decision(snapshot, plan, error),
    }
}

/// Shows that no item starts because the policy made no decision.
fn record_no_decision(snapshot: &GroupSnapshot, plan: &mut Plan, error: &EvalError) {
    let message = describe_stop(error.reason(), error);
    let condition = (ready::TYPE, false, ready::POLICY_NOT_READY, message.clone());
    set_group_condition(snapshot, &mut plan.status, condition);
    plan.status.state = Some(states::WAITING.into());
    plan.status.next = None;
    plan.status.message = Some(message);
}

fn plan_choice(
    snapshot: &GroupSnapshot,
    valid: &ValidatedGroup,
    plan: &mut Plan,
    answered: &AnsweredRequest,
    decision: &Decision,
) {
    let request = &answered.request;
    let held = update_item_states(snapshot, valid, &mut plan.status, request, decision);
    match decision.choice {
        Choice::Run(_) => {
            let Some(chosen) = decision.chosen().and_then(|i| request.items.get(i)) else {
                return;
            };
            // Without verdicts, it is unknown which items are due.
            if !decision.verdicts.is_empty()
                && let Some(hint) = starvation_hint(&plan.status, valid, &chosen.name)
            {
                plan.event(true, events::ITEMS_STARVED, hint, None);
            }
            let last_decision = LastDecision {
                time: snapshot.now,
                seed: format!("{:016x}", request.seed),
                fuel: i64::try_from(answered.evaluation.fuel).unwrap_or(i64::MAX),
                digest: Some(answered.policy.digest.clone()),
                request: Some(answered.request_sha256.clone()),
                item: chosen.name.clone(),
                why: decision.note.clone(),
            };
            record_start(snapshot, valid, plan, last_decision);
            if let Some(state) = &decision.state {
                plan.status.policy_state = Some(state.clone());
                plan.status.policy_state_of = Some(answered.policy.source.clone());
            }
        }
        Choice::Wait(until) => {
            let until = until.map(Timestamp);
            let ends = held.ends.iter().copied().min();
            let earliest = ends.into_iter().chain(until).min();
            let at = earliest.unwrap_or(Timestamp(i64::MAX));
            let (min, max) = (snapshot.now.plus(MIN_WAIT), snapshot.now.plus(MAX_WAIT));
            plan.requeue_at(at.max(min).min(max));
            // A policy that requests another evaluation immediately does not say when an item is
            // due. Showing that time would write the status every second.
            let due = until.filter(|until| *until > min);
            let next = ends.into_iter().chain(due).min();
            // What is due during a blackout does not start before its end.
            let next = next.map(|at| windows::blackout(&valid.windows, at).map_or(at, |b| b.until));
            let next = next.map(|t| t.max(snapshot.now));
            record_wait(
                snapshot,
                valid,
                &held,
                &mut plan.status,
                request,
                decision,
                next,
            );
        }
    }
}

/// Adds the start of the item that a decision chose to the plan.
fn record_start(
    snapshot: &GroupSnapshot,
    valid: &ValidatedGroup,
    plan: &mut Plan,
    decision: LastDecision,
) {
    let run = next_run(snapshot);
    let item = decision.item.clone();
    let message = describe_run(&plan.status, Some(valid), &item, Some(&decision));
    plan.status.state = Some(states::RUNNING.into());
    plan.status.next = None;
    plan.status.message = Some(mention_rejected_settings(&plan.status, message));
    plan.status.rejected = None;
    plan.status.run = Some(run);
    plan.status.last_decision = Some(decision);
    if let Some(item) = plan.status.items.get_mut(&item) {
        item.last_started = Some(snapshot.now);
    }
    let timeout = valid.rules(&item).run_timeout;
    plan.start = Some(Start { item, run, timeout });
    let first_check = valid
        .start_timeout
        .map_or(FIRST_CHECK, |t| t.min(FIRST_CHECK));
    plan.requeue_at(snapshot.now.plus(first_check));
}

/// Plans the start of the next item that the user requested, regardless of what is due and of what
/// the policy decides. Returns whether an item starts.
pub fn plan_requested_item(
    snapshot: &GroupSnapshot,
    valid: &ValidatedGroup,
    plan: &mut Plan,
) -> bool {
    let token = plan.status.run_now.as_ref().and_then(|r| r.token.clone());
    let pending = run_now::pending(&snapshot.group, &snapshot.items, &plan.status);
    if pending.is_empty() {
        return false;
    }
    let holds = Holds::new(snapshot, valid, &plan.status.history);
    for name in pending {
        let Some(item) = plan.status.items.get(&name) else {
            continue;
        };
        match holds.of_requested(&name, item) {
            None => {}
            Some(HoldReason::RetryFloor(until) | HoldReason::Quota(until)) => {
                plan.requeue_at(until);
                continue;
            }
            Some(_) => continue,
        }
        let decision = LastDecision {
            time: snapshot.now,
            seed: format!("{:016x}", seed(&snapshot.uid, next_run(snapshot))),
            fuel: 0,
            digest: None,
            request: None,
            item: name.clone(),
            why: Some(format!(
                "requested with token {}",
                token.unwrap_or_default()
            )),
        };
        record_start(snapshot, valid, plan, decision);
        // The clocks of replicas differ. Without this, the item might seem to be still pending.
        let since = plan.status.run_now.as_ref().and_then(|r| r.time);
        if let (Some(item), Some(since)) = (plan.status.items.get_mut(&name), since) {
            item.last_started = item.last_started.max(Some(since));
        }
        return true;
    }
    false
}

/// Shows that the policy decided to wait.
fn record_wait(
    snapshot: &GroupSnapshot,
    valid: &ValidatedGroup,
    held: &HeldItems,
    status: &mut OaatGroupStatus,
    request: &Request,
    decision: &Decision,
    next: Option<Timestamp>,
) {
    let cooling = decision
        .verdicts
        .iter()
        .filter(|v| v.standing == Standing::Cooling)
        .count();
    let in_state = |state: ItemState| {
        let items = status.items.values();
        items.filter(|item| item.state == state).count()
    };
    let (fresh, deferred) = (in_state(ItemState::Fresh), in_state(ItemState::Deferred));
    let some_wait = held.by_retry_floor + held.by_blackout + held.by_quota + held.by_type + cooling
        > 0
        || fresh + held.suspended + held.given_up < decision.verdicts.len();
    let state = if some_wait {
        states::WAITING
    } else {
        states::IDLE
    };
    status.state = Some(state.into());
    status.next = next.map(|t| t.seconds().to_string());
    let mut parts = Vec::new();
    let succeeded = match valid.defaults.recurrence {
        Recurrence::Once => "succeeded",
        _ => "succeeded recently enough",
    };
    for (count, what) in [(fresh, succeeded), (cooling, "cooling off after a failure")] {
        if count > 0 {
            parts.push(format!("{count} of {} {what}", request.items.len()));
        }
    }
    for (count, what) in [
        (deferred, "deferred by the policy"),
        (held.by_retry_floor, "held by the retry floor"),
        (held.by_blackout, "would not finish before a blackout"),
        (held.by_quota, "held because of a ResourceQuota"),
        (held.by_type, "held because of their OaatType"),
        (held.given_up, "gave up"),
        (held.suspended, "suspended"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    parts.extend(decision.note.clone());
    if parts.is_empty() {
        parts.push("no item is due".into());
    }
    let message = parts.join(", ");
    let condition = if held.by_quota > 0 {
        (ready::TYPE, false, ready::QUOTA_EXCEEDED, message.clone())
    } else {
        (ready::TYPE, true, ready::NOTHING_DUE, message.clone())
    };
    set_group_condition(snapshot, status, condition);
    status.message = Some(mention_rejected_settings(status, message));
}

/// The items that the operator holds.
#[derive(Default)]
struct HeldItems {
    /// When the holds end of items that the policy might otherwise start.
    ends: Vec<Timestamp>,
    /// The number of items that the retry floor holds.
    by_retry_floor: usize,
    /// The number of items that would not finish before a blackout.
    by_blackout: usize,
    /// The number of items whose pods did not fit into a quota.
    by_quota: usize,
    /// The number of items whose OaatType cannot be used.
    by_type: usize,
    /// The number of items that gave up.
    given_up: usize,
    /// The number of suspended items.
    suspended: usize,
}

/// Sets the state and the message of each item. Returns the items that are held.
fn update_item_states(
    snapshot: &GroupSnapshot,
    valid: &ValidatedGroup,
    status: &mut OaatGroupStatus,
    request: &Request,
    decision: &Decision,
) -> HeldItems {
    use HoldReason::{Blackout, GivenUp, Quota, RetryFloor, Succeeded, Suspended, TypeNotReady};
    let mut held = HeldItems::default();
    let holds = Holds::new(snapshot, valid, &status.history);
    for (index, requested) in request.items.iter().enumerate() {
        let Some(item) = status.items.get_mut(&requested.name) else {
            continue;
        };
        let hold = holds.of(&requested.name, item);
        let verdict = decision.verdicts.get(index);
        let standing = verdict.map_or(Standing::Ready, |v| v.standing);
        let until = verdict.and_then(|v| v.until).map(Timestamp);
        // The end of a hold can change the policy's decision only for an item that is ready or
        // deferred. The verdicts on fresh and cooling items do not depend on it.
        if let (
            Standing::Ready | Standing::Deferred,
            Some(RetryFloor(at) | Quota(at) | Blackout(at)),
        ) = (standing, hold)
        {
            held.ends.push(at);
        }
        match (standing, hold) {
            (_, Some(Suspended)) => held.suspended += 1,
            (_, Some(GivenUp)) => held.given_up += 1,
            (Standing::Ready, Some(TypeNotReady)) => held.by_type += 1,
            (Standing::Ready, Some(RetryFloor(_))) => held.by_retry_floor += 1,
            (Standing::Ready, Some(Blackout(_))) => held.by_blackout += 1,
            (Standing::Ready, Some(Quota(_))) => held.by_quota += 1,
            _ => {}
        }
        let (state, next) = match (standing, hold) {
            (_, Some(Suspended)) => (ItemState::Held, None),
            (_, Some(Succeeded)) => (ItemState::Fresh, None),
            (_, Some(GivenUp)) => (ItemState::GivenUp, None),
            (Standing::Ready, Some(TypeNotReady)) => (ItemState::Held, None),
            (Standing::Ready, Some(RetryFloor(at) | Quota(at) | Blackout(at))) => {
                (ItemState::Held, Some(at))
            }
            (Standing::Ready, None) => (ItemState::Ready, until),
            (Standing::Fresh, _) => (ItemState::Fresh, until),
            (Standing::Cooling, _) => (ItemState::Cooling, until),
            (Standing::Deferred, _) => (ItemState::Deferred, until),
        };
        item.state = state;
        item.next = next;
        let last_run = status.history.iter().find(|run| run.item == requested.name);
        let is_held_by_type = item.state == ItemState::Held && hold == Some(TypeNotReady);
        let type_problem = is_held_by_type
            .then(|| type_problem(snapshot.type_of(&requested.name)))
            .flatten();
        let message = match type_problem {
            Some(problem) => Some(problem.message),
            None => item_message(item, hold, last_run),
        };
        let note = verdict.and_then(|v| v.note.as_ref());
        let note = note.filter(|_| !matches!(hold, Some(Suspended | GivenUp | TypeNotReady)));
        item.message = match (message, note) {
            (Some(message), Some(note)) => Some(format!("{message}: {note}")),
            (message, note) => message.or(note.cloned()),
        };
    }
    held
}

/// Describes the state of an item, unless the description would only repeat the item's other fields.
/// `last_run` is its latest run in the history.
fn item_message(
    item: &ItemStatus,
    hold: Option<HoldReason>,
    last_run: Option<&RunRecord>,
) -> Option<String> {
    let until = item
        .next
        .map(|t| format!(" until {}", t.seconds()))
        .unwrap_or_default();
    let failures = failures(item, last_run);
    Some(match item.state {
        ItemState::Fresh if item.last_success.is_some() => return None,
        ItemState::Fresh => match item.next {
            Some(next) => format!("not due before {}, according to the policy", next.seconds()),
            None => "not due, according to the policy".to_owned(),
        },
        ItemState::Ready if failures.is_empty() => return None,
        ItemState::Ready => format!("due; {failures}"),
        ItemState::Cooling => match (failures.as_str(), item.last_failure) {
            ("", Some(failed)) => format!("failed at {failed}; cooling off{until}"),
            ("", None) => format!("cooling off{until}"),
            (failures, _) => format!("{failures}; cooling off{until}"),
        },
        ItemState::Held if hold == Some(HoldReason::Suspended) => SUSPENDED.to_owned(),
        ItemState::Held if matches!(hold, Some(HoldReason::Blackout(_))) => {
            format!("would not finish before a blackout; held{until}")
        }
        ItemState::Held if matches!(hold, Some(HoldReason::Quota(_))) => {
            format!("its pod did not fit into a ResourceQuota; held{until}")
        }
        ItemState::Held if failures.is_empty() => format!("held by the retry floor{until}"),
        ItemState::Held => format!("{failures}; held by the retry floor{until}"),
        ItemState::Deferred => format!("deferred by the policy{until}"),
        ItemState::GivenUp => format!(
            "{failures}; gave up: request it to run now, or change its options or its OaatType"
        ),
        ItemState::Running => return None,
    })
}

/// Describes the failures of an item since its last success, and the result of its latest run.
/// Returns an empty string if there are none.
fn failures(item: &ItemStatus, last_run: Option<&RunRecord>) -> String {
    let failures = match item.failures.unwrap_or(0) {
        0 => return String::new(),
        1 => "failed once".to_owned(),
        n => format!("failed {n} times since its last success"),
    };
    match last_run {
        None => failures,
        Some(run) => match &run.message {
            Some(message) => format!("{failures} ({}: {message})", run.reason),
            None => format!("{failures} ({})", run.reason),
        },
    }
}
