//! `oaat-operator run`: puts the process together, and takes it apart.

use crate::bounded_read::BoundedReader;
use crate::client::{answering, connect};
use crate::config_maps::ConfigMaps;
use crate::controller::{Shared, control};
use crate::decision_log::{DecisionLog, LogDecisions};
use crate::events::EventSink;
use crate::lease::{self, Election};
use crate::log_writer::LogWriter;
use crate::metrics::Metrics;
use crate::policies::Compiler;
use crate::policy_limiter;
use crate::server;
use anyhow::Context;
use default_component::DEFAULT_POLICY;
use futures::future;
use policy_host::{CompileProcess, Host, Landlock, Limits, LoadError, Policy};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info, warn};

/// Name of the Lease.
const LEASE: &str = "oaat-operator";
/// How long the cycles in hand may take after SIGTERM. A pod of the operator is
/// killed after 30 seconds by default.
const LAST_WRITES: Duration = Duration::from_secs(20);

/// How log lines look.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Settings of `run`.
#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    /// The address for /healthz, /readyz, and /metrics. Port 0 takes a free one. `[::]` also
    /// accepts IPv4, and becomes 0.0.0.0 if the kernel has no IPv6.
    #[arg(long, env = "OAAT_LISTEN", default_value = "[::]:8080")]
    pub listen: SocketAddr,

    /// Whether replicas elect one that acts, by a Lease in the operator's namespace.
    /// It saves work; that one item runs at a time does not depend on it.
    #[arg(long, env = "OAAT_LEADER_ELECT", default_value_t = true, action = clap::ArgAction::Set)]
    pub leader_elect: bool,

    /// An item is not started twice within this time, unless it succeeded and its
    /// frequency is shorter.
    #[arg(long, env = "OAAT_RETRY_FLOOR", default_value = "10s", value_parser = humantime::parse_duration)]
    pub retry_floor: Duration,

    /// Namespaces to watch, separated by commas. All when left out.
    #[arg(long, env = "OAAT_NAMESPACES", value_delimiter = ',')]
    pub namespaces: Vec<String>,

    /// The image of this operator, for the pods that fetch lists of items from web servers
    /// (itemsFrom.http). If it is not set, those lists are not read.
    #[arg(long, env = "OAAT_IMAGE")]
    pub image: Option<String>,

    /// What to log for each decision: only digests, or also the whole request, so that
    /// `kubectl-oaat policy replay` can repeat it.
    #[arg(long, env = "OAAT_LOG_DECISIONS", default_value = "digest")]
    pub log_decisions: LogDecisions,

    /// A directory for decisions. Each is written in full to a separate file, so that
    /// `kubectl-oaat policy replay` can repeat it. The newest 1,000 files are kept, and at most
    /// 256 MiB.
    #[arg(long, env = "OAAT_RECORD_DECISIONS", value_name = "DIR")]
    pub record_decisions: Option<PathBuf>,

    /// How log lines look. What is logged is set by RUST_LOG, `info` by default.
    #[arg(long, env = "OAAT_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// Why the process ended.
#[derive(Debug, PartialEq)]
pub enum End {
    /// It was asked to.
    Stopped,
    /// It no longer holds the lease. The process must exit, so that nothing of it
    /// goes on.
    LeaseLost,
}

