//! Fair shares: items that are due at the same time share the group's time by weight.
//!
//! What keeps an item is as documented: its frequency and its cool-off. Among the items
//! that are left the one goes first that has had the least time for its weight; among
//! equals the one that has not run for longest; among equals it is a matter of chance.
//!
//! [`select`] decides, [`shares`] keeps the books from run to run, [`settings`] reads
//! what the user set.

pub mod settings;
pub mod shares;

use policy_sdk::documented::{by_lot, candidates, least, standing};
use policy_sdk::{
    Decision, Duration, Instant, Item, ItemSettings, Policy, Request, Standing, Verdict,
};
use shares::Shares;

/// Decides by shares.
///
/// # Errors
/// What is wrong with the settings, in the words of [`validate`].
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
    if let Some(end) = pause(request, gap) {
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

    let first = least(&candidates, |i| (shares.ahead(i), last_run(&items[i])));
    let decision = match by_lot(&first, request.seed) {
        Some(chosen) => Decision::run(chosen)
            .with_note(why(candidates.len()))
            .with_state(shares.into_state(items)),
        None => Decision::wait(verdicts.iter().filter_map(|verdict| verdict.until).min()),
    };
    Ok(decision.with_verdicts(verdicts))
}

/// Checks the settings of the group and of its items.
///
/// # Errors
/// Names the setting, what was given, and what would be right.
pub fn validate(settings: &str, items: &[ItemSettings]) -> Result<(), String> {
    settings::gap(settings)?;
    for item in items {
        settings::weight(&item.name, Some(&item.settings))?;
    }
    Ok(())
}

/// Until when the gap after the latest run lasts, if it still does.
fn pause(request: &Request, gap: Duration) -> Option<Instant> {
    let latest = request.recent.first()?;
    let end = latest.finished.saturating_add_unsigned(gap);
    // A node's clock may be ahead, and its run seem to end later than now: without a
    // gap that is no reason to wait.
    (gap > 0 && request.now < end).then_some(end)
}

/// Puts off all that is ready: a wait beside ready items is the policy's own wish, and
/// people should read why.
fn defer(verdicts: &mut [Verdict], gap: Duration, end: Instant) {
    for verdict in verdicts {
        if verdict.standing == Standing::Ready {
            *verdict = Verdict {
                note: Some(format!("{} between two runs", text(gap))),
                ..Verdict::new(Standing::Deferred, Some(end))
            };
        }
    }
}

/// When an item last ran to its end; `None` (never) is less than any time.
fn last_run(item: &Item) -> Option<Instant> {
    item.last_success.max(item.last_failure)
}

fn why(candidates: usize) -> String {
    match candidates {
        1 => "the only item that is due".to_owned(),
        _ => format!("of {candidates} items that are due, it has had the least of its share"),
    }
}

/// A length of time as people read it: in whole seconds, and more than none.
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
