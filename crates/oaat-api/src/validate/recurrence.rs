//! When items must succeed: once, at a frequency, or by a schedule.

use crate::field_error::{FieldError, FieldProblem};
use crate::{CronSchedule, Schedule};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// When an item must succeed.
#[derive(Clone, Debug, PartialEq)]
pub enum Recurrence {
    /// Once.
    Once,
    /// This often.
    Frequency(Duration),
    /// After each time of a schedule.
    Schedule(Arc<CronSchedule>),
}

/// The error if options contain a frequency and a schedule.
pub(super) const FREQUENCY_AND_SCHEDULE: &str =
    "cannot be combined with frequency; remove one of them";
/// The maximum number of different schedules of a group. They are parsed for every reconcile.
const MAX_SCHEDULES: usize = 100;

/// The parsed schedules of a group. Items with the same schedule share it.
#[derive(Default)]
pub(super) struct Schedules(
    BTreeMap<(String, Option<String>), Result<Arc<CronSchedule>, FieldError>>,
);

impl Schedules {
    /// Parses the schedule in a field.
    pub(super) fn recurrence(
        &mut self,
        field: &str,
        schedule: &Schedule,
    ) -> Result<Recurrence, FieldError> {
        let key = (schedule.cron.clone(), schedule.time_zone.clone());
        if self.0.len() >= MAX_SCHEDULES && !self.0.contains_key(&key) {
            let size = format!("one of more than {MAX_SCHEDULES} different schedules of the group");
            let most = format!("{MAX_SCHEDULES}; use several groups");
            let problem = FieldProblem::TooLong { size, most };
            return Err(FieldError::new(field, problem));
        }
        // Invalid schedules count as well, because finding that out takes as long.
        let parsed = self.0.entry(key).or_insert_with(|| {
            let zone = schedule.time_zone.as_deref();
            CronSchedule::parse("cron", &schedule.cron, zone).map(Arc::new)
        });
        let parsed = parsed.clone().map_err(|error| error.below(field))?;
        Ok(Recurrence::Schedule(parsed))
    }
}
