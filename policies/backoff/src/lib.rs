//! Exponential back-off: the documented algorithm, but an item rests the longer the
//! more often it failed in a row.
//!
//! After failure `n` since its last success an item rests for `base` ×
//! `factor`^(n−1), at most for `max`, and never for less than the operator's own
//! `failureCoolOff`. A success ends the rest. Everything else is as documented:
//! freshness, the oldest success first, then the oldest failure, then by lot.
//!
//! [`select`] decides, [`Settings`] reads what the user set, [`Backoff`] computes.

mod backoff;
mod settings;

pub use backoff::Backoff;
pub use settings::Settings;

use policy_sdk::documented::{by_lot, candidates, least, standing, why};
use policy_sdk::{
    Decision, Duration, Instant, Item, ItemSettings, Policy, Request, Standing, Verdict,
};

/// Decides as documented, with rests that grow.
///
/// # Errors
/// What is wrong with the settings, in the words of [`validate`].
pub fn select(request: &Request) -> Result<Decision, String> {
    let items = &request.items;
    let group = Settings::of_group(&request.settings)?;
    let verdicts = items
        .iter()
        .map(|item| Ok(verdict(item, rest(item, &group)?, request.now)))
        .collect::<Result<Vec<_>, String>>()?;
    let candidates = candidates(items, &verdicts);
    let oldest = least(&candidates, |i| {
        (items[i].last_success, items[i].last_failure)
    });
    let decision = match by_lot(&oldest, request.seed) {
        Some(chosen) => {
            Decision::run(chosen).with_note(why(&items[chosen], candidates.len(), oldest.len()))
        }
        None => Decision::wait(verdicts.iter().filter_map(|verdict| verdict.until).min()),
    };
    Ok(decision.with_verdicts(verdicts))
}

/// Checks the settings of the group and of its items.
///
/// # Errors
/// Names the setting, what was given, and what would be right.
pub fn validate(settings: &str, items: &[ItemSettings]) -> Result<(), String> {
    let group = Settings::of_group(settings)?;
    for item in items {
        group.in_force(&item.name, Some(&item.settings))?;
    }
    Ok(())
}

/// How long an item rests after its latest failure. The history decides and nothing
/// else, so that every decision until the end of the rest names the same end.
fn rest(item: &Item, group: &Settings) -> Result<Duration, String> {
    let backoff = group.in_force(&item.name, item.settings.as_deref())?;
    // A success leaves the last failure where it is, but ends the count.
    Ok(match (item.failures, item.last_failure) {
        (0, _) | (_, None) => 0,
        (n, Some(at)) => backoff.rest_of(&item.name, n, at).max(item.cool_off),
    })
}

fn verdict(item: &Item, rest: Duration, now: Instant) -> Verdict {
    let verdict = standing(item, rest, now);
    let note = (verdict.standing == Standing::Cooling).then(|| {
        // Nobody reads milliseconds.
        let rest = std::time::Duration::from_secs(rest.div_ceil(1000));
        let rest = humantime::format_duration(rest);
        format!("failure {}: rests {rest}", item.failures)
    });
    Verdict { note, ..verdict }
}

struct ExponentialBackoff;

impl Policy for ExponentialBackoff {
    fn select(request: &Request) -> Result<Decision, String> {
        select(request)
    }

    fn validate(settings: &str, items: &[ItemSettings]) -> Result<(), String> {
        validate(settings, items)
    }
}

policy_sdk::export_policy!(ExponentialBackoff);
