use crate::fixture::{Fixture, PATIENCE, item, say};
use crate::helpers::{GROUP_LABEL, refuse_pods};
use anyhow::{Context, Result, ensure};
use futures::future;
use http::Method;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;
use oaat_tests::proxy::{Fate, Proxy};
use oaat_tests::witness::{Witness, overlaps};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// The items of one group: two that succeed, one that fails, and one whose pod is rejected.
const ITEMS: [&str; 4] = ["a", "b", "bad", "refused"];
/// The kinds of writes, and the minimum number of each in the scenario. Of a, b, bad, refused, and
/// stuck, the rejected one is neither claimed nor opened. Each claim except the first of a group
/// also records the previous run. The rejection, the last result of each group, and the start
/// timeout are separate writes. Of three pods of the one group, two are kept; the stuck pod is
/// deleted.
const KINDS: [(&str, u64); 4] = [
    ("create a pod", 5),
    ("write a status", 4 + 3),
    ("open a gate", 4),
    ("delete a pod", 2),
];

/// Returns whether every item has run once and all pods are cleaned up.
fn done(group: &Value) -> bool {
    let ended = |name: &&str, how: &str| item(group, name)[how].is_string();
    let ran = |name: &&str| ended(name, "lastSuccess") || ended(name, "lastFailure");
    group["status"]["current"].is_null() && ITEMS.iter().all(ran)
}

fn once_each(group: &Value) -> bool {
    let succeeded = |name| item(group, name)["lastSuccess"].is_string();
    let failed = |name| item(group, name)["failures"] == 1;
    let history = group["status"]["history"].as_array();
    history.is_some_and(|runs| runs.len() == ITEMS.len())
        && succeeded("a")
        && succeeded("b")
        && failed("bad")
        && failed("refused")
}

/// Returns whether the only item failed once because it did not start in time.
fn gave_up(group: &Value) -> bool {
    let history = group["status"]["history"].as_array();
    group["status"]["current"].is_null()
        && item(group, "stuck")["failures"] == 1
        && history.is_some_and(|runs| runs.len() == 1 && runs[0]["reason"] == "StartTimeout")
}

/// Makes the API server reject the pods of one item, as an administrator's rule would.
async fn refuse(fixture: &Fixture) -> Result<()> {
    let validation = json!({
        "expression": "object.metadata.?annotations['oaat.kawaja.net/item'].orValue('') != 'refused'",
        "message": "rejected by the test",
    });
    refuse_pods(fixture, validation, "refused").await
}

/// Creates a group of type `work`, or of a type that fits no node.
async fn apply(fixture: &Fixture, name: &str, spec: Value) -> Result<()> {
    let group = json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
        "metadata": { "name": name }, "spec": spec,
    });
    fixture.apply(&group.to_string()).await?;
    Ok(())
}

async fn apply_main(fixture: &Fixture, name: &str, items: &[&str]) -> Result<()> {
    let spec = json!({ "oaatType": "work", "oaatItems": items, "podHistoryLimit": 1,
        "failureCoolOff": "24h" });
    apply(fixture, name, spec).await
}

/// Continues the scenario one step at a time, so that the writes always have the same order: a
/// rejected item, three more items, and a group that does not start in time. Returns whether
/// everything is done and cleaned up.
async fn advance(fixture: &Fixture, name: &str) -> Result<bool> {
    let main = fixture.read(name).await?;
    let listed = main["spec"]["oaatItems"].as_array().map_or(0, Vec::len);
    if listed == 1 {
        if item(&main, "refused")["failures"] == 1 {
            apply_main(fixture, name, &ITEMS).await?;
        }
        return Ok(false);
    }
    let pods = fixture.pods().list(&ListParams::default()).await?.items;
    let of = |group: &str| {
        let of = |pod: &&Pod| pod.labels().get(GROUP_LABEL).is_some_and(|of| of == group);
        pods.iter().filter(of).count()
    };
    // The latest pod, and that of the failed item.
    if !done(&main) || of(name) > 2 {
        return Ok(false);
    }
    let stuck = format!("{name}-stuck");
    let Some(group) = fixture.api("OaatGroup").get_opt(&stuck).await? else {
        let spec = json!({ "oaatType": "nowhere", "oaatItems": ["stuck"], "startTimeout": "1s",
            "failureCoolOff": "24h" });
        apply(fixture, &stuck, spec).await?;
        return Ok(false);
    };
    Ok(gave_up(&serde_json::to_value(group)?) && of(&stuck) == 0)
}

