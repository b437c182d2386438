//! A group's life in virtual time, by the operator's own rules. Pure: who decides is a
//! function, and all chance comes from the scenario's seed.

use super::scenario::{Item, Scenario};
use policy_host::text::clean;
use policy_host::{
    Choice, Decision, Duration, EvalError, Evaluation, Instant, Outcome, Request, Standing,
};
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use serde::Serialize;
use sha2::{Digest, Sha256};

/// Runs that the operator keeps in a group's history.
const RECENT: usize = 20;
/// The range that the operator brings a wait into.
const WAITS: std::ops::RangeInclusive<i64> = 1_000..=24 * 3_600_000;
/// How long the operator waits after a policy gave no decision.
const AFTER_AN_ERROR: u64 = 60_000;
/// So many errors in a row end the simulation.
const ERRORS_IN_A_ROW: u32 = 20;
/// So many decisions end it too.
const MAX_DECISIONS: u64 = 1_000_000;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum End {
    /// Well.
    Succeeded,
    /// Not well.
    Failed,
    /// Not before the simulation did.
    Unfinished,
}

/// A run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Run {
    /// Index into the scenario's items.
    pub item: usize,
    pub started: Instant,
    /// Where it is unfinished, the end of the simulation.
    pub finished: Instant,
    pub end: End,
    /// Why the policy chose it.
    pub note: Option<String>,
}

/// What happened.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct History {
    /// The runs, oldest first.
    pub runs: Vec<Run>,
    /// When the simulation came to its end, which is the scenario's end unless it was cut short.
    pub end: Instant,
    /// Why it was cut short.
    pub cut_short: Option<String>,
    /// How often the policy was asked.
    pub decisions: u64,
    /// How often it gave no decision.
    pub errors: u64,
    /// Fuel of all evaluations together.
    pub fuel: u64,
    /// Fuel of the hungriest evaluation.
    pub fuel_max: u64,
}

/// What the group's status would hold of an item.
struct Past {
    last_started: Option<Instant>,
    last_finished: Option<Instant>,
    last_success: Option<Instant>,
    last_failure: Option<Instant>,
    failures: u32,
    runs: u32,
    chance: ChaCha8Rng,
}

/// Lives through a scenario.
pub(crate) fn live(
    scenario: &Scenario,
    decide: impl FnMut(&Request) -> Evaluation<Decision>,
) -> History {
    live_within(scenario, decide, MAX_DECISIONS)
}

fn live_within(
    scenario: &Scenario,
    mut decide: impl FnMut(&Request) -> Evaluation<Decision>,
    most: u64,
) -> History {
    let mut world = World::new(scenario);
    let mut errors_in_a_row = 0;
    while world.now < scenario.end {
        let listed = world.listed();
        if listed.is_empty() {
            world.now = world.change();
            continue;
        }
        if world.history.decisions == most {
            return world.cut_short(format!(
                "the policy was asked {most} times, which is as often as a simulation asks: \
                 make the scenario shorter, or its runs and waits longer"
            ));
        }
        let request = world.request(&listed);
        let evaluation = decide(&request);
        world.count(evaluation.fuel);
        match evaluation
            .answer
            .and_then(|decision| in_range(&request, decision))
        {
            Ok(decision) => {
                errors_in_a_row = 0;
                world.follow(&listed, &request, decision);
            }
            Err(error) => {
                world.history.errors += 1;
                errors_in_a_row += 1;
                if errors_in_a_row == ERRORS_IN_A_ROW {
                    return world.cut_short(format!(
                        "the policy gave no decision {ERRORS_IN_A_ROW} times in a row: {}",
                        clean(&error.to_string(), 1024)
                    ));
                }
                world.now = later(world.now, AFTER_AN_ERROR).min(world.change());
            }
        }
    }
    world.now = scenario.end;
    world.done()
}

/// The seed of a run, as the operator derives it from a group's uid.
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

/// Whether the operator looks again as soon as it stops holding an item of this standing: the
/// policy would have started it, or has put it off.
pub(crate) fn awaited(standing: Standing) -> bool {
    matches!(standing, Standing::Ready | Standing::Deferred)
}

/// The operator's host has checked this before; another function that decides may be wrong.
fn in_range(request: &Request, decision: Decision) -> Result<Decision, EvalError> {
    match decision.chosen() {
        Some(index) if request.items.get(index).is_none_or(|item| !item.startable) => Err(
            EvalError::BadAnswer(format!("chose item {index}, which cannot be started")),
        ),
        _ => Ok(decision),
    }
}

