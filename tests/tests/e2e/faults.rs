//! The promise under faults, on the real API server: operators that are killed at every write
//! and at random, frozen past their lease, and behind connections that break.

use crate::by_hand::text;
use crate::world::{THE_LEASE, World, item, shared};
use anyhow::{Context, Result, ensure};
use oaat_tests::proxy::{Fate, Proxy};
use oaat_tests::storm::{StormOptions, storm};
use oaat_tests::witness::Witness;
use oaat_tests::{Options, Signal, operator};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::sleep;

const ITEMS: [&str; 3] = ["a", "b", "bad"];

fn done(group: &Value) -> bool {
    let ran = |name: &&str| item(group, name)["runs"].as_i64() >= Some(1);
    group["status"]["current"].is_null() && ITEMS.iter().all(ran)
}

fn once_each(group: &Value) -> bool {
    ITEMS.iter().all(|name| item(group, name)["runs"] == 1)
        && item(group, "bad")["failures"] == 1
        && item(group, "a")["lastSuccess"].is_string()
        && item(group, "b")["lastSuccess"].is_string()
}

#[tokio::test]
async fn an_operator_killed_at_any_write_loses_nothing_and_repeats_nothing() -> Result<()> {
    let mut world = World::without_operator("every-write").await?;
    let witness = Witness::start(world.pods()).await?;
    let fate: Arc<Mutex<Option<(u64, Fate)>>> = Arc::default();
    let proxy = Proxy::start(&world.options.kubeconfig, {
        let fate = Arc::clone(&fate);
        move |seen| match *fate.lock().expect("the fate") {
            Some((write, fate)) if seen.write == Some(write) => fate,
            _ => Fate::Passes,
        }
    })
    .await?;
    let set = |new| *fate.lock().expect("the fate") = new;
    world.options.kubeconfig = proxy.kubeconfig().to_owned();
    world.work("[ $OAAT_ITEM != bad ]", json!({})).await?;
    let mut kills = 0;
    for (when, kill) in [("before", Fate::KillsBefore), ("after", Fate::KillsAfter)] {
        for write in 1.. {
            let name = format!("{when}-{write}");
            world.start_operator().await?;
            proxy.watch_over(world.operator().process().pid());
            set(Some((write, kill)));
            let spec = json!({ "oaatType": "work", "oaatItems": ITEMS, "podHistoryLimit": 1,
                "failureCoolOff": "24h" });
            let group = json!({
                "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
                "metadata": { "name": name }, "spec": spec,
            });
            world.apply(&group.to_string()).await?;
            let killed = loop {
                if !world.operator().process().is_running() {
                    break true;
                }
                if done(&world.read(&name).await?) && proxy.writes() < write {
                    break false;
                }
                sleep(Duration::from_millis(50)).await;
            };
            set(None);
            if killed {
                kills += 1;
                world.take_operator().kill().await;
                world.start_operator().await?;
            }
            let words = format!("every item runs although the operator was killed {name}");
            let group = world.until_object("OaatGroup", &name, &words, done).await?;
            ensure!(once_each(&group), "{name}: {group:#}");
            world.take_operator().kill().await;
            world.kubectl(&["delete", "oaatgroup", &name]).await?;
            let opened = witness.runs()?;
            let opened: Vec<_> = opened.iter().filter(|pod| pod.group == name).collect();
            ensure!(opened.len() == ITEMS.len(), "{name}: {opened:#?}");
            if !killed {
                break;
            }
        }
    }
    println!("{kills} kills at {} writes", kills / 2);
    // Three candidates, claims and openings, the end of the last run, and what is cleared away.
    ensure!(kills >= 2 * 11, "{kills} kills");
    Ok(())
}

/// Three operators, all of which act, on the shared control plane.
fn options(kubeconfig: &Path, binary: &Path) -> StormOptions {
    StormOptions {
        binary: binary.to_owned(),
        kubeconfig: kubeconfig.to_owned(),
        namespace: "storm".into(),
        groups: 3,
        replicas: 3,
        leader_elect: false,
        kills: 100,
        lasts: Duration::ZERO,
        pause: Duration::from_millis(700),
        restarts: None,
    }
}

