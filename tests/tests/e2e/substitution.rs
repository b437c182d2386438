//! How an item's name is passed to processes: in placeholders and as OAAT_ITEM, byte for byte.

use crate::fixture::{Fixture, condition, item};
use crate::helpers::{latest, text};
use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};
use std::collections::HashSet;

/// Returns a container that prints each argument in brackets, and then each of these variables.
fn shows(name: &str, arguments: &[&str], env: Value) -> Value {
    let script = r#"printf '[%s]' "$@"; printf '{%s}' "$OAAT_ITEM" "$ONE" "$TWO""#;
    json!({
        "name": name, "image": "any",
        "command": ["sh", "-c", script, "sh"], "args": arguments, "env": env,
    })
}

/// Runs a group of this one item, and returns the pod.
async fn run(fixture: &Fixture, name: &str) -> Result<Pod> {
    fixture.group(&[name], json!({})).await?;
    let group = fixture.until_recorded(name).await?;
    let succeeded = item(&group, name)["lastSuccess"].is_string();
    anyhow::ensure!(succeeded, "{group:#}");
    Ok(fixture.pods().get(&text(&latest(&group)?["pod"])).await?)
}

fn output(fixture: &Fixture, pod: &Pod, container: &str) -> Result<String> {
    let log = fixture
        .node
        .log_path(&fixture.namespace, &pod.name_any(), container);
    std::fs::read_to_string(&log).with_context(|| format!("{}", log.display()))
}

#[tokio::test]
async fn placeholders_are_replaced_in_every_container() -> Result<()> {
    let fixture = Fixture::new("placeholders").await?;
    let arguments = ["{{oaat_item}}-%%oaat_item%%-{{oaat_item}}", "%%oaat_item%%"];
    let env = json!([
        { "name": "ONE", "value": "<{{oaat_item}}|%%oaat_item%%>" },
        { "name": "TWO", "value": "$(OAAT_ITEM)" },
    ]);
    let container = |name| shows(name, &arguments, env.clone());
    let podspec = json!({
        "container": null,
        "initContainers": [container("init-1"), container("init-2")],
        "containers": [container("main-1"), container("main-2")],
    });
    fixture.work("", json!({ "podspec": podspec })).await?;
    let pod = run(&fixture, "x").await?;
    for name in ["init-1", "init-2", "main-1", "main-2"] {
        assert_eq!(
            output(&fixture, &pod, name)?,
            "[x-x-x][x]{x}{<x|x>}{x}",
            "{name}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn placeholder_in_the_command_is_replaced() -> Result<()> {
    let fixture = Fixture::new("placeholder-command").await?;
    fixture
        .work("echo {{oaat_item}} %%oaat_item%%", json!({}))
        .await?;
    let pod = run(&fixture, "x").await?;
    assert_eq!(output(&fixture, &pod, "main")?, "x x\n");
    Ok(())
}

#[tokio::test]
async fn oaat_item_replaces_an_entry_of_the_user_and_the_type_warns() -> Result<()> {
    let fixture = Fixture::new("own-entry").await?;
    let own = json!([{ "name": "OAAT_ITEM", "value": "mine" }]);
    let podspec = json!({ "container": null, "containers": [
        shows("overridden", &[], own), shows("plain", &[], json!([])),
    ] });
    fixture.work("", json!({ "podspec": podspec })).await?;
    let pod = run(&fixture, "x").await?;
    for name in ["overridden", "plain"] {
        assert_eq!(output(&fixture, &pod, name)?, "[]{x}{}{}", "{name}");
    }
    let type_ = serde_json::to_value(fixture.api("OaatType").get("work").await?)?;
    let (status, reason, message) = condition(&type_, "Valid");
    assert_eq!((&*status, &*reason), ("True", "EnvironmentOverridden"));
    assert!(message.contains("container overridden"), "{message}");
    assert!(message.contains("OAAT_ITEM"), "{message}");
    assert!(!message.contains("plain"), "{message}");
    let note = fixture.until_event("work", "EnvironmentOverridden").await?;
    assert!(note.contains("OAAT_ITEM"), "{note}");
    Ok(())
}

#[tokio::test]
async fn value_from_a_secret_is_unchanged() -> Result<()> {
    let fixture = Fixture::new("value-from").await?;
    let secret = "create secret generic keys --from-literal=key={{oaat_item}}";
    fixture
        .kubectl(&secret.split(' ').collect::<Vec<_>>())
        .await?;
    let from = json!({ "secretKeyRef": { "name": "keys", "key": "key" } });
    let env = json!([
        { "name": "ONE", "valueFrom": from },
        { "name": "TWO", "valueFrom": { "fieldRef": { "fieldPath": "metadata.namespace" } } },
    ]);
    let podspec = json!({ "container": null, "containers": [shows("main", &["-"], env)] });
    fixture.work("", json!({ "podspec": podspec })).await?;
    let pod = run(&fixture, "x").await?;
    let expected = "[-]{x}{{{oaat_item}}}{value-from}";
    assert_eq!(output(&fixture, &pod, "main")?, expected);
    Ok(())
}

/// Returns items that a program on the way to the process could misinterpret.
fn hostile() -> Vec<String> {
    let mut items: Vec<String> = [
        " two  spaces ",
        r#"it's "quoted" `true` \ and \n"#,
        "/mnt/a path/../b",
        "grüße-日本語-🦀",
        "$(PATH) $(OAAT_ITEM) $HOME ${HOME}",
        "$$ $$$(PATH) $",
        "{{oaat_item}} %%oaat_item%%",
        "-n",
        "*",
        "a: b # c",
        "two  spaces",
        "two/spaces",
        "two-spaces",
    ]
    .map(str::to_owned)
    .into();
    items.push("long ".repeat(60));
    items.push("ü".repeat(300));
    items
}

#[tokio::test]
async fn item_names_are_passed_byte_for_byte_with_separate_labels() -> Result<()> {
    let fixture = Fixture::new("hostile-items").await?;
    let env = json!([
        { "name": "ONE", "value": "<{{oaat_item}}>" },
        { "name": "TWO", "value": "$(OAAT_ITEM)" },
    ]);
    let podspec = json!({ "container": null, "containers": [
        shows("main", &["{{oaat_item}}", "%%oaat_item%%"], env),
    ] });
    fixture.work("", json!({ "podspec": podspec })).await?;
    let items = hostile();
    let names: Vec<&str> = items.iter().map(String::as_str).collect();
    fixture.group(&names, json!({})).await?;
    let group = fixture
        .until("all succeed", |g| {
            names
                .iter()
                .all(|name| item(g, name)["lastSuccess"].is_string())
        })
        .await?;

    let mut labels = HashSet::new();
    for pod in fixture.list_pods().await? {
        let label = pod.labels().get("oaat.kawaja.net/item").cloned();
        labels.insert(label.context("the pod has no label for its item")?);
        let name = pod.annotations().get("oaat.kawaja.net/item");
        let x = name.context("the pod has no item")?;
        let expected = format!("[{x}][{x}]{{{x}}}{{<{x}>}}{{{x}}}");
        assert_eq!(output(&fixture, &pod, "main")?, expected);
        assert!(item(&group, x)["lastSuccess"].is_string(), "{group:#}");
    }
    assert_eq!(labels.len(), names.len(), "{labels:?}");
    Ok(())
}
