//! The first cause for which an item does not run now.

use super::Explainer;
use super::cause::{Cause, expected_end, one_at_a_time, pause};
use super::requested::{requested, requested_hold};
use super::rule::Rule;
use crate::views::duration::ago;
use crate::views::item_state::state_at;
use crate::views::late::Due;
use crate::views::suspension::Suspension;
use oaat_api::reasons::ready;
use oaat_api::validate::{ItemRules, Recurrence, ValidatedGroup, suspended};
use oaat_api::{ItemState, ItemStatus, OaatGroup, OaatGroupStatus, Timestamp, condition, windows};

/// The source of the built-in policy.
const BUILT_IN: &str = "default";
/// The reasons for which a group is not ready because of some of its items. The other items have
/// their own causes.
const OF_SOME_ITEMS: [&str; 2] = [ready::QUOTA_EXCEEDED, ready::ITEMS_GIVEN_UP];

impl Explainer<'_> {
    /// Returns the first cause, in the order in which the operator checks them.
    pub(super) fn cause(&self, name: &str) -> Cause {
        let (status, now) = (&self.status, self.now);
        let valid = match &self.valid {
            Ok(valid) => valid,
            Err(problem) => return Cause::new(Rule::SpecInvalid, problem),
        };
        let Some(item) = status.items.get(name) else {
            let because = "the operator has not reconciled the group since the item was added; if \
                           this takes longer than a minute, run kubectl oaat doctor";
            return Cause::new(Rule::NotReconciled, because);
        };
        if let Some(current) = status.current.as_ref().filter(|c| c.item == name) {
            let because = format!(
                "run {} in pod {} started {}",
                current.run,
                current.pod_name,
                ago(current.claimed, now)
            );
            return Cause::new(Rule::None, because).until(expected_end(status, now));
        }
        if let Some(since) = item.missing_since {
            let because = format!("its source has not listed it since {}", since.seconds());
            return Cause::new(Rule::ItemsFrom, because);
        }
        let ahead = self.ahead.get(name).copied();
        if let Some(cause) = group_cause(self.group, status, valid, ahead.is_some(), now) {
            return cause;
        }
        let rules = valid.rules(name);
        if rules.suspended {
            return Cause::new(Rule::ItemSuspended, "itemOptions suspends it");
        }
        if let Some(ahead) = ahead {
            return requested_hold(status, valid, name, item, now)
                .unwrap_or_else(|| requested(status, ahead, now));
        }
        let cause = item_cause(status, rules, item, now);
        // A blackout that is open when the item is due delays it.
        let next = cause
            .next
            .map(|at| windows::blackout(&valid.windows, at).map_or(at, |blackout| blackout.until));
        cause.until(next)
    }
}

/// Returns why nothing of the group may start, except for a run in progress. `is_requested` is true
/// for an item that is requested to run now.
fn group_cause(
    group: &OaatGroup,
    status: &OaatGroupStatus,
    valid: &ValidatedGroup,
    is_requested: bool,
    now: Timestamp,
) -> Option<Cause> {
    if let Some(why) = suspended(group) {
        let by = Suspension::of(group).map(|suspension| suspension.describe());
        let because = format!("the group is {}; {why}", by.unwrap_or_default());
        return Some(Cause::new(Rule::GroupSuspended, because));
    }
    if let Some(blackout) = windows::blackout(&valid.windows, now) {
        let until = (!blackout.endless).then_some(blackout.until);
        return Some(Cause::new(Rule::BlackoutWindows, blackout.to_string()).until(until));
    }
    // While an item runs, the condition describes it.
    let condition = condition(&status.conditions, ready::TYPE)
        .filter(|ready| ready.status == "False" && status.current.is_none())
        .filter(|ready| !OF_SOME_ITEMS.contains(&ready.reason.as_str()))
        // The operator starts requested items without the policy.
        .filter(|ready| !is_requested || ready.reason != ready::POLICY_NOT_READY)?;
    let until = status.rejected.as_ref().map(|rejected| rejected.until);
    let because = format!("{}: {}", condition.reason, condition.message);
    Some(Cause::new(Rule::GroupNotReady, because).until(until.filter(|until| *until > now)))
}

