//! Operators with `--shard`: each reconciles its own groups, and those of shards that are down.

use crate::fixture::{Fixture, PATIENCE, shared};
use crate::guard::documents;
use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use kube::api::ListParams;
use oaat_operator::shard::serving_shard;
use oaat_tests::witness::Witness;
use oaat_tests::{Operator, Signal};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

const GROUPS: usize = 12;

/// Starts one operator for each shard, and waits until they hold their leases.
async fn start(fixture: &mut Fixture, shards: &[&str]) -> Result<Vec<Operator>> {
    let mut operators = Vec::new();
    for shard in shards {
        fixture.options.more = vec!["--shard".into(), (*shard).into()];
        fixture.start_operator().await?;
        operators.push(fixture.take_operator());
    }
    for operator in &operators {
        until_metric(operator, "oaat_leading", 1.0).await?;
    }
    Ok(operators)
}

async fn until_metric(operator: &Operator, name: &str, value: f64) -> Result<()> {
    let start = Instant::now();
    while operator.metric(name, &[]).await? != value {
        ensure!(
            start.elapsed() < PATIENCE,
            "{name} is not {value}:\n{}",
            operator.log()
        );
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Waits until all of these operators observe that number of live shards.
async fn until_live(operators: &[Operator], shards: f64) -> Result<()> {
    for operator in operators {
        until_metric(operator, "oaat_live_shards", shards).await?;
    }
    Ok(())
}

async fn create(fixture: &Fixture, number: usize) -> Result<()> {
    let group = json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
        "metadata": { "name": format!("group-{number}") },
        "spec": { "oaatType": "work", "oaatItems": ["a", "b"], "frequency": "1s" },
    });
    fixture.apply(&group.to_string()).await?;
    Ok(())
}

/// Returns the name, the uid, and the number of runs of all groups.
async fn groups(fixture: &Fixture) -> Result<Vec<(String, String, i64)>> {
    let api = fixture.api("OaatGroup");
    let groups = api.list(&ListParams::default()).await?.items;
    let groups = groups.into_iter().map(|group| {
        let runs = group.data["status"]["run"].as_i64().unwrap_or(0);
        (group.name_any(), group.uid().unwrap_or_default(), runs)
    });
    Ok(groups.collect())
}

