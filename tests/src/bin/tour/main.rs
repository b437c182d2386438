//! The tour: the operator is installed from its chart on a real node, an item fails, an alert fires,
//! and the command line explains and repairs it. `cargo xtask tour` starts it.

mod browser;
mod cluster;
mod prometheus;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use cluster::Cluster;
use oaat_tests::real_node;
use prometheus::Prometheus;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// The type and the group of the tour.
const BACKUP: &str = include_str!("backup.yaml");

/// The item that fails.
const ITEM: &str = "photos";

/// The timeout of each step.
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Parser)]
struct Cli {
    /// The archive with the operator's image.
    #[arg(long)]
    image: PathBuf,
    /// Write the screenshots to this folder.
    #[arg(long)]
    screenshots: PathBuf,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match real_node::inside() {
        Some(folder) => tour(&cli, &folder),
        None => enter(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tour: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs this program again in the enclosure of a real node.
fn enter() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let status = real_node::enter(&arguments, false)?;
    ensure!(status.success(), "a step failed; see above");
    Ok(())
}

#[tokio::main]
async fn tour(cli: &Cli, folder: &Path) -> Result<()> {
    let began = Instant::now();
    let step = |title: &str| println!("\n== {title} ({} s)", began.elapsed().as_secs());

    step("Start an API server and a node with kubelet and containerd");
    let cluster = Cluster::start(folder, &cli.image).await?;

    step("Install the operator with Helm");
    cluster.install_chart().await?;

    step("Start Prometheus with the alerts of the chart");
    let prometheus = Prometheus::start(folder, &cluster.operator_addresses().await?)?;

    step("Back up four machines, one of which fails");
    let lock = cluster.shared.join("photos.locked");
    std::fs::write(&lock, "")?;
    let shared = cluster.shared.to_string_lossy();
    let backup = BACKUP.replace("SHARED_FOLDER", &shared);
    println!("{}", cluster.apply(&backup).await?.trim_end());
    prometheus.until_firing(ITEM).await?;
    cluster.oaat(&["status"]).await?;
    cluster.oaat(&["status", "backup"]).await?;

    step("Find out why");
    let why = cluster.oaat(&["why", ITEM]).await?;
    ensure!(why.contains("failed"), "it does not explain the failure");
    let log = cluster.oaat(&["logs", ITEM, "--previous"]).await?;
    ensure!(log.contains("locked"), "the log has no reason");
    let before = cli.screenshots.join("tour-failing.png");
    browser::screenshot(&cluster, "backup", &before).await?;

    step("Remove the cause, and run the item now");
    std::fs::remove_file(&lock)?;
    println!("$ rm {}", lock.display());
    let run = cluster.oaat(&["run", ITEM, "--wait"]).await?;
    ensure!(run.contains("saved"), "its log is not shown");

    step("Wait until the alert is resolved");
    prometheus.until_resolved(ITEM).await?;
    cluster.oaat(&["status", "backup"]).await?;
    cluster.oaat(&["history", "backup", "--item", ITEM]).await?;
    let after = cli.screenshots.join("tour-repaired.png");
    browser::screenshot(&cluster, "backup", &after).await?;

    step("Done");
    println!("screenshots: {}, {}", before.display(), after.display());
    Ok(())
}

/// Repeats a check until it returns a value.
async fn eventually<T, F: Future<Output = Result<Option<T>>>>(
    what: &str,
    mut check: impl FnMut() -> F,
) -> Result<T> {
    let start = Instant::now();
    loop {
        let last = match check().await {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if start.elapsed() > PATIENCE {
            let context = format!("{what}: timed out after {} s", PATIENCE.as_secs());
            match last {
                Some(error) => return Err(error).context(context),
                None => bail!(context),
            }
        }
        sleep(Duration::from_millis(500)).await;
    }
}
