//! The checks that must hold in every history. The oracle sees every write as the server applies
//! it, and the true state of every container. It trusts no status.

mod claims;
mod results;

use crate::event::Request;
use crate::simulated_cluster::{PodTruth, SimulatedCluster};
use crate::violation::{Violation, ViolationKind};
use oaat_api::Timestamp;
use oaat_operator::pod::PodView;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The state of the checks.
#[derive(Default)]
pub struct Oracle {
    /// The first violation.
    pub violation: Option<Violation>,
    /// The only kind of violation to report, if a rule is switched off.
    only: Option<ViolationKind>,
    /// The least time between two starts of an item, in milliseconds.
    pub floor: i64,
    /// The number of recorded runs.
    pub runs: u64,
    /// The UIDs of pods that the status reported as being stopped by the operator.
    pub stopping: BTreeSet<String>,
    /// The UIDs of pods in `stopping` that a blackout stops.
    pub stopped_by_window: BTreeSet<String>,
    /// The UIDs of pods whose run was recorded.
    recorded: BTreeSet<String>,
    /// The UIDs of pods whose run may stay unrecorded, because a user edited the status.
    excused: BTreeSet<String>,
    /// The highest run number by the UID of the group.
    numbers: BTreeMap<String, i64>,
    /// When each item was last started, by the clock of the replica that started it.
    starts: BTreeMap<String, i64>,
    /// When each replica last listed the pods.
    lists: BTreeMap<usize, u64>,
}

/// How far in the future a time may be, in milliseconds, before the oracle expects the operator to
/// replace it.
const FUTURE_TOLERANCE: i64 = 100 * 86_400_000;

/// The result of a check.
type Check = Result<(), (ViolationKind, String)>;

fn violation(kind: ViolationKind, details: String) -> Check {
    Err((kind, details))
}

/// A write of the status, as the server applies it.
struct Write<'a> {
    request: &'a Request,
    before: &'a Value,
    after: &'a Value,
    /// The records that it adds to the history, newest first.
    new: Vec<&'a Value>,
    /// Whether the previous status contains future times, which this write may replace.
    may_correct_times: bool,
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Parses a timestamp into milliseconds.
pub fn instant(value: &Value) -> Option<i64> {
    let time: Timestamp = serde_json::from_value(value.clone()).ok()?;
    Some(time.0)
}

/// Returns whether a status contains a time more than `FUTURE_TOLERANCE` after `now`.
fn contains_future_time(status: &Value, now: i64) -> bool {
    match status {
        Value::Object(fields) => fields
            .values()
            .any(|value| contains_future_time(value, now)),
        Value::Array(values) => values.iter().any(|value| contains_future_time(value, now)),
        _ => instant(status).is_some_and(|at| at > now + FUTURE_TOLERANCE),
    }
}

/// Returns whether two records are equal except for their times.
fn equal_except_times(before: &Value, after: &Value) -> bool {
    let without_times = |record: &Value| {
        let mut record = record.clone();
        for time in ["started", "finished"] {
            record[time].take();
        }
        record
    };
    without_times(before) == without_times(after)
}

impl Oracle {
    /// Creates an oracle that reports only violations of kind `only`, if set.
    pub fn new(only: Option<ViolationKind>) -> Self {
        Self {
            only,
            ..Self::default()
        }
    }

    /// Reports a violation. Only the first one is kept.
    pub fn report(&mut self, kind: ViolationKind, details: String) {
        if self.only.is_none_or(|only| only == kind) {
            self.violation.get_or_insert(Violation { kind, details });
        }
    }

    /// Remembers when a replica listed the pods.
    pub fn pods_listed(&mut self, replica: usize, now: u64) {
        self.lists.insert(replica, now);
    }

    /// Excuses the runs that a status edited by hand no longer shows.
    pub fn status_edited(&mut self, group: &str, truth: &BTreeMap<String, PodTruth>) {
        self.numbers.remove(group);
        self.starts.clear();
        self.excused.extend(truth.keys().cloned());
    }

    /// Checks a replica's write of the status after the server applied it.
    pub fn check_write(
        cluster: &mut SimulatedCluster,
        request: &Request,
        before: &Value,
        after: &Value,
    ) {
        let known = before["history"].as_array().map_or(&[][..], Vec::as_slice);
        let history = after["history"].as_array().map_or(&[][..], Vec::as_slice);
        // The operator's clock may be behind the times at which the API server created objects.
        let created = cluster.latest_creation();
        let now = request.clock.0.max(created);
        let may_correct_times = contains_future_time(before, now);
        if may_correct_times {
            let starts = cluster.oracle.starts.values_mut();
            starts.for_each(|at| *at = now.min(*at));
        }
        let is_known = |run: &Value| {
            let first = known.first();
            first.is_some_and(|first| {
                first == run || may_correct_times && equal_except_times(first, run)
            })
        };
        let new = history.iter().take_while(|run| !is_known(run));
        let write = Write {
            request,
            before,
            after,
            new: new.collect(),
            may_correct_times,
        };
        if !after["current"]["stopping"].is_null() {
            let uid = text(&after["current"], "podUid").to_owned();
            let reason = &after["current"]["stopping"]["reason"];
            let pod = cluster
                .name_of(&uid)
                .and_then(|name| cluster.pods.get(&name));
            let is_queued = pod.is_some_and(|pod| !PodView::from(pod).other_gates.is_empty());
            if reason == "StartTimeout" && before["current"]["stopping"].is_null() && is_queued {
                let details = format!("pod {uid} was stopped while it was queued");
                cluster
                    .oracle
                    .report(ViolationKind::GatedPodTimedOut, details);
            }
            if reason == "Blackout" {
                cluster.oracle.stopped_by_window.insert(uid.clone());
            }
            cluster.oracle.stopping.insert(uid);
        }
        let checks = [
            cluster.check_records(&write),
            cluster.check_current_change(&write),
            cluster.check_claim(&write),
            cluster.check_item_history(&write),
            write.check_counts(),
        ];
        for (kind, details) in checks.into_iter().filter_map(Result::err) {
            cluster.oracle.report(kind, details);
        }
    }

    /// Checks that every run is recorded, except the current one.
    pub fn check_all_recorded(
        &mut self,
        truth: &BTreeMap<String, PodTruth>,
        group: &str,
        current: &str,
    ) {
        let lost = truth.iter().find(|(uid, truth)| {
            truth.opened
                && !truth.lister
                && truth.group.as_deref() == Some(group)
                && *uid != current
                && !self.recorded.contains(*uid)
                && !self.excused.contains(*uid)
        });
        if let Some((uid, truth)) = lost {
            let details = format!("the run of pod {} ({uid}) was lost", truth.name);
            self.report(ViolationKind::Lost, details);
        }
    }
}
