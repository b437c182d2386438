//! The benchmarks. `cargo xtask bench` runs them in a release build. Machines differ and are
//! shared, so the relevant result is the ratio to a naive loop in the same run. The goals are for a
//! machine with two cores.

mod attacks;
mod comparison;
mod curves;
mod decision;
mod election;
mod handover;
mod hostile;
mod policies;
mod recovery;
mod report;
mod samples;
mod saturation;
mod scale;
mod scrape;
mod shadow;
mod windows_and_lists;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use curves::Curves;
use oaat_tests::{Options, operator};
use report::Report;
use std::path::PathBuf;

#[derive(Parser)]
struct Cli {
    /// The number of runs in each measurement of handovers.
    #[arg(long, default_value_t = 300)]
    runs: usize,
    /// The number of idle groups.
    #[arg(long, default_value_t = 10_000)]
    groups: usize,
    /// Write the results to this file.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Compare the results with those that --save wrote to this file.
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Draw the results of the benchmark `curves` in this SVG file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Measure nothing, and draw the results that --save wrote to this file.
    #[arg(long, value_name = "FILE", requires = "svg")]
    draw: Option<PathBuf>,
    /// Run only this benchmark.
    #[arg(long)]
    only: Option<Benchmark>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Benchmark {
    /// One decision, and the compilation of the policies.
    Decision,
    /// `policy compare` with 100,000 recorded decisions.
    Comparison,
    /// Components that attack the compiler: time and memory.
    Attacks,
    /// The time from the end of a pod to the next pod.
    Handover,
    /// Handovers and status writes with a shadow policy on every group.
    Shadow,
    /// Policies in ConfigMaps.
    Policies,
    /// The effect of hostile namespaces on others.
    Hostile,
    /// The time from the end of a leader to the next run.
    Election,
    /// The time from the start of an operator to its next action, with many groups.
    Recovery,
    /// Blackout windows and lists of items.
    WindowsAndLists,
    /// Many idle groups: their first status, the operator's memory, and its next start.
    Scale,
    /// A scrape of the metrics of 20 groups of 2,000 items.
    Scrape,
    /// Groups that are always due: runs per second, their cost, and fair turns.
    Saturation,
    /// Handovers with 2 to 2,000 items, and memory and restarts with 1 to 10,000 groups.
    Curves,
}

#[tokio::main]
async fn main() -> Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build; for meaningful results, use cargo xtask bench");
    }
    let cli = Cli::parse();
    if let (Some(results), Some(svg)) = (&cli.draw, &cli.svg) {
        return Curves::new(&report::saved(results)?).draw(svg);
    }
    let mut report = Report::new(cli.compare.as_deref())?;
    let selected = |part| cli.only.is_none_or(|only| only == part);
    if selected(Benchmark::Decision) {
        decision::measure()?;
    }
    if selected(Benchmark::WindowsAndLists) {
        windows_and_lists::search()?;
    }
    if selected(Benchmark::Attacks) {
        attacks::measure()?;
    }
    if selected(Benchmark::Comparison) {
        comparison::measure(&mut report)?;
    }
    if matches!(
        cli.only,
        Some(Benchmark::Decision | Benchmark::Attacks | Benchmark::Comparison)
    ) {
        return cli.save.map_or(Ok(()), |path| report.save(&path));
    }
    let options = Options {
        progress: |line| eprintln!("{line}"),
        ..Options::default()
    };
    let (plane, kubeconfig) = operator::installed(options).await?;
    if selected(Benchmark::Handover) {
        handover::measure(&plane, &kubeconfig, cli.runs, &mut report).await?;
    }
    if selected(Benchmark::Shadow) {
        shadow::measure(&plane, &kubeconfig, cli.runs, &mut report).await?;
    }
    if selected(Benchmark::Policies) {
        policies::measure(&plane, &kubeconfig).await?;
    }
    if selected(Benchmark::Hostile) {
        hostile::measure(&plane, &kubeconfig, cli.runs).await?;
    }
    if selected(Benchmark::Election) {
        election::measure(&plane, &kubeconfig).await?;
    }
    if selected(Benchmark::Recovery) {
        recovery::measure(&plane, &kubeconfig).await?;
    }
    if selected(Benchmark::WindowsAndLists) {
        windows_and_lists::measure(&plane, &kubeconfig).await?;
    }
    if selected(Benchmark::Scale) {
        scale::measure(&plane, &kubeconfig, cli.groups, &mut report).await?;
    }
    if selected(Benchmark::Scrape) {
        scrape::measure(&plane, &kubeconfig, &mut report).await?;
    }
    if selected(Benchmark::Saturation) {
        saturation::measure(&plane, &kubeconfig, &mut report).await?;
    }
    if selected(Benchmark::Curves) {
        curves::measure(&plane, &kubeconfig, cli.runs, &mut report).await?;
        if let Some(path) = &cli.svg {
            Curves::new(report.rows()).draw(path)?;
        }
    }
    if let Some(path) = &cli.save {
        report.save(path)?;
    }
    Ok(())
}
