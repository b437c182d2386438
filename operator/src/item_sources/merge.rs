//! Which items are in force, from the lists of the spec and of the sources. Pure.

use super::{SourceReading, SourceUpdate};
use crate::mutation::broken;
use crate::pod::names;
use oaat_api::text::{PROBLEM, clean, list};
use oaat_api::validate::{MAX_BYTES, MAX_ITEMS, SourceRules};
use oaat_api::{ItemSource, ItemState, ItemStatus, ItemsFrom, OaatGroupStatus, Timestamp};
use std::collections::HashSet;
use std::time::Duration;

/// How long the history of an item is kept that no source has any more.
pub const KEPT: Duration = Duration::from_secs(24 * 3600);

/// Longest wait before what failed is tried again.
const RETRY: Duration = Duration::from_secs(60);

/// The lists of the sources, and what there is to say about them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceLists {
    /// For the status.
    pub sources: Vec<ItemSource>,
    /// What a source had at the last look.
    pub before: HashSet<String>,
    /// The condition ItemsReady, where there are sources: whether it is true, its reason, and
    /// its words.
    pub ready: Option<(bool, &'static str, String)>,
    /// Names of the sources of which no list has been read yet.
    pub unread: Vec<String>,
    /// When to look again.
    pub requeue_at: Option<Timestamp>,
}

/// Tells one definition of a source from another.
pub fn definition(source: &ItemsFrom) -> String {
    let text = serde_json::to_string(source).unwrap_or_default();
    names::hash(&text, 16)
}

/// How long after a source was tried it is tried again.
pub fn retry(rules: SourceRules, failed: bool) -> Duration {
    match failed {
        true => rules.refresh.min(RETRY),
        false => rules.refresh,
    }
}

/// When a source is to be read anew.
pub fn due(
    known: Option<&ItemSource>,
    definition: &str,
    rules: SourceRules,
    now: Timestamp,
) -> Timestamp {
    let Some(known) = known.filter(|known| known.definition == definition) else {
        return now;
    };
    let wait = retry(rules, known.problem.is_some());
    match known.tried {
        // One from the future says that a clock was wrong.
        Some(tried) if tried <= now => tried.plus(wait),
        _ => now,
    }
}

/// What the status says of a source, after a look at it.
fn told(known: Option<&ItemSource>, reading: &SourceReading) -> ItemSource {
    let mut told = ItemSource {
        name: reading.name.clone(),
        source: reading.source.clone(),
        pod: reading.pod.clone(),
        ..known.cloned().unwrap_or_default()
    };
    if let Some(uid) = &reading.pod_uid {
        told.pod_uid = Some(uid.clone());
    }
    match &reading.news {
        SourceUpdate::Nothing | SourceUpdate::Busy(_) => return told,
        SourceUpdate::Followed(at, Ok(items)) => {
            (told.time, told.tried, told.problem) = (Some(*at), None, None);
            told.items.clone_from(items);
        }
        SourceUpdate::Followed(_, Err(problem)) => {
            (told.tried, told.problem) = (None, Some(clean(problem, PROBLEM)));
        }
        SourceUpdate::Read(at, Ok(items)) => {
            (told.time, told.tried, told.problem) = (Some(*at), Some(*at), None);
            told.items.clone_from(items);
        }
        SourceUpdate::Read(at, Err(problem)) => {
            (told.tried, told.problem) = (Some(*at), Some(clean(problem, PROBLEM)));
        }
    }
    told.definition.clone_from(&reading.definition);
    told
}