/// Runs the operator until it is told to stop or has lost the lease.
///
/// # Errors
/// When it cannot be set up: no access to a cluster, an address in use.
pub async fn run(settings: Settings) -> anyhow::Result<End> {
    start_log(settings.log_format);
    info!(version = env!("CARGO_PKG_VERSION"), "oaat-operator starts");
    let mut stopping = stop_signal()?;
    let metrics = Arc::new(Metrics::default());
    let ready = Arc::new(AtomicBool::new(false));
    server::serve(settings.listen, metrics.clone(), ready.clone())
        .await
        .with_context(|| format!("--listen {}: the address cannot be used", settings.listen))?;
    let client = connect(metrics.clone()).await?;
    let recorder = DecisionLog::new(settings.log_decisions, settings.record_decisions.clone())
        .context("--record-decisions: the folder cannot be used")?;
    let (compiler, default) = policies().await?;

    let instance = std::env::var("POD_NAME").ok();
    let (events, told) = EventSink::start(client.clone(), instance.clone());
    tokio::select! {
        () = answering(&client) => {}
        () = stopped(&mut stopping) => return Ok(End::Stopped),
    }
    ready.store(true, Ordering::Relaxed);

    let mut election = settings.leader_elect.then(|| {
        let namespace = std::env::var("POD_NAMESPACE")
            .unwrap_or_else(|_| client.default_namespace().to_owned());
        let uid = std::env::var("POD_UID").ok();
        let identity = lease::identity(instance.as_deref(), uid.as_deref());
        Election::new(client.clone(), &namespace, LEASE, identity)
    });
    if let Some(election) = &mut election
        && !election.acquire(stopped(&mut stopping)).await
    {
        election.release().await;
        return Ok(End::Stopped);
    }
    metrics.leading.set(1);

    let shared = Shared {
        reader: BoundedReader::new(client.clone()),
        config_maps: ConfigMaps::new(client.clone()),
        client,
        default,
        compiler,
        evaluations: policy_limiter::permits(),
        image: settings.image.filter(|image| !image.trim().is_empty()),
        recorder,
        events,
        metrics: metrics.clone(),
        retry_floor: settings.retry_floor,
        // Without an election others may act as well, and a candidate of theirs is not to be
        // taken for one that was left behind.
        leads: election.is_some(),
    };
    // An empty variable means the same as none.
    let named = settings
        .namespaces
        .iter()
        .map(|name| name.trim())
        .filter(|name| !name.is_empty());
    let named: BTreeSet<&str> = named.collect();
    let mut scopes: Vec<Option<String>> = named
        .into_iter()
        .map(|name| Some(name.to_owned()))
        .collect();
    if scopes.is_empty() {
        scopes.push(None);
    }
    let (stop, stop_seen) = watch::channel(false);
    let mut controllers = tokio::spawn({
        let each = |scope| control(shared.clone(), scope, stop_seen.clone());
        future::join_all(scopes.into_iter().map(each).collect::<Vec<_>>())
    });
    drop(shared);
    let work = async {
        tokio::select! {
            () = stopped(&mut stopping) => {}
            ended = &mut controllers => {
                error!(?ended, "the controllers ended by themselves");
                anyhow::bail!("the controllers ended by themselves");
            }
        }
        info!("stopping: nothing new is started, and what is in hand is finished; pods run on");
        metrics.leading.set(0);
        let _ = stop.send(true);
        if tokio::time::timeout(LAST_WRITES, controllers)
            .await
            .is_err()
        {
            warn!("some cycles did not end in time; they are taken up at the next start");
        }
        Ok(())
    };
    // Renewed to the end: the last writes may take longer than a lease holds.
    let lost = async {
        match &mut election {
            Some(election) => election.hold().await,
            None => future::pending().await,
        }
    };
    tokio::select! {
        worked = work => worked?,
        () = lost => {
            error!("the lease is lost; exiting so that nothing goes on under it");
            return Ok(End::LeaseLost);
        }
    }
    if let Some(election) = &election {
        election.release().await;
    }
    // News may still be on its way; it is not worth waiting for long.
    let _ = tokio::time::timeout(Duration::from_secs(2), told).await;
    info!("stopped");
    Ok(End::Stopped)
}

/// Starts the compiler, and compiles the default policy.
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
            Err(error)
                if error.is_transient() || matches!(error, LoadError::CompileTimeout { .. }) =>
            {
                warn!(%error, "the default policy could not be loaded; trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            compiled => {
                break compiled
                    .context("failed to load the default policy; this build is broken")?;
            }
        }
    };
    match default.landlock {
        Landlock::Full => {}
        Landlock::Partial => {
            info!("this kernel enforces Landlock on the compiler process only in part")
        }
        Landlock::None => warn!(
            "this kernel does not support Landlock; only the descriptor limit keeps the compiler process from opening files"
        ),
    }
    let default = default.policy;
    info!(
        digest = default.digest(),
        contract = default.contract(),
        "the default policy is loaded"
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
    // Fails when a log is there already, as in a test that runs two in one process.
    let _ = match format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
}

/// Turns true at SIGTERM or SIGINT.
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
