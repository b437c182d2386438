//! Items that are requested to run now.

use super::cause::{Cause, expected_end, one_at_a_time, pause};
use super::rule::Rule;
use crate::views::duration::short;
use oaat_api::run_now;
use oaat_api::validate::{ItemRules, Recurrence, ValidatedGroup};
use oaat_api::{ItemState, ItemStatus, OaatGroup, OaatGroupStatus, Timestamp, windows};
use std::collections::HashMap;
use std::time::Duration;

/// The operator's default for the minimum time between two starts of an item.
const RETRY_FLOOR: Duration = Duration::from_secs(10);

/// Returns the items that are requested to run now, each with the number of requested items that may
/// start before it.
pub(super) fn ahead(
    group: &OaatGroup,
    status: &OaatGroupStatus,
    listed: &[String],
    valid: Option<&ValidatedGroup>,
) -> HashMap<String, usize> {
    let mut count = 0;
    let requested = run_now::unstarted(group, listed).into_iter().map(|name| {
        let before = count;
        let item = status.items.get(&name);
        let is_suspended = valid.is_some_and(|valid| valid.rules(&name).suspended);
        if item.is_some_and(|item| item.missing_since.is_none()) && !is_suspended {
            count += 1;
        }
        (name, before)
    });
    requested.collect()
}

/// Returns why the operator holds an item that is requested to run now. A request ignores the
/// frequency, the schedule, `failureCoolOff`, `maxFailures`, `eachOnce`, and the policy.
pub(super) fn requested_hold(
    status: &OaatGroupStatus,
    valid: &ValidatedGroup,
    name: &str,
    item: &ItemStatus,
    now: Timestamp,
) -> Option<Cause> {
    if let Some(pause) = pause(status, now) {
        return Some(pause);
    }
    // While another item runs, the state may be outdated. Only a hold because of the OaatType has no
    // end.
    let is_held = item.state == ItemState::Held;
    if is_held && item.next.map_or(status.current.is_none(), |end| now < end) {
        let because = item.message.as_deref().unwrap_or("the operator holds it");
        return Some(Cause::new(Rule::Hold, because).until(item.next));
    }
    if let Some(until) = retry_floor(valid.rules(name), item, now) {
        let because = "it started recently, and --retry-floor of the operator (10s by default) is \
                       the minimum time between two starts of an item";
        return Some(Cause::new(Rule::Hold, because).until(Some(until)));
    }
    let rejected = status.rejected.as_ref().filter(|r| r.quota);
    if rejected.is_some_and(|r| r.items.iter().any(|rejected| rejected == name)) {
        let because = "its pod did not fit into a ResourceQuota; the operator retries";
        return Some(Cause::new(Rule::Hold, because));
    }
    before_blackout(valid, item, now)
}

/// Returns until when the retry floor holds an item, if it does.
fn retry_floor(rules: &ItemRules, item: &ItemStatus, now: Timestamp) -> Option<Timestamp> {
    let succeeded = item.failures.unwrap_or(0) == 0 && item.last_success.is_some();
    let is_due_sooner = match rules.recurrence {
        Recurrence::Frequency(frequency) => frequency < RETRY_FLOOR,
        Recurrence::Once | Recurrence::Schedule(_) => false,
    };
    let until = item.last_started?.plus(RETRY_FLOOR);
    (now < until && !(succeeded && is_due_sooner)).then_some(until)
}

/// Explains an item that would not finish before a window with `startIfFits` opens.
fn before_blackout(valid: &ValidatedGroup, item: &ItemStatus, now: Timestamp) -> Option<Cause> {
    let opens = windows::next(valid.windows.iter().filter(|window| window.fits), now)?;
    let longest = u64::try_from(*item.durations.iter().max()?).ok()?;
    if now.plus(Duration::from_secs(longest)) <= opens {
        return None;
    }
    let because = format!(
        "it takes up to {}, and would not finish before a blackout opens at {}",
        short(Duration::from_secs(longest)),
        opens.seconds()
    );
    let ends = windows::blackout(&valid.windows, opens).filter(|blackout| !blackout.endless);
    Some(Cause::new(Rule::BlackoutWindows, because).until(ends.map(|blackout| blackout.until)))
}

/// Explains an item that is requested to run now, and that the operator does not hold.
pub(super) fn requested(status: &OaatGroupStatus, ahead: usize, now: Timestamp) -> Cause {
    if let Some(current) = &status.current {
        // Without other requested items, it starts when the run ends.
        let next = expected_end(status, now).filter(|_| ahead == 0);
        return Cause::new(Rule::OneAtATime, one_at_a_time(current, now)).until(next);
    }
    let because = match ahead {
        0 => "a user requested to run it now, and the operator starts it next",
        _ => "requested items start in the order of the request",
    };
    Cause::new(Rule::RunNow, because)
}
