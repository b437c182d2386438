//! Times in the status that lie in the future.

use super::super::clock;
use super::*;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff;
use oaat_api::reasons::events;

/// Returns a group whose status contains this time in every place.
fn with_times(time: Timestamp) -> GroupSnapshot {
    let mut snapshot = fixture(&["a", "b", "c"]);
    let text = time.to_string();
    let run = json!({
        "run": 1, "item": "a", "started": text, "finished": text, "result": "Succeeded",
        "reason": "Completed",
    });
    let from = json!({
        "items": {
            "a": { "item": "a", "lastSuccess": text, "lastStarted": text, "lastFinished": text },
            "b": { "item": "b", "lastFailure": text, "failures": 1 },
            "c": { "item": "c", "lastSuccess": ago(60).to_string() },
        },
        "lastRun": text,
        "lastDecision": { "time": text, "seed": "0", "fuel": 1, "item": "a" },
        "runNow": { "token": "t", "time": text, "done": true },
        "history": [run],
    });
    *status(&mut snapshot) = serde_json::from_value(from).unwrap_or_else(|e| panic!("{e}"));
    snapshot
}

/// Returns the corrected status, and the message of the event.
fn corrected(snapshot: &GroupSnapshot) -> (OaatGroupStatus, Option<String>) {
    let mut status = snapshot.group.status.clone().unwrap_or_default();
    let message = clock::correct_future_times(snapshot, &mut status);
    (status, message)
}

fn status_with(time: Timestamp) -> OaatGroupStatus {
    with_times(time).group.status.unwrap_or_default()
}

#[test]
fn times_in_the_future_are_replaced_and_reported() {
    let hours = later(7200);
    let wrong = with_times(hours);
    let (status, message) = corrected(&wrong);
    assert_eq!(status, status_with(NOW));
    let expected = format!("the latest {hours} (items a, b), with");
    assert!(message.is_some_and(|m| m.contains(&expected)), "{expected}");
    let plan = planned(&wrong);
    let event = plan.events.iter().find(|e| e.reason == events::CLOCK_SKEW);
    assert!(event.is_some_and(|event| event.warning), "{plan:?}");
}

#[test]
fn times_of_a_clock_that_is_ahead_by_minutes_are_kept() {
    let minutes = later(600);
    let (status, message) = corrected(&with_times(minutes));
    assert_eq!((status, message), (status_with(minutes), None));
}

#[test]
fn order_of_times_is_kept() {
    let mut snapshot = with_times(later(3500));
    if let Some(item) = status(&mut snapshot).items.get_mut("a") {
        item.last_started = Some(later(3700));
    }
    let (corrected, _) = corrected(&snapshot);
    let started = corrected.items["a"].last_started;
    assert!(started >= corrected.run_now.and_then(|now| now.time));
}

#[test]
fn clock_that_is_behind_rewrites_nothing() {
    for by_pod in [true, false] {
        let mut snapshot = with_times(later(7200));
        let server = later(7000);
        if by_pod {
            let mut newest = pod("p", Phase::Succeeded);
            newest.created = server;
            snapshot.pods.push(newest);
        } else {
            let time = jiff::Timestamp::from_millisecond(server.0).unwrap_or_default();
            snapshot.group.metadata.creation_timestamp = Some(Time(time));
        }
        let (status, message) = corrected(&snapshot);
        assert_eq!((status, message), (status_with(later(7200)), None));
    }
}

#[test]
fn rejection_pause_is_ended_only_beyond_the_tolerance() {
    for (floor, until, kept) in [
        (10, 900, true),
        (10, 100_000, false),
        (100_000, 100_000, true),
    ] {
        let mut snapshot = fixture(&["a"]);
        snapshot.retry_floor = Duration::from_secs(floor);
        status(&mut snapshot).rejected = Some(oaat_api::PodRejections {
            count: 1,
            until: later(until),
            message: "no".into(),
            quota: false,
            items: Vec::new(),
        });
        assert_eq!(corrected(&snapshot).1.is_none(), kept, "{floor} {until}");
        assert_eq!(planned(&snapshot).may_start, !kept, "{floor} {until}");
    }
}
