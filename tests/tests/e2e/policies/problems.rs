//! Policies that something is wrong with: who decides meanwhile, and what is told.

use super::{busy, digest, merged, variant};
use crate::world::{World, condition};
use anyhow::Result;
use default_component::DEFAULT_POLICY;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test]
async fn the_last_good_policy_decides_while_the_config_map_is_bad_or_gone() -> Result<()> {
    let world = busy(
        "policy-last-good",
        json!({ "configMap": { "name": "mine" } }),
    )
    .await?;
    let good = variant("good");
    world.policy(&good).await?;
    world.until_decided_by(&digest(&good)).await?;

    world.policy(b"not a component").await?;
    let message = world.until_policy("False", "Malformed").await?;
    assert!(
        message.contains(&digest(&good)) && message.contains("as before"),
        "{message}"
    );
    world.until_event("group", "PolicyNotReady").await?;
    let runs = |group: &Value| group["status"]["run"].as_i64().unwrap_or(0);
    let now = runs(&world.read("group").await?);
    let group = world
        .until("more runs", |group| runs(group) > now + 2)
        .await?;
    assert_eq!(group["status"]["lastDecision"]["digest"], digest(&good));
    assert_eq!(condition(&group, "Ready").0, "True");

    world.config_map("mine", "other", &good).await?;
    let message = world.until_policy("False", "KeyNotFound").await?;
    assert!(message.contains("it has other"), "{message}");
    world
        .maps()
        .delete("mine", &DeleteParams::default())
        .await?;
    world.until_policy("False", "SourceNotFound").await?;
    let now = runs(&world.read("group").await?);
    world
        .until("more runs", |group| runs(group) > now + 2)
        .await?;

    world.policy(&good).await?;
    world.until_policy("True", "Ready").await?;
    Ok(())
}

#[tokio::test]
async fn after_a_restart_on_error_decides_and_the_lost_digest_is_named() -> Result<()> {
    let mut world = busy("policy-lost", json!({ "configMap": { "name": "mine" } })).await?;
    let good = variant("lost");
    world.policy(&good).await?;
    world.until_decided_by(&digest(&good)).await?;
    world.take_operator().stop().await;
    world
        .maps()
        .delete("mine", &DeleteParams::default())
        .await?;
    world.start_operator().await?;
    let message = world.until_policy("False", "SourceNotFound").await?;
    assert!(
        message.contains(&digest(&good)) && message.contains("Hold"),
        "{message}"
    );
    let held = world
        .until("nothing runs", |group| group["status"]["current"].is_null())
        .await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        world.read("group").await?["status"]["run"],
        held["status"]["run"]
    );

    let default = json!({ "policy": { "configMap": { "name": "mine" }, "onError": "UseDefault" } });
    world
        .group(
            &["a", "b"],
            merged(json!({ "frequency": "100ms" }), default),
        )
        .await?;
    world.until_decided_by(&digest(DEFAULT_POLICY)).await?;
    let message = world.until_policy("False", "SourceNotFound").await?;
    // What was lost stays named, though another has decided since.
    assert!(
        message.contains("default policy decides") && message.contains(&digest(&good)),
        "{message}"
    );
    Ok(())
}

#[tokio::test]
async fn a_pin_admits_no_other_component() -> Result<()> {
    let (one, two) = (variant("pin one"), variant("pin two"));
    let pinned = |wasm: &[u8]| json!({ "configMap": { "name": "mine" }, "sha256": digest(wasm) });
    let world = World::new("policy-pin").await?;
    world.policy(&two).await?;
    world.work("exit 0", json!({})).await?;
    let spec = |wasm| json!({ "frequency": "100ms", "policy": pinned(wasm) });
    world.group(&["a"], spec(&one)).await?;
    let message = world.until_policy("False", "DigestMismatch").await?;
    assert!(
        message.contains(&digest(&one)) && message.contains(&digest(&two)),
        "{message}"
    );
    assert!(world.list_pods().await?.is_empty());

    world.policy(&one).await?;
    world.until_decided_by(&digest(&one)).await?;
    // What is not pinned does not come in; what was pinned and is known decides on.
    world.policy(&two).await?;
    world.until_policy("False", "DigestMismatch").await?;
    let group = world.read("group").await?;
    assert_eq!(group["status"]["lastDecision"]["digest"], digest(&one));
    // Neither the old nor the new one is the one that the pin now names.
    world.group(&["a"], spec(DEFAULT_POLICY)).await?;
    world
        .until("nothing decides", |group| {
            condition(group, "Ready").1 == "PolicyNotReady"
        })
        .await?;
    world.group(&["a"], spec(&two)).await?;
    world.until_decided_by(&digest(&two)).await?;
    Ok(())
}

