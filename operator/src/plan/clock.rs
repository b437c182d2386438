//! Corrects times in a status that lie in the future.
//!
//! The clock of an operator or of a node was wrong when such a time was recorded, or the status was
//! restored to a cluster whose clocks are behind. Without a correction, an item whose last success
//! is in 2030 would not run before then.

use crate::mutation::broken;
use crate::snapshot::GroupSnapshot;
use oaat_api::text;
use oaat_api::{ItemStatus, OaatGroupStatus, Timestamp};
use std::time::Duration;

/// How far in the future a time must be before it is corrected. Clocks often differ by minutes, and
/// such times correct themselves soon.
const TOLERANCE: Duration = Duration::from_secs(3600);
/// The same for the end of a pause, which is in the future by up to 15 minutes, or by the retry floor
/// if that is longer.
const PAUSE_TOLERANCE: Duration = Duration::from_secs(24 * 3600);

/// Replaces times in the future with the current time. Returns a message if there were any.
///
/// The operator's own clock may be behind, which must not rewrite the history. The current time is
/// therefore never before the creation time of the group or of one of its pods.
pub(super) fn correct_future_times(
    snapshot: &GroupSnapshot,
    status: &mut OaatGroupStatus,
) -> Option<String> {
    if broken!(NoFutureTimeCorrection) {
        return None;
    }
    let created = snapshot.group.metadata.creation_timestamp.as_ref();
    let created = created.map(|time| Timestamp(time.0.as_millisecond()));
    let creation_times = snapshot.pods.iter().map(|pod| pod.created).chain(created);
    let now = creation_times.fold(snapshot.now, Timestamp::max);
    let is_in_the_future = |time: &Timestamp| *time > now.plus(TOLERANCE);
    let mut items = Vec::new();
    for (name, item) in &mut status.items {
        if item_times(item).any(|time| is_in_the_future(time)) {
            items.push(name.clone());
        }
    }
    let latest = status_times(status)
        .map(|time| *time)
        .filter(is_in_the_future)
        .max();
    if latest.is_some() {
        // All of them, so that their order stays the same.
        for time in status_times(status) {
            *time = now.min(*time);
        }
    }
    let pause = status.rejected.as_mut().map(|rejected| &mut rejected.until);
    let longest_pause = PAUSE_TOLERANCE.max(snapshot.retry_floor);
    let pause = pause.filter(|until| **until > now.plus(longest_pause));
    let latest = latest.max(pause.map(|until| std::mem::replace(until, now)))?;
    let affected_items = match items[..] {
        [] => String::new(),
        _ => format!(" (items {})", text::list(items, ", ", text::NAME)),
    };
    Some(format!(
        "replaced times in the future, the latest {latest}{affected_items}, with the current time, \
         because a clock was wrong; synchronize the clocks of the nodes"
    ))
}

fn item_times(item: &mut ItemStatus) -> impl Iterator<Item = &mut Timestamp> {
    let times = [
        &mut item.last_success,
        &mut item.last_failure,
        &mut item.last_started,
        &mut item.last_finished,
    ];
    let marked = item.marked.as_mut().map(|mark| &mut mark.time);
    times.into_iter().flatten().chain(marked)
}

/// Returns the times in a status at which something happened.
fn status_times(status: &mut OaatGroupStatus) -> impl Iterator<Item = &mut Timestamp> {
    let current = status.current.iter_mut();
    let current = current.flat_map(|current| {
        let gates = current.other_gates.as_mut();
        [
            Some(&mut current.claimed),
            gates.and_then(|gates| gates.removed.as_mut()),
        ]
    });
    let others = [
        status.last_run.as_mut(),
        status.last_decision.as_mut().map(|last| &mut last.time),
        status.run_now.as_mut().and_then(|last| last.time.as_mut()),
    ];
    let runs = status.history.iter_mut();
    let runs = runs.flat_map(|run| [&mut run.started, &mut run.finished]);
    let items = status.items.values_mut().flat_map(item_times);
    let others = others.into_iter().chain(current).flatten();
    others.chain(runs).chain(items)
}
