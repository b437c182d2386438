//! Simulates many decisions in a row with the native function, and tests properties of the result.

use policy_fair::select;
use policy_sdk::{Choice, Item, Outcome, Request, Run};
use proptest::collection::vec;
use proptest::prelude::*;

const SECOND: u64 = 1000;

/// A group and its clock. Does what the operator does between two decisions.
struct Group {
    request: Request,
    /// The duration of each item's runs.
    takes: Vec<u64>,
    /// The total time and the number of runs of each item.
    ran: Vec<u64>,
    runs: Vec<u32>,
}

impl Group {
    /// Creates items that are always due, from their weights and the durations of their runs.
    fn always_due(items: impl IntoIterator<Item = (f64, u64)>) -> Self {
        let mut request = Request::at(1_800_000_000_000);
        let mut takes = Vec::new();
        for (i, (weight, length)) in items.into_iter().enumerate() {
            request.items.push(Item {
                settings: Some(format!(r#"{{"weight": {weight}}}"#)),
                ..Item::named(format!("item {i}")).every(0)
            });
            takes.push(length);
        }
        Self {
            request,
            ran: vec![0; takes.len()],
            runs: vec![0; takes.len()],
            takes,
        }
    }

    /// Makes the names so long that few of them fit into a state.
    fn with_long_names(mut self) -> Self {
        for item in &mut self.request.items {
            item.name.push_str(&"x".repeat(280));
        }
        self
    }

    /// Makes a decision and applies it. Returns the item that ran.
    fn step(&mut self) -> Option<usize> {
        let decision = select(&self.request).expect("valid settings");
        self.request.seed = self.request.seed.wrapping_add(1);
        let i = match decision.choice {
            Choice::Wait(until) => {
                self.request.now = until.expect("a wait ends");
                return None;
            }
            Choice::Run(i) => i as usize,
        };
        if let Some(state) = decision.state {
            assert!(state.len() <= 4096, "{} bytes", state.len());
            self.request.state = state;
        }
        let started = self.request.now;
        // Like in the operator, no two runs start in the same millisecond.
        self.request.now += self.takes[i] as i64 + 1;
        self.request.recent.insert(
            0,
            Run {
                item: i as u32,
                started,
                finished: started + self.takes[i] as i64,
                outcome: Outcome::Succeeded,
                exit_code: Some(0),
            },
        );
        self.request.recent.truncate(20);
        self.request.items[i].last_success = Some(self.request.now);
        self.ran[i] += self.takes[i];
        self.runs[i] += 1;
        Some(i)
    }

    /// Returns the maximum number of steps in which an item did not run.
    fn longest_wait(&mut self, steps: usize) -> usize {
        let mut last = vec![0; self.takes.len()];
        let mut longest = 0;
        for step in 1..=steps {
            if let Some(i) = self.step() {
                last[i] = step;
            }
            longest = longest.max(last.iter().map(|at| step - at).max().unwrap_or(0));
        }
        longest
    }
}

/// Asserts that items with equal weights and durations take turns.
fn assert_takes_turns(mut group: Group, steps: usize) {
    for _ in 0..steps {
        group.step();
        let (least, most) = (group.runs.iter().min(), group.runs.iter().max());
        let apart = most.unwrap_or(&0) - least.unwrap_or(&0);
        assert!(apart <= 1, "{:?}", group.runs);
    }
}

#[test]
fn items_that_do_not_fit_into_a_state_take_turns() {
    assert_takes_turns(
        Group::always_due([(1.0, 30 * SECOND); 60]).with_long_names(),
        400,
    );
}

#[test]
fn item_with_three_times_the_weight_gets_three_times_the_time() {
    let mut group = Group::always_due([(1.0, 60 * SECOND), (3.0, 20 * SECOND)]);
    for _ in 0..1000 {
        group.step();
    }
    let ratio = group.ran[1] as f64 / group.ran[0] as f64;
    assert!((2.99..=3.01).contains(&ratio), "{ratio}");
}

#[test]
fn item_that_was_not_due_is_not_owed_time() {
    let mut group = Group::always_due([(1.0, 10 * SECOND); 3]);
    let back = group.request.now + 3_600_000;
    group.request.items[2].frequency = Some(3_600_000);
    group.request.items[2].last_success = Some(group.request.now);
    while group.request.now < back {
        group.step();
    }
    group.request.items[2].frequency = Some(0);
    let before = group.runs.clone();
    for _ in 0..30 {
        group.step();
    }
    let since: Vec<_> = (0..3).map(|i| group.runs[i] - before[i]).collect();
    assert!(
        since.iter().all(|runs| (9..=11).contains(runs)),
        "{since:?}"
    );
}

#[test]
fn gap_separates_all_runs() {
    let mut group = Group::always_due([(1.0, 10 * SECOND); 3]);
    group.request.settings = r#"{"gap": "30s"}"#.into();
    for _ in 0..50 {
        group.step();
    }
    assert!(group.runs.iter().sum::<u32>() >= 25);
    for pair in group.request.recent.windows(2) {
        assert_eq!(pair[0].started - pair[1].finished, 30_000);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn equal_items_take_turns(items in 1_usize..12, seconds in 0_u64..100) {
        assert_takes_turns(Group::always_due(vec![(1.0, seconds * SECOND); items]), 60);
    }

    /// For any two items the time that they ran, each divided by its weight, differs by
    /// one run at most.
    #[test]
    fn time_is_shared_by_weight(
        items in vec((100_u32..10_000, 1_u64..100), 2..8),
        steps in 1_usize..300,
    ) {
        let weight = |thousandths| f64::from(thousandths) / 1000.0;
        let items: Vec<_> = items.into_iter().map(|(w, s)| (weight(w), s * SECOND)).collect();
        let mut group = Group::always_due(items.clone());
        for _ in 0..steps {
            group.step();
        }
        let share = |i: usize| group.ran[i] as f64 / items[i].0;
        let longest = items.iter().map(|(w, took)| *took as f64 / w).fold(0.0, f64::max);
        // Each charge is rounded to a millisecond.
        let most = longest + steps as f64;
        for a in 0..items.len() {
            for b in 0..items.len() {
                prop_assert!((share(a) - share(b)).abs() <= most, "{:?}", group.ran);
            }
        }
    }

    #[test]
    fn no_item_starves(items in vec(weight_and_length(), 1..10)) {
        assert_wait_is_bounded(Group::always_due(items));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    #[test]
    fn no_item_starves_if_a_state_does_not_fit_all(items in vec(weight_and_length(), 16..24)) {
        assert_wait_is_bounded(Group::always_due(items).with_long_names());
    }
}

fn weight_and_length() -> impl Strategy<Value = (f64, u64)> {
    (500_u32..2000, SECOND..8 * SECOND)
        .prop_map(|(weight, took)| (f64::from(weight) / 1000.0, took))
}

/// Asserts that no item waits longer than its lead allows. A run puts an item ahead by at most
/// 8 s / 0.5, and charges at least 1 s / 2, so each other item may run 32 times before it.
fn assert_wait_is_bounded(mut group: Group) {
    let bound = (32 + 1) * group.takes.len();
    let longest = group.longest_wait(2 * bound);
    assert!(longest <= bound, "{longest} of {bound}");
}
