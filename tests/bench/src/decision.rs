//! One decision of the built-in policy in a fresh sandbox and in one that reuses memory, and the
//! compilation of all policies in this repository.

use crate::samples::{Samples, ms, us};
use anyhow::{Result, anyhow};
use built_in_policies::DEFAULT_POLICY;
use hostile_policies::compiling::Compiler;
use oaat_tests::operator::{self, root};
use policy_host::{Host, Item, Limits, Request};
use std::time::Instant;

/// Numbers of items, with the goal in microseconds.
const SIZES: [(usize, u32); 4] = [(10, 25), (100, 45), (1000, 220), (2000, 500)];

/// The goal in milliseconds for loading a policy of 45 KB.
const READY: u32 = 150;

pub fn measure() -> Result<()> {
    let compiler = Compiler::new(operator::binary(true)?)?;
    for (name, wasm) in shipped()? {
        let mut compiling = Samples::default();
        for _ in 0..20 {
            let start = Instant::now();
            compiler.load(&wasm)?;
            compiling.0.push(start.elapsed());
        }
        println!(
            "{name} ({:.1} KB), compiled in a child process and loaded: p50 {}, p99 {} (goal {READY} ms for 45 KB)",
            wasm.len() as f64 / 1e3,
            ms(compiling.quantile(0.5)),
            ms(compiling.quantile(0.99))
        );
    }
    let fresh = compiler.load(DEFAULT_POLICY)?;
    let reusing = Host::for_many_evaluations(Limits::default(), 1)?.load(DEFAULT_POLICY, None)?;
    println!("one decision in a fresh sandbox (goal), and in memory that `policy compare` reuses:");
    for (items, goal) in SIZES {
        let request = request(items);
        let mut samples = [Samples::default(), Samples::default()];
        let mut fuel = 0;
        for round in 0..600 {
            for (policy, samples) in [&fresh, &reusing].into_iter().zip(&mut samples) {
                let start = Instant::now();
                let evaluation = policy.evaluate(&request);
                let took = start.elapsed();
                fuel = evaluation.fuel;
                evaluation.answer.map_err(|error| anyhow!("{error}"))?;
                if round >= 100 {
                    samples.0.push(took);
                }
            }
        }
        let [fresh, reusing] = samples;
        println!(
            "  {items:>5} items: p50 {:>7}, p99 {:>7} (goal {goal} µs); p50 {:>7}, p99 {:>7}; fuel {fuel}",
            us(fresh.quantile(0.5)),
            us(fresh.quantile(0.99)),
            us(reusing.quantile(0.5)),
            us(reusing.quantile(0.99))
        );
    }
    Ok(())
}

/// Returns the policies of this repository.
fn shipped() -> Result<Vec<(&'static str, Vec<u8>)>> {
    let mut shipped = vec![("policy-default", DEFAULT_POLICY.to_vec())];
    for name in ["backoff", "fair"] {
        let wasm = policy_build::build(
            &root().join("policies").join(name),
            &root().join("target/policies"),
        )?;
        shipped.push((name, wasm));
    }
    Ok(shipped)
}

/// Returns a request with items that have a history. A third of them are due.
fn request(count: usize) -> Request {
    let now = 1_800_000_000_000;
    let item = |index: usize| Item {
        name: format!("home/user{index}/documents"),
        frequency: Some(3_600_000),
        cool_off: 60_000,
        settings: None,
        startable: true,
        last_success: Some(now - (index as i64 * 7919) % 5_400_000),
        last_failure: Some(now - 10_000_000 - index as i64),
        failures: 0,
        runs: 12,
        last_duration: Some(90_000),
    };
    Request {
        namespace: "default".into(),
        group: "group".into(),
        now,
        seed: 42,
        settings: "{}".into(),
        state: String::new(),
        items: (0..count).map(item).collect(),
        recent: Vec::new(),
        extra: "{}".into(),
    }
}
