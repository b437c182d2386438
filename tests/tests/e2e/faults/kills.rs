use crate::by_hand::GROUP_LABEL;
use crate::world::{PATIENCE, World, item, say};
use anyhow::{Context, Result, ensure};
use futures::future;
use http::Method;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{ListParams, PostParams};
use oaat_tests::proxy::{Fate, Proxy};
use oaat_tests::witness::{Witness, overlaps};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Items of one group: two that succeed, one that fails, and one whose pod is refused.
const ITEMS: [&str; 4] = ["a", "b", "bad", "refused"];
/// Kinds of writes, and how many of each the scenario has at least. Of a, b, bad, refused, stuck
/// the refused one is neither claimed nor opened. Each claim but the first of a group records the
/// end of the run before; the refusal, the last end of each group and the giving up are writes of
/// their own. Of three pods of the one group one is kept, and the one that is stuck is deleted.
const KINDS: [(&str, u64); 4] = [
    ("create a pod", 5),
    ("write a status", 4 + 3),
    ("open a gate", 4),
    ("delete a pod", 3),
];

/// One whose every item has run once and whose pods are cleared away.
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

/// One whose only item does not get to start has failed once for that.
fn gave_up(group: &Value) -> bool {
    let history = group["status"]["history"].as_array();
    group["status"]["current"].is_null()
        && item(group, "stuck")["failures"] == 1
        && history.is_some_and(|runs| runs.len() == 1 && runs[0]["reason"] == "StartTimeout")
}

/// Pods of one item are refused, as by an administrator's rule.
async fn refuse(world: &World) -> Result<()> {
    let name = &world.namespace;
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": { "name": name },
        "spec": {
            "matchConstraints": { "resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"],
            }] },
            "validations": [{
                "expression": "!has(object.metadata.annotations) || \
                    !('oaat.kawaja.net/item' in object.metadata.annotations) || \
                    object.metadata.annotations['oaat.kawaja.net/item'] != 'refused'",
                "message": "not this one",
            }],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": { "name": name },
        "spec": {
            "policyName": name, "validationActions": ["Deny"],
            "matchResources": { "namespaceSelector": { "matchLabels": {
                "kubernetes.io/metadata.name": name,
            } } },
        },
    });
    world.plane.apply(&policy.to_string()).await?;
    world.plane.apply(&binding.to_string()).await?;
    let trial: Pod = serde_json::from_value(json!({
        "metadata": { "name": "trial", "annotations": { "oaat.kawaja.net/item": "refused" } },
        "spec": { "containers": [{ "name": "main", "image": "any" }] },
    }))?;
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let start = Instant::now();
    while world.pods().create(&params, &trial).await.is_ok() {
        ensure!(start.elapsed() < PATIENCE, "the rule does not take effect");
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// A group of type `work`, or of one that no node is good enough for.
async fn apply(world: &World, name: &str, spec: Value) -> Result<()> {
    let group = json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
        "metadata": { "name": name }, "spec": spec,
    });
    world.apply(&group.to_string()).await?;
    Ok(())
}

async fn apply_main(world: &World, name: &str, items: &[&str]) -> Result<()> {
    let spec = json!({ "oaatType": "work", "oaatItems": items, "podHistoryLimit": 1,
        "failureCoolOff": "24h" });
    apply(world, name, spec).await
}

/// Goes on with the scenario where it is, one thing after the other so that the writes come in the
/// same order each time: an item that is refused, three more, and a group that does not get to
/// start. Says whether all is done, and what is not to be kept is gone.
async fn advance(world: &World, name: &str) -> Result<bool> {
    let main = world.read(name).await?;
    let listed = main["spec"]["oaatItems"].as_array().map_or(0, Vec::len);
    if listed == 1 {
        if item(&main, "refused")["failures"] == 1 {
            apply_main(world, name, &ITEMS).await?;
        }
        return Ok(false);
    }
    let pods = world.pods().list(&ListParams::default()).await?.items;
    let of = |group: &str| {
        let of = |pod: &&Pod| pod.labels().get(GROUP_LABEL).is_some_and(|of| of == group);
        pods.iter().filter(of).count()
    };
    if !done(&main) || of(name) > 1 {
        return Ok(false);
    }
    let stuck = format!("{name}-stuck");
    let Some(group) = world.api("OaatGroup").get_opt(&stuck).await? else {
        let spec = json!({ "oaatType": "nowhere", "oaatItems": ["stuck"], "startTimeout": "1s",
            "failureCoolOff": "24h" });
        apply(world, &stuck, spec).await?;
        return Ok(false);
    };
    Ok(gave_up(&serde_json::to_value(group)?) && of(&stuck) == 0)
}

