//! What to do about a group, from what was observed. Pure: time, seed, and the
//! policy's answer come in as values.
//!
//! [`settle`] looks at the run in progress and at all other pods; where that leaves
//! room for a run, [`request`] says what the policy is asked and [`choose`] what
//! follows from its answer.

use crate::api::{
    Current, ItemState, LastDecision, OaatGroup, OaatGroupStatus, PolicyInUse, Stopping, Timestamp,
    set_condition,
};
use crate::cluster::TypeRead;
use crate::pod::{PodView, ended_at, outcome};
use crate::record;
use crate::validate::Valid;
use policy_host::{Choice, Decision, EvalError, Evaluation, Item, Request, Run, Standing};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// Everything that one cycle saw.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The time.
    pub now: Timestamp,
    /// The group, as read live.
    pub group: OaatGroup,
    /// Its uid.
    pub uid: String,
    /// All pods that carry its name label, listed live after the group was read.
    pub pods: Vec<PodView>,
    /// The pod of the run in progress.
    pub current: CurrentPod,
    /// The group or its namespace is being deleted.
    pub ends: bool,
    /// Its type.
    pub type_: TypeRead,
    /// Whether this replica holds the lease (true when there is no election).
    pub leads: bool,
    /// The least time between two starts of an item.
    pub retry_floor: Duration,
}

/// The pod of the run in progress.
#[derive(Clone, Debug, PartialEq)]
pub enum CurrentPod {
    /// No run is in progress.
    None,
    /// There it is.
    Present(PodView),
    /// A live read of its name gave nothing, or a pod with another uid. With what it
    /// was when it was last seen, if it was.
    Absent(Option<PodView>),
}

/// A pod, by name and uid.
#[derive(Clone, Debug, PartialEq)]
pub struct PodId {
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
}

impl From<&PodView> for PodId {
    fn from(pod: &PodView) -> Self {
        Self {
            name: pod.name.clone(),
            uid: pod.uid.clone(),
        }
    }
}

/// Something that happened, for an event on the group.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// Whether a person should look at it.
    pub warning: bool,
    /// A CamelCase token.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
    /// The pod it is about.
    pub pod: Option<PodId>,
}

/// The start of an item.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// The item.
    pub item: String,
    /// Number of the run.
    pub run: i64,
}

/// What is to be done, in the order of the fields.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Pods that must not run, and are deleted whatever else happens.
    pub strays: Vec<PodId>,
    /// The current pod, whose gate is still shut.
    pub open: Option<PodId>,
    /// The item to start.
    pub start: Option<Start>,
    /// The status to be written, if it differs from the one that was read. With a
    /// start, `current` is added to it.
    pub status: OaatGroupStatus,
    /// The current pod, to be deleted once the status says why.
    pub stop: Option<PodId>,
    /// Finished pods that are kept no longer.
    pub expired: Vec<PodId>,
    /// Events.
    pub notes: Vec<Note>,
    /// When to look again if nothing happens before.
    pub again: Option<Timestamp>,
    /// Nothing runs, nothing blocks: the policy may be asked.
    pub free: bool,
}

impl Plan {
    fn look_again(&mut self, at: Timestamp) {
        self.again = Some(self.again.map_or(at, |other| other.min(at)));
    }

    fn note(&mut self, warning: bool, reason: &'static str, message: String, pod: Option<PodId>) {
        self.notes.push(Note {
            warning,
            reason,
            message,
            pod,
        });
    }
}

/// How long another replica may take between creating a candidate and claiming it,
/// before one that does not hold the lease removes it.
const CANDIDATE_AGE: Duration = Duration::from_secs(5);

/// Why nothing can start, for state, condition and message.
struct Hindrance {
    state: &'static str,
    reason: &'static str,
    message: String,
}

