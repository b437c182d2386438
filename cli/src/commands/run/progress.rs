//! How far a requested run is. Pure.

use crate::cluster::items_in_effect;
use oaat_api::reasons::{events, runs, states};
use oaat_api::validate::{suspended, validate};
use oaat_api::{OaatGroup, RunRecord, RunResult, Timestamp, run_now};

/// What the group contained when the run was requested.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Baseline {
    /// The number of the latest run. The requested run has a higher number.
    run: i64,
    /// When the item had last started.
    last_started: Option<Timestamp>,
}

impl Baseline {
    /// Returns the baseline of an item.
    pub fn of(group: &OaatGroup, item: &str) -> Self {
        let Some(status) = &group.status else {
            return Self::default();
        };
        let item = status.items.get(item);
        Self {
            run: status.run.unwrap_or(0),
            last_started: item.and_then(|item| item.last_started),
        }
    }
}

/// How far a requested run is.
#[derive(Debug, PartialEq)]
pub(super) enum Progress {
    /// It has not started.
    Waiting,
    /// It does not start until a user acts or a blackout ends. Contains the reason.
    Blocked(String),
    /// It does not start, because the request was removed, or replaced by one without the item.
    Cancelled,
    /// It runs.
    Running { run: i64, pod: String },
    /// It ended.
    Ended(Box<RunRecord>),
}

impl Progress {
    /// Returns how far the run of an item is that was requested when the group was as in `baseline`.
    ///
    /// The request was written with a compare-and-swap, so the next run of the item is the requested
    /// one, and its number is higher than that of the run that was the latest.
    pub fn of(group: &OaatGroup, name: &str, baseline: &Baseline) -> Self {
        let Some(status) = &group.status else {
            return Self::Waiting;
        };
        let mut history = status.history.iter().rev();
        if let Some(record) = history.find(|r| r.item == name && r.run > baseline.run) {
            return Self::Ended(Box::new(record.clone()));
        }
        let current = status.current.as_ref();
        if let Some(current) = current.filter(|c| c.item == name && c.run > baseline.run) {
            return Self::Running {
                run: current.run,
                pod: current.pod_name.clone(),
            };
        }
        if let Some(record) = unrecorded(group, name, baseline) {
            return Self::Ended(Box::new(record));
        }
        let listed = items_in_effect(group);
        if !run_now::unstarted(group, &listed)
            .iter()
            .any(|item| item == name)
        {
            return Self::Cancelled;
        }
        let item = status.items.get(name);
        if let Some(since) = item.and_then(|item| item.missing_since) {
            return Self::Blocked(missing(since));
        }
        let is_suspended = validate(&group.spec).is_ok_and(|valid| valid.rules(name).suspended);
        if is_suspended {
            return Self::Blocked("itemOptions suspends the item".to_owned());
        }
        if let Some(why) = suspended(group) {
            return Self::Blocked(why.to_owned());
        }
        // Until the operator processes the request, the state may predate earlier changes by the user,
        // such as resuming the group. It does not process requests of groups that it cannot decode.
        let is_current = |state: &str| {
            run_now::is_processed(group)
                || state == states::INVALID
                    && status.observed_generation == group.metadata.generation
        };
        let waits_for_user = [states::INVALID, states::BLACKOUT];
        match &status.state {
            Some(state) if waits_for_user.contains(&state.as_str()) && is_current(state) => {
                Self::Blocked(status.message.clone().unwrap_or_else(|| state.clone()))
            }
            _ => Self::Waiting,
        }
    }
}

/// Says that an item is missing from its source.
pub(super) fn missing(since: Timestamp) -> String {
    format!("its source has not listed it since {}", since.seconds())
}

