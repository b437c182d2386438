//! The steps of the documented algorithm, for policies that replace only some of them.
//!
//! ```
//! use policy_sdk::documented::{candidates, choose_at_random, note, standing, with_lowest_rank};
//! use policy_sdk::{Decision, Request};
//!
//! /// Like the documented algorithm, but prefers the item with the fewest runs.
//! fn select(request: &Request) -> Decision {
//!     let items = &request.items;
//!     let verdicts: Vec<_> = items
//!         .iter()
//!         .map(|item| standing(item, item.cool_off, request.now))
//!         .collect();
//!     let candidates = candidates(items, &verdicts);
//!     let first = with_lowest_rank(&candidates, |i| items[i].runs);
//!     let reason = "it has the fewest runs";
//!     let decision = match choose_at_random(&first, request.seed) {
//!         Some(chosen) => {
//!             Decision::run(chosen).with_note(note(reason, candidates.len(), first.len()))
//!         }
//!         None => Decision::wait(verdicts.iter().filter_map(|v| v.until).min()),
//!     };
//!     decision.with_verdicts(verdicts)
//! }
//! ```

use crate::{Duration, Instant, Item, Standing, Verdict};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use std::fmt;

/// Returns the verdict on an item with this cool-off after a failure. If the item is both fresh and
/// cooling, returns the standing that lasts longer.
pub fn standing(item: &Item, cool_off: Duration, now: Instant) -> Verdict {
    let cooling = item
        .last_failure
        .map(|at| at.saturating_add_unsigned(cool_off))
        .filter(|until| now < *until);
    let fresh = match (item.last_success, item.frequency) {
        (Some(_), None) => return Verdict::new(Standing::Fresh, None),
        (Some(at), Some(frequency)) => {
            Some(at.saturating_add_unsigned(frequency)).filter(|until| now < *until)
        }
        (None, _) => None,
    };
    match (fresh, cooling) {
        (None, None) => Verdict::new(Standing::Ready, None),
        (fresh, cooling) if cooling > fresh => Verdict::new(Standing::Cooling, cooling),
        (fresh, _) => Verdict::new(Standing::Fresh, fresh),
    }
}

/// Returns the indices of the items that may be chosen: those that are ready and that the operator
/// does not hold. `verdicts` contains one verdict per item.
pub fn candidates(items: &[Item], verdicts: &[Verdict]) -> Vec<usize> {
    (0..items.len().min(verdicts.len()))
        .filter(|&i| items[i].startable && verdicts[i].standing == Standing::Ready)
        .collect()
}

/// Returns the candidates with the lowest rank. In a rank of type `Option`, `None` (never) is less
/// than any time.
pub fn with_lowest_rank<K: Ord>(candidates: &[usize], rank: impl Fn(usize) -> K) -> Vec<usize> {
    let lowest = candidates.iter().map(|&i| rank(i)).min();
    candidates
        .iter()
        .copied()
        .filter(|&i| Some(rank(i)) == lowest)
        .collect()
}

/// Chooses one of several tied candidates at random; `None` if there are none. The generator is
/// ChaCha, a published cipher, so the choice for a seed never changes between releases.
pub fn choose_at_random(tied: &[usize], seed: u64) -> Option<usize> {
    match tied {
        [] => None,
        [only] => Some(*only),
        several => {
            let index = ChaCha8Rng::seed_from_u64(seed).random_range(0..several.len() as u32);
            several.get(index as usize).copied()
        }
    }
}

/// The rank of an item in the documented algorithm: the oldest success first, then the oldest
/// failure. Its [`Display`](fmt::Display) text is the reason for the choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OldestSuccess {
    last_success: Option<Instant>,
    last_failure: Option<Instant>,
}

impl OldestSuccess {
    /// Returns the rank of an item.
    pub fn of(item: &Item) -> Self {
        Self {
            last_success: item.last_success,
            last_failure: item.last_failure,
        }
    }
}

impl fmt::Display for OldestSuccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.last_success, self.last_failure) {
            (None, None) => "it has never run",
            (None, Some(_)) => "it has never succeeded",
            (Some(_), _) => "its last success is the oldest",
        })
    }
}

/// Returns the note for a decision. `reason` says why the chosen item has the lowest rank, such as
/// "its last run was the shortest". `candidates` and `tied` are the numbers of candidates and of
/// candidates with the same rank.
pub fn note(reason: impl fmt::Display, candidates: usize, tied: usize) -> String {
    match (candidates, tied) {
        (1, _) => "the only item that is due".to_owned(),
        (_, 1) => format!("{reason} ({candidates} items are due)"),
        _ => {
            format!(
                "{reason} ({candidates} items are due); chosen at random from {tied} tied items"
            )
        }
    }
}

/// Returns the note for a decision of the documented algorithm. For ranks other than
/// [`OldestSuccess`], use [`note`].
pub fn decision_note(item: &Item, candidates: usize, tied: usize) -> String {
    note(OldestSuccess::of(item), candidates, tied)
}