/// Looks at the run in progress and at all other pods.
pub fn settle(seen: &Observed, valid: &Result<Valid, Vec<String>>) -> Plan {
    let mut plan = Plan {
        status: seen.group.status.clone().unwrap_or_default(),
        ..Plan::default()
    };
    if seen.ends {
        return plan;
    }
    plan.status.observed_generation = seen.group.metadata.generation;
    list_items(&mut plan.status, &seen.group.spec.oaat_items);
    let trouble = settle_current(seen, valid.as_ref().ok(), &mut plan);
    let blockers = settle_others(seen, &mut plan);
    expire(seen, valid.as_ref().ok(), &mut plan);

    let hindrance = hindrance(seen, valid, &blockers, &plan.status);
    if let Some(Hindrance {
        reason: "CreateRejected",
        ..
    }) = hindrance
        && let Some(rejected) = plan.status.rejected.clone()
    {
        plan.look_again(rejected.until);
    }
    plan.free = hindrance.is_none() && plan.status.current.is_none();
    show(seen, &mut plan, hindrance, trouble);
    plan
}

/// Brings the map of items into line with the list.
fn list_items(status: &mut OaatGroupStatus, items: &[String]) {
    let listed: std::collections::HashSet<&String> = items.iter().collect();
    status.items.retain(|name, _| listed.contains(name));
    for name in items {
        let item = status.items.entry(name.clone()).or_default();
        if item.item != *name {
            item.item.clone_from(name);
        }
    }
}

/// The run in progress: recorded if it is over, else looked after. Gives what keeps
/// it from starting.
fn settle_current(seen: &Observed, valid: Option<&Valid>, plan: &mut Plan) -> Option<String> {
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
    let finished = outcome(pod, current.stopping.as_ref(), seen.now);
    record::finish(&mut plan.status, current, &finished);
    let listed = plan.status.items.contains_key(&current.item);
    let aside = if listed {
        ""
    } else {
        " (it is no longer in the list of items)"
    };
    let reason = match finished.result {
        crate::api::RunResult::Succeeded => "Succeeded",
        crate::api::RunResult::Failed => "Failed",
        crate::api::RunResult::Stopped => "Stopped",
    };
    plan.note(
        finished.result == crate::api::RunResult::Failed,
        reason,
        format!(
            "run {} of {}{aside} {}",
            current.run,
            current.item,
            record::sentence(&finished)
        ),
        Some(PodId {
            name: current.pod_name.clone(),
            uid: current.pod_uid.clone(),
        }),
    );
}

/// A current pod that is not over.
fn look_after(
    seen: &Observed,
    valid: Option<&Valid>,
    plan: &mut Plan,
    pod: &PodView,
    current: Current,
) -> Option<String> {
    if pod.deletion.is_some() {
        return pod.trouble();
    }
    if pod.gated {
        plan.open = Some(pod.into());
    }
    if current.stopping.is_some() {
        // Written, and then interrupted before the deletion.
        plan.stop = Some(pod.into());
    } else if let Some(timeout) = valid.and_then(|v| v.start_timeout)
        && !pod.started()
    {
        // From the claim on: a candidate's creation is of no concern to the user, and
        // both are on record.
        let deadline = pod.created.max(current.claimed).plus(timeout);
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
                format!("{}: {message}", current.item),
                Some(pod.into()),
            );
            plan.open = None;
            plan.stop = Some(pod.into());
            plan.status.current = Some(Current {
                stopping: Some(Stopping {
                    reason: "StartTimeout".into(),
                    message,
                    since: seen.now,
                }),
                ..current
            });
        }
    }
    pod.trouble()
}

