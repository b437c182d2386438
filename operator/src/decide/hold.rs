//! What the operator itself keeps from being started, whatever the policy says.

use super::Observed;
use crate::api::{ItemStatus, RunRecord, RunResult, Timestamp};
use crate::mutation::broken;
use crate::validate::{ItemRules, Valid};
use crate::windows;
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
    seen: &'a Observed,
    valid: &'a Valid,
    /// The next window that wants items to fit, and when its blackout ends.
    window: Option<(Timestamp, Timestamp)>,
    /// The longest run of each item that the history has.
    longest: HashMap<&'a str, Duration>,
}

impl<'a> Holds<'a> {
    pub(super) fn new(seen: &'a Observed, valid: &'a Valid, history: &'a [RunRecord]) -> Self {
        let fits = valid.windows.iter().filter(|window| window.fits);
        let window = windows::next(fits, seen.now)
            .and_then(|opens| Some((opens, windows::blackout(&valid.windows, opens)?.until)));
        let mut longest = HashMap::new();
        if window.is_some() {
            // One that did not succeed says nothing about how long it takes.
            for run in history
                .iter()
                .filter(|run| run.result == RunResult::Succeeded)
            {
                let took = run.finished.since(run.started);
                let known = longest.entry(run.item.as_str()).or_insert(took);
                *known = took.max(*known);
            }
        }
        Self {
            seen,
            valid,
            window,
            longest,
        }
    }

    pub(super) fn of(&self, name: &str, item: &ItemStatus) -> Option<Hold> {
        hold(self.seen, self.valid.rules(name), item).or_else(|| self.no_time(name))
    }

    pub(super) fn no_time(&self, name: &str) -> Option<Hold> {
        let (opens, ends) = self.window?;
        let takes = self.longest.get(name)?;
        (self.seen.now.plus(*takes) > opens).then_some(Hold::NoTime(ends))
    }
}

fn hold(seen: &Observed, rules: ItemRules, item: &ItemStatus) -> Option<Hold> {
    if rules.suspended {
        return Some(Hold::Suspended);
    }
    if rules.frequency.is_none() && item.last_success.is_some() {
        return Some(Hold::Done);
    }
    held_until(seen, rules, item).map(Hold::Until)
}

pub(super) fn held_until(
    seen: &Observed,
    rules: ItemRules,
    item: &ItemStatus,
) -> Option<Timestamp> {
    let floor = seen.retry_floor;
    let succeeded = item.failures.unwrap_or(0) == 0 && item.last_success.is_some();
    let soon = rules.frequency.is_some_and(|frequency| frequency < floor);
    if succeeded && soon || broken!(NoFloor) {
        return None;
    }
    item.last_started
        .map(|at| at.plus(floor))
        .filter(|until| seen.now < *until)
}
