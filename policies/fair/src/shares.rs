//! Accounts for the time of each item: how far it is ahead of its share.
//!
//! A run charges its item with its duration divided by the weight of the item. Only differences
//! matter. The candidate with the lowest charge is the level, and an item is ahead by its charge
//! above the level. Items below the level are raised to it, so an item gets no credit for time in
//! which it was not due.

use policy_sdk::{Duration, Instant, Item, Run, log};
use std::collections::{BTreeMap, BinaryHeap};

/// The minimum charge of a run, so that items with very short runs also take turns.
const MIN_CHARGE: Duration = 1000;

/// The version of the format of the state. The state of version 1 was JSON.
const VERSION: &str = "2";

/// Written instead of a time if no run has been charged.
const NEVER: &str = "never";

/// The maximum size of a state in the contract.
const MAX_STATE: usize = 4096;

/// An upper bound for the size of a state without items.
const HEADER: usize = 32;

/// How far each item of a request is ahead of its share.
pub struct Shares {
    /// The start of the newest charged run.
    seen: Option<Instant>,
    ahead: Vec<Duration>,
}

impl Shares {
    /// Parses the state. An unreadable state is replaced by an empty one, which only makes decisions
    /// less fair for a while.
    pub fn read(state: &str, items: &[Item]) -> Self {
        let empty = Self {
            seen: None,
            ahead: vec![0; items.len()],
        };
        if state.is_empty() {
            return empty;
        }
        Self::parse(state, items).unwrap_or_else(|| {
            log::warn("cannot read the state; recalculating the shares from the recent runs");
            empty
        })
    }

    /// Parses the state by name, because indices may change. Drops items that are not in the list.
    fn parse(state: &str, items: &[Item]) -> Option<Self> {
        let mut lines = state.lines();
        let seen = match lines.next()?.split_once(' ')? {
            (VERSION, NEVER) => None,
            (VERSION, time) => Some(time.parse().ok()?),
            _ => return None,
        };
        let entries = lines.map(|line| {
            let (ahead, name) = line.split_once(' ')?;
            Some((name, ahead.parse().ok()?))
        });
        let kept: BTreeMap<&str, Duration> = entries.collect::<Option<_>>()?;
        let ahead = |item: &Item| kept.get(&*item.name).copied().unwrap_or(0);
        Some(Self {
            seen,
            ahead: items.iter().map(ahead).collect(),
        })
    }

    /// Charges the runs that have not been charged yet. A state is stored only together with the
    /// start of a run, so the next decision charges that run.
    pub fn charge(&mut self, recent: &[Run], weights: &[u64]) {
        let new = |run: &&Run| self.seen.is_none_or(|seen| run.started > seen);
        for run in recent.iter().take_while(new) {
            let i = run.item as usize;
            if let (Some(ahead), Some(weight)) = (self.ahead.get_mut(i), weights.get(i)) {
                let took = run.finished.saturating_sub(run.started).max(0) as Duration;
                // The weight is in thousandths.
                let cost = took.max(MIN_CHARGE).saturating_mul(1000) / weight;
                *ahead = ahead.saturating_add(cost);
            }
        }
        // This may move back: if the clock was set back, runs would otherwise not be charged until
        // the clock reaches the old value.
        self.seen = recent.first().map(|run| run.started).or(self.seen);
    }

    /// Raises the level to the candidate that is least ahead.
    pub fn level(&mut self, candidates: &[usize]) {
        if let Some(least) = candidates.iter().map(|&i| self.ahead[i]).min() {
            self.raise(least);
        }
    }

    /// Returns how far an item is ahead.
    pub fn ahead(&self, i: usize) -> Duration {
        self.ahead[i]
    }

    /// Formats the state within the limit of the contract. If not all items fit, raises the level
    /// until the rest does. Items further ahead keep their distances.
    pub fn into_state(mut self, items: &[Item]) -> String {
        let mut furthest: BinaryHeap<_> = (0..items.len()).map(|i| (self.ahead[i], i)).collect();
        let mut room = MAX_STATE - HEADER;
        while let Some((ahead @ 1.., i)) = furthest.pop() {
            let size = line(ahead, &items[i]).len();
            if size > room {
                self.raise(ahead);
                break;
            }
            room -= size;
        }
        let seen = self.seen.map(|seen| seen.to_string());
        let mut state = format!("{VERSION} {}\n", seen.as_deref().unwrap_or(NEVER));
        for (item, ahead) in items.iter().zip(self.ahead) {
            if ahead > 0 {
                state.push_str(&line(ahead, item));
            }
        }
        state
    }

    fn raise(&mut self, by: Duration) {
        for ahead in &mut self.ahead {
            *ahead = ahead.saturating_sub(by);
        }
    }
}

/// Returns the line of an item in the state. No name contains a line break.
fn line(ahead: Duration, item: &Item) -> String {
    format!("{ahead} {}\n", item.name)
}
