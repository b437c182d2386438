use crate::fixture::{say, shared};
use anyhow::{Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{ApiResource, DynamicObject, ListParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, ResourceExt};
use oaat_tests::witness::Witness;
use oaat_tests::{Mode, Node, NodeOptions, Operator, OperatorOptions};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::time::sleep;

const GROUPS: usize = 2000;
const NAMESPACE: &str = "crowd";
/// Takes half a minute on a fast machine.
const PATIENCE: Duration = Duration::from_secs(900);

#[tokio::test]
async fn two_thousand_simultaneous_groups_each_run_once() -> Result<()> {
    let (plane, kubeconfig, binary) = shared().await?;
    plane.namespace(NAMESPACE).await?;
    let client = plane.admin();
    let witness = Witness::start(Api::namespaced(client.clone(), NAMESPACE)).await?;
    let node = NodeOptions {
        name: format!("node-{NAMESPACE}"),
        namespace: Some(NAMESPACE.into()),
        mode: Mode::Instant { exit_code: 0 },
        ..NodeOptions::default()
    };
    let _node = Node::start(client.clone(), node).await?;
    let type_ = json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatType",
        "metadata": { "name": "work", "namespace": NAMESPACE },
        "spec": { "type": "pod", "podspec": { "container": { "name": "main", "image": "any" } } },
    });
    plane.apply(&type_.to_string()).await?;
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("kawaja.net", "v1", "OaatGroup"));
    let api: Api<DynamicObject> = Api::namespaced_with(client, NAMESPACE, &kind);
    let create = async |number: usize| -> Result<()> {
        let group = serde_json::from_value(json!({
            "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
            "metadata": { "name": format!("group-{number}") },
            "spec": { "oaatType": "work", "oaatItems": ["only"], "frequency": "30days" },
        }))?;
        api.create(&PostParams::default(), &group).await?;
        Ok(())
    };
    let () = stream::iter(0..GROUPS)
        .map(create)
        .buffer_unordered(16)
        .try_collect()
        .await?;
    let operator = Operator::start(&OperatorOptions {
        binary: binary.to_owned(),
        kubeconfig: kubeconfig.to_owned(),
        namespaces: vec![NAMESPACE.to_owned()],
        leader_elect: false,
        retry_floor: "10s".into(),
        log_dir: plane.folder().to_owned(),
        more: Vec::new(),
    })
    .await?;
    let start = Instant::now();
    let groups = loop {
        let groups = api.list(&ListParams::default()).await?.items;
        let idle = |group: &&DynamicObject| group.data["status"]["state"] == "Idle";
        let rest = groups.len() - groups.iter().filter(idle).count();
        if rest == 0 {
            break groups;
        }
        ensure!(
            start.elapsed() < PATIENCE,
            "{rest} groups have not finished:\n{}",
            operator.last_log(50)
        );
        sleep(Duration::from_secs(1)).await;
    };
    let took = start.elapsed().as_secs();
    say(&format!(
        "{GROUPS} groups have run once each after {took} s"
    ));
    ensure!(groups.len() == GROUPS, "{} groups", groups.len());
    for group in &groups {
        let only = &group.data["status"]["items"]["only"];
        ensure!(
            only["runs"] == 1 && only["lastSuccess"].is_string(),
            "{}: {only}",
            group.name_any()
        );
    }
    let mut opened: BTreeMap<String, usize> = BTreeMap::new();
    for pod in witness.runs()? {
        *opened.entry(pod.group).or_default() += 1;
    }
    ensure!(opened.len() == GROUPS, "pods of {} groups", opened.len());
    ensure!(opened.values().all(|pods| *pods == 1), "{opened:?}");
    Ok(())
}