/// No run is in progress by the status, but a pod of ours that may run is there:
/// somebody wiped the status. The pod was opened once, so it is the current one.
fn adopt(seen: &Observed, plan: &mut Plan) -> Option<String> {
    plan.status.current = None;
    let ours = |pod: &&PodView| owned(seen, pod) && !pod.terminal() && !pod.gated;
    let pod = seen.pods.iter().filter(ours).max_by_key(|pod| pod.run)?;
    let run = next_run(seen);
    let item = pod.item.clone().unwrap_or_default();
    plan.note(
        true,
        "Adopted",
        format!(
            "pod {} runs {item} and is not in the status: taken as run {run}",
            pod.name
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
        .filter_map(|pod| pod.run);
    labels.chain(recorded).max().unwrap_or(0).saturating_add(1)
}

/// All pods but the current one. Gives those that must be gone before anything may
/// start, in words.
fn settle_others(seen: &Observed, plan: &mut Plan) -> Vec<String> {
    let current = plan.status.current.as_ref().map(|c| c.pod_uid.clone());
    let mut blockers = Vec::new();
    for pod in &seen.pods {
        if pod.terminal() || current.as_ref() == Some(&pod.uid) {
            continue;
        }
        if !owned(seen, pod) {
            blockers.push(format!(
                "pod {} carries this group's label, is not of this group ({}), and may still run: \
                 it must end or be deleted first",
                pod.name,
                match &pod.owner {
                    Some(uid) => format!("it belongs to a group with uid {uid}"),
                    None => "no group owns it".to_owned(),
                }
            ));
            continue;
        }
        let what = if pod.gated {
            "a candidate that was not chosen"
        } else {
            "not the current run"
        };
        blockers.push(format!(
            "pod {} is {what}: it is deleted and waited for",
            pod.name
        ));
        if pod.deletion.is_some() {
            continue;
        }
        let age = seen.now.0.saturating_sub(pod.created.0);
        // Another replica may be about to claim it. One from the future says that a
        // clock is wrong; deleting is safe at any time, so it does not wait for ever.
        let young = (0..CANDIDATE_AGE.as_millis() as i64).contains(&age);
        if pod.gated && young && !seen.leads {
            plan.look_again(pod.created.plus(CANDIDATE_AGE));
        } else {
            plan.strays.push(pod.into());
        }
    }
    blockers
}

/// Finished pods beyond what the user wants kept.
fn expire(seen: &Observed, valid: Option<&Valid>, plan: &mut Plan) {
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

/// The first reason why nothing can start, apart from a run in progress.
fn hindrance(
    seen: &Observed,
    valid: &Result<Valid, Vec<String>>,
    blockers: &[String],
    status: &OaatGroupStatus,
) -> Option<Hindrance> {
    let because = |state, reason, message| {
        Some(Hindrance {
            state,
            reason,
            message,
        })
    };
    let type_name = &seen.group.spec.oaat_type;
    if let Err(problems) = valid {
        return because("Invalid", "SpecInvalid", problems.join("; "));
    }
    if let Some(blocker) = blockers.first() {
        let others = match blockers.len() {
            1 => String::new(),
            n => format!(" (and {} more)", n - 1),
        };
        return because("Blocked", "ForeignPod", format!("{blocker}{others}"));
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
        return because(
            "Waiting",
            "NoItems",
            "there are no items; add names to spec.oaatItems".into(),
        );
    }
    match &status.rejected {
        Some(rejected) if seen.now < rejected.until => {
            let message = format!(
                "waits until {} after a refused pod: {}",
                rejected.until, rejected.message
            );
            because("Waiting", "CreateRejected", message)
        }
        _ => None,
    }
}

/// Fills in what people read, for every case but a decision of the policy.
fn show(seen: &Observed, plan: &mut Plan, hindrance: Option<Hindrance>, trouble: Option<String>) {
    let status = &mut plan.status;
    let generation = seen.group.metadata.generation;
    let mut condition = |c| set_condition(&mut status.conditions, seen.now, generation, c);
    match &hindrance {
        Some(h) => condition(("Ready", false, h.reason, h.message.clone())),
        None => condition((
            "Ready",
            true,
            "Ready",
            "an eligible item would be started".into(),
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
                format!(
                    "{} as run {} in pod {}",
                    current.item, current.run, current.pod_name
                ),
            ));
            let reset = status.state.as_deref() != Some("Running");
            status.state = Some("Running".into());
            status.next = None;
            if let Some(trouble) = trouble {
                status.message = Some(format!(
                    "{}: pod {} {trouble}",
                    current.item, current.pod_name
                ));
            } else if let Some(h) = hindrance {
                status.message = Some(format!("runs {}; after that: {}", current.item, h.message));
            } else if reset
                || status
                    .message
                    .as_deref()
                    .is_some_and(|m| !m.starts_with("runs "))
            {
                status.message = Some(format!("runs {}", current.item));
            }
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
            if let Some(h) = hindrance {
                status.state = Some(h.state.into());
                status.next = (h.reason == "CreateRejected")
                    .then(|| {
                        status
                            .rejected
                            .as_ref()
                            .map(|r| r.until.seconds().to_string())
                    })
                    .flatten();
                status.message = Some(h.message);
            }
        }
    }
}

/// Shows an item as the one that runs.
pub fn running(status: &mut OaatGroupStatus, current: &Current) {
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

/// Until when the operator itself holds an item: it is not started twice within the
/// retry floor, unless it succeeded and is due again sooner.
fn held_until(
    item: &crate::api::ItemStatus,
    frequency: Duration,
    floor: Duration,
    now: Timestamp,
) -> Option<Timestamp> {
    let succeeded = item.failures.unwrap_or(0) == 0 && item.last_success.is_some();
    if succeeded && frequency < floor {
        return None;
    }
    item.last_started
        .map(|at| at.plus(floor))
        .filter(|until| now < *until)
}

/// What the policy is asked.
pub fn request(seen: &Observed, valid: &Valid, plan: &Plan) -> Request {
    let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let status = &plan.status;
    let count = |n: i64| u32::try_from(n.max(0)).unwrap_or(u32::MAX);
    let names = &seen.group.spec.oaat_items;
    let items = names.iter().map(|name| {
        let item = status.items.get(name).cloned().unwrap_or_default();
        Item {
            name: name.clone(),
            frequency: Some(millis(valid.frequency)),
            cool_off: millis(valid.cool_off),
            settings: None,
            startable: held_until(&item, valid.frequency, seen.retry_floor, seen.now).is_none(),
            last_success: item.last_success.map(|t| t.0),
            last_failure: item.last_failure.map(|t| t.0),
            failures: count(item.failures.unwrap_or(0).into()),
            runs: count(item.runs.unwrap_or(0)),
            last_duration: match (item.last_started, item.last_finished) {
                (Some(started), Some(finished)) => Some(millis(finished.since(started))),
                _ => None,
            },
        }
    });
    let indices: std::collections::HashMap<&String, usize> = names
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
                crate::api::RunResult::Succeeded => policy_host::Outcome::Succeeded,
                crate::api::RunResult::Failed => policy_host::Outcome::Failed,
                crate::api::RunResult::Stopped => policy_host::Outcome::Stopped,
            },
            exit_code: run.exit_code,
        })
    });
    Request {
        namespace: seen.group.metadata.namespace.clone().unwrap_or_default(),
        group: seen.group.metadata.name.clone().unwrap_or_default(),
        now: seen.now.0,
        seed: seed(&seen.uid, next_run(seen)),
        settings: "{}".into(),
        state: status.policy_state.clone().unwrap_or_default(),
        items: items.collect(),
        recent: recent.collect(),
        extra: "{}".into(),
    }
}

