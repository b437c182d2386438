//! What the operator itself keeps from being started, whatever the policy says.

use super::GroupSnapshot;
use crate::mutation::broken;
use oaat_api::validate::{ItemRules, ValidatedGroup};
use oaat_api::windows;
use oaat_api::{ItemStatus, RunRecord, RunResult, Timestamp};
use std::collections::HashMap;
use std::time::Duration;

/// Why the operator itself keeps an item from being started, whatever the policy says.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Hold {
    /// Its options say so.
    Suspended,
    /// It has succeeded, and once is enough.
    Done,
    /// It is not started twice within the retry floor, unless it succeeded and is due again
    /// sooner.
    Until(Timestamp),
    /// It would run into a blackout, which ends then.
    NoTime(Timestamp),
}

/// What of a group holds its items.
pub(super) struct Holds<'a> {
    snapshot: &'a GroupSnapshot,
    valid: &'a ValidatedGroup,
    /// The next window that wants items to fit, and when its blackout ends.
    window: Option<(Timestamp, Timestamp)>,
    /// The longest run of each item that the history has.
    longest: HashMap<String, Duration>,
}

impl<'a> Holds<'a> {
    pub(super) fn new(
        snapshot: &'a GroupSnapshot,
        valid: &'a ValidatedGroup,
        history: &[RunRecord],
    ) -> Self {
        let fits = valid.windows.iter().filter(|window| window.fits);
        let window = windows::next(fits, snapshot.now)
            .and_then(|opens| Some((opens, windows::blackout(&valid.windows, opens)?.until)));
        let mut longest = HashMap::new();
        if window.is_some() {
            // One that did not succeed says nothing about how long it takes.
            for run in history
                .iter()
                .filter(|run| run.result == RunResult::Succeeded)
            {
                let took = run.finished.since(run.started);
                let known = longest.entry(run.item.clone()).or_insert(took);
                *known = took.max(*known);
            }
        }
        Self {
            snapshot,
            valid,
            window,
            longest,
        }
    }

    /// Why an item is not to be started, if it is not.
    pub(super) fn of(&self, name: &str, item: &ItemStatus) -> Option<Hold> {
        let rules = self.valid.rules(name);
        let done = rules.frequency.is_none() && item.last_success.is_some();
        match done && !rules.suspended {
            true => Some(Hold::Done),
            false => self.of_requested(name, item),
        }
    }

    /// The same of one that somebody asked for: that it has succeeded is no reason then.
    pub(super) fn of_requested(&self, name: &str, item: &ItemStatus) -> Option<Hold> {
        let rules = self.valid.rules(name);
        if rules.suspended {
            return Some(Hold::Suspended);
        }
        let floor = held_until(self.snapshot, rules, item).map(Hold::Until);
        floor.or_else(|| self.no_time(name))
    }

    fn no_time(&self, name: &str) -> Option<Hold> {
        let (opens, ends) = self.window?;
        let takes = self.longest.get(name)?;
        (self.snapshot.now.plus(*takes) > opens).then_some(Hold::NoTime(ends))
    }
}

fn held_until(snapshot: &GroupSnapshot, rules: ItemRules, item: &ItemStatus) -> Option<Timestamp> {
    let floor = snapshot.retry_floor;
    let succeeded = item.failures.unwrap_or(0) == 0 && item.last_success.is_some();
    let soon = rules.frequency.is_some_and(|frequency| frequency < floor);
    if succeeded && soon || broken!(NoFloor) {
        return None;
    }
    item.last_started
        .map(|at| at.plus(floor))
        .filter(|until| snapshot.now < *until)
}
