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
use clap::Parser;
use curves::Curves;
use oaat_tests::{Options, operator};
use report::Report;
use xtask::{BenchOptions, Benchmark};

#[tokio::main]
async fn main() -> Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build; for meaningful results, use cargo xtask bench");
    }
    let cli = BenchOptions::parse();
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
