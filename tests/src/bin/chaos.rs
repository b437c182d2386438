//! Injects faults into operators on a separate control plane, see `oaat_tests::storm`.
//! `cargo xtask chaos` starts it.

use anyhow::{Result, bail};
use clap::Parser;
use oaat_tests::storm::{StormOptions, seed, storm};
use oaat_tests::{Options, operator};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use xtask::ChaosOptions;

/// The maximum duration of one storm.
const TURN: Duration = Duration::from_secs(120);

#[tokio::main]
async fn main() -> ExitCode {
    match run(&ChaosOptions::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &ChaosOptions) -> Result<()> {
    let binary = operator::binary(false)?;
    let (plane, kubeconfig) = operator::installed(Options::default()).await?;
    let duration = Duration::from_secs(arguments.minutes * 60);
    let start = Instant::now();
    let first = arguments.seed.map_or_else(seed, Ok)?;
    let (mut kills, mut runs, mut violations) = (0, 0, 0);
    let kinds = [(1, false), (2, false), (2, true), (3, false), (3, true)];
    for (turn, (replicas, leader_elect)) in kinds.iter().cycle().enumerate() {
        let remaining = duration.saturating_sub(start.elapsed());
        if remaining.is_zero() {
            break;
        }
        let options = StormOptions {
            binary: binary.clone(),
            kubeconfig: kubeconfig.clone(),
            namespace: format!("storm-{turn}"),
            groups: arguments.groups,
            replicas: *replicas,
            leader_elect: *leader_elect,
            kills: 0,
            lasts: remaining.min(TURN),
            pause: Duration::from_millis(if *leader_elect { 5000 } else { 700 }),
            restarts: Some(Duration::from_secs(20)),
            seed: first.wrapping_add(turn as u64),
        };
        let election = if *leader_elect { "with" } else { "without" };
        println!(
            "{:>4} s: {replicas} operators {election} leader election",
            start.elapsed().as_secs()
        );
        let report = storm(&plane, options).await;
        println!("        {report}");
        kills += report.kills;
        runs += report.runs;
        violations += report.violations.len();
        if violations > 0 {
            break;
        }
        plane
            .kubectl(&[
                "delete",
                "namespace",
                &format!("storm-{turn}"),
                "--wait=false",
            ])
            .await?;
    }
    println!(
        "{kills} kills, {runs} runs, {violations} violations in {} s",
        start.elapsed().as_secs()
    );
    if violations > 0 {
        bail!("{violations} violations; see the report above");
    }
    Ok(())
}
