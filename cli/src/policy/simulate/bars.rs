//! Which bars a picture of runs has: what is too close to tell apart becomes one, so that
//! their number is bounded by the width of the picture and not by that of the runs.

use super::world::{End, Run};
use policy_host::Instant;

/// The narrowest bar.
const NARROWEST: f64 = 1.5;
/// Bars with less between them become one.
const GAP: f64 = 0.4;

/// What a bar stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Succeeded,
    Failed,
    /// Runs of which some succeeded and some failed.
    Both,
    Unfinished,
}

impl Kind {
    /// The name of its style.
    pub fn class(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Both => "both",
            Self::Unfinished => "unfinished",
        }
    }

    /// What it says of a run.
    pub fn words(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Both => "succeeded and failed",
            Self::Unfinished => "running at the end",
        }
    }
}

/// One or several runs of an item.
#[derive(Debug, PartialEq)]
pub(crate) struct Bar {
    /// Left edge.
    pub from: f64,
    /// Right edge.
    pub to: f64,
    pub kind: Kind,
    pub runs: usize,
    pub started: Instant,
    pub finished: Instant,
}

/// The bars of an item's runs, which come in the order of time.
pub(crate) fn bars(runs: &[&Run], x: impl Fn(Instant) -> f64) -> Vec<Bar> {
    let mut bars: Vec<Bar> = vec![];
    for run in runs {
        let from = x(run.started);
        let to = x(run.finished).max(from + NARROWEST);
        let kind = match run.end {
            End::Succeeded => Kind::Succeeded,
            End::Failed => Kind::Failed,
            End::Unfinished => Kind::Unfinished,
        };
        // Different ones may touch each other, but not be upon each other.
        let close = |bar: &Bar| match bar.kind == kind {
            true => from < bar.to + GAP,
            false => from + GAP < bar.to && kind != Kind::Unfinished,
        };
        match bars.last_mut().filter(|bar| close(bar)) {
            Some(bar) => {
                if bar.kind != kind {
                    bar.kind = Kind::Both;
                }
                bar.to = bar.to.max(to);
                bar.runs += 1;
                bar.finished = run.finished;
            }
            None => bars.push(Bar {
                from,
                to,
                kind,
                runs: 1,
                started: run.started,
                finished: run.finished,
            }),
        }
    }
    bars
}

/// Periods, which come in the order of time, without those that cannot be seen.
pub(crate) fn joined(
    periods: &[(Instant, Instant)],
    x: impl Fn(Instant) -> f64,
) -> Vec<(f64, f64)> {
    let mut joined: Vec<(f64, f64)> = vec![];
    let seen = periods.iter().map(|(from, to)| (x(*from), x(*to)));
    for (from, to) in seen.filter(|(from, to)| to - from >= GAP) {
        match joined.last_mut().filter(|last| from < last.1 + GAP) {
            Some(last) => last.1 = last.1.max(to),
            None => joined.push((from, to)),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(started: i64, finished: i64, end: End) -> Run {
        Run {
            item: 0,
            started,
            finished,
            end,
            note: None,
        }
    }

    fn drawn(runs: &[Run], scale: f64) -> Vec<Bar> {
        bars(&runs.iter().collect::<Vec<_>>(), |at| at as f64 * scale)
    }

    #[test]
    fn what_is_too_close_becomes_one() {
        use End::*;
        let runs = [
            run(0, 10, Succeeded),
            run(10, 20, Succeeded),
            run(20, 30, Failed),
            run(30, 31, Succeeded),
            run(31, 40, Unfinished),
        ];
        let kinds = |scale| -> Vec<_> {
            drawn(&runs, scale)
                .iter()
                .map(|bar| (bar.kind, bar.runs))
                .collect()
        };
        assert_eq!(
            kinds(10.0),
            [
                (Kind::Succeeded, 2),
                (Kind::Failed, 1),
                (Kind::Succeeded, 1),
                (Kind::Unfinished, 1)
            ]
        );
        assert_eq!(kinds(0.001), [(Kind::Both, 4), (Kind::Unfinished, 1)]);
    }

    #[test]
    fn periods_that_cannot_be_seen_are_left_out() {
        let periods = [(0, 0), (10, 20), (20, 30), (50, 51), (60, 90)];
        assert_eq!(
            joined(&periods, |at| at as f64 / 10.0),
            [(1.0, 3.0), (6.0, 9.0)]
        );
    }

    proptest! {
        #[test]
        fn bars_are_few_and_stand_for_all_runs(
            steps in proptest::collection::vec((0_i64..50, 0_i64..50, any::<bool>()), 0..500),
        ) {
            let mut at = 0;
            let mut runs = vec![];
            for (gap, took, well) in steps {
                let end = if well { End::Succeeded } else { End::Failed };
                runs.push(run(at + gap, at + gap + took, end));
                at += gap + took;
            }
            let bars = drawn(&runs, 100.0 / (at + 1) as f64);
            prop_assert_eq!(bars.iter().map(|bar| bar.runs).sum::<usize>(), runs.len());
            prop_assert!(bars.len() as f64 <= 100.0 / (NARROWEST - GAP) + 1.0, "{}", bars.len());
            prop_assert!(bars.windows(2).all(|pair| pair[0].from < pair[1].from));
        }
    }
}
