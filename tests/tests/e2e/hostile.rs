//! Every hostile policy has its own ConfigMap and group, all at once. Each ends in the expected
//! condition, and an honest group beside them continues to run.

use crate::fixture::{Fixture, PATIENCE, condition};
use anyhow::Result;
use hostile_policies::{Expected, Hostile};
use serde_json::{Value, json};
use std::io::Write;

/// The maximum size of a ConfigMap, in bytes.
const CONFIG_MAP: usize = 1 << 20;

fn group(name: &str, policy: Option<Value>) -> Value {
    let mut spec = json!({
        "oaatType": "work", "oaatItems": ["a", "b", "c"], "frequency": "100ms",
        // The operator holds this item, so a policy must not choose it.
        "itemOptions": { "b": { "suspend": true } },
    });
    if let Some(policy) = policy {
        spec["policy"] = policy;
    }
    json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
        "metadata": { "name": name }, "spec": spec,
    })
}

/// Returns whether a group has the expected condition.
fn come_to(group: &Value, expected: Expected) -> bool {
    let (status, reason, _) = condition(group, "PolicyReady");
    match expected {
        Expected::Load(wanted) => status == "False" && reason == wanted,
        // On a busy machine, the deadline may come first.
        Expected::Evaluation(wanted) => {
            status == "False" && (reason == wanted || reason == "Deadline")
        }
        Expected::Legal => status == "True",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_policies_have_their_conditions_and_affect_no_other_group() -> Result<()> {
    let mut fixture = Fixture::without_operator("hostile").await?;
    // The policies are compiled one at a time, in any order.
    fixture.patience = 3 * PATIENCE;
    let all = tokio::task::spawn_blocking(hostile_policies::all).await??;
    fixture.work("exit 0", json!({})).await?;
    fixture.apply(&group("honest", None).to_string()).await?;
    let (small, large): (Vec<Hostile>, Vec<_>) = all
        .into_iter()
        .partition(|policy| policy.bytes.len() < CONFIG_MAP);
    assert!(small.len() >= 30, "{}", small.len());
    for (number, policy) in small.iter().enumerate() {
        let name = format!("hostile-{number}");
        fixture
            .config_map(&name, "policy.wasm", &policy.bytes)
            .await?;
        let mut spec = json!({ "configMap": { "name": name } });
        if let Some(settings) = policy.settings {
            spec["settings"] = serde_json::from_str(settings)?;
        }
        fixture.apply(&group(&name, Some(spec)).to_string()).await?;
    }
    fixture.start_operator().await?;
    // Not `println!`, which shows output only if the test fails.
    let mut out = std::io::stdout();
    for (number, policy) in small.iter().enumerate() {
        let name = format!("hostile-{number}");
        let words = format!(
            "{} ({}) has the conditions {:?}",
            policy.name, policy.what, policy.expected
        );
        let found = fixture
            .until_object("OaatGroup", &name, &words, |group| {
                come_to(group, policy.expected)
            })
            .await?;
        let (_, reason, message) = condition(&found, "PolicyReady");
        assert!(
            message.len() < 4096 && !message.contains('\u{1b}'),
            "{message}"
        );
        if let Expected::Load(_) = policy.expected {
            assert_eq!(found["status"]["run"], Value::Null, "{words}");
        }
        let shown = &message[..message.floor_char_boundary(100)];
        writeln!(out, "hostile {:<20} {reason:<18} {shown}", policy.name)?;
    }
    for policy in &large {
        let refused = fixture
            .config_map("too-large", "policy.wasm", &policy.bytes)
            .await;
        assert!(refused.is_err(), "{}", policy.name);
        writeln!(
            out,
            "hostile {:<20} is too large for a ConfigMap",
            policy.name
        )?;
    }

    let runs = |group: &Value| group["status"]["run"].as_i64().unwrap_or(0);
    let before = fixture.read("honest").await?;
    let after = fixture
        .until_object(
            "OaatGroup",
            "honest",
            "the group continues to run",
            |group| runs(group) >= runs(&before) + 3,
        )
        .await?;
    let history = after["status"]["history"].as_array().cloned();
    assert!(
        history
            .iter()
            .flatten()
            .all(|run| run["result"] == "Succeeded"),
        "{after:#}"
    );
    assert!(fixture.operator().process().is_running());
    Ok(())
}
