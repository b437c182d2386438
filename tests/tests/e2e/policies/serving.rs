//! Policies in use: loaded, replaced, shared, and with state.

use super::{busy, component, digest, variant};
use crate::fixture::{Fixture, condition, item};
use anyhow::Result;
use policy_host::compress;
use serde_json::{Value, json};

#[tokio::test]
async fn policy_decides_from_its_config_map_and_is_replaced_during_runs() -> Result<()> {
    let fixture = busy("policy-swap", json!({ "configMap": { "name": "mine" } })).await?;
    let message = fixture.until_policy("False", "SourceNotFound").await?;
    assert!(message.contains("policy pack"), "{message}");
    assert!(message.contains("onError: Hold"), "{message}");
    fixture
        .until(
            "the group is not ready because its policy is missing",
            |group| {
                let (ready, reason, _) = condition(group, "Ready");
                (ready.as_str(), reason.as_str()) == ("False", "PolicyNotReady")
            },
        )
        .await?;

    let (one, two) = (variant("one"), variant("two"));
    fixture.policy(&one).await?;
    let group = fixture.until_decided_by(&digest(&one)).await?;
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

    fixture.policy(&two).await?;
    let group = fixture.until_decided_by(&digest(&two)).await?;
    let changed = fixture.until_event("group", "PolicyChanged").await?;
    assert!(
        changed.contains(&digest(&one)) || changed.contains(&digest(&two)),
        "{changed}"
    );
    // No run was lost: the numbers have no gap, and each run succeeded.
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
async fn config_map_is_watched_once_for_all_groups() -> Result<()> {
    let fixture = Fixture::new("policy-shared").await?;
    fixture.policy(&variant("shared")).await?;
    fixture.work("exit 0", json!({})).await?;
    for number in 0..20 {
        let group = json!({
            "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
            "metadata": { "name": format!("group-{number}") },
            "spec": {
                "oaatType": "work", "oaatItems": ["a"],
                "policy": { "configMap": { "name": "mine" } },
            },
        });
        fixture.apply(&group.to_string()).await?;
    }
    for number in 0..20 {
        let name = format!("group-{number}");
        fixture
            .until_object("OaatGroup", &name, "it ran", |group| {
                group["status"]["items"]["a"]["lastSuccess"].is_string()
            })
            .await?;
    }
    let labels = [r#"resource="configmaps""#];
    let requests = fixture
        .operator()
        .metric("oaat_api_requests_total", &labels)
        .await?;
    // A list and a watch, perhaps several times, but not one watch for each group.
    assert!(requests < 10.0, "{requests}");
    let loads = fixture.operator().log().matches("policy loaded").count();
    assert_eq!(loads, 1);
    Ok(())
}

#[tokio::test]
async fn gzipped_policy_under_another_key_works() -> Result<()> {
    let policy = json!({ "configMap": { "name": "mine", "key": "fast.wasm.gz" } });
    let fixture = busy("policy-gzip", policy).await?;
    let wasm = variant("gzip");
    fixture
        .config_map("mine", "fast.wasm.gz", &compress(&wasm)?)
        .await?;
    fixture.until_decided_by(&digest(&wasm)).await?;
    Ok(())
}

#[tokio::test]
async fn policy_receives_item_weights_and_its_state() -> Result<()> {
    let wasm = component("policies/fair").await?;
    let fixture = Fixture::new("policy-fair").await?;
    fixture.policy(&wasm).await?;
    fixture.work("exit 0", json!({})).await?;
    let spec = json!({
        "frequency": "1ms",
        "policy": { "configMap": { "name": "mine" } },
        "itemOptions": { "heavy": { "settings": { "weight": 100 } } },
    });
    fixture.group(&["light", "heavy"], spec).await?;
    let runs = |group: &Value, name: &str| item(group, name)["runs"].as_i64().unwrap_or(0);
    let group = fixture
        .until("24 runs", |group| {
            group["status"]["run"].as_i64().unwrap_or(0) > 24
        })
        .await?;
    // The shares are shares of time, and some runs may take longer than others.
    let (light, heavy) = (runs(&group, "light"), runs(&group, "heavy"));
    assert!(0 < light && 3 * light < heavy, "{light}, {heavy}");
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

#[tokio::test]
async fn policy_that_exists_from_the_start_is_announced_once() -> Result<()> {
    let fixture = Fixture::new("policy-loaded").await?;
    let wasm = variant("loaded");
    fixture.policy(&wasm).await?;
    fixture.work("exit 0", json!({})).await?;
    let spec = json!({ "frequency": "100ms", "policy": { "configMap": { "name": "mine" } } });
    fixture.group(&["a"], spec).await?;
    let loaded = fixture.until_event("group", "PolicyLoaded").await?;
    assert!(loaded.contains(&digest(&wasm)), "{loaded}");
    fixture.until_decided_by(&digest(&wasm)).await?;
    let events = fixture.events("group").await?;
    let of_policy = events
        .iter()
        .filter(|(reason, _)| reason.starts_with("Policy"));
    assert_eq!(of_policy.count(), 1, "{events:#?}");
    Ok(())
}

#[tokio::test]
async fn component_in_two_config_maps_is_compiled_once() -> Result<()> {
    let fixture = Fixture::new("policy-twice").await?;
    let wasm = variant("twice");
    fixture.config_map("plain", "policy.wasm", &wasm).await?;
    fixture
        .config_map("packed", "policy.wasm", &compress(&wasm)?)
        .await?;
    fixture.work("exit 0", json!({})).await?;
    for name in ["plain", "packed"] {
        let group = json!({
            "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
            "metadata": { "name": name },
            "spec": {
                "oaatType": "work", "oaatItems": ["a"],
                "policy": { "configMap": { "name": name } },
            },
        });
        fixture.apply(&group.to_string()).await?;
    }
    for name in ["plain", "packed"] {
        let group = fixture
            .until_object("OaatGroup", name, "the policy has decided", |group| {
                group["status"]["lastDecision"]["digest"] == digest(&wasm)
            })
            .await?;
        let source = format!("ConfigMap {name}, key policy.wasm");
        assert_eq!(group["status"]["policy"]["source"], source);
    }
    Ok(())
}

#[tokio::test]
async fn replicas_load_the_policy_independently() -> Result<()> {
    let mut fixture = busy(
        "policy-replicas",
        json!({ "configMap": { "name": "mine" } }),
    )
    .await?;
    let (one, two) = (variant("replicas one"), variant("replicas two"));
    fixture.policy(&one).await?;
    fixture.until_decided_by(&digest(&one)).await?;
    fixture.start_operator().await?;
    fixture.policy(&two).await?;
    fixture.until_decided_by(&digest(&two)).await?;
    fixture.take_first_operator().stop().await;
    let runs = |group: &Value| group["status"]["run"].as_i64().unwrap_or(0);
    let now = runs(&fixture.read("group").await?);
    let group = fixture
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
