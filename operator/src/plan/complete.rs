//! Groups with `eachOnce`: the condition `Complete` and the state of a complete group.

use super::Plan;
use super::conditions::set_group_condition;
use crate::snapshot::GroupSnapshot;
use oaat_api::reasons::{complete, events, states};
use oaat_api::text;
use oaat_api::{ItemState, ItemStatus, condition};

/// Sets the condition `Complete`. Returns whether all items have succeeded.
pub(super) fn update_condition(snapshot: &GroupSnapshot, plan: &mut Plan) -> bool {
    let status = &mut plan.status;
    if !snapshot.group.spec.each_once {
        status.conditions.retain(|c| c.type_ != complete::TYPE);
        return false;
    }
    let listed = |item: &&ItemStatus| item.missing_since.is_none();
    let total = status.items.values().filter(listed).count();
    let succeeded = status.items.values().filter(listed);
    let succeeded = succeeded.filter(|item| item.last_success.is_some()).count();
    let unread = text::list(&snapshot.listing.unread, ", ", text::NAME);
    let is_complete = total > 0 && succeeded == total && unread.is_empty();
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
    let condition = (complete::TYPE, is_complete, reason, message.clone());
    set_group_condition(snapshot, status, condition);
    if is_complete && !was_complete {
        plan.event(false, events::COMPLETE, message, None);
    }
    is_complete
}

/// Sets the state and the message of a complete group in which no item runs.
pub(super) fn set_complete_status(plan: &mut Plan) {
    let status = &mut plan.status;
    status.state = Some(states::COMPLETE.into());
    status.next = None;
    let listed = status.items.values_mut();
    let listed: Vec<_> = listed.filter(|item| item.missing_since.is_none()).collect();
    status.message = Some(format!("all {} items have succeeded", listed.len()));
    for item in listed {
        item.state = ItemState::Fresh;
        item.message = Some("succeeded".into());
        item.next = None;
    }
}
