//! The item's name in any value of a pod: the API server accepts it, or rejects the pod of that item.

use crate::fixture::{Fixture, condition, item};
use crate::helpers::{history, text};
use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use serde_json::json;

#[tokio::test]
async fn placeholders_are_replaced_in_every_value_and_an_invalid_one_fails_its_item() -> Result<()>
{
    let fixture = Fixture::new("placeholders-anywhere").await?;
    for secret in ["key-a", "key-b"] {
        let create = ["create", "secret", "generic", secret];
        fixture.kubectl(&create).await?;
    }
    let podspec = json!({
        "container": {
            "image": "registry.example/{{oaat_item}}:1",
            "volumeMounts": [{
                "name": "data", "mountPath": "/data", "subPath": "{{oaat_item}}/%%oaat_item%%",
            }],
        },
        "volumes": [{ "name": "data", "secret": { "secretName": "key-{{oaat_item}}" } }],
    });
    let metadata = json!({
        "labels": { "app": "backup-{{oaat_item}}" },
        "annotations": { "note": "backs up %%oaat_item%%" },
    });
    fixture
        .work(
            "true",
            json!({ "podspec": podspec, "podMetadata": metadata }),
        )
        .await?;
    // A label must not contain a space. The other values may.
    let invalid = "no label";
    fixture
        .group(&["a", invalid, "b"], json!({ "failureCoolOff": "1h" }))
        .await?;
    let group = fixture
        .until("all items have run or failed", |g| {
            let succeeded = ["a", "b"].map(|name| item(g, name)["lastSuccess"].is_string());
            succeeded == [true, true] && item(g, invalid)["lastFailure"].is_string()
        })
        .await?;

    for name in ["a", "b"] {
        let run = history(&group).into_iter().find(|run| run["item"] == name);
        let run = run.context("no run")?;
        let pod = fixture.pods().get(&text(&run["pod"])).await?;
        ensure!(pod.labels()["app"] == format!("backup-{name}"), "{pod:?}");
        let note = &pod.annotations()["note"];
        ensure!(*note == format!("backs up {name}"), "{pod:?}");
        let spec = serde_json::to_value(pod.spec)?;
        for (path, expected) in [
            ("/containers/0/image", format!("registry.example/{name}:1")),
            (
                "/containers/0/volumeMounts/0/subPath",
                format!("{name}/{name}"),
            ),
            ("/volumes/0/secret/secretName", format!("key-{name}")),
        ] {
            ensure!(
                spec.pointer(path) == Some(&json!(expected)),
                "{path}: {spec:#}"
            );
        }
    }

    let failed = item(&group, invalid);
    ensure!(failed["failures"] == 1, "{group:#}");
    for words in ["backup-no label", "a valid label must"] {
        ensure!(text(&failed["message"]).contains(words), "{failed:#}");
    }
    let run = history(&group)
        .into_iter()
        .find(|run| run["item"] == invalid);
    ensure!(
        run.context("no run")?["reason"] == "CreateRejected",
        "{group:#}"
    );
    let type_ = serde_json::to_value(fixture.api("OaatType").get("work").await?)?;
    ensure!(condition(&type_, "Valid").0 == "True", "{type_:#}");
    Ok(())
}
