//! The demo: the README's quick start on a real control plane or on your cluster. Shows the group's
//! table and the output of the pods. `cargo xtask demo` starts it.

mod place;
mod retry;
mod running;
mod screen;
mod swap;

use anyhow::Result;
use clap::Parser;
use oaat_tests::{operator, readme};
use place::Place;
use running::Running;
use std::process::ExitCode;
use swap::Swap;
use xtask::DemoOptions;

/// The sleep in the quick start's script, and its replacement in the demo.
const LONG: &str = "shuf -i 10-180 -n 1";
const SHORT: &str = "shuf -i 2-5 -n 1";

#[tokio::main]
async fn main() -> ExitCode {
    let cli = DemoOptions::parse();
    tokio::select! {
        done = demo(&cli) => match done {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("demo: {error:#}");
                ExitCode::FAILURE
            }
        },
        _ = interrupted() => {
            eprintln!("\nstopping");
            ExitCode::SUCCESS
        }
    }
}

/// Returns on SIGINT or SIGTERM, so that the servers are stopped in either case.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        }
        Err(_) => {
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}

/// Returns true once every item has succeeded, or false if that takes too long. Without `--once`,
/// runs until it is interrupted.
async fn demo(cli: &DemoOptions) -> Result<bool> {
    let (type_, mut group) = readme::quick_start()?;
    let binary = operator::binary(false)?;
    let place = match &cli.context {
        Some(context) => Place::existing(context).await?,
        None => Place::own().await?,
    };
    println!(
        "\nThis is the README's quick start with a shorter sleep:\n  -  sleep $({LONG})\n  +  sleep $({SHORT})\n"
    );
    anyhow::ensure!(
        type_.contains(LONG),
        "the quick start's script has changed; update the demo"
    );
    let mut swap = None;
    if let Some(file) = &cli.policy {
        group = Swap::group(&group)?;
        swap = Some(Swap::begin(operator::command_line()?, file, &place).await?);
    }
    print!("{}", place.apply(&type_.replace(LONG, SHORT)).await?);
    print!("{}", place.apply(&group).await?);
    let group = serde_norway::from_str(&group)?;
    Running::start(place, binary, group, swap)
        .await?
        .watch(cli.once)
        .await
}
