//! What users can set beyond items and frequency: `suspend`, `eachOnce`, `itemOptions`, requests to
//! run items now, and blackout windows.

use super::*;
use crate::run_now::ANNOTATION;

/// Returns a group with the fields of `more` in its spec.
fn group(items: &[&str], more: serde_json::Value) -> GroupSnapshot {
    let mut snapshot = fixture(items);
    let mut spec = serde_json::to_value(&snapshot.group.spec).unwrap();
    if let (Some(spec), Some(more)) = (spec.as_object_mut(), more.as_object()) {
        spec.extend(more.clone());
    }
    snapshot.group.spec = serde_json::from_value(spec).unwrap();
    snapshot.items.clone_from(&snapshot.group.spec.oaat_items);
    snapshot
}

fn request_now(snapshot: &mut GroupSnapshot, annotation: &str) {
    let annotations = [(ANNOTATION.to_owned(), annotation.to_owned())];
    snapshot.group.metadata.annotations = Some(annotations.into());
}

fn item(snapshot: &mut GroupSnapshot, name: &str, change: impl FnOnce(&mut ItemStatus)) {
    change(status(snapshot).items.entry(name.to_owned()).or_default());
}

fn message(plan: &Plan) -> &str {
    plan.status.message.as_deref().unwrap_or_default()
}

/// Plans the group, and the start of a requested item. Returns whether one starts.
fn planned_with_request(snapshot: &GroupSnapshot) -> (Plan, bool) {
    let mut plan = planned(snapshot);
    let valid = valid(snapshot).unwrap_or_else(|e| panic!("{e:?}"));
    let started = plan.may_start && plan_requested_item(snapshot, &valid, &mut plan);
    (plan, started)
}

fn reasons(plan: &Plan) -> Vec<&'static str> {
    plan.events.iter().map(|event| event.reason).collect()
}

#[test]
fn suspended_group_starts_nothing_and_its_run_continues() {
    let snapshot = group(&["a"], json!({ "suspend": true }));
    let plan = planned(&snapshot);
    assert!(!plan.may_start);
    assert_eq!(plan.status.state.as_deref(), Some("Suspended"));
    assert_eq!(ready(&plan), ("True".into(), "Suspended".into()));
    assert!(
        message(&plan).contains("spec.suspend"),
        "{}",
        message(&plan)
    );

    let snapshot = running(snapshot, pod("p", Phase::Running));
    let plan = planned(&snapshot);
    assert_eq!((plan.stop.clone(), plan.stale_pods.len()), (None, 0));
    assert_eq!(plan.status.state.as_deref(), Some("Running"));
    assert!(
        message(&plan).starts_with("running a; next: spec.suspend"),
        "{}",
        message(&plan)
    );

    let mut snapshot = running(snapshot, pod("p", Phase::Succeeded));
    snapshot.pods.retain(|pod| pod.is_terminal());
    let plan = planned(&snapshot);
    assert_eq!(plan.status.items["a"].runs, Some(1));
    assert!(!plan.may_start);
}

#[test]
fn suspended_item_is_held_and_shown_as_suspended() {
    let options = json!({ "itemOptions": { "a": { "suspend": true } } });
    let snapshot = group(&["a", "b"], options);
    let plan = decided(&snapshot, |request| {
        let startable: Vec<bool> = request.items.iter().map(|item| item.startable).collect();
        assert_eq!(startable, [false, true]);
        let verdicts = vec![verdict(Standing::Ready), verdict(Standing::Fresh)];
        Ok(Decision {
            verdicts,
            ..wait(None)
        })
    });
    let item = &plan.status.items["a"];
    assert_eq!((item.state, item.next), (ItemState::Held, None));
    assert_eq!(item.message.as_deref(), Some("suspended by itemOptions"));
    assert_eq!(plan.status.state.as_deref(), Some("Idle"));
    assert_eq!(
        message(&plan),
        "1 of 2 succeeded recently enough, 1 suspended"
    );
}