/// How long to wait before a policy that gave no answer is asked again.
const AFTER_AN_ERROR: Duration = Duration::from_secs(60);

/// What follows from the policy's answer.
pub fn choose(
    seen: &Observed,
    valid: &Valid,
    plan: &mut Plan,
    policy: &PolicyInUse,
    request: &Request,
    evaluation: Evaluation<Decision>,
) {
    let generation = seen.group.metadata.generation;
    let ready = match &evaluation.answer {
        Ok(_) => (
            "PolicyReady",
            true,
            "Ready",
            format!("the {} policy decides", policy.source),
        ),
        Err(error) => ("PolicyReady", false, error.reason(), error.to_string()),
    };
    set_condition(&mut plan.status.conditions, seen.now, generation, ready);
    match evaluation.answer {
        Ok(decision) => {
            follow(
                seen,
                plan,
                request,
                &decision,
                evaluation.fuel,
                valid.start_timeout,
            );
            if plan.start.is_some() || plan.status.policy.is_none() {
                plan.status.policy = Some(policy.clone());
            }
        }
        Err(error) => hold(seen, plan, &error),
    }
}

fn hold(seen: &Observed, plan: &mut Plan, error: &EvalError) {
    let message = format!("nothing is started, because the policy gave no decision: {error}");
    let ready = ("Ready", false, "PolicyNotReady", message.clone());
    set_condition(
        &mut plan.status.conditions,
        seen.now,
        seen.group.metadata.generation,
        ready,
    );
    plan.status.state = Some("Waiting".into());
    plan.status.next = None;
    plan.status.message = Some(message);
    plan.look_again(seen.now.plus(AFTER_AN_ERROR));
}

