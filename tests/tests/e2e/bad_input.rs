//! What is wrong is refused with words, or said on the object; nothing runs until it
//! is mended, and then it goes on by itself.

use crate::world::{World, condition, item};
use anyhow::Result;
use serde_json::{Value, json};

/// An OaatType with this spec.
pub fn oaat_type(spec: &Value) -> String {
    object("OaatType", "work", spec)
}

/// An OaatGroup with this over an otherwise good spec.
pub fn oaat_group(name: &str, more: &Value) -> String {
    let mut spec = json!({"oaatType": "work", "oaatItems": ["a"]});
    if let (Some(spec), Some(more)) = (spec.as_object_mut(), more.as_object()) {
        spec.extend(more.clone());
    }
    object("OaatGroup", name, &spec)
}

pub fn object(kind: &str, name: &str, spec: &Value) -> String {
    json!({
        "apiVersion": "kawaja.net/v1", "kind": kind,
        "metadata": { "name": name }, "spec": spec,
    })
    .to_string()
}

pub fn message(object: &Value) -> &str {
    object["status"]["message"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_refused_type_is_told_once_and_not_again_and_again() -> Result<()> {
    let world = World::new("bad-pod-once").await?;
    // The server's words about this one name the pod.
    let spec = json!({"type": "pod", "podspec": {"container": {"name": "main"}}});
    world.apply(&oaat_type(&spec)).await?;
    let told = world
        .until_object("OaatType", "work", "it is invalid", |t| {
            condition(t, "Valid").0 == "False"
        })
        .await?;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let later = world.api("OaatType").get("work").await?;
    let version = later.metadata.resource_version;
    assert_eq!(
        version.as_deref(),
        told["metadata"]["resourceVersion"].as_str()
    );
    Ok(())
}

#[tokio::test]
async fn a_type_that_the_api_server_would_refuse_as_a_pod_is_invalid_in_its_words() -> Result<()> {
    let world = World::new("bad-pod").await?;
    world.group(&["a"], json!({})).await?;
    // Neither is known to the schema of the type.
    for (container, words) in [
        (
            json!({"name": "main", "image": "any", "comand": ["true"]}),
            "comand",
        ),
        (json!({"name": "Main_", "image": "any"}), "lowercase"),
    ] {
        let spec = json!({"type": "pod", "podspec": {"container": container}});
        world.apply(&oaat_type(&spec)).await?;
        let invalid = |object: &Value, type_: &str| {
            let (status, _, message) = condition(object, type_);
            status == "False" && message.contains(words)
        };
        let type_ = world
            .until_object("OaatType", "work", "it is invalid", |t| invalid(t, "Valid"))
            .await?;
        assert_eq!(condition(&type_, "Valid").1, "PodRefused");
        let group = world
            .until("the group says it as well", |g| {
                invalid(g, "Ready") && g["status"]["state"] == "Invalid"
            })
            .await?;
        assert_eq!(condition(&group, "Ready").1, "TypeInvalid");
        assert!(
            message(&group).contains("OaatType \"work\""),
            "{}",
            message(&group)
        );
        assert!(message(&group).contains(words), "{}", message(&group));
    }
    assert!(world.list_pods().await?.is_empty());

    world.work("true", json!({})).await?;
    let group = world
        .until("once mended, it runs", |g| {
            item(g, "a")["lastSuccess"].is_string()
        })
        .await?;
    assert_eq!(item(&group, "a")["failures"], 0, "nothing was counted");
    assert_eq!(group["status"]["run"], 1);
    Ok(())
}

#[tokio::test]
async fn a_group_without_items_says_so_and_starts_when_they_come() -> Result<()> {
    let world = World::new("bad-itemless").await?;
    world.work("true", json!({})).await?;
    for items in [
        json!({"oaatType": "work"}),
        json!({"oaatType": "work", "oaatItems": []}),
    ] {
        world.apply(&object("OaatGroup", "group", &items)).await?;
        let group = world
            .until("it waits for items", |g| {
                g["status"]["state"] == "Waiting"
                    && g["status"]["observedGeneration"] == g["metadata"]["generation"]
                    && condition(g, "Ready").1 == "NoItems"
            })
            .await?;
        assert!(
            message(&group).contains("spec.oaatItems"),
            "{}",
            message(&group)
        );
    }
    world.group(&["a"], json!({})).await?;
    world
        .until("a runs", |g| item(g, "a")["lastSuccess"].is_string())
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_group_waits_for_its_type_by_name_and_starts_when_it_comes() -> Result<()> {
    let world = World::new("bad-typeless").await?;
    world.group(&["a"], json!({})).await?;
    let group = world
        .until("it waits", |g| g["status"]["state"] == "Waiting")
        .await?;
    assert_eq!(condition(&group, "Ready").1, "TypeNotFound");
    assert!(
        message(&group).contains("OaatType \"work\""),
        "{}",
        message(&group)
    );
    world.work("true", json!({})).await?;
    world
        .until("a runs", |g| item(g, "a")["lastSuccess"].is_string())
        .await?;

    world.kubectl(&["delete", "ot", "work"]).await?;
    world
        .until("it waits again", |g| {
            condition(g, "Ready").1 == "TypeNotFound"
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn two_thousand_items_work() -> Result<()> {
    let world = World::new("many-items").await?;
    world.work("sleep 0.5", json!({})).await?;
    // As long as paths are.
    let items = many(2000);
    let items: Vec<&str> = items.iter().map(String::as_str).collect();
    world.group(&items, json!({"frequency": "1y"})).await?;
    let group = world
        .until("a second one runs and all are in the status", |g| {
            g["status"]["run"] == 2
                && g["status"]["items"]
                    .as_object()
                    .is_some_and(|items| items.len() == 2000)
        })
        .await?;
    let done = group["status"]["history"][0]["item"]
        .as_str()
        .unwrap_or_default();
    assert!(item(&group, done)["lastSuccess"].is_string(), "{done}");
    Ok(())
}

fn many(count: usize) -> Vec<String> {
    (0..count)
        .map(|n| format!("/srv/data/photographs/of the year/{n:04}"))
        .collect()
}

#[tokio::test]
async fn the_crds_can_be_applied_from_the_client_side() -> Result<()> {
    let file = oaat_tests::operator::crds();
    let args = ["apply", "-f", &file.to_string_lossy()];
    let world = World::without_operator("crds").await?;
    let said = world.plane.kubectl(&args).await?;
    for kind in ["oaattypes", "oaatgroups"] {
        assert!(said.contains(kind), "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn many_long_items_work_or_are_refused_but_never_leave_the_group_without_a_word() -> Result<()>
{
    let world = World::new("long-items").await?;
    world.work("sleep 0.5", json!({})).await?;
    let items: Vec<String> = (0..2000).map(|n| format!("{n:0300}")).collect();
    let group = oaat_group("group", &json!({"oaatItems": items}));
    // Not apply, whose annotation has a limit of its own.
    let args = ["--namespace", &world.namespace, "create", "-f", "-"];
    let admin = world.plane.admin_kubeconfig();
    match world.plane.kubectl_as(admin, &args, &group).await {
        Err(error) => {
            let error = error.to_string();
            assert!(error.contains("spec.oaatItems"), "{error:.1000}");
        }
        Ok(_) => {
            let told = world
                .until("told", |g| g["status"]["state"].is_string())
                .await;
            assert!(told.is_ok(), "it was accepted, and its status never came");
        }
    }
    Ok(())
}
