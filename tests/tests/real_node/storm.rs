//! Operators that are killed repeatedly while items run in containers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::fixture::{Fixture, JOURNAL, PATIENCE, alternating, history, item, phase, text};

/// The number of kills.
const KILLS: u32 = 30;
/// The items, of which one always fails.
const ITEMS: [&str; 4] = ["one", "two", "three", "bad"];

/// One operator at a time, with gaps without an operator.
pub async fn storm_of_kills_loses_no_run(fixture: Fixture) -> Result<()> {
    storm(fixture, 1).await
}

/// Two operators without leader election, of which the older one is killed each time.
pub async fn storm_of_kills_with_two_operators_loses_no_run(fixture: Fixture) -> Result<()> {
    storm(fixture, 2).await
}

async fn storm(mut fixture: Fixture, operators: usize) -> Result<()> {
    let script = format!(
        "{JOURNAL}; start; sleep 0.$(shuf -i 1-9 -n 1); end; [ $OAAT_ITEM != bad ] || exit 4"
    );
    fixture.work(&script, json!({})).await?;
    let restless = json!({ "frequency": "1s", "failureCoolOff": "1s" });
    fixture.group(&ITEMS, restless).await?;
    for _ in 1..operators {
        fixture.start_operator().await?;
    }
    for kill in 1..=KILLS {
        sleep(some_time()).await;
        // The oldest operator, so that both are killed in turn.
        fixture.kill_operator().await;
        if kill % 3 == 0 {
            sleep(some_time()).await;
        }
        fixture.start_operator().await?;
    }
    // From now on, the current run ends, and no item is due.
    let calm = json!({ "frequency": "24h", "failureCoolOff": "24h" });
    fixture.patch_group(calm).await?;
    let group = fixture
        .until("everything has ended", |g| {
            let settled = g["status"]["observedGeneration"] == g["metadata"]["generation"];
            settled && g["status"]["current"].is_null() && all_ran(g)
        })
        .await?;
    until_no_pod_is_gated(&fixture).await?;
    account(&fixture, &group).await
}

/// Waits until the operators have deleted the candidates that killed ones left behind.
async fn until_no_pod_is_gated(fixture: &Fixture) -> Result<()> {
    let start = Instant::now();
    loop {
        let pods = fixture.pods().list(&ListParams::default()).await?.items;
        let gates = |pod: &Pod| pod.spec.as_ref()?.scheduling_gates.clone();
        let gated = pods.iter().find(|pod| gates(pod).is_some());
        let Some(gated) = gated else {
            return Ok(());
        };
        ensure!(
            start.elapsed() < PATIENCE,
            "pod {} still has its gate",
            gated.name_any()
        );
        sleep(Duration::from_millis(100)).await;
    }
}

fn all_ran(group: &Value) -> bool {
    ITEMS
        .iter()
        .all(|name| item(group, name)["runs"].as_i64() > Some(0))
}

/// Compares the lines that containers wrote, the observations of the witness, the remaining pods,
/// and the status of the group.
async fn account(fixture: &Fixture, group: &Value) -> Result<()> {
    let opened: BTreeSet<String> = fixture.witness.opened()?.into_iter().collect();
    let wrote = alternating(&fixture.journal())?;
    let ran: BTreeSet<String> = wrote.iter().cloned().collect();
    ensure!(ran.len() == wrote.len(), "a pod ran twice: {wrote:?}");
    ensure!(ran == opened, "opened {opened:?}, ran {ran:?}");

    let pods = fixture.pods().list(&ListParams::default()).await?.items;
    let left: BTreeSet<String> = pods.iter().map(ResourceExt::name_any).collect();
    ensure!(
        left == opened,
        "pods {left:?}, of which these were opened: {opened:?}"
    );
    let mut runs: BTreeMap<String, Vec<&Pod>> = BTreeMap::new();
    for pod in &pods {
        let item = pod.annotations().get("oaat.kawaja.net/item");
        let item = item.context("the pod has no item")?.clone();
        runs.entry(item).or_default().push(pod);
    }
    for name in ITEMS {
        let pods = runs.remove(name).unwrap_or_default();
        let (recorded, count) = (item(group, name), i64::try_from(pods.len())?);
        ensure!(
            recorded["runs"] == count,
            "{name}: {count} pods, {recorded:#}"
        );
        let (end, failures) = if name == "bad" {
            ("Failed", count)
        } else {
            ("Succeeded", 0)
        };
        let recorded_failures = recorded["failures"].as_i64().unwrap_or(0);
        ensure!(recorded_failures == failures, "{name}: {recorded:#}");
        ensure!(
            pods.iter().all(|pod| phase(pod) == end),
            "{name} has an unexpected result"
        );
    }
    let history = history(group);
    let listed: BTreeSet<String> = history.iter().map(|run| text(&run["pod"])).collect();
    ensure!(
        listed.len() == history.len(),
        "recorded twice: {history:#?}"
    );
    ensure!(
        listed.is_subset(&opened),
        "recorded and never opened: {history:#?}"
    );
    println!(
        "{}: {KILLS} kills, {} runs",
        fixture.namespace,
        opened.len()
    );
    Ok(())
}

/// Returns a random time between 0.1 and 2 seconds.
fn some_time() -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let dice = now.map_or(0, |now| now.subsec_nanos());
    Duration::from_millis(u64::from(dice / 1000 % 1900 + 100))
}