#[test]
fn message_counts_items_that_the_policy_defers() {
    use Standing::{Cooling, Deferred, Fresh};
    let options = json!({ "itemOptions": { "d": { "suspend": true } } });
    for (standings, expected) in [
        (
            [Fresh, Deferred, Fresh, Fresh],
            "2 of 4 succeeded recently enough, 1 deferred by the policy, 1 suspended",
        ),
        (
            [Deferred, Deferred, Cooling, Fresh],
            "1 of 4 cooling off after a failure, 2 deferred by the policy, 1 suspended",
        ),
        // A suspended item is not counted twice.
        (
            [Fresh, Fresh, Fresh, Deferred],
            "3 of 4 succeeded recently enough, 1 suspended",
        ),
    ] {
        let snapshot = group(&["a", "b", "c", "d"], options.clone());
        let plan = decided(&snapshot, |_| {
            let verdicts = standings.map(verdict).to_vec();
            Ok(Decision {
                verdicts,
                ..wait(None)
            })
        });
        assert_eq!(message(&plan), expected);
        let waits = standings.contains(&Deferred) && standings[3] == Fresh;
        let state = if waits { "Waiting" } else { "Idle" };
        assert_eq!(plan.status.state.as_deref(), Some(state), "{expected}");
    }
}

#[test]
fn policy_receives_the_options_of_an_item() {
    let options = json!({ "frequency": "1h", "itemOptions": {
        "a": { "frequency": "5m", "failureCoolOff": "30s" },
    } });
    decided(&group(&["a", "b"], options), |request| {
        let rules = |at: usize| (request.items[at].frequency, request.items[at].cool_off);
        assert_eq!(rules(0), (Some(300_000), 30_000));
        assert_eq!(rules(1), (Some(3_600_000), 0));
        Ok(run(0))
    });
}

#[test]
fn each_once_group_is_complete_when_all_items_have_succeeded() {
    let mut snapshot = group(&["a", "b"], json!({ "eachOnce": true }));
    item(&mut snapshot, "a", |a| a.last_success = Some(ago(9000)));
    let plan = decided(&snapshot, |request| {
        let sent = |at: usize| (request.items[at].frequency, request.items[at].startable);
        assert_eq!((sent(0), sent(1)), ((None, false), (None, true)));
        Ok(run(1))
    });
    let complete = |plan: &Plan| {
        let found = condition(&plan.status.conditions, "Complete").cloned();
        found.map(|c| (c.status, c.message)).unwrap_or_default()
    };
    assert_eq!(
        complete(&plan),
        ("False".into(), "1 of 2 items have succeeded".into())
    );

    item(&mut snapshot, "b", |b| b.last_success = Some(ago(1)));
    let plan = planned(&snapshot);
    assert!(!plan.may_start);
    assert_eq!(plan.status.state.as_deref(), Some("Complete"));
    assert_eq!(
        complete(&plan),
        ("True".into(), "all 2 items have succeeded".into())
    );
    assert_eq!(reasons(&plan), ["Complete"]);
    assert_eq!(plan.status.items["b"].state, ItemState::Fresh);

    // The event is sent once. A new item continues the group. Without eachOnce, the condition is
    // removed.
    snapshot.group.status = Some(plan.status);
    assert_eq!(reasons(&planned(&snapshot)), [""; 0]);
    snapshot.items.push("c".into());
    let plan = planned(&snapshot);
    assert!(plan.may_start);
    assert_eq!(complete(&plan).0, "False");
    snapshot.group.spec.each_once = false;
    assert_eq!(complete(&planned(&snapshot)).0, "");
}

