//! Forecasts: the simulation of a live group, from its status and its measured durations.

use super::axis::format_exact;
use super::fields::{Probability, RunDuration};
use super::metrics::Metrics;
use super::scenario::{Item, ItemPast, Past, Scenario};
use super::simulator::{History, simulate_until};
use super::{svg, timeline};
use crate::views::{PolicyInEffect, counted};
use oaat_api::run_now;
use oaat_api::validate::{Recurrence, ValidatedGroup, summary, suspended, validate};
use oaat_api::{ItemState, ItemStatus, OaatGroup, OaatGroupStatus, RunResult, Timestamp};
use policy_host::{Outcome, Policy};
use serde::Serialize;
use std::time::Duration;

/// How long a run is assumed to take if no item of the group has succeeded yet.
const UNKNOWN_DURATION: Duration = Duration::from_secs(60);
/// The operator's default for the minimum time between two starts of an item.
const RETRY_FLOOR: u64 = 10_000;
/// The maximum number of starts in the text.
const MAX_STARTS: usize = 50;

/// A simulated future of a group.
pub(crate) struct Forecast {
    scenario: Scenario,
    history: History,
    metrics: Metrics,
    digest: String,
    notes: Vec<String>,
}

/// What a forecast shows. Times are RFC 3339 in JSON.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ForecastView {
    pub group: String,
    pub namespace: String,
    /// The sha256 of the policy.
    pub policy: String,
    pub from: Timestamp,
    pub to: Timestamp,
    /// What the forecast assumes.
    pub assumptions: Vec<String>,
    pub starts: Vec<StartView>,
    /// The items that are late at some time.
    pub late: Vec<LateView>,
    /// The items that wait longer than three times their frequency, or never start.
    pub starved: Vec<String>,
}

/// A start in the future.
#[derive(Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "camelCase")]
pub(crate) struct StartView {
    pub at: Timestamp,
    pub item: String,
    pub expected_seconds: u64,
    /// Why the policy selects it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// An item that is late.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LateView {
    pub item: String,
    /// Its maximum lateness in seconds.
    pub seconds: u64,
}

impl Forecast {
    /// Simulates a group from now on, until `stop` returns a reason to stop. `listed` contains the items
    /// in effect.
    ///
    /// # Errors
    /// Returns an error if the spec of the group is invalid, if the policy rejects its settings or makes
    /// no decisions, or if the simulation is stopped.
    pub fn new(
        group: &OaatGroup,
        listed: &[String],
        policy: &Policy,
        now: Timestamp,
        length: Duration,
        stop: impl FnMut(Timestamp) -> Option<String>,
    ) -> Result<Self, String> {
        let (scenario, notes) = scenario(group, listed, now, length)?;
        let validation = policy.validate(&scenario.settings, &scenario.item_settings());
        validation
            .answer
            .map_err(|error| error.settings_problem())?;
        let history = simulate_until(&scenario, |request| policy.evaluate(request), stop);
        if let Some(why) = &history.cut_short {
            return Err(why.clone());
        }
        Ok(Self {
            metrics: Metrics::of(&scenario, &history),
            digest: policy.digest().to_owned(),
            scenario,
            history,
            notes,
        })
    }

    /// Returns what the forecast shows.
    pub fn view(&self) -> ForecastView {
        let group = self.scenario.past.group.clone().unwrap_or_default();
        let starts = self.history.runs.iter().map(|run| StartView {
            at: Timestamp(run.started),
            item: self.scenario.items[run.item].name.clone(),
            expected_seconds: run.finished.abs_diff(run.started) / 1000,
            note: run.note.clone(),
        });
        let mut late: Vec<_> = self
            .metrics
            .items
            .iter()
            .filter(|i| i.late_max_ms >= 1000)
            .collect();
        late.sort_by_key(|item| std::cmp::Reverse(item.late_max_ms));
        let starved = self.metrics.items.iter().filter(|item| item.starved);
        ForecastView {
            namespace: group.0,
            group: group.1,
            policy: self.digest.clone(),
            from: Timestamp(self.scenario.start),
            to: Timestamp(self.scenario.end),
            assumptions: self.notes.clone(),
            starts: starts.collect(),
            late: late
                .iter()
                .map(|item| LateView {
                    item: item.name.clone(),
                    seconds: item.late_max_ms / 1000,
                })
                .collect(),
            starved: starved.map(|item| item.name.clone()).collect(),
        }
    }

