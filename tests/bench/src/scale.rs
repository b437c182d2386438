//! Many idle groups: their first status, the operator's memory, and its next start.

use crate::election::until_it_starts_runs;
use crate::handover::{groups, node, operator_options, rss};
use crate::report::Report;
use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{DynamicObject, PostParams};
use oaat_tests::{ControlPlane, Operator};
use serde_json::{Value, json};
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// The number of items of a group.
const ITEMS: usize = 20;
/// The namespace of the idle groups.
const IDLE_NAMESPACE: &str = "scale-idle";
/// The namespace of the group that is due.
const DUE_NAMESPACE: &str = "scale-due";
/// The timeout for a change of all groups.
const PATIENCE: Duration = Duration::from_secs(900);

pub async fn measure(
    plane: &ControlPlane,
    kubeconfig: &Path,
    count: usize,
    report: &mut Report,
) -> Result<()> {
    let options = operator_options(plane, kubeconfig, Vec::new())?;
    println!("{count} suspended groups of {ITEMS} items:");
    let base = {
        let operator = Operator::start(&options).await?;
        sleep(Duration::from_secs(2)).await;
        let base = rss(operator.process().pid())?;
        operator.stop().await;
        base
    };
    plane.namespace(IDLE_NAMESPACE).await?;
    create_groups(plane, IDLE_NAMESPACE, 0..count).await?;
    plane.apply(&type_(IDLE_NAMESPACE).to_string()).await?;

    let began = Instant::now();
    let first = Operator::start(&options).await?;
    until_requests(&first, "patch", count).await?;
    let seconds = began.elapsed().as_secs_f64();
    report.at_most("first status of all idle groups", seconds, "s", None);
    let per_group = requests(&first).await? / count as f64;
    report.at_most(
        "requests for the first status of a group",
        per_group,
        "",
        None,
    );
    sleep(Duration::from_secs(5)).await;
    let pid = first.process().pid();
    report.at_most("memory with idle groups", rss(pid)?, "MB", 100.0);
    report.at_most("memory with idle groups, peak", peak(pid)?, "MB", None);
    let per_group = (rss(pid)? - base) * 1024.0 / count as f64;
    report.at_most("memory per idle group", per_group, "KB", 5.0);
    first.stop().await;

    let _node = node(plane, DUE_NAMESPACE).await?;
    plane.apply(&type_(DUE_NAMESPACE).to_string()).await?;
    let due = group(DUE_NAMESPACE, "due", 1, false);
    plane.apply(&due.to_string()).await?;
    let began = Instant::now();
    let next = Operator::start(&options).await?;
    until_it_starts_runs(&next).await?;
    let seconds = began.elapsed().as_secs_f64();
    report.at_most("restart until a due item starts", seconds, "s", 5.0);
    let mut sent = requests(&next).await?;
    loop {
        sleep(Duration::from_secs(3)).await;
        let now = requests(&next).await?;
        if now == sent {
            break;
        }
        sent = now;
    }
    report.at_most(
        "requests of the restart beyond lists and watches",
        sent,
        "",
        200.0,
    );
    report.at_most(
        "memory after the restart",
        rss(next.process().pid())?,
        "MB",
        100.0,
    );
    sleep(Duration::from_secs(10)).await;
    let idle = requests(&next).await? - sent;
    report.at_most("requests of idle groups in 10 s", idle, "", 0.0);
    next.stop().await;
    Ok(())
}

/// Returns the peak of the resident memory of a process in megabytes.
fn peak(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    let kilobytes: f64 = kilobytes.context("the status has no VmHWM")?.parse()?;
    Ok(kilobytes / 1024.0)
}

/// Returns the number of requests so far that are neither lists, watches, events, nor leases.
async fn requests(operator: &Operator) -> Result<f64> {
    let count = async |labels: &[&str]| operator.metric("oaat_api_requests_total", labels).await;
    let mut requests = count(&[]).await?;
    for label in ["\"list\"", "\"watch\"", "\"events\"", "\"leases\""] {
        requests -= count(&[label]).await?;
    }
    Ok(requests)
}

/// Waits until the operator has sent a request with this verb for each group.
pub async fn until_requests(operator: &Operator, verb: &str, count: usize) -> Result<()> {
    let labels = [format!("\"{verb}\""), "\"oaatgroups\"".into()];
    let labels = [&*labels[0], &*labels[1]];
    let start = Instant::now();
    while operator.metric("oaat_api_requests_total", &labels).await? < count as f64 {
        if start.elapsed() > PATIENCE {
            bail!("not all groups have a status:\n{}", operator.last_log(30));
        }
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Creates suspended groups with these numbers in a namespace.
pub async fn create_groups(
    plane: &ControlPlane,
    namespace: &str,
    numbers: Range<usize>,
) -> Result<()> {
    let api = groups(&plane.admin(), namespace);
    let create = |number: usize| {
        let api = api.clone();
        async move {
            let name = format!("group-{number:05}");
            let group: DynamicObject =
                serde_json::from_value(group(namespace, &name, ITEMS, true))?;
            api.create(&PostParams::default(), &group).await?;
            anyhow::Ok(())
        }
    };
    let creations = stream::iter(numbers).map(create);
    creations.buffer_unordered(16).try_collect().await
}

/// Returns the OaatType `work`, whose pods end at once.
pub fn type_(namespace: &str) -> Value {
    json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatType",
        "metadata": { "name": "work", "namespace": namespace },
        "spec": { "type": "pod", "podspec": { "container": { "name": "main", "image": "any", "command": ["true"] } } },
    })
}

/// Returns a group with this number of items.
pub fn group(namespace: &str, name: &str, items: usize, suspend: bool) -> Value {
    let items: Vec<_> = (0..items).map(|number| format!("item-{number}")).collect();
    json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
        "metadata": { "name": name, "namespace": namespace },
        "spec": { "oaatType": "work", "oaatItems": items, "suspend": suspend, "frequency": "30days" },
    })
}