#[tokio::test]
async fn a_storm_over_three_operators_that_all_act() -> Result<()> {
    let (plane, kubeconfig, binary) = shared().await?;
    let report = storm(plane, options(kubeconfig, binary), |_| ()).await?;
    println!("three operators: {report:?}");
    Ok(())
}

#[tokio::test]
async fn a_storm_over_operators_that_elect_a_leader() -> Result<()> {
    let _alone = THE_LEASE.lock().await;
    let (plane, kubeconfig, binary) = shared().await?;
    let options = StormOptions {
        namespace: "storm-elected".into(),
        replicas: 2,
        leader_elect: true,
        kills: 20,
        pause: Duration::from_secs(4),
        ..options(kubeconfig, binary)
    };
    let report = storm(plane, options, |_| ()).await?;
    println!("with an election: {report:?}");
    Ok(())
}

#[tokio::test]
async fn a_storm_over_operators_and_over_the_servers() -> Result<()> {
    let (_, _, binary) = shared().await?;
    let (plane, kubeconfig) = operator::installed(Options::default()).await?;
    let options = StormOptions {
        replicas: 2,
        kills: 80,
        restarts: Some(Duration::from_secs(10)),
        ..options(&kubeconfig, binary)
    };
    let report = storm(&plane, options, |_| ()).await?;
    println!("with restarts: {report:?}");
    ensure!(report.restarts > 0);
    Ok(())
}

/// Longer than a lease holds.
const ASLEEP: Duration = Duration::from_secs(25);

#[tokio::test]
async fn a_leader_that_was_frozen_with_a_write_on_its_way_makes_no_second_pod() -> Result<()> {
    // There is one lease in a cluster.
    let mut world = World::with_own_plane("frozen-leader").await?;
    world.take_operator().kill().await;
    let witness = Witness::start(world.pods()).await?;
    let direct = world.options.kubeconfig.clone();
    world.options.leader_elect = true;
    let (hold, held) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let proxy = Proxy::start(&direct, {
        let (hold, held) = (Arc::clone(&hold), Arc::clone(&held));
        move |seen| {
            if seen.write.is_some() && hold.load(Ordering::SeqCst) {
                held.fetch_add(1, Ordering::SeqCst);
                return Fate::Late(ASLEEP);
            }
            Fate::Passes
        }
    })
    .await?;
    world.options.kubeconfig = proxy.kubeconfig().to_owned();
    world.work("sleep 0.2", json!({})).await?;
    world.start_operator().await?;
    world
        .group(&["a", "b", "c"], json!({ "frequency": "1s" }))
        .await?;
    let run = |group: &Value| group["status"]["run"].as_i64().unwrap_or(0);
    world
        .until("the leader acts", |group| run(group) >= 2)
        .await?;
    world.options.kubeconfig = direct;
    world.start_operator().await?;

    hold.store(true, Ordering::SeqCst);
    while held.load(Ordering::SeqCst) == 0 {
        sleep(Duration::from_millis(10)).await;
    }
    let frozen = world.take_first_operator();
    frozen.process().signal(Signal::Stop);
    let at = run(&world.read("group").await?);
    world
        .until("the other has taken over", |group| run(group) >= at + 3)
        .await?;
    sleep(ASLEEP).await;
    hold.store(false, Ordering::SeqCst);
    let at = run(&world.read("group").await?);
    frozen.process().signal(Signal::Continue);
    let status = frozen.process().wait().await;
    ensure!(
        !status.success(),
        "who has lost the lease says so: {status}"
    );
    let log = frozen.log();
    ensure!(log.contains("lease"), "{log}");
    let group = world
        .until("runs go on", |group| run(group) >= at + 3)
        .await?;
    let opened = witness.runs()?;
    let known = text(&group["status"]["current"]["podName"]);
    let recorded: i64 = ["a", "b", "c"]
        .iter()
        .filter_map(|name| item(&group, name)["runs"].as_i64())
        .sum();
    let current = i64::from(!known.is_empty());
    ensure!(
        recorded + current == run(&group),
        "{} opened: {group:#}",
        opened.len()
    );
    opened.first().context("nothing was opened")?;
    Ok(())
}
