//! How an item's name gets to the processes: in place of the placeholders and as
//! OAAT_ITEM, byte for byte.

use crate::by_hand::{latest, text};
use crate::world::{World, condition, item};
use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};
use std::collections::HashSet;

/// Prints each argument in brackets, then each of these variables.
fn shows(name: &str, arguments: &[&str], env: Value) -> Value {
    let script = r#"printf '[%s]' "$@"; printf '{%s}' "$OAAT_ITEM" "$ONE" "$TWO""#;
    json!({
        "name": name, "image": "any",
        "command": ["sh", "-c", script, "sh"], "args": arguments, "env": env,
    })
}

/// Runs a group of this one item, and gives the pod.
async fn run(world: &World, name: &str) -> Result<Pod> {
    world.group(&[name], json!({})).await?;
    let group = world.until_recorded(name).await?;
    let succeeded = item(&group, name)["lastSuccess"].is_string();
    anyhow::ensure!(succeeded, "{group:#}");
    Ok(world.pods().get(&text(&latest(&group)?["pod"])).await?)
}

fn output(world: &World, pod: &Pod, container: &str) -> Result<String> {
    let log = world
        .node
        .log_path(&world.namespace, &pod.name_any(), container);
    std::fs::read_to_string(&log).with_context(|| format!("{}", log.display()))
}

#[tokio::test]
async fn both_placeholders_are_replaced_in_every_container() -> Result<()> {
    let world = World::new("placeholders").await?;
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
    world.work("", json!({ "podspec": podspec })).await?;
    let pod = run(&world, "x").await?;
    for name in ["init-1", "init-2", "main-1", "main-2"] {
        assert_eq!(
            output(&world, &pod, name)?,
            "[x-x-x][x]{x}{<x|x>}{x}",
            "{name}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_placeholder_in_the_command_is_replaced() -> Result<()> {
    let world = World::new("placeholder-command").await?;
    world
        .work("echo {{oaat_item}} %%oaat_item%%", json!({}))
        .await?;
    let pod = run(&world, "x").await?;
    assert_eq!(output(&world, &pod, "main")?, "x x\n");
    Ok(())
}

#[tokio::test]
async fn oaat_item_replaces_a_users_own_entry_and_the_type_warns() -> Result<()> {
    let world = World::new("own-entry").await?;
    let own = json!([{ "name": "OAAT_ITEM", "value": "mine" }]);
    let podspec = json!({ "container": null, "containers": [
        shows("overridden", &[], own), shows("plain", &[], json!([])),
    ] });
    world.work("", json!({ "podspec": podspec })).await?;
    let pod = run(&world, "x").await?;
    for name in ["overridden", "plain"] {
        assert_eq!(output(&world, &pod, name)?, "[]{x}{}{}", "{name}");
    }
    let type_ = serde_json::to_value(world.api("OaatType").get("work").await?)?;
    let (status, reason, message) = condition(&type_, "Valid");
    assert_eq!((&*status, &*reason), ("True", "EnvironmentOverridden"));
    assert!(message.contains("container overridden"), "{message}");
    assert!(message.contains("OAAT_ITEM"), "{message}");
    assert!(!message.contains("plain"), "{message}");
    let note = world.until_event("work", "EnvironmentOverridden").await?;
    assert!(note.contains("OAAT_ITEM"), "{note}");
    Ok(())
}

#[tokio::test]
async fn a_value_from_a_secret_is_left_alone() -> Result<()> {
    let world = World::new("value-from").await?;
    let secret = "create secret generic keys --from-literal=key={{oaat_item}}";
    world
        .kubectl(&secret.split(' ').collect::<Vec<_>>())
        .await?;
    let from = json!({ "secretKeyRef": { "name": "keys", "key": "key" } });
    let env = json!([
        { "name": "ONE", "valueFrom": from },
        { "name": "TWO", "valueFrom": { "fieldRef": { "fieldPath": "metadata.namespace" } } },
    ]);
    let podspec = json!({ "container": null, "containers": [shows("main", &["-"], env)] });
    world.work("", json!({ "podspec": podspec })).await?;
    let pod = run(&world, "x").await?;
    let expected = "[-]{x}{{{oaat_item}}}{value-from}";
    assert_eq!(output(&world, &pod, "main")?, expected);
    Ok(())
}

/// Items that something on the way to the process could take for its own.
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
async fn any_item_comes_through_byte_for_byte_with_labels_of_its_own() -> Result<()> {
    let world = World::new("hostile-items").await?;
    let env = json!([
        { "name": "ONE", "value": "<{{oaat_item}}>" },
        { "name": "TWO", "value": "$(OAAT_ITEM)" },
    ]);
    let podspec = json!({ "container": null, "containers": [
        shows("main", &["{{oaat_item}}", "%%oaat_item%%"], env),
    ] });
    world.work("", json!({ "podspec": podspec })).await?;
    let items = hostile();
    let names: Vec<&str> = items.iter().map(String::as_str).collect();
    world.group(&names, json!({})).await?;
    let group = world
        .until("all succeed", |g| {
            names
                .iter()
                .all(|name| item(g, name)["lastSuccess"].is_string())
        })
        .await?;

    let mut labels = HashSet::new();
    for pod in world.list_pods().await? {
        let label = pod.labels().get("oaat.kawaja.net/item").cloned();
        labels.insert(label.context("a pod without a label for its item")?);
        let name = pod.annotations().get("oaat.kawaja.net/item");
        let x = name.context("a pod without its item")?;
        let expected = format!("[{x}][{x}]{{{x}}}{{<{x}>}}{{{x}}}");
        assert_eq!(output(&world, &pod, "main")?, expected);
        assert_eq!(item(&group, x)["item"], **x);
    }
    assert_eq!(labels.len(), names.len(), "{labels:?}");
    Ok(())
}
