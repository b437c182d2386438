//! Shadow policies are compared with the policy of the group, and do not affect it.

use super::{digest, merged};
use crate::fixture::{Fixture, PATIENCE, condition};
use anyhow::{Context, Result};
use built_in_policies::DEFAULT_POLICY;
use oaat_tests::console::blocks;
use policy_host::{DecisionRecord, Host, Limits};
use serde_json::{Value, json};
use std::path::Path;

/// The page whose commands are run.
const PAGE: &str = "docs/change-a-policy.md";

/// Hostile policies, one for each way to misbehave, and the expected reason of the condition.
const HOSTILE: [(&str, &[&str]); 14] = [
    ("loop", &["Failed"]),
    ("!loop", &["NotUsable"]),
    ("grow", &["Failed"]),
    ("recurse", &["Failed"]),
    ("panic-long", &["Failed"]),
    ("verdicts-many", &["Failed"]),
    ("index-max", &["Failed"]),
    ("held", &["Failed"]),
    ("wait-1ms", &["Differs"]),
    ("note-huge", &["Failed"]),
    ("state-refused", &["Failed", "Differs", "Agrees"]),
    ("err-control", &["Failed"]),
    ("validate-loop", &["NotUsable"]),
    // On a busy machine, it is only interrupted.
    ("log-slow", &["Failed", "NotCompared"]),
];

impl Fixture {
    /// Waits until the condition `ShadowAgrees` of a group has one of these reasons, and returns its
    /// message.
    async fn until_shadow(&self, group: &str, reasons: &[&str]) -> Result<String> {
        let words = format!("ShadowAgrees has one of the reasons {reasons:?}");
        let has_reason = |group: &Value| {
            let (_, reason, _) = condition(group, "ShadowAgrees");
            reasons.contains(&reason.as_str())
        };
        let found = self.until_object("OaatGroup", group, &words, has_reason);
        Ok(condition(&found.await?, "ShadowAgrees").2)
    }
}

