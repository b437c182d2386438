//! No history of thousands shows a violation.

mod output;

use oaat_simulation::many::{kills_at_every_write, run_many, run_one, shorten};
use oaat_simulation::{FaultSet, HistoryConfig, default_policy};
use output::{print_line, totals};

/// The number of histories in a test run. `cargo run --release -p oaat-simulation -- --seeds N`
/// runs any number.
const SEEDS: u64 = 5_000;

/// Returns the number of histories of a kind: that of the environment variable `OAAT_SEEDS`, which
/// `cargo xtask test --quick` sets, or else `default`.
fn seeds(default: u64) -> u64 {
    match std::env::var("OAAT_SEEDS") {
        Ok(number) => number.parse().expect("OAAT_SEEDS is a number"),
        Err(_) => default,
    }
}

fn seed(seed: u64) -> HistoryConfig {
    HistoryConfig {
        seed,
        ..HistoryConfig::default()
    }
}

/// Runs histories, and fails at the first violation.
fn check(what: &str, count: u64, config: impl Fn(u64) -> HistoryConfig + Sync) {
    let policy = default_policy().expect("the built-in policy");
    let summary = run_many(count, config, &policy, |_| ()).expect("threads");
    print_line(&format!("{what}: {}", totals(&summary)));
    if let Some((config, what)) = summary.violation {
        let (short, result) = shorten(&config, &policy).expect("a shorter history");
        panic!("{config:?}: {what}\n{short:?}\n{}", result.trace.join("\n"));
    }
    assert_eq!(summary.histories, count);
    assert!(summary.runs > count, "{summary:?}");
}

#[test]
fn histories_have_no_violation() {
    check("histories", seeds(SEEDS), seed);
}

#[test]
fn histories_with_user_interference_have_no_violation() {
    check("histories with user interference", seeds(500), |number| {
        HistoryConfig {
            faults: FaultSet::UserInterference,
            ..seed(number)
        }
    });
}

#[test]
fn histories_with_suspend_and_run_now_have_no_violation() {
    check("histories with suspend and run-now", seeds(500), |number| {
        HistoryConfig {
            faults: FaultSet::SuspendAndRunNow,
            ..seed(number)
        }
    });
}

#[test]
fn histories_with_item_lists_have_no_violation() {
    check("histories with item lists", seeds(500), |number| {
        HistoryConfig {
            faults: FaultSet::ItemLists,
            ..seed(number)
        }
    });
}

#[test]
fn histories_with_disruptions_have_no_violation() {
    check("histories with disruptions", seeds(500), |number| {
        HistoryConfig {
            faults: FaultSet::Disruptions,
            ..seed(number)
        }
    });
}

#[test]
fn histories_with_clock_jumps_have_no_violation() {
    check("histories with clock jumps", seeds(500), |number| {
        HistoryConfig {
            faults: FaultSet::ClockJumps,
            ..seed(number)
        }
    });
}

#[test]
fn histories_with_sidecars_and_interrupted_deletions_have_no_violation() {
    check(
        "histories with sidecars and interrupted deletions",
        seeds(500),
        |number| HistoryConfig {
            faults: FaultSet::SidecarsAndDeletions,
            ..seed(number)
        },
    );
}

/// A replica is killed before and after every write of a whole history, one at a time: without
/// other faults, and with all of them. The seeds are chosen for short histories, because the number
/// of steps grows with the square of the number of writes.
#[test]
fn a_replica_killed_at_every_write_causes_no_violation() {
    let policy = default_policy().unwrap();
    for (seeds, faults) in [(0..8, FaultSet::None), (110..123, FaultSet::Standard)] {
        let configs = kills_at_every_write(seeds, faults, &policy).unwrap();
        let details = format!("killed at every write, other faults: {faults:?}");
        check(&details, configs.len() as u64, |n| {
            configs[n as usize].clone()
        });
    }
}

#[test]
fn a_seed_always_produces_the_same_history() {
    let policy = default_policy().unwrap();
    let trace = |seed| {
        let config = HistoryConfig {
            seed,
            trace: true,
            ..HistoryConfig::default()
        };
        run_one(&config, &policy).unwrap().trace
    };
    for seed in [3, 16, 59] {
        assert_eq!(trace(seed), trace(seed));
    }
    assert_ne!(trace(3), trace(16));
}