/// Returns a record of a run that started and left none: it was deleted before it could start, or
/// more than 20 runs followed.
fn unrecorded(group: &OaatGroup, name: &str, baseline: &Baseline) -> Option<RunRecord> {
    let status = group.status.as_ref()?;
    let item = status.items.get(name)?;
    let started = item
        .last_started
        .filter(|started| Some(*started) > baseline.last_started)?;
    let finished = item.finished().filter(|finished| *finished >= started);
    let result = match finished {
        Some(at) if Some(at) == item.last_success => RunResult::Succeeded,
        Some(at) if Some(at) == item.last_failure => RunResult::Failed,
        _ => RunResult::Stopped,
    };
    Some(RunRecord {
        run: status.run.unwrap_or(0),
        item: name.to_owned(),
        pod: None,
        started,
        finished: finished.unwrap_or(started),
        result,
        reason: match (finished, result) {
            (None, _) => events::CLAIM_VOID.to_owned(),
            (_, RunResult::Succeeded) => runs::COMPLETED.to_owned(),
            _ => runs::POD_FAILED.to_owned(),
        },
        message: None,
        exit_code: item.last_exit_code,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::test_groups::{NOW, backup, group, time};
    use serde_json::json;

    /// Adds a request to run an item now.
    fn requested(mut group: OaatGroup, item: &str) -> OaatGroup {
        let request = json!({ "token": "t", "items": [item] }).to_string();
        group.metadata.annotations = Some([(run_now::ANNOTATION.to_owned(), request)].into());
        group
    }

    #[test]
    fn progress_ignores_runs_from_before_the_request() {
        let before = backup();
        let baseline = |item: &str| Baseline::of(&before, item);
        // Run 7 of photos and run 6 of broken are older than the request.
        for item in ["photos", "broken", "mail"] {
            let group = requested(backup(), item);
            let progress = Progress::of(&group, item, &baseline(item));
            assert_eq!(progress, Progress::Waiting, "{item}");
            let progress = Progress::of(&before, item, &baseline(item));
            assert_eq!(progress, Progress::Cancelled, "{item}");
        }
        let mut after = backup();
        let status = after.status.as_mut().unwrap();
        let current = status.current.as_mut().unwrap();
        (current.run, current.item) = (8, "mail".into());
        let running = Progress::Running {
            run: 8,
            pod: "backup-photos-x".into(),
        };
        assert_eq!(Progress::of(&after, "mail", &baseline("mail")), running);
        let status = after.status.as_mut().unwrap();
        let mut record = status.history[0].clone();
        (record.run, record.item) = (8, "mail".into());
        // If several runs followed, the first one is the requested one.
        let later = RunRecord {
            run: 9,
            ..record.clone()
        };
        status.history.splice(0..0, [later, record.clone()]);
        let ended = Progress::of(&after, "mail", &baseline("mail"));
        assert_eq!(ended, Progress::Ended(Box::new(record)));
    }

    #[test]
    fn what_only_a_user_or_time_can_change_puts_the_run_off() {
        let spec = json!({ "oaatType": "t", "oaatItems": ["a"] });
        let off = json!({
            "oaatType": "t", "oaatItems": ["a"], "itemOptions": { "a": { "suspend": true } },
        });
        let blocked = |why: &str| Progress::Blocked(why.to_owned());
        let suspended = json!({ "oaatType": "t", "oaatItems": ["a"], "suspend": true });
        let reason = "spec.suspend is true; no item starts until it is false";
        for (spec, state, token, observed, expected) in [
            (&spec, "Idle", "t", 1, Progress::Waiting),
            (&spec, "Waiting", "t", 1, Progress::Waiting),
            (&spec, "Invalid", "t", 1, blocked("why")),
            (&spec, "Blackout", "t", 1, blocked("why")),
            // These states predate the request: the user has resumed or corrected the group since.
            (&spec, "Suspended", "earlier", 0, Progress::Waiting),
            (&spec, "Invalid", "earlier", 0, Progress::Waiting),
            (&spec, "Blackout", "earlier", 1, Progress::Waiting),
            // The operator cannot decode the group.
            (&spec, "Invalid", "earlier", 1, blocked("why")),
            // No operator has processed the change.
            (&suspended, "Idle", "earlier", 0, blocked(reason)),
            (
                &off,
                "Idle",
                "earlier",
                0,
                blocked("itemOptions suspends the item"),
            ),
        ] {
            let status = json!({
                "state": state, "message": "why", "observedGeneration": observed,
                "runNow": { "token": token },
            });
            let mut group = requested(group(spec, &status), "a");
            group.metadata.generation = Some(1);
            let progress = Progress::of(&group, "a", &Baseline::default());
            assert_eq!(progress, expected, "{state} {token} {observed}");
        }
    }

    #[test]
    fn item_that_goes_missing_is_blocked() {
        let spec = json!({ "oaatType": "t", "itemsFrom": [
            { "name": "s", "configMap": { "name": "c", "key": "k" } }
        ] });
        let since = "2026-03-02T11:00:00Z";
        let status = json!({ "state": "Idle", "items": { "a": { "missingSince": since } } });
        let group = requested(group(&spec, &status), "a");
        let expected = Progress::Blocked(format!("its source has not listed it since {since}"));
        assert_eq!(Progress::of(&group, "a", &Baseline::default()), expected);
    }

    #[test]
    fn run_without_a_record_ends_with_the_status_of_its_item() {
        let spec = json!({ "oaatType": "t", "oaatItems": ["a"] });
        let started = "2026-03-02T12:00:00Z";
        let baseline = Baseline {
            run: 7,
            last_started: Some(time("2026-03-02T11:00:00Z")),
        };
        for (item, result, reason) in [
            (
                json!({ "lastStarted": started }),
                RunResult::Stopped,
                "ClaimVoid",
            ),
            (
                json!({ "lastStarted": started, "lastFailure": started, "lastExitCode": 3 }),
                RunResult::Failed,
                "PodFailed",
            ),
            (
                json!({ "lastStarted": started, "lastSuccess": started }),
                RunResult::Succeeded,
                "Completed",
            ),
        ] {
            let group = group(&spec, &json!({ "run": 8, "items": { "a": item } }));
            let Progress::Ended(record) = Progress::of(&group, "a", &baseline) else {
                panic!("{group:?}");
            };
            assert_eq!((record.result, record.reason.as_str()), (result, reason));
            assert_eq!(record.started, NOW);
        }
    }
}
