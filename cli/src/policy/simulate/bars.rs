//! Computes the bars of a timeline. Runs that are too close to be told apart share a bar, so the
//! width of the timeline bounds the number of bars.

use super::simulator::{Run, RunOutcome};
use policy_host::Instant;

/// The minimum width of a bar.
const MIN_WIDTH: f64 = 1.5;
/// The minimum gap between bars. Closer bars are merged.
const MIN_GAP: f64 = 0.4;

/// The horizontal extent of a shape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Extent {
    pub left: f64,
    pub right: f64,
}

/// The outcome of the runs that a bar represents.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Succeeded,
    Failed,
    /// Some runs succeeded and some failed.
    Both,
    Unfinished,
}

impl Kind {
    /// The CSS class.
    pub fn class(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Both => "both",
            Self::Unfinished => "unfinished",
        }
    }

    /// The text for the tooltip.
    pub fn description(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Both => "succeeded and failed",
            Self::Unfinished => "running at the end",
        }
    }
}

/// A bar that represents one or more runs of an item.
#[derive(Debug, PartialEq)]
pub(crate) struct Bar {
    pub extent: Extent,
    pub kind: Kind,
    pub runs: usize,
    pub started: Instant,
    pub finished: Instant,
}

/// Returns the bars for the runs of an item. The runs must be in order.
pub(crate) fn bars(runs: &[&Run], x: impl Fn(Instant) -> f64) -> Vec<Bar> {
    let mut bars: Vec<Bar> = vec![];
    for run in runs {
        let left = x(run.started);
        let right = x(run.finished).max(left + MIN_WIDTH);
        let kind = match run.outcome {
            RunOutcome::Succeeded => Kind::Succeeded,
            RunOutcome::Failed => Kind::Failed,
            RunOutcome::Unfinished => Kind::Unfinished,
        };
        // Bars of different kinds may touch, but must not overlap.
        let is_close = |bar: &Bar| {
            if bar.kind == kind {
                left < bar.extent.right + MIN_GAP
            } else {
                left + MIN_GAP < bar.extent.right && kind != Kind::Unfinished
            }
        };
        match bars.last_mut().filter(|bar| is_close(bar)) {
            Some(bar) => {
                if bar.kind != kind {
                    bar.kind = Kind::Both;
                }
                bar.extent.right = bar.extent.right.max(right);
                bar.runs += 1;
                bar.finished = run.finished;
            }
            None => bars.push(Bar {
                extent: Extent { left, right },
                kind,
                runs: 1,
                started: run.started,
                finished: run.finished,
            }),
        }
    }
    bars
}

/// Merges adjacent periods, and drops those that are too short to be seen. The periods must be in
/// order.
pub(crate) fn merged_periods(
    periods: &[(Instant, Instant)],
    x: impl Fn(Instant) -> f64,
) -> Vec<Extent> {
    let mut merged: Vec<Extent> = vec![];
    let extents = periods.iter().map(|(from, to)| Extent {
        left: x(*from),
        right: x(*to),
    });
    for extent in extents.filter(|extent| extent.right - extent.left >= MIN_GAP) {
        let last = merged.last_mut();
        match last.filter(|last| extent.left < last.right + MIN_GAP) {
            Some(last) => last.right = last.right.max(extent.right),
            None => merged.push(extent),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(started: i64, finished: i64, outcome: RunOutcome) -> Run {
        Run {
            item: 0,
            started,
            finished,
            outcome,
            note: None,
        }
    }

    fn drawn(runs: &[Run], scale: f64) -> Vec<Bar> {
        bars(&runs.iter().collect::<Vec<_>>(), |at| at as f64 * scale)
    }

    #[test]
    fn runs_that_are_too_close_share_a_bar() {
        use RunOutcome::*;
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
    fn invisible_periods_are_dropped() {
        let periods = [(0, 0), (10, 20), (20, 30), (50, 51), (60, 90)];
        let extent = |left, right| Extent { left, right };
        assert_eq!(
            merged_periods(&periods, |at| at as f64 / 10.0),
            [extent(1.0, 3.0), extent(6.0, 9.0)]
        );
    }

    proptest! {
        #[test]
        fn bars_are_few_and_represent_all_runs(
            steps in proptest::collection::vec((0_i64..50, 0_i64..50, any::<bool>()), 0..500),
        ) {
            let mut at = 0;
            let mut runs = vec![];
            for (gap, took, succeeded) in steps {
                let outcome = if succeeded { RunOutcome::Succeeded } else { RunOutcome::Failed };
                runs.push(run(at + gap, at + gap + took, outcome));
                at += gap + took;
            }
            let bars = drawn(&runs, 100.0 / (at + 1) as f64);
            prop_assert_eq!(bars.iter().map(|bar| bar.runs).sum::<usize>(), runs.len());
            prop_assert!(bars.len() as f64 <= 100.0 / (MIN_WIDTH - MIN_GAP) + 1.0, "{}", bars.len());
            prop_assert!(bars.windows(2).all(|pair| pair[0].extent.left < pair[1].extent.left));
        }
    }
}
