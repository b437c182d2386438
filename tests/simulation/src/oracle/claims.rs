//! Claims, and pods that were refused: numbers, and when what may start.

use super::{Write, Wrong, instant, text, wrong};
use crate::violation::Kind;
use crate::world::World;
use oaat_operator::pod::PodView;
use serde_json::Value;

impl World {
    /// What a write starts.
    pub(super) fn claims(&mut self, write: &Write<'_>) -> Wrong {
        let (was, is) = (&write.before["current"], &write.after["current"]);
        let run = |status: &Value| status["run"].as_i64().unwrap_or(0);
        if run(write.after) < run(write.before) {
            let (was, is) = (run(write.before), run(write.after));
            let words = format!("the number of the last run went from {was} to {is}");
            return wrong(Kind::NumberShared, words);
        }
        for refused in write.new.iter().filter(|run| run["pod"].is_null()) {
            self.numbered(run(refused), "a refused pod")?;
            let at = instant(&refused["started"]);
            self.in_time(text(refused, "item"), at, write)?;
        }
        let uid = text(is, "podUid");
        if uid.is_empty() || uid == text(was, "podUid") {
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
            let words = format!("claimed pod {name}, which is not of this group");
            return wrong(Kind::Blocked, words);
        }
        if removed {
            let words = format!("claimed pod {name}, which an operator had removed");
            return wrong(Kind::RunDeleted, words);
        }
        self.numbered(run(is), &name)?;
        if let Some(other) = self.taken(uid, run(is)) {
            let words = format!("run {} of pod {name} comes after {other}", run(is));
            return wrong(Kind::NumberShared, words);
        }
        let at = instant(&is["claimed"]);
        if adopted {
            let key = self.item(text(is, "item"));
            self.oracle.starts.extend(at.map(|at| (key, at)));
        } else {
            self.in_time(text(is, "item"), at, write)?;
            self.wanted(text(is, "item"))?;
            self.alone(write.request.replica, &name)?;
        }
        Ok(())
    }

    /// A number from this one on that another pod of the group has, which ran or runs. Those
    /// are taken also where the status that told of them was wiped.
    fn taken(&self, uid: &str, run: i64) -> Option<i64> {
        let group = self.group_uid();
        let others = self.labelled().map(PodView::from);
        let ours = others.filter(|pod| pod.uid != uid && pod.owner == group);
        let claimed = |pod: &PodView| self.truth.get(&pod.uid).is_some_and(|t| t.claimed);
        let known = ours.filter(claimed).filter_map(|pod| pod.run);
        known.filter(|other| *other >= run).max()
    }

    fn item(&self, item: &str) -> String {
        format!("{item} of {}", self.group_uid().unwrap_or_default())
    }

    /// A run takes a number: one that no other has or had.
    fn numbered(&mut self, run: i64, of: &str) -> Wrong {
        let group = self.group_uid().unwrap_or_default();
        let last = self.oracle.numbers.insert(group, run);
        match last.filter(|last| run <= *last) {
            Some(last) => {
                let words = format!("run {run} of {of} comes after {last}");
                wrong(Kind::NumberShared, words)
            }
            None => Ok(()),
        }
    }

    /// An item is started: not too soon after the time before, and not in the pause after a
    /// refused pod. By the clock of who starts it, since nobody else's is known to it.
    fn in_time(&mut self, item: &str, at: Option<i64>, write: &Write<'_>) -> Wrong {
        let Some(at) = at else {
            let words = format!("{item} was started at no time");
            return wrong(Kind::WrongTime, words);
        };
        let (_, latest) = write.request.clock;
        if at > latest {
            let words = format!("{item} was started at {at}, and its starter's clock was {latest}");
            return wrong(Kind::WrongTime, words);
        }
        let key = self.item(item);
        let before = self.oracle.starts.insert(key, at);
        let status = write.after["items"].get(item).unwrap_or(&Value::Null);
        let refused = write.new.first().is_some_and(|run| run["pod"].is_null());
        let failures = status["failures"].as_i64().unwrap_or(0) - i64::from(refused);
        let succeeded = failures == 0 && !status["lastSuccess"].is_null();
        let sooner = succeeded && self.frequency() < self.oracle.floor;
        let listed = write.before["items"].get(item).is_some();
        if let Some(before) = before
            && at < before + self.oracle.floor
            && listed
            && !sooner
        {
            let words = format!("{item} was started at {before} and again at {at}");
            return wrong(Kind::TooSoon, words);
        }
        match instant(&write.before["rejected"]["until"]) {
            Some(until) if at < until => {
                let words = format!("{item} was started at {at}, in a pause until {until}");
                wrong(Kind::TooSoon, words)
            }
            _ => Ok(()),
        }
    }