fn follow(
    seen: &Observed,
    plan: &mut Plan,
    request: &Request,
    decision: &Decision,
    fuel: u64,
    start_timeout: Option<Duration>,
) {
    let holds = standings(seen, &mut plan.status, request, decision);
    match decision.choice {
        Choice::Run(_) => {
            let Some(chosen) = decision.chosen().and_then(|i| request.items.get(i)) else {
                return;
            };
            let run = next_run(seen);
            let hint = overtaken(request, decision, chosen);
            let why = decision
                .note
                .as_ref()
                .map(|note| format!(" ({note})"))
                .unwrap_or_default();
            plan.status.state = Some("Running".into());
            plan.status.next = None;
            plan.status.message = Some(match &hint {
                Some(hint) => format!("runs {}; {hint}", chosen.name),
                None => format!("runs {}{why}", chosen.name),
            });
            plan.status.rejected = None;
            plan.status.run = Some(run);
            if let Some(state) = &decision.state {
                plan.status.policy_state = Some(state.clone());
            }
            plan.status.last_decision = Some(LastDecision {
                time: seen.now,
                seed: format!("{:016x}", request.seed),
                fuel: i64::try_from(fuel).unwrap_or(i64::MAX),
                item: chosen.name.clone(),
                why: decision.note.clone(),
            });
            if let Some(item) = plan.status.items.get_mut(&chosen.name) {
                item.last_started = Some(seen.now);
            }
            if let Some(hint) = hint {
                plan.note(true, "OthersWait", hint, None);
            }
            plan.start = Some(Start {
                item: chosen.name.clone(),
                run,
            });
            if let Some(timeout) = start_timeout {
                plan.look_again(seen.now.plus(timeout));
            }
        }
        Choice::Wait(until) => {
            let earliest = holds.into_iter().chain(until.map(Timestamp)).min();
            let at = earliest.unwrap_or(Timestamp(i64::MAX));
            let (soon, late) = (Duration::from_secs(1), Duration::from_secs(24 * 3600));
            plan.look_again(at.max(seen.now.plus(soon)).min(seen.now.plus(late)));
            idle(
                &mut plan.status,
                request,
                decision,
                earliest.map(|t| t.max(seen.now)),
            );
        }
    }
}