    /// Draws the forecast.
    pub fn svg(&self) -> String {
        let view = self.view();
        let title = format!("Forecast of {} in {}", view.group, view.namespace);
        let heading = svg::Heading::new(
            title,
            &self.digest,
            &self.scenario,
            &self.history,
            &self.metrics,
        );
        svg::draw(&heading, &self.scenario, &self.history, &self.metrics)
    }

    /// Formats the forecast for a terminal of this width.
    pub fn text(&self, width: usize) -> String {
        let view = self.view();
        let brief = |seconds: u64| super::axis::format_brief(seconds * 1000);
        let mut text = format!(
            "{} in {}, {} to {}\n",
            view.group,
            view.namespace,
            format_exact(view.from.0),
            format_exact(view.to.0)
        );
        for assumption in &view.assumptions {
            text.push_str(&format!("assumes that {assumption}\n"));
        }
        text.push('\n');
        text.push_str(&timeline::timeline(
            &self.scenario,
            &self.history,
            &self.metrics,
            width,
        ));
        text.push('\n');
        for start in view.starts.iter().take(MAX_STARTS) {
            let note = start.note.as_ref().map(|note| format!(" ({note})"));
            text.push_str(&format!(
                "{}  {} for {}{}\n",
                format_exact(start.at.0),
                start.item,
                brief(start.expected_seconds),
                note.unwrap_or_default()
            ));
        }
        match view.starts.len() {
            0 => text.push_str("nothing starts\n"),
            n if n > MAX_STARTS => text.push_str(&format!("and {} more starts\n", n - MAX_STARTS)),
            _ => {}
        }
        for late in &view.late {
            text.push_str(&format!(
                "late: {} by up to {}\n",
                late.item,
                brief(late.seconds)
            ));
        }
        for item in &view.starved {
            text.push_str(&format!("starves: {item}\n"));
        }
        text
    }
}

