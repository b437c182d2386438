//! Every hostile policy in a ConfigMap of its own, each with a group, all at once: each ends in
//! its own named condition, and the honest group beside them runs on.

use crate::world::{World, condition};
use anyhow::Result;
use hostile_policies::{Expected, Hostile};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use std::io::Write;

/// Most bytes that the API server takes in a ConfigMap.
const CONFIG_MAP: usize = 1 << 20;

fn group(name: &str, policy: Option<Value>) -> Value {
    let mut spec =
        json!({ "oaatType": "work", "oaatItems": ["a", "b", "c"], "frequency": "100ms" });
    if let Some(policy) = policy {
        spec["policy"] = policy;
    }
    json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
        "metadata": { "name": name }, "spec": spec,
    })
}

/// What a group must come to.
fn come_to(group: &Value, expected: Expected) -> bool {
    let (status, reason, _) = condition(group, "PolicyReady");
    match expected {
        // Which of the two limits is met first is a matter of the machine's load.
        Expected::Evaluation("OutOfFuel") => {
            status == "False" && (reason == "OutOfFuel" || reason == "Deadline")
        }
        Expected::Load(wanted) | Expected::Evaluation(wanted) => {
            status == "False" && reason == wanted
        }
        Expected::Legal => status == "True",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_hostile_policy_ends_in_its_own_condition_and_harms_nobody() -> Result<()> {
    let mut world = World::without_operator("hostile").await?;
    let all = tokio::task::spawn_blocking(hostile_policies::all).await??;
    world.work("exit 0", json!({})).await?;
    world.apply(&group("honest", None).to_string()).await?;
    let (small, large): (Vec<Hostile>, Vec<_>) = all
        .into_iter()
        .partition(|policy| policy.bytes.len() < CONFIG_MAP);
    assert!(small.len() >= 30, "{}", small.len());
    for (number, policy) in small.iter().enumerate() {
        let name = format!("hostile-{number}");
        world
            .config_map(&name, "policy.wasm", &policy.bytes)
            .await?;
        let mut spec = json!({ "configMap": { "name": name } });
        if let Some(settings) = policy.settings {
            spec["settings"] = serde_json::from_str(settings)?;
        }
        world.apply(&group(&name, Some(spec)).to_string()).await?;
        // The operator holds item b: the status says that it is started in a minute or two.
        let soon = Timestamp::now() + SignedDuration::from_mins(2);
        let item = json!({ "item": "b", "lastStarted": soon.to_string() });
        let status = Patch::Merge(json!({ "status": { "items": { "b": item } } }));
        world
            .api("OaatGroup")
            .patch_status(&name, &PatchParams::default(), &status)
            .await?;
    }
    world.start_operator().await?;
    // Not by println!, whose text cargo shows of failed tests only: this list is for everyone.
    let mut out = std::io::stdout();
    for (number, policy) in small.iter().enumerate() {
        let name = format!("hostile-{number}");
        let words = format!(
            "{} ({}) comes to {:?}",
            policy.name, policy.what, policy.expected
        );
        let found = world
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
        let refused = world
            .config_map("too-large", "policy.wasm", &policy.bytes)
            .await;
        assert!(refused.is_err(), "{}", policy.name);
        writeln!(
            out,
            "hostile {:<20} does not fit into a ConfigMap",
            policy.name
        )?;
    }

    let runs = |group: &Value| group["status"]["run"].as_i64().unwrap_or(0);
    let before = world.read("honest").await?;
    let after = world
        .until_object("OaatGroup", "honest", "runs go on", |group| {
            runs(group) >= runs(&before) + 3
        })
        .await?;
    let history = after["status"]["history"].as_array().cloned();
    assert!(
        history
            .iter()
            .flatten()
            .all(|run| run["result"] == "Succeeded"),
        "{after:#}"
    );
    assert!(world.operator().process().is_running());
    Ok(())
}
