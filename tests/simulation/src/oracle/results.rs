//! Checks results: each is recorded once, and correctly.

use super::{Check, Write, instant, text, violation};
use crate::simulated_cluster::{SimulatedCluster, time};
use crate::violation::ViolationKind;
use oaat_operator::pod::PodView;
use serde_json::Value;

impl SimulatedCluster {
    /// Checks that a write records only the current run, and records it once.
    pub(super) fn check_records(&mut self, write: &Write<'_>) -> Check {
        let before = &write.before["current"];
        let uid = text(before, "podUid");
        for record in write.new.iter().filter(|run| !run["pod"].is_null()) {
            if uid.is_empty() || record["pod"] != before["podName"] {
                let details = format!("recorded {record}, which was not current");
                return violation(ViolationKind::RecordedTwice, details);
            }
            self.oracle.runs += 1;
            if !self.oracle.recorded.insert(uid.to_owned()) {
                let details = format!("the run of pod {} was recorded twice", record["pod"]);
                return violation(ViolationKind::RecordedTwice, details);
            }
            self.check_result(uid, record)?;
            self.check_times(uid, record, write)?;
        }
        Ok(())
    }

    /// Checks that a record says how the pod's run ended.
    fn check_result(&self, uid: &str, record: &Value) -> Check {
        let Some(truth) = self.truth.get(uid) else {
            return Ok(());
        };
        let name = &truth.name;
        let pod = self.name_of(uid).and_then(|name| self.pods.get(&name));
        let untouched = pod.is_some_and(|pod| pod.metadata.deletion_timestamp.is_none());
        let succeeded = text(record, "result") == "Succeeded";
        let may_succeed = matches!(truth.ended, Some((0, _))) && !truth.evicted;
        let fail = |details: String| violation(ViolationKind::WrongResult, details);
        let stopped = text(record, "result") == "Stopped";
        let disrupted = truth.disrupted.is_some();
        if stopped && !self.oracle.stopped_by_window.contains(uid) && !disrupted {
            return fail(format!(
                "no window or disruption stopped pod {name}, but {record} says so"
            ));
        }
        if succeeded && !may_succeed {
            return fail(format!("pod {name} did not succeed, but {record} says so"));
        }
        if !succeeded && may_succeed && untouched && truth.deleted_while_running.is_none() {
            return fail(format!(
                "pod {name} succeeded, but {record} does not say so"
            ));
        }
        // The order is known only from clocks of whole seconds.
        if let (true, Some(deleted), Some((_, ended))) =
            (succeeded, truth.deleted_while_running, truth.ended)
            && ended > deleted + 2000
            && truth.clock == 0
        {
            return fail(format!(
                "pod {name} was deleted while it was running, but {record} is a success"
            ));
        }
        // What remains of the pod may not show the disruption, and an eviction by the kubelet is a
        // failure.
        let shown = text(record, "reason") == "PodDeleted" && !truth.evicted;
        if disrupted && shown && truth.clock == 0 {
            let details = format!("pod {name} was disrupted, but {record} counts it");
            return violation(ViolationKind::DisruptionCountedAsFailure, details);
        }
        let gone = matches!(text(record, "reason"), "PodDisappeared" | "PodDeleted");
        if truth.with_namespace && gone {
            let details =
                format!("pod {name} was deleted with its namespace, but {record} counts it");
            return violation(ViolationKind::NamespaceCounted, details);
        }
        Ok(())
    }

