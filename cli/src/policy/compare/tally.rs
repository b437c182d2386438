//! Counts how two policies differ on recorded decisions. All counts can be added, so that several
//! threads can share the work.

use super::side::Answer;
use super::smallest::Smallest;
use crate::policy::simulate::RecordedRun;
use policy_host::{
    Action, AnswerDifference, Instant, Outcome, Request, WaitTimes, compare_answers,
};
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The maximum number of groups with separate counts.
pub(crate) const MAX_GROUPS: usize = 100;
/// The maximum number of items of a group with separate counts.
const MAX_ITEMS: usize = 2_000;
/// The maximum number of examples of a group.
const MAX_EXAMPLES: usize = 3;
/// The maximum number of recorded runs of a group that are kept: the latest.
pub(crate) const MAX_RUNS: usize = 2_000;
/// The maximum number of problems with the files that are kept.
const MAX_PROBLEMS: usize = 5;

/// Where a decision was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    /// The index of the file.
    pub file: usize,
    pub line: u64,
}

/// The name of a group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GroupName {
    pub namespace: String,
    pub name: String,
}

impl std::fmt::Display for GroupName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The result of comparing two policies, A and B.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub counts: Counts,
    pub kinds: DifferenceCounts,
    /// The fuel of A and of B.
    pub fuel: [Fuel; 2],
    /// How often A and B made no decision, by reason, with a message.
    pub failures: [BTreeMap<&'static str, Failures>; 2],
    /// The times of the first and of the last decision.
    pub period: Option<(Instant, Instant)>,
    pub groups: Smallest<GroupName, GroupTally, MAX_GROUPS>,
    /// Decisions that could not be read, and why.
    pub problems: Smallest<Position, String, MAX_PROBLEMS>,
    /// Whether the log contains decisions without records.
    pub has_digests: bool,
}

/// Numbers of decisions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Counts {
    pub agree: u64,
    pub differ: u64,
    /// Neither policy made a decision. The reasons may differ.
    pub both_failed: u64,
    /// The deadline interrupted a policy, which depends on the machine.
    pub interrupted: u64,
    pub unreadable: u64,
}

/// Numbers of decisions with each kind of difference. A decision may count several times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DifferenceCounts {
    pub start_other_items: u64,
    pub only_a_starts: u64,
    pub only_b_starts: u64,
    pub wait_until_other_times: u64,
    /// Only one of them makes a decision.
    pub fail: u64,
    pub standings: u64,
    pub states: u64,
}

/// The fuel of a policy's decisions.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fuel {
    pub decisions: u64,
    pub total: u64,
    pub max: u64,
}

/// How often a policy made no decision.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    pub count: u64,
    /// The position and message of the first failure.
    pub first: Option<(Position, String)>,
}

/// The counts of a group.
#[derive(Debug, Default)]
pub(crate) struct GroupTally {
    pub counts: Counts,
    /// The items on which the policies differ.
    pub items: Smallest<String, ItemTally, MAX_ITEMS>,
    pub examples: Smallest<Position, Example, MAX_EXAMPLES>,
    /// The last request.
    pub last: Option<LastRequest>,
    /// The latest runs by the time of their start.
    pub runs: Smallest<Reverse<Instant>, RecordedRun, MAX_RUNS>,
}

/// How the policies differ on an item.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ItemTally {
    /// Decisions in which only A starts it.
    pub only_a_starts: u64,
    /// Decisions in which only B starts it.
    pub only_b_starts: u64,
    /// Decisions with these different standings, of A and of B.
    pub standings: BTreeMap<(&'static str, &'static str), u64>,
}

impl ItemTally {
    /// Returns the number of differences.
    pub fn total(&self) -> u64 {
        self.only_a_starts + self.only_b_starts + self.standings.values().sum::<u64>()
    }

