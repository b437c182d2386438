//! Measures what one decision of a policy takes, and what is left of its limits.

use anyhow::{Result, anyhow};
use policy_host::{Host, Item, Limits, Outcome, Policy, Request, Run};
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Evaluations before those that count.
const WARM_UP: usize = 50;
/// Evaluations that count: as many as fit into the time, but not fewer than the least,
/// from which there is a 99th percentile.
const ROUNDS: std::ops::RangeInclusive<usize> = 100..=1_000;
const TIME: Duration = Duration::from_secs(3);
/// Loads, each of which compiles.
const LOADS: usize = 11;
/// The time of the requests.
const NOW: i64 = 1_800_000_000_000;

/// Settings.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The policy.
    pub file: PathBuf,
    /// Numbers of items to decide about, each from 1 to 2000.
    #[arg(
        long,
        value_delimiter = ',',
        default_values_t = [10, 100, 1_000, 2_000],
        value_parser = clap::value_parser!(u32).range(1..=2_000)
    )]
    pub items: Vec<u32>,
    /// The settings to measure it with, a JSON object.
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub settings: String,
    /// Print the figures as JSON.
    #[arg(long)]
    pub json: bool,
}

/// All figures.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Figures {
    policy: String,
    bytes: usize,
    compile_p50_us: u64,
    /// This program itself is a debug build, and slow.
    debug_build: bool,
    decisions: Vec<Decisions>,
}

/// Those of decisions about one number of items.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Decisions {
    items: u32,
    evaluations: usize,
    p50_us: u64,
    p99_us: u64,
    fuel: u64,
    fuel_limit: u64,
}

