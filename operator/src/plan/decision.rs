//! What the policy is asked, and what follows from its answer.

use super::hold::{Hold, Holds};
use super::policy_selection::{BUILT_IN, lost, record_policy_decision};
use super::{GroupSnapshot, Plan, PolicySelection, Start, next_run};
use crate::run_now;
use oaat_api::text;
use oaat_api::validate::ValidatedGroup;
use oaat_api::windows;
use oaat_api::{
    ItemState, LastDecision, OaatGroupStatus, PolicyInUse, RunResult, Timestamp, set_condition,
};
use policy_host::{Choice, Decision, EvalError, Evaluation, Item, Outcome, Request, Run, Standing};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::time::Duration;

/// The seed of a run: the same for every replica and every repetition, another for
/// every run.
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

const SECOND: Duration = Duration::from_secs(1);

/// Where an item stands that is not to be started.
const SUSPENDED: &str = "suspended by itemOptions";

/// What the policy is asked.
pub fn request(
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
    let items = names.iter().map(|name| {
        let item = status.items.get(name).cloned().unwrap_or_default();
        let rules = valid.rules(name);
        Item {
            name: name.clone(),
            frequency: rules.frequency.map(millis),
            cool_off: millis(rules.cool_off),
            settings: selection.items.get(name).cloned(),
            startable: holds.of(name, &item).is_none(),
            last_success: item.last_success.map(|t| t.0),
            last_failure: item.last_failure.map(|t| t.0),
            failures: count(item.failures.unwrap_or(0).into()),
            runs: count(item.runs.unwrap_or(0)),
            last_duration: match (item.last_started, item.last_finished) {
                // A start that came to nothing has no end. Nodes tell whole seconds.
                (Some(started), Some(finished)) if started <= finished.plus(SECOND) => {
                    Some(millis(finished.since(started)))
                }
                _ => None,
            },
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
        // The state of another policy is none of this one's business.
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

/// A policy's answer, and what it answers.
pub struct Answered {
    /// Who answered.
    pub policy: PolicyInUse,
    /// What was asked.
    pub request: Request,
    /// sha256 of it.
    pub request_sha256: String,
    /// What came of it.
    pub evaluation: Evaluation<Decision>,
}

/// What follows from the policy's answer.
pub fn plan_decision(
    snapshot: &GroupSnapshot,
    valid: &ValidatedGroup,
    plan: &mut Plan,
    selection: &PolicySelection,
    asked: Answered,
) {
    match &asked.evaluation.answer {
        Ok(decision) => {
            record_policy_decision(snapshot, plan, selection, &asked.policy);
            follow(snapshot, valid, plan, &asked, decision);
            // What the built-in policy stands in for is remembered, however it came to do so.
            let stands_in = asked.policy.source == BUILT_IN;
            plan.status.policy = Some(PolicyInUse {
                instead_of: stands_in
                    .then(|| lost(snapshot))
                    .flatten()
                    .map(ToOwned::to_owned),
                ..asked.policy
            });
        }
        Err(error) => undecided(snapshot, plan, error),
    }
}

fn undecided(snapshot: &GroupSnapshot, plan: &mut Plan, error: &EvalError) {
    let message = format!("nothing is started, because the policy gave no decision: {error}");
    let ready = ("Ready", false, "PolicyNotReady", message.clone());
    set_condition(
        &mut plan.status.conditions,
        snapshot.now,
        snapshot.group.metadata.generation,
        ready,
    );
    plan.status.state = Some("Waiting".into());
    plan.status.next = None;
    plan.status.message = Some(message);
}

fn follow(
    snapshot: &GroupSnapshot,
    valid: &ValidatedGroup,
    plan: &mut Plan,
    asked: &Answered,
    decision: &Decision,
) {
    let request = &asked.request;
    let held = standings(snapshot, valid, &mut plan.status, request, decision);
    match decision.choice {
        Choice::Run(_) => {
            let Some(chosen) = decision.chosen().and_then(|i| request.items.get(i)) else {
                return;
            };
            let hint = overtaken(request, decision, chosen);
            let name = text::name(&chosen.name);
            let message = match (&hint, &decision.note) {
                (Some(hint), _) => format!("runs {name}; {hint}"),
                (None, Some(note)) => format!("runs {name} ({note})"),
                (None, None) => format!("runs {name}"),
            };
            begin(snapshot, valid, plan, &chosen.name, message);
            if let Some(state) = &decision.state {
                plan.status.policy_state = Some(state.clone());
                plan.status.policy_state_of = Some(asked.policy.source.clone());
            }
            plan.status.last_decision = Some(LastDecision {
                time: snapshot.now,
                seed: format!("{:016x}", request.seed),
                fuel: i64::try_from(asked.evaluation.fuel).unwrap_or(i64::MAX),
                digest: Some(asked.policy.digest.clone()),
                request: Some(asked.request_sha256.clone()),
                item: chosen.name.clone(),
                why: decision.note.clone(),
            });
            if let Some(hint) = hint {
                plan.event(true, "OthersWait", hint, None);
            }
        }
        Choice::Wait(until) => {
            let until = until.map(Timestamp);
            let ends = held.ends.iter().copied().min();
            let earliest = ends.into_iter().chain(until).min();
            let at = earliest.unwrap_or(Timestamp(i64::MAX));
            let (soon, late) = (Duration::from_secs(1), Duration::from_secs(24 * 3600));
            plan.requeue_at(at.max(snapshot.now.plus(soon)).min(snapshot.now.plus(late)));
            // A policy that wants to be asked at once, again and again, says nothing about when
            // anything is due; shown, it would be a write of the status every second.
            let due = until.filter(|until| *until > snapshot.now.plus(soon));
            let next = ends.into_iter().chain(due).min();
            // What is due in a blackout is not started before its end.
            let next = next.map(|at| windows::blackout(&valid.windows, at).map_or(at, |b| b.until));
            idle(
                valid,
                &held,
                &mut plan.status,
                request,
                decision,
                next.map(|t| t.max(snapshot.now)),
            );
        }
    }
}

/// An item is to be started.
fn begin(
    snapshot: &GroupSnapshot,
    valid: &ValidatedGroup,
    plan: &mut Plan,
    item: &str,
    message: String,
) {
    let run = next_run(snapshot);
    plan.status.state = Some("Running".into());
    plan.status.next = None;
    plan.status.message = Some(message);
    plan.status.rejected = None;
    plan.status.run = Some(run);
    if let Some(item) = plan.status.items.get_mut(item) {
        item.last_started = Some(snapshot.now);
    }
    plan.start = Some(Start {
        item: item.to_owned(),
        run,
    });
    if let Some(timeout) = valid.start_timeout {
        plan.requeue_at(snapshot.now.plus(timeout));
    }
}

/// Starts the next of the items that somebody asked for, whatever is due and whatever the policy
/// thinks of it. Says whether there is one that may be started.
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
            Some(Hold::Until(until)) => {
                plan.requeue_at(until);
                continue;
            }
            Some(_) => continue,
        }
        let why = format!("asked for, token {}", token.unwrap_or_default());
        begin(
            snapshot,
            valid,
            plan,
            &name,
            format!("runs {} ({why})", text::name(&name)),
        );
        // Clocks of replicas differ, and it must not be taken for still to be done.
        let since = plan.status.run_now.as_ref().and_then(|asked| asked.time);
        if let (Some(item), Some(since)) = (plan.status.items.get_mut(&name), since) {
            item.last_started = item.last_started.max(Some(since));
        }
        plan.status.last_decision = Some(LastDecision {
            time: snapshot.now,
            seed: format!("{:016x}", seed(&snapshot.uid, next_run(snapshot))),
            fuel: 0,
            digest: None,
            request: None,
            item: name,
            why: Some(why),
        });
        return true;
    }
    false
}

/// Nothing is started for now.
fn idle(
    valid: &ValidatedGroup,
    held: &Held,
    status: &mut OaatGroupStatus,
    request: &Request,
    decision: &Decision,
    next: Option<Timestamp>,
) {
    let Held {
        floor,
        late,
        suspended,
        ..
    } = *held;
    let rests = decision
        .verdicts
        .iter()
        .filter(|v| v.standing == Standing::Cooling)
        .count();
    let fresh = status
        .items
        .values()
        .filter(|item| item.state == ItemState::Fresh)
        .count();
    let state = if floor + late + rests > 0 || fresh + suspended < decision.verdicts.len() {
        "Waiting"
    } else {
        "Idle"
    };
    status.state = Some(state.into());
    status.next = next.map(|t| t.seconds().to_string());
    let mut parts = Vec::new();
    for (count, what) in [
        (
            fresh,
            match valid.defaults.frequency {
                Some(_) => "succeeded recently enough",
                None => "succeeded",
            },
        ),
        (rests, "resting after a failure"),
    ] {
        if count > 0 {
            parts.push(format!("{count} of {} {what}", request.items.len()));
        }
    }
    for (count, what) in [
        (floor, "held by the retry floor"),
        (late, "would run into a blackout"),
        (suspended, "suspended"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    parts.extend(decision.note.clone());
    if parts.is_empty() {
        parts.push("no item is due".into());
    }
    status.message = Some(parts.join(", "));
}

/// The items that the operator holds.
#[derive(Default)]
struct Held {
    /// When it stops holding one that the policy would start.
    ends: Vec<Timestamp>,
    /// How many the retry floor holds.
    floor: usize,
    /// How many would run into a blackout.
    late: usize,
    /// How many are suspended.
    suspended: usize,
}

/// Writes down where each item stands.
fn standings(
    snapshot: &GroupSnapshot,
    valid: &ValidatedGroup,
    status: &mut OaatGroupStatus,
    request: &Request,
    decision: &Decision,
) -> Held {
    let mut held = Held::default();
    let holds = Holds::new(snapshot, valid, &status.history);
    for (index, asked) in request.items.iter().enumerate() {
        let Some(item) = status.items.get_mut(&asked.name) else {
            continue;
        };
        let hold = holds.of(&asked.name, item);
        let verdict = decision.verdicts.get(index);
        let standing = verdict.map_or(Standing::Ready, |v| v.standing);
        let until = verdict.and_then(|v| v.until).map(Timestamp);
        // The end of a hold is news to a policy that would have started the item, or has put
        // it off; what is fresh or rests does so for longer, or for reasons of its own.
        if let (Standing::Ready | Standing::Deferred, Some(Hold::Until(at) | Hold::NoTime(at))) =
            (standing, hold)
        {
            held.ends.push(at);
        }
        match (standing, hold) {
            (_, Some(Hold::Suspended)) => held.suspended += 1,
            (Standing::Ready, Some(Hold::Until(_))) => held.floor += 1,
            (Standing::Ready, Some(Hold::NoTime(_))) => held.late += 1,
            _ => {}
        }
        let (state, next) = match (standing, hold) {
            (_, Some(Hold::Suspended)) => (ItemState::Held, None),
            (_, Some(Hold::Done)) => (ItemState::Fresh, None),
            (Standing::Ready, Some(Hold::Until(at) | Hold::NoTime(at))) => {
                (ItemState::Held, Some(at))
            }
            (Standing::Ready, None) => (ItemState::Ready, until),
            (Standing::Fresh, _) => (ItemState::Fresh, until),
            (Standing::Cooling, _) => (ItemState::Cooling, until),
            (Standing::Deferred, _) => (ItemState::Deferred, until),
        };
        let failed = item.failures.unwrap_or(0);
        let at = next
            .map(|t| format!(" until {}", t.seconds()))
            .unwrap_or_default();
        let past = match failed {
            0 => String::new(),
            1 => "failed once".to_owned(),
            n => format!("failed {n} times since its last success"),
        };
        let why = status
            .history
            .iter()
            .find(|run| run.item == asked.name)
            .map(|run| match &run.message {
                Some(message) => format!("{}: {message}", run.reason),
                None => run.reason.clone(),
            });
        let past = match (failed, why) {
            (0, _) | (_, None) => past,
            (_, Some(why)) => format!("{past} ({why})"),
        };
        let words = match state {
            ItemState::Fresh => match next {
                Some(next) if item.last_success.is_none() => {
                    format!("not due before {}, says the policy", next.seconds())
                }
                Some(next) => format!("succeeded; due from {}", next.seconds()),
                None if item.last_success.is_none() => "not due, says the policy".to_owned(),
                None => "succeeded".to_owned(),
            },
            ItemState::Ready if past.is_empty() => "due".to_owned(),
            ItemState::Ready => format!("due; {past}"),
            ItemState::Cooling => match (past.as_str(), item.last_failure) {
                ("", Some(failed)) => format!("failed at {failed}; rests{at}"),
                ("", None) => format!("rests{at}"),
                (past, _) => format!("{past}; rests{at}"),
            },
            ItemState::Held if hold == Some(Hold::Suspended) => SUSPENDED.to_owned(),
            ItemState::Held if matches!(hold, Some(Hold::NoTime(_))) => {
                format!("would run into a blackout{at}")
            }
            ItemState::Held if past.is_empty() => format!("held by the retry floor{at}"),
            ItemState::Held => format!("{past}; held by the retry floor{at}"),
            ItemState::Deferred => format!("put off by the policy{at}"),
            _ => past,
        };
        let note = verdict.and_then(|v| v.note.as_ref());
        item.message = Some(match note.filter(|_| hold != Some(Hold::Suspended)) {
            Some(note) => format!("{words}: {note}"),
            None => words,
        });
        item.state = state;
        item.next = next;
    }
    held
}

/// The documented order lets an item that never succeeded go before every item that
/// is due again, each time. Where that happens, the user should know the way out.
fn overtaken(request: &Request, decision: &Decision, chosen: &Item) -> Option<String> {
    if chosen.last_success.is_some() || chosen.failures == 0 || chosen.cool_off > 0 {
        return None;
    }
    let due = request
        .items
        .iter()
        .zip(&decision.verdicts)
        .filter(|(item, verdict)| {
            verdict.standing == Standing::Ready && item.last_success.is_some()
        })
        .count();
    (due > 0).then(|| {
        format!(
            "{} has never succeeded (failures: {}) and goes before all that are due again, now {due}; \
             set failureCoolOff to let them run in between",
            text::name(&chosen.name),
            chosen.failures
        )
    })
}
