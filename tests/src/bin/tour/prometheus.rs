//! Prometheus, which scrapes the operator and evaluates the alerts of the chart.

use crate::eventually;
use anyhow::{Context, Result, ensure};
use oaat_tests::alerts;
use oaat_tests::process::Supervised;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The duration that replaces `for` and `keep_firing_for`, so that the tour is short.
const SHORT: &str = "10s";

/// The address of the server.
const ADDRESS: &str = "127.0.0.1:9090";

/// A running server, which is killed when it is dropped.
pub struct Prometheus {
    promtool: PathBuf,
    _server: Supervised,
}

impl Prometheus {
    /// Starts the server, with these addresses as targets.
    pub fn start(folder: &Path, targets: &[String]) -> Result<Self> {
        let prometheus = control_plane::ensure_prometheus(&|line| println!("{line}"))?;
        let promtool = control_plane::ensure_promtool(&|line| println!("{line}"))?;
        let folder = folder.join("prometheus");
        fs::create_dir_all(&folder)?;
        let mut rules: Value = serde_norway::from_str(&fs::read_to_string(alerts::file())?)?;
        shorten(&mut rules);
        println!("the alerts fire after {SHORT} in this tour, and later outside of it");
        fs::write(folder.join("alerts.yaml"), rules.to_string())?;
        let config = folder.join("prometheus.yaml");
        // The labels are those of a ServiceMonitor.
        let scrape = json!({
            "job_name": "oaat-operator-metrics", "honor_labels": true,
            "static_configs": [{ "targets": targets, "labels": { "namespace": "oaat-operator" } }],
        });
        let settings = json!({
            "global": { "scrape_interval": "2s", "evaluation_interval": "2s" },
            "rule_files": ["alerts.yaml"],
            "scrape_configs": [scrape],
        });
        fs::write(&config, settings.to_string())?;
        let checked = Command::new(&promtool)
            .args(["check", "config"])
            .arg(&config)
            .output()?;
        let problems = String::from_utf8_lossy(&checked.stderr);
        ensure!(checked.status.success(), "promtool: {problems}");
        let mut server = Command::new(prometheus);
        server
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.join("data").display()
            ))
            .arg(format!("--web.listen-address={ADDRESS}"));
        let server = Supervised::spawn(server, &folder.join("prometheus.log"))?;
        Ok(Self {
            promtool,
            _server: server,
        })
    }

    /// Waits until the alert about the failing item fires, and shows it.
    pub async fn until_firing(&self, item: &str) -> Result<()> {
        let alert = eventually("the alert fires", async || {
            Ok(self.alerts(item)?.into_iter().next())
        })
        .await?;
        println!("\nPrometheus fires: {}", alert["metric"]);
        Ok(())
    }

    /// Waits until no alert about the item fires.
    pub async fn until_resolved(&self, item: &str) -> Result<()> {
        eventually("the alert is resolved", async || {
            Ok(self.alerts(item)?.is_empty().then_some(()))
        })
        .await?;
        println!("Prometheus: no alert about {item} fires");
        Ok(())
    }

    /// Returns the firing alerts about failures of an item.
    fn alerts(&self, item: &str) -> Result<Vec<Value>> {
        let query =
            format!(r#"ALERTS{{alertname="OaatItemFailing",alertstate="firing",item="{item}"}}"#);
        let server = format!("http://{ADDRESS}");
        let output = Command::new(&self.promtool)
            .args(["query", "instant", "--format=json", &server, &query])
            .output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "promtool: {errors}");
        serde_json::from_slice(&output.stdout).context("promtool printed no JSON")
    }
}

/// Replaces the durations of all rules.
fn shorten(rules: &mut Value) {
    for group in rules["groups"].as_array_mut().into_iter().flatten() {
        for rule in group["rules"].as_array_mut().into_iter().flatten() {
            for field in ["for", "keep_firing_for"] {
                if rule.get(field).is_some() {
                    rule[field] = SHORT.into();
                }
            }
        }
    }
}