pub(crate) fn run(args: &Args, built_in: &[u8]) -> Result<ExitCode> {
    let component = crate::policy::component::load(&args.file, built_in)?;
    let figures = Figures {
        policy: component.policy.digest().to_owned(),
        bytes: component.wasm.len(),
        compile_p50_us: micros(compile(&component.wasm)?),
        debug_build: cfg!(debug_assertions),
        decisions: args
            .items
            .iter()
            .map(|items| decisions(&component.policy, *items, &args.settings))
            .collect::<Result<_>>()?,
    };
    let text = match args.json {
        true => format!("{}\n", serde_json::to_string_pretty(&figures)?),
        false => table(&figures),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Loading is compiling, and one decision about two items.
fn compile(wasm: &[u8]) -> Result<Duration> {
    let host = Host::new(Limits::default())?;
    let mut samples = vec![];
    for _ in 0..LOADS {
        let start = Instant::now();
        host.load(wasm, None)
            .map_err(|error| anyhow!("{}: {error}", error.reason()))?;
        samples.push(start.elapsed());
    }
    Ok(quantile(&mut samples, 0.5))
}

fn decisions(policy: &Policy, items: u32, settings: &str) -> Result<Decisions> {
    let request = Request {
        settings: settings.to_owned(),
        ..request(items)
    };
    let mut samples = vec![];
    let mut fuel = 0;
    let begin = Instant::now();
    for round in 0..WARM_UP + ROUNDS.end() {
        let start = Instant::now();
        let evaluation = policy.evaluate(&request);
        let took = start.elapsed();
        // The same each time.
        fuel = evaluation.fuel;
        evaluation
            .answer
            .map_err(|error| anyhow!("with {items} items there is nothing to measure: {error}"))?;
        if round >= WARM_UP {
            samples.push(took);
        }
        if samples.len() >= *ROUNDS.start() && begin.elapsed() > TIME {
            break;
        }
    }
    Ok(Decisions {
        items,
        evaluations: samples.len(),
        p50_us: micros(quantile(&mut samples, 0.5)),
        p99_us: micros(quantile(&mut samples, 0.99)),
        fuel,
        fuel_limit: policy.fuel_limit(request.items.len()),
    })
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The duration that this share (0 to 1) of the samples does not exceed.
fn quantile(samples: &mut [Duration], share: f64) -> Duration {
    samples.sort();
    let index = (share * samples.len().saturating_sub(1) as f64).round() as usize;
    samples.get(index).copied().unwrap_or_default()
}

fn table(figures: &Figures) -> String {
    let head = ["items", "p50", "p99", "fuel", "limit", "left"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(figures.decisions.iter().map(|d| {
        [
            d.items.to_string(),
            format!("{} µs", d.p50_us),
            format!("{} µs", d.p99_us),
            d.fuel.to_string(),
            d.fuel_limit.to_string(),
            left(d),
        ]
    }));
    let slow = match figures.debug_build {
        true => {
            "\nThis is a debug build of the program, which is slow: times say little. Fuel is exact.\n"
        }
        false => "",
    };
    format!(
        "policy {}\n{} bytes, compiled in {:.1} ms (p50 of {LOADS})\n\n\
         one decision, in a fresh sandbox:\n{}{slow}",
        figures.policy,
        figures.bytes,
        figures.compile_p50_us as f64 / 1e3,
        crate::policy::table::aligned(&rows),
    )
}

/// Rounded down, so that little left is never shown as more.
fn left(decisions: &Decisions) -> String {
    let left = decisions.fuel_limit.saturating_sub(decisions.fuel);
    let permille = u128::from(left) * 1_000 / u128::from(decisions.fuel_limit.max(1));
    format!("{}.{} %", permille / 10, permille % 10)
}

/// A group in the middle of its life: of each four items one succeeded lately, one is due
/// again, one rests after a failure, and one has never run or failed long ago.
fn request(items: u32) -> Request {
    let item = |index: u32| {
        let some = i64::from(index) * 7_919 % 600_000;
        let (last_success, last_failure) = match index % 8 {
            0 | 4 => (Some(NOW - 60_000 - some), None),
            1 => (Some(NOW - 4_000_000 - some), None),
            5 => (Some(NOW - 4_000_000 - some), Some(NOW - 9_000_000 - some)),
            2 | 6 => (Some(NOW - 8_000_000 - some), Some(NOW - some)),
            3 => (None, None),
            _ => (None, Some(NOW - 2_000_000 - some)),
        };
        let failures = u32::from(last_failure > last_success);
        let runs = u32::from(last_success.is_some()) * 12 + failures;
        Item {
            name: format!("home/user{index}/documents"),
            frequency: Some(3_600_000),
            cool_off: 600_000,
            settings: None,
            startable: true,
            last_success,
            last_failure,
            failures,
            runs,
            last_duration: (runs > 0).then_some(90_000),
        }
    };
    let items: Vec<_> = (0..items).map(item).collect();
    Request {
        namespace: "default".into(),
        group: "bench".into(),
        now: NOW,
        seed: 42,
        settings: "{}".into(),
        state: String::new(),
        recent: recent(&items),
        items,
        extra: "{}".into(),
    }
}

/// The latest run of each of the items that ran last.
fn recent(items: &[Item]) -> Vec<Run> {
    let run = |(index, item): (usize, &Item)| {
        let finished = item.last_success.max(item.last_failure)?;
        let failed = item.last_failure > item.last_success;
        Some(Run {
            item: u32::try_from(index).ok()?,
            started: finished - 90_000,
            finished,
            outcome: if failed {
                Outcome::Failed
            } else {
                Outcome::Succeeded
            },
            exit_code: Some(i32::from(failed)),
        })
    };
    let mut runs: Vec<_> = items.iter().enumerate().filter_map(run).collect();
    runs.sort_by_key(|run| std::cmp::Reverse(run.finished));
    runs.truncate(20);
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_that_of_a_group_in_the_middle_of_its_life() {
        let r = request(1_000);
        let since = |at: Option<i64>| at.map(|at| NOW - at);
        let count = |of: fn(Option<i64>, Option<i64>) -> bool| {
            let seen = r
                .items
                .iter()
                .map(|i| (since(i.last_success), since(i.last_failure)));
            seen.filter(|(success, failure)| of(*success, *failure))
                .count()
        };
        let fresh = count(|success, _| success.is_some_and(|s| s < 3_600_000));
        let cooling = count(|_, failure| failure.is_some_and(|f| f < 600_000));
        let never = count(|success, failure| success.is_none() && failure.is_none());
        assert_eq!((fresh, cooling, never), (250, 250, 125));
        assert_eq!(r.recent.len(), 20);
        assert!(r.recent.is_sorted_by_key(|run| -run.finished));
        assert!(request(1).recent.len() == 1 && request(4).recent.len() == 3);
        for item in &r.items {
            let failed = item.last_failure > item.last_success;
            assert_eq!(item.failures > 0, failed, "{item:?}");
        }
    }

    #[test]
    fn quantiles_and_what_is_left() {
        let mut samples: Vec<_> = (0..=100).rev().map(Duration::from_micros).collect();
        assert_eq!(micros(quantile(&mut samples, 0.5)), 50);
        assert_eq!(micros(quantile(&mut samples, 0.99)), 99);
        assert_eq!(quantile(&mut [], 0.5), Duration::ZERO);
        for (fuel, words) in [
            (0, "100.0 %"),
            (1, "99.9 %"),
            (9_999, "0.0 %"),
            (10_000, "0.0 %"),
        ] {
            let d = Decisions {
                items: 1,
                evaluations: 1,
                p50_us: 0,
                p99_us: 0,
                fuel,
                fuel_limit: 10_000,
            };
            assert_eq!(left(&d), words);
        }
    }

    #[test]
    fn the_default_policy_is_measured() {
        let wasm = crate::policy::testing::default_policy();
        let component = crate::policy::component::load("default".as_ref(), wasm).unwrap();
        let (small, large) = (
            decisions(&component.policy, 10, "{}").unwrap(),
            decisions(&component.policy, 100, "{}").unwrap(),
        );
        assert!(0 < small.fuel && small.fuel < large.fuel && large.fuel < large.fuel_limit);
        assert!(small.evaluations >= *ROUNDS.start() && small.p50_us <= small.p99_us);
        let text = table(&Figures {
            policy: component.policy.digest().to_owned(),
            bytes: component.wasm.len(),
            compile_p50_us: 1_500,
            debug_build: true,
            decisions: vec![small, large],
        });
        for words in ["compiled in 1.5 ms", "debug build", "items", "\n100 "] {
            assert!(text.contains(words), "{words} is missing in: {text}");
        }
    }
}
