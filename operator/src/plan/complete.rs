//! Groups whose items are to succeed once each.

use super::{GroupSnapshot, Plan};
use oaat_api::text;
use oaat_api::{ItemState, ItemStatus, condition, set_condition};

/// The condition's type, the group's state, and the event.
const COMPLETE: &str = "Complete";

/// Says in the condition `Complete` how far the group is; whether it is.
pub(super) fn complete(snapshot: &GroupSnapshot, plan: &mut Plan) -> bool {
    let status = &mut plan.status;
    if !snapshot.group.spec.each_once {
        status.conditions.retain(|c| c.type_ != COMPLETE);
        return false;
    }
    let listed = |item: &&ItemStatus| item.missing_since.is_none();
    let all = status.items.values().filter(listed).count();
    let done = status.items.values().filter(listed);
    let done = done.filter(|item| item.last_success.is_some()).count();
    let unread = text::list(&snapshot.listing.unread, ", ", text::NAME);
    let complete = all > 0 && done == all && unread.is_empty();
    let was = condition(&status.conditions, COMPLETE).is_some_and(|c| c.status == "True");
    let (reason, message) = match complete {
        true => ("AllSucceeded", format!("all {all} items have succeeded")),
        false if !unread.is_empty() => (
            "InProgress",
            format!(
                "{done} of {all} items have succeeded, and the list of {unread} has not been read yet"
            ),
        ),
        false => (
            "InProgress",
            format!("{done} of {all} items have succeeded"),
        ),
    };
    let told = (COMPLETE, complete, reason, message.clone());
    set_condition(
        &mut status.conditions,
        snapshot.now,
        snapshot.group.metadata.generation,
        told,
    );
    if complete && !was {
        plan.event(false, COMPLETE, message, None);
    }
    complete
}

/// What people read of a group that is complete and at rest.
pub(super) fn show(plan: &mut Plan) {
    let status = &mut plan.status;
    status.state = Some(COMPLETE.into());
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
