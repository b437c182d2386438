use crate::by_hand::text;
use crate::world::{PATIENCE, World, item};
use anyhow::{Result, ensure};
use http::Method;
use oaat_tests::Signal;
use oaat_tests::proxy::{Fate, Proxy, Seen};
use oaat_tests::witness::{Witness, overlaps};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Longer than a lease holds.
const ASLEEP: Duration = Duration::from_secs(25);

const ITEMS: [&str; 3] = ["a", "b", "c"];

fn run(group: &Value) -> i64 {
    group["status"]["run"].as_i64().unwrap_or(0)
}

#[tokio::test]
async fn a_leader_that_was_frozen_with_a_write_on_its_way_makes_no_second_pod() -> Result<()> {
    let patch = |seen: &Seen, kind| seen.method == Method::PATCH && seen.uri.path().contains(kind);
    // A claim is what is written of the group after a candidate was made.
    let candidate = AtomicBool::new(false);
    let is_claim = move |seen: &Seen| {
        let after_candidate = candidate.swap(seen.method == Method::POST, Ordering::SeqCst);
        after_candidate && patch(seen, "/oaatgroups/")
    };
    tokio::try_join!(
        freeze("frozen-claim", is_claim),
        freeze("frozen-opening", move |seen| patch(seen, "/pods/")),
    )?;
    Ok(())
}

/// Freezes a leader whose next such write is on its way, until after another has taken over and
/// the write has landed.
async fn freeze(
    namespace: &str,
    meant: impl Fn(&Seen) -> bool + Send + Sync + 'static,
) -> Result<()> {
    let mut world = World::without_operator(namespace).await?;
    world.elect().await?;
    let witness = Witness::start(world.pods()).await?;
    let direct = world.options.kubeconfig.clone();
    let (hold, held) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let proxy = Proxy::start(&direct, {
        let (hold, held) = (Arc::clone(&hold), Arc::clone(&held));
        move |seen| {
            // Asked of every write, so that it knows what came before.
            let meant = seen.write.is_some() && meant(seen);
            if meant && hold.load(Ordering::SeqCst) {
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
    world.group(&ITEMS, json!({ "frequency": "1s" })).await?;
    world
        .until("the leader acts", |group| run(group) >= 2)
        .await?;
    world.options.kubeconfig = direct;
    world.start_operator().await?;

    hold.store(true, Ordering::SeqCst);
    let start = Instant::now();
    while held.load(Ordering::SeqCst) == 0 {
        ensure!(start.elapsed() < PATIENCE, "no such write");
        sleep(Duration::from_millis(5)).await;
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
    ensure!(status.code() == Some(1), "who has lost the lease: {status}");
    let log = frozen.log();
    ensure!(log.contains("the lease is lost"), "{log}");
    world
        .until("runs go on", |group| run(group) >= at + 3)
        .await?;
    let rest = json!({ "frequency": "24h" });
    world.group(&ITEMS, rest).await?;
    let group = world
        .until("it comes to rest", |group| {
            group["status"]["observedGeneration"] == 2 && group["status"]["current"].is_null()
        })
        .await?;
    let recorded: i64 = ITEMS
        .iter()
        .filter_map(|name| item(&group, name)["runs"].as_i64())
        .sum();
    let opened = witness.runs()?;
    ensure!(
        usize::try_from(recorded)? == opened.len() && text(&group["status"]["state"]) == "Idle",
        "{} opened: {group:#}",
        opened.len()
    );
    let overlap = overlaps(&world.node.runs(), &opened);
    ensure!(overlap.is_empty(), "{}", overlap.join("\n"));
    Ok(())
}
