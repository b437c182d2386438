//! Computes the metrics of a simulation.

use super::scenario::{Item, Scenario};
use super::simulator::{History, Run, RunOutcome};
use policy_host::Instant;
use serde::Serialize;

/// An item starves if its longest wait exceeds this multiple of its frequency.
const STARVATION_FACTOR: u64 = 3;

/// The metrics of a simulation. Durations are in milliseconds.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metrics {
    /// The fraction of the time in which an item ran.
    pub utilisation: f64,
    /// The time in which no item ran.
    pub idle_ms: u64,
    /// The number of evaluations.
    pub decisions: u64,
    /// The number of evaluations without a decision.
    pub errors: u64,
    /// The mean fuel of an evaluation.
    pub fuel_mean: u64,
    /// The maximum fuel of an evaluation.
    pub fuel_max: u64,
    /// The items, in the order of the list.
    pub items: Vec<ItemMetrics>,
}

/// The metrics of an item.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ItemMetrics {
    pub name: String,
    /// The number of starts.
    pub runs: usize,
    pub succeeded: usize,
    pub failed: usize,
    /// 1 if it was running at the end, else 0.
    pub unfinished: usize,
    /// The longest time without a success, from when it joins to the end of the simulation.
    pub longest_gap_ms: u64,
    /// The mean lateness: the time from when it is due to the start of the next run that succeeds,
    /// or to the end. 0 if that run started earlier.
    pub late_mean_ms: u64,
    /// The maximum lateness.
    pub late_max_ms: u64,
    /// The time for which it ran.
    pub busy_ms: u64,
    /// Its fraction of the time in which any item ran.
    pub busy_share: f64,
    /// The longest time for which it was due, not in its cool-off, and not running.
    pub longest_wait_ms: u64,
    /// Whether the longest wait exceeds three times its frequency. An item that is needed once
    /// starves if it was never started.
    pub starved: bool,
    /// The periods in which it was late.
    #[serde(skip)]
    pub late: Vec<(Instant, Instant)>,
}