#[tokio::test]
async fn an_operator_killed_at_any_write_loses_nothing_and_repeats_nothing() -> Result<()> {
    // By kind, since others come in between when the machine is busy: a message changes, or a
    // look comes too early. In places of their own, side by side.
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

/// Kills operators at the first write of a kind, at the second, and so on, and says how often.
async fn lane_of_kills(meant: &'static str, after: bool) -> Result<u64> {
    let (when, kill) = if after {
        ("after", Fate::KillsAfter)
    } else {
        ("before", Fate::KillsBefore)
    };
    let place = format!("every-{}-{when}", meant.replace(' ', "-"));
    let mut world = World::without_operator(&place).await?;
    let witness = Witness::start(world.pods()).await?;
    // Which of them is the last one, and how many there were.
    let fate: Arc<Mutex<(Option<u64>, u64)>> = Arc::default();
    let proxy = Proxy::start(&world.options.kubeconfig, {
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
    world.options.kubeconfig = proxy.kubeconfig().to_owned();
    refuse(&world).await?;
    world.work("[ $OAAT_ITEM != bad ]", json!({})).await?;
    let nowhere = json!({
        "apiVersion": "kawaja.net/v1", "kind": "OaatType", "metadata": { "name": "nowhere" },
        "spec": { "type": "pod", "podspec": {
            "nodeSelector": { "disk": "golden" },
            "container": { "name": "main", "image": "any", "command": ["true"] },
        } },
    });
    world.apply(&nowhere.to_string()).await?;
    let mut kills = 0;
    for write in 1.. {
        let name = format!("{when}-{write}");
        world.start_operator().await?;
        proxy.watch_over(world.operator().process().pid());
        set(Some(write));
        apply_main(&world, &name, &["refused"]).await?;
        let start = Instant::now();
        let killed = loop {
            if !world.operator().process().is_running() {
                break true;
            }
            if advance(&world, &name).await? && count() < write {
                break false;
            }
            ensure!(start.elapsed() < 3 * PATIENCE, "{name} is not done");
            sleep(Duration::from_millis(50)).await;
        };
        set(None);
        let log = world.operator().log();
        world.take_operator().kill().await;
        if killed {
            let by_us = proxy.killed_at();
            by_us.with_context(|| format!("{name}: it died by itself:\n{log}"))?;
            kills += 1;
            world.start_operator().await?;
            let start = Instant::now();
            while !advance(&world, &name).await? {
                ensure!(
                    start.elapsed() < 3 * PATIENCE,
                    "{name}: {:#}\n{}",
                    world.read(&name).await?,
                    world.operator().log()
                );
                sleep(Duration::from_millis(50)).await;
            }
            world.take_operator().kill().await;
        }
        let group = world.read(&name).await?;
        ensure!(once_each(&group), "{name}: {group:#}");
        let opened = witness.runs()?;
        let overlap = overlaps(&world.node.runs(), &opened);
        ensure!(overlap.is_empty(), "{}", overlap.join("\n"));
        // One that was claimed just before its operator was killed may be given up still shut.
        for (group, least, most) in [(name.clone(), 3, 3), (format!("{name}-stuck"), 0, 1)] {
            let pods: Vec<_> = opened.iter().filter(|pod| pod.group == group).collect();
            ensure!((least..=most).contains(&pods.len()), "{group}: {pods:#?}");
            world.kubectl(&["delete", "oaatgroup", &group]).await?;
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
