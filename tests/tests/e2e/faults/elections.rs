use crate::world::{PATIENCE, World, item};
use anyhow::{Context, Result, ensure};
use http::Method;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::Api;
use oaat_tests::proxy::{Fate, Proxy, Seen};
use oaat_tests::witness::Witness;
use oaat_tests::{Operator, Signal};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

const LEASE: &str = "oaat-operator";

async fn until(words: &str, mut what: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !what().await? {
        ensure!(start.elapsed() < PATIENCE, "{words}: did not come about");
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn until_it_leads(operator: &Operator) -> Result<()> {
    let leads = async || Ok(operator.metric("oaat_leading", &[]).await? == 1.0);
    until("it leads", leads)
        .await
        .with_context(|| operator.log())
}

async fn until_logged(operator: &Operator, words: &str) -> Result<()> {
    let logged = async || Ok(operator.log().contains(words));
    until(words, logged).await.with_context(|| operator.log())
}

async fn spec(leases: &Api<Lease>) -> Result<LeaseSpec> {
    leases.get(LEASE).await?.spec.context("no spec")
}

/// SIGTERM; within the time that a kubelet gives it must end well.
async fn stop(operator: &Operator) -> Result<()> {
    operator.process().signal(Signal::Term);
    let ended = timeout(Duration::from_secs(30), operator.process().wait()).await;
    let ended = ended.with_context(|| operator.log())?;
    ensure!(ended.code() == Some(0), "{ended}\n{}", operator.log());
    Ok(())
}

fn run(group: &Value) -> i64 {
    group["status"]["run"].as_i64().unwrap_or(0)
}

#[tokio::test]
async fn after_a_kill_the_other_takes_over_when_the_lease_ends() -> Result<()> {
    let mut world = World::without_operator("lease-kill").await?;
    let leases = world.elect().await?;
    let witness = Witness::start(world.pods()).await?;
    world.work("sleep 0.1", json!({})).await?;
    world
        .group(&["a", "b"], json!({ "frequency": "500ms" }))
        .await?;
    world.start_operator().await?;
    until_it_leads(world.operator()).await?;
    let before = spec(&leases).await?;
    world.start_operator().await?;
    until_logged(world.operator(), "waiting for the lease").await?;
    world
        .until("the first acts", |group| run(group) >= 3)
        .await?;
    world.take_first_operator().kill().await;
    let at = run(&world.read("group").await?);
    until_it_leads(world.operator()).await?;
    world
        .until("the other acts", |group| run(group) >= at + 3)
        .await?;
    let after = spec(&leases).await?;
    ensure!(before.holder_identity != after.holder_identity, "{after:?}");
    let transitions = |spec: &LeaseSpec| spec.lease_transitions.unwrap_or(0);
    ensure!(
        transitions(&after) == transitions(&before) + 1,
        "{before:?} {after:?}"
    );
    witness.runs()?;
    Ok(())
}

#[tokio::test]
async fn a_container_that_is_started_again_has_its_pods_lease_back() -> Result<()> {
    let mut world = World::without_operator("lease-again").await?;
    let leases = world.elect().await?;
    world
        .environment
        .extend([("POD_NAME", "pod".into()), ("POD_UID", "uid-1".into())]);
    world.start_operator().await?;
    until_it_leads(world.operator()).await?;
    let before = spec(&leases).await?;
    ensure!(before.holder_identity.as_deref() == Some("pod_uid-1"));
    world.take_operator().kill().await;
    world.start_operator().await?;
    until_it_leads(world.operator()).await?;
    let after = spec(&leases).await?;
    // Another would have been a transition, and would have begun anew.
    ensure!(
        after.acquire_time == before.acquire_time
            && after.lease_transitions == before.lease_transitions,
        "{before:?} {after:?}"
    );
    Ok(())
}

fn of_lease(seen: &Seen) -> bool {
    seen.uri.path().contains("/leases")
}

#[tokio::test]
async fn who_cannot_renew_the_lease_exits() -> Result<()> {
    let mut world = World::without_operator("lease-cut").await?;
    world.elect().await?;
    let cut = Arc::new(AtomicBool::new(false));
    let proxy = Proxy::start(&world.options.kubeconfig, {
        let cut = Arc::clone(&cut);
        move |seen| match of_lease(seen) && cut.load(Ordering::SeqCst) {
            true => Fate::Swallowed,
            false => Fate::Passes,
        }
    })
    .await?;
    world.options.kubeconfig = proxy.kubeconfig().to_owned();
    world.start_operator().await?;
    until_it_leads(world.operator()).await?;
    cut.store(true, Ordering::SeqCst);
    let operator = world.operator();
    let ended = timeout(PATIENCE, operator.process().wait()).await;
    let ended = ended.with_context(|| operator.log())?;
    ensure!(ended.code() == Some(1), "{ended}\n{}", operator.log());
    ensure!(
        operator.log().contains("the lease is lost"),
        "{}",
        operator.log()
    );
    Ok(())
}

#[tokio::test]
async fn who_is_stopped_gives_back_what_it_may_hold() -> Result<()> {
    let mut world = World::without_operator("lease-stop").await?;
    let leases = world.elect().await?;
    // One whose lease is just being written.
    let writes = Arc::new(AtomicBool::new(false));
    let direct = world.options.kubeconfig.clone();
    let proxy = Proxy::start(&direct, {
        let writes = Arc::clone(&writes);
        move |seen| {
            if of_lease(seen) && seen.method != Method::GET && !writes.swap(true, Ordering::SeqCst)
            {
                return Fate::Late(Duration::from_secs(1));
            }
            Fate::Passes
        }
    })
    .await?;
    world.options.kubeconfig = proxy.kubeconfig().to_owned();
    world.start_operator().await?;
    until("it writes the lease", async || {
        Ok(writes.load(Ordering::SeqCst))
    })
    .await?;
    stop(world.operator()).await?;
    ensure!(spec(&leases).await?.holder_identity.is_none());

    // One that stands by has nothing to give back.
    world.options.kubeconfig = direct;
    world.take_operator();
    world.start_operator().await?;
    until_it_leads(world.operator()).await?;
    let holder = spec(&leases).await?.holder_identity;
    ensure!(holder.is_some());
    world.start_operator().await?;
    until_logged(world.operator(), "waiting for the lease").await?;
    stop(&world.take_operator()).await?;
    ensure!(spec(&leases).await?.holder_identity == holder);
    Ok(())
}

#[tokio::test]
async fn the_lease_is_held_until_the_last_write_is_done() -> Result<()> {
    let mut world = World::without_operator("lease-last").await?;
    let leases = world.elect().await?;
    // Longer than a lease holds, counted from its last renewal, and twice that deadline.
    let (slow, took) = (Arc::new(AtomicBool::new(false)), Duration::from_secs(14));
    let held = Arc::new(AtomicBool::new(false));
    let proxy = Proxy::start(&world.options.kubeconfig, {
        let (slow, held) = (Arc::clone(&slow), Arc::clone(&held));
        move |seen| {
            if seen.write.is_some() && slow.load(Ordering::SeqCst) {
                held.store(true, Ordering::SeqCst);
                return Fate::Late(took);
            }
            Fate::Passes
        }
    })
    .await?;
    world.options.kubeconfig = proxy.kubeconfig().to_owned();
    world.work("true", json!({})).await?;
    world.start_operator().await?;
    world.group(&["a"], json!({})).await?;
    world
        .until("a has run", |group| item(group, "a")["runs"] == 1)
        .await?;
    slow.store(true, Ordering::SeqCst);
    world.group(&["a", "b"], json!({})).await?;
    until("something is written", async || {
        Ok(held.load(Ordering::SeqCst))
    })
    .await?;
    slow.store(false, Ordering::SeqCst);
    let before = spec(&leases).await?;
    let operator = world.take_operator();
    operator.process().signal(Signal::Term);
    until("it renews although it was told to stop", async || {
        let now = spec(&leases).await?;
        ensure!(now.holder_identity == before.holder_identity);
        Ok(now.renew_time > before.renew_time)
    })
    .await?;
    until_logged(&operator, "stopping").await?;
    stop(&operator).await?;
    ensure!(spec(&leases).await?.holder_identity.is_none());
    Ok(())
}
