//! `oaat-simulation` runs many histories, or one.

use anyhow::Context;
use clap::{Parser, ValueEnum};
use oaat_simulation::many::{run_many, run_one, shorten};
use oaat_simulation::{FaultSet, HistoryConfig, Mutation, default_policy};
use std::process::ExitCode;
use std::time::Instant;

/// Run the operator's reconcile loop on a simulated cluster with faults, and check every history.
#[derive(Parser)]
struct Options {
    /// The number of histories.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Run the history of this seed only, and print every step.
    #[arg(long)]
    replay: Option<u64>,
    /// The set that faults are drawn from.
    #[arg(long, default_value = "standard")]
    faults: FaultSet,
    /// Switch off a rule of the protocol.
    #[arg(long)]
    mutation: Option<Mutation>,
}

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    let policy = default_policy()?;
    if let Some(seed) = options.replay {
        let config = HistoryConfig {
            seed,
            mutation: options.mutation,
            faults: options.faults,
            trace: true,
            ..HistoryConfig::default()
        };
        let result = run_one(&config, &policy)?;
        result.trace.iter().for_each(|line| println!("{line}"));
        return Ok(match result.violation {
            Some(what) => {
                println!("VIOLATION: {what}");
                ExitCode::FAILURE
            }
            None => {
                println!("0 violations, {} runs", result.runs);
                ExitCode::SUCCESS
            }
        });
    }
    let last = options.from.checked_add(options.seeds);
    last.context("--from plus --seeds is out of range; use smaller values")?;
    let started = Instant::now();
    let config = |number| HistoryConfig {
        seed: options.from + number,
        mutation: options.mutation,
        faults: options.faults,
        ..HistoryConfig::default()
    };
    let summary = run_many(options.seeds, config, &policy, |seeds| {
        if seeds.is_multiple_of(10_000) {
            let took = started.elapsed().as_secs();
            println!("{seeds} histories in {took} s");
        }
    })?;
    println!(
        "{} histories, {} runs, {} reconciles, {} faults in {:.1} s",
        summary.histories,
        summary.runs,
        summary.reconciles,
        summary.faults,
        started.elapsed().as_secs_f64()
    );
    let Some((config, what)) = summary.violation else {
        println!("0 violations");
        return Ok(ExitCode::SUCCESS);
    };
    let seed = config.seed;
    println!("VIOLATION with seed {seed}: {what}\n\nshortened history:");
    let (_, short) = shorten(&config, &policy)?;
    short.trace.iter().for_each(|line| println!("{line}"));
    if let Some(what) = short.violation {
        println!("VIOLATION: {what}");
    }
    let faults = options.faults.to_possible_value();
    let faults = faults.as_ref().map_or("standard", |value| value.get_name());
    println!("\nto print the whole history: oaat-simulation --faults {faults} --replay {seed}");
    Ok(ExitCode::FAILURE)
}
