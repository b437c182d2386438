//! Plans groups from small fixtures, with a fake policy. The real policies have their own tests.

mod clock;
mod conditions;
mod runs;
mod suspend_and_run_now;

use super::*;
use crate::policy_selection::PolicySelection;

use crate::pod::{ContainerKind, ContainerState, ContainerView, Deletion, Phase, PodView};
use crate::snapshot::{CurrentPod, GroupSnapshot, PodId, TypeRead};
use oaat_api::OaatGroup;
use oaat_api::validate::{ValidatedGroup, validate};
use oaat_api::{
    CurrentRun, ItemState, ItemStatus, LastDecision, OaatGroupSpec, OaatTypeSpec, OnError,
    PolicyInUse, RunRecord, RunResult, Stopping, condition,
};
use policy_host::{Choice, Decision, EvalError, Evaluation, Request, Standing, Verdict};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const NOW: Timestamp = Timestamp(1_000_000_000);

fn ago(seconds: u64) -> Timestamp {
    NOW.minus(Duration::from_secs(seconds))
}

fn later(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

/// Returns a group `g` with UID `us`, these items, a valid type, and nothing else.
pub(crate) fn fixture(items: &[&str]) -> GroupSnapshot {
    let spec: OaatGroupSpec =
        serde_json::from_value(json!({ "oaatType": "t", "oaatItems": items }))
            .unwrap_or_else(|e| panic!("{e}"));
    let mut group = OaatGroup::new("g", spec);
    group.metadata.uid = Some("us".into());
    group.metadata.generation = Some(1);
    group.status = Some(OaatGroupStatus::default());
    let spec = OaatTypeSpec {
        type_: "pod".into(),
        podspec: None,
        pod_metadata: None,
        completion_containers: Vec::new(),
    };
    GroupSnapshot {
        now: NOW,
        items: group.spec.oaat_items.clone(),
        group,
        listing: crate::snapshot::SourceLists::default(),
        uid: "us".into(),
        pods: Vec::new(),
        current: CurrentPod::None,
        deleted_while_running: false,
        terminating: false,
        type_: TypeRead::Valid(Arc::new(spec)),
        item_types: BTreeMap::new(),
        leads: false,
        retry_floor: Duration::from_secs(10),
    }
}

fn status(snapshot: &mut GroupSnapshot) -> &mut OaatGroupStatus {
    snapshot.group.status.get_or_insert_default()
}

fn pod(name: &str, phase: Phase) -> PodView {
    PodView {
        name: name.into(),
        uid: name.into(),
        version: "1".into(),
        labelled: true,
        owner: Some("us".into()),
        item: Some("a".into()),
        created: ago(60),
        phase,
        ..PodView::default()
    }
}

fn current(name: &str, run: i64) -> CurrentRun {
    CurrentRun {
        run,
        item: "a".into(),
        pod_name: name.into(),
        pod_uid: name.into(),
        claimed: ago(60),
        stopping: None,
        resumed: None,
        other_gates: None,
    }
}

/// Adds a run in progress in this pod.
fn running(mut snapshot: GroupSnapshot, pod: PodView) -> GroupSnapshot {
    let status = status(&mut snapshot);
    status.current = Some(current(&pod.name, 7));
    status.run = Some(7);
    snapshot.pods.push(pod.clone());
    snapshot.current = CurrentPod::Present(pod);
    snapshot
}

fn valid(snapshot: &GroupSnapshot) -> Result<ValidatedGroup, Vec<oaat_api::validate::FieldError>> {
    validate(&snapshot.group.spec)
}

fn planned(snapshot: &GroupSnapshot) -> Plan {
    plan_group(snapshot, &valid(snapshot))
}

fn ready(plan: &Plan) -> (String, String) {
    let found = condition(&plan.status.conditions, "Ready").cloned();
    found.map(|c| (c.status, c.reason)).unwrap_or_default()
}

/// Plans the group with the answer of the given policy.
fn decided(
    snapshot: &GroupSnapshot,
    policy: impl Fn(&Request) -> Result<Decision, EvalError>,
) -> Plan {
    let mut plan = planned(snapshot);
    assert!(plan.may_start, "{:?}", plan.status);
    let valid = valid(snapshot).unwrap_or_else(|e| panic!("{e:?}"));
    let in_use = PolicyInUse {
        source: "default".into(),
        digest: "d".into(),
        contract: "c".into(),
        instead_of: None,
    };
    let selection = PolicySelection::selected(in_use.clone(), None, OnError::Hold);
    record_selection(snapshot, &mut plan, &selection);
    let request = policy_request(snapshot, &valid, &plan, &selection);
    let evaluation = Evaluation {
        answer: policy(&request),
        fuel: 1,
        log: Vec::new(),
        log_dropped: 0,
    };
    if let Err(error) = &evaluation.answer {
        record_policy_error(snapshot, &mut plan, &selection, error);
    }
    let answered = AnsweredRequest {
        policy: in_use,
        request,
        request_sha256: "r".into(),
        evaluation,
    };
    plan_decision(snapshot, &valid, &mut plan, &selection, &answered);
    plan
}

fn run(index: u32) -> Decision {
    Decision {
        choice: Choice::Run(index),
        note: None,
        verdicts: Vec::new(),
        state: None,
    }
}

fn wait(until: Option<Timestamp>) -> Decision {
    Decision {
        choice: Choice::Wait(until.map(|t| t.0)),
        ..run(0)
    }
}

fn verdict(standing: Standing) -> Verdict {
    Verdict {
        standing,
        until: None,
        note: None,
    }
}

#[test]
fn group_without_a_run_starts_what_the_policy_chooses() {
    let plan = decided(&fixture(&["a", "b"]), |_| Ok(run(1)));
    assert_eq!(
        plan.start,
        Some(Start {
            item: "b".into(),
            run: 1,
            timeout: Duration::ZERO,
        })
    );
    assert_eq!(plan.status.run, Some(1));
    assert_eq!(plan.status.items["b"].last_started, Some(NOW));
    assert_eq!(plan.status.current, None, "the claim adds the pod");
    assert_eq!(plan.requeue_at, Some(later(30)), "for a slow start");
}

#[test]
fn start_has_the_time_limit_of_its_item() {
    let mut snapshot = fixture(&["a", "b"]);
    snapshot.group.spec.run_timeout = Some("6h".into());
    let own = json!({ "runTimeout": "90s" });
    let own = serde_json::from_value(own).unwrap_or_else(|e| panic!("{e}"));
    snapshot.group.spec.item_options.insert("b".into(), own);
    for (index, seconds) in [(0, 6 * 3600), (1, 90)] {
        let start = decided(&snapshot, |_| Ok(run(index))).start;
        let limit = start.map(|start| start.timeout);
        assert_eq!(limit, Some(Duration::from_secs(seconds)));
    }
}

#[test]
fn pod_that_may_run_prevents_a_start() {
    let mut terminating = pod("p", Phase::Running);
    terminating.deletion = Some(Deletion {
        deadline: ago(100),
        grace: Duration::ZERO,
    });
    let mut failed_but_running = pod("p", Phase::Failed);
    failed_but_running.containers.push(ContainerView {
        name: "c".into(),
        kind: ContainerKind::Main,
        state: ContainerState::Running,
    });
    let alive = [
        pod("p", Phase::Pending),
        pod("p", Phase::Running),
        pod("p", Phase::Unknown),
        terminating,
        failed_but_running,
    ];
    for pod in alive {
        let plan = planned(&running(fixture(&["a"]), pod.clone()));
        assert!(!plan.may_start, "{pod:?}");
        assert!(plan.status.current.is_some());
        assert!(plan.stale_pods.is_empty() && plan.expired.is_empty());
    }
}

#[test]
fn terminal_pod_is_recorded_and_allows_a_start() {
    let plan = planned(&running(fixture(&["a"]), pod("p", Phase::Succeeded)));
    assert!(plan.may_start);
    assert_eq!(plan.status.current, None);
    assert_eq!(plan.status.history[0].run, 7);
    assert_eq!(plan.status.items["a"].failures, None);
    assert_eq!(plan.events[0].reason, "Succeeded");
}

#[test]
fn absent_pod_is_a_failure_unless_it_was_seen_to_end() {
    for (last, reason) in [
        (None, "PodDisappeared"),
        (Some(pod("p", Phase::Succeeded)), "Completed"),
    ] {
        let mut snapshot = running(fixture(&["a"]), pod("p", Phase::Running));
        snapshot.pods.clear();
        snapshot.current = CurrentPod::Absent(last);
        let plan = planned(&snapshot);
        assert!(plan.may_start);
        assert_eq!(plan.status.history[0].reason, reason);
    }
}

#[test]
fn gate_of_the_current_pod_is_opened() {
    let mut gated = pod("p", Phase::Pending);
    gated.gated = true;
    let plan = planned(&running(fixture(&["a"]), gated.clone()));
    assert_eq!(plan.open, Some(PodId::from(&gated)));
    gated.deletion = Some(Deletion {
        deadline: NOW,
        grace: Duration::ZERO,
    });
    assert_eq!(planned(&running(fixture(&["a"]), gated)).open, None);
}

#[test]
fn unclaimed_candidate_is_removed_at_once_by_the_leader_and_later_by_others() {
    for (leads, age, removed) in [
        (true, 0, true),
        (false, 0, false),
        (false, 4, false),
        (false, 5, true),
    ] {
        let mut snapshot = fixture(&["a"]);
        let mut candidate = pod("p", Phase::Pending);
        candidate.gated = true;
        candidate.created = ago(age);
        snapshot.pods.push(candidate);
        snapshot.leads = leads;
        let plan = planned(&snapshot);
        assert_eq!(!plan.stale_pods.is_empty(), removed, "{leads} {age}");
        assert!(plan.requeue_at.is_some());
        assert!(!plan.may_start, "the deletion must complete first");
    }
}

#[test]
fn interrupted_deletion_is_repeated_unless_the_pod_may_have_run() {
    let deletion = |seconds| {
        let grace = Duration::from_secs(seconds);
        let deadline = NOW.plus(grace);
        Some(Deletion { deadline, grace })
    };
    let deleted = |grace, gated, bound| {
        let mut deleted = pod("p", Phase::Pending);
        deleted.deletion = deletion(grace);
        (deleted.gated, deleted.bound) = (gated, bound);
        deleted
    };
    for (pod, repeated) in [
        (deleted(0, true, false), true),
        (deleted(0, false, false), true),
        (deleted(30, true, false), false),
        (deleted(0, false, true), false),
    ] {
        let mut other = fixture(&["a"]);
        other.leads = true;
        other.pods.push(pod.clone());
        let plan = planned(&other);
        // A pod without a gate is adopted first.
        assert_eq!(
            !plan.stale_pods.is_empty(),
            repeated && pod.gated,
            "{pod:?}"
        );
        assert!(!plan.may_start, "the deletion must complete first");
        let plan = planned(&running(fixture(&["a"]), pod.clone()));
        assert_eq!(plan.stop.is_some(), repeated, "{pod:?}");
    }
}

#[test]
fn candidate_created_in_the_future_is_removed_at_once() {
    let mut snapshot = fixture(&["a"]);
    let mut candidate = pod("p", Phase::Pending);
    candidate.gated = true;
    candidate.created = later(1_000_000);
    snapshot.pods.push(candidate);
    assert_eq!(planned(&snapshot).stale_pods.len(), 1);
}

#[test]
fn foreign_pod_blocks_the_group_and_is_not_deleted() {
    for owner in [None, Some("another group of this name".to_owned())] {
        let mut snapshot = fixture(&["a"]);
        let mut foreign = pod("stranger", Phase::Running);
        foreign.owner = owner;
        snapshot.pods.push(foreign);
        let plan = planned(&snapshot);
        assert!(!plan.may_start && plan.stale_pods.is_empty() && plan.status.current.is_none());
        assert_eq!(plan.status.state.as_deref(), Some("Blocked"));
        assert!(plan.status.message.is_some_and(|m| m.contains("stranger")));
    }
}

#[test]
fn foreign_pod_that_has_ended_is_ignored() {
    let mut snapshot = fixture(&["a"]);
    let mut foreign = pod("stranger", Phase::Failed);
    foreign.owner = None;
    foreign.created = ago(1_000_000);
    snapshot.pods.push(foreign);
    let plan = planned(&snapshot);
    assert!(plan.may_start && plan.expired.is_empty());
}

#[test]
fn running_pod_is_adopted_after_the_status_was_wiped() {
    let mut snapshot = fixture(&["a"]);
    let mut alive = pod("p", Phase::Running);
    alive.run = Some(41);
    snapshot.pods.push(alive);
    let plan = planned(&snapshot);
    let adopted = plan
        .status
        .current
        .clone()
        .map(|c| (c.run, c.pod_uid, c.item));
    assert_eq!(adopted, Some((42, "p".into(), "a".into())));
    assert!(!plan.may_start && plan.stale_pods.is_empty());
}

#[test]
fn unlabelled_current_pod_requeues_the_group() {
    let mut unseen = pod("p", Phase::Running);
    unseen.labelled = false;
    let plan = planned(&running(fixture(&["a"]), unseen));
    assert_eq!(plan.requeue_at, Some(later(5)));
}

#[test]
fn second_running_pod_is_deleted() {
    let mut snapshot = running(fixture(&["a"]), pod("p", Phase::Running));
    snapshot.pods.push(pod("second", Phase::Running));
    let plan = planned(&snapshot);
    assert_eq!(
        plan.stale_pods,
        [PodId::from(&pod("second", Phase::Running))]
    );
    assert_eq!(plan.status.current, Some(current("p", 7)));
}

#[test]
fn run_number_exceeds_those_of_the_status_and_of_own_pods() {
    let mut snapshot = fixture(&["a"]);
    assert_eq!(next_run(&snapshot), 1);
    let mut old = pod("old", Phase::Succeeded);
    old.run = Some(5);
    snapshot.pods.push(old.clone());
    assert_eq!(next_run(&snapshot), 6);
    old.owner = None;
    old.run = Some(50);
    snapshot.pods.push(old);
    status(&mut snapshot).run = Some(9);
    assert_eq!(next_run(&snapshot), 10);
}

#[test]
fn terminating_group_is_unchanged() {
    let mut snapshot = running(fixture(&["a"]), pod("p", Phase::Succeeded));
    snapshot.terminating = true;
    let plan = planned(&snapshot);
    assert_eq!(Some(plan.status), snapshot.group.status);
    assert!(
        !plan.may_start
            && plan.stale_pods.is_empty()
            && plan.expired.is_empty()
            && plan.events.is_empty()
    );
}

#[test]
fn start_timeout_is_recorded_before_the_pod_is_stopped() {
    let mut waiting = pod("p", Phase::Pending);
    waiting.unscheduled = Some("0/3 nodes".into());
    let mut snapshot = running(fixture(&["a"]), waiting.clone());
    snapshot.group.spec.start_timeout = Some("70s".into());
    let plan = planned(&snapshot);
    assert_eq!(plan.stop, None);
    assert_eq!(plan.requeue_at, Some(later(10)));
    assert!(
        plan.status
            .message
            .as_ref()
            .is_some_and(|m| m.contains("0/3 nodes")),
        "shown before the timeout"
    );

    waiting.created = ago(2000);
    let mut snapshot = running(fixture(&["a"]), waiting.clone());
    if let Some(current) = &mut status(&mut snapshot).current {
        current.claimed = ago(2000);
    }
    let plan = planned(&snapshot);
    assert_eq!(plan.stop, Some(PodId::exactly(&waiting)));
    let stopping = plan.status.current.clone().and_then(|c| c.stopping);
    assert!(
        stopping.is_some_and(|s| s.reason == "StartTimeout" && s.message.contains("0/3 nodes"))
    );

    // After an interruption between the write and the deletion, the deletion is repeated.
    status(&mut snapshot).current = plan.status.current;
    assert_eq!(planned(&snapshot).stop, Some(PodId::exactly(&waiting)));
    // Once the pod is gone, the run has this reason.
    snapshot.pods.clear();
    snapshot.current = CurrentPod::Absent(None);
    assert_eq!(planned(&snapshot).status.history[0].reason, "StartTimeout");
}

#[test]
fn stop_is_withdrawn_if_the_pod_started() {
    let stopping = Stopping {
        reason: "StartTimeout".into(),
        message: "late".into(),
        since: ago(5),
        exit_code: None,
    };
    let with = |pod: PodView| {
        let mut snapshot = running(fixture(&["a"]), pod);
        if let Some(current) = &mut status(&mut snapshot).current {
            current.stopping = Some(stopping.clone());
        }
        snapshot
    };
    let plan = planned(&with(pod("p", Phase::Running)));
    assert_eq!(plan.stop, None);
    assert_eq!(plan.status.current.and_then(|c| c.stopping), None);
    // A pod that has ended in the meantime has its own result.
    let mut ended = pod("p", Phase::Succeeded);
    ended.containers.push(ContainerView {
        name: "c".into(),
        kind: ContainerKind::Main,
        state: ContainerState::Terminated {
            exit_code: 0,
            reason: "Completed".into(),
            message: String::new(),
            finished: Some(ago(1)),
        },
    });
    assert_eq!(planned(&with(ended)).status.history[0].reason, "Completed");
}

#[test]
fn start_timeout_begins_again_after_init_containers() {
    let mut pulling = pod("p", Phase::Pending);
    pulling.created = ago(5000);
    let init = |finished| ContainerView {
        name: "init".into(),
        kind: ContainerKind::Init,
        state: ContainerState::Terminated {
            exit_code: 0,
            reason: "Completed".into(),
            message: String::new(),
            finished: Some(finished),
        },
    };
    for (finished, stopped) in [(ago(100), false), (ago(1000), true)] {
        let mut pod = pulling.clone();
        pod.containers.push(init(finished));
        let mut snapshot = running(fixture(&["a"]), pod);
        if let Some(current) = &mut status(&mut snapshot).current {
            current.claimed = ago(5000);
        }
        assert_eq!(planned(&snapshot).stop.is_some(), stopped);
    }
}

#[test]
fn finished_pods_expire_by_number_and_by_age() {
    let mut snapshot = fixture(&["a"]);
    snapshot.group.spec.pod_retention = Some("100s".into());
    snapshot.group.spec.pod_history_limit = Some(2);
    for (name, age) in [("old", 150), ("b", 90), ("c", 30), ("d", 10)] {
        let mut finished = pod(name, Phase::Succeeded);
        finished.created = ago(age);
        snapshot.pods.push(finished);
    }
    let plan = planned(&snapshot);
    let mut names: Vec<_> = plan.expired.iter().map(|pod| pod.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["b", "old"]);
    assert_eq!(plan.requeue_at, Some(later(70)));
}

#[test]
fn retention_of_zero_keeps_only_the_running_pod() {
    let mut snapshot = running(fixture(&["a"]), pod("p", Phase::Running));
    snapshot.group.spec.pod_retention = Some("0s".into());
    snapshot.group.spec.pod_history_limit = Some(0);
    assert!(planned(&snapshot).expired.is_empty());
    let mut snapshot = running(fixture(&["a"]), pod("p", Phase::Succeeded));
    snapshot.group.spec.pod_history_limit = Some(0);
    let plan = planned(&snapshot);
    assert_eq!(plan.expired.len(), 1);
    assert_eq!(
        plan.status.history.len(),
        1,
        "the same plan contains its result"
    );
}

#[test]
fn not_ready_reason_is_in_state_and_condition() {
    type Change = fn(&mut GroupSnapshot);
    let cases: [(Change, &str, &str); 6] = [
        (
            |snapshot| snapshot.type_ = TypeRead::Missing,
            "Waiting",
            "TypeNotFound",
        ),
        (
            |snapshot| snapshot.type_ = TypeRead::Unchecked,
            "Waiting",
            "TypeNotChecked",
        ),
        (
            |snapshot| snapshot.type_ = TypeRead::Invalid("x".into()),
            "Invalid",
            "TypeInvalid",
        ),
        (|snapshot| snapshot.items.clear(), "Waiting", "NoItems"),
        (
            |snapshot| snapshot.group.spec.frequency = Some("banana".into()),
            "Invalid",
            "SpecInvalid",
        ),
        (
            |snapshot| {
                status(snapshot).rejected = Some(oaat_api::PodRejections {
                    count: 1,
                    until: later(5),
                    message: "quota".into(),
                    quota: false,
                    items: Vec::new(),
                });
            },
            "Waiting",
            "CreateRejected",
        ),
    ];
    for (change, state, reason) in cases {
        let mut snapshot = fixture(&["a"]);
        change(&mut snapshot);
        let plan = planned(&snapshot);
        assert!(!plan.may_start);
        assert_eq!(plan.status.state.as_deref(), Some(state));
        let status = if reason == "NoItems" { "True" } else { "False" };
        assert_eq!(ready(&plan), (status.into(), reason.into()));
        assert!(plan.status.message.is_some_and(|m| !m.is_empty()));
    }
}

#[test]
fn not_ready_reason_is_in_the_message_while_an_item_runs() {
    let mut snapshot = running(fixture(&["a"]), pod("p", Phase::Running));
    let decision = LastDecision {
        time: ago(60),
        seed: String::new(),
        fuel: 0,
        digest: None,
        request: None,
        item: "a".into(),
        why: Some("why".into()),
    };
    status(&mut snapshot).last_decision = Some(decision);
    snapshot.type_ = TypeRead::Missing;
    let not_ready = planned(&snapshot).status;
    let message = not_ready.message.clone().unwrap_or_default();
    assert!(
        message.starts_with("running a; next: OaatType"),
        "{message}"
    );
    snapshot.group.status = Some(not_ready);
    snapshot.type_ = fixture(&["a"]).type_;
    assert_eq!(
        planned(&snapshot).status.message.as_deref(),
        Some("running a (why)")
    );
}

#[test]
fn decision_of_another_run_is_not_shown() {
    for (item, time) in [("b", ago(60)), ("a", ago(61))] {
        let mut snapshot = running(fixture(&["a", "b"]), pod("p", Phase::Running));
        status(&mut snapshot).last_decision = Some(LastDecision {
            time,
            seed: String::new(),
            fuel: 0,
            digest: None,
            request: None,
            item: item.into(),
            why: Some("why".into()),
        });
        let message = planned(&snapshot).status.message;
        assert_eq!(message.as_deref(), Some("running a"));
    }
}

#[test]
fn removed_item_is_removed_from_the_status() {
    let mut snapshot = fixture(&["a"]);
    status(&mut snapshot)
        .items
        .insert("gone".into(), ItemStatus::default());
    assert_eq!(
        planned(&snapshot)
            .status
            .items
            .into_keys()
            .collect::<Vec<_>>(),
        ["a"]
    );
}

#[test]
fn retry_floor_holds_an_item_that_just_started() {
    let cases = [
        // started, succeeded, frequency, startable
        (5, false, "1h", false),
        (10, false, "1h", true),
        (5, true, "1s", true),
        (5, true, "20s", false),
    ];
    for (started, succeeded, frequency, startable) in cases {
        let mut snapshot = fixture(&["a"]);
        snapshot.group.spec.frequency = Some(frequency.into());
        let item = ItemStatus {
            last_started: Some(ago(started)),
            last_success: succeeded.then_some(ago(started)),
            failures: Some(i32::from(!succeeded)),
            ..ItemStatus::default()
        };
        status(&mut snapshot).items.insert("a".into(), item);
        let sent = std::cell::Cell::new(None);
        let plan = decided(&snapshot, |request| {
            sent.set(Some(request.items[0].startable));
            Ok(wait(None))
        });
        assert_eq!(
            sent.get(),
            Some(startable),
            "{started} {succeeded} {frequency}"
        );
        if !startable {
            assert_eq!(plan.status.items["a"].state, ItemState::Held);
            assert_eq!(
                plan.requeue_at,
                Some(later(5)),
                "requeues for the end of the retry floor"
            );
        }
    }
}

#[test]
fn wait_is_limited_to_its_range() {
    let cases = [
        (Some(ago(100)), later(1)),
        (Some(later(30)), later(30)),
        (Some(Timestamp(i64::MAX)), later(86_400)),
        (None, later(86_400)),
    ];
    for (until, expected) in cases {
        let plan = decided(&fixture(&["a"]), |_| Ok(wait(until)));
        assert_eq!(
            (plan.start, plan.requeue_at),
            (None, Some(expected)),
            "{until:?}"
        );
    }
}

#[test]
fn same_answer_leaves_the_status_unchanged() {
    let mut snapshot = fixture(&["a", "b"]);
    let answer = |_: &Request| {
        let fresh = Verdict {
            until: Some(later(50).0),
            ..verdict(Standing::Fresh)
        };
        Ok(Decision {
            verdicts: vec![fresh.clone(), fresh],
            ..wait(Some(later(50)))
        })
    };
    let first = decided(&snapshot, answer).status;
    snapshot.group.status = Some(first.clone());
    snapshot.now = later(20);
    assert_eq!(decided(&snapshot, answer).status, first);
}

#[test]
fn policy_error_holds_the_group_and_requeues_it() {
    let plan = decided(&fixture(&["a"]), |_| Err(EvalError::OutOfFuel(1)));
    assert_eq!(plan.start, None);
    assert_eq!(ready(&plan), ("False".into(), "PolicyNotReady".into()));
    let policy = condition(&plan.status.conditions, "PolicyReady").cloned();
    assert_eq!(policy.map(|c| c.reason), Some("OutOfFuel".into()));
    let message = "OutOfFuel: the policy used up its fuel of 1; no item starts until it is fixed";
    assert_eq!(plan.status.message.as_deref(), Some(message));
    assert_eq!(plan.requeue_at, Some(later(60)));
}

#[test]
fn result_is_recorded_despite_a_policy_error() {
    let snapshot = running(fixture(&["a"]), pod("p", Phase::Failed));
    let plan = decided(&snapshot, |_| Err(EvalError::PolicyError("no".into())));
    assert_eq!(plan.status.history.len(), 1);
    assert_eq!(plan.status.current, None);
}

#[test]
fn starvation_by_a_failing_item_is_reported() {
    let mut snapshot = fixture(&["bad", "b", "c"]);
    let failing = ItemStatus {
        failures: Some(3),
        last_failure: Some(ago(60)),
        ..ItemStatus::default()
    };
    let due = ItemStatus {
        last_success: Some(ago(10_000)),
        ..ItemStatus::default()
    };
    let items = &mut status(&mut snapshot).items;
    items.insert("bad".into(), failing);
    items.insert("b".into(), due.clone());
    items.insert("c".into(), due);
    let answer = |_: &Request| {
        Ok(Decision {
            verdicts: vec![verdict(Standing::Ready); 3],
            ..run(0)
        })
    };
    let plan = decided(&snapshot, answer);
    let event = plan
        .events
        .iter()
        .find(|event| event.reason == "ItemsStarved")
        .map(|event| event.message.clone());
    for words in ["bad", "currently 2", "failureCoolOff"] {
        assert!(event.as_ref().is_some_and(|m| m.contains(words)), "{words}");
        assert!(
            plan.status
                .message
                .as_ref()
                .is_some_and(|m| m.contains(words)),
            "{words}"
        );
    }
    // The message stays while the item runs.
    let mut started = snapshot.clone();
    let claimed = CurrentRun {
        item: "bad".into(),
        claimed: NOW,
        ..current("p", 1)
    };
    let decided_message = plan.status.message.clone();
    started.group.status = Some(OaatGroupStatus {
        current: Some(claimed),
        ..plan.status
    });
    started.pods.push(pod("p", Phase::Running));
    started.current = CurrentPod::Present(pod("p", Phase::Running));
    assert_eq!(planned(&started).status.message, decided_message);

    snapshot.group.spec.failure_cool_off = Some("1s".into());
    assert!(decided(&snapshot, answer).events.is_empty());
}

#[test]
fn rejected_pod_is_a_failure_and_pauses_the_group() {
    let snapshot = fixture(&["a"]);
    let mut plan = planned(&snapshot);
    let start = Start {
        item: "a".into(),
        run: 1,
        timeout: Duration::ZERO,
    };
    record_rejected_pod(&snapshot, &mut plan, &start, 403, "exceeded quota");
    assert_eq!(plan.status.items["a"].failures, Some(1));
    assert_eq!(plan.status.run, Some(1));
    assert_eq!(plan.requeue_at, Some(later(10)));
    assert!(
        plan.status
            .message
            .as_ref()
            .is_some_and(|m| m.contains("exceeded quota"))
    );
    assert_eq!(plan.status.history[0].result, RunResult::Failed);
}

#[test]
fn seed_depends_on_the_group_and_the_run() {
    assert_eq!(seed("us", 1), seed("us", 1));
    assert_ne!(seed("us", 1), seed("us", 2));
    assert_ne!(seed("us", 1), seed("them", 1));
}

#[test]
fn deferred_decision_replaces_a_state_that_no_longer_applies() {
    let snapshot = fixture(&["a"]);
    for (state, may_start, expected) in [
        ("Running", false, "Waiting"),
        ("Suspended", true, "Waiting"),
        ("Blackout", true, "Waiting"),
        ("Invalid", true, "Waiting"),
        ("Blocked", true, "Waiting"),
        ("Suspended", false, "Suspended"),
        ("Idle", true, "Idle"),
        ("Waiting", true, "Waiting"),
    ] {
        let mut plan = Plan {
            may_start,
            ..Plan::default()
        };
        plan.status.state = Some(state.to_owned());
        defer_decision(&snapshot, &mut plan, Duration::from_secs(1));
        assert_eq!(
            plan.status.state.as_deref(),
            Some(expected),
            "{state} {may_start}"
        );
    }
}
