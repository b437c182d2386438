//! Merges the lists of the spec and of the sources into the items in effect. Does not access the
//! cluster.

use super::SourceReading;
use crate::mutation::broken;
use crate::pod::names;
use crate::snapshot::{SourceLists, SourceUpdate};
use oaat_api::reasons::items_ready;
use oaat_api::text::{PROBLEM, clean, list};
use oaat_api::validate::{MAX_BYTES, MAX_ITEMS, SourceRules};
use oaat_api::{ItemSource, ItemState, ItemStatus, ItemsFrom, OaatGroupStatus, Timestamp};
use std::collections::HashSet;
use std::time::Duration;

/// How long the history of an item is kept after its source no longer lists it.
pub const HISTORY_RETENTION: Duration = Duration::from_secs(24 * 3600);

/// The maximum delay before a failed source is read again.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(60);

/// Returns the hash of a source's definition.
pub fn definition(source: &ItemsFrom) -> String {
    let text = serde_json::to_string(source).unwrap_or_default();
    names::hash(&text, 16)
}

/// Returns the delay between two reads of a source. `failed` is true if the last read failed.
pub fn read_interval(rules: SourceRules, failed: bool) -> Duration {
    if failed {
        rules.refresh.min(MAX_RETRY_DELAY)
    } else {
        rules.refresh
    }
}

/// Returns when a source must be read next.
pub fn due(
    known: Option<&ItemSource>,
    definition: &str,
    rules: SourceRules,
    now: Timestamp,
) -> Timestamp {
    let Some(known) = known.filter(|known| known.definition == definition) else {
        return now;
    };
    let interval = read_interval(rules, known.problem.is_some());
    match known.tried {
        // A time in the future means that a clock was wrong.
        Some(tried) if tried <= now => tried.plus(interval),
        _ => now,
    }
}

/// Returns the status entry of a source after this reconcile.
fn source_status(known: Option<&ItemSource>, reading: &SourceReading) -> ItemSource {
    let mut entry = ItemSource {
        name: reading.name.clone(),
        source: reading.source.clone(),
        pod: reading.pod.clone(),
        ..known.cloned().unwrap_or_default()
    };
    if let Some(uid) = &reading.pod_uid {
        entry.pod_uid = Some(uid.clone());
    }
    match &reading.update {
        SourceUpdate::Nothing | SourceUpdate::Pending(_) => return entry,
        SourceUpdate::Watched(at, Ok(items)) => {
            (entry.time, entry.tried, entry.problem) = (Some(*at), None, None);
            entry.items.clone_from(items);
        }
        SourceUpdate::Watched(_, Err(problem)) => {
            (entry.tried, entry.problem) = (None, Some(clean(problem, PROBLEM)));
        }
        SourceUpdate::Read(at, Ok(items)) => {
            (entry.time, entry.tried, entry.problem) = (Some(*at), Some(*at), None);
            entry.items.clone_from(items);
        }
        SourceUpdate::Read(at, Err(problem)) => {
            (entry.tried, entry.problem) = (Some(*at), Some(clean(problem, PROBLEM)));
        }
    }
    entry.definition.clone_from(&reading.definition);
    entry
}

/// Returns the items in effect: those of the spec, then those of the sources, in order and without
/// duplicates. Items that exceed the limits of a group are left out, and their source reports it.
pub fn merge(
    listed: &[String],
    before: &[ItemSource],
    readings: &[SourceReading],
) -> (Vec<String>, SourceLists) {
    let mut items = listed.to_vec();
    let mut known: HashSet<String> = items.iter().cloned().collect();
    let mut bytes: usize = items.iter().map(String::len).sum();
    // The status also contains the lists of the sources, so their size is limited separately.
    let mut source_bytes = 0;
    let mut sources = Vec::new();
    let mut messages = Vec::new();
    let (mut failed, mut unread, mut truncated) = (false, false, false);
    for reading in readings {
        let known_source = before.iter().find(|s| s.name == reading.name);
        let mut source = source_status(known_source, reading);
        let total = source.items.len();
        source.items.retain(|name| {
            let new = !known.contains(name);
            let fits = source_bytes + name.len() <= MAX_BYTES
                && (!new || (items.len() < MAX_ITEMS && bytes + name.len() <= MAX_BYTES));
            if fits {
                source_bytes += name.len();
            }
            if fits && new {
                bytes += name.len();
                known.insert(name.clone());
                items.push(name.clone());
            }
            fits
        });
        let left_out = i32::try_from(total - source.items.len()).unwrap_or(i32::MAX);
        match reading.update {
            // The status has only the number of the items that were left out before.
            SourceUpdate::Nothing | SourceUpdate::Pending(_) if left_out == 0 => {}
            _ => source.left_out = (left_out > 0).then_some(left_out),
        }
        if let Some(before) = known_source {
            keep_times_if_unchanged(&mut source, before, reading);
        }
        failed |= source.problem.is_some();
        truncated |= source.left_out.is_some();
        unread |= source.time.is_none();
        messages.push(message(&source, &reading.update));
        sources.push(source);
    }
    let ready = (!readings.is_empty()).then(|| {
        let reason = match (failed, truncated, unread) {
            (true, ..) => items_ready::SOURCE_FAILED,
            (false, true, _) => items_ready::TOO_MANY_ITEMS,
            (false, false, true) => items_ready::LISTING,
            (false, false, false) => items_ready::LISTED,
        };
        (
            reason == items_ready::LISTED,
            reason,
            list(messages, "; ", PROBLEM),
        )
    });
    let unread = sources.iter().filter(|source| source.time.is_none());
    let listing = SourceLists {
        unread: unread.map(|source| source.name.clone()).collect(),
        sources,
        before: before
            .iter()
            .flat_map(|s| s.items.iter().cloned())
            .collect(),
        ready,
        requeue_at: readings
            .iter()
            .filter_map(|reading| reading.requeue_at)
            .min(),
    };
    (items, listing)
}

