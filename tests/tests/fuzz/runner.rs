//! Runs a property for a fixed set of cases, or for the time in the environment, from a seed that
//! is printed.

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The duration in seconds. Set by `cargo xtask fuzz --minutes`.
const SECONDS: &str = "OAAT_FUZZ_SECONDS";
/// The seed of the first batch of cases. Set by `cargo xtask fuzz --seed`.
const SEED: &str = "OAAT_FUZZ_SEED";
/// The timeout of one case. All cases except components take milliseconds, but the machine may be
/// busy.
const LONGEST: Duration = Duration::from_secs(120);

fn given<T: FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// Tests `property` on the values of `strategy`.
pub fn fuzz<S: Strategy>(
    target: &str,
    cases: u32,
    strategy: &S,
    property: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    let until = given(SECONDS).map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let random = || match until {
        Some(_) => RandomState::new().hash_one(0),
        None => 0,
    };
    let first = given(SEED).unwrap_or_else(random);
    let case = Arc::new(Mutex::new((first, None)));
    watch(target, &case);
    let mut total = 0_u64;
    for seed in first.. {
        // Printed before the cases, because some faults end the process.
        say(
            &format!("fuzz {target}: {total} cases so far, seed {seed}"),
            until.is_some(),
        );
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let config = Config {
            cases,
            max_shrink_iters: 500,
            failure_persistence: None,
            ..Config::default()
        };
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let ended = TestRunner::new_with_rng(config, rng).run(strategy, |value| {
            *lock(&case) = (seed, Some(Instant::now()));
            let held = property(value);
            lock(&case).1 = None;
            held
        });
        total += u64::from(cases);
        match ended {
            Ok(()) => {}
            Err(TestError::Fail(why, value)) => {
                let mut value = format!("{value:?}");
                value.truncate(value.floor_char_boundary(4_000));
                panic!("{}", failure(target, seed, &format!("{why}\n{value}")))
            }
            Err(error) => panic!("{}", failure(target, seed, &error.to_string())),
        }
        if until.is_none_or(|until| Instant::now() >= until) {
            break;
        }
    }
    say(
        &format!("fuzz {target}: {total} cases, the first seed was {first}"),
        true,
    );
}

fn failure(target: &str, seed: u64, why: &str) -> String {
    format!("{why}\nagain with: cargo xtask fuzz --target {target} --seed {seed}")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the process if a case exceeds its timeout.
fn watch(target: &str, case: &Arc<Mutex<(u64, Option<Instant>)>>) {
    let (target, case) = (target.to_owned(), Arc::downgrade(case));
    std::thread::spawn(move || {
        while let Some(case) = case.upgrade() {
            let (seed, since) = *lock(&case);
            if since.is_some_and(|since| since.elapsed() > LONGEST) {
                say(&failure(&target, seed, "a case does not end"), true);
                std::process::abort();
            }
            drop(case);
            std::thread::sleep(Duration::from_secs(1));
        }
    });
}

/// Not `println!`, which shows output only if the test fails.
fn say(words: &str, aloud: bool) {
    if aloud {
        let _ = writeln!(std::io::stdout(), "{words}");
    }
}
