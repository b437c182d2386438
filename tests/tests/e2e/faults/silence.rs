use crate::world::{World, item};
use anyhow::{Context, Result, ensure};
use http::Method;
use oaat_tests::Signal;
use oaat_tests::proxy::{Fate, Proxy, Seen};
use oaat_tests::witness::Witness;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// Some waits of the operator for a sign of life, one after the other.
const PATIENCE: Duration = Duration::from_secs(300);

/// What a request is to the operator; each kind is met once.
fn kind(seen: &Seen) -> Option<String> {
    let path = seen.uri.path().to_owned();
    let query = seen.uri.query().unwrap_or_default();
    let things = ["/version", "/oaatgroups", "/oaattypes", "/pods"];
    let thing = things.iter().find(|thing| path.contains(*thing))?;
    let how = if query.contains("watch=true") {
        "watch"
    } else if path.ends_with(thing) {
        "list"
    } else {
        "get"
    };
    (seen.method == Method::GET).then(|| format!("{how} {thing}"))
}

/// The first request of each kind that reads meets this fate; the operator goes on by itself.
async fn first_reads(namespace: &str, fate: Fate) -> Result<()> {
    let mut world = World::without_operator(namespace).await?;
    let witness = Witness::start(world.pods()).await?;
    let met: Arc<Mutex<BTreeMap<String, u32>>> = Arc::default();
    let proxy = Proxy::start(&world.options.kubeconfig, {
        let met = Arc::clone(&met);
        move |seen| {
            let Some(kind) = kind(seen) else {
                return Fate::Passes;
            };
            // What a watch that has begun may leave out is known only when it ends.
            if fate == Fate::Stalls && kind.starts_with("watch") {
                return Fate::Passes;
            }
            let mut met = met.lock().expect("what was met");
            let count = met.entry(kind).or_insert(0);
            *count += 1;
            if *count == 1 { fate } else { Fate::Passes }
        }
    })
    .await?;
    world.options.kubeconfig = proxy.kubeconfig().to_owned();
    world.work("true", json!({})).await?;
    world.group(&["a", "b"], json!({})).await?;
    world.start_operator().await?;
    let start = Instant::now();
    loop {
        let group = world.read("group").await?;
        let ran = |name| item(&group, name)["runs"] == 1;
        if ran("a") && ran("b") && group["status"]["state"] == "Idle" {
            break;
        }
        ensure!(
            start.elapsed() < PATIENCE,
            "{fate:?}: {group:#}\n{}",
            world.operator().log()
        );
        sleep(Duration::from_millis(200)).await;
    }
    let met = met.lock().expect("what was met").clone();
    // The first lists come with the watches.
    let watches: &[&str] = match fate {
        Fate::Stalls => &[],
        _ => &["watch /oaatgroups", "watch /oaattypes", "watch /pods"],
    };
    let reads = [
        "list /version",
        "list /pods",
        "get /oaatgroups",
        "get /oaattypes",
    ];
    for kind in reads.iter().chain(watches) {
        // Once in vain and once more.
        ensure!(met.get(*kind) >= Some(&2), "{kind}: {met:?}");
    }
    ensure!(witness.opened()?.len() == 2);
    Ok(())
}

#[tokio::test]
async fn reads_that_are_swallowed_or_end_half_way_do_not_stop_the_operator() -> Result<()> {
    tokio::try_join!(
        first_reads("reads-swallowed", Fate::Swallowed),
        first_reads("reads-cut", Fate::Cut),
        first_reads("reads-stall", Fate::Stalls),
    )?;
    Ok(())
}

#[tokio::test]
async fn an_operator_whose_lists_are_swallowed_ends_when_told_to() -> Result<()> {
    for thing in ["/oaatgroups", "/oaattypes", "/version"] {
        let name = format!("end-{}", &thing[1..]);
        let mut world = World::without_operator(&name).await?;
        let swallowed = Arc::new(Mutex::new(false));
        let proxy = Proxy::start(&world.options.kubeconfig, {
            let swallowed = Arc::clone(&swallowed);
            move |seen| {
                if !seen.uri.path().contains(thing) {
                    return Fate::Passes;
                }
                *swallowed.lock().expect("whether it was") = true;
                Fate::Swallowed
            }
        })
        .await?;
        world.options.kubeconfig = proxy.kubeconfig().to_owned();
        world.start_operator().await?;
        let start = Instant::now();
        while !*swallowed.lock().expect("whether it was") {
            ensure!(start.elapsed() < PATIENCE, "{thing} is not asked for");
            sleep(Duration::from_millis(20)).await;
        }
        let operator = world.take_operator();
        operator.process().signal(Signal::Term);
        let ended = timeout(PATIENCE, operator.process().wait()).await;
        let (ended, log) = (ended.with_context(|| operator.log())?, operator.log());
        ensure!(ended.code() == Some(0), "{thing}: {ended}\n{log}");
        ensure!(!log.contains("did not end in time"), "{thing}: {log}");
    }
    Ok(())
}
