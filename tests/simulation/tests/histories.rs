//! Thousands of histories, and none that goes wrong.

mod telling;

use oaat_simulation::many::{killed_at_every_write, many, one, shortest};
use oaat_simulation::{Faults, Setting, default_policy};
use telling::{summary, tell};

/// Histories in a test run; `cargo run --release -p oaat-simulation -- --seeds N` goes on.
const SEEDS: u64 = 10_000;

fn seed(seed: u64) -> Setting {
    Setting {
        seed,
        ..Setting::default()
    }
}

/// Runs histories, none of which may go wrong.
fn check(what: &str, count: u64, setting: impl Fn(u64) -> Setting + Sync) {
    let policy = default_policy().expect("the built-in policy");
    let sum = many(count, setting, &policy, |_| ()).expect("threads");
    tell(&format!("{what}: {}", summary(&sum)));
    if let Some((setting, what)) = sum.wrong {
        let (short, verdict) = shortest(&setting, &policy).expect("a shorter history");
        panic!(
            "{setting:?}: {what}\n{short:?}\n{}",
            verdict.told.join("\n")
        );
    }
    assert_eq!(sum.histories, count);
    assert!(sum.runs > count, "{sum:?}");
}

#[test]
fn no_history_goes_wrong() {
    check("histories", SEEDS, seed);
}

#[test]
fn nor_does_one_amid_meddling() {
    check("histories amid meddling", 1_000, |number| Setting {
        faults: Faults::Meddling,
        ..seed(number)
    });
}

#[test]
fn nor_does_one_amid_people_who_suspend_and_ask() {
    check("histories amid wishes", 1_000, |number| Setting {
        faults: Faults::Wishes,
        ..seed(number)
    });
}

#[test]
fn nor_does_one_with_items_from_a_list() {
    check("histories with a list", 1_000, |number| Setting {
        faults: Faults::Lists,
        ..seed(number)
    });
}

/// A crash before and after every write of a whole history, one at a time: with nothing else
/// that goes wrong, and amid all other faults.
#[test]
fn a_replica_may_be_killed_at_every_write() {
    let policy = default_policy().unwrap();
    for (seeds, faults) in [(0..8, Faults::None), (100..108, Faults::Second)] {
        let settings = killed_at_every_write(seeds, faults, &policy).unwrap();
        let words = format!("killed at every write, other faults: {faults:?}");
        check(&words, settings.len() as u64, |n| {
            settings[n as usize].clone()
        });
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
