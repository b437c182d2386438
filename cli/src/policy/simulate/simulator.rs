//! Simulates a group in virtual time, with the operator's rules. This module is pure: the policy is
//! a function, and all random numbers come from the seed of the scenario.

use super::scenario::{Item, ItemPast, Scenario};
use crate::policy::failure::PolicyFailure;
use oaat_api::{Timestamp, windows};
use policy_host::text::clean;
use policy_host::{
    Choice, Decision, Duration, EvalError, Evaluation, Instant, Outcome, Request, Standing,
};
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

/// The note on a run that a user requested.
const REQUESTED: &str = "requested to run now";
/// The number of runs in the history of a group.
const RECENT: usize = 20;
/// The range of waits, in milliseconds. The operator clamps waits to this range.
const WAITS: std::ops::RangeInclusive<i64> = 1_000..=24 * 3_600_000;
/// How long the operator waits after an evaluation without a decision, in milliseconds.
const RETRY_AFTER_ERROR: u64 = 60_000;
/// The shortest time between two times of a schedule, in milliseconds.
const SHORTEST_SCHEDULE: Duration = 60_000;
/// The number of consecutive errors that ends a simulation.
const MAX_CONSECUTIVE_ERRORS: u32 = 20;
/// The maximum number of decisions in a simulation.
const MAX_DECISIONS: u64 = 1_000_000;

/// The outcome of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum RunOutcome {
    Succeeded,
    Failed,
    /// The run was not finished at the end of the simulation.
    Unfinished,
}

/// A run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Run {
    /// The index of the item in the scenario.
    pub item: usize,
    pub started: Instant,
    /// The end of the run; for an unfinished run, the end of the simulation.
    pub finished: Instant,
    pub outcome: RunOutcome,
    /// The note of the policy on its decision.
    pub note: Option<String>,
}

/// Why a simulation ended before the end of its scenario.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CutShort {
    /// The simulation reached this maximum number of decisions.
    #[error(
        "the simulation reached its limit of {0} decisions; use a shorter scenario, or longer runs \
         and waits"
    )]
    DecisionLimit(u64),
    /// The policy failed too many times in a row. Contains the last error.
    #[error("the policy failed {times} times in a row: {0}", times = MAX_CONSECUTIVE_ERRORS)]
    PolicyFailed(String),
    /// Another reason, as text.
    #[error("{0}")]
    Other(String),
}

