//! Creates a scenario that continues a recorded group from one of its decisions.

use super::fields::{Probability, RunDuration};
use super::scenario::{Item, ItemPast, Past, Scenario};
use crate::views::counted;
use policy_cases::time::format_duration;
use policy_host::{Duration, Instant, Request};
use std::collections::{HashMap, HashSet};

/// The operator's default for the minimum time between two starts of an item.
const RETRY_FLOOR: Duration = 10_000;
/// How long a run is assumed to take if no run of the group was recorded.
const UNKNOWN_DURATION: Duration = 60_000;
/// The range of the durations of runs. Records are untrusted.
const DURATIONS: std::ops::RangeInclusive<Duration> = 1_000..=30 * 24 * 3_600_000;
/// The range of the times of decisions: the years from 1970 to 9999.
const TIMES: std::ops::Range<Instant> = 0..253_402_300_800_000;

/// A finished run in a record that succeeded or failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordedRun {
    pub item: String,
    pub started: Instant,
    pub finished: Instant,
    pub failed: bool,
}

/// The recorded runs of an item.
#[derive(Default)]
struct ItemRuns {
    durations: Vec<Duration>,
    failed: usize,
    last_started: Option<Instant>,
}

/// Returns the scenario that continues a group from its last recorded request, and its assumptions.
///
/// # Errors
/// Returns an error if the request cannot come from an operator.
pub(crate) fn scenario_of<'a>(
    request: &Request,
    runs: impl Iterator<Item = &'a RecordedRun>,
    length: Duration,
) -> Result<(Scenario, Vec<String>), String> {
    check(request)?;
    let mut by_item: HashMap<&str, ItemRuns> = HashMap::new();
    let mut all = Vec::new();
    for run in runs {
        let item = by_item.entry(&run.item).or_default();
        let duration = run.finished.abs_diff(run.started);
        item.durations.push(duration);
        item.failed += usize::from(run.failed);
        item.last_started = item.last_started.max(Some(run.started));
        all.push(duration);
    }
    let usual = median(&mut all).unwrap_or(UNKNOWN_DURATION);
    let none = ItemRuns::default();
    let items: Vec<Item> = request
        .items
        .iter()
        .map(|item| {
            let runs = by_item.get(item.name.as_str()).unwrap_or(&none);
            scenario_item(request, item, runs, usual)
        })
        .collect();
    let assumptions = assumptions(request, &items, &by_item, usual);
    let scenario = Scenario {
        start: request.now,
        end: request.now.saturating_add_unsigned(length),
        seed: 1,
        retry_floor: RETRY_FLOOR,
        settings: request.settings.clone(),
        items,
        past: Past {
            state: request.state.clone(),
            runs: request.recent.clone(),
            group: Some((request.namespace.clone(), request.group.clone())),
        },
        windows: Vec::new(),
        requested: Vec::new(),
    };
    Ok((scenario, assumptions))
}

/// Checks the properties of a request that a simulation relies on.
fn check(request: &Request) -> Result<(), String> {
    let count = request.items.len();
    let mut names = HashSet::new();
    if !TIMES.contains(&request.now) {
        return Err(format!("now: {} is not a time after 1970", request.now));
    }
    if count == 0 {
        return Err("items: the list is empty".to_owned());
    }
    if let Some(item) = request.items.iter().find(|item| !names.insert(&item.name)) {
        return Err(format!("items: the name {:?} is repeated", item.name));
    }
    match request.recent.iter().find(|run| run.item as usize >= count) {
        Some(run) => Err(format!("recent: {} is not the index of an item", run.item)),
        None => Ok(()),
    }
}

