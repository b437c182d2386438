//! The documented selection algorithm.
//!
//! 1. Candidates are all items, less those that succeeded within their frequency,
//!    less those that failed within their cool-off, less those that the operator
//!    holds.
//! 2. Among the candidates the oldest success goes first; an item that never
//!    succeeded is older than any that did.
//! 3. Among equals the oldest failure goes first; an item that never failed is
//!    older than any that did.
//! 4. Among equals it is a matter of chance.
//!
//! [`select`] is the whole of it, a function of the request; the rest of this file
//! exports it.

use policy_sdk::{
    Decision, Duration, Instant, Item, ItemSettings, Policy, Request, Standing, Verdict,
};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

/// Decides by the documented algorithm.
pub fn select(request: &Request) -> Decision {
    let verdicts: Vec<_> = request
        .items
        .iter()
        .map(|item| standing(item, request.now))
        .collect();
    let candidates = || {
        request
            .items
            .iter()
            .zip(&verdicts)
            .enumerate()
            .filter(|(_, (item, verdict))| item.startable && verdict.standing == Standing::Ready)
            .map(|(index, (item, _))| (index, item))
    };
    let decision = match candidates().map(|(_, item)| age(item)).min() {
        Some(oldest) => {
            let equals: Vec<_> = candidates()
                .filter(|(_, item)| age(item) == oldest)
                .map(|(index, _)| index)
                .collect();
            let chosen = by_lot(&equals, request.seed);
            Decision::run(chosen).with_note(why(
                &request.items[chosen],
                candidates().count(),
                equals.len(),
            ))
        }
        None => Decision::wait(verdicts.iter().filter_map(|verdict| verdict.until).min()),
    };
    decision.with_verdicts(verdicts)
}

/// Where an item stands. Where success and failure both keep it, the one that
/// keeps it longer counts.
fn standing(item: &Item, now: Instant) -> Verdict {
    let cooling = item
        .last_failure
        .map(|at| later(at, item.cool_off))
        .filter(|until| now < *until);
    let fresh = match (item.last_success, item.frequency) {
        (Some(_), None) => return Verdict::new(Standing::Fresh, None),
        (Some(at), Some(frequency)) => Some(later(at, frequency)).filter(|until| now < *until),
        (None, _) => None,
    };
    match (fresh, cooling) {
        (None, None) => Verdict::new(Standing::Ready, None),
        (fresh, cooling) if cooling > fresh => Verdict::new(Standing::Cooling, cooling),
        (fresh, _) => Verdict::new(Standing::Fresh, fresh),
    }
}

/// The rank of an item: less is older, and `None` (never) is less than any time.
fn age(item: &Item) -> (Option<Instant>, Option<Instant>) {
    (item.last_success, item.last_failure)
}

/// One of several equals. ChaCha is a published cipher: its output stays what it
/// is, whatever release of a library computes it.
fn by_lot(equals: &[usize], seed: u64) -> usize {
    match equals {
        [only] => *only,
        several => {
            let lot = ChaCha8Rng::seed_from_u64(seed).random_range(0..several.len() as u32);
            several[lot as usize]
        }
    }
}

fn why(item: &Item, candidates: usize, equals: usize) -> String {
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

/// `at` and some time, as late as an instant can be if there is no such instant.
fn later(at: Instant, duration: Duration) -> Instant {
    at.saturating_add_unsigned(duration)
}

struct Documented;

impl Policy for Documented {
    fn select(request: &Request) -> Result<Decision, String> {
        Ok(select(request))
    }

    fn validate(settings: &str, items: &[ItemSettings]) -> Result<(), String> {
        let empty = |json: &str| json.split_whitespace().collect::<String>() == "{}";
        if !empty(settings) {
            return Err(format!(
                "the default policy takes no settings, and {settings} was given; leave settings out"
            ));
        }
        match items.iter().find(|item| !empty(&item.settings)) {
            Some(item) => Err(format!(
                "the default policy takes no settings, and item {:?} has {}; leave them out",
                item.name, item.settings
            )),
            None => Ok(()),
        }
    }
}

policy_sdk::export_policy!(Documented);
