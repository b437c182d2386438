//! Checks claims and rejected pods: run numbers, and which item may start when.

use super::{Check, FUTURE_TOLERANCE, Write, instant, text, violation};
use crate::simulated_cluster::SimulatedCluster;
use crate::violation::ViolationKind;
use oaat_operator::pod::PodView;
use serde_json::Value;

impl SimulatedCluster {
    /// Checks the run that a write claims, and rejected pods that it records.
    pub(super) fn check_claim(&mut self, write: &Write<'_>) -> Check {
        let (before, after) = (&write.before["current"], &write.after["current"]);
        let run = |status: &Value| status["run"].as_i64().unwrap_or(0);
        if run(write.after) < run(write.before) {
            let (before, after) = (run(write.before), run(write.after));
            let details = format!("the last run number decreased from {before} to {after}");
            return violation(ViolationKind::NumberShared, details);
        }
        for refused in write.new.iter().filter(|run| run["pod"].is_null()) {
            self.check_run_number(run(refused), "a rejected pod")?;
            let at = instant(&refused["started"]);
            self.check_start_time(text(refused, "item"), at, write)?;
        }
        let uid = text(after, "podUid");
        if uid.is_empty() || uid == text(before, "podUid") {
            return Ok(());
        }
        let Some(truth) = self.truth.get_mut(uid) else {
            return Ok(());
        };
        let (adopted, removed) = (truth.opened, truth.removed);
        truth.claimed = true;
        let (name, owner) = (truth.name.clone(), truth.group.clone());
        let group = self.group_uid();
        if owner != group {
            let details = format!("claimed pod {name}, which is not of this group");
            return violation(ViolationKind::Blocked, details);
        }
        if removed {
            let details = format!("claimed pod {name}, which an operator had removed");
            return violation(ViolationKind::RunDeleted, details);
        }
        self.check_run_number(run(after), &name)?;
        if let Some(other) = self.later_run(uid, run(after)) {
            let details = format!("run {} of pod {name} comes after {other}", run(after));
            return violation(ViolationKind::NumberShared, details);
        }
        let at = instant(&after["claimed"]);
        if adopted {
            let key = self.item_key(text(after, "item"));
            self.oracle.starts.extend(at.map(|at| (key, at)));
        } else {
            self.check_start_time(text(after, "item"), at, write)?;
            self.check_not_suspended(text(after, "item"))?;
            self.check_attempts(text(after, "item"), write)?;
            self.check_no_blocking_pod(write.request.replica, &name)?;
        }
        Ok(())
    }

    /// Returns the highest number of another claimed pod of the group, if it is not below `run`.
    /// Such numbers stay used even if the status that contained them was edited.
    fn later_run(&self, uid: &str, run: i64) -> Option<i64> {
        let group = self.group_uid();
        let others = self.labelled().map(PodView::from);
        let owned = others.filter(|pod| pod.uid != uid && pod.owner == group);
        let claimed = |pod: &PodView| self.truth.get(&pod.uid).is_some_and(|t| t.claimed);
        let runs = owned.filter(claimed).filter_map(|pod| pod.run);
        runs.filter(|other| *other >= run).max()
    }

    fn item_key(&self, item: &str) -> String {
        format!("{item} of {}", self.group_uid().unwrap_or_default())
    }

    /// Checks that no other run of the group has, or had, this number.
    fn check_run_number(&mut self, run: i64, of: &str) -> Check {
        let group = self.group_uid().unwrap_or_default();
        let last = self.oracle.numbers.insert(group, run);
        match last.filter(|last| run <= *last) {
            Some(last) => {
                let details = format!("run {run} of {of} comes after {last}");
                violation(ViolationKind::NumberShared, details)
            }
            None => Ok(()),
        }
    }

    /// Checks that an item does not start within the retry floor, or in the pause after a rejected
    /// pod. The clock of the replica that starts it counts, because it knows no other clock.
    fn check_start_time(&mut self, item: &str, at: Option<i64>, write: &Write<'_>) -> Check {
        let Some(at) = at else {
            let details = format!("{item} has no start time");
            return violation(ViolationKind::WrongTime, details);
        };
        let (_, latest) = write.request.clock;
        if at > latest {
            let details =
                format!("{item} was started at {at}, but the clock of its replica was {latest}");
            return violation(ViolationKind::WrongTime, details);
        }
        let key = self.item_key(item);
        let before = self.oracle.starts.insert(key, at);
        let status = write.after["items"].get(item).unwrap_or(&Value::Null);
        let refused = write.new.first().is_some_and(|run| run["pod"].is_null());
        let failures = status["failures"].as_i64().unwrap_or(0) - i64::from(refused);
        let succeeded = failures == 0 && !status["lastSuccess"].is_null();
        let may_start_sooner = succeeded && self.frequency() < self.oracle.floor;
        let listed = write.before["items"].get(item).is_some();
        if let Some(before) = before
            && at < before + self.oracle.floor
            && before < at + FUTURE_TOLERANCE
            && listed
            && !may_start_sooner
        {
            let details = format!("{item} was started at {before} and again at {at}");
            return violation(ViolationKind::TooSoon, details);
        }
        match instant(&write.before["rejected"]["until"]) {
            Some(until) if at < until && until < at + FUTURE_TOLERANCE => {
                let details = format!("{item} was started at {at}, in a pause until {until}");
                violation(ViolationKind::TooSoon, details)
            }
            _ => Ok(()),
        }
    }

