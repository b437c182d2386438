//! A group is put together in a few words, settled, and, where it is free, decided by a
//! stand-in for a policy. What the real policy answers is tested where it lives.

mod wishes;

use super::*;
use crate::pod::{ContainerState, ContainerView, Deletion, Phase};
use oaat_api::validate::{ValidatedGroup, validate};
use oaat_api::{
    Current, ItemState, ItemStatus, OaatGroupSpec, OaatTypeSpec, OnError, PolicyInUse, RunRecord,
    RunResult, Stopping, condition,
};
use policy_host::{Choice, Decision, EvalError, Evaluation, Request, Standing, Verdict};
use serde_json::json;
use std::sync::Arc;

const NOW: Timestamp = Timestamp(1_000_000_000);

fn ago(seconds: u64) -> Timestamp {
    NOW.minus(Duration::from_secs(seconds))
}

fn later(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

/// A group `g` with uid `us` and these items, of a valid type, and nothing else.
fn world(items: &[&str]) -> GroupSnapshot {
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
    };
    GroupSnapshot {
        now: NOW,
        items: group.spec.oaat_items.clone(),
        group,
        listing: crate::item_sources::SourceLists::default(),
        uid: "us".into(),
        pods: Vec::new(),
        current: CurrentPod::None,
        deleted_while_running: false,
        terminating: false,
        type_: TypeRead::Valid(Arc::new(spec)),
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

fn current(name: &str, run: i64) -> Current {
    Current {
        run,
        item: "a".into(),
        pod_name: name.into(),
        pod_uid: name.into(),
        claimed: ago(60),
        stopping: None,
        resumed: None,
    }
}

/// With a run in progress whose pod is this.
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

fn settled(snapshot: &GroupSnapshot) -> Plan {
    plan_group(snapshot, &valid(snapshot))
}

fn ready(plan: &Plan) -> (String, String) {
    let found = condition(&plan.status.conditions, "Ready").cloned();
    found.map(|c| (c.status, c.reason)).unwrap_or_default()
}

/// Settles, asks the given policy, and gives the plan.
fn decided(
    snapshot: &GroupSnapshot,
    policy: impl Fn(&Request) -> Result<Decision, EvalError>,
) -> Plan {
    let mut plan = settled(snapshot);
    assert!(plan.may_start, "{:?}", plan.status);
    let valid = valid(snapshot).unwrap_or_else(|e| panic!("{e:?}"));
    let in_use = PolicyInUse {
        source: "default".into(),
        digest: "d".into(),
        contract: "c".into(),
        instead_of: None,
    };
    let selection = PolicySelection::by(in_use.clone(), None, OnError::Hold);
    record_selection(snapshot, &mut plan, &selection);
    let request = request(snapshot, &valid, &plan, &selection);
    let evaluation = Evaluation {
        answer: policy(&request),
        fuel: 1,
        log: Vec::new(),
        log_dropped: 0,
    };
    if let Err(error) = &evaluation.answer {
        record_policy_error(snapshot, &mut plan, &selection, error);
    }
    let asked = Answered {
        policy: in_use,
        request,
        request_sha256: "r".into(),
        evaluation,
    };
    plan_decision(snapshot, &valid, &mut plan, &selection, asked);
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
fn a_free_group_starts_what_the_policy_chooses() {
    let plan = decided(&world(&["a", "b"]), |_| Ok(run(1)));
    assert_eq!(
        plan.start,
        Some(Start {
            item: "b".into(),
            run: 1
        })
    );
    assert_eq!(plan.status.run, Some(1));
    assert_eq!(plan.status.items["b"].last_started, Some(NOW));
    assert_eq!(
        plan.status.current, None,
        "the claim names the pod, once there is one"
    );
    assert_eq!(
        plan.requeue_at,
        Some(later(900)),
        "to look whether it has started in time"
    );
}

#[test]
fn nothing_starts_beside_a_pod_that_may_run() {
    let mut terminating = pod("p", Phase::Running);
    terminating.deletion = Some(Deletion {
        deadline: ago(100),
        grace: Duration::ZERO,
    });
    let mut failed_but_running = pod("p", Phase::Failed);
    failed_but_running.containers.push(ContainerView {
        name: "c".into(),
        init: false,
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
        let plan = settled(&running(world(&["a"]), pod.clone()));
        assert!(!plan.may_start, "{pod:?}");
        assert!(plan.status.current.is_some());
        assert!(plan.stale_pods.is_empty() && plan.expired.is_empty());
    }
}

#[test]
fn a_terminal_pod_is_recorded_and_leaves_the_group_free() {
    let plan = settled(&running(world(&["a"]), pod("p", Phase::Succeeded)));
    assert!(plan.may_start);
    assert_eq!(plan.status.current, None);
    assert_eq!(plan.status.history[0].run, 7);
    assert_eq!(plan.status.items["a"].failures, Some(0));
    assert_eq!(plan.events[0].reason, "Succeeded");
}

#[test]
fn an_absent_pod_is_one_failure_or_what_was_last_seen_of_it() {
    for (last, reason) in [
        (None, "PodDisappeared"),
        (Some(pod("p", Phase::Succeeded)), "Completed"),
    ] {
        let mut snapshot = running(world(&["a"]), pod("p", Phase::Running));
        snapshot.pods.clear();
        snapshot.current = CurrentPod::Absent(last);
        let plan = settled(&snapshot);
        assert!(plan.may_start);
        assert_eq!(plan.status.history[0].reason, reason);
    }
}

#[test]
fn a_shut_gate_of_the_current_pod_is_opened() {
    let mut gated = pod("p", Phase::Pending);
    gated.gated = true;
    let plan = settled(&running(world(&["a"]), gated.clone()));
    assert_eq!(plan.open, Some(PodId::from(&gated)));
    gated.deletion = Some(Deletion {
        deadline: NOW,
        grace: Duration::ZERO,
    });
    assert_eq!(settled(&running(world(&["a"]), gated)).open, None);
}

#[test]
fn an_unclaimed_candidate_is_removed_at_once_by_the_leader_and_later_by_others() {
    for (leads, age, removed) in [
        (true, 0, true),
        (false, 0, false),
        (false, 4, false),
        (false, 5, true),
    ] {
        let mut snapshot = world(&["a"]);
        let mut candidate = pod("p", Phase::Pending);
        candidate.gated = true;
        candidate.created = ago(age);
        snapshot.pods.push(candidate);
        snapshot.leads = leads;
        let plan = settled(&snapshot);
        assert_eq!(!plan.stale_pods.is_empty(), removed, "{leads} {age}");
        assert!(plan.requeue_at.is_some());
        assert!(!plan.may_start, "it is waited for");
    }
}

#[test]
fn a_candidate_from_the_future_does_not_wait_for_ever() {
    let mut snapshot = world(&["a"]);
    let mut candidate = pod("p", Phase::Pending);
    candidate.gated = true;
    candidate.created = later(1_000_000);
    snapshot.pods.push(candidate);
    assert_eq!(settled(&snapshot).stale_pods.len(), 1);
}

#[test]
fn a_foreign_pod_blocks_is_named_and_left_alone() {
    for owner in [None, Some("another group of this name".to_owned())] {
        let mut snapshot = world(&["a"]);
        let mut foreign = pod("stranger", Phase::Running);
        foreign.owner = owner;
        snapshot.pods.push(foreign);
        let plan = settled(&snapshot);
        assert!(!plan.may_start && plan.stale_pods.is_empty() && plan.status.current.is_none());
        assert_eq!(plan.status.state.as_deref(), Some("Blocked"));
        assert!(plan.status.message.is_some_and(|m| m.contains("stranger")));
    }
}

#[test]
fn a_foreign_pod_that_has_ended_is_of_no_concern() {
    let mut snapshot = world(&["a"]);
    let mut foreign = pod("stranger", Phase::Failed);
    foreign.owner = None;
    foreign.created = ago(1_000_000);
    snapshot.pods.push(foreign);
    let plan = settled(&snapshot);
    assert!(plan.may_start && plan.expired.is_empty());
}

#[test]
fn a_wiped_status_adopts_the_pod_that_runs() {
    let mut snapshot = world(&["a"]);
    let mut alive = pod("p", Phase::Running);
    alive.run = Some(41);
    snapshot.pods.push(alive);
    let plan = settled(&snapshot);
    let adopted = plan
        .status
        .current
        .clone()
        .map(|c| (c.run, c.pod_uid, c.item));
    assert_eq!(adopted, Some((42, "p".into(), "a".into())));
    assert!(!plan.may_start && plan.stale_pods.is_empty());
}

#[test]
fn a_current_pod_that_no_watch_shows_is_looked_at_again() {
    let mut unseen = pod("p", Phase::Running);
    unseen.labelled = false;
    let plan = settled(&running(world(&["a"]), unseen));
    assert_eq!(plan.requeue_at, Some(later(5)));
}

#[test]
fn a_pod_that_runs_beside_the_current_one_is_deleted() {
    let mut snapshot = running(world(&["a"]), pod("p", Phase::Running));
    snapshot.pods.push(pod("second", Phase::Running));
    let plan = settled(&snapshot);
    assert_eq!(
        plan.stale_pods,
        [PodId::from(&pod("second", Phase::Running))]
    );
    assert_eq!(plan.status.current, Some(current("p", 7)));
}

#[test]
fn run_numbers_grow_beyond_whatever_is_seen() {
    let mut snapshot = world(&["a"]);
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
fn a_group_that_ends_is_left_as_it_is() {
    let mut snapshot = running(world(&["a"]), pod("p", Phase::Succeeded));
    snapshot.terminating = true;
    let plan = settled(&snapshot);
    assert_eq!(Some(plan.status), snapshot.group.status);
    assert!(
        !plan.may_start
            && plan.stale_pods.is_empty()
            && plan.expired.is_empty()
            && plan.events.is_empty()
    );
}

#[test]
fn a_pod_that_does_not_start_in_time_is_stopped_with_the_reason_written_first() {
    let mut waiting = pod("p", Phase::Pending);
    waiting.unscheduled = Some("0/3 nodes".into());
    let plan = settled(&running(world(&["a"]), waiting.clone()));
    assert_eq!(plan.stop, None);
    assert_eq!(
        plan.requeue_at,
        Some(ago(60).plus(Duration::from_secs(900)))
    );
    assert!(
        plan.status
            .message
            .as_ref()
            .is_some_and(|m| m.contains("0/3 nodes")),
        "at once"
    );

    waiting.created = ago(2000);
    let mut snapshot = running(world(&["a"]), waiting.clone());
    if let Some(current) = &mut status(&mut snapshot).current {
        current.claimed = ago(2000);
    }
    let plan = settled(&snapshot);
    assert_eq!(plan.stop, Some(PodId::exactly(&waiting)));
    let stopping = plan.status.current.clone().and_then(|c| c.stopping);
    assert!(
        stopping.is_some_and(|s| s.reason == "StartTimeout" && s.message.contains("0/3 nodes"))
    );

    // Interrupted after the write: the deletion is made up for.
    status(&mut snapshot).current = plan.status.current;
    assert_eq!(settled(&snapshot).stop, Some(PodId::exactly(&waiting)));
    // And when it is gone, that is the reason.
    snapshot.pods.clear();
    snapshot.current = CurrentPod::Absent(None);
    assert_eq!(settled(&snapshot).status.history[0].reason, "StartTimeout");
}

#[test]
fn a_pod_that_started_after_all_is_not_stopped() {
    let stopping = Stopping {
        reason: "StartTimeout".into(),
        message: "late".into(),
        since: ago(5),
    };
    let with = |pod: PodView| {
        let mut snapshot = running(world(&["a"]), pod);
        if let Some(current) = &mut status(&mut snapshot).current {
            current.stopping = Some(stopping.clone());
        }
        snapshot
    };
    let plan = settled(&with(pod("p", Phase::Running)));
    assert_eq!(plan.stop, None);
    assert_eq!(plan.status.current.and_then(|c| c.stopping), None);
    // And one that has come to its end meanwhile has its own result.
    let mut ended = pod("p", Phase::Succeeded);
    ended.containers.push(ContainerView {
        name: "c".into(),
        init: false,
        state: ContainerState::Terminated {
            exit_code: 0,
            reason: "Completed".into(),
            message: String::new(),
            finished: Some(ago(1)),
        },
    });
    assert_eq!(settled(&with(ended)).status.history[0].reason, "Completed");
}

#[test]
fn the_time_to_start_begins_again_after_the_init_containers() {
    let mut pulling = pod("p", Phase::Pending);
    pulling.created = ago(5000);
    let init = |finished| ContainerView {
        name: "init".into(),
        init: true,
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
        let mut snapshot = running(world(&["a"]), pod);
        if let Some(current) = &mut status(&mut snapshot).current {
            current.claimed = ago(5000);
        }
        assert_eq!(settled(&snapshot).stop.is_some(), stopped);
    }
}

#[test]
fn finished_pods_are_kept_by_number_and_by_age() {
    let mut snapshot = world(&["a"]);
    snapshot.group.spec.pod_retention = Some("100s".into());
    snapshot.group.spec.pod_history_limit = Some(2);
    for (name, age) in [("old", 150), ("b", 90), ("c", 30), ("d", 10)] {
        let mut finished = pod(name, Phase::Succeeded);
        finished.created = ago(age);
        snapshot.pods.push(finished);
    }
    let plan = settled(&snapshot);
    let mut names: Vec<_> = plan.expired.iter().map(|pod| pod.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["b", "old"]);
    assert_eq!(plan.requeue_at, Some(later(70)));
}

#[test]
fn nothing_is_kept_when_nothing_is_to_be_kept_but_what_runs() {
    let mut snapshot = running(world(&["a"]), pod("p", Phase::Running));
    snapshot.group.spec.pod_retention = Some("0s".into());
    snapshot.group.spec.pod_history_limit = Some(0);
    assert!(settled(&snapshot).expired.is_empty());
    let mut snapshot = running(world(&["a"]), pod("p", Phase::Succeeded));
    snapshot.group.spec.pod_history_limit = Some(0);
    let plan = settled(&snapshot);
    assert_eq!(plan.expired.len(), 1);
    assert_eq!(
        plan.status.history.len(),
        1,
        "and its result is in the same plan"
    );
}

#[test]
fn what_hinders_a_start_is_said() {
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
                status(snapshot).rejected = Some(oaat_api::Rejected {
                    count: 1,
                    until: later(5),
                    message: "quota".into(),
                });
            },
            "Waiting",
            "CreateRejected",
        ),
    ];
    for (change, state, reason) in cases {
        let mut snapshot = world(&["a"]);
        change(&mut snapshot);
        let plan = settled(&snapshot);
        assert!(!plan.may_start);
        assert_eq!(plan.status.state.as_deref(), Some(state));
        assert_eq!(ready(&plan), ("False".into(), reason.into()));
        assert!(plan.status.message.is_some_and(|m| !m.is_empty()));
    }
}

#[test]
fn what_will_hinder_the_next_start_is_said_for_as_long_as_it_does() {
    let mut snapshot = running(world(&["a"]), pod("p", Phase::Running));
    snapshot.type_ = TypeRead::Missing;
    let hindered = settled(&snapshot).status;
    let message = hindered.message.clone().unwrap_or_default();
    assert!(
        message.starts_with("runs a; after that: waits for OaatType"),
        "{message}"
    );
    snapshot.group.status = Some(hindered);
    snapshot.type_ = TypeRead::Unchecked;
    let checked = settled(&snapshot).status;
    snapshot.group.status = Some(OaatGroupStatus {
        message: Some("runs a (why)".into()),
        ..checked
    });
    snapshot.type_ = world(&["a"]).type_;
    assert_eq!(
        settled(&snapshot).status.message.as_deref(),
        Some("runs a (why)")
    );
}

#[test]
fn items_that_left_the_list_leave_the_status() {
    let mut snapshot = world(&["a"]);
    status(&mut snapshot)
        .items
        .insert("gone".into(), ItemStatus::default());
    assert_eq!(
        settled(&snapshot)
            .status
            .items
            .into_keys()
            .collect::<Vec<_>>(),
        ["a"]
    );
}

#[test]
fn the_retry_floor_holds_an_item_that_was_just_started() {
    let cases = [
        // started, succeeded, frequency, startable
        (5, false, "1h", false),
        (10, false, "1h", true),
        (5, true, "1s", true),
        (5, true, "20s", false),
    ];
    for (started, succeeded, frequency, startable) in cases {
        let mut snapshot = world(&["a"]);
        snapshot.group.spec.frequency = Some(frequency.into());
        let item = ItemStatus {
            last_started: Some(ago(started)),
            last_success: succeeded.then_some(ago(started)),
            failures: Some(i32::from(!succeeded)),
            ..ItemStatus::default()
        };
        status(&mut snapshot).items.insert("a".into(), item);
        let asked = std::cell::Cell::new(None);
        let plan = decided(&snapshot, |request| {
            asked.set(Some(request.items[0].startable));
            Ok(wait(None))
        });
        assert_eq!(
            asked.get(),
            Some(startable),
            "{started} {succeeded} {frequency}"
        );
        if !startable {
            assert_eq!(plan.status.items["a"].state, ItemState::Held);
            assert_eq!(
                plan.requeue_at,
                Some(later(5)),
                "looks again when the floor has passed"
            );
        }
    }
}

#[test]
fn a_wait_is_brought_into_its_range() {
    let cases = [
        (Some(ago(100)), later(1)),
        (Some(later(30)), later(30)),
        (Some(Timestamp(i64::MAX)), later(86_400)),
        (None, later(86_400)),
    ];
    for (until, expected) in cases {
        let plan = decided(&world(&["a"]), |_| Ok(wait(until)));
        assert_eq!(
            (plan.start, plan.requeue_at),
            (None, Some(expected)),
            "{until:?}"
        );
    }
}

#[test]
fn the_same_answer_again_changes_nothing_in_the_status() {
    let mut snapshot = world(&["a", "b"]);
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
fn a_policy_that_gives_no_answer_holds_the_group_and_is_asked_again() {
    let plan = decided(&world(&["a"]), |_| Err(EvalError::OutOfFuel(1)));
    assert_eq!(plan.start, None);
    assert_eq!(ready(&plan), ("False".into(), "PolicyNotReady".into()));
    let policy = condition(&plan.status.conditions, "PolicyReady").cloned();
    assert_eq!(policy.map(|c| c.reason), Some("OutOfFuel".into()));
    assert_eq!(plan.requeue_at, Some(later(60)));
}

#[test]
fn a_result_is_recorded_also_when_the_policy_gives_no_answer() {
    let snapshot = running(world(&["a"]), pod("p", Phase::Failed));
    let plan = decided(&snapshot, |_| Err(EvalError::PolicyError("no".into())));
    assert_eq!(plan.status.history.len(), 1);
    assert_eq!(plan.status.current, None);
}

#[test]
fn one_that_never_succeeded_and_overtakes_those_due_is_named() {
    let mut snapshot = world(&["bad", "b", "c"]);
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
    let note = plan
        .events
        .iter()
        .find(|note| note.reason == "OthersWait")
        .map(|n| n.message.clone());
    for words in ["bad", "now 2", "failureCoolOff"] {
        assert!(note.as_ref().is_some_and(|m| m.contains(words)), "{words}");
        assert!(
            plan.status
                .message
                .as_ref()
                .is_some_and(|m| m.contains(words)),
            "{words}"
        );
    }
    snapshot.group.spec.failure_cool_off = Some("1s".into());
    assert!(decided(&snapshot, answer).events.is_empty());
}

#[test]
fn a_refused_pod_is_a_failure_and_a_pause() {
    let snapshot = world(&["a"]);
    let mut plan = settled(&snapshot);
    let start = Start {
        item: "a".into(),
        run: 1,
    };
    refuse(&snapshot, &mut plan, &start, 403, "exceeded quota");
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
fn the_seed_is_of_the_group_and_the_run() {
    assert_eq!(seed("us", 1), seed("us", 1));
    assert_ne!(seed("us", 1), seed("us", 2));
    assert_ne!(seed("us", 1), seed("them", 1));
}
