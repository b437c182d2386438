//! A policy whose settings are expressions in a typed subset of CEL.
//!
//! The rules of the documented algorithm for `frequency` and cool-off apply first. Of the items that
//! are ready, those that are not `eligible` are deferred. The eligible item with the lowest rank by
//! `orderBy` runs. Ties are broken at random.
//!
//! [`select`] decides. An expression is parsed and checked (`lexer`, `parser`, `check`), and evaluated for
//! each item (`evaluate`).

mod budget;
mod check;
mod convert;
mod cost;
mod error;
mod evaluate;
mod expression;
mod failure;
mod functions;
mod lexer;
mod nearest;
mod parser;
mod program;
mod settings;
mod time;
mod types;
mod value;
mod zones;

#[cfg(test)]
mod oracle_tests;
#[cfg(test)]
mod zone_tests;

use evaluate::Scope;
use expression::{Condition, Rank};
use settings::Settings;

pub use budget::{MAX_COST, MAX_ITEM_SETTINGS};
pub use parser::{MAX_DEPTH, MAX_LENGTH};

use policy_sdk::documented::{
    candidates, choose_at_random, decision_note, standing, with_lowest_rank,
};
use policy_sdk::{Decision, Instant, Item, ItemSettings, Policy, Request, Standing, Verdict};
use std::mem::ManuallyDrop;

/// Decides with the expressions in the settings.
///
/// # Errors
/// Returns the message of [`validate`] if the settings are invalid.
pub fn select(request: &Request) -> Result<Decision, String> {
    // The sandbox ends with this call, so freeing memory would waste fuel.
    let settings = ManuallyDrop::new(Settings::parse(&request.settings)?);
    let items = &request.items;
    let mut verdicts: Vec<_> = items
        .iter()
        .map(|item| standing(item, item.cool_off, request.now))
        .collect();
    let standings: Vec<_> = verdicts.iter().map(|verdict| verdict.standing).collect();
    let scope = ManuallyDrop::new(Scope::new(request, &standings, settings.cost));

    write_notes(&mut verdicts, &settings, &scope);
    defer_ineligible(&mut verdicts, &settings, &scope);
    let ranks = ranks(&mut verdicts, items, &settings, &scope);

    let candidates = candidates(items, &verdicts);
    let first = if settings.order_by.is_empty() {
        with_lowest_rank(&candidates, |i| {
            (items[i].last_success, items[i].last_failure)
        })
    } else {
        with_lowest_rank(&candidates, |i| &ranks[i])
    };
    let decision = match choose_at_random(&first, request.seed) {
        Some(chosen) => {
            let note = verdicts[chosen].note.clone().unwrap_or_else(|| {
                default_note(&items[chosen], &settings, candidates.len(), first.len())
            });
            Decision::run(chosen).with_note(note)
        }
        None => Decision::wait(wait_until(&verdicts, &settings, request.now)),
    };
    Ok(decision.with_verdicts(verdicts))
}

/// Validates the settings of the group. The settings of items may be any JSON objects.
///
/// # Errors
/// Returns a message that names the setting, the position, and the fix.
pub fn validate(settings: &str, _items: &[ItemSettings]) -> Result<(), String> {
    Settings::parse(settings).map(|_| ())
}

/// The maximum length of a note in bytes. The operator shortens notes further, but its limit for a
/// whole answer applies before.
const MAX_NOTE: usize = 1024;

/// Writes the user's note on each verdict. A note never affects which item runs: if it cannot be
/// evaluated, the reason replaces it.
fn write_notes(verdicts: &mut [Verdict], settings: &Settings, scope: &Scope<'_>) {
    let Some(note) = &settings.note else { return };
    for (i, verdict) in verdicts.iter_mut().enumerate() {
        let text = note.string(scope, i).map(|mut text| {
            text.truncate(text.floor_char_boundary(MAX_NOTE));
            text
        });
        verdict.note = Some(text.unwrap_or_else(|reason| format!("note failed: {reason}")));
    }
}

/// Defers the ready items that are not eligible.
fn defer_ineligible(verdicts: &mut [Verdict], settings: &Settings, scope: &Scope<'_>) {
    let Some(eligible) = &settings.eligible else {
        return;
    };
    for (i, verdict) in verdicts.iter_mut().enumerate() {
        if verdict.standing == Standing::Ready {
            match eligible.holds(scope, i) {
                Ok(Condition::Met) => {}
                Ok(Condition::NotMet(part)) => defer(verdict, format!("not eligible: {part}")),
                Err(reason) => defer(verdict, format!("eligible failed: {reason}")),
            }
        }
    }
}

/// Returns the ranks of the ready items, and defers the items whose rank cannot be evaluated.
fn ranks<'a>(
    verdicts: &mut [Verdict],
    items: &[Item],
    settings: &'a Settings,
    scope: &'a Scope<'_>,
) -> Vec<Vec<Rank<'a>>> {
    let mut ranks = Vec::with_capacity(verdicts.len());
    for (i, verdict) in verdicts.iter_mut().enumerate() {
        let mut rank = Vec::new();
        if verdict.standing == Standing::Ready && items[i].startable {
            for (position, order) in settings.order_by.iter().enumerate() {
                match order.rank(scope, i) {
                    Ok(part) => rank.push(part),
                    Err(reason) => {
                        defer(verdict, format!("orderBy[{position}] failed: {reason}"));
                        break;
                    }
                }
            }
        }
        ranks.push(rank);
    }
    ranks
}

/// Defers an item, for a reason that replaces the user's note.
fn defer(verdict: &mut Verdict, reason: String) {
    verdict.standing = Standing::Deferred;
    verdict.note = Some(reason);
}

/// Returns when to decide again: when the standing of an item changes, and after `recheck` if time
/// alone may make an item eligible.
fn wait_until(verdicts: &[Verdict], settings: &Settings, now: Instant) -> Option<Instant> {
    let deferred = verdicts
        .iter()
        .any(|verdict| verdict.standing == Standing::Deferred);
    let recheck =
        (deferred && settings.uses_time()).then(|| now.saturating_add_unsigned(settings.recheck));
    verdicts
        .iter()
        .filter_map(|verdict| verdict.until)
        .chain(recheck)
        .min()
}

/// Returns the note for a decision if the user did not set one.
fn default_note(item: &Item, settings: &Settings, candidates: usize, tied: usize) -> String {
    let Some(order) = settings.order_by.first() else {
        return decision_note(item, candidates, tied);
    };
    let order = order.source();
    match (candidates, tied) {
        (1, _) => "the only item that is due and eligible".to_owned(),
        (_, 1) => format!("first by {order} ({candidates} items are due and eligible)"),
        _ => format!(
            "first by {order} ({candidates} items are due and eligible); \
             chosen at random from {tied} tied items"
        ),
    }
}

struct Expressions;

impl Policy for Expressions {
    fn select(request: &Request) -> Result<Decision, String> {
        select(request)
    }

    fn validate(settings: &str, items: &[ItemSettings]) -> Result<(), String> {
        validate(settings, items)
    }
}

policy_sdk::export_policy!(Expressions);
