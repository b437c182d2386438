//! A cause for which an item does not run now.

use super::rule::Rule;
use crate::views::duration::ago;
use oaat_api::text;
use oaat_api::{CurrentRun, OaatGroupStatus, Timestamp};
use std::time::Duration;

/// A rule, its explanation, and when it ends.
pub(super) struct Cause {
    pub rule: Rule,
    pub because: String,
    pub next: Option<Timestamp>,
}

impl Cause {
    pub fn new(rule: Rule, because: impl Into<String>) -> Self {
        Self {
            rule,
            because: because.into(),
            next: None,
        }
    }

    pub fn until(self, next: Option<Timestamp>) -> Self {
        Self { next, ..self }
    }
}

/// Returns the pause of a group whose latest pod was rejected. It delays all items.
pub(super) fn pause(status: &OaatGroupStatus, now: Timestamp) -> Option<Cause> {
    let rejected = status.rejected.as_ref().filter(|r| now < r.until)?;
    let because = format!(
        "the group creates no pod until {}: {}",
        rejected.until.seconds(),
        rejected.message
    );
    Some(Cause::new(Rule::GroupNotReady, because).until(Some(rejected.until)))
}

/// Says that another item runs.
pub(super) fn one_at_a_time(current: &CurrentRun, now: Timestamp) -> String {
    format!(
        "{} runs (run {}, started {}), and a group runs one item at a time",
        text::name(&current.item),
        current.run,
        ago(current.claimed, now)
    )
}

/// Returns when the run in progress ends if it takes as long as the longest of the item's last five
/// successful runs. `None` if it is unknown or has passed.
pub(super) fn expected_end(status: &OaatGroupStatus, now: Timestamp) -> Option<Timestamp> {
    let current = status.current.as_ref()?;
    let durations = &status.items.get(&current.item)?.durations;
    let longest = u64::try_from(*durations.iter().max()?).ok()?;
    let end = current.runnable_since().plus(Duration::from_secs(longest));
    (end > now).then_some(end)
}
