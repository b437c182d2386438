//! History: how a result changes a group's status. Pure.

use crate::mutation::broken;
use crate::pod::Finished;
use oaat_api::{
    Current, ItemState, ItemStatus, OaatGroupStatus, Rejected, RunRecord, RunResult, Timestamp,
};
use serde_json::{Map, Value};
use std::time::Duration;

/// Runs kept in a group's history.
pub const HISTORY: usize = 20;
/// Longest wait after refused pods.
const LONGEST_REJECTION: Duration = Duration::from_secs(15 * 60);

/// Records the end of the current run: the only way that `current` moves on.
pub fn finish(status: &mut OaatGroupStatus, current: &Current, finished: &Finished) {
    status.current = None;
    if let Some(item) = status.items.get_mut(&current.item) {
        conclude(item, current.claimed, finished);
    }
    remember(
        status,
        RunRecord {
            run: current.run,
            item: current.item.clone(),
            pod: Some(current.pod_name.clone()),
            started: current.claimed,
            // Containers' times have whole seconds, and node clocks may be wrong: the end
            // may seem to come before the start.
            finished: finished.finished.max(current.claimed),
            result: finished.result,
            reason: finished.reason.clone(),
            message: finished.message.clone(),
            exit_code: finished.exit_code,
        },
    );
}

/// The group starts nothing for a while, and for longer each time, because a pod did not come
/// about.
pub fn pause(status: &mut OaatGroupStatus, message: &str, now: Timestamp, floor: Duration) {
    let count = status
        .rejected
        .as_ref()
        .map_or(0, |r| r.count)
        .saturating_add(1);
    // Also with a floor of nothing at all a refusal is not asked for again at once.
    let floor = floor.max(Duration::from_secs(1));
    let doubled = floor.saturating_mul(1 << (count - 1).clamp(0, 20));
    status.rejected = Some(Rejected {
        count,
        until: now.plus(doubled.min(LONGEST_REJECTION.max(floor))),
        message: message.to_owned(),
    });
}

/// Records that the API server refused the pod of an item: a failure of the item,
/// and a pause for the group that doubles while it goes on, so that a short outage
/// of a quota does not fail every item within milliseconds.
pub fn reject(
    status: &mut OaatGroupStatus,
    item: &str,
    run: i64,
    message: &str,
    now: Timestamp,
    floor: Duration,
) {
    let finished = Finished {
        result: RunResult::Failed,
        reason: "CreateRejected".into(),
        message: Some(message.to_owned()),
        exit_code: None,
        finished: now,
    };
    if !broken!(RefusalWithoutNumber) {
        status.run = Some(run);
    }
    if let Some(item) = status.items.get_mut(item) {
        item.last_started = Some(now);
        conclude(item, now, &finished);
    }
    pause(status, message, now, floor);
    remember(
        status,
        RunRecord {
            run,
            item: item.to_owned(),
            pod: None,
            started: now,
            finished: now,
            result: finished.result,
            reason: finished.reason,
            message: finished.message,
            exit_code: None,
        },
    );
}

fn conclude(item: &mut ItemStatus, started: Timestamp, finished: &Finished) {
    item.state = ItemState::Ready;
    item.next = None;
    item.last_started.get_or_insert(started);
    item.last_finished = Some(finished.finished.max(started));
    item.last_exit_code = finished.exit_code;
    item.runs = Some(item.runs.unwrap_or(0).saturating_add(1));
    match finished.result {
        RunResult::Succeeded => {
            item.last_success = Some(finished.finished);
            if !broken!(FailuresStay) {
                item.failures = Some(0);
            }
        }
        RunResult::Failed => {
            item.last_failure = Some(finished.finished);
            item.failures = Some(item.failures.unwrap_or(0).saturating_add(1));
        }
        RunResult::Stopped => {}
    }
    item.message = Some(sentence(finished));
}

/// How a run ended, as a sentence.
pub fn sentence(finished: &Finished) -> String {
    let verb = match finished.result {
        RunResult::Succeeded => return "succeeded".into(),
        RunResult::Failed => "failed",
        RunResult::Stopped => "was stopped",
    };
    match &finished.message {
        Some(message) => format!("{verb} ({}): {message}", finished.reason),
        None => format!("{verb} ({})", finished.reason),
    }
}

fn remember(status: &mut OaatGroupStatus, run: RunRecord) {
    status.history.insert(0, run);
    status.history.truncate(HISTORY);
}

/// The JSON merge patch that turns one status into the other; `None` when they are
/// the same. `current` is always written whole: a merge patch keeps what it does not
/// name, and a new `podName` beside an old `podUid` would be a claim on a pod that
/// nobody chose.
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
    use proptest::prelude::*;
    use serde_json::json;

    fn status() -> OaatGroupStatus {
        OaatGroupStatus {
            items: [("a".to_owned(), ItemStatus::default())].into(),
            ..OaatGroupStatus::default()
        }
    }

    fn current(item: &str, run: i64) -> Current {
        Current {
            run,
            item: item.into(),
            pod_name: format!("pod-{run}"),
            pod_uid: "u".into(),
            claimed: Timestamp(1000),
            stopping: None,
            resumed: None,
        }
    }

    fn finished(result: RunResult, exit_code: i32) -> Finished {
        Finished {
            result,
            reason: "Error".into(),
            message: None,
            exit_code: Some(exit_code),
            finished: Timestamp(5000),
        }
    }

    #[test]
    fn a_success_clears_failures_and_keeps_the_last_failure() {
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
        assert_eq!(item.failures, Some(0));
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
    fn a_stopped_run_is_neither() {
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
    fn an_item_that_left_the_list_stays_in_the_history_only() {
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
    fn the_history_is_bounded() {
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
    fn refusals_double_the_pause_up_to_a_limit() {
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
    fn current_is_written_whole() {
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

    /// RFC 7386, as the API server applies it.
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
        fn the_patch_turns_one_into_the_other(old in tree(), new in tree()) {
            prop_assume!(old.is_object() && new.is_object());
            // Whole objects are replaced by merging, so `current` has the same fields
            // always; here it is left out of the trees that differ in shape.
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
