//! What must hold in every history. The oracle sees every write as the server applies it, and
//! the truth about every container; it believes no status.

use crate::world::{Truth, World};
use oaat_operator::pod::PodView;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What is remembered to be checked.
#[derive(Default)]
pub struct Oracle {
    /// The first thing that was wrong.
    pub violation: Option<String>,
    /// Pods whose run was recorded.
    recorded: BTreeSet<String>,
    /// Pods whose run may stay unrecorded: somebody wiped the status that spoke of it.
    excused: BTreeSet<String>,
    /// The highest number of a run, by the group's uid.
    numbers: BTreeMap<String, i64>,
    /// When each replica last listed the pods.
    lists: BTreeMap<usize, u64>,
    /// Runs recorded.
    pub runs: u64,
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn failures(status: &Value, item: &str) -> Option<i64> {
    let item = status["items"].get(item)?;
    Some(item["failures"].as_i64().unwrap_or(0))
}

impl Oracle {
    /// Something is wrong.
    pub fn violated(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    /// A replica's list was taken.
    pub fn listed(&mut self, replica: usize, now: u64) {
        self.lists.insert(replica, now);
    }

    /// Somebody wiped the status by hand.
    pub fn wiped(&mut self, group: &str, truth: &BTreeMap<String, Truth>) {
        self.numbers.remove(group);
        self.excused.extend(truth.keys().cloned());
    }

    /// A replica's write of the status was applied.
    pub fn written(world: &mut World, replica: usize, before: &Value, after: &Value) {
        let (was, is) = (&before["current"], &after["current"]);
        let (was_uid, is_uid) = (text(was, "podUid"), text(is, "podUid"));
        let known = before["history"].as_array().map_or(&[][..], Vec::as_slice);
        let history = after["history"].as_array().map_or(&[][..], Vec::as_slice);
        let new: Vec<_> = history
            .iter()
            .take_while(|run| Some(*run) != known.first())
            .collect();
        let mut wrong = Vec::new();
        for run in new.iter().filter(|run| !run["pod"].is_null()) {
            if was_uid.is_empty() || run["pod"] != was["podName"] {
                wrong.push(format!("recorded {run}, which was not the run in progress"));
            }
        }
        if !was_uid.is_empty() && was_uid != is_uid {
            let record = new.iter().find(|run| run["pod"] == was["podName"]);
            wrong.extend(world.moved_on(was_uid, record.copied()));
        }
        if !is_uid.is_empty() && was_uid != is_uid {
            wrong.extend(world.claimed(replica, is));
        }
        wrong.extend(counts(before, after, &new));
        if let Some(wrong) = wrong.into_iter().next() {
            world.oracle.violated(wrong);
        }
    }

    /// Whether every run that was is on record, but for the one in progress.
    pub fn complete(&mut self, truth: &BTreeMap<String, Truth>, group: &str, current: &str) {
        let lost = truth.iter().find(|(uid, truth)| {
            truth.opened
                && truth.group.as_deref() == Some(group)
                && *uid != current
                && !self.recorded.contains(*uid)
                && !self.excused.contains(*uid)
        });
        if let Some((uid, truth)) = lost {
            self.violated(format!("the run of pod {} ({uid}) was lost", truth.name));
        }
    }
}

/// Whether failures were counted as they were recorded.
fn counts(before: &Value, after: &Value, new: &[&Value]) -> Option<String> {
    let items = after["items"].as_object()?;
    for item in items.keys() {
        let mut expected = failures(before, item).unwrap_or(0);
        for run in new.iter().rev().filter(|run| run["item"] == item.as_str()) {
            match text(run, "result") {
                "Failed" => expected += 1,
                "Succeeded" => expected = 0,
                _ => {}
            }
        }
        let found = failures(after, item).unwrap_or(0);
        if found != expected {
            return Some(format!("{item} has {found} failures instead of {expected}"));
        }
    }
    None
}

impl World {
    /// The run of a pod is no longer the one in progress, with its record if there is one.
    fn moved_on(&mut self, uid: &str, record: Option<&Value>) -> Option<String> {
        let truth = self.truth.get(uid)?.clone();
        let name = &truth.name;
        let there = self.name_of(uid).and_then(|name| self.pods.get(&name));
        let view = there.map(PodView::from);
        if truth.live {
            return Some(format!("pod {name} still ran when the group moved on"));
        }
        if view.as_ref().is_some_and(|pod| !pod.terminal()) {
            return Some(format!(
                "pod {name} could still run when the group moved on"
            ));
        }
        let Some(record) = record else {
            return truth
                .opened
                .then(|| format!("the run of pod {name} was dropped unrecorded"));
        };
        self.oracle.runs += 1;
        if !self.oracle.recorded.insert(uid.to_owned()) {
            return Some(format!("the run of pod {name} was recorded twice"));
        }
        let succeeded = text(record, "result") == "Succeeded";
        let may = matches!(truth.ended, Some((0, _))) && !truth.evicted;
        if succeeded && !may {
            return Some(format!("pod {name} did not succeed, and {record} says so"));
        }
        let untouched = view.is_some_and(|pod| pod.deletion.is_none());
        if !succeeded && may && untouched && truth.deleted_alive.is_none() {
            return Some(format!("pod {name} succeeded, and {record} denies it"));
        }
        // Which came first is seen by clocks of whole seconds.
        if let (true, Some(asked), Some((_, ended))) = (succeeded, truth.deleted_alive, truth.ended)
            && ended > asked + 2000
            && self.node_clock == 0
        {
            return Some(format!("pod {name} was deleted while it ran, and {record}"));
        }
        None
    }

    /// A pod has become that of the run in progress.
    fn claimed(&mut self, replica: usize, current: &Value) -> Option<String> {
        let uid = text(current, "podUid");
        let group = self.group_uid()?;
        let truth = self.truth.get(uid)?.clone();
        let name = &truth.name;
        if truth.group.as_ref() != Some(&group) {
            return Some(format!("claimed pod {name}, which is not of this group"));
        }
        let run = current["run"].as_i64().unwrap_or(0);
        let last = self.oracle.numbers.insert(group.clone(), run);
        if last.is_some_and(|last| run <= last) {
            return Some(format!("run {run} of pod {name} comes after {last:?}"));
        }
        let listed = self.oracle.lists.get(&replica).copied().unwrap_or(0);
        let blocks = self.labelled().into_iter().find(|pod| {
            let view = PodView::from(pod);
            let other = self.truth.get(&view.uid);
            let foreign = other.is_some_and(|other| other.group.as_ref() != Some(&group));
            let before = other.is_some_and(|other| other.created < listed);
            foreign && before && !view.terminal()
        });
        match blocks {
            Some(pod) if !truth.opened => Some(format!(
                "claimed pod {name} beside {}",
                pod.metadata.name.unwrap_or_default()
            )),
            _ => None,
        }
    }
}
