//! Results: that each is recorded once, and as it was.

use super::{Write, Wrong, instant, text, wrong};
use crate::violation::Kind;
use crate::world::{World, time};
use oaat_operator::pod::PodView;
use serde_json::Value;

impl World {
    /// The records that a write adds: of the run in progress, and of no other.
    pub(super) fn records(&mut self, write: &Write<'_>) -> Wrong {
        let was = &write.before["current"];
        let uid = text(was, "podUid");
        for record in write.new.iter().filter(|run| !run["pod"].is_null()) {
            if uid.is_empty() || record["pod"] != was["podName"] {
                let words = format!("recorded {record}, which was not in progress");
                return wrong(Kind::RecordedTwice, words);
            }
            self.oracle.runs += 1;
            if !self.oracle.recorded.insert(uid.to_owned()) {
                let words = format!("the run of pod {} was recorded twice", record["pod"]);
                return wrong(Kind::RecordedTwice, words);
            }
            self.result(uid, record)?;
            self.times(uid, record, write)?;
        }
        Ok(())
    }

    /// Whether the record of a pod's run says how it ended.
    fn result(&self, uid: &str, record: &Value) -> Wrong {
        let Some(truth) = self.truth.get(uid) else {
            return Ok(());
        };
        let name = &truth.name;
        let there = self.name_of(uid).and_then(|name| self.pods.get(&name));
        let untouched = there.is_some_and(|pod| pod.metadata.deletion_timestamp.is_none());
        let succeeded = text(record, "result") == "Succeeded";
        let may = matches!(truth.ended, Some((0, _))) && !truth.evicted;
        let wrongly = |words: String| wrong(Kind::WrongResult, words);
        let stopped = text(record, "result") == "Stopped";
        if stopped && !self.oracle.windowed.contains(uid) {
            return wrongly(format!(
                "no window stopped pod {name}, and {record} says so"
            ));
        }
        if succeeded && !may {
            return wrongly(format!("pod {name} did not succeed, and {record} says so"));
        }
        if !succeeded && may && untouched && truth.deleted_while_running.is_none() {
            return wrongly(format!("pod {name} succeeded, and {record} denies it"));
        }
        // Which came first is seen by clocks of whole seconds.
        if let (true, Some(asked), Some((_, ended))) =
            (succeeded, truth.deleted_while_running, truth.ended)
            && ended > asked + 2000
            && truth.clock == 0
        {
            return wrongly(format!("pod {name} was deleted while it ran, and {record}"));
        }
        let gone = matches!(text(record, "reason"), "PodDisappeared" | "PodDeleted");
        if truth.with_namespace && gone {
            let words = format!("pod {name} went with its namespace, and {record}");
            return wrong(Kind::NamespaceCounted, words);
        }
        Ok(())
    }

    /// Whether the times of a record are between the pod's creation and now. Clocks differ by
    /// minutes, so either may come first.
    fn times(&self, uid: &str, record: &Value, write: &Write<'_>) -> Wrong {
        let Some(truth) = self.truth.get(uid) else {
            return Ok(());
        };
        let created = time(truth.created).0.as_millisecond();
        let claimed = instant(&write.before["current"]["claimed"]).unwrap_or(created);
        let (earliest, latest) = write.request.clock;
        let (from, to) = (created.min(earliest), created.max(latest));
        let wrongly = |what: &str, at: Option<i64>| {
            let words = format!("{what} is {at:?}, outside of {from}..{to}: {record}");
            wrong(Kind::WrongTime, words)
        };
        // In the history a run does not end before it was claimed.
        let finished = instant(&record["finished"]);
        if finished.is_none_or(|at| at < from.max(claimed) || at > to.max(claimed)) {
            return wrongly("finished", finished);
        }
        if instant(&record["started"]) != Some(claimed) {
            return wrongly("started", instant(&record["started"]));
        }
        let item = write.after["items"].get(text(record, "item"));
        let ended = match text(record, "result") {
            "Succeeded" => "lastSuccess",
            "Failed" => "lastFailure",
            _ => return Ok(()),
        };
        // The same write may tell of a later failure: a pod that was refused.
        let newest = write.new.iter().find(|run| run["item"] == record["item"]);
        if newest != Some(&record) {
            return Ok(());
        }
        match item.map(|item| instant(&item[ended])) {
            Some(at) if at.is_none_or(|at| at < from || at > to) => wrongly(ended, at),
            Some(at) if at.map(|at| at.max(claimed)) != finished => wrongly(ended, at),
            _ => Ok(()),
        }
    }

    /// The run in progress is another one, or none: then the one before is over, and recorded
    /// unless it never began.
    pub(super) fn moves(&mut self, write: &Write<'_>) -> Wrong {
        let was = text(&write.before["current"], "podUid");
        let Some(truth) = self.truth.get(was) else {
            return Ok(());
        };
        if was == text(&write.after["current"], "podUid") {
            return Ok(());
        }
        let name = &truth.name;
        let there = self.name_of(was).and_then(|name| self.pods.get(&name));
        if truth.live {
            let words = format!("pod {name} still ran when the group moved on");
            return wrong(Kind::MovedOnEarly, words);
        }
        if there.is_some_and(|pod| !PodView::from(pod).terminal()) {
            let words = format!("pod {name} could still run when the group moved on");
            return wrong(Kind::MovedOnEarly, words);
        }
        if truth.opened && !self.oracle.recorded.contains(was) {
            let words = format!("the run of pod {name} was dropped unrecorded");
            return wrong(Kind::Lost, words);
        }
        Ok(())
    }
}

impl Write<'_> {
    /// Whether what an item's status says of its runs follows from what it said before and from
    /// the records.
    pub(super) fn counts(&self) -> Wrong {
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
            let wrongly = |words: String| wrong(Kind::WrongCounts, words);
            let found = number(item, "failures");
            if found != failures {
                return wrongly(format!("{name} has {found} failures instead of {failures}"));
            }
            let found = number(item, "runs");
            if found != runs {
                return wrongly(format!("{name} has {found} runs instead of {runs}"));
            }
            for (key, may) in [("lastSuccess", succeeded), ("lastFailure", failed)] {
                if !may && item[key] != before[key] {
                    let (is, was) = (&item[key], &before[key]);
                    return wrongly(format!("{key} of {name} went from {was} to {is} by itself"));
                }
            }
        }
        Ok(())
    }
}
