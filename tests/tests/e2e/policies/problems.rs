//! Policies with problems: which policy decides meanwhile, and what is reported.

use super::{busy, component, digest, merged, variant};
use crate::fixture::{Fixture, condition};
use anyhow::Result;
use built_in_policies::DEFAULT_POLICY;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test]
async fn last_good_policy_decides_while_the_config_map_is_invalid_or_missing() -> Result<()> {
    let fixture = busy(
        "policy-last-good",
        json!({ "configMap": { "name": "mine" } }),
    )
    .await?;
    let good = variant("good");
    fixture.policy(&good).await?;
    fixture.until_decided_by(&digest(&good)).await?;

    fixture.policy(b"not a component").await?;
    let message = fixture.until_policy("False", "Malformed").await?;
    assert!(
        message.contains(&digest(&good)) && message.contains("stays in use"),
        "{message}"
    );
    fixture.until_event("group", "PolicyNotReady").await?;
    let runs = |group: &Value| group["status"]["run"].as_i64().unwrap_or(0);
    let now = runs(&fixture.read("group").await?);
    let group = fixture
        .until("more runs", |group| runs(group) > now + 2)
        .await?;
    assert_eq!(group["status"]["lastDecision"]["digest"], digest(&good));
    assert_eq!(condition(&group, "Ready").0, "True");

    fixture.config_map("mine", "other", &good).await?;
    let message = fixture.until_policy("False", "KeyNotFound").await?;
    assert!(message.contains("its keys are other"), "{message}");
    fixture
        .maps()
        .delete("mine", &DeleteParams::default())
        .await?;
    fixture.until_policy("False", "SourceNotFound").await?;
    let now = runs(&fixture.read("group").await?);
    fixture
        .until("more runs", |group| runs(group) > now + 2)
        .await?;

    fixture.policy(&good).await?;
    fixture.until_policy("True", "Ready").await?;
    Ok(())
}

#[tokio::test]
async fn restart_with_an_invalid_config_map_uses_on_error_and_names_the_lost_digest() -> Result<()>
{
    let mut fixture = busy("policy-lost", json!({ "configMap": { "name": "mine" } })).await?;
    let good = variant("lost");
    fixture.policy(&good).await?;
    fixture.until_decided_by(&digest(&good)).await?;
    fixture.take_operator().stop().await;
    fixture
        .maps()
        .delete("mine", &DeleteParams::default())
        .await?;
    fixture.start_operator().await?;
    let message = fixture.until_policy("False", "SourceNotFound").await?;
    assert!(
        message.contains(&digest(&good)) && message.contains("Hold"),
        "{message}"
    );
    let held = fixture
        .until("nothing runs", |group| group["status"]["current"].is_null())
        .await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        fixture.read("group").await?["status"]["run"],
        held["status"]["run"]
    );

    let default = json!({ "policy": { "configMap": { "name": "mine" }, "onError": "UseDefault" } });
    fixture
        .group(
            &["a", "b"],
            merged(json!({ "frequency": "100ms" }), default),
        )
        .await?;
    fixture.until_decided_by(&digest(DEFAULT_POLICY)).await?;
    let message = fixture.until_policy("False", "SourceNotFound").await?;
    // The lost digest stays named although another policy has decided since.
    assert!(
        message.contains("the built-in policy default decides") && message.contains(&digest(&good)),
        "{message}"
    );
    Ok(())
}

#[tokio::test]
async fn pinned_digest_rejects_other_components() -> Result<()> {
    let (one, two) = (variant("pin one"), variant("pin two"));
    let pinned = |wasm: &[u8]| json!({ "configMap": { "name": "mine" }, "sha256": digest(wasm) });
    let fixture = Fixture::new("policy-pin").await?;
    fixture.policy(&two).await?;
    fixture.work("exit 0", json!({})).await?;
    let spec = |wasm| json!({ "frequency": "100ms", "policy": pinned(wasm) });
    fixture.group(&["a"], spec(&one)).await?;
    let message = fixture.until_policy("False", "DigestMismatch").await?;
    assert!(
        message.contains(&digest(&one)) && message.contains(&digest(&two)),
        "{message}"
    );
    assert!(fixture.list_pods().await?.is_empty());

    fixture.policy(&one).await?;
    fixture.until_decided_by(&digest(&one)).await?;
    // A component that is not pinned is rejected; the pinned one, which is loaded, continues to
    // decide.
    fixture.policy(&two).await?;
    fixture.until_policy("False", "DigestMismatch").await?;
    let group = fixture.read("group").await?;
    assert_eq!(group["status"]["lastDecision"]["digest"], digest(&one));
    // The pin now names neither the old nor the new component.
    fixture.group(&["a"], spec(DEFAULT_POLICY)).await?;
    fixture
        .until("nothing decides", |group| {
            condition(group, "Ready").1 == "PolicyNotReady"
        })
        .await?;
    fixture.group(&["a"], spec(&two)).await?;
    fixture.until_decided_by(&digest(&two)).await?;
    Ok(())
}

