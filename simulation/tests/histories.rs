//! Thousands of histories, and the proof that the oracle would notice.

use oaat_simulation::many::{many, one, shortest};
use oaat_simulation::{Mutation, Setting, default_policy};

/// Histories in a test run; `cargo run --release -p oaat-simulation -- --seeds N` goes on.
const SEEDS: u64 = 4_000;
/// Each mutation is noticed within far fewer.
const MUTATED: u64 = 500;

#[test]
fn no_history_goes_wrong() {
    let policy = default_policy().unwrap();
    let sum = many(0..SEEDS, None, &policy, |_| ()).unwrap();
    println!(
        "{} histories, {} runs, {} looks, {} faults",
        sum.seeds, sum.runs, sum.looks, sum.faults
    );
    if let Some((seed, what)) = sum.wrong {
        let short = shortest(seed, None, &policy).unwrap();
        panic!("seed {seed}: {what}\n{}", short.told.join("\n"));
    }
    assert_eq!(sum.seeds, SEEDS);
    assert!(sum.runs > SEEDS && sum.faults > SEEDS, "{sum:?}");
}

#[test]
fn every_rule_that_is_switched_off_is_noticed() {
    let policy = default_policy().unwrap();
    for mutation in Mutation::ALL {
        let sum = many(0..MUTATED, Some(mutation), &policy, |_| ()).unwrap();
        let (seed, what) = sum
            .wrong
            .unwrap_or_else(|| panic!("{mutation:?} was not noticed in {MUTATED} histories"));
        println!("{mutation:?}: seed {seed}: {what}");
    }
}

#[test]
fn one_seed_is_one_history() {
    let policy = default_policy().unwrap();
    let tell = |seed| {
        let setting = Setting {
            seed,
            told: true,
            ..Setting::default()
        };
        one(&setting, &policy).unwrap().told
    };
    for seed in [3, 16, 59] {
        assert_eq!(tell(seed), tell(seed));
    }
    assert_ne!(tell(3), tell(16));
}