impl Serialize for CutShort {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The history of a simulated group.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct History {
    /// The runs, oldest first.
    pub runs: Vec<Run>,
    /// When the simulation ended: the end of the scenario unless it was cut short.
    pub end: Instant,
    /// Why the simulation was cut short.
    pub cut_short: Option<CutShort>,
    /// The number of evaluations.
    pub decisions: u64,
    /// The number of evaluations without a decision.
    pub errors: u64,
    /// The fuel of all evaluations.
    pub fuel: u64,
    /// The maximum fuel of an evaluation.
    pub fuel_max: u64,
}

/// The history of an item, as in the status of a group.
struct ItemHistory {
    past: ItemPast,
    rng: ChaCha8Rng,
    /// Whether the operator holds the item until it succeeds.
    held: bool,
}

/// A blackout before which runs must finish, because of `startIfFits`.
#[derive(Clone, Copy)]
struct NextBlackout {
    opens: Instant,
    ends: Instant,
}

/// Simulates a scenario. Calls `on_decision` with the simulated time before each decision.
pub(crate) fn simulate(
    scenario: &Scenario,
    decide: impl FnMut(&Request) -> Evaluation<Decision>,
    mut on_decision: impl FnMut(Timestamp),
) -> History {
    simulate_until(scenario, decide, |now| {
        on_decision(now);
        None
    })
}

/// Simulates a scenario until `stop` returns a reason to stop. `stop` is called before each decision,
/// with the simulated time.
pub(super) fn simulate_until(
    scenario: &Scenario,
    decide: impl FnMut(&Request) -> Evaluation<Decision>,
    stop: impl FnMut(Timestamp) -> Option<String>,
) -> History {
    simulate_with_limit(scenario, decide, stop, MAX_DECISIONS)
}

fn simulate_with_limit(
    scenario: &Scenario,
    mut decide: impl FnMut(&Request) -> Evaluation<Decision>,
    mut stop: impl FnMut(Timestamp) -> Option<String>,
    max_decisions: u64,
) -> History {
    let mut group = SimulatedGroup::new(scenario);
    let mut consecutive_errors = 0;
    while group.now < scenario.end {
        if let Some(reason) = stop(Timestamp(group.now)) {
            return group.cut_short(CutShort::Other(reason));
        }
        let listed = group.listed();
        if listed.is_empty() {
            group.now = group.next_join();
            continue;
        }
        if let Some(blackout) = windows::blackout(&scenario.windows, Timestamp(group.now)) {
            group.now = blackout.until.0;
            continue;
        }
        group.next_blackout = next_blackout(scenario, group.now);
        if let Some(index) = group.take_requested() {
            group.start(index, Some(REQUESTED.to_owned()));
            continue;
        }
        if group.history.decisions == max_decisions {
            return group.cut_short(CutShort::DecisionLimit(max_decisions));
        }
        let request = group.request(&listed);
        let evaluation = decide(&request);
        group.record_fuel(evaluation.fuel);
        match evaluation
            .answer
            .and_then(|decision| check_choice(&request, decision))
        {
            Ok(decision) => {
                consecutive_errors = 0;
                group.apply(&listed, &request, decision);
            }
            Err(error) => {
                group.history.errors += 1;
                consecutive_errors += 1;
                if consecutive_errors == MAX_CONSECUTIVE_ERRORS {
                    let error = PolicyFailure::NoDecision(error).to_string();
                    return group.cut_short(CutShort::PolicyFailed(clean(&error, 1024)));
                }
                group.now = later(group.now, RETRY_AFTER_ERROR).min(group.next_join());
            }
        }
    }
    group.now = scenario.end;
    group.finish()
}

/// Returns the seed of a run, as the operator derives it from the uid of a group.
fn seed(uid: &str, run: i64) -> u64 {
    let digest = Sha256::new()
        .chain_update(uid)
        .chain_update(run.to_be_bytes())
        .finalize();
    let first = digest.iter().take(8);
    first.fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}

fn later(at: Instant, by: Duration) -> Instant {
    at.saturating_add_unsigned(by)
}

/// Returns the next blackout before which runs must finish.
fn next_blackout(scenario: &Scenario, now: Instant) -> Option<NextBlackout> {
    let fits = scenario.windows.iter().filter(|window| window.fits);
    let opens = windows::next(fits, Timestamp(now))?;
    let ends = windows::blackout(&scenario.windows, opens)?.until.0;
    Some(NextBlackout {
        opens: opens.0,
        ends,
    })
}

/// Reports whether the operator asks the policy again when the retry floor of an item with this
/// standing ends. The policy might then start the item.
pub(crate) fn reevaluates_after_retry_floor(standing: Standing) -> bool {
    matches!(standing, Standing::Ready | Standing::Deferred)
}

/// Rejects the choice of an item that is not startable. The host checks this too, but tests pass
/// other functions.
fn check_choice(request: &Request, decision: Decision) -> Result<Decision, EvalError> {
    match decision.chosen() {
        Some(index) if request.items.get(index).is_none_or(|item| !item.startable) => Err(
            EvalError::BadAnswer(format!("chose item {index}, which is not startable")),
        ),
        _ => Ok(decision),
    }
}

struct SimulatedGroup<'a> {
    scenario: &'a Scenario,
    uid: String,
    now: Instant,
    state: String,
    items: Vec<ItemHistory>,
    /// The requested items that have not started.
    requested: Vec<usize>,
    next_blackout: Option<NextBlackout>,
    history: History,
}

