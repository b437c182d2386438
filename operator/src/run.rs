//! `oaat-operator run`: starts and stops the process.

mod replica_lease;
mod settings;

pub use settings::{LogFormat, Settings};

use crate::api_request::with_timeout;
use crate::bounded_read::BoundedReader;
use crate::client::{connect, wait_for_api_server};
use crate::cluster::ClusterError;
use crate::config_maps::ConfigMaps;
use crate::controller::control;
use crate::controller_context::ControllerDeps;
use crate::decision_log::DecisionLog;
use crate::events::EventSink;
use crate::group_ref::WatchedGroup;
use crate::kube_cluster::ObjectCaches;
use crate::lease::Election;
use crate::log_writer::LogWriter;
use crate::metrics::Metrics;
use crate::policies::{Compiler, KeptPolicies};
use crate::policy_limiter;
use crate::server;
use anyhow::Context;
use built_in_policies::DEFAULT_POLICY;
use futures::future;
use kube::api::ListParams;
use kube::{Api, Client};
use policy_host::{CompileProcess, Host, Landlock, Limits, Policy};
use replica_lease::ReplicaLease;
use settings::scopes;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

/// The maximum time for the reconciles in progress after SIGTERM. By default, Kubernetes kills the
/// pod after 30 seconds.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(20);

/// Why the process ended.
#[derive(Debug, PartialEq)]
pub enum End {
    /// It received SIGTERM or SIGINT.
    Stopped,
    /// It no longer holds the lease. The process must exit, so that nothing in it continues.
    LeaseLost,
}

/// Runs the operator until it receives a signal or loses the lease.
///
/// # Errors
/// Returns an error if the operator cannot start, for example because it has no access to a cluster
/// or the address is in use.
pub async fn run(settings: Settings) -> anyhow::Result<End> {
    start_log(settings.log_format);
    info!(
        version = env!("CARGO_PKG_VERSION"),
        "starting oaat-operator"
    );
    settings.check()?;
    let mut stopping = stop_signal()?;
    let metrics = Arc::new(Metrics::new(settings.item_metrics));
    let ready = Arc::new(AtomicBool::new(false));
    listen(settings.listen, &metrics, &ready).await?;
    let client = connect(metrics.clone()).await?;
    let directory = settings.record_decisions.clone();
    let decision_log = DecisionLog::new(settings.log_decisions, directory)
        .context("--record-decisions: failed to open the directory")?;
    let (compiler, default) = policies().await?;

    let instance = std::env::var("POD_NAME").ok();
    let (events, publisher) = EventSink::start(client.clone(), instance.clone());
    tokio::select! {
        () = wait_for_api_server(&client) => {}
        () = stopped(&mut stopping) => return Ok(End::Stopped),
    }
    let scopes = scopes(&settings.namespaces);
    check_selector(&client, &scopes, settings.selector()).await?;
    let lease = ReplicaLease::new(&client, &settings, &scopes);
    let served = tokio::select! {
        served = lease.observe_shards(&client, &metrics) => served,
        () = stopped(&mut stopping) => return Ok(End::Stopped),
    };
    ready.store(true, Ordering::Relaxed);

    let mut election = settings
        .leader_elect
        .then(|| lease.election(&client, instance.as_deref()));
    if let Some(election) = &mut election
        && !election.acquire(stopped(&mut stopping)).await
    {
        election.release().await;
        return Ok(End::Stopped);
    }
    metrics.leading.set(1);

    let config_maps = ConfigMaps::new(client.clone(), metrics.watch_restarts("configmaps"));
    let shared = ControllerDeps {
        reader: BoundedReader::new(client.clone()),
        caches: ObjectCaches::default(),
        kept: kept_policies(&client, &config_maps, &settings),
        config_maps,
        client,
        default,
        shadow_compiler: compiler.for_shadows(),
        compiler,
        evaluations: policy_limiter::permits(),
        image: settings.image().map(ToOwned::to_owned),
        decision_log,
        events,
        metrics: metrics.clone(),
        retry_floor: settings.retry_floor,
        // Without leader election, or with shards, other replicas may act as well. Their candidates
        // must not be mistaken for leftovers.
        leads: election.is_some() && settings.shard.is_none(),
        served,
        group_selector: settings.selector().map(ToOwned::to_owned),
    };
    let end = run_controllers(shared, scopes, &mut stopping, election.as_mut()).await?;
    if end == End::LeaseLost {
        return Ok(end);
    }
    if let Some(election) = &election {
        election.release().await;
    }
    // Some events may still be queued. They are not worth a long wait.
    let _ = tokio::time::timeout(Duration::from_secs(2), publisher).await;
    info!("stopped");
    Ok(End::Stopped)
}

/// Starts serving health checks and metrics.
async fn listen(
    address: SocketAddr,
    metrics: &Arc<Metrics>,
    ready: &Arc<AtomicBool>,
) -> anyhow::Result<()> {
    server::serve(address, metrics.clone(), ready.clone())
        .await
        .map(drop)
        .with_context(|| format!("--listen {address}: failed to listen on this address"))
}

