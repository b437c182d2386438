//! Invalid input is rejected with a message, or reported on the object. Nothing runs until it is
//! fixed, and then it starts without further action.

use crate::fixture::{Fixture, condition, item};
use anyhow::Result;
use serde_json::{Value, json};

/// Returns an OaatType with this spec.
pub fn oaat_type(spec: &Value) -> String {
    object("OaatType", "work", spec)
}

/// Returns an otherwise valid OaatGroup with `more` merged into its spec.
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
async fn rejected_type_is_reported_once() -> Result<()> {
    let fixture = Fixture::new("bad-pod-once").await?;
    // The API server's message about this one names the pod.
    let spec = json!({"type": "pod", "podspec": {"container": {"name": "main"}}});
    fixture.apply(&oaat_type(&spec)).await?;
    let reported = fixture
        .until_object("OaatType", "work", "it is invalid", |t| {
            condition(t, "Valid").0 == "False"
        })
        .await?;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let later = fixture.api("OaatType").get("work").await?;
    let version = later.metadata.resource_version;
    assert_eq!(
        version.as_deref(),
        reported["metadata"]["resourceVersion"].as_str()
    );
    Ok(())
}

#[tokio::test]
async fn type_that_the_api_server_rejects_as_a_pod_is_invalid_with_its_message() -> Result<()> {
    let fixture = Fixture::new("bad-pod").await?;
    fixture.group(&["a"], json!({})).await?;
    // The schema of the type detects neither.
    for (container, words) in [
        (
            json!({"name": "main", "image": "any", "comand": ["true"]}),
            "comand",
        ),
        (json!({"name": "Main_", "image": "any"}), "lowercase"),
    ] {
        let spec = json!({"type": "pod", "podspec": {"container": container}});
        fixture.apply(&oaat_type(&spec)).await?;
        let invalid = |object: &Value, type_: &str| {
            let (status, _, message) = condition(object, type_);
            status == "False" && message.contains(words)
        };
        let type_ = fixture
            .until_object("OaatType", "work", "it is invalid", |t| invalid(t, "Valid"))
            .await?;
        assert_eq!(condition(&type_, "Valid").1, "PodRejected");
        let group = fixture
            .until("the group reports it as well", |g| {
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
    assert!(fixture.list_pods().await?.is_empty());

    fixture.work("true", json!({})).await?;
    let group = fixture
        .until("once mended, it runs", |g| {
            item(g, "a")["lastSuccess"].is_string()
        })
        .await?;
    assert!(
        item(&group, "a")["failures"].is_null(),
        "no failure is counted"
    );
    assert_eq!(group["status"]["run"], 1);
    Ok(())
}

#[tokio::test]
async fn group_without_items_reports_it_and_starts_when_items_are_added() -> Result<()> {
    let fixture = Fixture::new("bad-itemless").await?;
    fixture.work("true", json!({})).await?;
    for items in [
        json!({"oaatType": "work"}),
        json!({"oaatType": "work", "oaatItems": []}),
    ] {
        fixture.apply(&object("OaatGroup", "group", &items)).await?;
        let group = fixture
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
    fixture.group(&["a"], json!({})).await?;
    fixture
        .until("a runs", |g| item(g, "a")["lastSuccess"].is_string())
        .await?;
    Ok(())
}

#[tokio::test]
async fn group_names_its_missing_type_and_starts_when_it_exists() -> Result<()> {
    let fixture = Fixture::new("bad-typeless").await?;
    fixture.group(&["a"], json!({})).await?;
    let group = fixture
        .until("it waits", |g| g["status"]["state"] == "Waiting")
        .await?;
    assert_eq!(condition(&group, "Ready").1, "TypeNotFound");
    assert!(
        message(&group).contains("OaatType \"work\""),
        "{}",
        message(&group)
    );
    fixture.work("true", json!({})).await?;
    fixture
        .until("a runs", |g| item(g, "a")["lastSuccess"].is_string())
        .await?;

    fixture.kubectl(&["delete", "ot", "work"]).await?;
    fixture
        .until("it waits again", |g| {
            condition(g, "Ready").1 == "TypeNotFound"
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn two_thousand_items_work() -> Result<()> {
    let fixture = Fixture::new("many-items").await?;
    fixture.work("sleep 0.5", json!({})).await?;
    // As long as typical paths.
    let items = many(2000);
    let items: Vec<&str> = items.iter().map(String::as_str).collect();
    fixture.group(&items, json!({"frequency": "1y"})).await?;
    let group = fixture
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
async fn crds_can_be_applied_on_the_client_side() -> Result<()> {
    let file = oaat_tests::operator::crds();
    let args = ["apply", "-f", &file.to_string_lossy()];
    let fixture = Fixture::without_operator("crds").await?;
    let said = fixture.plane.kubectl(&args).await?;
    for kind in ["oaattypes", "oaatgroups"] {
        assert!(said.contains(kind), "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn many_long_items_work_or_are_rejected_with_a_message() -> Result<()> {
    let fixture = Fixture::new("long-items").await?;
    fixture.work("sleep 0.5", json!({})).await?;
    let items: Vec<String> = (0..2000).map(|n| format!("{n:0300}")).collect();
    let group = oaat_group("group", &json!({"oaatItems": items}));
    // Not `apply`, because its annotation has a separate size limit.
    let args = ["--namespace", &fixture.namespace, "create", "-f", "-"];
    let admin = fixture.plane.admin_kubeconfig();
    match fixture.plane.kubectl_as(admin, &args, &group).await {
        Err(error) => {
            let error = error.to_string();
            assert!(error.contains("spec.oaatItems"), "{error:.1000}");
        }
        Ok(_) => {
            let reported = fixture
                .until("the group has a state", |g| {
                    g["status"]["state"].is_string()
                })
                .await;
            assert!(
                reported.is_ok(),
                "the group was accepted, but its status was not written"
            );
        }
    }
    Ok(())
}
