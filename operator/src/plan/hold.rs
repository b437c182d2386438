//! The operator's reasons not to start an item, regardless of the policy's decision.

use super::give_up::has_given_up;
use crate::mutation::broken;
use crate::run_history;
use crate::snapshot::{GroupSnapshot, TypeRead};
use oaat_api::validate::{ItemRules, Recurrence, ValidatedGroup};
use oaat_api::windows;
use oaat_api::{ItemStatus, RunRecord, RunResult, Timestamp};
use std::collections::HashMap;
use std::time::Duration;

/// Why the operator does not start an item, whatever the policy decides.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum HoldReason {
    /// The item is suspended by its options.
    Suspended,
    /// The item's OaatType cannot be used.
    TypeNotReady,
    /// The item failed `maxFailures` times in a row.
    GivenUp,
    /// With `eachOnce`, the item has succeeded.
    Succeeded,
    /// The item started less than the retry floor ago. Contains the end of the retry floor. Does
    /// not apply if the item succeeded and its frequency is shorter than the floor.
    RetryFloor(Timestamp),
    /// The pod of the item did not fit into a quota. Contains the end of the hold.
    Quota(Timestamp),
    /// The item would not finish before the next blackout. Contains the end of that blackout.
    Blackout(Timestamp),
}

/// The shortest time between two times of a schedule.
const SHORTEST_SCHEDULE: Duration = Duration::from_secs(60);

/// Determines which items of a group are held.
pub(super) struct Holds<'a> {
    snapshot: &'a GroupSnapshot,
    valid: &'a ValidatedGroup,
    /// The next opening of a window with `startIfFits`.
    blackout: Option<NextBlackout>,
    /// The longest successful run of each item in the group's history. Used for items whose
    /// durations an earlier release of the operator did not record.
    recorded: HashMap<String, Duration>,
}

/// A blackout before which runs must finish.
struct NextBlackout {
    /// When the window opens.
    opens: Timestamp,
    /// When the blackout that includes the window ends.
    ends: Timestamp,
}

impl<'a> Holds<'a> {
    pub(super) fn new(
        snapshot: &'a GroupSnapshot,
        valid: &'a ValidatedGroup,
        history: &[RunRecord],
    ) -> Self {
        let start_if_fits = valid.windows.iter().filter(|window| window.fits);
        let blackout = windows::next(start_if_fits, snapshot.now).and_then(|opens| {
            let ends = windows::blackout(&valid.windows, opens)?.until;
            Some(NextBlackout { opens, ends })
        });
        let mut recorded = HashMap::new();
        if blackout.is_some() {
            // A run that failed or was stopped does not show how long the item takes.
            for run in history
                .iter()
                .filter(|run| run.result == RunResult::Succeeded)
            {
                let took = run.finished.since(run.started);
                let known = recorded.entry(run.item.clone()).or_insert(took);
                *known = took.max(*known);
            }
        }
        Self {
            snapshot,
            valid,
            blackout,
            recorded,
        }
    }

    /// Returns why an item is held, if it is.
    pub(super) fn of(&self, name: &str, item: &ItemStatus) -> Option<HoldReason> {
        let rules = self.valid.rules(name);
        let succeeded = rules.recurrence == Recurrence::Once && item.last_success.is_some();
        if succeeded && !rules.suspended {
            Some(HoldReason::Succeeded)
        } else if has_given_up(rules, item) && !rules.suspended {
            Some(HoldReason::GivenUp)
        } else {
            self.of_requested(name, item)
        }
    }

    /// Returns why an item that the user requested is held, if it is. A success does not hold it, nor
    /// do too many failures.
    pub(super) fn of_requested(&self, name: &str, item: &ItemStatus) -> Option<HoldReason> {
        let rules = self.valid.rules(name);
        if rules.suspended {
            return Some(HoldReason::Suspended);
        }
        if !matches!(self.snapshot.type_of(name).1, TypeRead::Valid(_)) {
            return Some(HoldReason::TypeNotReady);
        }
        let floor = retry_floor(self.snapshot, rules, item).map(HoldReason::RetryFloor);
        let quota = || self.quota(name).map(HoldReason::Quota);
        floor
            .or_else(quota)
            .or_else(|| self.before_blackout(name, item))
    }

    /// Returns until when an item is held whose pod did not fit into a quota.
    fn quota(&self, name: &str) -> Option<Timestamp> {
        let status = self.snapshot.group.status.as_ref()?;
        let rejected = status.rejected.as_ref().filter(|r| r.quota)?;
        if !rejected.items.iter().any(|item| item == name) {
            return None;
        }
        let until = rejected
            .until
            .plus(run_history::pause(rejected.count, Duration::ZERO));
        (self.snapshot.now < until).then_some(until)
    }

    fn before_blackout(&self, name: &str, item: &ItemStatus) -> Option<HoldReason> {
        let blackout = self.blackout.as_ref()?;
        let recorded = || self.recorded.get(name).copied();
        let takes = run_history::longest_success(item).or_else(recorded)?;
        let finishes = self.snapshot.now.plus(takes);
        (finishes > blackout.opens).then_some(HoldReason::Blackout(blackout.ends))
    }
}

/// Returns until when the retry floor holds an item, if it does.
fn retry_floor(
    snapshot: &GroupSnapshot,
    rules: &ItemRules,
    item: &ItemStatus,
) -> Option<Timestamp> {
    let floor = snapshot.retry_floor;
    let succeeded = item.failures.unwrap_or(0) == 0 && item.last_success.is_some();
    let due_sooner = match rules.recurrence {
        Recurrence::Once => false,
        Recurrence::Frequency(frequency) => frequency < floor,
        Recurrence::Schedule(_) => SHORTEST_SCHEDULE < floor,
    };
    if succeeded && due_sooner || broken!(NoFloor) {
        return None;
    }
    item.last_started
        .map(|at| at.plus(floor))
        .filter(|until| snapshot.now < *until)
}
