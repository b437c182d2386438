//! The scenario of a live group, from its status and its measured durations.

use super::super::fields::{Probability, RunDuration};
use super::super::scenario::{Item, ItemPast, Past, Scenario};
use crate::views::{PolicyInEffect, counted};
use oaat_api::run_now;
use oaat_api::validate::{Recurrence, ValidatedGroup, summary, suspended, validate};
use oaat_api::{ItemState, ItemStatus, OaatGroup, OaatGroupStatus, RunResult, Timestamp};
use policy_host::Outcome;
use std::time::Duration;

/// How long a run is assumed to take if no item of the group has succeeded yet.
const UNKNOWN_DURATION: Duration = Duration::from_secs(60);
/// The operator's default for the minimum time between two starts of an item.
const RETRY_FLOOR: u64 = 10_000;

/// Returns the scenario of a live group, and what it assumes.
pub(super) fn scenario(
    group: &OaatGroup,
    listed: &[String],
    now: Timestamp,
    length: Duration,
) -> Result<(Scenario, Vec<String>), String> {
    let valid = validate(&group.spec).map_err(|errors| summary(&errors))?;
    let mut status = group.status.clone().unwrap_or_default();
    let (policy, assumption) = PolicyInEffect::for_forecast(group);
    let mut notes = Vec::from_iter(assumption);
    let all: Vec<i64> = status
        .items
        .values()
        .flat_map(|item| item.durations.clone())
        .collect();
    let usual = median(&all).unwrap_or(UNKNOWN_DURATION);
    if suspended(group).is_some() {
        notes.push("the group is resumed now".to_owned());
    }
    let start = end_of_current_run(&mut status, now, usual, &mut notes);
    let items: Vec<Item> = listed
        .iter()
        .filter_map(|name| {
            let item = status.items.get(name).cloned().unwrap_or_default();
            let is_listed = item.missing_since.is_none();
            is_listed.then(|| scenario_item(&policy, &valid, name, &item, start, usual))
        })
        .collect();
    if items.is_empty() {
        return Err("the group has no items".to_owned());
    }
    let unmeasured = listed
        .iter()
        .filter(|name| {
            status
                .items
                .get(*name)
                .is_none_or(|item| item.durations.is_empty())
        })
        .count();
    if unmeasured > 0 {
        notes.push(format!(
            "the durations of {} are unknown, and each run of them takes {}",
            counted(unmeasured, "item"),
            humantime::format_duration(usual)
        ));
    }
    notes.push("all runs succeed".to_owned());
    let end = start.plus(length);
    let keeps_state = status.policy_state_of.as_ref() == Some(&policy.source);
    let past = Past {
        state: status
            .policy_state
            .clone()
            .filter(|_| keeps_state)
            .unwrap_or_default(),
        runs: recent(&status, &items),
        group: Some((
            group.metadata.namespace.clone().unwrap_or_default(),
            group.metadata.name.clone().unwrap_or_default(),
        )),
    };
    let scenario = Scenario {
        requested: requested(group, listed, &valid, &items),
        start: start.0,
        end: end.0,
        seed: 1,
        retry_floor: RETRY_FLOOR,
        settings: policy.settings(),
        items,
        past,
        windows: valid.windows,
    };
    Ok((scenario, notes))
}

/// Returns when the next item may start: now, or the expected end of the run in progress, which is
/// recorded in the status as a success.
fn end_of_current_run(
    status: &mut OaatGroupStatus,
    now: Timestamp,
    usual: Duration,
    notes: &mut Vec<String>,
) -> Timestamp {
    let Some(current) = status.current.take() else {
        return now;
    };
    let item = status.items.entry(current.item.clone()).or_default();
    let takes = median(&item.durations).unwrap_or(usual);
    let end = current.runnable_since().plus(takes).max(now);
    notes.push(format!(
        "{} ends at {}",
        oaat_api::text::name(&current.item),
        end.seconds()
    ));
    item.last_success = Some(end);
    item.marked = None;
    item.failures = None;
    item.runs = Some(item.runs.unwrap_or(0).saturating_add(1));
    end
}

fn scenario_item(
    policy: &PolicyInEffect<'_>,
    valid: &ValidatedGroup,
    name: &str,
    item: &ItemStatus,
    start: Timestamp,
    usual: Duration,
) -> Item {
    let rules = valid.rules(name);
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let count = |n: i64| u32::try_from(n.max(0)).unwrap_or(u32::MAX);
    let (frequency, schedule) = match &rules.recurrence {
        Recurrence::Once => (None, None),
        Recurrence::Frequency(frequency) => (Some(millis(*frequency)), None),
        Recurrence::Schedule(schedule) => (None, Some(schedule.clone())),
    };
    let has_succeeded = rules.recurrence == Recurrence::Once && item.last_success.is_some();
    Item {
        name: name.to_owned(),
        frequency,
        schedule,
        cool_off: millis(rules.cool_off),
        settings: policy.item_settings(name),
        run_duration: RunDuration::fixed(millis(median(&item.durations).unwrap_or(usual))),
        fails: Probability::default(),
        fails_between: Vec::new(),
        joins: start.0,
        past: ItemPast {
            last_started: item.last_started.map(|at| at.0),
            last_duration: item.last_duration().map(millis),
            longest_success: longest_success(item).map(millis),
            last_success: item.last_success.map(|at| at.0),
            last_failure: item.last_failure.map(|at| at.0),
            failures: count(item.failures.unwrap_or(0).into()),
            runs: count(item.runs.unwrap_or(0)),
        },
        held: rules.suspended || has_succeeded || item.state == ItemState::GivenUp,
    }
}

/// Returns the finished runs of the group for the policy, newest first.
fn recent(status: &OaatGroupStatus, items: &[Item]) -> Vec<policy_host::Run> {
    let runs = status.history.iter().filter_map(|run| {
        let index = items.iter().position(|item| item.name == run.item)?;
        Some(policy_host::Run {
            item: u32::try_from(index).ok()?,
            started: run.started.0,
            finished: run.finished.0,
            outcome: match run.result {
                RunResult::Succeeded => Outcome::Succeeded,
                RunResult::Failed => Outcome::Failed,
                RunResult::Stopped => Outcome::Stopped,
            },
            exit_code: run.exit_code,
        })
    });
    runs.collect()
}

/// Returns the items that a user requested to run now and that have not started, by their positions.
fn requested(
    group: &OaatGroup,
    listed: &[String],
    valid: &ValidatedGroup,
    items: &[Item],
) -> Vec<usize> {
    let names = run_now::unstarted(group, listed).into_iter();
    let names = names.filter(|name| !valid.rules(name).suspended);
    names
        .filter_map(|name| items.iter().position(|item| item.name == name))
        .collect()
}

/// Returns how long the longest of an item's last successful runs took.
fn longest_success(item: &ItemStatus) -> Option<Duration> {
    let longest = item.durations.iter().max()?;
    u64::try_from(*longest).ok().map(Duration::from_secs)
}

/// Returns the median of durations in seconds.
fn median(seconds: &[i64]) -> Option<Duration> {
    let mut sorted = seconds.to_vec();
    sorted.sort_unstable();
    let middle = sorted.get(sorted.len() / 2)?;
    u64::try_from(*middle).ok().map(Duration::from_secs)
}