/// Returns the scenario of a live group, and what it assumes.
fn scenario(
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::test_groups::{NOW, backup, group, time, with_accepted_settings};
    use oaat_api::BuiltInPolicy;
    use policy_host::{Host, Limits};
    use serde_json::json;

    fn forecast(group: &OaatGroup, hours: u64) -> Forecast {
        forecast_with(built_in_policies::DEFAULT_POLICY, group, hours)
    }

    fn forecast_with(component: &[u8], group: &OaatGroup, hours: u64) -> Forecast {
        let host = Host::new(Limits::default()).unwrap();
        let policy = host.load(component, None).unwrap();
        let length = Duration::from_secs(hours * 3600);
        let listed = group.spec.oaat_items.clone();
        Forecast::new(group, &listed, &policy, NOW, length, |_| None).unwrap()
    }

    fn starts(forecast: &Forecast) -> Vec<(String, String)> {
        let starts = forecast.view().starts.into_iter();
        starts
            .map(|start| (start.item, start.at.to_string()))
            .collect()
    }

    #[test]
    fn live_group_continues_from_its_status() {
        let forecast = forecast(&backup(), 2);
        let view = forecast.view();
        // photos runs since 11:55 and takes 90 seconds, so it ends now.
        assert_eq!(view.from, NOW);
        assert_eq!(
            view.assumptions,
            [
                "photos ends at 2026-03-02T12:00:00Z",
                "the durations of 4 items are unknown, and each run of them takes 1m 30s",
                "all runs succeed",
            ]
        );
        let expected = [
            // It is the only one that is due and not cooling off.
            ("late", "2026-03-02T12:00:00Z"),
            ("broken", "2026-03-02T12:10:00Z"),
            ("mail", "2026-03-02T12:30:00Z"),
            ("photos", "2026-03-02T13:00:00Z"),
            ("late", "2026-03-02T13:01:30Z"),
            ("broken", "2026-03-02T13:11:30Z"),
            ("mail", "2026-03-02T13:31:30Z"),
        ]
        .map(|(item, at)| (item.to_owned(), at.to_owned()));
        assert_eq!(starts(&forecast), expected);
        // The suspended item is neither late nor starved.
        let late: Vec<_> = view
            .late
            .iter()
            .map(|late| (late.item.as_str(), late.seconds))
            .collect();
        assert_eq!(late, [("late", 900), ("broken", 600)]);
        assert_eq!(view.starved, [""; 0]);
        let text = forecast.text(80);
        for words in [
            "backup in media, 2026-03-02T12:00:00Z to 2026-03-02T14:00:00Z",
            "assumes that all runs succeed",
            "2026-03-02T12:30:00Z  mail for 1m",
            "late: late by up to 15m",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        let svg = forecast.svg();
        assert!(roxmltree::Document::parse(&svg).is_ok(), "{svg}");
        assert!(svg.contains("Forecast of backup in media"), "{svg}");
    }

    #[test]
    fn settings_that_the_policy_accepted_last_decide() {
        let backoff = built_in_policies::component(BuiltInPolicy::Backoff);
        let forecast = forecast_with(backoff, &with_accepted_settings(), 1);
        let assumption = &forecast.view().assumptions[0];
        assert!(assumption.starts_with("backoff decides with the settings that it accepted"));
        let text = forecast.text(80);
        assert!(
            text.contains(&format!("assumes that {assumption}\n")),
            "{text}"
        );
        // It failed 3 times, last at 11:50, and the accepted `base` is 10 minutes.
        let broken = ("broken".to_owned(), "2026-03-02T12:30:00Z".to_owned());
        assert!(
            starts(&forecast).contains(&broken),
            "{:?}",
            starts(&forecast)
        );
    }

    #[test]
    fn schedules_and_windows_are_simulated() {
        let spec = json!({
            "oaatType": "t", "oaatItems": ["a", "b"], "schedule": { "cron": "0 13,15 * * *" },
            "itemOptions": { "b": { "frequency": "30m" } },
            "blackoutWindows": [{ "name": "lunch", "schedule": "0 13 * * *", "duration": "1h" }],
        });
        let success = json!({ "lastSuccess": "2026-03-02T11:59:00Z", "durations": [60] });
        let group = group(&spec, &json!({ "items": { "a": success, "b": success } }));
        let expected = [
            ("b", "2026-03-02T12:29:00Z"),
            // Due at 13:00, in the window.
            ("a", "2026-03-02T14:00:00Z"),
            ("b", "2026-03-02T14:01:00Z"),
            ("b", "2026-03-02T14:32:00Z"),
            ("a", "2026-03-02T15:00:00Z"),
            ("b", "2026-03-02T15:03:00Z"),
            ("b", "2026-03-02T15:34:00Z"),
        ]
        .map(|(item, at)| (item.to_owned(), at.to_owned()));
        assert_eq!(starts(&forecast(&group, 4)), expected);
    }

    #[test]
    fn group_without_a_status_starts_with_unknown_durations() {
        let spec =
            json!({ "oaatType": "t", "oaatItems": ["a"], "eachOnce": true, "suspend": true });
        let forecast = forecast(&group(&spec, &json!({})), 1);
        let view = forecast.view();
        assert_eq!(view.starts.len(), 1, "{view:?}");
        assert_eq!(view.starts[0].at, time("2026-03-02T12:00:00Z"));
        assert_eq!(view.assumptions[0], "the group is resumed now");
        assert_eq!(
            view.assumptions[1],
            "the durations of 1 item are unknown, and each run of them takes 1m"
        );
    }

    #[test]
    fn requested_item_starts_first_and_runs_fit_before_a_window() {
        let spec = json!({
            "oaatType": "t", "oaatItems": ["a", "b", "c", "off"], "frequency": "1d",
            "itemOptions": { "off": { "suspend": true } },
            "blackoutWindows": [
                { "schedule": "10 12 * * *", "duration": "1h", "startIfFits": true },
            ],
        });
        let status = json!({ "items": {
            // Takes up to 20 minutes, so it does not fit before 12:10.
            "a": { "lastSuccess": "2026-03-01T11:00:00Z", "durations": [60, 1200, 60] },
            "b": { "lastSuccess": "2026-03-01T12:00:00Z", "durations": [120] },
            "c": { "lastSuccess": "2026-03-02T11:00:00Z", "durations": [60] },
        } });
        let mut group = group(&spec, &status);
        let request = r#"{"token": "t", "items": ["off", "c"]}"#;
        let annotations = [(run_now::ANNOTATION.to_owned(), request.to_owned())];
        group.metadata.annotations = Some(annotations.into());
        let forecast = forecast(&group, 3);
        let expected = [
            ("c", "2026-03-02T12:00:00Z"),
            ("b", "2026-03-02T12:01:00Z"),
            ("a", "2026-03-02T13:10:00Z"),
        ]
        .map(|(item, at)| (item.to_owned(), at.to_owned()));
        assert_eq!(starts(&forecast), expected);
        let note = forecast.view().starts[0].note.clone();
        assert_eq!(note.as_deref(), Some("requested to run now"));
    }
}
