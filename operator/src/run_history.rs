//! Records the results of runs in a group's status, and builds its merge patches. Pure.

use crate::mutation::broken;
use crate::pod::RunOutcome;
use oaat_api::reasons;
use oaat_api::{
    CurrentRun, ItemState, ItemStatus, OaatGroupStatus, PodRejections, RunRecord, RunResult,
    Timestamp,
};
use serde_json::{Map, Value};
use std::time::Duration;

/// The maximum number of runs in a group's history.
pub const HISTORY: usize = 20;
/// The number of successful runs of an item whose durations are kept.
const DURATIONS: usize = 5;
/// The maximum pause after rejected pods, unless the retry floor is longer.
const MAX_BACKOFF: Duration = Duration::from_secs(15 * 60);

/// Records the end of the current run. Nothing else clears `current` after a run.
pub fn finish(status: &mut OaatGroupStatus, current: &CurrentRun, outcome: &RunOutcome) {
    status.current = None;
    if let Some(item) = status.items.get_mut(&current.item) {
        update_item(item, current.claimed, current.runnable_since(), outcome);
    }
    add_to_history(
        status,
        RunRecord {
            run: current.run,
            item: current.item.clone(),
            pod: Some(current.pod_name.clone()),
            started: current.claimed,
            // Times of containers are whole seconds and node clocks may be wrong, so the end may
            // seem to come before the start.
            finished: outcome.finished.max(current.claimed),
            result: outcome.result,
            reason: outcome.reason.clone(),
            message: outcome.message.clone(),
            exit_code: outcome.exit_code,
        },
    );
}

/// Pauses the group because a pod was rejected or deleted before it could start. The pause starts
/// at `floor` and doubles with each consecutive pod, up to 15 minutes.
pub fn back_off(status: &mut OaatGroupStatus, message: &str, now: Timestamp, floor: Duration) {
    let count = status
        .rejected
        .as_ref()
        .map_or(0, |r| r.count)
        .saturating_add(1);
    status.rejected = Some(PodRejections {
        count,
        until: now.plus(pause(count, floor)),
        message: message.to_owned(),
        quota: false,
        items: Vec::new(),
    });
}

/// Returns the pause after this number of consecutive rejected pods.
pub fn pause(count: i32, floor: Duration) -> Duration {
    // Even with a floor of zero, a rejected pod is not created again at once.
    let floor = floor.max(Duration::from_secs(1));
    let doubled = floor.saturating_mul(1 << (count - 1).clamp(0, 20));
    doubled.min(MAX_BACKOFF.max(floor))
}

/// Records that the pod of an item was rejected: a failure of the item, and a pause for the group.
/// The pause prevents a short-lived rejection from failing every item within milliseconds.
pub fn reject(
    status: &mut OaatGroupStatus,
    item: &str,
    run: i64,
    message: &str,
    now: Timestamp,
    floor: Duration,
) {
    let outcome = RunOutcome {
        result: RunResult::Failed,
        reason: reasons::runs::CREATE_REJECTED.into(),
        message: Some(message.to_owned()),
        exit_code: None,
        finished: now,
    };
    if !broken!(RefusalWithoutNumber) {
        status.run = Some(run);
    }
    if let Some(item) = status.items.get_mut(item) {
        item.last_started = Some(now);
        update_item(item, now, now, &outcome);
    }
    back_off(status, message, now, floor);
    add_to_history(
        status,
        RunRecord {
            run,
            item: item.to_owned(),
            pod: None,
            started: now,
            finished: now,
            result: outcome.result,
            reason: outcome.reason,
            message: outcome.message,
            exit_code: None,
        },
    );
}

/// Updates the status of an item after a run. Its duration counts from `runnable_since`.
fn update_item(
    item: &mut ItemStatus,
    started: Timestamp,
    runnable_since: Timestamp,
    outcome: &RunOutcome,
) {
    item.state = ItemState::Ready;
    item.next = None;
    item.last_started.get_or_insert(started);
    item.last_finished = None;
    item.last_exit_code = outcome.exit_code.filter(|code| *code != 0);
    item.runs = Some(item.runs.unwrap_or(0).saturating_add(1));
    match outcome.result {
        RunResult::Succeeded => {
            item.last_success = Some(outcome.finished);
            item.attempts = None;
            item.marked = None;
            let took = outcome
                .finished
                .since(runnable_since)
                .as_millis()
                .div_ceil(1000);
            item.durations
                .insert(0, i64::try_from(took).unwrap_or(i64::MAX));
            item.durations.truncate(DURATIONS);
            if !broken!(FailuresStay) {
                item.failures = None;
            }
        }
        RunResult::Failed => {
            item.last_failure = Some(outcome.finished);
            item.failures = Some(item.failures.unwrap_or(0).saturating_add(1));
        }
        RunResult::Stopped => item.last_finished = Some(outcome.finished.max(started)),
    }
    item.message = (outcome.result != RunResult::Succeeded).then(|| describe_result(outcome));
}

