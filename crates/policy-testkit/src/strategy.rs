//! Generates requests for property tests.

use policy_sdk::{Instant, Item, Outcome, Request, Run};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// The time of all generated requests.
pub const NOW: Instant = 1_800_000_000_000;

/// Generates times in the past, now, and in the near future (node clocks can be skewed). The coarse
/// steps make equal times and exact ends of periods likely.
fn instant() -> impl Strategy<Value = Instant> {
    prop_oneof![
        9 => (-5_i64..=40).prop_map(|minutes| NOW - minutes * 60_000),
        1 => any::<i64>(),
    ]
}

fn duration() -> impl Strategy<Value = u64> {
    prop_oneof![
        9 => (0_u64..=30).prop_map(|minutes| minutes * 60_000),
        1 => any::<u64>(),
    ]
}

prop_compose! {
    /// Generates an item with any history that the operator could report.
    pub fn item()(
        name in "[a-zA-Z0-9 /.ü-]{1,20}",
        frequency in option::weighted(0.9, duration()),
        cool_off in prop_oneof![Just(0), duration()],
        startable in proptest::bool::weighted(0.8),
        last_success in option::of(instant()),
        last_failure in option::of(instant()),
        failures in 0_u32..4,
        runs in 0_u32..9,
        last_duration in option::of(0_u64..1_000_000),
    ) -> Item {
        Item {
            name,
            frequency,
            cool_off,
            settings: None,
            startable,
            last_success,
            last_failure,
            failures,
            runs,
            last_duration,
        }
    }
}

prop_compose! {
    fn run(items: u32)(
        item in 0..items,
        finished in instant(),
        took in 0_i64..1_000_000,
        outcome in prop_oneof![
            Just(Outcome::Succeeded),
            Just(Outcome::Failed),
            Just(Outcome::Stopped),
        ],
        exit_code in option::of(0..256),
    ) -> Run {
        Run { item, started: finished.saturating_sub(took), finished, outcome, exit_code }
    }
}

/// Generates a request with 1 to 11 items and up to 20 recent runs.
pub fn request() -> impl Strategy<Value = Request> {
    vec(item(), 1..12)
        .prop_flat_map(|mut items| {
            for (i, item) in items.iter_mut().enumerate() {
                item.name = format!("{i} {}", item.name);
            }
            let runs = vec(run(items.len() as u32), 0..=20);
            (Just(items), runs, any::<u64>())
        })
        .prop_map(|(items, recent, seed)| Request {
            items,
            recent,
            seed,
            ..Request::at(NOW)
        })
}

/// Returns `count` generated requests, which are the same on every machine. Use them to compare two
/// policies, such as implementations of one algorithm in two languages.
pub fn requests(count: usize) -> impl Iterator<Item = Request> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let generated = std::iter::from_fn(move || request().new_tree(&mut runner).ok());
    generated.map(|tree| tree.current()).take(count)
}
