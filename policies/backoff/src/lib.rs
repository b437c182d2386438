//! Exponential backoff: the documented algorithm, but each consecutive failure of an item increases
//! its cool-off.
//!
//! After its `n`-th consecutive failure, an item is in backoff for `base` × `factor`^(n−1), at most
//! for `max`, and at least for the group's `failureCoolOff`. A success resets the backoff. All other
//! rules are those of the documented algorithm.
//!
//! [`select`] decides, [`Settings`] parses the settings, and [`Backoff`] computes delays.

mod backoff;
mod settings;

pub use backoff::Backoff;
pub use settings::Settings;

use policy_sdk::documented::{
    OldestSuccess, candidates, choose_at_random, note, standing, with_lowest_rank,
};
use policy_sdk::{
    Decision, Duration, Instant, Item, ItemSettings, Policy, Request, Standing, Verdict,
};

/// Decides with the documented algorithm and exponential backoff.
///
/// # Errors
/// Returns the message of [`validate`] if the settings are invalid.
pub fn select(request: &Request) -> Result<Decision, String> {
    let items = &request.items;
    let group = Settings::of_group(&request.settings)?;
    let verdicts = items
        .iter()
        .map(|item| Ok(verdict(item, backoff_delay(item, &group)?, request.now)))
        .collect::<Result<Vec<_>, String>>()?;
    let candidates = candidates(items, &verdicts);
    let rank = |i: usize| OldestSuccess::of(&items[i]);
    let oldest = with_lowest_rank(&candidates, rank);
    let decision = match choose_at_random(&oldest, request.seed) {
        Some(chosen) => {
            let note = note(rank(chosen), candidates.len(), oldest.len());
            Decision::run(chosen).with_note(note)
        }
        None => Decision::wait(verdicts.iter().filter_map(|verdict| verdict.until).min()),
    };
    Ok(decision.with_verdicts(verdicts))
}

/// Validates the settings of the group and of its items.
///
/// # Errors
/// Returns a message that names the setting, the value, and the fix.
pub fn validate(settings: &str, items: &[ItemSettings]) -> Result<(), String> {
    let group = Settings::of_group(settings)?;
    for item in items {
        group.effective(&item.name, Some(&item.settings))?;
    }
    Ok(())
}

/// Returns the delay after the latest failure of an item. It depends only on the history, so that
/// all decisions until the end of the backoff agree on this end.
fn backoff_delay(item: &Item, group: &Settings) -> Result<Duration, String> {
    let backoff = group.effective(&item.name, item.settings.as_deref())?;
    // A success resets the count, but not the time of the last failure.
    Ok(match (item.failures, item.last_failure) {
        (0, _) | (_, None) => 0,
        (n, Some(at)) => backoff.jittered_delay(&item.name, n, at).max(item.cool_off),
    })
}

fn verdict(item: &Item, delay: Duration, now: Instant) -> Verdict {
    let verdict = standing(item, delay, now);
    let note = (verdict.standing == Standing::Cooling).then(|| {
        let seconds = std::time::Duration::from_secs(delay.div_ceil(1000));
        let delay = humantime::format_duration(seconds);
        format!("failure {}: backoff {delay}", item.failures)
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
