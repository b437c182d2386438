//! The cost of blackout windows and lists of items: the search for the next window, ten thousand
//! waiting groups, and a list that changes.

use crate::handover::{PATIENCE, groups, node};
use crate::policies::{create, start, work};
use crate::samples::{Samples, ms, us};
use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use oaat_api::validate::validate;
use oaat_api::windows;
use oaat_api::{OaatGroupSpec, Timestamp};
use oaat_tests::{ControlPlane, Operator};
use serde_json::{Value, json};
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// The number of waiting groups.
const GROUPS: usize = 10_000;
/// The period in which their requests are counted.
const IDLE: Duration = Duration::from_secs(30);
/// The number of changes of the list.
const CHANGES: usize = 50;
/// The number of searches, about 67 minutes apart.
const SEARCHES: usize = 5_000;

/// Measures the search for the next window, which needs no cluster.
pub fn search() -> Result<()> {
    println!("search for the next window and the current blackout (goal 50 µs):");
    for (words, schedule, zone) in [
        ("each weekday at 8", "0 8 * * 1-5", "Europe/Berlin"),
        ("every minute", "* * * * *", "UTC"),
        ("the 1st of each month", "30 2 1 * *", "America/New_York"),
        ("New Year", "0 0 1 1 *", "Asia/Tokyo"),
        ("each 29th of February", "0 0 29 2 *", "UTC"),
    ] {
        let window = json!({ "schedule": schedule, "duration": "2h", "timeZone": zone });
        let spec: OaatGroupSpec =
            serde_json::from_value(json!({ "oaatType": "t", "blackoutWindows": [window] }))?;
        let valid = validate(&spec).ok().context("the spec is invalid")?;
        let mut samples = Samples::default();
        for number in 0..SEARCHES {
            let now = Timestamp(1_767_225_600_000 + number as i64 * 4_019_000);
            let begun = Instant::now();
            black_box(windows::blackout(&valid.windows, now));
            black_box(windows::next(&valid.windows, now));
            samples.0.push(begun.elapsed());
        }
        println!(
            "  {words:<24} p50 {:>8}   p99 {:>8}",
            us(samples.quantile(0.5)),
            us(samples.quantile(0.99))
        );
    }
    Ok(())
}

pub async fn measure(plane: &ControlPlane, kubeconfig: &Path) -> Result<()> {
    change(plane, kubeconfig).await?;
    wait(plane, kubeconfig).await
}

async fn write_list(client: &Client, namespace: &str, text: &str) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "list" }, "data": { "items": text },
    });
    let params = PatchParams::apply("bench").force();
    maps.patch("list", &params, &Patch::Apply(&map)).await?;
    Ok(())
}

/// Measures the time from a change of a ConfigMap to the claim of the added item.
async fn change(plane: &ControlPlane, kubeconfig: &Path) -> Result<()> {
    let (namespace, client) = ("list", plane.admin());
    let _node = node(plane, namespace).await?;
    work(plane, namespace, "0").await?;
    write_list(&client, namespace, "item-first").await?;
    let spec = json!({
        "oaatType": "work", "podHistoryLimit": 5,
        "itemsFrom": [{ "name": "list", "configMap": { "name": "list" } }],
    });
    create(&client, namespace, "group", spec).await?;
    let operator = start(plane, kubeconfig, namespace).await?;
    let mut samples = Samples::default();
    let until = async |condition: &dyn Fn(&Value) -> bool| {
        let begun = Instant::now();
        loop {
            let group = serde_json::to_value(groups(&client, namespace).get("group").await?)?;
            if condition(&group["status"]) {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                bail!("the list did not take effect: {:#}", group["status"]);
            }
            sleep(Duration::from_millis(2)).await;
        }
    };
    let mut list = "item-first".to_owned();
    for number in 0..CHANGES {
        until(&|status| status["state"] == "Idle").await?;
        let name = format!("item-{number}");
        list.push('\n');
        list.push_str(&name);
        let begun = Instant::now();
        write_list(&client, namespace, &list).await?;
        until(&|status| status["lastDecision"]["item"] == name).await?;
        samples.0.push(begun.elapsed());
    }
    println!(
        "change of a list in a ConfigMap → the new item is claimed: p50 {}, p99 {} (goal 100 ms)",
        ms(samples.quantile(0.5)),
        ms(samples.quantile(0.99))
    );
    drop(operator);
    Ok(())
}

/// Counts the requests for idle groups with windows, half of which are in a blackout.
async fn wait(plane: &ControlPlane, kubeconfig: &Path) -> Result<()> {
    let (namespace, client) = ("windows", plane.admin());
    plane.namespace(namespace).await?;
    let created = stream::iter(0..GROUPS).map(|number| {
        let client = client.clone();
        async move {
            let window = match number % 2 {
                0 => json!({ "schedule": "0 0 * * *", "duration": "2days" }),
                _ => json!({ "schedule": "0 0 29 2 *", "duration": "1h" }),
            };
            let spec = json!({
                "oaatType": "none", "oaatItems": ["a", "b"], "blackoutWindows": [window],
            });
            create(&client, namespace, &format!("group-{number}"), spec).await
        }
    });
    created.buffer_unordered(8).try_collect::<Vec<_>>().await?;
    let operator = start(plane, kubeconfig, namespace).await?;
    let begun = Instant::now();
    let mut before = requests(&operator).await?;
    // Until all groups are reconciled, and the watch has reported the resulting writes.
    loop {
        sleep(Duration::from_secs(5)).await;
        let now = requests(&operator).await?;
        let reconciles = operator.metric("oaat_reconciles_total", &[]).await?;
        if now == before && reconciles >= GROUPS as f64 {
            break;
        }
        if begun.elapsed() > PATIENCE * 5 {
            bail!(
                "{reconciles} reconciles of {GROUPS} groups, and still {} requests in 5 s",
                now - before
            );
        }
        before = now;
    }
    sleep(IDLE).await;
    println!(
        "{GROUPS} groups with windows, half of them in a blackout: {} requests in {} s (goal 0)",
        requests(&operator).await? - before,
        IDLE.as_secs()
    );
    Ok(())
}

/// Returns the number of requests so far.
async fn requests(operator: &Operator) -> Result<f64> {
    operator.metric("oaat_api_requests_total", &[]).await
}