/// Nothing is started for now.
fn idle(
    status: &mut OaatGroupStatus,
    request: &Request,
    decision: &Decision,
    next: Option<Timestamp>,
) {
    let held = status
        .items
        .values()
        .filter(|item| item.state == ItemState::Held)
        .count();
    let rests = decision
        .verdicts
        .iter()
        .filter(|v| v.standing == Standing::Cooling)
        .count();
    let fresh = decision
        .verdicts
        .iter()
        .filter(|v| v.standing == Standing::Fresh)
        .count();
    let state = if held + rests > 0 || fresh < decision.verdicts.len() {
        "Waiting"
    } else {
        "Idle"
    };
    status.state = Some(state.into());
    status.next = next.map(|t| t.seconds().to_string());
    let mut parts = Vec::new();
    for (count, what) in [
        (fresh, "succeeded recently enough"),
        (rests, "rest after a failure"),
    ] {
        if count > 0 {
            parts.push(format!("{count} of {} {what}", request.items.len()));
        }
    }
    if held > 0 {
        parts.push(format!("{held} held by the retry floor"));
    }
    parts.extend(decision.note.clone());
    if parts.is_empty() {
        parts.push("no item is due".into());
    }
    status.message = Some(parts.join(", "));
}

/// Writes down where each item stands; gives the times at which the operator stops
/// holding one.
fn standings(
    seen: &Observed,
    status: &mut OaatGroupStatus,
    request: &Request,
    decision: &Decision,
) -> Vec<Timestamp> {
    let mut holds = Vec::new();
    for (index, asked) in request.items.iter().enumerate() {
        let Some(item) = status.items.get_mut(&asked.name) else {
            continue;
        };
        let frequency = Duration::from_millis(asked.frequency.unwrap_or(u64::MAX));
        let hold = held_until(item, frequency, seen.retry_floor, seen.now);
        let verdict = decision.verdicts.get(index);
        let standing = verdict.map_or(Standing::Ready, |v| v.standing);
        let until = verdict.and_then(|v| v.until).map(Timestamp);
        let (state, next) = match (standing, hold) {
            (Standing::Ready, Some(hold)) => {
                holds.push(hold);
                (ItemState::Held, Some(hold))
            }
            (Standing::Ready, None) => (ItemState::Ready, until),
            (Standing::Fresh, _) => (ItemState::Fresh, until),
            (Standing::Cooling, _) => (ItemState::Cooling, until),
            (Standing::Deferred, _) => (ItemState::Deferred, until),
        };
        let last = seen
            .group
            .status
            .as_ref()
            .and_then(|s| s.items.get(&asked.name));
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
            .map(|run| run.message.clone().unwrap_or_else(|| run.reason.clone()));
        let past = match (failed, why) {
            (0, _) | (_, None) => past,
            (_, Some(why)) => format!("{past} ({why})"),
        };
        let words = match state {
            ItemState::Fresh => format!("succeeded; not due{at}"),
            ItemState::Cooling => format!("{past}; rests{at}"),
            ItemState::Held => format!(
                "{past}{}held by the retry floor{at}",
                if past.is_empty() { "" } else { "; " }
            ),
            ItemState::Deferred => format!("put off by the policy{at}"),
            _ => past,
        };
        let words = match verdict.and_then(|v| v.note.as_ref()) {
            Some(note) if words.is_empty() => note.clone(),
            Some(note) => format!("{words}: {note}"),
            None => words,
        };
        // A failure's words stay while nothing newer is known of the item.
        let kept = last
            .and_then(|l| l.message.clone())
            .filter(|_| words.is_empty() && last.is_some_and(|l| l.state == state));
        item.message = if words.is_empty() { kept } else { Some(words) };
        item.state = state;
        item.next = next;
    }
    holds
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
            "{} keeps failing ({} so far), has never succeeded, and goes before {due} items that \
             are due again; set failureCoolOff so that they run in between",
            chosen.name, chosen.failures
        )
    })
}

/// Makes a candidate the run in progress.
pub fn claim(seen: &Observed, status: &mut OaatGroupStatus, current: &Current) {
    running(status, current);
    let words = format!(
        "{} as run {} in pod {}",
        current.item, current.run, current.pod_name
    );
    let condition = ("Running", true, "PodActive", words);
    set_condition(
        &mut status.conditions,
        seen.now,
        seen.group.metadata.generation,
        condition,
    );
    status.current = Some(current.clone());
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
        "the API server refused the pod of {} ({code}): {message}",
        start.item
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
        start.item
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