/// Returns how long the longest of an item's last successful runs took.
pub fn longest_success(item: &ItemStatus) -> Option<Duration> {
    let longest = item.durations.iter().max()?;
    Some(Duration::from_secs(u64::try_from(*longest).unwrap_or(0)))
}

/// Describes how a run ended. The result follows the name of the run in a sentence.
pub fn describe_result(outcome: &RunOutcome) -> String {
    let verb = match outcome.result {
        RunResult::Succeeded => return "succeeded".into(),
        RunResult::Failed => "failed",
        RunResult::Stopped => "was stopped",
    };
    match &outcome.message {
        Some(message) => format!("{verb} ({}): {message}", outcome.reason),
        None => format!("{verb} ({})", outcome.reason),
    }
}

fn add_to_history(status: &mut OaatGroupStatus, run: RunRecord) {
    status.history.insert(0, run);
    status.history.truncate(HISTORY);
}

/// Returns the JSON merge patch that turns the status `old` into `new`, or `None` if they are
/// equal.
///
/// `current` is always written as a whole. A merge patch keeps fields that it does not contain, and
/// a new `podName` with an old `podUid` would claim a pod that no replica chose.
pub fn merge_patch(old: &Value, new: &Value) -> Option<Value> {
    let patch = differences(old, new);
    (!patch.is_empty()).then_some(Value::Object(patch))
}

