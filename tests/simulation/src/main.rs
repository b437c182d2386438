//! `oaat-simulation`: many histories, or one.

use anyhow::Context;
use clap::{Parser, ValueEnum};
use oaat_simulation::many::{many, one, shortest};
use oaat_simulation::{Faults, Mutation, Setting, default_policy};
use std::process::ExitCode;
use std::time::Instant;

/// Run the operator's cycle on a simulated cluster with faults, and check every history.
#[derive(Parser)]
struct Options {
    /// How many histories.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Tell the history of this one seed, whole.
    #[arg(long)]
    replay: Option<u64>,
    /// The faults that there are, and what else happens.
    #[arg(long, default_value = "second")]
    faults: Faults,
    /// Switch a rule of the protocol off.
    #[arg(long)]
    mutation: Option<Mutation>,
}

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    let policy = default_policy()?;
    if let Some(seed) = options.replay {
        let setting = Setting {
            seed,
            mutation: options.mutation,
            faults: options.faults,
            told: true,
            ..Setting::default()
        };
        let verdict = one(&setting, &policy)?;
        verdict.told.iter().for_each(|line| println!("{line}"));
        return Ok(match verdict.violation {
            Some(what) => {
                println!("VIOLATION: {what}");
                ExitCode::FAILURE
            }
            None => {
                println!("nothing wrong: {} runs", verdict.runs);
                ExitCode::SUCCESS
            }
        });
    }
    let last = options.from.checked_add(options.seeds);
    last.context("so many seeds there are not")?;
    let started = Instant::now();
    let setting = |number| Setting {
        seed: options.from + number,
        mutation: options.mutation,
        faults: options.faults,
        ..Setting::default()
    };
    let sum = many(options.seeds, setting, &policy, |seeds| {
        if seeds.is_multiple_of(10_000) {
            let took = started.elapsed().as_secs();
            println!("{seeds} histories in {took} s");
        }
    })?;
    println!(
        "{} histories, {} runs, {} looks, {} faults in {:.1} s",
        sum.histories,
        sum.runs,
        sum.looks,
        sum.faults,
        started.elapsed().as_secs_f64()
    );
    let Some((setting, what)) = sum.wrong else {
        println!("0 violations");
        return Ok(ExitCode::SUCCESS);
    };
    let seed = setting.seed;
    println!("VIOLATION with seed {seed}: {what}\n\nshortened:");
    let (_, short) = shortest(&setting, &policy)?;
    short.told.iter().for_each(|line| println!("{line}"));
    if let Some(what) = short.violation {
        println!("VIOLATION: {what}");
    }
    let faults = options.faults.to_possible_value();
    let faults = faults.as_ref().map_or("second", |value| value.get_name());
    println!("\nwhole: oaat-simulation --faults {faults} --replay {seed}");
    Ok(ExitCode::FAILURE)
}