    /// How often each item is to succeed, in milliseconds.
    fn frequency(&self) -> i64 {
        let spec = self.group.as_ref().map(|group| &group.object.spec);
        let text = spec
            .and_then(|spec| spec.frequency.as_deref())
            .unwrap_or("60m");
        let (number, unit) = text.split_at(text.len().saturating_sub(1));
        let unit = if unit == "m" { 60_000 } else { 1_000 };
        number.parse::<i64>().unwrap_or(0) * unit
    }

    /// A claim while the user wants none: whoever wrote it has read this very spec.
    fn wanted(&self, item: &str) -> Wrong {
        let spec = self.group.as_ref().map(|group| &group.object.spec);
        let suspended = spec.is_some_and(|spec| {
            let options = spec.item_options.get(item);
            let suspended = spec.suspend || options.is_some_and(|options| options.suspend);
            suspended || !spec.blackout_windows.is_empty()
        });
        match suspended {
            true => wrong(
                Kind::Blocked,
                format!("{item} was claimed while it is suspended"),
            ),
            false => Ok(()),
        }
    }

    /// Items that a source had keep their history for a day, and are not run unless one has them.
    pub(super) fn kept(&mut self, write: &Write<'_>) -> Wrong {
        // One that was taken off the list, and comes back, starts afresh.
        let items = write.before["items"].as_object().into_iter().flatten();
        for (item, _) in items.filter(|(item, _)| write.after["items"].get(item.as_str()).is_none())
        {
            let key = self.item(item);
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
            let there = |status: &Value| status["items"].get(item.as_str()).is_some();
            there(write.before) && !there(write.after)
        }) {
            return wrong(Kind::Forgotten, format!("the history of {gone} is gone"));
        }
        let (was, is) = (&write.before["current"], &write.after["current"]);
        let claimed = text(is, "item");
        let started = !claimed.is_empty() && text(is, "podUid") != text(was, "podUid");
        let adopted = self
            .truth
            .get(text(is, "podUid"))
            .is_some_and(|truth| truth.opened);
        let spec = self
            .group
            .as_ref()
            .map(|group| &group.object.spec.oaat_items);
        let listed = spec.into_iter().flatten().any(|item| item == claimed)
            || lists(write.after).iter().any(|item| item == claimed);
        match started && !adopted && !listed {
            true => wrong(
                Kind::Blocked,
                format!("{claimed} was claimed, which no list has"),
            ),
            false => Ok(()),
        }
    }

    /// A claim beside a pod that blocks.
    fn alone(&self, replica: usize, name: &str) -> Wrong {
        let group = self.group_uid();
        let listed = self.oracle.lists.get(&replica).copied().unwrap_or(0);
        let blocks = self.labelled().find(|pod| {
            let view = PodView::from(*pod);
            let other = self.truth.get(&view.uid);
            let foreign = other.is_some_and(|other| other.group != group);
            let before = other.is_some_and(|other| other.created < listed);
            foreign && before && !view.terminal()
        });
        match blocks.and_then(|pod| pod.metadata.name.as_ref()) {
            Some(other) => {
                let words = format!("claimed pod {name} beside {other}");
                wrong(Kind::Blocked, words)
            }
            None => Ok(()),
        }
    }
}
