use crate::fixture::{say, shared};
use crate::many_groups::ManyGroups;
use anyhow::{Result, ensure};
use kube::api::{DynamicObject, ListParams};
use kube::{Api, ResourceExt};
use oaat_tests::witness::Witness;
use oaat_tests::{Operator, OperatorOptions};
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
    let groups = ManyGroups::new(NAMESPACE).await?;
    let witness = Witness::start(Api::namespaced(plane.admin(), NAMESPACE)).await?;
    let spec = json!({ "oaatType": "work", "oaatItems": ["only"], "frequency": "30days" });
    groups.create(GROUPS, &spec).await?;
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
        let groups = groups.api.list(&ListParams::default()).await?.items;
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