    fn add(&mut self, other: Self) {
        self.only_a_starts += other.only_a_starts;
        self.only_b_starts += other.only_b_starts;
        for (standings, count) in other.standings {
            *self.standings.entry(standings).or_default() += count;
        }
    }
}

/// A decision on which the policies differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Example {
    pub at: Instant,
    /// The sha256 of the request.
    pub request: String,
    /// What B would do: "would …".
    pub difference: String,
}

/// The last request of a group.
#[derive(Debug)]
pub(crate) struct LastRequest {
    pub request: Request,
    position: Position,
}

impl LastRequest {
    fn key(&self) -> (Instant, Position) {
        (self.request.now, self.position)
    }
}

impl Tally {
    /// Adds a decision that cannot be read.
    pub fn add_unreadable(&mut self, position: Position, why: String) {
        self.counts.unreadable += 1;
        self.problems.entry(position, || why);
    }

    /// Adds the answers to a recorded request.
    pub fn add(
        &mut self,
        position: Position,
        request_sha256: &str,
        request: Request,
        answers: [Answer; 2],
    ) {
        let now = request.now;
        let (from, to) = self.period.unwrap_or((now, now));
        self.period = Some((from.min(now), to.max(now)));
        let group = GroupName {
            namespace: request.namespace.clone(),
            name: request.group.clone(),
        };
        let mut group = self.groups.entry(group, GroupTally::default);
        if let Some(group) = &mut group {
            group.add_runs(&request);
        }
        let mut counts = Counts::default();
        if answers.iter().any(is_interrupted) {
            counts.interrupted = 1;
        } else {
            for (side, answer) in answers.iter().enumerate() {
                match &answer.decision {
                    Ok(_) => self.fuel[side].add(answer.fuel),
                    Err(error) => {
                        let failures = self.failures[side].entry(error.reason()).or_default();
                        failures.add(1, Some(position), || error.to_string());
                    }
                }
            }
            let [a, b] = &answers;
            if a.decision.is_err() && b.decision.is_err() {
                counts.both_failed = 1;
            } else if let Some(difference) = compare_answers(&request, a, b, WaitTimes::Compare) {
                counts.differ = 1;
                self.kinds.add(&difference);
                if let Some(group) = &mut group {
                    group.add_difference(position, request_sha256, now, &difference);
                }
            } else {
                counts.agree = 1;
            }
        }
        self.counts.add(counts);
        if let Some(group) = group {
            group.counts.add(counts);
            group.set_last(LastRequest { request, position });
        }
    }

    /// Adds the counts of another thread.
    pub fn merge(&mut self, other: Self) {
        self.counts.add(other.counts);
        self.kinds.merge(other.kinds);
        for (fuel, more) in self.fuel.iter_mut().zip(other.fuel) {
            fuel.decisions += more.decisions;
            fuel.total = fuel.total.saturating_add(more.total);
            fuel.max = fuel.max.max(more.max);
        }
        for (failures, more) in self.failures.iter_mut().zip(other.failures) {
            for (reason, more) in more {
                let (position, message) = more.first.unzip();
                let failures = failures.entry(reason).or_default();
                failures.add(more.count, position, || message.unwrap_or_default());
            }
        }
        let periods = self.period.into_iter().chain(other.period);
        self.period = periods.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        self.groups.merge(other.groups, GroupTally::merge);
        self.problems.merge(other.problems, |_, _| {});
        self.has_digests |= other.has_digests;
    }
}

/// Returns whether the deadline interrupted a policy.
fn is_interrupted(answer: &Answer) -> bool {
    matches!(&answer.decision, Err(failure) if failure.is_interruption())
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.agree += other.agree;
        self.differ += other.differ;
        self.both_failed += other.both_failed;
        self.interrupted += other.interrupted;
        self.unreadable += other.unreadable;
    }

    /// Returns the number of decisions that both policies evaluated without interruption.
    pub fn evaluated(&self) -> u64 {
        self.agree + self.differ + self.both_failed
    }
}