impl<'a> SimulatedGroup<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let item_history = |item: &Item| ItemHistory {
            past: item.past.clone(),
            rng: item_rng(scenario.seed, &item.name),
            held: item.held,
        };
        Self {
            scenario,
            uid: scenario.seed.to_string(),
            now: scenario.start,
            state: scenario.past.state.clone(),
            items: scenario.items.iter().map(item_history).collect(),
            requested: scenario.requested.clone(),
            next_blackout: None,
            history: History::default(),
        }
    }

    /// Returns the indices of the items that have joined.
    fn listed(&self) -> Vec<usize> {
        let items = self.scenario.items.iter().enumerate();
        items
            .filter(|(_, item)| item.joins <= self.now)
            .map(|(index, _)| index)
            .collect()
    }

    /// Returns when the next item joins. The operator reconciles a changed list immediately.
    fn next_join(&self) -> Instant {
        let joins = self.scenario.items.iter().map(|item| item.joins);
        joins
            .filter(|at| self.now < *at)
            .min()
            .unwrap_or(Instant::MAX)
    }

    /// Removes and returns the first requested item that may start. A request ignores what is due, and
    /// failures.
    fn take_requested(&mut self) -> Option<usize> {
        let may_start = |index: &usize| self.held_until(*index).is_none();
        let position = self.requested.iter().position(may_start)?;
        Some(self.requested.remove(position))
    }

    /// Returns until when the operator holds an item that is not held throughout the simulation.
    fn held_until(&self, index: usize) -> Option<Instant> {
        self.retry_floor(index)
            .or_else(|| self.before_blackout(index))
    }

    /// Returns the end of the next blackout if the item would not finish before it.
    fn before_blackout(&self, index: usize) -> Option<Instant> {
        let NextBlackout { opens, ends } = self.next_blackout?;
        let takes = self.items[index].past.longest_success?;
        (later(self.now, takes) > opens).then_some(ends)
    }

    /// Returns until when the retry floor holds an item. The floor does not apply if the item
    /// succeeded and its frequency is shorter.
    fn retry_floor(&self, index: usize) -> Option<Instant> {
        let (past, floor) = (&self.items[index].past, self.scenario.retry_floor);
        let succeeded = past.failures == 0 && past.last_success.is_some();
        let item = &self.scenario.items[index];
        let frequency = match item.schedule {
            Some(_) => Some(SHORTEST_SCHEDULE),
            None => item.frequency,
        };
        if succeeded && frequency.is_some_and(|frequency| frequency < floor) {
            return None;
        }
        past.last_started
            .map(|at| later(at, floor))
            .filter(|until| self.now < *until)
    }

    /// Returns the frequency of an item in a request, as the operator derives it from a schedule: it
    /// makes the item due at the next time of its schedule after its last success.
    fn frequency(&self, item: &Item, past: &ItemPast) -> Option<Duration> {
        let Some(schedule) = &item.schedule else {
            return item.frequency;
        };
        let now = Timestamp(self.now);
        let last = schedule.last_match_until(now);
        let since = past.last_success.map(Timestamp).or(last).unwrap_or(now);
        let due = last.filter(|last| *last > since);
        let due = due.or_else(|| schedule.next_match_after(now));
        let due = due.map_or(Instant::MAX, |due| due.0);
        Some(due.saturating_sub(since.0).unsigned_abs().max(1))
    }

    fn request(&self, listed: &[usize]) -> Request {
        let item = |&index: &usize| {
            let (item, past) = (&self.scenario.items[index], &self.items[index].past);
            policy_host::Item {
                name: item.name.clone(),
                frequency: self.frequency(item, past),
                cool_off: item.cool_off,
                settings: item.settings.clone(),
                startable: !self.items[index].held && self.held_until(index).is_none(),
                last_success: past.last_success,
                last_failure: past.last_failure,
                failures: past.failures,
                runs: past.runs,
                last_duration: past.last_duration,
            }
        };
        let recent = self.history.runs.iter().rev();
        let recent = recent.filter_map(|run| request_run(run, listed));
        let recent = recent.chain(self.scenario.past.runs.iter().cloned());
        let group = self.scenario.past.group.clone();
        let group = group.unwrap_or_else(|| ("default".into(), "simulation".into()));
        Request {
            namespace: group.0,
            group: group.1,
            now: self.now,
            seed: seed(&self.uid, self.history.runs.len() as i64 + 1),
            settings: self.scenario.settings.clone(),
            state: self.state.clone(),
            items: listed.iter().map(item).collect(),
            recent: recent.take(RECENT).collect(),
            extra: "{}".into(),
        }
    }

    /// Applies a decision: runs the item, or advances the time to the end of the wait.
    fn apply(&mut self, listed: &[usize], request: &Request, decision: Decision) {
        match decision.choice {
            Choice::Run(index) => {
                if let Some(state) = decision.state {
                    self.state = state;
                }
                self.start(listed[index as usize], decision.note);
            }
            Choice::Wait(until) => {
                let standing = |index: usize| decision.verdicts.get(index).map(|v| v.standing);
                // The operator reconciles when the retry floor of an item that could run ends.
                let released = (0..request.items.len())
                    .filter(|index| {
                        reevaluates_after_retry_floor(standing(*index).unwrap_or(Standing::Ready))
                    })
                    .filter(|index| !self.items[listed[*index]].held)
                    .filter_map(|index| self.held_until(listed[index]));
                let requested = self.requested.iter();
                let requested = requested.filter_map(|index| self.held_until(*index));
                let until = released
                    .chain(requested)
                    .chain(until)
                    .min()
                    .unwrap_or(Instant::MAX);
                let wait = until.saturating_sub(self.now);
                let wait = wait.clamp(*WAITS.start(), *WAITS.end());
                self.now = self.now.saturating_add(wait).min(self.next_join());
            }
        }
    }

    /// Runs an item and advances the time to the end of the run.
    fn start(&mut self, index: usize, note: Option<String>) {
        let item = &self.scenario.items[index];
        let ItemHistory { past, rng, held } = &mut self.items[index];
        // Each run draws both numbers. The n-th run of an item is then the same for all policies,
        // so that policies can be compared.
        let took = item.run_duration.draw(rng);
        let random_failure = item.fails.draw(rng);
        let contains_now = |(from, to): &(Instant, Instant)| (*from..*to).contains(&self.now);
        let failed = random_failure || item.fails_between.iter().any(contains_now);
        let finished = later(self.now, took);
        let outcome = if finished > self.scenario.end {
            RunOutcome::Unfinished
        } else if failed {
            RunOutcome::Failed
        } else {
            RunOutcome::Succeeded
        };
        past.last_started = Some(self.now);
        past.last_duration = Some(took);
        past.runs += 1;
        if failed {
            past.last_failure = Some(finished);
            past.failures += 1;
        } else {
            past.last_success = Some(finished);
            past.longest_success = past.longest_success.max(Some(took));
            past.failures = 0;
            *held = false;
        }
        self.history.runs.push(Run {
            item: index,
            started: self.now,
            finished: finished.min(self.scenario.end),
            outcome,
            note,
        });
        self.now = finished;
    }

    fn record_fuel(&mut self, fuel: u64) {
        self.history.decisions += 1;
        self.history.fuel = self.history.fuel.saturating_add(fuel);
        self.history.fuel_max = self.history.fuel_max.max(fuel);
    }

    fn cut_short(mut self, why: CutShort) -> History {
        self.history.cut_short = Some(why);
        self.finish()
    }

    fn finish(mut self) -> History {
        self.history.end = self.now;
        self.history
    }
}

/// Returns the random number generator of an item. It does not depend on other items.
fn item_rng(seed: u64, name: &str) -> ChaCha8Rng {
    let digest = Sha256::new()
        .chain_update(seed.to_be_bytes())
        .chain_update(name)
        .finalize();
    ChaCha8Rng::from_seed(digest.into())
}

/// Converts a run to the form in a request.
fn request_run(run: &Run, listed: &[usize]) -> Option<policy_host::Run> {
    let (outcome, exit_code) = match run.outcome {
        RunOutcome::Succeeded => (Outcome::Succeeded, 0),
        RunOutcome::Failed => (Outcome::Failed, 1),
        RunOutcome::Unfinished => return None,
    };
    let index = listed.binary_search(&run.item).ok()?;
    Some(policy_host::Run {
        item: u32::try_from(index).ok()?,
        started: run.started,
        finished: run.finished,
        outcome,
        exit_code: Some(exit_code),
    })
}

#[cfg(test)]
mod tests;