    /// Checks that the times of a record are between the pod's creation and now. Clocks differ by
    /// minutes, so either may come first.
    fn check_times(&self, uid: &str, record: &Value, write: &Write<'_>) -> Check {
        let Some(truth) = self.truth.get(uid) else {
            return Ok(());
        };
        let created = time(truth.created).0.as_millisecond();
        let claimed = instant(&write.before["current"]["claimed"]).unwrap_or(created);
        let claimed = match instant(&record["started"]) {
            Some(started) if write.may_correct_times => started.min(claimed),
            _ => claimed,
        };
        let (earliest, latest) = write.request.clock;
        // Another replica may have recorded when the completion containers ended.
        let stopping = &write.before["current"]["stopping"];
        let completed = instant(&stopping["since"]).filter(|_| !stopping["exitCode"].is_null());
        let completed = completed.unwrap_or(created);
        let (from, to) = (created.min(earliest), created.max(latest).max(completed));
        let fail = |what: &str, at: Option<i64>| {
            let details = format!("{what} is {at:?}, outside of {from}..{to}: {record}");
            violation(ViolationKind::WrongTime, details)
        };
        // In the history, a run does not end before it was claimed.
        let finished = instant(&record["finished"]);
        if finished.is_none_or(|at| at < from.max(claimed) || at > to.max(claimed)) {
            return fail("finished", finished);
        }
        if instant(&record["started"]) != Some(claimed) {
            return fail("started", instant(&record["started"]));
        }
        let item = write.after["items"].get(text(record, "item"));
        let ended = match text(record, "result") {
            "Succeeded" => "lastSuccess",
            "Failed" => "lastFailure",
            _ => return Ok(()),
        };
        // The same write may record a later failure: a rejected pod.
        let newest = write.new.iter().find(|run| run["item"] == record["item"]);
        if newest != Some(&record) {
            return Ok(());
        }
        match item.map(|item| instant(&item[ended])) {
            Some(at) if at.is_none_or(|at| at < from || at > to) => fail(ended, at),
            Some(at) if at.map(|at| at.max(claimed)) != finished => fail(ended, at),
            _ => Ok(()),
        }
    }

    /// Checks that the group leaves a run only after it ended, and that the run is recorded unless
    /// it never started.
    pub(super) fn check_current_change(&mut self, write: &Write<'_>) -> Check {
        let uid = text(&write.before["current"], "podUid");
        let Some(truth) = self.truth.get(uid) else {
            return Ok(());
        };
        if uid == text(&write.after["current"], "podUid") {
            return Ok(());
        }
        let name = &truth.name;
        let pod = self.name_of(uid).and_then(|name| self.pods.get(&name));
        if truth.running {
            let details = format!("pod {name} still ran when the group moved on");
            return violation(ViolationKind::MovedOnEarly, details);
        }
        if pod.is_some_and(|pod| !PodView::from(pod).is_terminal()) {
            let details = format!("pod {name} could still run when the group moved on");
            return violation(ViolationKind::MovedOnEarly, details);
        }
        if truth.opened && !self.oracle.recorded.contains(uid) {
            let details = format!("the run of pod {name} was dropped without a record");
            return violation(ViolationKind::Lost, details);
        }
        Ok(())
    }
}

impl Write<'_> {
    /// Checks that the status of an item follows from its previous status and the new records.
    pub(super) fn check_counts(&self) -> Check {
        let Some(items) = self.after["items"].as_object() else {
            return Ok(());
        };
        let number = |item: &Value, key: &str| item[key].as_i64().unwrap_or(0);
        for (name, item) in items {
            let before = self.before["items"].get(name).unwrap_or(&Value::Null);
            let (mut failures, mut runs) = (number(before, "failures"), number(before, "runs"));
            let (mut succeeded, mut failed) = (false, false);
            for run in self.new.iter().rev().filter(|run| run["item"] == **name) {
                runs += 1;
                match text(run, "result") {
                    "Failed" => (failures, failed) = (failures + 1, true),
                    "Succeeded" => (failures, succeeded) = (0, true),
                    _ => {}
                }
            }
            let fail = |details: String| violation(ViolationKind::WrongCounts, details);
            let found = number(item, "failures");
            if found != failures {
                return fail(format!("{name} has {found} failures instead of {failures}"));
            }
            let found = number(item, "runs");
            if found != runs {
                return fail(format!("{name} has {found} runs instead of {runs}"));
            }
            for (key, may_change) in [("lastSuccess", succeeded), ("lastFailure", failed)] {
                let corrected =
                    self.may_correct_times && instant(&item[key]) < instant(&before[key]);
                if !may_change && !corrected && item[key] != before[key] {
                    let (is, was) = (&item[key], &before[key]);
                    return fail(format!(
                        "{key} of {name} changed from {was} to {is} without a run"
                    ));
                }
            }
        }
        Ok(())
    }
}
