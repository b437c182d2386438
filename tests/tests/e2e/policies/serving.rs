//! Policies that serve: loaded, swapped, shared, and with a memory.

use super::{busy, component, digest, variant};
use crate::world::{World, condition, item};
use anyhow::Result;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use std::io::Write;

#[tokio::test]
async fn a_policy_decides_from_its_config_map_and_is_swapped_while_runs_go_on() -> Result<()> {
    let world = busy("policy-swap", json!({ "configMap": { "name": "mine" } })).await?;
    let message = world.until_policy("False", "SourceNotFound").await?;
    assert!(message.contains("policy pack"), "{message}");
    assert!(message.contains("onError: Hold"), "{message}");
    world
        .until("the group is not ready for want of its policy", |group| {
            let (ready, reason, _) = condition(group, "Ready");
            (ready.as_str(), reason.as_str()) == ("False", "PolicyNotReady")
        })
        .await?;

    let (one, two) = (variant("one"), variant("two"));
    world.policy(&one).await?;
    let group = world.until_decided_by(&digest(&one)).await?;
    assert_eq!(
        group["status"]["policy"]["source"],
        "ConfigMap mine, key policy.wasm"
    );
    assert_eq!(group["status"]["policy"]["contract"], "1.0.0");
    let (status, _, message) = condition(&group, "PolicyReady");
    assert_eq!(status, "True");
    assert!(
        message.contains(&digest(&one)) && message.contains("contract 1.0.0"),
        "{message}"
    );

    world.policy(&two).await?;
    let group = world.until_decided_by(&digest(&two)).await?;
    let changed = world.until_event("group", "PolicyChanged").await?;
    assert!(
        changed.contains(&digest(&one)) || changed.contains(&digest(&two)),
        "{changed}"
    );
    // No run was lost on the way: numbers without a gap, each of them ended well.
    let history = group["status"]["history"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let runs: Vec<i64> = history
        .iter()
        .filter_map(|run| run["run"].as_i64())
        .collect();
    assert!(
        runs.windows(2).all(|pair| pair[0] == pair[1] + 1),
        "{runs:?}"
    );
    assert!(
        history.iter().all(|run| run["result"] == "Succeeded"),
        "{history:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_config_map_is_watched_once_however_many_groups_use_it() -> Result<()> {
    let world = World::new("policy-shared").await?;
    world.policy(&variant("shared")).await?;
    world.work("exit 0", json!({})).await?;
    for number in 0..20 {
        let group = json!({
            "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
            "metadata": { "name": format!("group-{number}") },
            "spec": {
                "oaatType": "work", "oaatItems": ["a"],
                "policy": { "configMap": { "name": "mine" } },
            },
        });
        world.apply(&group.to_string()).await?;
    }
    for number in 0..20 {
        let name = format!("group-{number}");
        world
            .until_object("OaatGroup", &name, "it ran", |group| {
                group["status"]["items"]["a"]["lastSuccess"].is_string()
            })
            .await?;
    }
    let labels = [r#"resource="configmaps""#];
    let requests = world
        .operator()
        .metric("oaat_api_requests_total", &labels)
        .await?;
    // A list and a watch.
    assert!(requests <= 4.0, "{requests}");
    let loads = world.operator().log().matches("policy loaded").count();
    assert_eq!(loads, 1);
    Ok(())
}

#[tokio::test]
async fn a_gzipped_policy_under_another_key_serves_as_well() -> Result<()> {
    let policy = json!({ "configMap": { "name": "mine", "key": "fast.wasm.gz" } });
    let world = busy("policy-gzip", policy).await?;
    let wasm = variant("gzip");
    world
        .config_map("mine", "fast.wasm.gz", &gzip(&wasm)?)
        .await?;
    world.until_decided_by(&digest(&wasm)).await?;
    Ok(())
}

#[tokio::test]
async fn weights_of_items_and_the_state_of_a_policy_come_to_it_in_a_cluster() -> Result<()> {
    let wasm = component("policies/fair").await?;
    let world = World::new("policy-fair").await?;
    world.policy(&wasm).await?;
    world.work("exit 0", json!({})).await?;
    let spec = json!({
        "frequency": "1ms",
        "policy": { "configMap": { "name": "mine" } },
        "itemOptions": { "heavy": { "settings": { "weight": 3 } } },
    });
    world.group(&["light", "heavy"], spec).await?;
    let runs = |group: &Value, name: &str| item(group, name)["runs"].as_i64().unwrap_or(0);
    let group = world
        .until("24 runs", |group| {
            group["status"]["run"].as_i64().unwrap_or(0) > 24
        })
        .await?;
    // By its share one of four; a second at least is counted for each run.
    let light = runs(&group, "light");
    assert!(
        (5..=8).contains(&light),
        "{light} of {}",
        group["status"]["run"]
    );
    assert_eq!(group["status"]["lastDecision"]["digest"], digest(&wasm));
    assert_eq!(
        group["status"]["policyStateOf"],
        "ConfigMap mine, key policy.wasm"
    );
    assert!(
        group["status"]["policyState"]
            .as_str()
            .is_some_and(|state| !state.is_empty())
    );
    Ok(())
}

fn gzip(wasm: &[u8]) -> Result<Vec<u8>> {
    let mut gz = GzEncoder::new(Vec::new(), Compression::best());
    gz.write_all(wasm)?;
    Ok(gz.finish()?)
}

#[tokio::test]
async fn a_policy_that_is_there_from_the_start_is_announced_once() -> Result<()> {
    let world = World::new("policy-loaded").await?;
    let wasm = variant("loaded");
    world.policy(&wasm).await?;
    world.work("exit 0", json!({})).await?;
    let spec = json!({ "frequency": "100ms", "policy": { "configMap": { "name": "mine" } } });
    world.group(&["a"], spec).await?;
    let loaded = world.until_event("group", "PolicyLoaded").await?;
    assert!(loaded.contains(&digest(&wasm)), "{loaded}");
    world.until_decided_by(&digest(&wasm)).await?;
    let events = world.events("group").await?;
    let of_policy = events
        .iter()
        .filter(|(reason, _)| reason.starts_with("Policy"));
    assert_eq!(of_policy.count(), 1, "{events:#?}");
    Ok(())
}

#[tokio::test]
async fn one_component_in_two_config_maps_is_one_policy() -> Result<()> {
    let world = World::new("policy-twice").await?;
    let wasm = variant("twice");
    world.config_map("plain", "policy.wasm", &wasm).await?;
    world
        .config_map("packed", "policy.wasm", &gzip(&wasm)?)
        .await?;
    world.work("exit 0", json!({})).await?;
    for name in ["plain", "packed"] {
        let group = json!({
            "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
            "metadata": { "name": name },
            "spec": {
                "oaatType": "work", "oaatItems": ["a"],
                "policy": { "configMap": { "name": name } },
            },
        });
        world.apply(&group.to_string()).await?;
    }
    for name in ["plain", "packed"] {
        let group = world
            .until_object("OaatGroup", name, "it is decided", |group| {
                group["status"]["lastDecision"]["digest"] == digest(&wasm)
            })
            .await?;
        let source = format!("ConfigMap {name}, key policy.wasm");
        assert_eq!(group["status"]["policy"]["source"], source);
    }
    Ok(())
}

#[tokio::test]
async fn each_replica_loads_the_policy_and_either_goes_on_without_the_other() -> Result<()> {
    let mut world = busy(
        "policy-replicas",
        json!({ "configMap": { "name": "mine" } }),
    )
    .await?;
    let (one, two) = (variant("replicas one"), variant("replicas two"));
    world.policy(&one).await?;
    world.until_decided_by(&digest(&one)).await?;
    world.start_operator().await?;
    world.policy(&two).await?;
    world.until_decided_by(&digest(&two)).await?;
    world.take_first_operator().stop().await;
    let runs = |group: &Value| group["status"]["run"].as_i64().unwrap_or(0);
    let now = runs(&world.read("group").await?);
    let group = world
        .until("more runs", |group| runs(group) > now + 3)
        .await?;
    assert_eq!(group["status"]["lastDecision"]["digest"], digest(&two));
    assert_eq!(condition(&group, "PolicyReady").0, "True");
    let history = group["status"]["history"].as_array().cloned();
    let history: Vec<i64> = history
        .iter()
        .flatten()
        .filter_map(|run| run["run"].as_i64())
        .collect();
    assert!(
        history.windows(2).all(|pair| pair[0] == pair[1] + 1),
        "{history:?}"
    );
    Ok(())
}
