//! Why an item does not run now, and when it may run next.

use super::count::counted;
use super::duration::{ago, from_now};
use super::late::Due;
use super::suspension::Suspension;
use oaat_api::reasons::ready;
use oaat_api::run_now;
use oaat_api::text::{self, clean};
use oaat_api::validate::{ItemRules, Recurrence, ValidatedGroup, summary, suspended, validate};
use oaat_api::{
    CurrentRun, ItemState, ItemStatus, OaatGroup, OaatGroupStatus, Timestamp, condition, windows,
};
use serde::Serialize;
use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

/// The source of the built-in policy.
const BUILT_IN: &str = "default";
/// The operator's default for the minimum time between two starts of an item.
const RETRY_FLOOR: Duration = Duration::from_secs(10);

/// The reasons for which a group is not ready because of some of its items. The other items have
/// their own causes.
const OF_SOME_ITEMS: [&str; 2] = [ready::QUOTA_EXCEEDED, ready::ITEMS_GIVEN_UP];

/// What decides that an item does not run now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Rule {
    /// Nothing: it runs.
    None,
    /// The operator has not reconciled the item yet.
    NotReconciled,
    /// A field of the group is invalid.
    SpecInvalid,
    /// `spec.suspend` or the annotation `pause_new_jobs`.
    GroupSuspended,
    /// `itemOptions` suspends the item.
    ItemSuspended,
    /// A window is open, or opens before the item would finish.
    BlackoutWindows,
    /// The condition `Ready` of the group is false.
    GroupNotReady,
    /// The item is missing from its source.
    ItemsFrom,
    /// Another item of the group runs.
    OneAtATime,
    /// A user requested it to run now, and it starts in the order of the request.
    RunNow,
    /// It succeeded within its `frequency`.
    Frequency,
    /// It succeeded since the latest time of its `schedule`.
    Schedule,
    /// It has succeeded once.
    EachOnce,
    /// It failed recently.
    FailureCoolOff,
    /// It failed too often.
    MaxFailures,
    /// The operator holds it.
    Hold,
    /// The policy decides the order, or defers it.
    Policy,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::NotReconciled => "not reconciled yet",
            Self::SpecInvalid => "an invalid spec",
            Self::GroupSuspended => "suspend",
            Self::ItemSuspended => "suspend in itemOptions",
            Self::BlackoutWindows => "blackoutWindows",
            Self::GroupNotReady => "condition Ready",
            Self::ItemsFrom => "itemsFrom",
            Self::OneAtATime => "one item at a time",
            Self::RunNow => "run-now",
            Self::Frequency => "frequency",
            Self::Schedule => "schedule",
            Self::EachOnce => "eachOnce",
            Self::FailureCoolOff => "failureCoolOff",
            Self::MaxFailures => "maxFailures",
            Self::Hold => "held by the operator",
            Self::Policy => "policy",
        })
    }
}

/// Why an item does not run now.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Why {
    pub namespace: String,
    pub group: String,
    pub item: String,
    pub running: bool,
    pub rule: Rule,
    /// A sentence without its end.
    pub because: String,
    /// When the item may start, or when its state changes, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<Timestamp>,
    /// More that matters for the next start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A rule, its explanation, and when it ends.
struct Cause {
    rule: Rule,
    because: String,
    next: Option<Timestamp>,
}

impl Cause {
    fn new(rule: Rule, because: impl Into<String>) -> Self {
        Self {
            rule,
            because: because.into(),
            next: None,
        }
    }

    fn until(self, next: Option<Timestamp>) -> Self {
        Self { next, ..self }
    }
}

/// Explains why an item does not run now. `listed` contains the items in effect.
pub(crate) fn why(group: &OaatGroup, listed: &[String], item: &str, now: Timestamp) -> Why {
    Explainer::new(group, listed, now).why(item)
}

/// Explains the items of a group. What their explanations share is computed once.
pub(crate) struct Explainer<'a> {
    group: &'a OaatGroup,
    status: OaatGroupStatus,
    /// The validated spec, or what is wrong with it.
    valid: Result<ValidatedGroup, String>,
    /// The items that are requested to run now, each with the number of items that may start before
    /// it.
    ahead: HashMap<String, usize>,
    now: Timestamp,
}

impl<'a> Explainer<'a> {
    /// `listed` contains the items in effect.
    pub fn new(group: &'a OaatGroup, listed: &[String], now: Timestamp) -> Self {
        let status = group.status.clone().unwrap_or_default();
        let valid = validate(&group.spec).map_err(|errors| summary(&errors));
        Self {
            ahead: ahead(group, &status, listed, valid.as_ref().ok()),
            group,
            status,
            valid,
            now,
        }
    }

