//! `policy bench`: measures the time and the fuel of a decision.

mod saved;

use crate::policy::check::json_object;
use crate::policy::failure::{self, PolicyFailure};
use anyhow::{Context, Result, anyhow};
use policy_cases::item_settings;
use policy_host::{Host, Item, Limits, Outcome, Policy, Request, Run};
use saved::{Comparison, SavedDecision, SavedFuel};
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The number of evaluations before measuring.
const WARM_UP: usize = 50;
/// The number of measured evaluations. The minimum is enough for a 99th percentile; more are
/// measured until [`TIME`] has elapsed.
const ROUNDS: std::ops::RangeInclusive<usize> = 100..=1_000;
const TIME: Duration = Duration::from_secs(3);
/// The number of measured compilations.
const LOADS: usize = 11;
/// The number of items that a request may have.
const ITEMS: std::ops::RangeInclusive<i64> = 1..=2_000;
/// The time of the requests.
const NOW: i64 = 1_800_000_000_000;

/// Arguments of `policy bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The policy: a component, the core module that cargo builds, or the name of a built-in policy,
    /// such as `default`.
    pub file: PathBuf,
    /// The number of items in each request (1 to 2000).
    #[arg(
        long,
        value_delimiter = ',',
        default_values_t = [10, 100, 1_000, 2_000],
        value_parser = clap::value_parser!(u32).range(ITEMS)
    )]
    pub items: Vec<u32>,
    /// The settings of the group, a JSON object.
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub settings: String,
    /// The settings of each item, a JSON object.
    #[arg(long, value_name = "JSON")]
    pub item_settings: Option<String>,
    /// Save the fuel to this file, to compare another build with it.
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// Compare the fuel with the fuel in a file from --save, for the same numbers of items and the
    /// same settings. Exits with 1 if a decision uses more, even by one instruction.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["items", "settings", "item_settings"])]
    pub compare: Option<PathBuf>,
    /// Print the results as JSON.
    #[arg(long)]
    pub json: bool,
}

/// The results.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Results {
    policy: String,
    bytes: usize,
    compile_p50_us: u64,
    /// Whether this program is a debug build, which is slow.
    debug_build: bool,
    decisions: Vec<DecisionResults>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<Comparison>,
}

/// The results for one number of items.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DecisionResults {
    items: u32,
    evaluations: usize,
    p50_us: u64,
    p99_us: u64,
    fuel: u64,
    fuel_limit: u64,
}

pub(crate) fn run(args: &Args, built_in: &[u8]) -> Result<ExitCode> {
    let saved = args.compare.as_deref().map(SavedFuel::read).transpose()?;
    let inputs = match &saved {
        Some(saved) => Inputs {
            items: saved.decisions.iter().map(|saved| saved.items).collect(),
            settings: json_object("settings", &saved.settings)?,
            item_settings: saved.item_settings.clone(),
        },
        None => Inputs {
            items: args.items.clone(),
            settings: json_object("--settings", &args.settings)?,
            item_settings: match &args.item_settings {
                Some(text) => Some(json_object("--item-settings", text)?),
                None => None,
            },
        },
    };
    let component = crate::policy::component::load(&args.file, built_in)?;
    let mut results = Results {
        policy: component.policy.digest().to_owned(),
        bytes: component.wasm.len(),
        compile_p50_us: micros(measure_load(&component.wasm)?),
        debug_build: cfg!(debug_assertions),
        decisions: inputs
            .items
            .iter()
            .map(|items| measure_decisions(&component.policy, &inputs.request(*items)))
            .collect::<Result<_>>()?,
        comparison: None,
    };
    let fuel: Vec<SavedDecision> = results.decisions.iter().map(Into::into).collect();
    let wasmtime = component.policy.engine(0).wasmtime;
    results.comparison = saved.map(|saved| Comparison::new(&saved, &fuel, &wasmtime));
    let text = if args.json {
        format!("{}\n", serde_json::to_string_pretty(&results)?)
    } else {
        format_results(&results)
    };
    if args.json {
        std::io::stdout().write_all(text.as_bytes())?;
    } else {
        crate::policy::print(&text)?;
    }
    if let Some(file) = &args.save {
        let saved = SavedFuel {
            wasmtime,
            policy: results.policy,
            settings: inputs.settings,
            item_settings: inputs.item_settings,
            decisions: fuel,
        };
        saved.write(file)?;
    }
    Ok(match results.comparison {
        Some(Comparison { more: true, .. }) => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    })
}

/// The inputs of the requests.
struct Inputs {
    items: Vec<u32>,
    settings: String,
    item_settings: Option<String>,
}

impl Inputs {
    fn request(&self, items: u32) -> Request {
        let mut request = request(items);
        request.settings.clone_from(&self.settings);
        for item in &mut request.items {
            item.settings.clone_from(&self.item_settings);
        }
        request
    }
}

