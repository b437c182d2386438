//! The last good policy and its settings after a restart of the operator.

use super::{component, digest, merged, variant};
use crate::fixture::{Fixture, PATIENCE, condition};
use anyhow::{Context, Result, ensure};
use built_in_policies::DEFAULT_POLICY;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The operator's own namespace. Only there does the guard allow copies.
const OPERATOR: &str = "oaat-operator";

/// Returns a fixture without an operator. Its operators keep policies.
async fn fixture(name: &str) -> Result<Fixture> {
    let mut fixture = Fixture::without_operator(name).await?;
    fixture.environment = vec![("POD_NAMESPACE", OPERATOR.into())];
    fixture.work("exit 0", json!({})).await?;
    Ok(fixture)
}

fn spec(more: &Value) -> Value {
    let mut policy = json!({ "configMap": { "name": "mine" }, "onError": "UseDefault" });
    for (key, value) in more.as_object().into_iter().flatten() {
        policy[key] = value.clone();
    }
    json!({ "frequency": "100ms", "policy": policy })
}

impl Fixture {
    /// Waits until the operator has a copy of the policy with this digest for this namespace.
    async fn until_kept(&self, digest: &str) -> Result<ConfigMap> {
        let maps: Api<ConfigMap> = Api::namespaced(self.plane.admin(), OPERATOR);
        let params = ListParams::default().labels("oaat.kawaja.net/kept-policy");
        let start = Instant::now();
        loop {
            let copies = maps.list(&params).await?.items;
            let found = copies.into_iter().find(|map| {
                let annotations = map.annotations();
                let is = |key: &str, value: &str| {
                    annotations.get(key).is_some_and(|found| found == value)
                };
                is("oaat.kawaja.net/policy-namespace", &self.namespace)
                    && is("oaat.kawaja.net/policy-sha256", digest)
            });
            if let Some(found) = found {
                return Ok(found);
            }
            let log = self.operator().last_log(20);
            ensure!(start.elapsed() < PATIENCE, "no copy of {digest}; {log}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test]
async fn last_good_policy_decides_after_restarts_without_its_source() -> Result<()> {
    let mut fixture = fixture("policy-kept").await?;
    fixture.start_operator().await?;
    let good = variant("kept");
    fixture.policy(&good).await?;
    fixture.group(&["a", "b"], spec(&json!({}))).await?;
    fixture.until_decided_by(&digest(&good)).await?;
    let copy = fixture.until_kept(&digest(&good)).await?;
    ensure!(copy.name_any().starts_with("oaat-policy-"), "{copy:?}");
    ensure!(copy.immutable == Some(true), "{copy:?}");

    for reason in ["SourceNotFound", "Malformed", "SourceNotFound"] {
        fixture.take_operator().stop().await;
        if reason == "Malformed" {
            fixture.policy(b"not a component").await?;
        } else {
            fixture
                .maps()
                .delete("mine", &DeleteParams::default())
                .await?;
        }
        let before = runs(&fixture.read("group").await?);
        fixture.start_operator().await?;
        let group = fixture
            .until("more runs", |group| runs(group) > before + 2)
            .await?;
        ensure!(
            group["status"]["policy"]["digest"] == digest(&good),
            "{group:#}"
        );
        let message = fixture.until_policy("False", reason).await?;
        for words in [
            &digest(&good),
            "stays in use, from the copy that the operator keeps",
        ] {
            ensure!(message.contains(words), "{message}");
        }
        // No other policy has decided.
        let log = fixture.operator().log();
        let decided: Vec<_> = log
            .lines()
            .filter(|line| line.contains(": decided "))
            .collect();
        let is_same = decided.iter().all(|line| line.contains(&digest(&good)));
        ensure!(is_same && !decided.is_empty(), "{decided:#?}");
    }

    // A pin excludes the copy as well.
    let pin = json!({ "sha256": digest(DEFAULT_POLICY), "onError": "Hold" });
    fixture.group(&["a", "b"], spec(&pin)).await?;
    fixture
        .until("no policy decides", |group| {
            condition(group, "Ready").1 == "PolicyNotReady"
        })
        .await?;
    fixture.group(&["a", "b"], spec(&json!({}))).await?;
    fixture.policy(&good).await?;
    fixture.until_policy("True", "Ready").await?;
    Ok(())
}

fn runs(group: &Value) -> i64 {
    group["status"]["run"].as_i64().unwrap_or(0)
}

/// Returns the spec of a group whose items are always due.
fn with_policy(policy: &Value) -> Value {
    json!({ "frequency": "100ms", "policy": policy })
}

#[tokio::test]
async fn last_good_built_in_policy_decides_before_and_after_a_restart() -> Result<()> {
    let missing = with_policy(&json!({ "configMap": { "name": "mine" } }));
    for (name, krate) in [("default", "policy-default"), ("fair", "policies/fair")] {
        let mut fixture = fixture(&format!("kept-{name}")).await?;
        fixture.start_operator().await?;
        let built_in = with_policy(&json!({ "builtIn": name }));
        fixture.group(&["a", "b"], built_in).await?;
        let digest = digest(&component(krate).await?);
        fixture.until_decided_by(&digest).await?;
        fixture.group(&["a", "b"], missing.clone()).await?;
        for _ in 0..2 {
            let message = fixture.until_policy("False", "SourceNotFound").await?;
            let in_use = format!("the built-in policy {name} (contract 1.0.0, sha256 {digest})");
            ensure!(
                message.contains(&format!("{in_use} stays in use")),
                "{message}"
            );
            let before = runs(&fixture.read("group").await?);
            let group = fixture
                .until("more runs", |group| runs(group) > before + 2)
                .await?;
            let status = &group["status"];
            ensure!(status["lastDecision"]["digest"] == digest, "{group:#}");
            ensure!(status["lastGoodBuiltIn"]["name"] == name, "{group:#}");
            fixture.take_operator().kill().await;
            fixture.start_operator().await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn default_policy_that_the_group_never_named_is_not_a_last_good_policy() -> Result<()> {
    let mut fixture = fixture("kept-unnamed").await?;
    fixture.start_operator().await?;
    let no_policy = json!({ "frequency": "100ms" });
    fixture.group(&["a", "b"], no_policy).await?;
    fixture.until_decided_by(&digest(DEFAULT_POLICY)).await?;
    let missing = with_policy(&json!({ "configMap": { "name": "mine" } }));
    fixture.group(&["a", "b"], missing.clone()).await?;
    let held = |group: &Value| {
        let status = &group["status"];
        condition(group, "Ready").1 == "PolicyNotReady"
            && status["current"].is_null()
            && status["observedGeneration"] == group["metadata"]["generation"]
    };
    let before = fixture.until("no policy decides", held).await?;
    fixture.take_operator().kill().await;
    fixture.start_operator().await?;
    fixture.group(&["a", "b", "c"], missing).await?;
    let after = fixture.until("no policy decides", held).await?;
    ensure!(runs(&after) == runs(&before), "{after:#}");
    ensure!(after["status"]["lastGoodBuiltIn"].is_null(), "{after:#}");
    Ok(())
}

#[tokio::test]
async fn built_in_policy_of_before_a_rollback_does_not_decide() -> Result<()> {
    let mut fixture = fixture("kept-rollback").await?;
    let good = variant("rollback");
    fixture.policy(&good).await?;
    fixture.start_operator().await?;
    let built_in = with_policy(&json!({ "builtIn": "fair" }));
    fixture.group(&["a", "b"], built_in).await?;
    let fair = digest(&component("policies/fair").await?);
    let group = fixture.until_decided_by(&fair).await?;
    let last = group["status"]["lastGoodBuiltIn"].clone();
    ensure!(!last.is_null(), "{group:#}");

    let mine = with_policy(&json!({ "configMap": { "name": "mine" } }));
    fixture.group(&["a", "b"], mine).await?;
    fixture.until_decided_by(&digest(&good)).await?;
    fixture.until_kept(&digest(&good)).await?;
    fixture.take_operator().stop().await;
    // The previous release keeps unknown fields, and does not update them.
    let kept = json!({ "status": { "lastGoodBuiltIn": last } });
    let params = PatchParams::default();
    fixture
        .api("OaatGroup")
        .patch_status("group", &params, &Patch::Merge(&kept))
        .await?;
    let params = DeleteParams::default();
    fixture.maps().delete("mine", &params).await?;
    let before = runs(&fixture.read("group").await?);
    fixture.start_operator().await?;
    let group = fixture
        .until("more runs", |group| runs(group) > before + 2)
        .await?;
    let status = &group["status"];
    ensure!(status["policy"]["digest"] == digest(&good), "{group:#}");
    ensure!(status["lastGoodBuiltIn"].is_null(), "{group:#}");
    Ok(())
}

/// Returns settings that start only this item.
fn only(item: &str) -> Value {
    json!({ "eligible": format!("item.name == '{item}'") })
}

/// Lets the policy expression decide with settings, replaces them with settings that it rejects, and
/// restarts the operator. `policy` names the policy. `deletes` is the ConfigMap to delete while the
/// operator is down.
async fn accepted_settings_survive(name: &str, policy: Value, deletes: Option<&str>) -> Result<()> {
    let mut fixture = fixture(name).await?;
    let wasm = component("policies/expression").await?;
    fixture.policy(&wasm).await?;
    fixture.start_operator().await?;
    let spec = |settings: Value| {
        let more = json!({ "settings": settings, "onError": "UseDefault" });
        json!({ "frequency": "100ms", "policy": merged(policy.clone(), more) })
    };
    fixture.group(&["a", "b"], spec(only("a"))).await?;
    let group = fixture.until_decided_by(&digest(&wasm)).await?;
    let accepted = |group: &Value| group["status"]["acceptedSettings"].clone();
    ensure!(accepted(&group).is_null(), "{group:#}");
    if deletes.is_some() {
        fixture.until_kept(&digest(&wasm)).await?;
    }

    fixture
        .group(&["a", "b"], spec(json!({ "eligible": "item.nam" })))
        .await?;
    fixture.until_policy("False", "SettingsRejected").await?;
    let before = fixture.read("group").await?;
    let old = only("a").to_string();
    ensure!(accepted(&before)["settings"] == old, "{before:#}");
    fixture.take_operator().kill().await;
    if let Some(map) = deletes {
        let params = DeleteParams::default();
        fixture.maps().delete(map, &params).await?;
    }
    fixture.start_operator().await?;
    let reason = deletes.map_or("SettingsRejected", |_| "SourceNotFound");
    fixture.until_policy("False", reason).await?;
    let start = runs(&fixture.read("group").await?);
    let group = fixture
        .until("more runs", |group| runs(group) > start + 2)
        .await?;
    ensure!(accepted(&group) == accepted(&before), "{group:#}");
    let (_, now, message) = condition(&group, "PolicyReady");
    ensure!(
        now == reason && message.contains("stays in use"),
        "{message}"
    );
    ensure!(
        group["status"]["policy"]["digest"] == digest(&wasm),
        "{group:#}"
    );
    let b_started = |group: &Value| !group["status"]["items"]["b"]["lastStarted"].is_null();
    ensure!(!b_started(&group), "{group:#}");
    let log = fixture.operator().log();
    let decided: Vec<_> = log
        .lines()
        .filter(|line| line.contains(": decided "))
        .collect();
    let is_same = decided.iter().all(|line| line.contains(&digest(&wasm)));
    ensure!(is_same && !decided.is_empty(), "{decided:#?}");

    fixture.policy(&wasm).await?;
    fixture.group(&["a", "b"], spec(only("b"))).await?;
    fixture.until_policy("True", "Ready").await?;
    let group = fixture.until("b starts", b_started).await?;
    ensure!(accepted(&group).is_null(), "{group:#}");
    Ok(())
}

#[tokio::test]
async fn accepted_settings_of_a_built_in_policy_survive_a_restart() -> Result<()> {
    let policy = json!({ "builtIn": "expression" });
    accepted_settings_survive("settings-built-in", policy, None).await
}

#[tokio::test]
async fn accepted_settings_survive_a_restart_without_the_source() -> Result<()> {
    let policy = json!({ "configMap": { "name": "mine" } });
    accepted_settings_survive("settings-kept", policy, Some("mine")).await
}

#[tokio::test]
async fn forged_accepted_settings_are_checked_before_they_are_used() -> Result<()> {
    let wasm = component("policies/expression").await?;
    let spec = |settings: Value| {
        let policy = json!({ "builtIn": "expression", "settings": settings });
        json!({ "frequency": "100ms", "policy": policy })
    };
    let wrong = json!({ "eligible": "item.nam" });
    let forged = [wrong.to_string(), "no JSON".into(), "[".repeat(30_000)];
    for (number, settings) in forged.into_iter().enumerate() {
        let mut fixture = fixture(&format!("settings-forged-{number}")).await?;
        fixture.group(&["a"], spec(wrong.clone())).await?;
        let forged = json!({ "status": { "acceptedSettings": {
            "source": "expression", "digest": digest(&wasm), "settings": settings,
            "items": { "a": settings },
        } } });
        let params = PatchParams::default();
        fixture
            .api("OaatGroup")
            .patch_status("group", &params, &Patch::Merge(&forged))
            .await?;
        fixture.start_operator().await?;
        let message = fixture.until_policy("False", "SettingsRejected").await?;
        ensure!(message.contains("onError: Hold"), "{message}");
        let group = fixture
            .until("no policy decides", |group| {
                condition(group, "Ready").1 == "PolicyNotReady"
            })
            .await?;
        ensure!(group["status"]["run"].is_null(), "{group:#}");
        fixture.group(&["a"], spec(json!({}))).await?;
        let group = fixture.until_decided_by(&digest(&wasm)).await?;
        ensure!(group["status"]["acceptedSettings"].is_null(), "{group:#}");
        let exit = fixture.take_operator().stop().await;
        ensure!(exit.success(), "{exit}");
    }
    Ok(())
}

#[tokio::test]
async fn status_that_names_a_policy_of_another_namespace_gives_no_access_to_it() -> Result<()> {
    let mut owner = fixture("policy-kept-owner").await?;
    owner.start_operator().await?;
    let good = variant("owned");
    owner.policy(&good).await?;
    owner.group(&["a"], spec(&json!({}))).await?;
    owner.until_decided_by(&digest(&good)).await?;
    owner.until_kept(&digest(&good)).await?;

    let mut thief = fixture("policy-kept-thief").await?;
    let hold = json!({ "onError": "Hold" });
    thief.group(&["a"], spec(&hold)).await?;
    let forged = json!({ "status": { "policy": {
        "source": "ConfigMap mine, key policy.wasm", "digest": digest(&good), "contract": "1.0.0",
    } } });
    let forged = forged.to_string();
    let patch = [
        "patch",
        "og",
        "group",
        "--subresource=status",
        "--type=merge",
        "-p",
        &forged,
    ];
    thief
        .kubectl(&patch)
        .await
        .context("the status is not written")?;
    thief.start_operator().await?;
    let message = thief.until_policy("False", "SourceNotFound").await?;
    ensure!(message.contains("no longer available"), "{message}");
    let group = thief
        .until("it waits", |group| {
            condition(group, "Ready").1 == "PolicyNotReady"
        })
        .await?;
    ensure!(group["status"]["run"].is_null(), "{group:#}");
    Ok(())
}
