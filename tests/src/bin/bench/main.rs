//! Measures, in a release build. `cargo xtask bench` starts it. Machines differ and are
//! shared, so what counts is a ratio to a naive loop measured in the same run; the
//! goals are those of a machine with two cores.

mod attacks;
mod decision;
mod election;
mod handover;
mod hostile;
mod policies;
mod recovery;
mod samples;
mod wishes;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use oaat_tests::{Options, operator};

#[derive(Parser)]
struct Cli {
    /// Runs in each measurement of hand-overs.
    #[arg(long, default_value_t = 300)]
    runs: usize,
    /// Measure this alone.
    #[arg(long)]
    only: Option<Part>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Part {
    /// One decision, and the compilation of the policies.
    Decision,
    /// Components made against the compiler: how soon each ends, and what it leaves behind.
    Attacks,
    /// From the end of a pod to the next.
    Handover,
    /// Policies in ConfigMaps.
    Policies,
    /// Hostile namespaces beside an honest one.
    Hostile,
    /// From the end of a leader to the next.
    Election,
    /// From the start of an operator to its next action, among many groups.
    Recovery,
    /// Blackout windows, and lists of items.
    Wishes,
}

#[tokio::main]
async fn main() -> Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build; its figures mean nothing (use cargo xtask bench)");
    }
    let cli = Cli::parse();
    let wanted = |part| cli.only.is_none_or(|only| only == part);
    if wanted(Part::Decision) {
        decision::measure()?;
    }
    if wanted(Part::Wishes) {
        wishes::look_ahead()?;
    }
    if wanted(Part::Attacks) {
        attacks::measure()?;
    }
    if matches!(cli.only, Some(Part::Decision | Part::Attacks)) {
        return Ok(());
    }
    let options = Options {
        progress: |line| eprintln!("{line}"),
        ..Options::default()
    };
    let (plane, kubeconfig) = operator::installed(options).await?;
    if wanted(Part::Handover) {
        handover::measure(&plane, &kubeconfig, cli.runs).await?;
    }
    if wanted(Part::Policies) {
        policies::measure(&plane, &kubeconfig).await?;
    }
    if wanted(Part::Hostile) {
        hostile::measure(&plane, &kubeconfig, cli.runs).await?;
    }
    if wanted(Part::Election) {
        election::measure(&plane, &kubeconfig).await?;
    }
    if wanted(Part::Recovery) {
        recovery::measure(&plane, &kubeconfig).await?;
    }
    if wanted(Part::Wishes) {
        wishes::measure(&plane, &kubeconfig).await?;
    }
    Ok(())
}
