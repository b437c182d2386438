//! Groups with `eachOnce`: the conditions `Complete` and `Failed`, and the state of a complete group.

use super::Plan;
use super::conditions::{NotReady, set_group_condition};
use super::give_up::has_given_up;
use crate::snapshot::GroupSnapshot;
use oaat_api::reasons::{complete, events, failed, ready, states};
use oaat_api::text;
use oaat_api::validate::ValidatedGroup;
use oaat_api::{ItemState, ItemStatus, condition};

/// Sets the conditions `Complete` and `Failed`. Returns whether all items have succeeded, and why no
/// item can start if nothing is left to try. `requested` is true if an item is requested to run now.
pub(super) fn update_conditions(
    snapshot: &GroupSnapshot,
    valid: Option<&ValidatedGroup>,
    requested: bool,
    plan: &mut Plan,
) -> (bool, Option<NotReady>) {
    let status = &mut plan.status;
    if !snapshot.group.spec.each_once {
        let conditions = [complete::TYPE, failed::TYPE];
        status
            .conditions
            .retain(|c| !conditions.contains(&c.type_.as_str()));
        return (false, None);
    }
    let listed = |(_, item): &(&String, &ItemStatus)| item.missing_since.is_none();
    let (mut total, mut succeeded, mut given_up) = (0, 0, 0);
    for (name, item) in status.items.iter().filter(listed) {
        total += 1;
        if item.last_success.is_some() {
            succeeded += 1;
        } else if valid.is_some_and(|valid| has_given_up(valid.rules(name), item)) {
            given_up += 1;
        }
    }
    let unread = text::list(&snapshot.listing.unread, ", ", text::NAME);
    let all_known = total > 0 && unread.is_empty();
    let is_complete = all_known && succeeded == total;
    let was_complete =
        condition(&status.conditions, complete::TYPE).is_some_and(|c| c.status == "True");
    let (reason, message) = if is_complete {
        (
            complete::ALL_SUCCEEDED,
            format!("all {total} items have succeeded"),
        )
    } else if !unread.is_empty() {
        (
            complete::IN_PROGRESS,
            format!("{succeeded} of {total} items have succeeded; sources not read yet: {unread}"),
        )
    } else {
        (
            complete::IN_PROGRESS,
            format!("{succeeded} of {total} items have succeeded"),
        )
    };
    let new = (complete::TYPE, is_complete, reason, message.clone());
    set_group_condition(snapshot, status, new);
    let nothing_left = all_known && given_up > 0 && succeeded + given_up == total;
    let is_failed = nothing_left && status.current.is_none() && !requested;
    let (reason, failure) = if is_failed {
        (
            failed::ITEMS_GIVEN_UP,
            format!(
                "{succeeded} of {total} items have succeeded, and {given_up} gave up after \
                 maxFailures consecutive failures; fix the cause, and then run them with \
                 kubectl oaat run or the annotation oaat.kawaja.net/run-now"
            ),
        )
    } else if is_complete {
        (failed::NOT_FAILED, message.clone())
    } else {
        (failed::NOT_FAILED, "items are left to try".to_owned())
    };
    let new = (failed::TYPE, is_failed, reason, failure.clone());
    set_group_condition(snapshot, status, new);
    if is_complete && !was_complete {
        plan.event(false, events::COMPLETE, message, None);
    }
    let failed = is_failed.then(|| NotReady::new(states::FAILED, ready::ITEMS_GIVEN_UP, failure));
    (is_complete, failed)
}

/// Sets the state and the message of a complete group in which no item runs.
pub(super) fn set_complete_status(snapshot: &GroupSnapshot, plan: &mut Plan) {
    let status = &mut plan.status;
    status.state = Some(states::COMPLETE.into());
    status.next = None;
    let listed = status.items.values_mut();
    let listed: Vec<_> = listed.filter(|item| item.missing_since.is_none()).collect();
    let message = format!("all {} items have succeeded", listed.len());
    for item in listed {
        item.state = ItemState::Fresh;
        item.message = Some("succeeded".into());
        item.next = None;
    }
    status.message = Some(message.clone());
    let new = (ready::TYPE, true, ready::COMPLETE, message);
    set_group_condition(snapshot, status, new);
}