/// Restores the old times if nothing else has changed, so that the status is not written. The new
/// times stay if a pod was read, because the uid of that pod is written anyway.
fn keep_times_if_unchanged(source: &mut ItemSource, before: &ItemSource, reading: &SourceReading) {
    let unchanged = source.items == before.items
        && source.problem == before.problem
        && source.left_out == before.left_out
        && source.definition == before.definition
        && source.time.is_some() == before.time.is_some();
    let needs_times = reading.pod.is_some() || reading.update == SourceUpdate::Nothing;
    if unchanged && !needs_times {
        (source.time, source.tried) = (before.time, before.tried);
    }
}

/// Returns the part of the condition's message that is about one source.
fn message(source: &ItemSource, update: &SourceUpdate) -> String {
    let ItemSource {
        name, source: from, ..
    } = source;
    let mut items = match source.items.len() {
        1 => "1 item".to_owned(),
        count => format!("{count} items"),
    };
    if let Some(more) = source.left_out {
        items.push_str(&format!(
            " ({more} left out, because a group may have at most {MAX_ITEMS} items and {MAX_BYTES} bytes \
             of names; use several groups)"
        ));
    }
    // The current step is reported only if there is no good list.
    let step = match update {
        SourceUpdate::Pending(step) if source.time.is_none() || source.problem.is_some() => {
            format!(" ({step})")
        }
        _ => String::new(),
    };
    match (&source.problem, source.time) {
        (None, None) => format!("{name}: {from} has not been read yet{step}"),
        (None, Some(time)) => format!("{name}: {items} from {from}, read {}", time.seconds()),
        (Some(problem), None) => {
            format!("{name}: {from}: {problem}{step}; no list has been read yet")
        }
        (Some(problem), Some(time)) => format!(
            "{name}: {from}: {problem}{step}; the list from {}, with {items}, stays in effect",
            time.seconds()
        ),
    }
}

/// Updates `status.items` to the items in effect. An item that its source no longer lists stays for
/// `HISTORY_RETENTION` if there is room, so that its history is restored if it is listed again.
/// Returns when the next of these items must be removed.
pub fn update_items(
    status: &mut OaatGroupStatus,
    items: &[String],
    before: &HashSet<String>,
    now: Timestamp,
) -> Option<Timestamp> {
    let listed: HashSet<&String> = items.iter().collect();
    let mut missing = Vec::new();
    status.items.retain(|name, item| {
        if listed.contains(name) {
            return true;
        }
        let from_source = item.missing_since.is_some() || before.contains(name);
        if !from_source || broken!(MissingForgotten) {
            return false;
        }
        let since = item.missing_since.unwrap_or(now).min(now);
        missing.push((since, name.clone()));
        now < since.plus(HISTORY_RETENTION)
    });
    missing.retain(|(since, _)| now < since.plus(HISTORY_RETENTION));
    // The items that went missing last are the most likely to be listed again.
    missing.sort_by_key(|(since, _)| std::cmp::Reverse(*since));
    let (mut count, mut bytes) = (items.len(), items.iter().map(String::len).sum::<usize>());
    let mut next = None::<Timestamp>;
    for (since, name) in missing {
        (count, bytes) = (count + 1, bytes + name.len());
        if count > MAX_ITEMS || bytes > MAX_BYTES {
            status.items.remove(&name);
            continue;
        }
        let until = since.plus(HISTORY_RETENTION);
        next = Some(next.map_or(until, |next| next.min(until)));
        if let Some(item) = status.items.get_mut(&name) {
            item.missing_since = Some(since);
            if item.state != ItemState::Running {
                hold_missing(item, since);
            }
        }
    }
    for name in items {
        let item = status.items.entry(name.clone()).or_default();
        let shown = if is_reformatted(name) { name } else { "" };
        if item.item != shown {
            item.item = shown.to_owned();
        }
        if item.missing_since.take().is_some() && item.state == ItemState::Held {
            (item.state, item.message) = (ItemState::Ready, None);
        }
    }
    next
}

/// Returns whether `kubectl describe` reformats this key, for example `mysql-users` to
/// `Mysql - Users`.
fn is_reformatted(key: &str) -> bool {
    key.chars().all(|c| c.is_alphabetic() || c == '-')
}

/// Holds an item that its source no longer lists.
pub fn hold_missing(item: &mut ItemStatus, since: Timestamp) {
    item.state = ItemState::Held;
    item.next = None;
    item.message = Some(format!(
        "missing from all sources since {}; its history is kept for one day",
        since.seconds()
    ));
}

#[cfg(test)]
mod tests;