    /// Returns the frequency of the group, in milliseconds.
    fn frequency(&self) -> i64 {
        let spec = self.group.as_ref().map(|group| &group.object.spec);
        let text = spec
            .and_then(|spec| spec.frequency.as_deref())
            .unwrap_or("60m");
        let (number, unit) = text.split_at(text.len().saturating_sub(1));
        let unit = if unit == "m" { 60_000 } else { 1_000 };
        number.parse::<i64>().unwrap_or(0) * unit
    }

    /// Checks that neither the group nor the item is suspended, and that there is no blackout. The
    /// writer of a claim has read this very spec.
    fn check_not_suspended(&self, item: &str) -> Check {
        let spec = self.group.as_ref().map(|group| &group.object.spec);
        let suspended = spec.is_some_and(|spec| {
            let options = spec.item_options.get(item);
            let suspended = spec.suspend || options.is_some_and(|options| options.suspend);
            suspended || !spec.blackout_windows.is_empty()
        });
        if suspended {
            let details = format!("{item} was claimed while it is suspended");
            return violation(ViolationKind::Blocked, details);
        }
        Ok(())
    }

    /// Checks that an item does not start after it gave up.
    fn check_attempts(&self, item: &str, write: &Write<'_>) -> Check {
        let spec = self.group.as_ref().map(|group| &group.object.spec);
        let Some(max) = spec.and_then(|spec| spec.max_failures) else {
            return Ok(());
        };
        let status = &write.after["items"][item];
        let number = |value: &Value| value.as_i64().unwrap_or(0);
        let counted = number(&status["failures"]) - number(&status["attempts"]["ignoredFailures"]);
        if counted >= max.into() {
            let details = format!("{item} was claimed after {counted} failures");
            return violation(ViolationKind::TooManyAttempts, details);
        }
        Ok(())
    }

    /// Checks that items from a source keep their history for a day, and that a claimed item is in
    /// a list.
    pub(super) fn check_item_history(&mut self, write: &Write<'_>) -> Check {
        // An item that was removed from the list and is added again has no history.
        let items = write.before["items"].as_object().into_iter().flatten();
        for (item, _) in items.filter(|(item, _)| write.after["items"].get(item.as_str()).is_none())
        {
            let key = self.item_key(item);
            self.oracle.starts.remove(&key);
        }
        let lists = |status: &Value| -> Vec<String> {
            let sources = status["itemSources"].as_array();
            let items = sources
                .into_iter()
                .flatten()
                .filter_map(|source| source["items"].as_array());
            let items = items.flatten().filter_map(Value::as_str);
            items.map(ToOwned::to_owned).collect()
        };
        let before = lists(write.before);
        if let Some(gone) = before.iter().find(|item| {
            let has_history = |status: &Value| status["items"].get(item.as_str()).is_some();
            has_history(write.before) && !has_history(write.after)
        }) {
            return violation(
                ViolationKind::Forgotten,
                format!("the history of {gone} is gone"),
            );
        }
        let (before, after) = (&write.before["current"], &write.after["current"]);
        let claimed = text(after, "item");
        let started = !claimed.is_empty() && text(after, "podUid") != text(before, "podUid");
        let adopted = self
            .truth
            .get(text(after, "podUid"))
            .is_some_and(|truth| truth.opened);
        let spec = self
            .group
            .as_ref()
            .map(|group| &group.object.spec.oaat_items);
        let listed = spec.into_iter().flatten().any(|item| item == claimed)
            || lists(write.after).iter().any(|item| item == claimed);
        if started && !adopted && !listed {
            let details = format!("{claimed} was claimed but is not in any list");
            return violation(ViolationKind::Blocked, details);
        }
        Ok(())
    }

    /// Checks that no pod blocked the group when it was claimed.
    fn check_no_blocking_pod(&self, replica: usize, name: &str) -> Check {
        let group = self.group_uid();
        let listed = self.oracle.lists.get(&replica).copied().unwrap_or(0);
        let blocking_pod = self.labelled().find(|pod| {
            let view = PodView::from(*pod);
            let other = self.truth.get(&view.uid);
            let foreign = other.is_some_and(|other| other.group != group);
            let before = other.is_some_and(|other| other.created < listed);
            foreign && before && !view.is_terminal()
        });
        match blocking_pod.and_then(|pod| pod.metadata.name.as_ref()) {
            Some(other) => {
                let details = format!("claimed pod {name} although {other} blocked the group");
                violation(ViolationKind::Blocked, details)
            }
            None => Ok(()),
        }
    }
}
