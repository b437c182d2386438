//! Fair shares: items that are due at the same time share the group's time by weight.
//!
//! Frequency and cool-off work as in the documented algorithm. The candidate that has had the least
//! time for its weight is chosen. Ties are broken by the oldest run, and then at random.
//!
//! [`select`] decides, [`shares`] accounts for the time of each item, and [`settings`] parses the
//! settings.

pub mod settings;
pub mod shares;

use policy_sdk::documented::{candidates, choose_at_random, standing, with_lowest_rank};
use policy_sdk::{
    Decision, Duration, Instant, Item, ItemSettings, Policy, Request, Standing, Verdict,
};
use shares::Shares;

/// Selects an item by fair share.
///
/// # Errors
/// Returns the message of [`validate`] if the settings are invalid.
pub fn select(request: &Request) -> Result<Decision, String> {
    let items = &request.items;
    let gap = settings::gap(&request.settings)?;
    let weights = items
        .iter()
        .map(|item| settings::weight(&item.name, item.settings.as_deref()))
        .collect::<Result<Vec<_>, _>>()?;

    let mut verdicts: Vec<_> = items
        .iter()
        .map(|item| standing(item, item.cool_off, request.now))
        .collect();
    if let Some(end) = gap_end(request, gap) {
        defer(&mut verdicts, gap, end);
    }
    let candidates = candidates(items, &verdicts);

    let mut shares = Shares::read(&request.state, items);
    shares.charge(&request.recent, &weights);
    shares.level(&candidates);
    for (i, verdict) in verdicts.iter_mut().enumerate() {
        if verdict.standing == Standing::Ready && shares.ahead(i) > 0 {
            verdict.note = Some(format!("{} ahead of its share", text(shares.ahead(i))));
        }
    }

    let first = with_lowest_rank(&candidates, |i| (shares.ahead(i), last_run(&items[i])));
    let decision = match choose_at_random(&first, request.seed) {
        Some(chosen) => Decision::run(chosen)
            .with_note(decision_note(candidates.len()))
            .with_state(shares.into_state(items)),
        None => Decision::wait(verdicts.iter().filter_map(|verdict| verdict.until).min()),
    };
    Ok(decision.with_verdicts(verdicts))
}

/// Validates the settings of the group and of its items.
///
/// # Errors
/// Returns a message that names the setting, the value, and the fix.
pub fn validate(settings: &str, items: &[ItemSettings]) -> Result<(), String> {
    settings::gap(settings)?;
    for item in items {
        settings::weight(&item.name, Some(&item.settings))?;
    }
    Ok(())
}

/// Returns the end of the gap after the latest run; `None` if it is over.
fn gap_end(request: &Request, gap: Duration) -> Option<Instant> {
    let latest = request.recent.first()?;
    let end = latest.finished.saturating_add_unsigned(gap);
    // If the clock of a node is ahead, a run may end after `now`. Without a gap, this must not cause
    // a wait.
    (gap > 0 && request.now < end).then_some(end)
}

/// Marks ready items as deferred, with the reason why the policy waits.
fn defer(verdicts: &mut [Verdict], gap: Duration, end: Instant) {
    for verdict in verdicts {
        if verdict.standing == Standing::Ready {
            *verdict = Verdict {
                note: Some(format!("waiting for the gap of {} between runs", text(gap))),
                ..Verdict::new(Standing::Deferred, Some(end))
            };
        }
    }
}

/// Returns when the last run of an item finished. `None` (never) is less than any time.
fn last_run(item: &Item) -> Option<Instant> {
    item.last_success.max(item.last_failure)
}

fn decision_note(candidates: usize) -> String {
    match candidates {
        1 => "the only item that is due".to_owned(),
        _ => format!("it is furthest behind its share ({candidates} items are due)"),
    }
}

/// Formats a duration in whole seconds, rounded up.
fn text(duration: Duration) -> String {
    let seconds = std::time::Duration::from_secs(duration.div_ceil(1000));
    humantime::format_duration(seconds).to_string()
}

struct FairShares;

impl Policy for FairShares {
    fn select(request: &Request) -> Result<Decision, String> {
        select(request)
    }

    fn validate(settings: &str, items: &[ItemSettings]) -> Result<(), String> {
        validate(settings, items)
    }
}

policy_sdk::export_policy!(FairShares);