/// Waits until each group has started several more runs.
async fn until_all_run(fixture: &Fixture, operators: &[Operator]) -> Result<()> {
    let before = groups(fixture).await?;
    let before: BTreeMap<_, _> = before
        .into_iter()
        .map(|(_, uid, runs)| (uid, runs))
        .collect();
    let start = Instant::now();
    loop {
        let groups = groups(fixture).await?;
        let behind = groups.iter().find(|(_, uid, runs)| *runs < before[uid] + 2);
        let Some(behind) = behind else { return Ok(()) };
        if start.elapsed() > PATIENCE {
            let logs: Vec<_> = operators.iter().map(|o| o.last_log(50)).collect();
            anyhow::bail!("{behind:?} does not run:\n{}", logs.join("\n\n"));
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Returns whether an operator has logged something about a group.
fn mentions(operator: &Operator, group: &str) -> bool {
    operator.log().contains(&format!("group=\"{group}\""))
}

#[tokio::test]
async fn shards_share_the_groups_and_take_over_those_of_a_lost_shard() -> Result<()> {
    let mut fixture = Fixture::without_operator("shards").await?;
    fixture.elect().await?;
    let witness = Witness::start(fixture.pods()).await?;
    let mut operators = start(&mut fixture, &["0/3", "1/3", "2/3"]).await?;
    until_live(&operators, 3.0).await?;
    fixture.work("true", json!({})).await?;
    for number in 0..GROUPS {
        create(&fixture, number).await?;
    }
    until_all_run(&fixture, &operators).await?;
    let all = (0..3).collect();
    for (name, uid, _) in groups(&fixture).await? {
        let shard = serving_shard(&uid, &all).context("no shard")?;
        for (index, operator) in (0..).zip(&operators) {
            ensure!(
                mentions(operator, &name) == (index == shard),
                "{name} belongs to shard {shard}; the log of {index} is\n{}",
                operator.log()
            );
        }
    }
    let checked = operators
        .iter()
        .filter(|o| o.log().contains("checked a type"));
    ensure!(checked.count() == 1, "several shards checked the type");

    operators.remove(1).kill().await;
    until_all_run(&fixture, &operators).await?;
    until_live(&operators, 2.0).await?;
    for (name, ..) in groups(&fixture).await? {
        ensure!(operators.iter().any(|o| mentions(o, &name)), "{name}");
    }

    operators.extend(start(&mut fixture, &["1/3"]).await?);
    until_live(&operators, 3.0).await?;
    until_all_run(&fixture, &operators).await?;
    let started = operators[2].metric("oaat_runs_total", &["Started"]);
    ensure!(started.await? > 0.0, "{}", operators[2].log());
    witness.runs()?;
    Ok(())
}

#[tokio::test]
async fn group_that_is_not_served_causes_no_reconcile() -> Result<()> {
    let mut fixture = Fixture::without_operator("shards-one").await?;
    fixture.elect().await?;
    let operators = start(&mut fixture, &["0/2", "1/2"]).await?;
    until_live(&operators, 2.0).await?;
    fixture.work("true", json!({})).await?;
    create(&fixture, 0).await?;
    until_all_run(&fixture, &operators).await?;
    let uid = groups(&fixture).await?.remove(0).1;
    let shard = serving_shard(&uid, &(0..2).collect()).context("no shard")?;
    for (index, operator) in (0..).zip(&operators) {
        let reconciles = operator.metric("oaat_reconciles_total", &[]).await?;
        ensure!(
            (reconciles > 0.0) == (index == shard),
            "shard {index}: {reconciles} reconciles of a group of shard {shard}"
        );
    }
    Ok(())
}

/// Sends SIGTERM, and waits for the end.
async fn stop(operator: Operator) -> Result<()> {
    operator.process().signal(Signal::Term);
    let ended = timeout(PATIENCE, operator.process().wait()).await;
    let ended = ended.with_context(|| operator.log())?;
    ensure!(ended.code() == Some(0), "{ended}\n{}", operator.log());
    Ok(())
}

#[tokio::test]
async fn all_groups_run_while_the_number_of_shards_changes() -> Result<()> {
    let mut fixture = Fixture::without_operator("shards-fewer").await?;
    fixture.elect().await?;
    let witness = Witness::start(fixture.pods()).await?;
    fixture.work("true", json!({})).await?;
    for number in 0..GROUPS {
        create(&fixture, number).await?;
    }
    let mut operators = start(&mut fixture, &["0/3", "1/3", "2/3"]).await?;
    until_all_run(&fixture, &operators).await?;
    stop(operators.remove(2)).await?;
    until_all_run(&fixture, &operators).await?;
    for shard in ["1/2", "0/2"] {
        stop(operators.remove(0)).await?;
        until_all_run(&fixture, &operators).await?;
        operators.extend(start(&mut fixture, &[shard]).await?);
        until_all_run(&fixture, &operators).await?;
    }
    until_live(&operators, 2.0).await?;
    until_all_run(&fixture, &operators).await?;
    witness.runs()?;
    Ok(())
}

#[tokio::test]
async fn stateful_set_runs_the_pods_of_the_deployment_with_their_shards() -> Result<()> {
    let mut expected = documents("02-oaat-operator-deployment.yaml")?.pop();
    let expected = expected.as_mut().context("no Deployment")?;
    expected["kind"] = "StatefulSet".into();
    expected["spec"]["replicas"] = 3.into();
    expected["spec"]["serviceName"] = "oaat-operator".into();
    expected["spec"]["podManagementPolicy"] = "Parallel".into();
    let pod = &mut expected["spec"]["template"]["spec"];
    pod["topologySpreadConstraints"] = json!([{
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": { "matchLabels": { "app.kubernetes.io/name": "oaat-operator" } },
    }]);
    let container = &mut pod["containers"][0];
    container["args"] = json!(["run", "--shard=$(POD_INDEX)/3"]);
    let index = json!({ "fieldPath": "metadata.labels['apps.kubernetes.io/pod-index']" });
    let index = json!({ "name": "POD_INDEX", "valueFrom": { "fieldRef": index } });
    let env = container["env"].as_array_mut().context("no variables")?;
    env.insert(2, index);
    let set = documents("sharding/statefulset.yaml")?.remove(0);
    ensure!(set == *expected, "{set:#}\nis not\n{expected:#}");
    let (plane, ..) = shared().await?;
    let args = ["apply", "--dry-run=server", "--validate=strict", "-f", "-"];
    let set = set.to_string();
    plane
        .kubectl_as(plane.admin_kubeconfig(), &args, &set)
        .await?;
    Ok(())
}

#[tokio::test]
async fn flow_schema_applies_to_the_shipped_service_account() -> Result<()> {
    let schema = documents("priority-and-fairness.yaml")?.remove(0);
    let account = documents("02-oaat-operator-deployment.yaml")?;
    let account = account.iter().find(|d| d["kind"] == "ServiceAccount");
    let account = &account.context("no ServiceAccount")?["metadata"];
    let subject = &schema["spec"]["rules"][0]["subjects"][0]["serviceAccount"];
    for field in ["name", "namespace"] {
        ensure!(subject[field] == account[field], "{subject}");
    }
    let (plane, ..) = shared().await?;
    let admin = plane.admin_kubeconfig();
    let args = ["apply", "--validate=strict", "-f", "-"];
    plane.kubectl_as(admin, &args, &schema.to_string()).await?;
    // The priority level exists.
    let wait = [
        "wait",
        "flowschema/oaat-operator",
        "--for=condition=Dangling=False",
        "--timeout=300s",
    ];
    plane.kubectl(&wait).await?;
    Ok(())
}

#[tokio::test]
async fn shard_without_leader_election_is_rejected() -> Result<()> {
    let mut fixture = Fixture::without_operator("shards-bad").await?;
    fixture.options.more = vec!["--shard".into(), "0/3".into()];
    let error = fixture.start_operator().await.err().context("it started")?;
    let words = "--shard: requires leader election; set --leader-elect (OAAT_LEADER_ELECT) to true";
    ensure!(error.to_string().contains(words), "{error:#}");
    Ok(())
}
