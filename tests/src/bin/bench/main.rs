//! Measures, in a release build. `cargo xtask bench` starts it. Machines differ and are
//! shared, so what counts is a ratio to a naive loop measured in the same run; the
//! goals are those of a machine with two cores.

mod decision;
mod handover;
mod samples;

use anyhow::Result;
use clap::Parser;

#[derive(Parser)]
struct Cli {
    /// Runs in each measurement of hand-overs.
    #[arg(long, default_value_t = 300)]
    runs: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build; its figures mean nothing (use cargo xtask bench)");
    }
    let cli = Cli::parse();
    decision::measure()?;
    handover::measure(cli.runs).await
}
