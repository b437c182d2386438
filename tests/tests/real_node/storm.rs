//! Operators that are killed again and again while items run in containers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::place::{JOURNAL, Place, alternating, history, item, phase, text};

/// How often an operator is killed.
const KILLS: u32 = 30;
/// Items, of which one always fails.
const ITEMS: [&str; 4] = ["one", "two", "three", "bad"];

/// One operator at a time, with gaps without any.
pub async fn a_storm_of_kills_loses_nothing(place: Place) -> Result<()> {
    storm(place, 1).await
}

/// Two operators without an election, of which now the one, now the other is killed.
pub async fn a_storm_of_kills_with_two_operators_loses_nothing(place: Place) -> Result<()> {
    storm(place, 2).await
}

async fn storm(mut place: Place, operators: usize) -> Result<()> {
    let script = format!(
        "{JOURNAL}; start; sleep 0.$(shuf -i 1-9 -n 1); end; [ $OAAT_ITEM != bad ] || exit 4"
    );
    place.work(&script, json!({})).await?;
    let restless = json!({ "frequency": "1s", "failureCoolOff": "1s" });
    place.group(&ITEMS, restless).await?;
    for _ in 1..operators {
        place.start_operator().await?;
    }
    for kill in 1..=KILLS {
        sleep(some_time()).await;
        // The oldest one, so that all take their turn.
        place.kill_operator().await;
        if kill % 3 == 0 {
            sleep(some_time()).await;
        }
        place.start_operator().await?;
    }
    // Calm: whatever runs comes to its end, and nothing is due any more.
    let calm = json!({ "frequency": "24h", "failureCoolOff": "24h" });
    place.patch_group(calm).await?;
    let group = place
        .until("everything has ended", |g| {
            let settled = g["status"]["observedGeneration"] == g["metadata"]["generation"];
            settled && g["status"]["current"].is_null() && all_ran(g)
        })
        .await?;
    account(&place, &group).await
}

fn all_ran(group: &Value) -> bool {
    ITEMS
        .iter()
        .all(|name| item(group, name)["runs"].as_i64() > Some(0))
}

/// Compares what containers wrote, what the witness saw, what is left of the pods, and what
/// the group's status says.
async fn account(place: &Place, group: &Value) -> Result<()> {
    let opened: BTreeSet<String> = place.witness.opened()?.into_iter().collect();
    let wrote = alternating(&place.journal())?;
    let ran: BTreeSet<String> = wrote.iter().cloned().collect();
    ensure!(ran.len() == wrote.len(), "a pod ran twice: {wrote:?}");
    ensure!(ran == opened, "opened {opened:?}, ran {ran:?}");

    let pods = place.pods().list(&ListParams::default()).await?.items;
    let left: BTreeSet<String> = pods.iter().map(ResourceExt::name_any).collect();
    ensure!(
        left == opened,
        "pods {left:?}, of which these were opened: {opened:?}"
    );
    let mut runs: BTreeMap<String, Vec<&Pod>> = BTreeMap::new();
    for pod in &pods {
        let item = pod.annotations().get("oaat.kawaja.net/item");
        let item = item.context("a pod without its item")?.clone();
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
        ensure!(recorded["failures"] == failures, "{name}: {recorded:#}");
        ensure!(
            pods.iter().all(|pod| phase(pod) == end),
            "{name} ended otherwise"
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
    println!("{}: {KILLS} kills, {} runs", place.namespace, opened.len());
    Ok(())
}

/// Between 0.1 and 2 seconds.
fn some_time() -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let dice = now.map_or(0, |now| now.subsec_nanos());
    Duration::from_millis(u64::from(dice / 1000 % 1900 + 100))
}
