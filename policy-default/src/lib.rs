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
//! [`select`] is the whole of it, a function of the request, made of the steps in
//! [`policy_sdk::documented`]; the rest of this file exports it.

use policy_sdk::documented::{by_lot, candidates, least, standing};
use policy_sdk::{Decision, Item, ItemSettings, Policy, Request};

/// Decides by the documented algorithm.
pub fn select(request: &Request) -> Decision {
    let items = &request.items;
    let verdicts: Vec<_> = items
        .iter()
        .map(|item| standing(item, item.cool_off, request.now))
        .collect();
    let candidates = candidates(items, &verdicts);
    // `None` (never) is less than any time.
    let oldest = least(&candidates, |i| {
        (items[i].last_success, items[i].last_failure)
    });
    let decision = match by_lot(&oldest, request.seed) {
        Some(chosen) => {
            Decision::run(chosen).with_note(why(&items[chosen], candidates.len(), oldest.len()))
        }
        None => Decision::wait(verdicts.iter().filter_map(|verdict| verdict.until).min()),
    };
    decision.with_verdicts(verdicts)
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