fn scenario_item(
    request: &Request,
    item: &policy_host::Item,
    runs: &ItemRuns,
    usual: Duration,
) -> Item {
    let duration = median(&mut runs.durations.clone());
    let duration = duration.or(item.last_duration).unwrap_or(usual);
    let duration = duration.clamp(*DURATIONS.start(), *DURATIONS.end());
    let in_range = |at: Instant| at.clamp(TIMES.start, TIMES.end);
    let last_success = item.last_success.map(in_range);
    let last_failure = item.last_failure.map(in_range);
    // `Option` orders no time before any time.
    let last_finished = last_success.max(last_failure);
    let last_started = last_finished
        .map(|at| at.saturating_sub_unsigned(item.last_duration.unwrap_or(0)))
        .max(runs.last_started);
    let is_in_retry_floor =
        last_started.is_some_and(|at| request.now.saturating_sub(at) < RETRY_FLOOR as i64);
    Item {
        name: item.name.clone(),
        frequency: item.frequency,
        cool_off: item.cool_off,
        settings: item.settings.clone(),
        run_duration: RunDuration::fixed(duration),
        fails: Probability::of(runs.failed, runs.durations.len()),
        fails_between: Vec::new(),
        joins: request.now,
        past: ItemPast {
            last_started,
            last_duration: item.last_duration,
            longest_success: None,
            last_success,
            last_failure,
            // The simulation increments these counts.
            failures: item.failures.min(u32::MAX / 2),
            runs: item.runs.min(u32::MAX / 2),
        },
        schedule: None,
        held: !item.startable && !is_in_retry_floor,
    }
}

/// Describes what a simulation assumes, one sentence each: "assumes that …".
fn assumptions(
    request: &Request,
    items: &[Item],
    by_item: &HashMap<&str, ItemRuns>,
    usual: Duration,
) -> Vec<String> {
    let known = |name: &str| by_item.get(name).filter(|runs| !runs.durations.is_empty());
    let runs = items.iter().filter_map(|item| known(&item.name));
    let (all, failed) = runs.fold((0, 0), |(all, failed), runs| {
        (all + runs.durations.len(), failed + runs.failed)
    });
    let mut assumptions = vec![
        format!(
            "each run takes the median time of the item's recorded runs, and fails as often as \
             these did ({failed} of {})",
            counted(all, "run")
        ),
        "frequencies stay the same, also for items with a schedule, and there are no blackout \
         windows"
            .to_owned(),
    ];
    let unknown = request
        .items
        .iter()
        .filter(|item| known(&item.name).is_none());
    let unknown: Vec<_> = unknown.collect();
    if !unknown.is_empty() {
        let never = unknown.iter().filter(|item| item.last_duration.is_none());
        let never = match never.count() {
            0 => String::new(),
            count => format!(
                ", or {} ({})",
                format_duration(usual),
                counted(count, "item")
            ),
        };
        assumptions.push(format!(
            "runs of {} without recorded runs succeed and take as long as the last one{never}",
            counted(unknown.len(), "item")
        ));
    }
    let held = items.iter().filter(|item| item.held).count();
    if held > 0 {
        assumptions.push(format!(
            "{} that the operator holds cannot start",
            counted(held, "item")
        ));
    }
    if !request.state.is_empty() {
        assumptions.push("both policies can use the recorded state".to_owned());
    }
    assumptions
}

