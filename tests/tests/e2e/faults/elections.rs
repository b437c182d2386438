use crate::fixture::{Fixture, PATIENCE, item};
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

async fn until(words: &str, mut what: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !what().await? {
        ensure!(
            start.elapsed() < PATIENCE,
            "timed out waiting until {words}"
        );
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

/// Returns the spec of the only Lease. Its name depends on the namespaces of the operator.
async fn spec(leases: &Api<Lease>) -> Result<LeaseSpec> {
    let found = leases.list(&Default::default()).await?.items.pop();
    found.and_then(|lease| lease.spec).context("no lease")
}

/// Sends SIGTERM. The operator must exit with 0 within the grace period of a kubelet.
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
async fn replica_takes_over_when_the_lease_of_a_killed_leader_expires() -> Result<()> {
    let mut fixture = Fixture::without_operator("lease-kill").await?;
    let leases = fixture.elect().await?;
    let witness = Witness::start(fixture.pods()).await?;
    fixture.work("sleep 0.1", json!({})).await?;
    fixture
        .group(&["a", "b"], json!({ "frequency": "500ms" }))
        .await?;
    fixture.start_operator().await?;
    until_it_leads(fixture.operator()).await?;
    let before = spec(&leases).await?;
    fixture.start_operator().await?;
    until_logged(fixture.operator(), "waiting for the lease").await?;
    fixture
        .until("the first replica starts runs", |group| run(group) >= 3)
        .await?;
    fixture.take_first_operator().kill().await;
    let at = run(&fixture.read("group").await?);
    until_it_leads(fixture.operator()).await?;
    fixture
        .until("the other replica starts runs", |group| {
            run(group) >= at + 3
        })
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
async fn restarted_container_reacquires_the_lease_of_its_pod() -> Result<()> {
    let mut fixture = Fixture::without_operator("lease-again").await?;
    let leases = fixture.elect().await?;
    fixture
        .environment
        .extend([("POD_NAME", "pod".into()), ("POD_UID", "uid-1".into())]);
    fixture.start_operator().await?;
    until_it_leads(fixture.operator()).await?;
    let before = spec(&leases).await?;
    ensure!(before.holder_identity.as_deref() == Some("pod_uid-1"));
    fixture.take_operator().kill().await;
    fixture.start_operator().await?;
    until_it_leads(fixture.operator()).await?;
    let after = spec(&leases).await?;
    // Another holder would have counted as a transition.
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
async fn leader_exits_when_it_cannot_renew_the_lease() -> Result<()> {
    let mut fixture = Fixture::without_operator("lease-cut").await?;
    fixture.elect().await?;
    let cut = Arc::new(AtomicBool::new(false));
    let proxy = Proxy::start(&fixture.options.kubeconfig, {
        let cut = Arc::clone(&cut);
        move |seen| match of_lease(seen) && cut.load(Ordering::SeqCst) {
            true => Fate::Swallowed,
            false => Fate::Passes,
        }
    })
    .await?;
    fixture.options.kubeconfig = proxy.kubeconfig().to_owned();
    fixture.start_operator().await?;
    until_it_leads(fixture.operator()).await?;
    cut.store(true, Ordering::SeqCst);
    let operator = fixture.operator();
    let ended = timeout(PATIENCE, operator.process().wait()).await;
    let ended = ended.with_context(|| operator.log())?;
    ensure!(ended.code() == Some(1), "{ended}\n{}", operator.log());
    ensure!(
        operator.log().contains("lost the lease"),
        "{}",
        operator.log()
    );
    Ok(())
}

#[tokio::test]
async fn stopped_replica_releases_a_lease_that_it_may_hold() -> Result<()> {
    let mut fixture = Fixture::without_operator("lease-stop").await?;
    let leases = fixture.elect().await?;
    // An operator whose lease write is in transit.
    let writes = Arc::new(AtomicBool::new(false));
    let direct = fixture.options.kubeconfig.clone();
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
    fixture.options.kubeconfig = proxy.kubeconfig().to_owned();
    fixture.start_operator().await?;
    until("it writes the lease", async || {
        Ok(writes.load(Ordering::SeqCst))
    })
    .await?;
    stop(fixture.operator()).await?;
    ensure!(spec(&leases).await?.holder_identity.is_none());

    // A standby has no lease to release.
    fixture.options.kubeconfig = direct;
    fixture.take_operator();
    fixture.start_operator().await?;
    until_it_leads(fixture.operator()).await?;
    let holder = spec(&leases).await?.holder_identity;
    ensure!(holder.is_some());
    fixture.start_operator().await?;
    until_logged(fixture.operator(), "waiting for the lease").await?;
    stop(&fixture.take_operator()).await?;
    ensure!(spec(&leases).await?.holder_identity == holder);
    Ok(())
}

#[tokio::test]
async fn lease_is_held_until_the_last_write_is_done() -> Result<()> {
    let mut fixture = Fixture::without_operator("lease-last").await?;
    let leases = fixture.elect().await?;
    // Longer than the lease duration, counted from the last renewal, and twice that deadline.
    let (slow, took) = (Arc::new(AtomicBool::new(false)), Duration::from_secs(14));
    let held = Arc::new(AtomicBool::new(false));
    let proxy = Proxy::start(&fixture.options.kubeconfig, {
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
    fixture.options.kubeconfig = proxy.kubeconfig().to_owned();
    fixture.work("true", json!({})).await?;
    fixture.start_operator().await?;
    fixture.group(&["a"], json!({})).await?;
    fixture
        .until("a has run", |group| item(group, "a")["runs"] == 1)
        .await?;
    slow.store(true, Ordering::SeqCst);
    fixture.group(&["a", "b"], json!({})).await?;
    until("something is written", async || {
        Ok(held.load(Ordering::SeqCst))
    })
    .await?;
    slow.store(false, Ordering::SeqCst);
    let before = spec(&leases).await?;
    let operator = fixture.take_operator();
    operator.process().signal(Signal::Term);
    until("the lease is renewed during shutdown", async || {
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