impl Metrics {
    /// Computes the metrics of a history.
    pub fn of(scenario: &Scenario, history: &History) -> Self {
        let mut runs: Vec<Vec<&Run>> = vec![vec![]; scenario.items.len()];
        for run in &history.runs {
            runs[run.item].push(run);
        }
        let lengths = |runs: &[&Run]| runs.iter().map(|r| r.finished.abs_diff(r.started)).sum();
        let busy: u64 = runs.iter().map(|runs| lengths(runs)).sum();
        let length = history.end.abs_diff(scenario.start);
        let item = |(item, runs): (&Item, &Vec<&Run>)| {
            let count = |outcome| runs.iter().filter(|run| run.outcome == outcome).count();
            let late = late_periods(item, runs, history.end);
            let lateness = late.iter().map(|(due, until)| until.abs_diff(*due));
            let longest_wait_ms = longest_wait(item, runs, history.end);
            let busy_ms = lengths(runs);
            ItemMetrics {
                name: item.name.clone(),
                runs: runs.len(),
                succeeded: count(RunOutcome::Succeeded),
                failed: count(RunOutcome::Failed),
                unfinished: count(RunOutcome::Unfinished),
                longest_gap_ms: longest_gap(item, runs, history.end),
                late_mean_ms: lateness.clone().sum::<u64>() / (late.len() as u64).max(1),
                late_max_ms: lateness.max().unwrap_or(0),
                busy_ms,
                busy_share: ratio(busy_ms, busy),
                longest_wait_ms,
                starved: match item.frequency {
                    Some(frequency) => {
                        longest_wait_ms > frequency.saturating_mul(STARVATION_FACTOR)
                    }
                    None => longest_wait_ms > 0 && runs.is_empty(),
                },
                // An item may be late since before the start.
                late: late
                    .into_iter()
                    .map(|(due, until)| (due.max(scenario.start), until))
                    .collect(),
            }
        };
        Self {
            utilisation: ratio(busy, length),
            idle_ms: length - busy,
            decisions: history.decisions,
            errors: history.errors,
            fuel_mean: history.fuel / history.decisions.max(1),
            fuel_max: history.fuel_max,
            items: scenario.items.iter().zip(&runs).map(item).collect(),
        }
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// Returns the time between two instants, or 0 if `to` is earlier.
fn between(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_sub(from)).unwrap_or(0)
}

/// Returns when an item is due again after a success.
fn due_after(item: &Item, success: Instant) -> Instant {
    item.due_after(success).unwrap_or(Instant::MAX)
}

fn longest_gap(item: &Item, runs: &[&Run], end: Instant) -> u64 {
    let successes = runs
        .iter()
        .filter(|run| run.outcome == RunOutcome::Succeeded);
    let mut longest = 0;
    let mut last = item.past.last_success.unwrap_or(item.joins);
    for at in successes.map(|run| run.finished).chain([end]) {
        longest = longest.max(between(last, at));
        last = at;
    }
    longest
}

/// Returns the periods from when an item was due to the start of the next run that succeeded. A
/// period is empty if that run started earlier. An unfinished run is assumed to succeed.
fn late_periods(item: &Item, runs: &[&Run], end: Instant) -> Vec<(Instant, Instant)> {
    let mut due = item.first_due();
    let mut late = vec![];
    for run in runs.iter().filter(|run| run.outcome != RunOutcome::Failed) {
        late.push((due, run.started.max(due)));
        due = match run.outcome {
            RunOutcome::Succeeded => due_after(item, run.finished),
            _ => Instant::MAX,
        };
    }
    if due < end {
        late.push((due, end));
    }
    late.retain(|(due, _)| *due < end);
    late
}

fn longest_wait(item: &Item, runs: &[&Run], end: Instant) -> u64 {
    let mut longest = 0;
    let mut due = item.first_due();
    let mut eligible = due.max(item.joins);
    for run in runs {
        longest = longest.max(between(eligible, run.started));
        eligible = match run.outcome {
            RunOutcome::Succeeded => {
                due = due_after(item, run.finished);
                due
            }
            RunOutcome::Failed => due.max(run.finished.saturating_add_unsigned(item.cool_off)),
            RunOutcome::Unfinished => Instant::MAX,
        };
    }
    longest.max(between(eligible, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    /// Returns the metrics of item `a`. Its runs are given in minutes from the start.
    fn item_metrics(fields: &str, runs: &[(i64, i64, RunOutcome)]) -> ItemMetrics {
        let text = format!("{{length: 100m, items: [{{name: a, duration: 1m, {fields}}}]}}");
        let scenario = Scenario::parse(&text).unwrap();
        let at = |minutes| scenario.start + minutes * MINUTE;
        let runs = runs.iter().map(|(started, finished, outcome)| Run {
            item: 0,
            started: at(*started),
            finished: at(*finished),
            outcome: *outcome,
            note: None,
        });
        let history = History {
            runs: runs.collect(),
            end: scenario.end,
            ..History::default()
        };
        Metrics::of(&scenario, &history).items.remove(0)
    }

    #[test]
    fn metrics_have_gaps_lateness_and_waits() {
        use RunOutcome::*;
        // (item, runs, [longest gap, mean lateness, maximum lateness, longest wait] in minutes, starved)
        for (fields, runs, minutes, starved) in [
            // Never ran.
            ("frequency: 10m", &[][..], [100, 100, 100, 100], true),
            ("frequency: 50m", &[][..], [100, 100, 100, 100], false),
            ("frequency: once", &[][..], [100, 100, 100, 100], true),
            (
                "frequency: once, joins: 90m",
                &[][..],
                [10, 10, 10, 10],
                true,
            ),
            ("frequency: 1h, joins: 2h", &[][..], [0, 0, 0, 0], false),
            // Due at 0, 30, 70 (after 10 + 20 and 50 + 20): late by 5, 10 and 30.
            (
                "frequency: 20m",
                &[(5, 10, Succeeded), (40, 50, Succeeded)][..],
                [50, 15, 30, 30],
                false,
            ),
            // Started before it was due: not late.
            (
                "frequency: 90m",
                &[(0, 10, Succeeded), (50, 60, Succeeded)][..],
                [50, 0, 0, 0],
                false,
            ),
            // Failures: late until the run that succeeds, but each start ends the wait.
            (
                "frequency: 60m, coolOff: 5m",
                &[
                    (2, 3, Failed),
                    (18, 20, Failed),
                    (25, 30, Succeeded),
                    (90, 91, Succeeded),
                ][..],
                [61, 12, 25, 10],
                false,
            ),
            // A failure of an item that is not due does not change when it is due.
            (
                "frequency: 60m",
                &[(0, 10, Succeeded), (20, 30, Failed)][..],
                [90, 15, 30, 30],
                false,
            ),
            // Running at the end.
            (
                "frequency: 10m",
                &[(60, 100, Unfinished)][..],
                [100, 60, 60, 60],
                true,
            ),
            // One success is enough.
            (
                "frequency: once",
                &[(4, 10, Succeeded)][..],
                [90, 4, 4, 4],
                false,
            ),
        ] {
            let f = item_metrics(fields, runs);
            let actual = [
                f.longest_gap_ms,
                f.late_mean_ms,
                f.late_max_ms,
                f.longest_wait_ms,
            ];
            assert_eq!(actual.map(|ms| ms / 60_000), minutes, "{fields} {runs:?}");
            assert_eq!(f.starved, starved, "{fields} {runs:?}");
        }
    }

    #[test]
    fn metrics_have_fractions_of_the_time() {
        let scenario = Scenario::parse(
            "{length: 100m, items: [{name: a, duration: 1m}, {name: b, duration: 1m}]}",
        )
        .unwrap();
        let run = |item, from: i64, to: i64, outcome| Run {
            item,
            started: scenario.start + from * MINUTE,
            finished: scenario.start + to * MINUTE,
            outcome,
            note: None,
        };
        let history = History {
            runs: vec![
                run(0, 0, 10, RunOutcome::Succeeded),
                run(1, 10, 20, RunOutcome::Failed),
                run(0, 80, 100, RunOutcome::Unfinished),
            ],
            end: scenario.end,
            decisions: 4,
            fuel: 10,
            fuel_max: 7,
            ..History::default()
        };
        let f = Metrics::of(&scenario, &history);
        assert_eq!((f.utilisation, f.idle_ms), (0.4, 60 * 60_000));
        assert_eq!((f.fuel_mean, f.fuel_max), (2, 7));
        assert_eq!((f.items[0].busy_share, f.items[1].busy_share), (0.75, 0.25));
        let a = &f.items[0];
        assert_eq!((a.runs, a.succeeded, a.failed, a.unfinished), (2, 1, 0, 1));
    }
}