impl DifferenceCounts {
    fn add(&mut self, difference: &AnswerDifference) {
        if let Some(action) = difference.action {
            let kind = match (action.first, action.second) {
                (Action::Start(_), Action::Start(_)) => &mut self.start_other_items,
                (Action::Start(_), Action::Wait(_)) => &mut self.only_a_starts,
                (Action::Wait(_), Action::Start(_)) => &mut self.only_b_starts,
                (Action::Wait(_), Action::Wait(_)) => &mut self.wait_until_other_times,
                (Action::Fail(_), _) | (_, Action::Fail(_)) => &mut self.fail,
            };
            *kind += 1;
        }
        self.standings += u64::from(!difference.standings.is_empty());
        self.states += u64::from(difference.state);
    }

    fn merge(&mut self, other: Self) {
        self.start_other_items += other.start_other_items;
        self.only_a_starts += other.only_a_starts;
        self.only_b_starts += other.only_b_starts;
        self.wait_until_other_times += other.wait_until_other_times;
        self.fail += other.fail;
        self.standings += other.standings;
        self.states += other.states;
    }
}

impl Fuel {
    fn add(&mut self, fuel: u64) {
        self.decisions += 1;
        self.total = self.total.saturating_add(fuel);
        self.max = self.max.max(fuel);
    }

    /// Returns the mean fuel of a decision.
    pub fn mean(&self) -> u64 {
        self.total / self.decisions.max(1)
    }
}

impl Failures {
    fn add(&mut self, count: u64, position: Option<Position>, message: impl FnOnce() -> String) {
        self.count += count;
        let first = self.first.as_ref().map(|(first, _)| *first);
        if let Some(position) = position
            && first.is_none_or(|first| position < first)
        {
            self.first = Some((position, message()));
        }
    }
}

impl GroupTally {
    fn add_runs(&mut self, request: &Request) {
        for run in &request.recent {
            let failed = match run.outcome {
                Outcome::Succeeded => false,
                Outcome::Failed => true,
                // A stopped run counts as neither, and its duration is not representative.
                Outcome::Stopped => continue,
            };
            let Some(item) = request.items.get(run.item as usize) else {
                continue;
            };
            self.runs.entry(Reverse(run.started), || RecordedRun {
                item: item.name.clone(),
                started: run.started,
                finished: run.finished,
                failed,
            });
        }
    }

    fn add_difference(
        &mut self,
        position: Position,
        request_sha256: &str,
        at: Instant,
        difference: &AnswerDifference,
    ) {
        self.examples.entry(position, || Example {
            at,
            request: request_sha256.to_owned(),
            difference: difference.to_string(),
        });
        if let Some(action) = difference.action {
            if let Action::Start(item) = action.first {
                self.add_to_item(item, |tally| tally.only_a_starts += 1);
            }
            if let Action::Start(item) = action.second {
                self.add_to_item(item, |tally| tally.only_b_starts += 1);
            }
        }
        for standing in &difference.standings {
            let pair = (standing.first.name(), standing.second.name());
            self.add_to_item(standing.item, |tally| {
                *tally.standings.entry(pair).or_default() += 1;
            });
        }
    }

    fn add_to_item(&mut self, item: &str, add: impl FnOnce(&mut ItemTally)) {
        if let Some(tally) = self.items.entry(item.to_owned(), ItemTally::default) {
            add(tally);
        }
    }

    fn set_last(&mut self, last: LastRequest) {
        if self.last.as_ref().is_none_or(|old| old.key() < last.key()) {
            self.last = Some(last);
        }
    }

    fn merge(&mut self, other: Self) {
        self.counts.add(other.counts);
        self.items.merge(other.items, ItemTally::add);
        self.examples.merge(other.examples, |_, _| {});
        // Several requests contain the same run.
        self.runs.merge(other.runs, |_, _| {});
        if let Some(last) = other.last {
            self.set_last(last);
        }
    }
}
