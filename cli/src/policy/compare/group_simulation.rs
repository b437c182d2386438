//! Simulates a group with each policy from its last recorded decision.

use super::side::Side;
use super::tally::GroupTally;
use crate::policy::simulate::{
    CutShort, History, ItemMetrics, Metrics, Scenario, scenario_of, simulate,
};
use oaat_api::Timestamp;
use policy_host::{Duration, Request};
use serde::Serialize;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;

/// The simulations of a group with A and with B.
pub(crate) struct GroupSimulation {
    /// What the simulations assume, one sentence each.
    pub assumptions: Vec<String>,
    pub scenario: Scenario,
    pub sides: [Simulated; 2],
}

/// The simulation of a group with one policy.
pub(crate) struct Simulated {
    pub history: History,
    pub metrics: Metrics,
}

/// Whether the simulations with A and with B are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Agreement {
    /// They start the same items at the same times, and both are complete or reach the limit of
    /// decisions at the same time.
    Agree,
    /// The starts differ, or the number of failed decisions, or only one simulation ended early.
    Differ,
    /// They start the same items at the same times, but both policies failed, or both simulations
    /// ended early for another reason.
    Incomplete,
}

/// The metrics of all items of a group. Durations are in milliseconds.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Totals {
    pub runs: usize,
    pub failed: usize,
    /// The number of evaluations without a decision.
    pub failed_decisions: u64,
    pub idle_ms: u64,
    pub late_mean_ms: u64,
    pub late_max_ms: u64,
    pub longest_gap_ms: u64,
    pub longest_wait_ms: u64,
    pub starved: usize,
}

impl GroupSimulation {
    /// Simulates a group with both policies. Calls `on_progress` with the share of the scenario that
    /// both simulations have completed.
    ///
    /// # Errors
    /// Returns why the group cannot be simulated.
    pub fn new(
        group: &GroupTally,
        sides: &[Side; 2],
        length: Duration,
        on_progress: impl Fn(f64) + Sync,
    ) -> Result<Self, String> {
        let last = group.last.as_ref().ok_or("it has no readable request")?;
        let runs = group.runs.iter().map(|(_, run)| run);
        let (scenario, assumptions) = scenario_of(&last.request, runs, length)?;
        let item_settings = scenario.item_settings();
        for (side, name) in sides.iter().zip(["A", "B"]) {
            side.validate(side.settings(&scenario.settings), &item_settings)
                .map_err(|error| format!("{name} makes no decision: {error}"))?;
        }
        let reached = [scenario.start; 2].map(AtomicI64::new);
        let run = |index: usize| {
            let result = Simulated::new(&sides[index], &scenario, |now| {
                reached[index].store(now.0, Relaxed);
                let [a, b] = reached.each_ref().map(|reached| reached.load(Relaxed));
                on_progress(scenario.elapsed_share(a.min(b)));
            });
            reached[index].store(scenario.end, Relaxed);
            result
        };
        let sides = std::thread::scope(|scope| {
            let a = scope.spawn(|| run(0));
            let b = run(1);
            let a = a.join().map_err(|_| "the simulation panicked".to_owned());
            a.map(|a| [a, b])
        })?;
        Ok(Self {
            assumptions,
            scenario,
            sides,
        })
    }

    /// Compares the simulations.
    pub fn agreement(&self) -> Agreement {
        let [a, b] = self.sides.each_ref().map(|side| &side.history);
        let starts = |history: &History| {
            let runs = history.runs.iter();
            runs.map(|run| (run.item, run.started)).collect::<Vec<_>>()
        };
        let problems = |history: &History| (history.errors, history.cut_short.is_some());
        if starts(a) != starts(b) || problems(a) != problems(b) {
            Agreement::Differ
        } else if a.errors == 0 && (a.cut_short.is_none() || self.shared_decision_limit().is_some())
        {
            Agreement::Agree
        } else {
            Agreement::Incomplete
        }
    }

    /// Returns the decision limit if both simulations reached it at the same time.
    pub fn shared_decision_limit(&self) -> Option<u64> {
        let [a, b] = self.sides.each_ref().map(|side| &side.history);
        let same = a.end == b.end && a.cut_short == b.cut_short;
        match a.cut_short {
            Some(CutShort::DecisionLimit(limit)) if same => Some(limit),
            _ => None,
        }
    }

    /// Returns the items with different metrics, those with the largest differences first.
    pub fn different_items(&self) -> Vec<[&ItemMetrics; 2]> {
        let [a, b] = &self.sides;
        let pairs = a.metrics.items.iter().zip(&b.metrics.items);
        let mut pairs: Vec<_> = pairs.map(|(a, b)| [a, b]).collect();
        pairs.retain(|pair| distance(pair) > 0);
        pairs.sort_by_key(|pair| std::cmp::Reverse(distance(pair)));
        pairs
    }
}

/// Returns how much the metrics of an item differ, in milliseconds.
fn distance([a, b]: &[&ItemMetrics; 2]) -> u64 {
    let runs = u64::from(a.runs != b.runs || a.failed != b.failed);
    let late = a.late_max_ms.abs_diff(b.late_max_ms);
    let gap = a.longest_gap_ms.abs_diff(b.longest_gap_ms);
    runs.saturating_add(late).saturating_add(gap)
}

impl Simulated {
    /// Simulates a scenario. Calls `on_decision` with the simulated time before each decision.
    fn new(side: &Side, scenario: &Scenario, on_decision: impl FnMut(Timestamp)) -> Self {
        let scenario = Scenario {
            settings: side.settings(&scenario.settings).to_owned(),
            ..scenario.clone()
        };
        let decide = |request: &Request| side.policy.evaluate(request);
        let history = simulate(&scenario, decide, on_decision);
        let metrics = Metrics::of(&scenario, &history);
        Self { history, metrics }
    }

    /// Returns the metrics of all items.
    pub fn totals(&self) -> Totals {
        let items = &self.metrics.items;
        let max = |of: fn(&ItemMetrics) -> u64| items.iter().map(of).max().unwrap_or(0);
        let late: u128 = items.iter().map(|item| u128::from(item.late_mean_ms)).sum();
        let late_mean = late / (items.len() as u128).max(1);
        Totals {
            runs: items.iter().map(|item| item.runs).sum(),
            failed: items.iter().map(|item| item.failed).sum(),
            failed_decisions: self.history.errors,
            idle_ms: self.metrics.idle_ms,
            late_mean_ms: u64::try_from(late_mean).unwrap_or(u64::MAX),
            late_max_ms: max(|item| item.late_max_ms),
            longest_gap_ms: max(|item| item.longest_gap_ms),
            longest_wait_ms: max(|item| item.longest_wait_ms),
            starved: items.iter().filter(|item| item.starved).count(),
        }
    }
}
