//! The policies that are part of the operator.

use super::{busy, component, digest};
use crate::fixture::condition;
use anyhow::{Result, ensure};
use serde_json::{Value, json};

#[tokio::test]
async fn built_in_policies_decide_by_name() -> Result<()> {
    let policy = json!({ "builtIn": "backoff", "settings": { "base": "1s" } });
    let fixture = busy("policy-built-in", policy).await?;
    let backoff = digest(&component("policies/backoff").await?);
    fixture.until_decided_by(&backoff).await?;
    let message = fixture.until_policy("True", "Ready").await?;
    ensure!(
        message
            == format!("the built-in policy backoff (contract 1.0.0, sha256 {backoff}) is in use"),
        "{message}"
    );
    let note = fixture.until_event("group", "PolicyLoaded").await?;
    ensure!(note == message, "{note}");
    let group = fixture.read("group").await?;
    ensure!(
        group["status"]["policy"]["source"] == "backoff",
        "{group:#}"
    );
    let decisions = fixture
        .operator()
        .metric(
            "oaat_policy_decisions_total",
            &[r#"policy="builtin:backoff""#, r#"namespace="""#],
        )
        .await?;
    ensure!(decisions >= 1.0, "{decisions}");

    // The last settings that the policy accepted stay in effect.
    let spec = |policy: Value| json!({ "frequency": "100ms", "policy": policy });
    let wrong = json!({ "builtIn": "backoff", "settings": { "base": "soon" } });
    fixture.group(&["a", "b"], spec(wrong)).await?;
    let message = fixture.until_policy("False", "SettingsRejected").await?;
    ensure!(
        message.contains("soon") && message.contains("stays in use"),
        "{message}"
    );
    let mentions_rejection = |group: &Value| {
        let message = group["status"]["message"].as_str();
        message.is_some_and(|message| message.ends_with("; newer settings are rejected"))
    };
    let what = "the message mentions the rejected settings";
    fixture.until(what, mentions_rejection).await?;

    for (name, krate) in [
        ("fair", "policies/fair"),
        ("expression", "policies/expression"),
        ("default", "policy-default"),
    ] {
        let digest = digest(&component(krate).await?);
        fixture
            .group(&["a", "b"], spec(json!({ "builtIn": name })))
            .await?;
        let group = fixture.until_decided_by(&digest).await?;
        ensure!(group["status"]["policy"]["source"] == name, "{group:#}");
        ensure!(
            group["status"]["policy"]["insteadOf"].is_null(),
            "{group:#}"
        );
    }
    // The default policy has no settings.
    let wrong = json!({ "builtIn": "default", "settings": { "base": "1m" } });
    fixture.group(&["a", "b"], spec(wrong)).await?;
    let message = fixture.until_policy("False", "SettingsRejected").await?;
    ensure!(message.contains("takes no settings"), "{message}");
    let group = fixture.read("group").await?;
    ensure!(condition(&group, "Ready").0 == "True", "{group:#}");
    Ok(())
}
