//! The state of an item now.

use oaat_api::{ItemState, ItemStatus, Timestamp};

/// Returns the state of an item at this time.
///
/// The status has the state of the latest decision. Until the next one, `next` may pass, for example
/// because another item runs or the policy makes no decision.
pub(super) fn state_at(item: &ItemStatus, now: Timestamp) -> ItemState {
    let has_ended = item.next.is_some_and(|next| next <= now);
    match item.state {
        ItemState::Fresh | ItemState::Cooling | ItemState::Deferred | ItemState::Held
            if has_ended =>
        {
            ItemState::Ready
        }
        state => state,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn item_is_ready_once_the_time_of_its_state_has_passed() {
        use ItemState::{Cooling, Deferred, Fresh, GivenUp, Held, Ready, Running};
        let state = |state, next| {
            let item = ItemStatus {
                state,
                next,
                ..ItemStatus::default()
            };
            state_at(&item, Timestamp(1000))
        };
        for until_next in [Fresh, Cooling, Deferred, Held] {
            for (next, expected) in [
                (None, until_next),
                (Some(Timestamp(1001)), until_next),
                (Some(Timestamp(1000)), Ready),
            ] {
                assert_eq!(state(until_next, next), expected, "{until_next} {next:?}");
            }
        }
        for other in [Ready, Running, GivenUp] {
            assert_eq!(state(other, Some(Timestamp(0))), other);
        }
    }
}
