//! What people may wish beyond items and frequency: suspended groups and items, each item once,
//! items run now.

use super::*;
use crate::run_now::ANNOTATION;

/// A group with this over its spec.
fn group(items: &[&str], more: serde_json::Value) -> GroupSnapshot {
    let mut snapshot = world(items);
    let mut spec = serde_json::to_value(&snapshot.group.spec).unwrap();
    if let (Some(spec), Some(more)) = (spec.as_object_mut(), more.as_object()) {
        spec.extend(more.clone());
    }
    snapshot.group.spec = serde_json::from_value(spec).unwrap();
    snapshot.items.clone_from(&snapshot.group.spec.oaat_items);
    snapshot
}

fn ask(snapshot: &mut GroupSnapshot, annotation: &str) {
    let annotations = [(ANNOTATION.to_owned(), annotation.to_owned())];
    snapshot.group.metadata.annotations = Some(annotations.into());
}

fn item(snapshot: &mut GroupSnapshot, name: &str, change: impl FnOnce(&mut ItemStatus)) {
    change(status(snapshot).items.entry(name.to_owned()).or_default());
}

fn message(plan: &Plan) -> &str {
    plan.status.message.as_deref().unwrap_or_default()
}

/// Settles, and starts what somebody asked for, if that may be.
fn asked(snapshot: &GroupSnapshot) -> (Plan, bool) {
    let mut plan = settled(snapshot);
    let valid = valid(snapshot).unwrap_or_else(|e| panic!("{e:?}"));
    let started = plan.may_start && plan_requested_item(snapshot, &valid, &mut plan);
    (plan, started)
}

fn reasons(plan: &Plan) -> Vec<&'static str> {
    plan.events.iter().map(|note| note.reason).collect()
}

#[test]
fn a_suspended_group_starts_nothing_and_lets_run_what_runs() {
    let snapshot = group(&["a"], json!({ "suspend": true }));
    let plan = settled(&snapshot);
    assert!(!plan.may_start);
    assert_eq!(plan.status.state.as_deref(), Some("Suspended"));
    assert_eq!(ready(&plan), ("False".into(), "Suspended".into()));
    assert!(
        message(&plan).contains("spec.suspend"),
        "{}",
        message(&plan)
    );

    let snapshot = running(snapshot, pod("p", Phase::Running));
    let plan = settled(&snapshot);
    assert_eq!((plan.stop.clone(), plan.stale_pods.len()), (None, 0));
    assert_eq!(plan.status.state.as_deref(), Some("Running"));
    assert!(
        message(&plan).starts_with("runs a; after that: spec.suspend"),
        "{}",
        message(&plan)
    );

    let mut snapshot = running(snapshot, pod("p", Phase::Succeeded));
    snapshot.pods.retain(|pod| pod.terminal());
    let plan = settled(&snapshot);
    assert_eq!(plan.status.items["a"].runs, Some(1));
    assert!(!plan.may_start);
}