#[tokio::test]
async fn policy_is_changed_as_the_page_describes() -> Result<()> {
    let all = blocks()?.into_iter();
    let commands: Vec<String> = all
        .filter(|block| block.page == PAGE)
        .flat_map(|block| block.commands())
        .map(|command| format!("{} ", command.text).replace(" NAME ", " group "))
        .collect();
    let find = |words: &str| {
        let mut found = commands.iter().filter(|command| command.contains(words));
        found
            .next()
            .with_context(|| format!("no command contains {words:?}"))
    };
    let fixture = Fixture::new("change-a-policy").await?;
    // Without a cool-off, the documented algorithm starts `a` again and again.
    fixture.work("[ $OAAT_ITEM != a ]", json!({})).await?;
    fixture
        .group(&["a", "b"], json!({ "frequency": "100ms" }))
        .await?;

    fixture
        .type_in(find(r#"{"builtIn":"default","shadow""#)?)
        .await?;
    fixture.until_shadow("group", &["Differs"]).await?;
    fixture.type_in(find("kubectl wait")?).await?;
    let message = fixture.type_in(find("-o jsonpath")?).await?;
    for part in ["decisions agreed", "differed", "(request ", "), it would "] {
        assert!(message.contains(part), "{message}");
    }
    let status = fixture.type_in(find("kubectl oaat status")?).await?;
    let shadow = "\nshadow policy: Differs, since ";
    assert!(status.contains(shadow), "{status}");
    let why = fixture.type_in(find("kubectl oaat why")?).await?;
    let note = "the shadow policy would have decided differently; see kubectl oaat status group";
    assert!(why.contains(note), "{why}");

    fixture
        .type_in(find(r#"{"builtIn":"backoff","shadow""#)?)
        .await?;
    let decides = |group: &Value| group["status"]["policy"]["source"] == "backoff";
    fixture
        .until("the built-in policy backoff decides", decides)
        .await?;
    let shadow = "the built-in policy default";
    fixture
        .until("the old policy is the shadow", |group| {
            condition(group, "ShadowAgrees").2.contains(shadow)
        })
        .await?;
    fixture.type_in(find(r#"{"shadow":null}"#)?).await?;
    fixture
        .until("the condition is removed", |group| {
            condition(group, "ShadowAgrees").1.is_empty()
        })
        .await?;
    for command in ["kubectl oaat status group", "kubectl oaat why b"] {
        let text = fixture.type_in(command).await?;
        assert!(!text.contains("shadow"), "{text}");
    }
    Ok(())
}

#[tokio::test]
async fn shadow_in_a_config_map_is_used_once_it_can_be() -> Result<()> {
    let fixture = Fixture::new("shadow-config-map").await?;
    fixture.work("exit 0", json!({})).await?;
    let shadow = json!({ "configMap": { "name": "new" } });
    let policy = json!({ "builtIn": "default", "shadow": shadow });
    let spec = json!({ "frequency": "100ms", "policy": policy });
    fixture.group(&["a", "b"], spec).await?;
    let message = fixture.until_shadow("group", &["NotUsable"]).await?;
    assert!(message.starts_with("SourceNotFound: "), "{message}");
    let variant = super::variant("shadow");
    fixture.config_map("new", "policy.wasm", &variant).await?;
    // The same algorithm breaks ties in the same way.
    let message = fixture.until_shadow("group", &["Agrees"]).await?;
    assert!(message.contains(&digest(&variant)), "{message}");
    for reason in ["ShadowNotUsable", "ShadowLoaded"] {
        fixture.until_event("group", reason).await?;
    }
    let group = fixture.read("group").await?;
    let decided = &group["status"]["policy"]["source"];
    assert_eq!(decided, "default", "{group:#}");
    Ok(())
}

#[tokio::test]
async fn shadow_reads_item_settings_that_the_default_policy_ignores() -> Result<()> {
    let fixture = Fixture::new("shadow-item-settings").await?;
    fixture.work("exit 0", json!({})).await?;
    let settings = json!({ "settings": { "tier": 1 } });
    let spec = json!({ "frequency": "100ms", "itemOptions": { "a": settings, "b": settings } });
    fixture.group(&["a", "b"], spec.clone()).await?;
    let runs = |group: &Value| group["status"]["run"].as_i64().unwrap_or(0);
    fixture.until("a run", |group| runs(group) > 0).await?;
    // Without item settings, the shadow would never choose an item.
    let eligible = json!({ "eligible": "item.settings.tier == 1" });
    let shadow = json!({ "builtIn": "expression", "settings": eligible });
    let policy = json!({ "policy": { "builtIn": "default", "shadow": shadow } });
    fixture.group(&["a", "b"], merged(spec, policy)).await?;
    fixture.until_shadow("group", &["Agrees"]).await?;
    let before = runs(&fixture.read("group").await?);
    let group = fixture.until("more runs", |group| runs(group) > before + 2);
    let group = group.await?;
    assert_eq!(condition(&group, "ShadowAgrees").1, "Agrees", "{group:#}");
    assert_eq!(group["status"]["policy"]["source"], "default", "{group:#}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_shadow_changes_no_decision() -> Result<()> {
    let mut fixture = Fixture::without_operator("hostile-shadow").await?;
    fixture.patience = 4 * PATIENCE;
    let folder = fixture.plane.folder().join("shadow-decisions");
    let recorded = folder.display().to_string();
    fixture.options.more = ["--record-decisions", &recorded].map(Into::into).to_vec();
    fixture.work("exit 0", json!({})).await?;
    let all = tokio::task::spawn_blocking(hostile_policies::all).await??;
    let name_of = |number: usize| format!("shadow-{number}");
    for (number, (hostile, _)) in HOSTILE.iter().enumerate() {
        let found = all.iter().find(|policy| policy.name == *hostile);
        let bytes = &found.with_context(|| (*hostile).to_owned())?.bytes;
        let name = name_of(number);
        fixture.config_map(&name, "policy.wasm", bytes).await?;
        let shadow = json!({ "configMap": { "name": name } });
        let group = json!({
            "apiVersion": "kawaja.net/v1", "kind": "OaatGroup", "metadata": { "name": name },
            "spec": {
                "oaatType": "work", "oaatItems": ["a", "b", "c"], "frequency": "100ms",
                "itemOptions": { "b": { "suspend": true } },
                "policy": { "builtIn": "default", "shadow": shadow },
            },
        });
        fixture.apply(&group.to_string()).await?;
    }
    fixture.start_operator().await?;
    for (number, (_, expected)) in HOSTILE.iter().enumerate() {
        let name = name_of(number);
        let message = fixture.until_shadow(&name, expected).await?;
        let is_clean = message.len() < 2048 && !message.contains(char::is_control);
        assert!(is_clean, "{name}: {message}");
        let runs = |group: &Value| group["status"]["run"].as_i64().unwrap_or(0);
        let before = runs(&fixture.read(&name).await?);
        let words = "the group continues to run";
        fixture
            .until_object("OaatGroup", &name, words, |group| runs(group) >= before + 2)
            .await?;
    }
    assert!(fixture.operator().process().is_running());
    drop(fixture.take_operator());
    let decided = tokio::task::spawn_blocking(move || decided_by_default(&folder)).await??;
    assert!(decided >= 2 * HOSTILE.len(), "{decided}");
    Ok(())
}

/// Checks that the built-in policy made every recorded decision, and returns their number.
fn decided_by_default(folder: &Path) -> Result<usize> {
    let host = Host::new(Limits::default())?;
    let policy = host.load(DEFAULT_POLICY, None)?;
    let mut decisions = 0;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let record: DecisionRecord = serde_json::from_slice(&std::fs::read(&path)?)?;
        let again =
            DecisionRecord::new(&policy, &record.request, &policy.evaluate(&record.request));
        anyhow::ensure!(again == record, "{}", path.display());
        decisions += 1;
    }
    Ok(decisions)
}
