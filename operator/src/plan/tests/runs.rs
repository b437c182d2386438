//! Runs that start late or take long, items that give up, and the pods that are kept.

use super::*;
use oaat_api::{Attempts, OtherGates};

#[test]
fn queue_does_not_count_toward_the_start_timeout() {
    let mut queued = pod("p", Phase::Pending);
    queued.other_gates = vec!["queue".into()];
    let mut snapshot = running(fixture(&["a"]), queued.clone());
    snapshot.group.spec.start_timeout = Some("30s".into());
    let plan = planned(&snapshot);
    assert_eq!(plan.stop, None, "claimed a minute ago");
    let gates = |plan: &Plan| plan.status.current.as_ref()?.other_gates.clone();
    assert_eq!(gates(&plan), Some(OtherGates { removed: None }));

    queued.other_gates.clear();
    let mut snapshot = running(snapshot, queued);
    status(&mut snapshot).current = plan.status.current;
    let plan = planned(&snapshot);
    assert_eq!(plan.stop, None);
    assert_eq!(gates(&plan), Some(OtherGates { removed: Some(NOW) }));
    assert_eq!(plan.requeue_at, Some(later(30)));
    snapshot.now = later(30);
    status(&mut snapshot).current = plan.status.current;
    assert!(planned(&snapshot).stop.is_some());
}

#[test]
fn slow_start_is_shown_and_is_part_of_the_failure() {
    let mut creating = pod("p", Phase::Pending);
    creating.accepted = Some(ago(20));
    let mut snapshot = running(fixture(&["a"]), creating);
    let plan = planned(&snapshot);
    assert_eq!(plan.status.message.as_deref(), Some("running a"));
    assert_eq!(plan.requeue_at, Some(later(10)));
    snapshot.now = later(10);
    let message = planned(&snapshot).status.message.unwrap_or_default();
    assert!(message.contains("has been creating its containers since"));
    snapshot.group.spec.start_timeout = Some("30s".into());
    let stopping = planned(&snapshot).status.current.and_then(|c| c.stopping);
    let message = stopping.map(|s| s.message).unwrap_or_default();
    assert!(
        message.contains("has been creating its containers since"),
        "{message}"
    );
}

#[test]
fn overdue_run_is_reported_once_and_not_if_it_is_limited() {
    let mut long = pod("p", Phase::Running);
    let set = |snapshot: &mut GroupSnapshot, durations: &[i64]| {
        let item = ItemStatus {
            durations: durations.to_vec(),
            ..ItemStatus::default()
        };
        status(snapshot).items.insert("a".into(), item);
        let current = status(snapshot).current.as_mut();
        current.unwrap().claimed = ago(300);
    };
    let overdue = |plan: &Plan| {
        let found = condition(&plan.status.conditions, "Running");
        found.is_some_and(|c| c.reason == "Overdue")
    };
    for (durations, limited, gated_seconds, expected) in [
        (&[1, 99][..], false, 0, true),
        (&[101], false, 0, false),
        (&[], false, 0, false),
        (&[1], true, 0, false),
        // Another scheduling gate held the pod at first.
        (&[1, 99], false, 10, false),
    ] {
        long.has_deadline = limited;
        let mut snapshot = running(fixture(&["a", "b", "c"]), long.clone());
        set(&mut snapshot, durations);
        if let Some(current) = &mut status(&mut snapshot).current {
            current.other_gates = Some(OtherGates {
                removed: Some(ago(300 - gated_seconds)),
            });
        }
        let plan = planned(&snapshot);
        assert_eq!(
            overdue(&plan),
            expected,
            "{durations:?} {limited} {gated_seconds}"
        );
        if expected {
            assert_eq!(plan.events.len(), 1);
            let message = plan.status.message.clone().unwrap_or_default();
            assert!(
                message.ends_with("(1m 39s); 2 other items are due"),
                "{message}"
            );
            snapshot.group.status = Some(plan.status);
            assert_eq!(planned(&snapshot).events, []);
        }
    }
}