fn differences(old: &Value, new: &Value) -> Map<String, Value> {
    let empty = Map::new();
    let old = old.as_object().unwrap_or(&empty);
    let new = new.as_object().unwrap_or(&empty);
    let mut patch = Map::new();
    for (key, value) in new {
        let before = old.get(key).unwrap_or(&Value::Null);
        if before == value {
            continue;
        }
        let change = if before.is_object() && value.is_object() && key != "current" {
            Value::Object(differences(before, value))
        } else {
            value.clone()
        };
        patch.insert(key.clone(), change);
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        if !old[key].is_null() {
            patch.insert(key.clone(), Value::Null);
        }
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;
    use oaat_api::{OtherGates, Stopping};
    use proptest::prelude::*;
    use serde_json::json;

    fn status() -> OaatGroupStatus {
        OaatGroupStatus {
            items: [("a".to_owned(), ItemStatus::default())].into(),
            ..OaatGroupStatus::default()
        }
    }

    fn current(item: &str, run: i64) -> CurrentRun {
        CurrentRun {
            run,
            item: item.into(),
            pod_name: format!("pod-{run}"),
            pod_uid: "u".into(),
            claimed: Timestamp(1000),
            stopping: None,
            resumed: None,
            other_gates: None,
        }
    }

    fn finished(result: RunResult, exit_code: i32) -> RunOutcome {
        RunOutcome {
            result,
            reason: "Error".into(),
            message: None,
            exit_code: Some(exit_code),
            finished: Timestamp(5000),
        }
    }

    #[test]
    fn success_clears_failures_and_keeps_the_last_failure() {
        let mut status = status();
        finish(
            &mut status,
            &current("a", 1),
            &finished(RunResult::Failed, 5),
        );
        finish(
            &mut status,
            &current("a", 2),
            &finished(RunResult::Failed, 5),
        );
        let item = status.items["a"].clone();
        assert_eq!((item.failures, item.last_exit_code), (Some(2), Some(5)));
        finish(
            &mut status,
            &current("a", 3),
            &finished(RunResult::Succeeded, 0),
        );
        let item = &status.items["a"];
        assert_eq!((item.failures, item.last_exit_code), (None, None));
        assert_eq!(item.last_success, Some(Timestamp(5000)));
        assert_eq!(item.last_failure, Some(Timestamp(5000)));
        assert_eq!(item.runs, Some(3));
        assert_eq!(status.current, None);
        assert_eq!(
            status.history.iter().map(|r| r.run).collect::<Vec<_>>(),
            [3, 2, 1]
        );
    }

    #[test]
    fn duration_excludes_the_wait_for_other_scheduling_gates() {
        let mut status = status();
        let mut run = current("a", 1);
        finish(&mut status, &run, &finished(RunResult::Succeeded, 0));
        run.other_gates = Some(OtherGates {
            removed: Some(Timestamp(3000)),
        });
        finish(&mut status, &run, &finished(RunResult::Succeeded, 0));
        assert_eq!(status.items["a"].durations, [2, 4]);
    }

    #[test]
    fn stopped_run_is_neither_a_success_nor_a_failure() {
        let mut status = status();
        finish(
            &mut status,
            &current("a", 1),
            &finished(RunResult::Stopped, 143),
        );
        let item = &status.items["a"];
        assert_eq!(
            (item.last_success, item.last_failure, item.failures),
            (None, None, None)
        );
        assert_eq!(item.runs, Some(1));
    }

    #[test]
    fn removed_item_is_recorded_only_in_the_history() {
        let mut status = status();
        finish(
            &mut status,
            &current("gone", 1),
            &finished(RunResult::Failed, 1),
        );
        assert!(!status.items.contains_key("gone"));
        assert_eq!(status.history[0].item, "gone");
    }

    #[test]
    fn history_is_bounded() {
        let mut status = status();
        for run in 0..50 {
            finish(
                &mut status,
                &current("a", run),
                &finished(RunResult::Succeeded, 0),
            );
        }
        assert_eq!(status.history.len(), HISTORY);
        assert_eq!(status.history[0].run, 49);
    }

    #[test]
    fn rejections_double_the_pause_up_to_a_limit() {
        let mut status = status();
        let floor = Duration::from_secs(10);
        let mut pauses = Vec::new();
        for run in 1..=40 {
            reject(&mut status, "a", run, "quota", Timestamp(0), floor);
            pauses.push(status.rejected.as_ref().map_or(0, |r| r.until.0 / 1000));
        }
        assert_eq!(pauses[..8], [10, 20, 40, 80, 160, 320, 640, 900]);
        assert_eq!(pauses[39], 900);
        assert_eq!(status.items["a"].failures, Some(40));
        assert_eq!(status.run, Some(40));
    }

    #[test]
    fn current_is_written_as_a_whole() {
        let old =
            json!({"current": {"run": 1, "podUid": "u", "stopping": {"reason": "x"}}, "a": 1});
        let new = json!({"current": {"run": 2, "podUid": "u", "stopping": null}, "a": 1});
        assert_eq!(
            merge_patch(&old, &new),
            Some(json!({"current": {"run": 2, "podUid": "u", "stopping": null}}))
        );
        assert_eq!(
            merge_patch(&new, &json!({"a": 1})),
            Some(json!({"current": null}))
        );
        assert_eq!(merge_patch(&new, &new), None);
    }

    /// A merge patch keeps fields that it does not contain, also in the parts of `current`.
    #[test]
    fn nothing_of_a_run_remains_in_the_next_one() {
        let stopping = |exit_code| Stopping {
            reason: "Completed".into(),
            message: String::new(),
            since: Timestamp(0),
            exit_code,
        };
        let mut runs = Vec::new();
        for stopping in [None, Some(stopping(None)), Some(stopping(Some(0)))] {
            for removed in [None, Some(None), Some(Some(Timestamp(0)))] {
                runs.push(CurrentRun {
                    stopping: stopping.clone(),
                    other_gates: removed.map(|removed| OtherGates { removed }),
                    ..current("a", 1)
                });
            }
        }
        let json = |run: &CurrentRun| json!({ "current": run });
        for (old, new) in runs
            .iter()
            .flat_map(|old| runs.iter().map(move |new| (old, new)))
        {
            let mut got = json(old);
            if let Some(patch) = merge_patch(&json(old), &json(new)) {
                apply(&mut got, &patch);
            }
            let got: CurrentRun = serde_json::from_value(got["current"].clone()).unwrap();
            assert_eq!(&got, new, "after {old:?}");
        }
    }

    fn tree() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            (0..4).prop_map(|n| json!(n)),
            Just(json!([1, 2])),
            Just(json!("x"))
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            proptest::collection::btree_map("[a-d]|current", inner, 0..4).prop_map(|map| json!(map))
        })
    }

    /// Applies a merge patch as RFC 7386 defines it and the API server does.
    fn apply(target: &mut Value, patch: &Value) {
        let Value::Object(changes) = patch else {
            *target = patch.clone();
            return;
        };
        if !target.is_object() {
            *target = json!({});
        }
        for (key, change) in changes {
            if let Some(map) = target.as_object_mut() {
                if change.is_null() {
                    map.remove(key);
                } else {
                    apply(map.entry(key.clone()).or_insert(Value::Null), change);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn merge_patch_turns_the_old_status_into_the_new_one(old in tree(), new in tree()) {
            prop_assume!(old.is_object() && new.is_object());
            // The API server merges `current` field by field. That is correct because `current`
            // always has the same fields, unlike in these trees.
            let strip = |mut v: Value| { strip_current(&mut v); v };
            let (old, new) = (strip(old), strip(new));
            let mut got = old.clone();
            if let Some(patch) = merge_patch(&old, &new) {
                apply(&mut got, &patch);
            }
            prop_assert_eq!(got, new);
        }
    }

    fn strip_current(value: &mut Value) {
        if let Value::Object(map) = value {
            map.remove("current");
            map.values_mut().for_each(strip_current);
        }
    }
}