    /// Explains why an item does not run now.
    pub fn why(&self, item: &str) -> Why {
        let Self {
            group, status, now, ..
        } = self;
        let cause = self.cause(item);
        Why {
            namespace: group.metadata.namespace.clone().unwrap_or_default(),
            group: group.metadata.name.clone().unwrap_or_default(),
            item: item.to_owned(),
            running: status.current.as_ref().is_some_and(|c| c.item == item),
            rule: cause.rule,
            because: clean(&cause.because, text::CONDITION),
            next: cause.next,
            notes: notes(
                status,
                self.valid.as_ref().ok(),
                item,
                self.ahead.get(item).copied(),
                *now,
            ),
        }
    }

    /// Returns the first cause, in the order in which the operator checks them.
    fn cause(&self, name: &str) -> Cause {
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

/// Returns the items that are requested to run now, each with the number of requested items that may
/// start before it.
fn ahead(
    group: &OaatGroup,
    status: &OaatGroupStatus,
    listed: &[String],
    valid: Option<&ValidatedGroup>,
) -> HashMap<String, usize> {
    let mut count = 0;
    let requested = run_now::unstarted(group, listed).into_iter().map(|name| {
        let before = count;
        let item = status.items.get(&name);
        let is_suspended = valid.is_some_and(|valid| valid.rules(&name).suspended);
        if item.is_some_and(|item| item.missing_since.is_none()) && !is_suspended {
            count += 1;
        }
        (name, before)
    });
    requested.collect()
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

/// Returns the pause of a group whose latest pod was rejected. It delays all items.
fn pause(status: &OaatGroupStatus, now: Timestamp) -> Option<Cause> {
    let rejected = status.rejected.as_ref().filter(|r| now < r.until)?;
    let because = format!(
        "the group creates no pod until {}: {}",
        rejected.until.seconds(),
        rejected.message
    );
    Some(Cause::new(Rule::GroupNotReady, because).until(Some(rejected.until)))
}

/// Returns why the operator holds an item that is requested to run now. A request ignores the
/// frequency, the schedule, `failureCoolOff`, `maxFailures`, `eachOnce`, and the policy.
fn requested_hold(
    status: &OaatGroupStatus,
    valid: &ValidatedGroup,
    name: &str,
    item: &ItemStatus,
    now: Timestamp,
) -> Option<Cause> {
    if let Some(pause) = pause(status, now) {
        return Some(pause);
    }
    // While another item runs, the state may be outdated. Only a hold because of the OaatType has no
    // end.
    let is_held = item.state == ItemState::Held;
    if is_held && item.next.map_or(status.current.is_none(), |end| now < end) {
        let because = item.message.as_deref().unwrap_or("the operator holds it");
        return Some(Cause::new(Rule::Hold, because).until(item.next));
    }
    if let Some(until) = retry_floor(valid.rules(name), item, now) {
        let because = "it started recently, and --retry-floor of the operator (10s by default) is \
                       the minimum time between two starts of an item";
        return Some(Cause::new(Rule::Hold, because).until(Some(until)));
    }
    let rejected = status.rejected.as_ref().filter(|r| r.quota);
    if rejected.is_some_and(|r| r.items.iter().any(|rejected| rejected == name)) {
        let because = "its pod did not fit into a ResourceQuota; the operator retries";
        return Some(Cause::new(Rule::Hold, because));
    }
    before_blackout(valid, item, now)
}

/// Returns until when the retry floor holds an item, if it does.
fn retry_floor(rules: &ItemRules, item: &ItemStatus, now: Timestamp) -> Option<Timestamp> {
    let succeeded = item.failures.unwrap_or(0) == 0 && item.last_success.is_some();
    let is_due_sooner = match rules.recurrence {
        Recurrence::Frequency(frequency) => frequency < RETRY_FLOOR,
        Recurrence::Once | Recurrence::Schedule(_) => false,
    };
    let until = item.last_started?.plus(RETRY_FLOOR);
    (now < until && !(succeeded && is_due_sooner)).then_some(until)
}

/// Explains an item that would not finish before a window with `startIfFits` opens.
fn before_blackout(valid: &ValidatedGroup, item: &ItemStatus, now: Timestamp) -> Option<Cause> {
    let opens = windows::next(valid.windows.iter().filter(|window| window.fits), now)?;
    let longest = u64::try_from(*item.durations.iter().max()?).ok()?;
    if now.plus(Duration::from_secs(longest)) <= opens {
        return None;
    }
    let because = format!(
        "it takes up to {}, and would not finish before a blackout opens at {}",
        super::short(Duration::from_secs(longest)),
        opens.seconds()
    );
    let ends = windows::blackout(&valid.windows, opens).filter(|blackout| !blackout.endless);
    Some(Cause::new(Rule::BlackoutWindows, because).until(ends.map(|blackout| blackout.until)))
}

/// Explains an item that is requested to run now, and that the operator does not hold.
fn requested(status: &OaatGroupStatus, ahead: usize, now: Timestamp) -> Cause {
    if let Some(current) = &status.current {
        // Without other requested items, it starts when the run ends.
        let next = expected_end(status, now).filter(|_| ahead == 0);
        return Cause::new(Rule::OneAtATime, one_at_a_time(current, now)).until(next);
    }
    let because = match ahead {
        0 => "it is requested to run now, and the operator starts it next",
        _ => "requested items start in the order of the request",
    };
    Cause::new(Rule::RunNow, because)
}

/// Says that another item runs.
fn one_at_a_time(current: &CurrentRun, now: Timestamp) -> String {
    format!(
        "{} runs (run {}, started {}), and a group runs one item at a time",
        text::name(&current.item),
        current.run,
        ago(current.claimed, now)
    )
}

/// Returns why the item itself does not start.
fn item_cause(
    status: &OaatGroupStatus,
    rules: &ItemRules,
    item: &ItemStatus,
    now: Timestamp,
) -> Cause {
    // The states are those of the latest decision. While another item runs, the time at which they
    // change may pass.
    let has_ended = item.next.is_some_and(|next| next <= now);
    let message = item.message.as_deref();
    match item.state {
        ItemState::GivenUp => Cause::new(
            Rule::MaxFailures,
            message.unwrap_or("it failed maxFailures times in a row"),
        ),
        _ if rules.recurrence == Recurrence::Once && item.last_success.is_some() => {
            Cause::new(Rule::EachOnce, succeeded(item, now))
        }
        ItemState::Fresh if !has_ended => fresh(status, rules, item, now),
        ItemState::Cooling if !has_ended => {
            let because = message.unwrap_or("it failed recently and is cooling off");
            Cause::new(of_policy(status, Rule::FailureCoolOff), because).until(item.next)
        }
        ItemState::Deferred if !has_ended => {
            let because = message.unwrap_or("the policy defers it");
            Cause::new(Rule::Policy, because).until(item.next)
        }
        ItemState::Held if !has_ended => {
            let because = message.unwrap_or("the operator holds it");
            Cause::new(Rule::Hold, because).until(item.next)
        }
        _ => due(status, now),
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

/// Returns when the run in progress ends if it takes as long as the longest of the item's last five
/// successful runs. `None` if it is unknown or has passed.
fn expected_end(status: &OaatGroupStatus, now: Timestamp) -> Option<Timestamp> {
    let current = status.current.as_ref()?;
    let durations = &status.items.get(&current.item)?.durations;
    let longest = u64::try_from(*durations.iter().max()?).ok()?;
    let end = current.runnable_since().plus(Duration::from_secs(longest));
    (end > now).then_some(end)
}

fn notes(
    status: &OaatGroupStatus,
    valid: Option<&ValidatedGroup>,
    name: &str,
    ahead: Option<usize>,
    now: Timestamp,
) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(ahead) = ahead {
        notes.push(match ahead {
            0 => "it is requested to run now".to_owned(),
            ahead => format!(
                "it is requested to run now, after {}",
                counted(ahead, "other item")
            ),
        });
    }
    if let Some(item) = status.items.get(name) {
        let late = valid.and_then(|valid| Due::of(valid.rules(name), item).lateness(now));
        if let Some(late) = late {
            let late = super::short(Duration::from_secs(late.seconds));
            notes.push(format!("it is {late} late"));
        }
    }
    let last = status.history.iter().find(|run| run.item == name);
    if let Some(run) = last {
        let message = run.message.as_ref().map(|message| format!(": {message}"));
        let note = format!(
            "its latest run, {}, ended {} with {} ({}{})",
            run.run,
            ago(run.finished, now),
            run.result,
            run.reason,
            message.unwrap_or_default()
        );
        notes.push(clean(&note, text::MESSAGE));
    }
    let decision = status.last_decision.as_ref();
    if let Some(why) = decision
        .filter(|d| d.item == name)
        .and_then(|d| d.why.as_ref())
    {
        notes.push(clean(
            &format!("the policy selected it last: {why}"),
            text::MESSAGE,
        ));
    }
    notes
}

impl Why {
    /// Formats the explanation for the terminal.
    pub fn text(&self, now: Timestamp) -> String {
        let name = text::name(&self.item);
        let state = if self.running { "runs" } else { "does not run" };
        let mut lines = vec![
            format!(
                "{name} in group {} of namespace {} {state}",
                self.group, self.namespace
            ),
            format!("  because: {}", self.because),
        ];
        if self.rule != Rule::None {
            lines.push(format!("  rule:    {}", self.rule));
        }
        if let Some(next) = self.next {
            let what = if self.running { "ends:   " } else { "next:   " };
            lines.push(format!(
                "  {what} {} ({})",
                from_now(next, now),
                next.seconds()
            ));
        }
        lines.extend(self.notes.iter().map(|note| format!("  note:    {note}")));
        format!("{}\n", lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::test_groups::{NOW, backup, group, time};
    use serde_json::json;

    fn explain(group: &OaatGroup, item: &str) -> (Rule, String, Option<String>) {
        let listed = group.spec.oaat_items.clone();
        let why = why(group, &listed, item, NOW);
        (why.rule, why.because, why.next.map(|at| at.to_string()))
    }

    #[test]
    fn each_item_has_one_rule_and_the_time_at_which_it_ends() {
        for (item, rule, because, next) in [
            (
                "photos",
                Rule::None,
                "run 7 in pod backup-photos-x started 5m ago",
                None,
            ),
            (
                "mail",
                Rule::Frequency,
                "it succeeded 30m ago (2026-03-02T11:30:00Z), and its frequency is 1h",
                Some("2026-03-02T12:30:00Z"),
            ),
            (
                "late",
                Rule::OneAtATime,
                "it is due, but photos runs (run 7, started 5m ago), and a group runs one item at \
                 a time",
                None,
            ),
            (
                "broken",
                Rule::FailureCoolOff,
                "failed 3 times since its last success (Error); cooling off until \
                 2026-03-02T12:10:00Z",
                Some("2026-03-02T12:10:00Z"),
            ),
            ("off", Rule::ItemSuspended, "itemOptions suspends it", None),
        ] {
            let expected = (rule, because.to_owned(), next.map(str::to_owned));
            assert_eq!(explain(&backup(), item), expected, "{item}");
        }
    }

    #[test]
    fn causes_of_the_group_come_first() {
        let mut suspended = backup();
        suspended.spec.suspend = true;
        suspended.metadata.annotations =
            Some([(super::super::SUSPENDED_BY.to_owned(), "alice".to_owned())].into());
        let windows = json!({ "oaatType": "t", "oaatItems": ["a"], "blackoutWindows": [
            { "name": "office", "schedule": "0 8 * * *", "duration": "10h" }
        ] });
        let spec = json!({ "oaatType": "t", "oaatItems": ["a"] });
        let status = json!({ "items": { "a": {} } });
        let not_found = json!({ "items": { "a": {} }, "conditions": [{
            "type": "Ready", "status": "False", "reason": "TypeNotFound",
            "message": "OaatType \"t\" does not exist", "lastTransitionTime": "2026-03-02T11:00:00Z",
        }] });
        let bad = json!({ "oaatType": "t", "oaatItems": ["a"], "frequency": "often" });
        let missing = json!({ "items": { "a": { "missingSince": "2026-03-02T11:00:00Z" } } });
        for (group, item, rule, words, next) in [
            (
                suspended,
                "mail",
                Rule::GroupSuspended,
                "the group is suspended by alice; spec.suspend is true",
                None,
            ),
            (
                group(&windows, &status),
                "a",
                Rule::BlackoutWindows,
                "blackout until 2026-03-02T18:00:00Z (window office)",
                Some("2026-03-02T18:00:00Z"),
            ),
            (
                group(&spec, &not_found),
                "a",
                Rule::GroupNotReady,
                "TypeNotFound: OaatType \"t\" does not exist",
                None,
            ),
            (
                group(&bad, &status),
                "a",
                Rule::SpecInvalid,
                "spec.frequency",
                None,
            ),
            (
                group(&spec, &missing),
                "a",
                Rule::ItemsFrom,
                "its source has not listed it since 2026-03-02T11:00:00Z",
                None,
            ),
            (group(&spec, &status), "a", Rule::Policy, "it is due", None),
            (
                group(&spec, &json!({})),
                "a",
                Rule::NotReconciled,
                "has not reconciled",
                None,
            ),
        ] {
            let (actual, because, at) = explain(&group, item);
            assert_eq!((actual, at.as_deref()), (rule, next), "{because}");
            assert!(because.contains(words), "{because}");
        }
    }

    #[test]
    fn states_of_the_items_decide_after_the_group() {
        let spec =
            json!({ "oaatType": "t", "oaatItems": ["a"], "schedule": { "cron": "0 2 * * *" } });
        let once = json!({ "oaatType": "t", "oaatItems": ["a"], "eachOnce": true });
        let item = |item: serde_json::Value, policy: &str| {
            json!({ "items": { "a": item }, "policy": {
                "source": policy, "digest": "d", "contract": "1.0.0",
            } })
        };
        let success = json!({ "state": "Fresh", "lastSuccess": "2026-03-02T03:00:00Z" });
        let deferred = json!({ "state": "Deferred", "message": "deferred: not on Mondays" });
        let held = json!({
            "state": "Held", "message": "held by the retry floor", "next": "2026-03-02T12:00:05Z",
        });
        let gave_up = json!({ "state": "GivenUp", "message": "failed 3 times; gave up" });
        let passed = json!({ "state": "Cooling", "next": "2026-03-02T11:59:00Z" });
        for (spec, status, rule, next) in [
            (
                &spec,
                item(success.clone(), "default"),
                Rule::Schedule,
                Some("2026-03-03T02:00:00Z"),
            ),
            (
                &spec,
                item(success.clone(), "backoff/policy.wasm"),
                Rule::Policy,
                Some("2026-03-03T02:00:00Z"),
            ),
            (&once, item(success, "default"), Rule::EachOnce, None),
            (&spec, item(deferred, "own"), Rule::Policy, None),
            (
                &spec,
                item(held, "default"),
                Rule::Hold,
                Some("2026-03-02T12:00:05Z"),
            ),
            (&spec, item(gave_up, "default"), Rule::MaxFailures, None),
            (&spec, item(passed, "default"), Rule::Policy, None),
        ] {
            let (actual, because, at) = explain(&group(spec, &status), "a");
            assert_eq!((actual, at.as_deref()), (rule, next), "{because}");
        }
    }

    #[test]
    fn requested_item_waits_only_for_what_also_holds_requests() {
        let spec = json!({ "oaatType": "t", "oaatItems": ["a", "b"], "maxFailures": 1 });
        let suspended = json!({ "oaatType": "t", "oaatItems": ["a"], "suspend": true });
        let off = json!({
            "oaatType": "t", "oaatItems": ["a"], "itemOptions": { "a": { "suspend": true } },
        });
        let fits = json!({ "oaatType": "t", "oaatItems": ["a"], "blackoutWindows": [
            { "schedule": "0 13 * * *", "duration": "10h", "startIfFits": true }
        ] });
        let item = |item: serde_json::Value| json!({ "items": { "a": item, "b": {} } });
        let not_ready = |reason: &str| {
            json!({ "items": { "a": {}, "b": {} }, "conditions": [{
                "type": "Ready", "status": "False", "reason": reason, "message": "why",
                "lastTransitionTime": "2026-03-02T11:00:00Z",
            }] })
        };
        let rejected = |until: &str| {
            json!({ "items": { "a": {} }, "rejected": {
                "count": 1, "until": until, "message": "exceeded quota", "quota": true,
                "items": ["a"],
            } })
        };
        for (spec, status, rule, next) in [
            (
                &spec,
                item(json!({ "state": "GivenUp" })),
                Rule::RunNow,
                None,
            ),
            (
                &spec,
                item(json!({ "state": "Cooling", "next": "2026-03-02T13:00:00Z" })),
                Rule::RunNow,
                None,
            ),
            (
                &spec,
                item(json!({ "state": "Fresh", "lastSuccess": "2026-03-02T11:59:00Z" })),
                Rule::RunNow,
                None,
            ),
            (
                &spec,
                item(json!({ "state": "Cooling", "lastStarted": "2026-03-02T11:59:55Z" })),
                Rule::Hold,
                Some("2026-03-02T12:00:05Z"),
            ),
            (&spec, item(json!({ "state": "Held" })), Rule::Hold, None),
            (&spec, not_ready("PolicyNotReady"), Rule::RunNow, None),
            (&spec, not_ready("QuotaExceeded"), Rule::RunNow, None),
            (&spec, not_ready("ForeignPod"), Rule::GroupNotReady, None),
            (
                &spec,
                rejected("2026-03-02T12:01:00Z"),
                Rule::GroupNotReady,
                Some("2026-03-02T12:01:00Z"),
            ),
            (&spec, rejected("2026-03-02T11:59:59Z"), Rule::Hold, None),
            (&suspended, item(json!({})), Rule::GroupSuspended, None),
            (&off, item(json!({})), Rule::ItemSuspended, None),
            (
                &fits,
                item(json!({ "durations": [3601] })),
                Rule::BlackoutWindows,
                Some("2026-03-02T23:00:00Z"),
            ),
            (
                &fits,
                item(json!({ "durations": [3600] })),
                Rule::RunNow,
                None,
            ),
        ] {
            let mut group = group(spec, &status);
            let request = r#"{"token": "t", "items": ["a"]}"#;
            group.metadata.annotations =
                Some([(run_now::ANNOTATION.to_owned(), request.to_owned())].into());
            let (actual, because, at) = explain(&group, "a");
            assert_eq!((actual, at.as_deref()), (rule, next), "{because} {status}");
        }
    }

    #[test]
    fn items_held_by_a_quota_or_given_up_do_not_explain_other_items() {
        let spec = json!({ "oaatType": "t", "oaatItems": ["due", "fresh", "cooling", "gaveUp"] });
        for (reason, rejected_until, due) in [
            ("QuotaExceeded", "2026-03-02T11:59:00Z", Rule::Policy),
            ("QuotaExceeded", "2026-03-02T12:01:00Z", Rule::GroupNotReady),
            ("ItemsGivenUp", "2026-03-02T11:59:00Z", Rule::Policy),
        ] {
            let status = json!({
                "items": {
                    "due": {},
                    "fresh": { "state": "Fresh", "lastSuccess": "2026-03-02T11:30:00Z" },
                    "cooling": { "state": "Cooling", "next": "2026-03-02T12:10:00Z" },
                    "gaveUp": { "state": "GivenUp" },
                },
                "rejected": {
                    "count": 1, "until": rejected_until, "message": "exceeded quota",
                    "quota": true, "items": ["other"],
                },
                "conditions": [{
                    "type": "Ready", "status": "False", "reason": reason, "message": "why",
                    "lastTransitionTime": "2026-03-02T11:00:00Z",
                }],
            });
            let group = group(&spec, &status);
            let rules = ["due", "fresh", "cooling", "gaveUp"].map(|item| explain(&group, item).0);
            let own = [Rule::Frequency, Rule::FailureCoolOff, Rule::MaxFailures];
            assert_eq!(rules, [due, own[0], own[1], own[2]], "{reason}");
        }
    }

    #[test]
    fn explanation_is_a_few_lines_for_the_terminal() {
        let mut group = backup();
        let request = r#"{"token": "t", "items": ["late", "broken"]}"#;
        group.metadata.annotations =
            Some([(run_now::ANNOTATION.to_owned(), request.to_owned())].into());
        let status = group.status.as_mut().unwrap();
        let run_now = json!({ "token": "t", "time": "2026-03-02T11:58:00Z" });
        status.run_now = Some(serde_json::from_value(run_now).unwrap());
        let listed = group.spec.oaat_items.clone();
        let expected = "\
broken in group backup of namespace media does not run
  because: photos runs (run 7, started 5m ago), and a group runs one item at a time
  rule:    one item at a time
  note:    it is requested to run now, after 1 other item
  note:    its latest run, 6, ended 10m ago with Failed (Error: no space [31m left)
";
        assert_eq!(why(&group, &listed, "broken", NOW).text(NOW), expected);
        let late = why(&group, &listed, "late", NOW).text(NOW);
        assert!(late.contains("note:    it is 15m late"), "{late}");
        assert!(
            late.contains("note:    it is requested to run now\n"),
            "{late}"
        );
        let status = group.status.as_mut().unwrap();
        status.items.get_mut("photos").unwrap().durations = vec![600];
        let running = why(&group, &listed, "photos", NOW);
        assert_eq!(running.next, Some(time("2026-03-02T12:05:00Z")));
        assert!(running.text(NOW).contains("ends:    in 5m"), "{running:?}");
    }
}