#[test]
fn change_of_options_or_type_gives_new_attempts() {
    let mut snapshot = fixture(&["a"]);
    snapshot.group.spec.max_failures = Some(2);
    let state = |snapshot: &GroupSnapshot| {
        let plan = planned(snapshot);
        let item = plan.status.items["a"].clone();
        (item.state == ItemState::GivenUp, item)
    };
    let failed = |failures, attempts| ItemStatus {
        failures: Some(failures),
        attempts,
        ..ItemStatus::default()
    };
    status(&mut snapshot)
        .items
        .insert("a".into(), failed(1, None));
    let (given_up, item) = state(&snapshot);
    assert!(!given_up);
    let first = item.attempts.clone();
    assert_eq!(first.as_ref().map(|a| a.ignored_failures), Some(0));
    status(&mut snapshot)
        .items
        .insert("a".into(), failed(2, first.clone()));
    let (given_up, item) = state(&snapshot);
    assert!(given_up);
    status(&mut snapshot).items.insert("a".into(), item);
    let own = json!({ "env": [{ "name": "LEVEL", "value": "1" }] });
    let own = serde_json::from_value(own).unwrap_or_default();
    snapshot.group.spec.item_options.insert("a".into(), own);
    let (given_up, item) = state(&snapshot);
    assert!(!given_up && item.attempts != first);
    let counted = Attempts {
        ignored_failures: 2,
        ..item.attempts.clone().unwrap_or_default()
    };
    assert_eq!(item.attempts.as_ref(), Some(&counted));
    // Another value of maxFailures alone changes only the maximum.
    snapshot
        .group
        .spec
        .item_options
        .get_mut("a")
        .unwrap()
        .max_failures = Some(9);
    status(&mut snapshot)
        .items
        .insert("a".into(), failed(4, Some(counted.clone())));
    assert_eq!(state(&snapshot).1.attempts, Some(counted));
}

#[test]
fn scheduled_item_is_due_when_a_time_of_its_schedule_has_passed() {
    // NOW is in the middle of a minute; the schedule matches every full minute.
    let minute = 60_000;
    let last = NOW.0 - NOW.0.rem_euclid(minute);
    for (success, due_at) in [
        (Some(last - 3 * minute - 5), last),
        (Some(last - 1), last),
        (Some(last), last + minute),
        (Some(last + 1), last + minute),
    ] {
        let mut snapshot = fixture(&["a"]);
        snapshot.now = Timestamp(last + 30_000);
        let schedule = json!({ "cron": "* * * * *" });
        snapshot.group.spec.schedule = serde_json::from_value(schedule).ok();
        let item = ItemStatus {
            last_success: success.map(Timestamp),
            ..ItemStatus::default()
        };
        status(&mut snapshot).items.insert("a".into(), item);
        let sent = std::cell::Cell::new(None);
        decided(&snapshot, |request| {
            sent.set(request.items[0].frequency);
            Ok(wait(None))
        });
        let frequency = i64::try_from(sent.get().unwrap()).unwrap();
        assert_eq!(success.unwrap() + frequency, due_at, "{success:?}");
    }
}

#[test]
fn latest_failed_pod_of_a_failing_item_does_not_count_toward_the_limit() {
    let mut snapshot = fixture(&["a", "b"]);
    snapshot.group.spec.pod_history_limit = Some(1);
    let failing = ItemStatus {
        failures: Some(2),
        ..ItemStatus::default()
    };
    status(&mut snapshot).items.insert("a".into(), failing);
    let finished = |name: &str, item: &str, phase, created| {
        let mut pod = pod(name, phase);
        pod.item = Some(item.into());
        pod.created = ago(created);
        pod
    };
    snapshot.pods = vec![
        finished("a-first", "a", Phase::Failed, 50),
        finished("a-latest", "a", Phase::Failed, 40),
        finished("b-old", "b", Phase::Succeeded, 30),
        finished("b-new", "b", Phase::Succeeded, 20),
    ];
    let expired = |snapshot: &GroupSnapshot| {
        let expired = planned(snapshot).expired.into_iter();
        expired.map(|pod| pod.name).collect::<Vec<_>>()
    };
    assert_eq!(expired(&snapshot), ["b-old", "a-first"]);
    status(&mut snapshot).items.get_mut("a").unwrap().failures = Some(0);
    assert_eq!(expired(&snapshot), ["b-old", "a-latest", "a-first"]);
}