#[tokio::test]
async fn operator_killed_at_any_write_loses_and_repeats_no_run() -> Result<()> {
    // By kind, because on a busy machine other writes come in between: a message changes, or a
    // reconcile comes early. Each kind has its own namespaces, in parallel.
    let lanes = KINDS.into_iter().flat_map(|(kind, least)| {
        let lane = move |after| async move {
            let kills = lane_of_kills(kind, after).await?;
            ensure!(kills >= least, "{kind}: {kills} kills, after: {after}");
            anyhow::Ok(kills)
        };
        [lane(false), lane(true)]
    });
    let kills: u64 = future::try_join_all(lanes).await?.into_iter().sum();
    say(&format!(
        "killed before and after every write: {kills} kills"
    ));
    Ok(())
}

/// Kills operators at the first write of a kind, at the second, and so on. Returns the number of
/// kills.
async fn lane_of_kills(meant: &'static str, after: bool) -> Result<u64> {
    let (when, kill) = if after {
        ("after", Fate::KillsAfter)
    } else {
        ("before", Fate::KillsBefore)
    };
    let name = format!("every-{}-{when}", meant.replace(' ', "-"));
    let mut fixture = Fixture::without_operator(&name).await?;
    let witness = Witness::start(fixture.pods()).await?;
    // The number of the write at which to kill, and the number of such writes so far.
    let fate: Arc<Mutex<(Option<u64>, u64)>> = Arc::default();
    let proxy = Proxy::start(&fixture.options.kubeconfig, {
        let fate = Arc::clone(&fate);
        move |seen| {
            if seen.write.is_none() || kind(&seen.method, seen.uri.path()) != meant {
                return Fate::Passes;
            }
            let mut fate = fate.lock().expect("the fate");
            fate.1 += 1;
            if fate.0 == Some(fate.1) {
                return kill;
            }
            Fate::Passes
        }
    })
    .await?;
    let set = |new| *fate.lock().expect("the fate") = (new, 0);
    let count = || fate.lock().expect("the fate").1;
    fixture.options.kubeconfig = proxy.kubeconfig().to_owned();
    refuse(&fixture).await?;
    fixture.work("[ $OAAT_ITEM != bad ]", json!({})).await?;
    let nowhere = json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatType", "metadata": { "name": "nowhere" },
        "spec": { "type": "pod", "podspec": {
            "nodeSelector": { "disk": "golden" },
            "container": { "name": "main", "image": "any", "command": ["true"] },
        } },
    });
    fixture.apply(&nowhere.to_string()).await?;
    let mut kills = 0;
    for write in 1.. {
        let name = format!("{when}-{write}");
        fixture.start_operator().await?;
        proxy.watch_over(fixture.operator().process().pid());
        set(Some(write));
        apply_main(&fixture, &name, &["refused"]).await?;
        let start = Instant::now();
        let killed = loop {
            if !fixture.operator().process().is_running() {
                break true;
            }
            if advance(&fixture, &name).await? && count() < write {
                break false;
            }
            ensure!(start.elapsed() < 3 * PATIENCE, "{name} is not done");
            sleep(Duration::from_millis(50)).await;
        };
        set(None);
        let log = fixture.operator().log();
        fixture.take_operator().kill().await;
        if killed {
            let by_us = proxy.killed_at();
            by_us.with_context(|| format!("{name}: the operator exited by itself:\n{log}"))?;
            kills += 1;
            fixture.start_operator().await?;
            let start = Instant::now();
            while !advance(&fixture, &name).await? {
                ensure!(
                    start.elapsed() < 3 * PATIENCE,
                    "{name}: {:#}\n{}",
                    fixture.read(&name).await?,
                    fixture.operator().log()
                );
                sleep(Duration::from_millis(50)).await;
            }
            fixture.take_operator().kill().await;
        }
        let group = fixture.read(&name).await?;
        ensure!(once_each(&group), "{name}: {group:#}");
        let opened = witness.runs()?;
        let overlap = overlaps(&fixture.node.runs(), &opened);
        ensure!(overlap.is_empty(), "{}", overlap.join("\n"));
        // A pod that was claimed just before its operator was killed may time out while it is still
        // gated.
        for (group, least, most) in [(name.clone(), 3, 3), (format!("{name}-stuck"), 0, 1)] {
            let pods: Vec<_> = opened.iter().filter(|pod| pod.group == group).collect();
            ensure!((least..=most).contains(&pods.len()), "{group}: {pods:#?}");
            fixture.kubectl(&["delete", "oaatgroup", &group]).await?;
        }
        if !killed {
            break;
        }
    }
    Ok(kills)
}

fn kind(method: &Method, path: &str) -> &'static str {
    match (method, path.contains("/oaatgroups")) {
        (_, true) => "write a status",
        (&Method::POST, _) => "create a pod",
        (&Method::DELETE, _) => "delete a pod",
        _ => "open a gate",
    }
}