/// Measures loading, which includes compilation and a trial request of two items.
fn measure_load(wasm: &[u8]) -> Result<Duration> {
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

fn measure_decisions(policy: &Policy, request: &Request) -> Result<DecisionResults> {
    let items = request.items.len();
    let with_items = || format!("with {items} items");
    failure::validate(policy, &request.settings, &item_settings(&request.items))
        .with_context(with_items)?;
    let mut samples = vec![];
    let mut fuel = 0;
    let begin = Instant::now();
    for round in 0..WARM_UP + ROUNDS.end() {
        let start = Instant::now();
        let evaluation = policy.evaluate(request);
        let took = start.elapsed();
        // The fuel is the same in each round.
        fuel = evaluation.fuel;
        evaluation
            .answer
            .map_err(PolicyFailure::NoDecision)
            .with_context(with_items)?;
        if round >= WARM_UP {
            samples.push(took);
        }
        if samples.len() >= *ROUNDS.start() && begin.elapsed() > TIME {
            break;
        }
    }
    Ok(DecisionResults {
        items: u32::try_from(items)?,
        evaluations: samples.len(),
        p50_us: micros(quantile(&mut samples, 0.5)),
        p99_us: micros(quantile(&mut samples, 0.99)),
        fuel,
        fuel_limit: policy.fuel_limit(items),
    })
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Returns a quantile of the samples; `q` is from 0 to 1.
fn quantile(samples: &mut [Duration], q: f64) -> Duration {
    samples.sort();
    let index = (q * samples.len().saturating_sub(1) as f64).round() as usize;
    samples.get(index).copied().unwrap_or_default()
}

fn format_results(results: &Results) -> String {
    let head = ["items", "p50", "p99", "fuel", "limit", "left"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(results.decisions.iter().map(|d| {
        [
            d.items.to_string(),
            format!("{} µs", d.p50_us),
            format!("{} µs", d.p99_us),
            d.fuel.to_string(),
            d.fuel_limit.to_string(),
            remaining_fuel(d),
        ]
    }));
    let warning = if results.debug_build {
        "\nwarning: this program is a debug build; times are not meaningful, but fuel is exact\n"
    } else {
        ""
    };
    format!(
        "policy {}\n{} bytes, compiled in {:.1} ms (p50 of {LOADS})\n\n\
         time and fuel of a decision:\n{}{warning}{}",
        results.policy,
        results.bytes,
        results.compile_p50_us as f64 / 1e3,
        crate::policy::table::aligned(&rows),
        results
            .comparison
            .as_ref()
            .map(Comparison::format)
            .unwrap_or_default(),
    )
}

/// Formats the remaining fuel as a percentage, rounded down.
fn remaining_fuel(results: &DecisionResults) -> String {
    let remaining = results.fuel_limit.saturating_sub(results.fuel);
    let permille = u128::from(remaining) * 1_000 / u128::from(results.fuel_limit.max(1));
    format!("{}.{} %", permille / 10, permille % 10)
}

/// Returns the request of a typical group. Of every four items, one succeeded recently, one is due
/// again, one is in its cool-off, and one has never run or failed long ago.
fn request(items: u32) -> Request {
    let item = |index: u32| {
        let offset = i64::from(index) * 7_919 % 600_000;
        let (last_success, last_failure) = match index % 8 {
            0 | 4 => (Some(NOW - 60_000 - offset), None),
            1 => (Some(NOW - 4_000_000 - offset), None),
            5 => (
                Some(NOW - 4_000_000 - offset),
                Some(NOW - 9_000_000 - offset),
            ),
            2 | 6 => (Some(NOW - 8_000_000 - offset), Some(NOW - offset)),
            3 => (None, None),
            _ => (None, Some(NOW - 2_000_000 - offset)),
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

/// Returns the latest runs, at most one for each item.
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
    use wasm_encoder::CodeSection;
    use wasm_encoder::reencode::{self, Reencode, ReencodeComponent};
    use wasmparser::{Parser, Payload, TypeRef};

    #[test]
    fn request_has_fresh_cooling_and_new_items() {
        let r = request(1_000);
        let since = |at: Option<i64>| at.map(|at| NOW - at);
        let count = |matches: fn(Option<i64>, Option<i64>) -> bool| {
            let ages = r
                .items
                .iter()
                .map(|i| (since(i.last_success), since(i.last_failure)));
            ages.filter(|(success, failure)| matches(*success, *failure))
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
    fn quantiles_and_remaining_fuel_are_rounded() {
        let mut samples: Vec<_> = (0..=100).rev().map(Duration::from_micros).collect();
        assert_eq!(micros(quantile(&mut samples, 0.5)), 50);
        assert_eq!(micros(quantile(&mut samples, 0.99)), 99);
        assert_eq!(quantile(&mut [], 0.5), Duration::ZERO);
        for (fuel, remaining) in [
            (0, "100.0 %"),
            (1, "99.9 %"),
            (9_999, "0.0 %"),
            (10_000, "0.0 %"),
        ] {
            let d = DecisionResults {
                items: 1,
                evaluations: 1,
                p50_us: 0,
                p99_us: 0,
                fuel,
                fuel_limit: 10_000,
            };
            assert_eq!(remaining_fuel(&d), remaining);
        }
    }

    /// Adds one instruction to the start of the exported function `select` of a component.
    struct OneMoreInstruction {
        /// The index of the function among those of its module that are not imported.
        select: usize,
        bodies: usize,
    }

    impl Reencode for OneMoreInstruction {
        type Error = std::convert::Infallible;

        fn parse_function_body(
            &mut self,
            code: &mut CodeSection,
            body: wasmparser::FunctionBody<'_>,
        ) -> Result<(), reencode::Error> {
            let mut function = self.new_function_with_parsed_locals(&body)?;
            if self.bodies == self.select {
                function.instructions().i32_const(0).drop();
            }
            self.bodies += 1;
            let mut reader = body.get_operators_reader()?;
            while !reader.eof() {
                function.instruction(&self.parse_instruction(&mut reader)?);
            }
            code.function(&function);
            Ok(())
        }
    }

    impl ReencodeComponent for OneMoreInstruction {}

    impl OneMoreInstruction {
        fn add(component: &[u8]) -> Vec<u8> {
            let (mut imports, mut select) = (0, None);
            for payload in Parser::new(0).parse_all(component) {
                match payload.unwrap() {
                    Payload::ImportSection(section) if select.is_none() => {
                        let functions = section.into_imports().map(|import| import.unwrap().ty);
                        imports = functions
                            .filter(|ty| matches!(ty, TypeRef::Func(_)))
                            .count();
                    }
                    Payload::ExportSection(section) => {
                        let mut exports = section.into_iter().map(|export| export.unwrap());
                        let export = exports.find(|export| {
                            export.name.starts_with("oaat:") && export.name.ends_with("#select")
                        });
                        select = select.or(export.map(|export| export.index as usize - imports));
                    }
                    _ => {}
                }
            }
            let mut reencoder = Self {
                select: select.unwrap(),
                bodies: 0,
            };
            let mut output = wasm_encoder::Component::new();
            reencoder
                .parse_component(&mut output, Parser::new(0), component)
                .unwrap();
            output.finish()
        }
    }

    #[test]
    fn one_more_instruction_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let wasm = crate::policy::test_fixtures::default_policy();
        std::fs::write(file("old.wasm"), wasm).unwrap();
        std::fs::write(file("new.wasm"), OneMoreInstruction::add(wasm)).unwrap();
        let bench = |policy: &str, save: Option<&str>, compare: Option<&str>| {
            let args = Args {
                file: file(policy),
                items: vec![1, 5],
                settings: "{}".into(),
                item_settings: None,
                save: save.map(file),
                compare: compare.map(file),
                json: false,
            };
            run(&args, wasm).unwrap()
        };
        let saved = |name: &str| SavedFuel::read(&file(name)).unwrap().decisions;
        assert_eq!(bench("old.wasm", Some("old.json"), None), ExitCode::SUCCESS);
        for (policy, compare, code) in [
            ("old.wasm", "old.json", ExitCode::SUCCESS),
            ("new.wasm", "old.json", ExitCode::FAILURE),
            ("old.wasm", "new.json", ExitCode::SUCCESS),
        ] {
            assert_eq!(
                bench(policy, Some("new.json"), Some(compare)),
                code,
                "{policy}"
            );
            let more = u64::from(policy == "new.wasm");
            for (old, new) in saved("old.json").iter().zip(saved("new.json")) {
                assert_eq!(new.fuel, old.fuel + more);
            }
        }
    }

    #[test]
    fn rejected_settings_are_a_policy_failure() {
        let wasm = crate::policy::test_fixtures::default_policy();
        let policy = crate::policy::component::load("default".as_ref(), wasm).unwrap();
        let request = Request {
            settings: r#"{"base":1}"#.into(),
            ..request(3)
        };
        let error = measure_decisions(&policy.policy, &request).map(drop);
        let error = error.unwrap_err();
        assert!(error.is::<PolicyFailure>());
        let text = format!("{error:#}");
        assert!(
            text.starts_with("with 3 items: SettingsRejected: the policy"),
            "{text}"
        );
    }

    #[test]
    fn bench_measures_the_default_policy() {
        let wasm = crate::policy::test_fixtures::default_policy();
        let component = crate::policy::component::load("default".as_ref(), wasm).unwrap();
        let (small, large) = (
            measure_decisions(&component.policy, &request(10)).unwrap(),
            measure_decisions(&component.policy, &request(100)).unwrap(),
        );
        assert!(0 < small.fuel && small.fuel < large.fuel && large.fuel < large.fuel_limit);
        assert!(small.evaluations >= *ROUNDS.start() && small.p50_us <= small.p99_us);
        let text = format_results(&Results {
            policy: component.policy.digest().to_owned(),
            bytes: component.wasm.len(),
            compile_p50_us: 1_500,
            debug_build: true,
            decisions: vec![small, large],
            comparison: None,
        });
        for words in ["compiled in 1.5 ms", "debug build", "items", "\n100 "] {
            assert!(text.contains(words), "{words} is missing in: {text}");
        }
    }
}