#[tokio::test]
async fn refused_settings_are_told_and_the_last_accepted_ones_stay() -> Result<()> {
    let settings = |settings: Value| json!({ "frequency": "100ms", "policy": { "configMap": { "name": "mine" }, "settings": settings } });
    let world = World::new("policy-settings").await?;
    world.policy(&variant("settings")).await?;
    world.work("exit 0", json!({})).await?;
    // The documented algorithm takes no settings.
    world.group(&["a"], settings(json!({ "x": 1 }))).await?;
    let message = world.until_policy("False", "SettingsRejected").await?;
    assert!(message.contains(r#"{"x":1}"#), "{message}");
    assert!(world.list_pods().await?.is_empty());
    world.group(&["a"], settings(json!({}))).await?;
    world.until_policy("True", "Ready").await?;
    world
        .until_decided_by(&digest(&variant("settings")))
        .await?;
    world.group(&["a"], settings(json!({ "y": 2 }))).await?;
    let message = world.until_policy("False", "SettingsRejected").await?;
    assert!(message.contains("as before"), "{message}");
    let item = json!({ "itemOptions": { "a": { "settings": { "weight": 2 } } } });
    world
        .group(&["a"], merged(settings(json!({})), item))
        .await?;
    let group = world
        .until("the item's settings are refused", |group| {
            condition(group, "PolicyReady").2.contains("weight")
        })
        .await?;
    assert_eq!(condition(&group, "PolicyReady").1, "SettingsRejected");
    Ok(())
}

#[tokio::test]
async fn a_bad_policy_is_told_also_while_an_item_runs() -> Result<()> {
    let world = World::new("policy-meanwhile").await?;
    world.policy(&variant("meanwhile")).await?;
    world.work("sleep 600", json!({})).await?;
    let spec = json!({ "policy": { "configMap": { "name": "mine" } } });
    world.group(&["a"], spec).await?;
    world
        .until("it runs", |group| group["status"]["state"] == "Running")
        .await?;
    world.policy(&[]).await?;
    world.until_policy("False", "Malformed").await?;
    let group = world.read("group").await?;
    assert_eq!(group["status"]["state"], "Running");
    assert_eq!(group["status"]["run"], 1);
    Ok(())
}

#[tokio::test]
async fn an_operator_that_may_not_read_the_config_map_says_so_and_goes_on_once_it_may() -> Result<()>
{
    // Of its own, for everyone has the rights of the shared one.
    let world = World::with_own_plane("policy-unreadable").await?;
    let role = ["clusterrole", "oaat-operator"];
    let patch = async |verbs: &str| {
        let rules = world
            .plane
            .kubectl(&[&["get"], &role[..], &["-o", "json"]].concat())
            .await?;
        let mut rules: Value = serde_json::from_str(&rules)?;
        for rule in rules["rules"].as_array_mut().into_iter().flatten() {
            if rule["resources"] == json!(["configmaps"]) {
                rule["verbs"] = serde_json::from_str(verbs)?;
            }
        }
        let patch = json!({ "rules": rules["rules"] }).to_string();
        let args = [&["patch"], &role[..], &["--type=merge", "-p", &patch]].concat();
        world.plane.kubectl(&args).await
    };
    patch(r#"["get"]"#).await?;
    let good = variant("unreadable");
    world.policy(&good).await?;
    world.work("exit 0", json!({})).await?;
    world
        .group(
            &["a"],
            json!({ "policy": { "configMap": { "name": "mine" } } }),
        )
        .await?;
    let message = world.until_policy("False", "SourceUnreadable").await?;
    for words in ["forbidden", "manifests/02", "onError: Hold"] {
        assert!(message.contains(words), "{message}");
    }
    assert!(world.list_pods().await?.is_empty());
    patch(r#"["get", "list", "watch"]"#).await?;
    world.until_decided_by(&digest(&good)).await?;
    Ok(())
}

#[tokio::test]
async fn where_a_loaded_policy_errs_the_default_steps_in_and_the_policy_is_asked_again()
-> Result<()> {
    let all = tokio::task::spawn_blocking(hostile_policies::all).await??;
    let errs = all.into_iter().find(|policy| policy.name == "err");
    let errs = errs.map(|policy| policy.bytes).unwrap_or_default();
    let policy = json!({ "configMap": { "name": "mine" }, "onError": "UseDefault" });
    let world = World::new("policy-errs").await?;
    world.policy(&errs).await?;
    world.work("exit 0", json!({})).await?;
    let spec = json!({ "frequency": "100ms", "policy": policy });
    world.group(&["a", "b"], spec).await?;
    let message = world.until_policy("False", "PolicyError").await?;
    for words in [
        "no item pleases me",
        "the default policy decides",
        "onError: UseDefault",
        &digest(&errs),
    ] {
        assert!(message.contains(words), "{words}: {message}");
    }
    let group = world.until_decided_by(&digest(DEFAULT_POLICY)).await?;
    let run = group["status"]["run"].as_i64().unwrap_or(0);
    let asked = || {
        let log = world.operator().log();
        log.lines()
            .filter(|line| line.contains(": no decision "))
            .count()
    };
    let before = asked();
    let group = world
        .until("more runs", |group| {
            group["status"]["run"].as_i64() > Some(run + 2)
        })
        .await?;
    assert_eq!(condition(&group, "PolicyReady").1, "PolicyError");
    assert!(asked() > before, "it was not asked again");
    // And once it has an answer it decides itself.
    let good = variant("errs no more");
    world.policy(&good).await?;
    world.until_decided_by(&digest(&good)).await?;
    world.until_policy("True", "Ready").await?;
    Ok(())
}

#[tokio::test]
async fn newer_settings_that_are_not_in_force_are_named_while_the_config_map_is_bad() -> Result<()>
{
    let world = busy(
        "policy-old-settings",
        json!({ "configMap": { "name": "mine" } }),
    )
    .await?;
    let good = variant("old settings");
    world.policy(&good).await?;
    world.until_decided_by(&digest(&good)).await?;
    world.policy(b"not a component").await?;
    let message = world.until_policy("False", "Malformed").await?;
    assert!(!message.contains("not in effect"), "{message}");
    let policy = json!({ "configMap": { "name": "mine" }, "settings": { "x": 1 } });
    let spec = json!({ "frequency": "100ms", "policy": policy });
    world.group(&["a", "b"], spec).await?;
    world
        .until("the message names the settings", |group| {
            let (_, reason, message) = condition(group, "PolicyReady");
            reason == "Malformed" && message.contains("not in effect yet")
        })
        .await?;
    Ok(())
}
