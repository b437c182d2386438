use crate::fixture::{Fixture, PATIENCE, item};
use crate::helpers::text;
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

/// Longer than the lease duration.
const ASLEEP: Duration = Duration::from_secs(25);

const ITEMS: [&str; 3] = ["a", "b", "c"];

fn run(group: &Value) -> i64 {
    group["status"]["run"].as_i64().unwrap_or(0)
}

#[tokio::test]
async fn paused_leader_with_a_write_in_transit_starts_no_second_pod() -> Result<()> {
    let patch = |seen: &Seen, kind| seen.method == Method::PATCH && seen.uri.path().contains(kind);
    // The claim is the write of the group that follows the creation of a candidate.
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

/// Pauses a leader whose next such write is in transit, until another replica has taken over and
/// the write has arrived.
async fn freeze(
    namespace: &str,
    meant: impl Fn(&Seen) -> bool + Send + Sync + 'static,
) -> Result<()> {
    let mut fixture = Fixture::without_operator(namespace).await?;
    fixture.elect().await?;
    let witness = Witness::start(fixture.pods()).await?;
    let direct = fixture.options.kubeconfig.clone();
    let (hold, held) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let proxy = Proxy::start(&direct, {
        let (hold, held) = (Arc::clone(&hold), Arc::clone(&held));
        move |seen| {
            // Evaluated for every write, so that it knows the earlier ones.
            let meant = seen.write.is_some() && meant(seen);
            if meant && hold.load(Ordering::SeqCst) {
                held.fetch_add(1, Ordering::SeqCst);
                return Fate::Late(ASLEEP);
            }
            Fate::Passes
        }
    })
    .await?;
    fixture.options.kubeconfig = proxy.kubeconfig().to_owned();
    fixture.work("sleep 0.2", json!({})).await?;
    fixture.start_operator().await?;
    fixture.group(&ITEMS, json!({ "frequency": "1s" })).await?;
    fixture
        .until("the leader starts runs", |group| run(group) >= 2)
        .await?;
    fixture.options.kubeconfig = direct;
    fixture.start_operator().await?;

    hold.store(true, Ordering::SeqCst);
    let start = Instant::now();
    while held.load(Ordering::SeqCst) == 0 {
        ensure!(
            start.elapsed() < PATIENCE,
            "the leader did not send the expected write"
        );
        sleep(Duration::from_millis(5)).await;
    }
    let frozen = fixture.take_first_operator();
    frozen.process().signal(Signal::Stop);
    let at = run(&fixture.read("group").await?);
    fixture
        .until("the other has taken over", |group| run(group) >= at + 3)
        .await?;
    sleep(ASLEEP).await;
    hold.store(false, Ordering::SeqCst);
    let at = run(&fixture.read("group").await?);
    frozen.process().signal(Signal::Continue);
    let status = frozen.process().wait().await;
    ensure!(
        status.code() == Some(1),
        "the replica that lost the lease: {status}"
    );
    let log = frozen.log();
    ensure!(log.contains("lost the lease"), "{log}");
    fixture
        .until("the group continues to run", |group| run(group) >= at + 3)
        .await?;
    let rest = json!({ "frequency": "24h" });
    fixture.group(&ITEMS, rest).await?;
    let group = fixture
        .until("the group is idle", |group| {
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
    let overlap = overlaps(&fixture.node.runs(), &opened);
    ensure!(overlap.is_empty(), "{}", overlap.join("\n"));
    Ok(())
}
