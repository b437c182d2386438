//! The time from the end of a leader to the first run that another replica starts.

use crate::handover::{PATIENCE, groups, node};
use crate::samples::{Samples, ms};
use anyhow::{Result, bail};
use kube::api::{Patch, PatchParams};
use oaat_tests::{ControlPlane, Operator, OperatorOptions, operator};
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::time::sleep;

const NAMESPACE: &str = "election";

pub async fn measure(plane: &ControlPlane, kubeconfig: &Path) -> Result<()> {
    let _node = node(plane, NAMESPACE).await?;
    let type_ = json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatType",
        "metadata": { "name": "work", "namespace": NAMESPACE },
        "spec": { "type": "pod", "podspec": { "container": { "name": "main", "image": "any", "command": ["sleep", "0.15"] } } },
    });
    let group = json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
        "metadata": { "name": "group", "namespace": NAMESPACE },
        "spec": { "oaatType": "work", "oaatItems": ["a", "b"], "frequency": "1ms", "podHistoryLimit": 5 },
    });
    plane.apply(&type_.to_string()).await?;
    plane.apply(&group.to_string()).await?;
    let options = OperatorOptions {
        binary: operator::binary(true)?,
        kubeconfig: kubeconfig.to_owned(),
        namespaces: vec![NAMESPACE.to_owned()],
        leader_elect: true,
        retry_floor: "0s".into(),
        log_dir: plane.folder().to_owned(),
        more: Vec::new(),
    };
    println!(
        "end of the leader → first run by the other replica, with a group that always has a due item:"
    );
    let mut leader = Operator::start(&options).await?;
    until_it_starts_runs(&leader).await?;
    for (words, rounds, terminated, goal) in [
        ("by SIGTERM", 8, true, "2 s"),
        (
            "by SIGKILL",
            4,
            false,
            "the lease duration of 15 s plus 1 s",
        ),
    ] {
        let mut samples = Samples::default();
        for round in 0..rounds {
            let other = start_standby(&options).await?;
            // Varies the time since the last renewal.
            sleep(Duration::from_millis(300 + 450 * round)).await;
            let start = Instant::now();
            let (_, at) = tokio::join!(
                async {
                    if terminated {
                        leader.stop().await
                    } else {
                        leader.kill().await
                    }
                },
                until_it_starts_runs(&other)
            );
            samples.0.push(at? - start);
            leader = other;
        }
        println!(
            "  {words:<20} p50 {:>9}   max {:>9}   ({rounds} times; goal {goal})",
            ms(samples.quantile(0.5)),
            ms(samples.quantile(1.0))
        );
    }
    leader.stop().await;
    let quiet = json!({ "spec": { "suspend": true } });
    groups(&plane.admin(), NAMESPACE)
        .patch("group", &PatchParams::default(), &Patch::Merge(&quiet))
        .await?;
    Ok(())
}

/// Starts another operator that is ready and does not lead.
async fn start_standby(options: &OperatorOptions) -> Result<Operator> {
    let operator = Operator::start(options).await?;
    let start = Instant::now();
    while operator.page("/readyz").await?.0 != 200 {
        if start.elapsed() > PATIENCE {
            bail!("the operator is not ready:\n{}", operator.last_log(30));
        }
        sleep(Duration::from_millis(20)).await;
    }
    // Until it has read the lease once.
    sleep(Duration::from_secs(2)).await;
    Ok(operator)
}

/// Waits until an operator has removed the gate of a pod, and returns the time.
pub async fn until_it_starts_runs(operator: &Operator) -> Result<Instant> {
    let start = Instant::now();
    loop {
        let runs = operator.metric("oaat_runs_total", &["Started"]).await?;
        if runs > 0.0 {
            return Ok(Instant::now());
        }
        if start.elapsed() > PATIENCE {
            bail!(
                "the operator does not start a run:\n{}",
                operator.last_log(30)
            );
        }
        sleep(Duration::from_millis(5)).await;
    }
}