#[test]
fn suspended_or_succeeded_item_does_not_give_up() {
    for (suspend, each_once, given_up) in [
        (false, false, true),
        (true, false, false),
        (false, true, false),
    ] {
        let mut snapshot = fixture(&["a"]);
        snapshot.group.spec.max_failures = Some(1);
        snapshot.group.spec.each_once = each_once;
        let options = oaat_api::ItemOptions {
            suspend,
            ..oaat_api::ItemOptions::default()
        };
        snapshot.group.spec.item_options.insert("a".into(), options);
        let item = ItemStatus {
            failures: Some(1),
            last_success: Some(ago(60)),
            ..ItemStatus::default()
        };
        status(&mut snapshot).items.insert("a".into(), item);
        let plan = planned(&snapshot);
        assert_eq!(plan.status.items["a"].state == ItemState::GivenUp, given_up);
        let reported = plan.events.iter().any(|event| event.reason == "GivenUp");
        assert_eq!(reported, given_up, "{:?}", plan.events);
    }
}

#[test]
fn item_that_does_not_fit_into_a_quota_is_held_so_that_others_go_first() {
    let mut snapshot = fixture(&["a", "b"]);
    let rejected = |count, items: &[&str]| oaat_api::PodRejections {
        count,
        until: ago(1),
        message: "exceeded quota".into(),
        quota: true,
        items: items.iter().map(|item| (*item).to_owned()).collect(),
    };
    status(&mut snapshot).rejected = Some(rejected(3, &["a"]));
    let sent = std::cell::RefCell::new(Vec::new());
    let plan = decided(&snapshot, |request| {
        sent.replace(request.items.iter().map(|item| item.startable).collect());
        Ok(run(1))
    });
    assert_eq!(*sent.borrow(), [false, true]);
    assert_eq!(plan.start.map(|start| start.item).as_deref(), Some("b"));
    assert_eq!(plan.status.rejected, None);

    // If no other item is left, the group waits for the quota.
    status(&mut snapshot).rejected = Some(rejected(3, &["a", "b"]));
    let plan = decided(&snapshot, |_| {
        let verdicts = vec![verdict(Standing::Ready), verdict(Standing::Ready)];
        Ok(Decision {
            verdicts,
            ..wait(None)
        })
    });
    assert_eq!(ready(&plan), ("False".into(), "QuotaExceeded".into()));
    assert_eq!(
        plan.requeue_at,
        Some(later(3)),
        "twice the pause of four seconds"
    );
}

#[test]
fn containers_that_ended_before_the_deletion_decide_the_result() {
    let exited = |name: &str| ContainerView {
        name: name.into(),
        kind: ContainerKind::Main,
        state: ContainerState::Terminated {
            exit_code: 0,
            reason: "Completed".into(),
            message: String::new(),
            finished: Some(ago(30)),
        },
    };
    let mut draining = pod("p", Phase::Running);
    draining.completion_containers = vec!["main".into()];
    draining.containers = vec![
        exited("main"),
        ContainerView {
            state: ContainerState::Running,
            ..exited("mesh")
        },
    ];
    let grace = Duration::from_secs(30);
    let deadline = ago(10).plus(grace);
    draining.deletion = Some(Deletion { deadline, grace });
    let snapshot = running(fixture(&["a"]), draining.clone());
    let plan = planned(&snapshot);
    assert_eq!(plan.stop, None, "it is being deleted");
    let stopping = plan.status.current.and_then(|current| current.stopping);
    assert_eq!(stopping.and_then(|stopping| stopping.exit_code), Some(0));

    // The operator sees the pod only when it has ended.
    draining.phase = Phase::Failed;
    draining.containers[1] = exited("mesh");
    let mut snapshot = running(fixture(&["a"]), draining);
    snapshot.deleted_while_running = true;
    let history = planned(&snapshot).status.history;
    assert_eq!(history[0].result, oaat_api::RunResult::Succeeded);
}

#[test]
fn pod_that_has_not_started_is_looked_at_again() {
    let mut snapshot = running(fixture(&["a"]), pod("p", Phase::Pending));
    snapshot.group.spec.start_timeout = Some("0s".into());
    assert_eq!(planned(&snapshot).requeue_at, Some(later(30)));
}