fn median(durations: &mut [Duration]) -> Option<Duration> {
    durations.sort_unstable();
    durations.get(durations.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::test_fixtures::answer;
    use policy_host::{Outcome, Run};

    const NOW: Instant = 1_767_268_800_000;
    const MINUTE: i64 = 60_000;

    fn item(name: &str) -> policy_host::Item {
        policy_host::Item {
            name: name.into(),
            frequency: Some(3_600_000),
            cool_off: 0,
            settings: None,
            startable: true,
            last_success: Some(NOW - 30 * MINUTE),
            last_failure: None,
            failures: 0,
            runs: 1,
            last_duration: Some(5 * MINUTE as u64),
        }
    }

    fn request(items: Vec<policy_host::Item>) -> Request {
        Request {
            namespace: "n".into(),
            group: "g".into(),
            now: NOW,
            seed: 1,
            settings: "{}".into(),
            state: String::new(),
            items,
            recent: Vec::new(),
            extra: "{}".into(),
        }
    }

    fn run(item: &str, started: i64, minutes: i64, failed: bool) -> RecordedRun {
        RecordedRun {
            item: item.into(),
            started: NOW - started * MINUTE,
            finished: NOW - (started - minutes) * MINUTE,
            failed,
        }
    }

    #[test]
    fn runs_and_failures_continue_as_recorded() {
        let never_ran = policy_host::Item {
            last_success: None,
            last_duration: None,
            ..item("c")
        };
        let request = request(vec![item("a"), item("b"), never_ran]);
        let runs = [
            run("a", 500, 1, true),
            run("a", 400, 2, false),
            run("a", 300, 9, true),
            run("removed", 200, 2, true),
        ];
        let (scenario, assumptions) = scenario_of(&request, runs.iter(), 1000).unwrap();
        let durations = scenario.items.iter().map(|item| item.run_duration);
        let minutes = [2, 5, 2].map(|minutes: u64| RunDuration::fixed(minutes * 60_000));
        assert_eq!(durations.collect::<Vec<_>>(), minutes);
        let fails = scenario.items.iter().map(|item| item.fails);
        let never = Probability::of(0, 1);
        assert_eq!(
            fails.collect::<Vec<_>>(),
            [Probability::of(2, 3), never, never]
        );
        assert_eq!((scenario.start, scenario.end), (NOW, NOW + 1000));
        assert_eq!(
            assumptions,
            [
                "each run takes the median time of the item's recorded runs, and fails as often \
                 as these did (2 of 3 runs)",
                "frequencies stay the same, also for items with a schedule, and there are no \
                 blackout windows",
                "runs of 2 items without recorded runs succeed and take as long as the last one, \
                 or 2m (1 item)",
            ]
        );
    }

    #[test]
    fn held_items_stay_held_unless_the_retry_floor_explains_it() {
        let held = |last_success| policy_host::Item {
            startable: false,
            last_success: Some(last_success),
            last_duration: Some(1_000),
            ..item("a")
        };
        for (last_success, expected) in [(NOW - 1_000, false), (NOW - 30_000, true)] {
            let request = request(vec![held(last_success), item("b")]);
            let (scenario, assumptions) = scenario_of(&request, [].iter(), 1000).unwrap();
            let items: Vec<_> = scenario.items.iter().map(|item| item.held).collect();
            assert_eq!(items, [expected, false]);
            let text = "1 item that the operator holds cannot start".to_owned();
            assert_eq!(assumptions.contains(&text), expected, "{assumptions:?}");
        }
    }

    #[test]
    fn requests_that_no_operator_sends_are_rejected() {
        let valid = || request(vec![item("a")]);
        let run = Run {
            item: 1,
            started: 0,
            finished: 0,
            outcome: Outcome::Failed,
            exit_code: None,
        };
        for (request, words) in [
            (request(vec![]), "items: the list is empty"),
            (request(vec![item("a"), item("a")]), "\"a\" is repeated"),
            (
                Request {
                    recent: vec![run],
                    ..valid()
                },
                "recent: 1",
            ),
            (
                Request {
                    now: i64::MAX,
                    ..valid()
                },
                "now: ",
            ),
        ] {
            let error = scenario_of(&request, [].iter(), 1000).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn extreme_values_are_simulated() {
        let extreme = policy_host::Item {
            frequency: Some(u64::MAX),
            cool_off: u64::MAX,
            last_success: Some(i64::MAX),
            last_failure: Some(i64::MIN),
            failures: u32::MAX,
            runs: u32::MAX,
            last_duration: Some(u64::MAX),
            ..item("a")
        };
        let past = RecordedRun {
            item: "b".into(),
            started: i64::MIN,
            finished: i64::MAX,
            failed: false,
        };
        let request = request(vec![extreme, item("b"), item("c")]);
        let (scenario, _) = scenario_of(&request, [past].iter(), u64::MAX).unwrap();
        let decide = |request: &Request| {
            let startable = request.items.iter().position(|item| item.startable);
            answer(match startable {
                Some(index) => policy_host::Choice::Run(index as u32),
                None => policy_host::Choice::Wait(None),
            })
        };
        let history = super::super::simulate(&scenario, decide, |_| ());
        super::super::Metrics::of(&scenario, &history);
        assert!(!history.runs.is_empty());
    }
}
