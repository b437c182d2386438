//! When scheduled items are due.

use oaat_api::validate::Recurrence;
use oaat_api::{CronSchedule, ItemStatus, Timestamp};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// The last time of a schedule up to the current time, and the next one.
type Times = (Option<Timestamp>, Option<Timestamp>);

/// Determines when items are due. Searches each schedule only once, because many items may share it.
pub(crate) struct ScheduleTimes {
    now: Timestamp,
    /// By the address of the schedule, which the items share.
    known: HashMap<*const CronSchedule, Times>,
    /// Pairs of consecutive times of each schedule, by its address.
    intervals: HashMap<*const CronSchedule, Vec<(Timestamp, Timestamp)>>,
}

impl ScheduleTimes {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            now,
            known: HashMap::new(),
            intervals: HashMap::new(),
        }
    }

    /// Returns the frequency of an item for the policy; `None` if it must succeed only once. For a
    /// scheduled item, it is the frequency that makes the item due at the next time of its schedule
    /// after its last success, because policies support only frequencies.
    pub(super) fn frequency(
        &mut self,
        recurrence: &Recurrence,
        item: &ItemStatus,
    ) -> Option<Duration> {
        let schedule = match recurrence {
            Recurrence::Once => return None,
            Recurrence::Frequency(frequency) => return Some(*frequency),
            Recurrence::Schedule(schedule) => schedule,
        };
        let (last, next) = self.times(schedule);
        let since = item.last_success.or(last).unwrap_or(self.now);
        let due = last.filter(|last| *last > since).or(next);
        // A rare schedule may have no time within decades.
        let due = due.unwrap_or(Timestamp(i64::MAX));
        Some(due.since(since).max(Duration::from_millis(1)))
    }

    /// Returns whether an item that succeeded at this time is due again.
    pub(super) fn is_due_again(&mut self, recurrence: &Recurrence, success: Timestamp) -> bool {
        match recurrence {
            Recurrence::Once => false,
            Recurrence::Frequency(frequency) => success.plus(*frequency) <= self.now,
            Recurrence::Schedule(schedule) => {
                let (last, _) = self.times(schedule);
                last.is_some_and(|last| last > success)
            }
        }
    }

    /// Returns when an item that last succeeded at `since` is due. If `never`, it
    /// has not succeeded yet, and `since` is when its group was created.
    pub(crate) fn due(
        &mut self,
        recurrence: &Recurrence,
        since: Timestamp,
        never: bool,
    ) -> Option<Timestamp> {
        match recurrence {
            _ if never => Some(since),
            Recurrence::Once => None,
            Recurrence::Frequency(frequency) => Some(since.plus(*frequency)),
            Recurrence::Schedule(schedule) => match self.times(schedule) {
                (Some(last), _) if last > since => self.next_after(schedule, since),
                (_, next) => next,
            },
        }
    }

    /// Returns the first time of a schedule after `since`. Late items often succeeded between the same
    /// two times.
    fn next_after(&mut self, schedule: &Arc<CronSchedule>, since: Timestamp) -> Option<Timestamp> {
        let intervals = self.intervals.entry(Arc::as_ptr(schedule)).or_default();
        let mut known = intervals.iter();
        if let Some((_, next)) = known.find(|(start, next)| *start <= since && since < *next) {
            return Some(*next);
        }
        let next = schedule.next_match_after(since)?;
        let start = schedule.last_match_until(since).unwrap_or(since);
        intervals.push((start, next));
        Some(next)
    }

    fn times(&mut self, schedule: &Arc<CronSchedule>) -> Times {
        let now = self.now;
        *self.known.entry(Arc::as_ptr(schedule)).or_insert_with(|| {
            (
                schedule.last_match_until(now),
                schedule.next_match_after(now),
            )
        })
    }
}