#[tokio::test]
async fn rejected_settings_are_reported_and_the_last_accepted_ones_stay() -> Result<()> {
    let settings = |settings: Value| json!({ "frequency": "100ms", "policy": { "configMap": { "name": "mine" }, "settings": settings } });
    let fixture = Fixture::new("policy-settings").await?;
    let wasm = component("policies/backoff").await?;
    fixture.policy(&wasm).await?;
    fixture.work("exit 0", json!({})).await?;
    fixture.group(&["a"], settings(json!({ "x": 1 }))).await?;
    let message = fixture.until_policy("False", "SettingsRejected").await?;
    assert!(message.contains(r#"unknown setting "x""#), "{message}");
    assert!(fixture.list_pods().await?.is_empty());
    fixture.group(&["a"], settings(json!({}))).await?;
    fixture.until_policy("True", "Ready").await?;
    fixture.until_decided_by(&digest(&wasm)).await?;
    fixture.group(&["a"], settings(json!({ "y": 2 }))).await?;
    let message = fixture.until_policy("False", "SettingsRejected").await?;
    assert!(message.contains("stays in use"), "{message}");
    let item = json!({ "itemOptions": { "a": { "settings": { "weight": 2 } } } });
    fixture
        .group(&["a"], merged(settings(json!({})), item))
        .await?;
    let group = fixture
        .until("the item's settings are rejected", |group| {
            condition(group, "PolicyReady").2.contains("weight")
        })
        .await?;
    assert_eq!(condition(&group, "PolicyReady").1, "SettingsRejected");
    Ok(())
}

#[tokio::test]
async fn invalid_policy_is_reported_while_an_item_runs() -> Result<()> {
    let fixture = Fixture::new("policy-meanwhile").await?;
    fixture.policy(&variant("meanwhile")).await?;
    fixture.work("sleep 600", json!({})).await?;
    let spec = json!({ "policy": { "configMap": { "name": "mine" } } });
    fixture.group(&["a"], spec).await?;
    fixture
        .until("it runs", |group| group["status"]["state"] == "Running")
        .await?;
    fixture.policy(&[]).await?;
    fixture.until_policy("False", "Malformed").await?;
    let group = fixture.read("group").await?;
    assert_eq!(group["status"]["state"], "Running");
    assert_eq!(group["status"]["run"], 1);
    Ok(())
}

#[tokio::test]
async fn missing_permission_for_the_config_map_is_reported_until_granted() -> Result<()> {
    // A separate control plane, because all operators of the shared one have the same rights.
    let fixture = Fixture::with_own_plane("policy-unreadable").await?;
    let role = ["clusterrole", "oaat-operator"];
    let patch = async |verbs: &str| {
        let rules = fixture
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
        fixture.plane.kubectl(&args).await
    };
    patch(r#"["get"]"#).await?;
    let good = variant("unreadable");
    fixture.policy(&good).await?;
    fixture.work("exit 0", json!({})).await?;
    fixture
        .group(
            &["a"],
            json!({ "policy": { "configMap": { "name": "mine" } } }),
        )
        .await?;
    let message = fixture.until_policy("False", "SourceUnreadable").await?;
    for words in ["forbidden", "manifests/02", "onError: Hold"] {
        assert!(message.contains(words), "{message}");
    }
    assert!(fixture.list_pods().await?.is_empty());
    patch(r#"["get", "list", "watch"]"#).await?;
    fixture.until_decided_by(&digest(&good)).await?;
    Ok(())
}

#[tokio::test]
async fn failing_policy_is_replaced_by_the_default_and_retried() -> Result<()> {
    let all = tokio::task::spawn_blocking(hostile_policies::all).await??;
    let errs = all.into_iter().find(|policy| policy.name == "err");
    let errs = errs.map(|policy| policy.bytes).unwrap_or_default();
    let policy = json!({ "configMap": { "name": "mine" }, "onError": "UseDefault" });
    let fixture = Fixture::new("policy-errs").await?;
    fixture.policy(&errs).await?;
    fixture.work("exit 0", json!({})).await?;
    let spec = json!({ "frequency": "100ms", "policy": policy });
    fixture.group(&["a", "b"], spec).await?;
    let message = fixture.until_policy("False", "PolicyError").await?;
    for words in [
        "no item pleases me",
        "the built-in policy default decides",
        "onError: UseDefault",
        &digest(&errs),
    ] {
        assert!(message.contains(words), "{words}: {message}");
    }
    let group = fixture.until_decided_by(&digest(DEFAULT_POLICY)).await?;
    let run = group["status"]["run"].as_i64().unwrap_or(0);
    let asked = || {
        let log = fixture.operator().log();
        log.lines()
            .filter(|line| line.contains(": no decision "))
            .count()
    };
    let before = asked();
    let group = fixture
        .until("more runs", |group| {
            group["status"]["run"].as_i64() > Some(run + 2)
        })
        .await?;
    assert_eq!(condition(&group, "PolicyReady").1, "PolicyError");
    assert!(asked() > before, "the policy was not called again");
    // Once the policy returns an answer, it decides again.
    let good = variant("no longer fails");
    fixture.policy(&good).await?;
    fixture.until_decided_by(&digest(&good)).await?;
    fixture.until_policy("True", "Ready").await?;
    Ok(())
}

#[tokio::test]
async fn each_reason_of_a_problem_has_its_own_event() -> Result<()> {
    let fixture = busy("policy-reasons", json!({ "configMap": { "name": "mine" } })).await?;
    fixture.until_policy("False", "SourceNotFound").await?;
    let wasm = variant("reasons");
    fixture.config_map("mine", "other", &wasm).await?;
    fixture.until_policy("False", "KeyNotFound").await?;
    fixture.policy(b"not a component").await?;
    fixture.until_policy("False", "Malformed").await?;
    let pinned = json!({ "configMap": { "name": "mine" }, "sha256": digest(DEFAULT_POLICY) });
    let spec = json!({ "frequency": "100ms", "policy": pinned });
    fixture.group(&["a", "b"], spec).await?;
    fixture.policy(&wasm).await?;
    fixture.until_policy("False", "DigestMismatch").await?;
    let expected = [
        "SourceNotFound",
        "KeyNotFound",
        "Malformed",
        "DigestMismatch",
    ];
    let start = std::time::Instant::now();
    loop {
        let events = fixture.events("group").await?;
        let mut notes = events
            .iter()
            .filter(|(reason, _)| reason == "PolicyNotReady");
        if expected
            .iter()
            .all(|reason| notes.any(|(_, note)| note.starts_with(reason)))
        {
            return Ok(());
        }
        anyhow::ensure!(start.elapsed() < crate::fixture::PATIENCE, "{events:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn pin_that_excludes_the_policy_in_the_config_map_does_not_call_it_lost() -> Result<()> {
    let fixture = busy(
        "policy-pinned-later",
        json!({ "configMap": { "name": "mine" } }),
    )
    .await?;
    let good = variant("pinned later");
    fixture.policy(&good).await?;
    fixture.until_decided_by(&digest(&good)).await?;
    let pinned = json!({ "configMap": { "name": "mine" }, "sha256": digest(DEFAULT_POLICY) });
    let spec = json!({ "frequency": "100ms", "policy": pinned });
    fixture.group(&["a", "b"], spec).await?;
    let message = fixture.until_policy("False", "DigestMismatch").await?;
    assert!(
        message.contains(&digest(&good)) && !message.contains("no longer available"),
        "{message}"
    );
    Ok(())
}

#[tokio::test]
async fn newer_settings_without_effect_are_named_while_the_config_map_is_invalid() -> Result<()> {
    let fixture = busy(
        "policy-old-settings",
        json!({ "configMap": { "name": "mine" } }),
    )
    .await?;
    let good = variant("old settings");
    fixture.policy(&good).await?;
    fixture.until_decided_by(&digest(&good)).await?;
    fixture.policy(b"not a component").await?;
    let message = fixture.until_policy("False", "Malformed").await?;
    assert!(!message.contains("not in effect"), "{message}");
    let policy = json!({ "configMap": { "name": "mine" }, "settings": { "x": 1 } });
    let spec = json!({ "frequency": "100ms", "policy": policy });
    fixture.group(&["a", "b"], spec).await?;
    fixture
        .until("the message names the settings", |group| {
            let (_, reason, message) = condition(group, "PolicyReady");
            reason == "Malformed" && message.contains("not in effect yet")
        })
        .await?;
    Ok(())
}
