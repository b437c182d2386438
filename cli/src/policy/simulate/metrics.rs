//! What a history comes to, in figures.

use super::scenario::{Item, Scenario};
use super::world::{End, History, Run};
use policy_host::Instant;
use serde::Serialize;

/// An item starves when it is due for more than so many times its frequency without being
/// started.
const STARVES: u64 = 3;

/// All figures of a simulation. Durations are in milliseconds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Figures {
    /// The share of the time in which an item ran.
    pub utilisation: f64,
    /// The time in which none did.
    pub idle_ms: u64,
    /// How often the policy was asked.
    pub decisions: u64,
    /// How often it gave no decision.
    pub errors: u64,
    /// Fuel of an evaluation, on average.
    pub fuel_mean: u64,
    /// Fuel of the hungriest evaluation.
    pub fuel_max: u64,
    /// The items, in the order of the list.
    pub items: Vec<ItemFigures>,
}

/// The figures of one item.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ItemFigures {
    pub name: String,
    /// Starts.
    pub runs: usize,
    pub succeeded: usize,
    pub failed: usize,
    /// 1 if it was running at the end.
    pub unfinished: usize,
    /// The longest time without a success: between the time it joined, the ends of its
    /// successful runs, and the end.
    pub longest_gap_ms: u64,
    /// How late it was, each time that it was due: from then to the start of the run that
    /// next succeeded, or to the end where none did; 0 where that run started before.
    pub late_mean_ms: u64,
    /// The same, at worst.
    pub late_max_ms: u64,
    /// The time for which it ran.
    pub busy_ms: u64,
    /// Its share of the time in which an item ran.
    pub busy_share: f64,
    /// The longest time for which it could have been started and was not: due, and its
    /// cool-off over.
    pub longest_wait_ms: u64,
    /// That was more than three times its frequency (or it is needed once and was never
    /// started).
    pub starved: bool,
    /// The periods behind the lateness, from when it was due.
    #[serde(skip)]
    pub late: Vec<(Instant, Instant)>,
}

