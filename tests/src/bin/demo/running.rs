//! The running demo: the operator, the group, and the screen.

use crate::place::Place;
use crate::retry::Retry;
use crate::screen::Screen;
use crate::swap::Swap;
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use oaat_tests::{Operator, OperatorOptions};
use serde_json::Value;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The time within which every item must succeed with `--once`. Each run succeeds half the time,
/// and a failed item waits for the retry floor, so two minutes are usually enough.
const PATIENCE: Duration = Duration::from_secs(600);
/// The maximum number of restarts of the operator. The user may kill it during the demo.
const RESTARTS: usize = 50;
/// The environment of the operator, as in its pod. The operator keeps copies of policies in this
/// namespace.
const OPERATOR_ENV: [(&str, &str); 1] = [("POD_NAMESPACE", "oaat-operator")];
/// The pause between two updates of the screen.
const INTERVAL: Duration = Duration::from_millis(250);

/// The operator, and the group of the quick start.
pub struct Running {
    place: Place,
    group: Value,
    swap: Option<Swap>,
    options: OperatorOptions,
    operator: Operator,
    restarts: usize,
    screen: Screen,
    _log_dir: TempDir,
}

impl Running {
    /// Starts the operator after the group was applied.
    pub async fn start(
        place: Place,
        binary: PathBuf,
        group: Value,
        swap: Option<Swap>,
    ) -> Result<Self> {
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
        let operator = Operator::start_as(&options, &OPERATOR_ENV).await?;
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
        Ok(Self {
            screen: Screen::new(place.client()?, place.namespace(), place.lines()),
            place,
            group,
            swap,
            options,
            operator,
            restarts: 0,
            _log_dir: log_dir,
        })
    }

    /// Shows all changes. With `once`, returns true once every item has succeeded, or false if that
    /// takes too long.
    pub async fn watch(mut self, once: bool) -> Result<bool> {
        let start = Instant::now();
        let mut success_shown = false;
        loop {
            Retry::default().run(async || self.update().await).await?;
            if !success_shown
                && Retry::default()
                    .run(async || self.succeeded().await)
                    .await?
            {
                println!(
                    "\nevery item has succeeded ({} s)",
                    start.elapsed().as_secs()
                );
                if once {
                    return Ok(true);
                }
                println!("Each item becomes due again later. Press Ctrl-C to end the demo.\n");
                success_shown = true;
            }
            if once && start.elapsed() > PATIENCE {
                eprintln!(
                    "Not every item has succeeded after {} s:\n{}",
                    PATIENCE.as_secs(),
                    self.operator.last_log(50)
                );
                return Ok(false);
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Updates the screen, restarts the operator if it exited, and takes the next step with a custom
    /// policy. Can be retried after an error.
    async fn update(&mut self) -> Result<()> {
        self.screen.update().await?;
        if !self.operator.process().is_running() {
            self.restart_operator().await?;
        }
        if let Some(swap) = &mut self.swap {
            let group = self.place.group(name(&self.group)?).await?;
            swap.advance(&self.place, &group).await?;
        }
        self.check_pods().await
    }

    async fn restart_operator(&mut self) -> Result<()> {
        let status = self.operator.process().exit_status();
        let status = status.map(|status| status.to_string());
        println!("The operator exited ({}).", status.unwrap_or_default());
        self.restarts += 1;
        ensure!(
            self.restarts <= RESTARTS,
            "the operator exited {} times:\n{}",
            self.restarts,
            self.operator.last_log(30)
        );
        self.operator = Operator::start_as(&self.options, &OPERATOR_ENV).await?;
        println!(
            "The operator was restarted as process {}.",
            self.operator.process().pid()
        );
        Ok(())
    }

    /// Returns an error if two pods of the group may run.
    async fn check_pods(&self) -> Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.place.client()?, self.place.namespace());
        let labels = format!("oaat.kawaja.net/group={}", name(&self.group)?);
        let live = pods.list(&ListParams::default().labels(&labels)).await?;
        let runnable = live.iter().filter(|pod| {
            let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
            let gated = pod
                .spec
                .as_ref()
                .is_some_and(|s| s.scheduling_gates.is_some());
            !gated && !matches!(phase, Some("Succeeded" | "Failed"))
        });
        let runnable = runnable.count();
        ensure!(
            runnable <= 1,
            "{runnable} pods of one group could run at the same time"
        );
        Ok(())
    }

    /// Returns whether every item has succeeded and the custom policy, if any, is restored.
    async fn succeeded(&self) -> Result<bool> {
        if !self.swap.as_ref().is_none_or(Swap::done) {
            return Ok(false);
        }
        let items = self.group["spec"]["oaatItems"]
            .as_array()
            .context("the group has no items")?;
        let status = self.place.group(name(&self.group)?).await?["status"].clone();
        Ok(items
            .iter()
            .filter_map(|item| item.as_str())
            .all(|item| status["items"][item]["lastSuccess"].is_string()))
    }
}

fn name(group: &Value) -> Result<&str> {
    group["metadata"]["name"]
        .as_str()
        .context("the group has no name")
}
