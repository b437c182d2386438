//! The steps of the documented algorithm, for policies that replace only some of them.
//!
//! ```
//! use policy_sdk::documented::{candidates, choose_at_random, standing, with_lowest_rank};
//! use policy_sdk::{Decision, Request};
//!
//! /// Like the documented algorithm, but prefers the item with the fewest runs.
//! fn select(request: &Request) -> Decision {
//!     let items = &request.items;
//!     let verdicts: Vec<_> = items
//!         .iter()
//!         .map(|item| standing(item, item.cool_off, request.now))
//!         .collect();
//!     let first = with_lowest_rank(&candidates(items, &verdicts), |i| items[i].runs);
//!     let decision = match choose_at_random(&first, request.seed) {
//!         Some(chosen) => Decision::run(chosen),
//!         None => Decision::wait(verdicts.iter().filter_map(|v| v.until).min()),
//!     };
//!     decision.with_verdicts(verdicts)
//! }
//! ```

use crate::{Duration, Instant, Item, Standing, Verdict};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

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

/// Returns the note for a decision: why the item was chosen. `candidates` and `tied` are the numbers
/// of candidates and of candidates with the same rank.
pub fn decision_note(item: &Item, candidates: usize, tied: usize) -> String {
    let rank = match (item.last_success, item.last_failure) {
        (None, None) => "it has never run",
        (None, Some(_)) => "it has never succeeded",
        (Some(_), _) => "its last success is the oldest",
    };
    match (candidates, tied) {
        (1, _) => "the only item that is due".to_owned(),
        (_, 1) => format!("{rank} ({candidates} items are due)"),
        _ => {
            format!("{rank} ({candidates} items are due); chosen at random from {tied} tied items")
        }
    }
}
