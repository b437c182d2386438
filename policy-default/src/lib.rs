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

use policy_sdk::documented::{by_lot, candidates, least, standing, why};
use policy_sdk::{Decision, ItemSettings, Policy, Request};

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