/// Runs the controllers of all scopes until the process must stop or the lease is lost.
async fn run_controllers(
    shared: ControllerDeps,
    scopes: Vec<Option<String>>,
    stopping: &mut watch::Receiver<bool>,
    election: Option<&mut Election>,
) -> anyhow::Result<End> {
    let metrics = shared.metrics.clone();
    let (stop, stop_receiver) = watch::channel(false);
    let run = |scope| control(shared.clone(), scope, stop_receiver.clone());
    let controllers = future::join_all(scopes.into_iter().map(run).collect::<Vec<_>>());
    let mut controllers = tokio::spawn(controllers);
    drop(shared);
    let work = async {
        tokio::select! {
            () = stopped(stopping) => {}
            ended = &mut controllers => {
                error!(?ended, "the controllers exited unexpectedly");
                anyhow::bail!("the controllers exited unexpectedly");
            }
        }
        metrics.leading.set(0);
        stop_controllers(stop, controllers).await;
        Ok(End::Stopped)
    };
    // The lease is renewed until the end, because the last writes may take longer than its
    // duration.
    let lost = async {
        match election {
            Some(election) => election.hold().await,
            None => future::pending().await,
        }
    };
    tokio::select! {
        worked = work => worked,
        () = lost => {
            error!("lost the lease; exiting because another replica may become the leader");
            Ok(End::LeaseLost)
        }
    }
}

/// Starts to keep copies of policies, unless this is disabled or the operator does not run in a pod.
fn kept_policies(
    client: &Client,
    config_maps: &ConfigMaps,
    settings: &Settings,
) -> Option<KeptPolicies> {
    let limits = settings.kept_limits()?;
    let Ok(namespace) = std::env::var("POD_NAMESPACE") else {
        info!("POD_NAMESPACE is not set, so the operator keeps no copies of policies");
        return None;
    };
    let (client, config_maps) = (client.clone(), config_maps.clone());
    let serves_subset = settings.serves_subset();
    let kept = KeptPolicies::start(client, &namespace, config_maps, limits, serves_subset);
    Some(kept)
}

/// Returns an error if the API server rejects the label selector. Ignores other errors, which the
/// watch reports.
async fn check_selector(
    client: &Client,
    scopes: &[Option<String>],
    selector: Option<&str>,
) -> anyhow::Result<()> {
    let Some(selector) = selector else {
        return Ok(());
    };
    let groups: Api<WatchedGroup> = match scopes.first() {
        Some(Some(namespace)) => Api::namespaced(client.clone(), namespace),
        _ => Api::all(client.clone()),
    };
    let params = ListParams::default().labels(selector).limit(1);
    match with_timeout(groups.list(&params)).await {
        Err(ClusterError::Rejected { code: 400, message }) => {
            anyhow::bail!("--group-selector: {selector:?} is not a label selector: {message}")
        }
        _ => Ok(()),
    }
}

/// Stops the controllers after the reconciles in progress have finished.
async fn stop_controllers(stop: watch::Sender<bool>, controllers: JoinHandle<Vec<()>>) {
    info!("stopping: finishing the reconciles in progress; pods continue to run");
    let _ = stop.send(true);
    if tokio::time::timeout(SHUTDOWN_TIMEOUT, controllers)
        .await
        .is_err()
    {
        warn!("some reconciles did not finish in time; they are repeated after the restart");
    }
}

/// Starts the compiler, and compiles the built-in policy.
async fn policies() -> anyhow::Result<(Compiler, Policy)> {
    let process = CompileProcess::of_this_program(Host::new(Limits::default())?);
    let compile = process.clone();
    let compiler =
        Compiler::new(move |bytes| compile.compile(bytes).map(|compiled| compiled.policy));
    let default = loop {
        let process = process.clone();
        let compiled = tokio::task::spawn_blocking(move || process.compile(DEFAULT_POLICY)).await?;
        match compiled {
            // A slow machine can exceed the time limits.
            Err(error) if error.is_transient() => {
                warn!(%error, "failed to load the built-in policy; retrying");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            compiled => {
                break compiled
                    .context("failed to load the built-in policy; this build is broken")?;
            }
        }
    };
    match default.landlock {
        Landlock::Full => {}
        Landlock::Partial => {
            info!("this kernel enforces Landlock only partially on the compiler process")
        }
        Landlock::None => warn!(
            "this kernel does not support Landlock; only the descriptor limit keeps the compiler process from opening files"
        ),
    }
    let default = default.policy;
    info!(
        digest = default.digest(),
        contract = default.contract(),
        "loaded the built-in policy"
    );
    Ok((compiler, default))
}

fn start_log(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(|| LogWriter(std::io::stderr()));
    // This fails if the process has a log already, as in a test that runs two operators.
    let _ = match format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
}

/// Returns a value that turns true at SIGTERM or SIGINT.
fn stop_signal() -> std::io::Result<watch::Receiver<bool>> {
    let (sender, receiver) = watch::channel(false);
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        let _ = sender.send(true);
    });
    Ok(receiver)
}

async fn stopped(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stopping| *stopping).await;
}
