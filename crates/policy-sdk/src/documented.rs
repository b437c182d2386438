//! The steps of the documented algorithm, one function each, for policies that keep
//! some of them and replace others.
//!
//! ```
//! use policy_sdk::documented::{by_lot, candidates, least, standing};
//! use policy_sdk::{Decision, Request};
//!
//! /// As documented, but among the candidates the one with the fewest runs goes first.
//! fn select(request: &Request) -> Decision {
//!     let items = &request.items;
//!     let verdicts: Vec<_> = items
//!         .iter()
//!         .map(|item| standing(item, item.cool_off, request.now))
//!         .collect();
//!     let first = least(&candidates(items, &verdicts), |i| items[i].runs);
//!     let decision = match by_lot(&first, request.seed) {
//!         Some(chosen) => Decision::run(chosen),
//!         None => Decision::wait(verdicts.iter().filter_map(|v| v.until).min()),
//!     };
//!     decision.with_verdicts(verdicts)
//! }
//! ```

use crate::{Duration, Instant, Item, Standing, Verdict};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

/// Where an item stands if it rests for `rest` after a failure. Where success and
/// failure both keep it, the one that keeps it longer counts.
pub fn standing(item: &Item, rest: Duration, now: Instant) -> Verdict {
    let cooling = item
        .last_failure
        .map(|at| at.saturating_add_unsigned(rest))
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

/// The items, by index, that may be chosen: they stand ready, and the operator does
/// not hold them. `verdicts` has one verdict per item.
pub fn candidates(items: &[Item], verdicts: &[Verdict]) -> Vec<usize> {
    (0..items.len().min(verdicts.len()))
        .filter(|&i| items[i].startable && verdicts[i].standing == Standing::Ready)
        .collect()
}

/// The candidates that go first, equal to each other: all that have the least rank.
/// As an `Option`, "never" is less than any time.
pub fn least<K: Ord>(candidates: &[usize], rank: impl Fn(usize) -> K) -> Vec<usize> {
    let lowest = candidates.iter().map(|&i| rank(i)).min();
    candidates
        .iter()
        .copied()
        .filter(|&i| Some(rank(i)) == lowest)
        .collect()
}

/// One of several equals, none of none. ChaCha is a published cipher: its output
/// stays what it is, whatever release of a library computes it.
pub fn by_lot(equals: &[usize], seed: u64) -> Option<usize> {
    match equals {
        [] => None,
        [only] => Some(*only),
        several => {
            let lot = ChaCha8Rng::seed_from_u64(seed).random_range(0..several.len() as u32);
            several.get(lot as usize).copied()
        }
    }
}

/// Why an item was chosen of so many candidates, so many of them its equals: a note for a
/// decision.
pub fn why(item: &Item, candidates: usize, equals: usize) -> String {
    let rank = match (item.last_success, item.last_failure) {
        (None, None) => "it has never run",
        (None, Some(_)) => "it has never succeeded",
        (Some(_), _) => "its success is the oldest",
    };
    match (candidates, equals) {
        (1, _) => "the only item that is due".to_owned(),
        (_, 1) => format!("of {candidates} items that are due, {rank}"),
        _ => format!("of {candidates} items that are due, {rank}; by lot among {equals} equals"),
    }
}
