use crate::fixture::{Fixture, item};
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

/// Several timeouts of the operator, one after the other.
const PATIENCE: Duration = Duration::from_secs(300);

/// Returns the kind of a request. Each kind occurs once.
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

/// Applies this fate to the first read of each kind. The operator continues without further action.
async fn first_reads(namespace: &str, fate: Fate) -> Result<()> {
    let mut fixture = Fixture::without_operator(namespace).await?;
    let witness = Witness::start(fixture.pods()).await?;
    let met: Arc<Mutex<BTreeMap<String, u32>>> = Arc::default();
    let proxy = Proxy::start(&fixture.options.kubeconfig, {
        let met = Arc::clone(&met);
        move |seen| {
            let Some(kind) = kind(seen) else {
                return Fate::Passes;
            };
            // An interrupted watch shows only at its end what it left out.
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
    fixture.options.kubeconfig = proxy.kubeconfig().to_owned();
    fixture.work("true", json!({})).await?;
    fixture.group(&["a", "b"], json!({})).await?;
    fixture.start_operator().await?;
    let start = Instant::now();
    loop {
        let group = fixture.read("group").await?;
        let ran = |name| item(&group, name)["runs"] == 1;
        if ran("a") && ran("b") && group["status"]["state"] == "Idle" {
            break;
        }
        ensure!(
            start.elapsed() < PATIENCE,
            "{fate:?}: {group:#}\n{}",
            fixture.operator().log()
        );
        sleep(Duration::from_millis(200)).await;
    }
    let met = met.lock().expect("what was met").clone();
    // The first lists are part of the watches.
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
        // Once without success, and at least once more.
        ensure!(met.get(*kind) >= Some(&2), "{kind}: {met:?}");
    }
    ensure!(witness.opened()?.len() == 2);
    Ok(())
}

#[tokio::test]
async fn operator_continues_after_unanswered_and_truncated_reads() -> Result<()> {
    tokio::try_join!(
        first_reads("reads-swallowed", Fate::Swallowed),
        first_reads("reads-cut", Fate::Cut),
        first_reads("reads-stall", Fate::Stalls),
    )?;
    Ok(())
}

#[tokio::test]
async fn operator_with_unanswered_lists_stops_at_sigterm() -> Result<()> {
    for thing in ["/oaatgroups", "/oaattypes", "/version"] {
        let name = format!("end-{}", &thing[1..]);
        let mut fixture = Fixture::without_operator(&name).await?;
        let swallowed = Arc::new(Mutex::new(false));
        let proxy = Proxy::start(&fixture.options.kubeconfig, {
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
        fixture.options.kubeconfig = proxy.kubeconfig().to_owned();
        fixture.start_operator().await?;
        let start = Instant::now();
        while !*swallowed.lock().expect("whether it was") {
            ensure!(start.elapsed() < PATIENCE, "{thing} is not requested");
            sleep(Duration::from_millis(20)).await;
        }
        let operator = fixture.take_operator();
        operator.process().signal(Signal::Term);
        let ended = timeout(PATIENCE, operator.process().wait()).await;
        let (ended, log) = (ended.with_context(|| operator.log())?, operator.log());
        ensure!(ended.code() == Some(0), "{thing}: {ended}\n{log}");
        ensure!(!log.contains("did not finish in time"), "{thing}: {log}");
    }
    Ok(())
}