struct World<'a> {
    scenario: &'a Scenario,
    uid: String,
    now: Instant,
    state: String,
    pasts: Vec<Past>,
    history: History,
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let past = |item: &Item| Past {
            last_started: None,
            last_finished: None,
            last_success: None,
            last_failure: None,
            failures: 0,
            runs: 0,
            chance: chance(scenario.seed, &item.name),
        };
        Self {
            scenario,
            uid: scenario.seed.to_string(),
            now: scenario.start,
            state: String::new(),
            pasts: scenario.items.iter().map(past).collect(),
            history: History::default(),
        }
    }

    /// The items that are on the list now.
    fn listed(&self) -> Vec<usize> {
        let items = self.scenario.items.iter().enumerate();
        items
            .filter(|(_, item)| item.joins <= self.now)
            .map(|(index, _)| index)
            .collect()
    }

    /// When the list changes next, of which the operator takes notice at once.
    fn change(&self) -> Instant {
        let joins = self.scenario.items.iter().map(|item| item.joins);
        joins
            .filter(|at| self.now < *at)
            .min()
            .unwrap_or(Instant::MAX)
    }

    /// Until when the operator holds an item: it is not started twice within the retry
    /// floor, unless it succeeded and is due again sooner.
    fn held_until(&self, index: usize) -> Option<Instant> {
        let (past, floor) = (&self.pasts[index], self.scenario.retry_floor);
        let succeeded = past.failures == 0 && past.last_success.is_some();
        let frequency = self.scenario.items[index].frequency;
        if succeeded && frequency.is_some_and(|frequency| frequency < floor) {
            return None;
        }
        past.last_started
            .map(|at| later(at, floor))
            .filter(|until| self.now < *until)
    }

    fn request(&self, listed: &[usize]) -> Request {
        let item = |&index: &usize| {
            let (item, past) = (&self.scenario.items[index], &self.pasts[index]);
            policy_host::Item {
                name: item.name.clone(),
                frequency: item.frequency,
                cool_off: item.cool_off,
                settings: item.settings.clone(),
                startable: self.held_until(index).is_none(),
                last_success: past.last_success,
                last_failure: past.last_failure,
                failures: past.failures,
                runs: past.runs,
                last_duration: past
                    .last_finished
                    .zip(past.last_started)
                    .map(|(finished, started)| finished.abs_diff(started)),
            }
        };
        let recent = self.history.runs.iter().rev().take(RECENT);
        Request {
            namespace: "default".into(),
            group: "simulation".into(),
            now: self.now,
            seed: seed(&self.uid, self.history.runs.len() as i64 + 1),
            settings: self.scenario.settings.clone(),
            state: self.state.clone(),
            items: listed.iter().map(item).collect(),
            recent: recent.filter_map(|run| shown(run, listed)).collect(),
            extra: "{}".into(),
        }
    }

    fn follow(&mut self, listed: &[usize], request: &Request, decision: Decision) {
        match decision.choice {
            Choice::Run(index) => {
                if let Some(state) = decision.state {
                    self.state = state;
                }
                self.start(listed[index as usize], decision.note);
            }
            Choice::Wait(until) => {
                let verdict = |place: usize| decision.verdicts.get(place).map(|v| v.standing);
                // The operator looks again when it stops holding an item that could run.
                let released = (0..request.items.len())
                    .filter(|place| awaited(verdict(*place).unwrap_or(Standing::Ready)))
                    .filter_map(|place| self.held_until(listed[place]));
                let until = released.chain(until).min().unwrap_or(Instant::MAX);
                let wait = until.saturating_sub(self.now);
                let wait = wait.clamp(*WAITS.start(), *WAITS.end());
                self.now = self.now.saturating_add(wait).min(self.change());
            }
        }
    }

    /// Runs an item to its end.
    fn start(&mut self, index: usize, note: Option<String>) {
        let (item, past) = (&self.scenario.items[index], &mut self.pasts[index]);
        // Both drawn in every run: what befalls an item's next run does not depend on
        // what the policy chose, so that policies can be compared.
        let took = item.took.draw(&mut past.chance);
        let unlucky = item.fails.draw(&mut past.chance);
        let broken = |(from, to): &(Instant, Instant)| (*from..*to).contains(&self.now);
        let failed = unlucky || item.fails_between.iter().any(broken);
        let finished = later(self.now, took);
        let end = match failed {
            _ if finished > self.scenario.end => End::Unfinished,
            true => End::Failed,
            false => End::Succeeded,
        };
        past.last_started = Some(self.now);
        past.last_finished = Some(finished);
        past.runs += 1;
        if failed {
            past.last_failure = Some(finished);
            past.failures += 1;
        } else {
            past.last_success = Some(finished);
            past.failures = 0;
        }
        self.history.runs.push(Run {
            item: index,
            started: self.now,
            finished: finished.min(self.scenario.end),
            end,
            note,
        });
        self.now = finished;
    }

    fn count(&mut self, fuel: u64) {
        self.history.decisions += 1;
        self.history.fuel = self.history.fuel.saturating_add(fuel);
        self.history.fuel_max = self.history.fuel_max.max(fuel);
    }

    fn cut_short(mut self, why: String) -> History {
        self.history.cut_short = Some(why);
        self.done()
    }

    fn done(mut self) -> History {
        self.history.end = self.now;
        self.history
    }
}

/// The chance of one item, whatever else is on the list.
fn chance(seed: u64, name: &str) -> ChaCha8Rng {
    let digest = Sha256::new()
        .chain_update(seed.to_be_bytes())
        .chain_update(name)
        .finalize();
    ChaCha8Rng::from_seed(digest.into())
}

/// A run as the policy sees it.
fn shown(run: &Run, listed: &[usize]) -> Option<policy_host::Run> {
    let (outcome, exit_code) = match run.end {
        End::Succeeded => (Outcome::Succeeded, 0),
        End::Failed => (Outcome::Failed, 1),
        End::Unfinished => return None,
    };
    let place = listed.binary_search(&run.item).ok()?;
    Some(policy_host::Run {
        item: u32::try_from(place).ok()?,
        started: run.started,
        finished: run.finished,
        outcome,
        exit_code: Some(exit_code),
    })
}

#[cfg(test)]
#[path = "world_tests.rs"]
mod tests;