#[test]
fn requested_item_starts_once_even_if_not_due() {
    let mut snapshot = group(&["a", "b", "c"], json!({ "eachOnce": true }));
    for name in ["a", "b", "c"] {
        item(&mut snapshot, name, |item| {
            item.last_success = Some(ago(60));
            item.last_started = Some(ago(60));
        });
    }
    request_now(&mut snapshot, r#"{"token": "1", "items": ["b", "a"]}"#);
    let (plan, started) = planned_with_request(&snapshot);
    assert!(started);
    assert_eq!(plan.start.as_ref().map(|s| s.item.as_str()), Some("b"));
    assert_eq!(reasons(&plan)[0], "RunNow");
    assert_eq!(message(&plan), "running b (requested with token 1)");
    let why = plan
        .status
        .last_decision
        .as_ref()
        .and_then(|d| d.why.clone());
    assert_eq!(why.as_deref(), Some("requested with token 1"));

    // The other item is next, and nothing after that.
    snapshot.group.status = Some(plan.status);
    let (plan, _) = planned_with_request(&snapshot);
    assert_eq!(plan.start.as_ref().map(|s| s.item.as_str()), Some("a"));
    snapshot.group.status = Some(plan.status);
    let (plan, started) = planned_with_request(&snapshot);
    assert!(!started, "{:?}", plan.start);
    assert_eq!(plan.status.run_now.unwrap().token.as_deref(), Some("1"));
}

#[test]
fn requested_item_does_not_start_again_if_a_clock_is_behind() {
    let mut snapshot = group(&["a"], json!({}));
    request_now(&mut snapshot, r#"{"token": "1", "items": "*"}"#);
    status(&mut snapshot).run_now = planned(&snapshot).status.run_now;
    snapshot.now = ago(100);
    let (plan, started) = planned_with_request(&snapshot);
    assert!(started);
    snapshot.group.status = Some(plan.status);
    snapshot.retry_floor = Duration::ZERO;
    assert!(!planned_with_request(&snapshot).1);
}

#[test]
fn request_respects_the_retry_floor_suspensions_and_the_current_run() {
    let request = r#"{"token": "1", "items": ["a"]}"#;
    let mut floor = group(&["a"], json!({}));
    request_now(&mut floor, request);
    item(&mut floor, "a", |a| a.last_started = Some(ago(3)));
    let (plan, started) = planned_with_request(&floor);
    assert!(!started);
    assert_eq!(plan.requeue_at, Some(later(7)));

    let mut suspended_item = group(
        &["a"],
        json!({ "itemOptions": { "a": { "suspend": true } } }),
    );
    request_now(&mut suspended_item, request);
    assert!(!planned_with_request(&suspended_item).1);

    let mut suspended_group = group(&["a"], json!({ "suspend": true }));
    request_now(&mut suspended_group, request);
    let (plan, started) = planned_with_request(&suspended_group);
    assert!(!started);
    assert!(
        message(&plan).ends_with("requested to run now: a"),
        "{}",
        message(&plan)
    );

    let mut busy = running(group(&["a", "b"], json!({})), pod("p", Phase::Running));
    request_now(&mut busy, r#"{"token": "1", "items": ["b"]}"#);
    let (plan, started) = planned_with_request(&busy);
    assert!(!started);
    assert_eq!(message(&plan), "running a; next: requested to run now: b");
}

#[test]
fn invalid_request_causes_one_warning() {
    let mut snapshot = group(&["a"], json!({}));
    request_now(&mut snapshot, "now!");
    let (plan, started) = planned_with_request(&snapshot);
    assert!(!started);
    assert_eq!(reasons(&plan), ["RunNowInvalid"]);
    let noted = plan.status.run_now.clone().unwrap();
    assert!(noted.problem.unwrap().contains(r#""token""#));
    snapshot.group.status = Some(plan.status);
    assert_eq!(reasons(&planned_with_request(&snapshot).0), [""; 0]);
}

/// Returns a window that opened at the start of this minute. NOW is 13:46:40.
fn windows(duration: &str, running: &str) -> serde_json::Value {
    json!({ "blackoutWindows": [{
        "name": "w", "schedule": "46 13 * * *", "duration": duration, "running": running,
    }] })
}

#[test]
fn open_window_prevents_starts_until_it_closes() {
    let snapshot = group(&["a"], windows("10m", "Continue"));
    let plan = planned(&snapshot);
    assert!(!plan.may_start);
    assert_eq!(plan.status.state.as_deref(), Some("Blackout"));
    let until = Timestamp(NOW.0 - 40_000 + 600_000);
    assert_eq!(message(&plan), format!("blackout until {until} (window w)"));
    assert_eq!(plan.status.next, Some(until.to_string()));
    assert_eq!(plan.requeue_at, Some(until));
    // A run continues.
    let plan = planned(&running(snapshot, pod("p", Phase::Running)));
    assert_eq!(plan.stop, None);
    let closed = group(&["a"], windows("30s", "Stop"));
    assert!(planned(&closed).may_start);
    assert_eq!(
        planned(&closed).requeue_at,
        Some(Timestamp(NOW.0 - 40_000 + 86_400_000))
    );
}

#[test]
fn window_that_opens_in_a_blackout_requeues_only_if_it_ends_the_run() {
    let always = |running: &str| {
        let window = |running: &str| json!({ "schedule": "* * * * *", "duration": "2m", "running": running });
        group(
            &["a"],
            json!({ "blackoutWindows": [window("Continue"), window(running)] }),
        )
    };
    let soon = later(60);
    assert!(
        planned(&always("Stop"))
            .requeue_at
            .is_some_and(|at| at > soon)
    );
    let run = |stop: &str| running(always(stop), pod("p", Phase::Running));
    assert!(
        planned(&run("Continue"))
            .requeue_at
            .is_some_and(|at| at > soon)
    );
    assert!(planned(&run("Stop")).stop.is_some());
}

#[test]
fn window_ends_the_run_after_the_reason_is_recorded() {
    let snapshot = running(
        group(&["a"], windows("10m", "Stop")),
        pod("p", Phase::Running),
    );
    let plan = planned(&snapshot);
    assert_eq!(plan.stop.as_ref().map(|pod| pod.name.as_str()), Some("p"));
    let stopping = plan
        .status
        .current
        .as_ref()
        .and_then(|c| c.stopping.clone());
    assert_eq!(stopping.map(|s| s.reason).as_deref(), Some("Blackout"));
    assert_eq!(reasons(&plan), ["Stopping"]);

    // However its pod ends, the run was stopped, which is not a failure.
    let mut snapshot = snapshot;
    snapshot.group.status = Some(plan.status.clone());
    for phase in [Phase::Failed, Phase::Succeeded] {
        let mut ended = pod("p", phase);
        ended.deletion = Some(Deletion {
            deadline: later(30),
            grace: Duration::from_secs(30),
        });
        snapshot.current = CurrentPod::Present(ended);
        snapshot.deleted_while_running = true;
        let plan = planned(&snapshot);
        assert_eq!(plan.status.history[0].result, RunResult::Stopped);
        let a = &plan.status.items["a"];
        assert_eq!(
            (a.failures, a.runs, a.last_failure, a.last_success),
            (None, Some(1), None, None)
        );
        assert_eq!(reasons(&plan), ["Stopped"]);
    }
    // A pod that ended by itself before its deletion has its own result.
    snapshot.current = CurrentPod::Present({
        let mut ended = pod("p", Phase::Succeeded);
        ended.containers.push(ContainerView {
            name: "c".into(),
            kind: ContainerKind::Main,
            state: ContainerState::Terminated {
                exit_code: 0,
                reason: String::new(),
                message: String::new(),
                finished: Some(NOW),
            },
        });
        ended
    });
    snapshot.deleted_while_running = false;
    assert_eq!(
        planned(&snapshot).status.history[0].result,
        RunResult::Succeeded
    );
}

#[test]
fn recorded_stop_is_completed_after_the_window_has_closed() {
    for duration in ["10m", "30s"] {
        let mut snapshot = running(
            group(&["a"], windows(duration, "Stop")),
            pod("p", Phase::Running),
        );
        let current = status(&mut snapshot).current.as_mut().unwrap();
        current.stopping = Some(Stopping {
            reason: "Blackout".into(),
            message: "blackout".into(),
            since: ago(5),
            exit_code: None,
        });
        let plan = planned(&snapshot);
        assert!(plan.stop.is_some(), "{duration}");
        assert!(plan.status.current.and_then(|c| c.stopping).is_some());
    }
}

#[test]
fn item_that_would_not_finish_before_a_window_is_held_until_its_end() {
    // The window opens in 20 seconds.
    let mut snapshot = group(
        &["slow", "quick"],
        json!({ "blackoutWindows": [{
        "schedule": "47 13 * * *", "duration": "1h", "startIfFits": true,
    }] }),
    );
    let run = |item: &str, took: u64| RunRecord {
        run: 1,
        item: item.into(),
        pod: None,
        started: ago(took),
        finished: NOW,
        result: RunResult::Succeeded,
        reason: "Completed".into(),
        message: None,
        exit_code: Some(0),
    };
    status(&mut snapshot).history = vec![run("slow", 10), run("slow", 30), run("quick", 10)];
    let plan = decided(&snapshot, |request| {
        let startable: Vec<bool> = request.items.iter().map(|item| item.startable).collect();
        assert_eq!(startable, [false, true]);
        let verdicts = vec![verdict(Standing::Ready), verdict(Standing::Fresh)];
        Ok(Decision {
            verdicts,
            ..wait(None)
        })
    });
    let until = Timestamp(NOW.0 + 20_000 + 3_600_000);
    let slow = &plan.status.items["slow"];
    assert_eq!((slow.state, slow.next), (ItemState::Held, Some(until)));
    let expected = format!("would not finish before a blackout; held until {until}");
    assert_eq!(slow.message.as_deref(), Some(expected.as_str()));
    assert_eq!(
        message(&plan),
        "1 of 2 succeeded recently enough, 1 would not finish before a blackout"
    );
    assert_eq!(plan.requeue_at, Some(later(20)));
    request_now(&mut snapshot, r#"{"token": "1", "items": ["slow"]}"#);
    assert!(!planned_with_request(&snapshot).1);
}