/// The items in force: those of the spec, and then those of the sources, in order, each once. What
/// there is no room for is left out, and its source says so.
pub fn merge(
    listed: &[String],
    before: &[ItemSource],
    readings: &[SourceReading],
) -> (Vec<String>, SourceLists) {
    let mut items = listed.to_vec();
    let mut known: HashSet<String> = items.iter().cloned().collect();
    let mut bytes: usize = items.iter().map(String::len).sum();
    // Those of the sources are in the status once more.
    let mut kept = 0;
    let mut sources = Vec::new();
    let mut said = Vec::new();
    let (mut failed, mut waits, mut crowded) = (false, false, false);
    for reading in readings {
        let known_source = before.iter().find(|s| s.name == reading.name);
        let mut source = told(known_source, reading);
        let all = source.items.len();
        source.items.retain(|name| {
            let new = !known.contains(name);
            let fits = kept + name.len() <= MAX_BYTES
                && (!new || (items.len() < MAX_ITEMS && bytes + name.len() <= MAX_BYTES));
            if fits {
                kept += name.len();
            }
            if fits && new {
                bytes += name.len();
                known.insert(name.clone());
                items.push(name.clone());
            }
            fits
        });
        let over = i32::try_from(all - source.items.len()).unwrap_or(i32::MAX);
        match reading.news {
            // Of what was left out before nothing is known but the number.
            SourceUpdate::Nothing | SourceUpdate::Busy(_) if over == 0 => {}
            _ => source.left_out = (over > 0).then_some(over),
        }
        if let Some(before) = known_source {
            unchanged(&mut source, before, reading);
        }
        failed |= source.problem.is_some();
        crowded |= source.left_out.is_some();
        waits |= source.time.is_none();
        said.push(sentence(&source, &reading.news));
        sources.push(source);
    }
    let ready = (!readings.is_empty()).then(|| {
        let reason = match (failed, crowded, waits) {
            (true, ..) => "SourceFailed",
            (false, true, _) => "TooManyItems",
            (false, false, true) => "Listing",
            (false, false, false) => "Listed",
        };
        (reason == "Listed", reason, list(said, "; ", PROBLEM))
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

/// Where nothing is new but a time, nothing is written. (A pod that was read is news.)
fn unchanged(source: &mut ItemSource, before: &ItemSource, reading: &SourceReading) {
    let same = source.items == before.items
        && source.problem == before.problem
        && source.left_out == before.left_out
        && source.definition == before.definition
        && source.time.is_some() == before.time.is_some();
    let written = reading.pod.is_some() || reading.news == SourceUpdate::Nothing;
    if same && !written {
        (source.time, source.tried) = (before.time, before.tried);
    }
}

/// What people read of a source.
fn sentence(source: &ItemSource, news: &SourceUpdate) -> String {
    let ItemSource {
        name, source: from, ..
    } = source;
    let mut items = match source.items.len() {
        1 => "1 item".to_owned(),
        count => format!("{count} items"),
    };
    if let Some(more) = source.left_out {
        items.push_str(&format!(
            " (and {more} for which there is no room: a group may have {MAX_ITEMS} items with {MAX_BYTES} \
             bytes together, so use several groups)"
        ));
    }
    // While all is well nobody needs to know.
    let busy = match news {
        SourceUpdate::Busy(words) if source.time.is_none() || source.problem.is_some() => {
            format!(" ({words})")
        }
        _ => String::new(),
    };
    match (&source.problem, source.time) {
        (None, None) => format!("{name}: {from} has not been read yet{busy}"),
        (None, Some(time)) => format!("{name}: {items} from {from}, read {}", time.seconds()),
        (Some(problem), None) => format!("{name}: {from}: {problem}{busy}; there is no list yet"),
        (Some(problem), Some(time)) => format!(
            "{name}: {from}: {problem}{busy}; the list of {} stays in force, with {items}",
            time.seconds()
        ),
    }
}

/// Brings the map of items into line with those in force. One that a source had, and has no more,
/// stays for a day, as far as there is room, so that its history is there when it comes back.
/// Gives when the next of those is to be forgotten.
pub fn put_in_force(
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
        now < since.plus(KEPT)
    });
    missing.retain(|(since, _)| now < since.plus(KEPT));
    // Those that went last are the likeliest to come back.
    missing.sort_by_key(|(since, _)| std::cmp::Reverse(*since));
    let (mut count, mut bytes) = (items.len(), items.iter().map(String::len).sum::<usize>());
    let mut next = None::<Timestamp>;
    for (since, name) in missing {
        (count, bytes) = (count + 1, bytes + name.len());
        if count > MAX_ITEMS || bytes > MAX_BYTES {
            status.items.remove(&name);
            continue;
        }
        let until = since.plus(KEPT);
        next = Some(next.map_or(until, |next| next.min(until)));
        if let Some(item) = status.items.get_mut(&name) {
            item.missing_since = Some(since);
            if item.state != ItemState::Running {
                held(item, since);
            }
        }
    }
    for name in items {
        let item = status.items.entry(name.clone()).or_default();
        if item.item != *name {
            item.item.clone_from(name);
        }
        if item.missing_since.take().is_some() && item.state == ItemState::Held {
            (item.state, item.message) = (ItemState::Ready, None);
        }
    }
    next
}

/// An item that is missing from its source is not run.
pub fn held(item: &mut ItemStatus, since: Timestamp) {
    item.state = ItemState::Held;
    item.next = None;
    item.message = Some(format!(
        "no source has it since {}; its history is kept for a day",
        since.seconds()
    ));
}

#[cfg(test)]
mod tests;
