//! Policies in ConfigMaps: how they come to decide, and what happens when something is wrong
//! with them.

use crate::world::{World, condition, item};
use anyhow::Result;
use flate2::Compression;
use flate2::write::GzEncoder;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams};
use oaat_operator::DEFAULT_POLICY;
use oaat_tests::operator;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

/// The documented algorithm under another digest: a custom section changes nothing else.
fn variant(name: &str) -> Vec<u8> {
    let mut wasm = DEFAULT_POLICY.to_vec();
    let name = name.as_bytes();
    let length = u8::try_from(name.len()).expect("a short name");
    wasm.extend([0, length + 1, length]);
    wasm.extend(name);
    wasm
}

/// sha256, as the operator shows it.
fn digest(wasm: &[u8]) -> String {
    let bytes = Sha256::digest(wasm);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl World {
    /// Puts a policy into ConfigMap `mine`.
    async fn policy(&self, wasm: &[u8]) -> Result<()> {
        self.config_map("mine", "policy.wasm", wasm).await
    }

    /// Puts a component into a key of a ConfigMap that has no other.
    pub async fn config_map(&self, name: &str, key: &str, wasm: &[u8]) -> Result<()> {
        let map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.into()),
                ..ObjectMeta::default()
            },
            binary_data: Some(BTreeMap::from([(key.into(), ByteString(wasm.to_vec()))])),
            ..ConfigMap::default()
        };
        let params = PatchParams::apply("test").force();
        self.maps()
            .patch(name, &params, &Patch::Apply(&map))
            .await?;
        Ok(())
    }

    fn maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Waits until `PolicyReady` is as given, and gives its message.
    async fn until_policy(&self, status: &str, reason: &str) -> Result<String> {
        let group = self
            .until(&format!("PolicyReady is {status}, {reason}"), |group| {
                let (s, r, _) = condition(group, "PolicyReady");
                (s.as_str(), r.as_str()) == (status, reason)
            })
            .await?;
        Ok(condition(&group, "PolicyReady").2)
    }

    /// Waits until a run was decided by the policy with this digest.
    async fn until_decided_by(&self, digest: &str) -> Result<Value> {
        self.until(&format!("a run is decided by {digest}"), |group| {
            group["status"]["lastDecision"]["digest"] == digest
        })
        .await
    }
}

/// A world whose items succeed at once and are always due again.
async fn busy(name: &str, policy: Value) -> Result<World> {
    let world = World::new(name).await?;
    world.work("exit 0", json!({})).await?;
    let spec = json!({ "frequency": "100ms", "policy": policy });
    world.group(&["a", "b"], spec).await?;
    Ok(world)
}

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

fn merged(mut one: Value, other: Value) -> Value {
    for (key, value) in other.as_object().into_iter().flatten() {
        one[key] = value.clone();
    }
    one
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
async fn a_gzipped_policy_under_another_key_serves_as_well() -> Result<()> {
    let policy = json!({ "configMap": { "name": "mine", "key": "fast.wasm.gz" } });
    let world = busy("policy-gzip", policy).await?;
    let wasm = variant("gzip");
    let mut gz = GzEncoder::new(Vec::new(), Compression::best());
    gz.write_all(&wasm)?;
    let gz = gz.finish()?;
    world.config_map("mine", "fast.wasm.gz", &gz).await?;
    world.until_decided_by(&digest(&wasm)).await?;
    Ok(())
}

#[tokio::test]
async fn a_decision_is_repeated_from_the_log_and_from_its_record() -> Result<()> {
    let mut world = World::without_operator("policy-replay").await?;
    let folder = world.plane.folder().join("decisions");
    world.options.more = vec!["--record-decisions".into(), folder.display().to_string()];
    world.start_operator().await?;
    let wasm = variant("replay");
    let component = world.plane.folder().join("replay.wasm");
    std::fs::write(&component, &wasm)?;
    world.policy(&wasm).await?;
    world.work("exit 0", json!({})).await?;
    let policy = json!({ "configMap": { "name": "mine" } });
    // Too many for the log.
    let items: Vec<String> = (0..1000).map(|i| format!("item {i}")).collect();
    let items: Vec<&str> = items.iter().map(String::as_str).collect();
    world.group(&items, json!({ "policy": policy })).await?;
    let large = world.until_decided_by(&digest(&wasm)).await?;
    world
        .group(
            &["a", "b"],
            json!({ "frequency": "100ms", "policy": policy }),
        )
        .await?;
    let small = world
        .until("a run of the short list", |group| {
            let decided = &group["status"]["lastDecision"];
            decided["item"] == "a" || decided["item"] == "b"
        })
        .await?;

    let replay =
        async |file: &std::path::Path, decided: &Value, known: bool| -> Result<(bool, String)> {
            let mut command = tokio::process::Command::new(&world.options.binary);
            let request = decided["status"]["lastDecision"]["request"]
                .as_str()
                .unwrap_or_default();
            command
                .args(["policy", "replay", "--request", request])
                .arg(file);
            if known {
                command.arg("--policy").arg(&component);
            }
            let output = command.output().await?;
            let text = [output.stdout, output.stderr].concat();
            Ok((
                output.status.success(),
                String::from_utf8_lossy(&text).into_owned(),
            ))
        };
    let log = world.operator().log_file().to_owned();
    let (agrees, text) = replay(&log, &small, true).await?;
    assert!(agrees && text.contains("1 agree, 0 differ"), "{text}");
    let (agrees, text) = replay(&log, &small, false).await?;
    assert!(!agrees && text.contains("--policy"), "{text}");
    let (agrees, text) = replay(&log, &large, true).await?;
    assert!(!agrees && text.contains("no such decision"), "{text}");
    let short = large["status"]["lastDecision"]["request"]
        .as_str()
        .unwrap_or_default();
    let files = std::fs::read_dir(&folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    let record = files
        .into_iter()
        .find(|file| file.to_string_lossy().contains(&short[..12]));
    let record = record.ok_or_else(|| anyhow::anyhow!("{short} was not recorded"))?;
    let (agrees, text) = replay(&record, &large, true).await?;
    assert!(agrees && text.contains("1 agree, 0 differ"), "{text}");
    // A record that was tampered with does not agree.
    let other = std::fs::read_to_string(&record)?.replace("\"item 7\"", "\"item x\"");
    std::fs::write(&record, other)?;
    let (agrees, text) = replay(&record, &large, true).await?;
    assert!(!agrees && text.contains("was changed"), "{text}");
    Ok(())
}

#[tokio::test]
async fn weights_of_items_and_the_state_of_a_policy_come_to_it_in_a_cluster() -> Result<()> {
    let target = std::env::current_exe()?;
    let target = target
        .ancestors()
        .nth(3)
        .map(|folder| folder.join("policies"));
    let wasm = tokio::task::spawn_blocking(move || {
        policy_build::build(
            &operator::root().join("policy-fair"),
            &target.unwrap_or_default(),
        )
    });
    let wasm = wasm.await??;
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
