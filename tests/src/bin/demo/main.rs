//! The demo: the README's quick start on a real control plane or on your cluster. Shows the group's
//! table and the output of the pods. `cargo xtask demo` starts it.

mod place;
mod screen;
mod swap;

use anyhow::{Context, Result};
use clap::Parser;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use oaat_tests::{Operator, OperatorOptions, operator, readme};
use place::Place;
use screen::Screen;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use swap::Swap;
use xtask::DemoOptions;

/// The time within which every item must succeed with `--once`. Each run succeeds half the time,
/// and a failed item waits for the retry floor, so two minutes are usually enough.
const PATIENCE: Duration = Duration::from_secs(600);

/// The maximum number of restarts of the operator. The user may kill it during the demo.
const RESTARTS: usize = 50;

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

    let log_dir = tempfile::tempdir()?;
    let options = OperatorOptions {
        binary,
        kubeconfig: place.operator_kubeconfig().to_owned(),
        namespaces: vec![place.namespace().to_owned()],
        leader_elect: false,
        retry_floor: "10s".into(),
        log_dir: log_dir.path().to_owned(),
        more: Vec::new(),
    };
    let mut operator = Operator::start(&options).await?;
    println!(
        "The operator runs as process {} with the RBAC rules from manifests/02. If you kill it, the \
         demo restarts it. The log is in {}\n",
        operator.process().pid(),
        operator.log_file().display()
    );
    println!(
        "To watch the group in another terminal:\n  {}\n",
        place.kubectl_commands()
    );

    let mut screen = Screen::new(place.client()?, place.namespace(), place.lines());
    let start = Instant::now();
    let mut success_shown = false;
    let mut restarts = 0;
    loop {
        screen.update().await?;
        if !operator.process().is_running() {
            let status = operator
                .process()
                .exit_status()
                .map(|status| status.to_string());
            println!("The operator exited ({}).", status.unwrap_or_default());
            restarts += 1;
            anyhow::ensure!(
                restarts <= RESTARTS,
                "the operator exited {restarts} times:\n{}",
                operator.last_log(30)
            );
            operator = Operator::start(&options).await?;
            println!(
                "The operator was restarted as process {}.",
                operator.process().pid()
            );
        }
        if let Some(swap) = &mut swap {
            swap.advance(&place, &place.group("testsimple-oaat").await?)
                .await?;
        }
        let swapped = swap.as_ref().is_none_or(Swap::done);
        if !success_shown && swapped && all_succeeded(&place, &group).await? {
            println!(
                "\nevery item has succeeded ({} s)",
                start.elapsed().as_secs()
            );
            if cli.once {
                return Ok(true);
            }
            println!("Each item becomes due again later. Press Ctrl-C to end the demo.\n");
            success_shown = true;
        }
        if cli.once && start.elapsed() > PATIENCE {
            eprintln!(
                "Not every item has succeeded after {} s:\n{}",
                PATIENCE.as_secs(),
                operator.last_log(50)
            );
            return Ok(false);
        }
        // The demo fails if it ever observes two pods that may run.
        let pods: Api<Pod> = Api::namespaced(place.client()?, place.namespace());
        let live = pods
            .list(&ListParams::default().labels("oaat.kawaja.net/group=testsimple-oaat"))
            .await?;
        let runnable = live.iter().filter(|pod| {
            let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
            let gated = pod
                .spec
                .as_ref()
                .is_some_and(|s| s.scheduling_gates.is_some());
            !gated && !matches!(phase, Some("Succeeded" | "Failed"))
        });
        let runnable = runnable.count();
        anyhow::ensure!(
            runnable <= 1,
            "{runnable} pods of one group could run at the same time"
        );
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

async fn all_succeeded(place: &Place, group: &str) -> Result<bool> {
    let group: serde_json::Value = serde_norway::from_str(group)?;
    let name = group["metadata"]["name"]
        .as_str()
        .context("the group has no name")?;
    let items = group["spec"]["oaatItems"]
        .as_array()
        .context("the group has no items")?;
    let status = place.group(name).await?["status"].clone();
    Ok(items
        .iter()
        .filter_map(|item| item.as_str())
        .all(|item| status["items"][item]["lastSuccess"].is_string()))
}