#[test]
fn a_suspended_item_is_held_and_said_to_be() {
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
fn the_policy_sees_what_an_item_has_of_its_own() {
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
fn a_group_of_items_once_each_is_complete_when_all_have_succeeded() {
    let mut snapshot = group(&["a", "b"], json!({ "eachOnce": true }));
    item(&mut snapshot, "a", |a| a.last_success = Some(ago(9000)));
    let plan = decided(&snapshot, |request| {
        let told = |at: usize| (request.items[at].frequency, request.items[at].startable);
        assert_eq!((told(0), told(1)), ((None, false), (None, true)));
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
    let plan = settled(&snapshot);
    assert!(!plan.may_start);
    assert_eq!(plan.status.state.as_deref(), Some("Complete"));
    assert_eq!(
        complete(&plan),
        ("True".into(), "all 2 items have succeeded".into())
    );
    assert_eq!(reasons(&plan), ["Complete"]);
    assert_eq!(plan.status.items["b"].state, ItemState::Fresh);

    // It is told once; a new item makes it go on; and without eachOnce nothing is left of it.
    snapshot.group.status = Some(plan.status);
    assert_eq!(reasons(&settled(&snapshot)), [""; 0]);
    snapshot.items.push("c".into());
    let plan = settled(&snapshot);
    assert!(plan.may_start);
    assert_eq!(complete(&plan).0, "False");
    snapshot.group.spec.each_once = false;
    assert_eq!(complete(&settled(&snapshot)).0, "");
}

#[test]
fn what_is_asked_for_is_started_whatever_is_due_and_once() {
    let mut snapshot = group(&["a", "b", "c"], json!({ "eachOnce": true }));
    for name in ["a", "b", "c"] {
        item(&mut snapshot, name, |item| {
            item.last_success = Some(ago(60));
            item.last_started = Some(ago(60));
        });
    }
    ask(&mut snapshot, r#"{"token": "1", "items": ["b", "a"]}"#);
    let (plan, started) = asked(&snapshot);
    assert!(started);
    assert_eq!(plan.start.as_ref().map(|s| s.item.as_str()), Some("b"));
    assert_eq!(reasons(&plan)[0], "RunNow");
    assert_eq!(message(&plan), "runs b (asked for, token 1)");
    let why = plan
        .status
        .last_decision
        .as_ref()
        .and_then(|d| d.why.clone());
    assert_eq!(why.as_deref(), Some("asked for, token 1"));

    // The other one is next, and nothing after that.
    snapshot.group.status = Some(plan.status);
    let (plan, _) = asked(&snapshot);
    assert_eq!(plan.start.as_ref().map(|s| s.item.as_str()), Some("a"));
    snapshot.group.status = Some(plan.status);
    let (plan, started) = asked(&snapshot);
    assert!(!started, "{:?}", plan.start);
    assert_eq!(plan.status.run_now.unwrap().token.as_deref(), Some("1"));
}

#[test]
fn what_is_asked_for_is_not_started_again_by_a_clock_that_is_behind() {
    let mut snapshot = group(&["a"], json!({}));
    ask(&mut snapshot, r#"{"token": "1", "items": "*"}"#);
    status(&mut snapshot).run_now = settled(&snapshot).status.run_now;
    snapshot.now = ago(100);
    let (plan, started) = asked(&snapshot);
    assert!(started);
    snapshot.group.status = Some(plan.status);
    snapshot.retry_floor = Duration::ZERO;
    assert!(!asked(&snapshot).1);
}

#[test]
fn neither_the_floor_nor_a_suspension_nor_another_pod_gives_way_to_who_asks() {
    let request = r#"{"token": "1", "items": ["a"]}"#;
    let mut floor = group(&["a"], json!({}));
    ask(&mut floor, request);
    item(&mut floor, "a", |a| a.last_started = Some(ago(3)));
    let (plan, started) = asked(&floor);
    assert!(!started);
    assert_eq!(plan.requeue_at, Some(later(7)));

    let mut item_off = group(
        &["a"],
        json!({ "itemOptions": { "a": { "suspend": true } } }),
    );
    ask(&mut item_off, request);
    assert!(!asked(&item_off).1);

    let mut all_off = group(&["a"], json!({ "suspend": true }));
    ask(&mut all_off, request);
    let (plan, started) = asked(&all_off);
    assert!(!started);
    assert!(
        message(&plan).ends_with("asked to run now: a"),
        "{}",
        message(&plan)
    );

    let mut busy = running(group(&["a", "b"], json!({})), pod("p", Phase::Running));
    ask(&mut busy, r#"{"token": "1", "items": ["b"]}"#);
    let (plan, started) = asked(&busy);
    assert!(!started);
    assert_eq!(message(&plan), "runs a; after that: asked to run now: b");
}

#[test]
fn a_request_that_cannot_be_read_is_a_warning_once() {
    let mut snapshot = group(&["a"], json!({}));
    ask(&mut snapshot, "now!");
    let (plan, started) = asked(&snapshot);
    assert!(!started);
    assert_eq!(reasons(&plan), ["RunNowNotUnderstood"]);
    let noted = plan.status.run_now.clone().unwrap();
    assert!(noted.problem.unwrap().contains(r#""token""#));
    snapshot.group.status = Some(plan.status);
    assert_eq!(reasons(&asked(&snapshot).0), [""; 0]);
}

/// Windows that are open now (NOW is at 13:46:40 of a day), for so long from the minute on.
fn windows(duration: &str, running: &str) -> serde_json::Value {
    json!({ "blackoutWindows": [{
        "name": "w", "schedule": "46 13 * * *", "duration": duration, "running": running,
    }] })
}

#[test]
fn nothing_starts_in_a_window_and_its_end_is_looked_at() {
    let snapshot = group(&["a"], windows("10m", "Continue"));
    let plan = settled(&snapshot);
    assert!(!plan.may_start);
    assert_eq!(plan.status.state.as_deref(), Some("Blackout"));
    let until = Timestamp(NOW.0 - 40_000 + 600_000);
    assert_eq!(message(&plan), format!("blackout until {until} (window w)"));
    assert_eq!(plan.status.next, Some(until.to_string()));
    assert_eq!(plan.requeue_at, Some(until));
    // A run goes on.
    let plan = settled(&running(snapshot, pod("p", Phase::Running)));
    assert_eq!(plan.stop, None);
    let closed = group(&["a"], windows("30s", "Stop"));
    assert!(settled(&closed).may_start);
    assert_eq!(
        settled(&closed).requeue_at,
        Some(Timestamp(NOW.0 - 40_000 + 86_400_000))
    );
}

#[test]
fn windows_that_open_in_a_blackout_are_looked_at_only_if_they_end_what_runs() {
    let always = |running: &str| {
        let window = |running: &str| json!({ "schedule": "* * * * *", "duration": "2m", "running": running });
        group(
            &["a"],
            json!({ "blackoutWindows": [window("Continue"), window(running)] }),
        )
    };
    let soon = later(60);
    assert!(
        settled(&always("Stop"))
            .requeue_at
            .is_some_and(|again| again > soon)
    );
    let run = |running_: &str| running(always(running_), pod("p", Phase::Running));
    assert!(
        settled(&run("Continue"))
            .requeue_at
            .is_some_and(|again| again > soon)
    );
    assert!(settled(&run("Stop")).stop.is_some());
}

#[test]
fn a_window_ends_what_runs_with_the_reason_written_first() {
    let snapshot = running(
        group(&["a"], windows("10m", "Stop")),
        pod("p", Phase::Running),
    );
    let plan = settled(&snapshot);
    assert_eq!(plan.stop.as_ref().map(|pod| pod.name.as_str()), Some("p"));
    let stopping = plan
        .status
        .current
        .as_ref()
        .and_then(|c| c.stopping.clone());
    assert_eq!(stopping.map(|s| s.reason).as_deref(), Some("Blackout"));
    assert_eq!(reasons(&plan), ["Stopping"]);

    // However it ends then, it was stopped, and that is no failure.
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
        let plan = settled(&snapshot);
        assert_eq!(plan.status.history[0].result, RunResult::Stopped);
        let a = &plan.status.items["a"];
        assert_eq!(
            (a.failures, a.runs, a.last_failure, a.last_success),
            (None, Some(1), None, None)
        );
        assert_eq!(reasons(&plan), ["Stopped"]);
    }
    // One that ended by itself before anybody deleted it has its own result.
    snapshot.current = CurrentPod::Present({
        let mut ended = pod("p", Phase::Succeeded);
        ended.containers.push(ContainerView {
            name: "c".into(),
            init: false,
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
        settled(&snapshot).status.history[0].result,
        RunResult::Succeeded
    );
}

#[test]
fn a_stop_that_was_written_and_not_done_is_done_also_when_the_window_has_closed() {
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
        });
        let plan = settled(&snapshot);
        assert!(plan.stop.is_some(), "{duration}");
        assert!(plan.status.current.and_then(|c| c.stopping).is_some());
    }
}

#[test]
fn an_item_that_would_run_into_a_window_is_held_until_its_end() {
    // It opens in 20 seconds.
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
    let words = format!("would run into a blackout until {until}");
    assert_eq!(slow.message.as_deref(), Some(words.as_str()));
    assert_eq!(
        message(&plan),
        "1 of 2 succeeded recently enough, 1 would run into a blackout"
    );
    assert_eq!(plan.requeue_at, Some(later(20)));
    ask(&mut snapshot, r#"{"token": "1", "items": ["slow"]}"#);
    assert!(!asked(&snapshot).1);
}
