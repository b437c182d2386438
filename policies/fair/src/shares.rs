//! The books: how far each item is ahead of its share.
//!
//! A run costs its item the time that it took, divided by the item's weight. What
//! matters is not the sum but the difference: the item that is due and has had the
//! least is the level that all are measured from, and "ahead" is what another has had
//! beyond it. An item below the level is on it: who did not want to run for a day has
//! no claim to a day.

use policy_sdk::{Duration, Instant, Item, Run, log};
use serde_json::{Map, Value, json};
use std::collections::BinaryHeap;

/// Least time that a run counts for, so that items whose runs take no time at all take
/// turns as well.
const LEAST: Duration = 1000;

/// The form of the state. A state of any other is not understood.
const VERSION: u64 = 1;

/// Bytes that a state may have, by the contract.
const LIMIT: usize = 4096;

/// Bytes of a state without items, and some to spare.
const ENVELOPE: usize = 96;

/// How far each item of a request is ahead.
pub struct Shares {
    /// When the newest run that was charged had started.
    seen: Option<Instant>,
    ahead: Vec<Duration>,
}

impl Shares {
    /// Takes the state up. One that cannot be read is as good as none: the decision
    /// is then less fair for a while, and no worse than that.
    pub fn read(state: &str, items: &[Item]) -> Self {
        let afresh = Self {
            seen: None,
            ahead: vec![0; items.len()],
        };
        if state.is_empty() {
            return afresh;
        }
        Self::parse(state, items).unwrap_or_else(|| {
            log::warn("the state is not of this version; shares are counted afresh");
            afresh
        })
    }

    /// By name, as places in the list may change. Items that have left it are forgotten.
    fn parse(state: &str, items: &[Item]) -> Option<Self> {
        let state: Value = serde_json::from_str(state).ok()?;
        if state["version"].as_u64() != Some(VERSION) {
            return None;
        }
        let kept = state["ahead"].as_object()?;
        let ahead = |item: &Item| kept.get(&item.name).map_or(Some(0), Value::as_u64);
        Some(Self {
            seen: state["seen"].as_i64(),
            ahead: items.iter().map(ahead).collect::<Option<_>>()?,
        })
    }

    /// Charges the runs that are newer than the newest that was charged. A state is
    /// kept only with the start of a run, so a run is charged by the decision after it.
    pub fn charge(&mut self, recent: &[Run], weights: &[f64]) {
        let new = |run: &&Run| self.seen.is_none_or(|seen| run.started > seen);
        for run in recent.iter().take_while(new) {
            let i = run.item as usize;
            if let (Some(ahead), Some(weight)) = (self.ahead.get_mut(i), weights.get(i)) {
                let took = run.finished.saturating_sub(run.started).max(0) as Duration;
                let cost = took.max(LEAST) as f64 / weight;
                *ahead = ahead.saturating_add(cost as Duration);
            }
        }
        // Also where that is earlier than before: after a clock was set back a later
        // mark would leave runs uncharged until the clock has passed it.
        self.seen = recent.first().map(|run| run.started).or(self.seen);
    }

    /// Makes the candidate that is least ahead the level.
    pub fn level(&mut self, candidates: &[usize]) {
        if let Some(least) = candidates.iter().map(|&i| self.ahead[i]).min() {
            self.raise(least);
        }
    }

    /// How far this item is ahead.
    pub fn ahead(&self, i: usize) -> Duration {
        self.ahead[i]
    }

    /// As a state that keeps the contract's limit. Where not all items fit, the level
    /// rises until the rest does: the items that are least ahead are on it then, and
    /// those that are further ahead keep their distance from each other.
    pub fn into_state(mut self, items: &[Item]) -> String {
        let mut furthest: BinaryHeap<_> = (0..items.len()).map(|i| (self.ahead[i], i)).collect();
        let mut room = LIMIT - ENVELOPE;
        while let Some((ahead @ 1.., i)) = furthest.pop() {
            // Braces here, a comma there.
            let size = json!({ &items[i].name: ahead }).to_string().len() - 1;
            if size > room {
                self.raise(ahead);
                break;
            }
            room -= size;
        }
        let mut ahead = Map::new();
        for (item, by) in items.iter().zip(self.ahead) {
            if by > 0 {
                ahead.insert(item.name.clone(), json!(by));
            }
        }
        json!({"version": VERSION, "seen": self.seen, "ahead": ahead}).to_string()
    }

    fn raise(&mut self, by: Duration) {
        for ahead in &mut self.ahead {
            *ahead = ahead.saturating_sub(by);
        }
    }
}
