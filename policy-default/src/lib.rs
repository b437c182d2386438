//! The documented selection algorithm.
//!
//! 1. The candidates are all items except those that succeeded within their frequency, those that
//!    failed within their cool-off, and those that the operator holds.
//! 2. The candidate with the oldest success is chosen. An item that never succeeded goes before
//!    items that did.
//! 3. Ties are broken by the oldest failure. An item that never failed goes before items that did.
//! 4. Remaining ties are broken at random.
//!
//! [`select`] implements this with the steps in [`policy_sdk::documented`]. The rest of this file
//! exports it.

use policy_sdk::documented::{candidates, choose_at_random, note, standing, with_lowest_rank};
use policy_sdk::{Decision, ItemSettings, Policy, Request};

/// Decides with the documented algorithm.
pub fn select(request: &Request) -> Decision {
    let items = &request.items;
    let verdicts: Vec<_> = items
        .iter()
        .map(|item| standing(item, item.cool_off, request.now))
        .collect();
    let candidates = candidates(items, &verdicts);
    // The lowest rank goes first. The reason is shown with the choice.
    let rank = |i: usize| policy_sdk::documented::OldestSuccess::of(&items[i]);
    let reason = rank;
    let first = with_lowest_rank(&candidates, rank);
    let decision = match choose_at_random(&first, request.seed) {
        Some(chosen) => {
            let note = note(reason(chosen), candidates.len(), first.len());
            Decision::run(chosen).with_note(note)
        }
        None => Decision::wait(verdicts.iter().filter_map(|verdict| verdict.until).min()),
    };
    decision.with_verdicts(verdicts)
}

/// The exported policy.
pub struct Documented;

impl Policy for Documented {
    fn select(request: &Request) -> Result<Decision, String> {
        Ok(select(request))
    }

    /// Ignores item settings, which may be for the shadow policy.
    fn validate(settings: &str, _items: &[ItemSettings]) -> Result<(), String> {
        if settings.split_whitespace().collect::<String>() == "{}" {
            return Ok(());
        }
        Err(format!(
            "the built-in policy default takes no settings, but got {settings}; remove the settings"
        ))
    }
}

policy_sdk::export_policy!(Documented);