impl Figures {
    /// Works them out.
    pub fn of(scenario: &Scenario, history: &History) -> Self {
        let mut runs: Vec<Vec<&Run>> = vec![vec![]; scenario.items.len()];
        for run in &history.runs {
            runs[run.item].push(run);
        }
        let lengths = |runs: &[&Run]| runs.iter().map(|r| r.finished.abs_diff(r.started)).sum();
        let busy: u64 = runs.iter().map(|runs| lengths(runs)).sum();
        let length = history.end.abs_diff(scenario.start);
        let item = |(item, runs): (&Item, &Vec<&Run>)| {
            let count = |end| runs.iter().filter(|run| run.end == end).count();
            let late = late(item, runs, history.end);
            let each = late.iter().map(|(due, until)| until.abs_diff(*due));
            let longest_wait_ms = longest_wait(item, runs, history.end);
            let busy_ms = lengths(runs);
            ItemFigures {
                name: item.name.clone(),
                runs: runs.len(),
                succeeded: count(End::Succeeded),
                failed: count(End::Failed),
                unfinished: count(End::Unfinished),
                longest_gap_ms: longest_gap(item, runs, history.end),
                late_mean_ms: each.clone().sum::<u64>() / (late.len() as u64).max(1),
                late_max_ms: each.max().unwrap_or(0),
                busy_ms,
                busy_share: ratio(busy_ms, busy),
                longest_wait_ms,
                starved: match item.frequency {
                    Some(frequency) => longest_wait_ms > frequency.saturating_mul(STARVES),
                    None => longest_wait_ms > 0 && runs.is_empty(),
                },
                late,
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

/// From one time to another, or nothing where the other comes first.
fn between(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_sub(from)).unwrap_or(0)
}

/// When an item is due again after a success.
fn due_after(item: &Item, success: Instant) -> Instant {
    let again = |frequency| success.saturating_add_unsigned(frequency);
    item.frequency.map_or(Instant::MAX, again)
}

fn longest_gap(item: &Item, runs: &[&Run], end: Instant) -> u64 {
    let successes = runs.iter().filter(|run| run.end == End::Succeeded);
    let mut longest = 0;
    let mut last = item.joins;
    for at in successes.map(|run| run.finished).chain([end]) {
        longest = longest.max(between(last, at));
        last = at;
    }
    longest
}

/// The periods from when an item was due to the start of the run that next succeeded; empty
/// ones where that start came before. A run that is not at its end may yet succeed.
fn late(item: &Item, runs: &[&Run], end: Instant) -> Vec<(Instant, Instant)> {
    let mut due = item.joins;
    let mut late = vec![];
    for run in runs.iter().filter(|run| run.end != End::Failed) {
        late.push((due, run.started.max(due)));
        due = match run.end {
            End::Succeeded => due_after(item, run.finished),
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
    let (mut due, mut could) = (item.joins, item.joins);
    for run in runs {
        longest = longest.max(between(could, run.started));
        could = match run.end {
            End::Succeeded => {
                due = due_after(item, run.finished);
                due
            }
            End::Failed => due.max(run.finished.saturating_add_unsigned(item.cool_off)),
            End::Unfinished => Instant::MAX,
        };
    }
    longest.max(between(could, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    /// Figures of item `a`, whose runs are given in minutes from the start.
    fn figures(more: &str, runs: &[(i64, i64, End)]) -> ItemFigures {
        let text = format!("{{length: 100m, items: [{{name: a, duration: 1m, {more}}}]}}");
        let scenario = Scenario::parse(&text).unwrap();
        let at = |minutes| scenario.start + minutes * MINUTE;
        let runs = runs.iter().map(|(started, finished, end)| Run {
            item: 0,
            started: at(*started),
            finished: at(*finished),
            end: *end,
            note: None,
        });
        let history = History {
            runs: runs.collect(),
            end: scenario.end,
            ..History::default()
        };
        Figures::of(&scenario, &history).items.remove(0)
    }

    #[test]
    fn gaps_lateness_and_waits() {
        use End::*;
        // (item, runs, [longest gap, mean and most lateness, longest wait] in minutes, starved)
        for (more, runs, minutes, starved) in [
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
            // Before it was due: not late.
            (
                "frequency: 90m",
                &[(0, 10, Succeeded), (50, 60, Succeeded)][..],
                [50, 0, 0, 0],
                false,
            ),
            // Failures: late until the run that succeeds, but the wait ends with each start.
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
            // A failure of an item that was not due leaves its due time.
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
            // Once is enough.
            (
                "frequency: once",
                &[(4, 10, Succeeded)][..],
                [90, 4, 4, 4],
                false,
            ),
        ] {
            let f = figures(more, runs);
            let given = [
                f.longest_gap_ms,
                f.late_mean_ms,
                f.late_max_ms,
                f.longest_wait_ms,
            ];
            assert_eq!(given.map(|ms| ms / 60_000), minutes, "{more} {runs:?}");
            assert_eq!(f.starved, starved, "{more} {runs:?}");
        }
    }

    #[test]
    fn shares_of_the_time() {
        let scenario = Scenario::parse(
            "{length: 100m, items: [{name: a, duration: 1m}, {name: b, duration: 1m}]}",
        )
        .unwrap();
        let run = |item, from: i64, to: i64, end| Run {
            item,
            started: scenario.start + from * MINUTE,
            finished: scenario.start + to * MINUTE,
            end,
            note: None,
        };
        let history = History {
            runs: vec![
                run(0, 0, 10, End::Succeeded),
                run(1, 10, 20, End::Failed),
                run(0, 80, 100, End::Unfinished),
            ],
            end: scenario.end,
            decisions: 4,
            fuel: 10,
            fuel_max: 7,
            ..History::default()
        };
        let f = Figures::of(&scenario, &history);
        assert_eq!((f.utilisation, f.idle_ms), (0.4, 60 * 60_000));
        assert_eq!((f.fuel_mean, f.fuel_max), (2, 7));
        assert_eq!((f.items[0].busy_share, f.items[1].busy_share), (0.75, 0.25));
        let a = &f.items[0];
        assert_eq!((a.runs, a.succeeded, a.failed, a.unfinished), (2, 1, 0, 1));
    }
}