/// Returns why the item itself does not start.
fn item_cause(
    status: &OaatGroupStatus,
    rules: &ItemRules,
    item: &ItemStatus,
    now: Timestamp,
) -> Cause {
    let message = item.message.as_deref();
    match state_at(item, now) {
        ItemState::GivenUp => {
            let failures = match item.failures {
                Some(1) => "1 failure".to_owned(),
                failures => format!("{} failures in a row", failures.unwrap_or(0)),
            };
            let latest = message.unwrap_or("failed");
            let because =
                format!("gave up after {failures}; to try again, use kubectl oaat run: {latest}");
            Cause::new(Rule::MaxFailures, because)
        }
        _ if rules.recurrence == Recurrence::Once && item.last_success.is_some() => {
            Cause::new(Rule::EachOnce, succeeded(item, now))
        }
        ItemState::Fresh => fresh(status, rules, item, now),
        ItemState::Cooling => {
            let because = message.unwrap_or("it failed recently and is cooling off");
            Cause::new(of_policy(status, Rule::FailureCoolOff), because).until(item.next)
        }
        ItemState::Deferred => {
            let because = message.unwrap_or("the policy defers it");
            Cause::new(Rule::Policy, because).until(item.next)
        }
        ItemState::Held => {
            let because = message.unwrap_or("the operator holds it");
            Cause::new(Rule::Hold, because).until(item.next)
        }
        ItemState::Ready | ItemState::Running => due(status, now),
    }
}

/// Returns `rule` if the built-in policy decided last. Other policies may ignore the rule.
fn of_policy(status: &OaatGroupStatus, rule: Rule) -> Rule {
    let policy = status.policy.as_ref();
    match policy {
        Some(policy) if policy.source != BUILT_IN => Rule::Policy,
        _ => rule,
    }
}

/// Explains a fresh item. The operator omits the message if the other fields already show it.
fn fresh(status: &OaatGroupStatus, rules: &ItemRules, item: &ItemStatus, now: Timestamp) -> Cause {
    let (rule, again) = match &rules.recurrence {
        Recurrence::Once => (Rule::EachOnce, String::new()),
        Recurrence::Frequency(frequency) => (
            Rule::Frequency,
            format!(
                ", and its frequency is {}",
                humantime::format_duration(*frequency)
            ),
        ),
        Recurrence::Schedule(_) => (
            Rule::Schedule,
            ", and no time of its schedule has passed since".to_owned(),
        ),
    };
    let computed = match Due::of(rules, item) {
        Due::At { at, .. } => Some(at),
        Due::AtOnce | Due::Never => None,
    };
    let because = match &item.message {
        Some(message) => message.clone(),
        None => format!("{}{again}", succeeded(item, now)),
    };
    Cause::new(of_policy(status, rule), because).until(item.next.or(computed))
}

fn succeeded(item: &ItemStatus, now: Timestamp) -> String {
    match item.last_success {
        Some(at) => format!("it succeeded {} ({})", ago(at, now), at.seconds()),
        None => "it is not due".to_owned(),
    }
}

/// Explains an item that is due.
fn due(status: &OaatGroupStatus, now: Timestamp) -> Cause {
    if let Some(pause) = pause(status, now) {
        return pause;
    }
    let Some(current) = &status.current else {
        let because = "it is due, and nothing of the group runs; the operator starts items in the \
                       order of the policy";
        return Cause::new(Rule::Policy, because);
    };
    let because = format!("it is due, but {}", one_at_a_time(current, now));
    Cause::new(Rule::OneAtATime, because).until(expected_end(status, now))
}
