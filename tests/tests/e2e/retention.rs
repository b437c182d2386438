//! How long finished pods are kept, and that nothing is lost with them; and what all
//! this costs the API server.

use crate::world::{PATIENCE, World, condition, item};
use anyhow::{Result, anyhow};
use oaat_tests::Operator;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::time::sleep;

fn runs(group: &Value, name: &str) -> i64 {
    item(group, name)["runs"].as_i64().unwrap_or(0)
}

/// The items of the pods that are there, once there are `count` of them.
async fn items_of_pods(world: &World, count: usize) -> Result<Vec<String>> {
    let start = Instant::now();
    loop {
        let pods = world.list_pods().await?;
        if pods.len() == count {
            let items = pods.into_iter().filter_map(|pod| {
                let annotations = pod.metadata.annotations?;
                annotations.get("oaat.kawaja.net/item").cloned()
            });
            return Ok(items.collect());
        }
        if start.elapsed() > PATIENCE {
            return Err(anyhow!("there are {} pods, not {count}", pods.len()));
        }
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn of_the_finished_pods_the_newest_are_kept_up_to_the_limit() -> Result<()> {
    let world = World::new("keep-limit").await?;
    world.work("true", json!({})).await?;
    world
        .group(&["a", "b", "c", "d", "e"], json!({"podHistoryLimit": 2}))
        .await?;
    let group = world
        .until("all have run", |g| g["status"]["state"] == "Idle")
        .await?;
    let kept = items_of_pods(&world, 2).await?;
    for run in [0, 1] {
        let item = group["status"]["history"][run]["item"].as_str();
        let item = item.unwrap_or_default().to_owned();
        assert!(kept.contains(&item), "{item} in {kept:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_finished_pod_goes_after_its_retention_and_its_result_stays() -> Result<()> {
    let world = World::new("keep-time").await?;
    world.work("exit 7", json!({})).await?;
    world
        .group(
            &["a"],
            json!({"podRetention": "3s", "failureCoolOff": "1h"}),
        )
        .await?;
    world
        .until("a has run", |g| item(g, "a")["state"] == "Cooling")
        .await?;
    items_of_pods(&world, 0).await?;
    let group = world.read("group").await?;
    assert_eq!(item(&group, "a")["lastExitCode"], 7);
    assert_eq!(item(&group, "a")["failures"], 1);
    assert_eq!(runs(&group, "a"), 1);
    Ok(())
}

#[tokio::test]
async fn no_pod_is_kept_with_0_and_0_and_no_result_is_lost() -> Result<()> {
    let world = World::new("keep-none").await?;
    world.work("[ $OAAT_ITEM != bad ]", json!({})).await?;
    world
        .group(
            &["a", "b", "bad"],
            json!({"podRetention": "0s", "podHistoryLimit": 0, "failureCoolOff": "1h"}),
        )
        .await?;
    let group = world
        .until("all have run", |g| {
            ["a", "b", "bad"].iter().all(|name| runs(g, name) == 1)
                && g["status"]["state"] == "Waiting"
        })
        .await?;
    items_of_pods(&world, 0).await?;
    assert_eq!(item(&group, "a")["state"], "Fresh");
    assert_eq!(item(&group, "bad")["lastExitCode"], 1);
    // That the pods are gone is no news.
    assert_eq!(world.read("group").await?["status"], group["status"]);
    Ok(())
}

/// All requests so far, but those for events and leases.
async fn requests(operator: &Operator) -> Result<f64> {
    let count = async |labels: &[&str]| operator.metric("oaat_api_requests_total", labels).await;
    let aside = count(&["\"events\""]).await? + count(&["\"leases\""]).await?;
    Ok(count(&[]).await? - aside)
}

#[tokio::test]
async fn groups_that_wait_cost_the_api_server_nothing() -> Result<()> {
    let world = World::new("quiet").await?;
    world.work("[ $OAAT_ITEM = good ]", json!({})).await?;
    world
        .group(&["good", "bad"], json!({"failureCoolOff": "1h"}))
        .await?;
    for (name, spec) in [
        ("typeless", json!({"oaatType": "none", "oaatItems": ["a"]})),
        ("itemless", json!({"oaatType": "work"})),
    ] {
        let group = json!({
            "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
            "metadata": { "name": name }, "spec": spec,
        });
        world.apply(&group.to_string()).await?;
        world
            .until_object("OaatGroup", name, "it waits", |g| {
                g["status"]["state"] == "Waiting"
            })
            .await?;
    }
    world
        .until("both have run", |g| {
            item(g, "good")["state"] == "Fresh" && item(g, "bad")["state"] == "Cooling"
        })
        .await?;

    // The answers to what was just written are still on their way.
    let start = Instant::now();
    let mut before = requests(world.operator()).await?;
    loop {
        sleep(Duration::from_secs(2)).await;
        let now = requests(world.operator()).await?;
        if now == before {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{}", world.operator().log());
        before = now;
    }
    sleep(Duration::from_secs(8)).await;
    assert_eq!(requests(world.operator()).await?, before);
    Ok(())
}

#[tokio::test]
async fn a_run_costs_four_writes() -> Result<()> {
    let world = World::new("four-writes").await?;
    world.work("true", json!({})).await?;
    world
        .until_object("OaatType", "work", "it is checked", |t| {
            condition(t, "Valid").0 == "True"
        })
        .await?;
    let operator = world.operator();
    let count = async |verb: &str, resource: &str| {
        let labels = [&*format!("\"{verb}\""), &*format!("\"{resource}\"")];
        operator.metric("oaat_api_requests_total", &labels).await
    };
    let dry_runs = count("create", "pods").await?;
    let names: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    world.group(&names, json!({"podHistoryLimit": 0})).await?;
    world
        .until("all have run", |g| g["status"]["state"] == "Idle")
        .await?;
    items_of_pods(&world, 0).await?;

    assert_eq!(
        count("create", "pods").await? - dry_runs,
        20.0,
        "candidates"
    );
    assert_eq!(count("patch", "pods").await?, 20.0, "openings");
    assert_eq!(count("delete", "pods").await?, 20.0, "retention");
    // Each claim also records the run before; the last run is recorded alone, and the
    // group may have been seen a moment before its type.
    let claims = count("patch", "oaatgroups").await?;
    assert!(
        (21.0..=22.0).contains(&claims),
        "claims and records: {claims}"
    );
    Ok(())
}
