//! `oaat-operator run`: starts and stops the process.

use crate::api_request::with_timeout;
use crate::bounded_read::BoundedReader;
use crate::client::{connect, wait_for_api_server};
use crate::cluster::ClusterError;
use crate::config_maps::ConfigMaps;
use crate::controller::control;
use crate::controller_context::ControllerDeps;
use crate::decision_log::{DecisionLog, LogDecisions};
use crate::events::EventSink;
use crate::group_ref::WatchedGroup;
use crate::kube_cluster::ObjectCaches;
use crate::lease::{self, Election};
use crate::log_writer::LogWriter;
use crate::metrics::Metrics;
use crate::pod::names;
use crate::policies::{Compiler, KeptLimits, KeptPolicies};
use crate::policy_limiter;
use crate::server;
use crate::shard::Shard;
use crate::shard_leases::{self, OBSERVATION_PERIOD, Served, ShardObserver};
use anyhow::Context;
use built_in_policies::DEFAULT_POLICY;
use futures::future;
use kube::api::ListParams;
use kube::{Api, Client};
use policy_host::{CompileProcess, Host, Landlock, Limits, Policy};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

/// The name of the Lease of an operator that watches all namespaces.
const LEASE: &str = "oaat-operator";
/// The maximum time for the reconciles in progress after SIGTERM. By default, Kubernetes kills the
/// pod after 30 seconds.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(20);

/// The format of log lines.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum LogFormat {
    /// Human-readable text.
    Text,
    /// One JSON object per line.
    Json,
}

/// The settings of `oaat-operator run`.
#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    /// The address for /healthz, /readyz, and /metrics. Port 0 selects a free port. `[::]` also
    /// accepts IPv4; if the kernel does not support IPv6, 0.0.0.0 is used instead.
    #[arg(long, env = "OAAT_LISTEN", default_value = "[::]:8080")]
    pub listen: SocketAddr,

    /// Use a Lease in the operator's namespace to elect a leader. Other replicas stand by. Items of
    /// a group run one at a time even without leader election.
    #[arg(long, env = "OAAT_LEADER_ELECT", default_value_t = true, action = clap::ArgAction::Set)]
    pub leader_elect: bool,

    /// The minimum time between two starts of the same item, except after a success if its frequency
    /// is shorter. Also the first pause after a rejected pod; the pause doubles up to 15 minutes.
    #[arg(long, env = "OAAT_RETRY_FLOOR", default_value = "10s", value_parser = humantime::parse_duration)]
    pub retry_floor: Duration,

    /// The namespaces to watch, separated by commas. The default is all namespaces. Each set of
    /// namespaces has its own Lease.
    #[arg(long, env = "OAAT_NAMESPACES", value_delimiter = ',')]
    pub namespaces: Vec<String>,

    /// Reconcile only the groups whose labels match this label selector, for example `team=a`. The
    /// default is all groups. Each selector has its own Lease.
    #[arg(long, env = "OAAT_GROUP_SELECTOR", value_name = "SELECTOR")]
    pub group_selector: Option<String>,

    /// Reconcile only the groups of shard I of N (I: 0 to N-1; N: at most 64). The UID of a group
    /// determines its shard. Each shard has its own Lease. If no replica holds it, the other shards
    /// serve its groups. Requires leader election.
    #[arg(long, env = "OAAT_SHARD", value_name = "I/N")]
    pub shard: Option<Shard>,

    /// The operator's own image, which the pods for itemsFrom.http run. If it is not set, those
    /// lists are not read.
    #[arg(long, env = "OAAT_IMAGE")]
    pub image: Option<String>,

    /// What to log for each decision: only digests, or also the full request, which
    /// `kubectl-oaat policy replay` can repeat.
    #[arg(long, env = "OAAT_LOG_DECISIONS", default_value = "digest")]
    pub log_decisions: LogDecisions,

    /// The directory to record decisions in. Each decision, with its full request, is written to a
    /// separate file that `kubectl-oaat policy replay` can repeat. Keeps the newest 1,000 files and
    /// at most 256 MiB.
    #[arg(long, env = "OAAT_RECORD_DECISIONS", value_name = "DIR")]
    pub record_decisions: Option<PathBuf>,

    /// Publish metrics of each item, in addition to those of each group.
    #[arg(long, env = "OAAT_ITEM_METRICS", default_value_t = true, action = clap::ArgAction::Set)]
    pub item_metrics: bool,

    /// The maximum number of copies of policies to keep. With a copy, a policy still decides after a
    /// restart if its ConfigMap is gone. The copies are ConfigMaps in the operator's own namespace. 0
    /// keeps none.
    #[arg(
        long,
        env = "OAAT_KEPT_POLICIES",
        value_name = "NUMBER",
        default_value = "200",
        value_parser = clap::value_parser!(u16).range(..=10_000)
    )]
    pub kept_policies: u16,

    /// The maximum size of all these copies, in MiB.
    #[arg(long, env = "OAAT_KEPT_POLICIES_MIB", value_name = "MIB", default_value = "64", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub kept_policies_mib: u16,

    /// The format of log lines. RUST_LOG sets the log level, `info` by default.
    #[arg(long, env = "OAAT_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

impl Settings {
    /// Returns an error if two settings contradict each other.
    fn check(&self) -> anyhow::Result<()> {
        if self.shard.is_some() && !self.leader_elect {
            anyhow::bail!(
                "--shard: requires leader election; set --leader-elect (OAAT_LEADER_ELECT) to true"
            );
        }
        Ok(())
    }

    /// Returns the label selector of groups; `None` if all are selected.
    fn selector(&self) -> Option<&str> {
        non_empty(self.group_selector.as_deref())
    }

    /// Returns the limits on copies of policies, or `None` if the operator keeps none.
    fn kept_limits(&self) -> Option<KeptLimits> {
        let limits = KeptLimits {
            count: self.kept_policies.into(),
            bytes: usize::from(self.kept_policies_mib) << 20,
        };
        (limits.count > 0).then_some(limits)
    }

    /// Returns whether other replicas may serve other groups.
    fn serves_subset(&self) -> bool {
        let selects = self.selector().is_some() || !scopes(&self.namespaces).contains(&None);
        self.shard.is_some() || selects
    }

    /// Returns the operator's own image.
    fn image(&self) -> Option<&str> {
        non_empty(self.image.as_deref())
    }
}

/// Returns a setting without surrounding spaces, unless it is empty.
fn non_empty(setting: Option<&str>) -> Option<&str> {
    setting.map(str::trim).filter(|setting| !setting.is_empty())
}

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
    server::serve(settings.listen, metrics.clone(), ready.clone())
        .await
        .with_context(|| {
            format!(
                "--listen {}: failed to listen on this address",
                settings.listen
            )
        })?;
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

/// The lease that this replica must hold before it reconciles.
struct ReplicaLease {
    namespace: String,
    /// The name of the lease without `--shard`.
    base_name: String,
    shard: Option<Shard>,
}

impl ReplicaLease {
    fn new(client: &Client, settings: &Settings, scopes: &[Option<String>]) -> Self {
        let namespace = std::env::var("POD_NAMESPACE");
        Self {
            namespace: namespace.unwrap_or_else(|_| client.default_namespace().to_owned()),
            base_name: lease_name(scopes, settings.selector()),
            shard: settings.shard,
        }
    }

    /// Returns the leader election of this replica.
    fn election(&self, client: &Client, instance: Option<&str>) -> Election {
        let uid = std::env::var("POD_UID").ok();
        let identity = lease::identity(instance, uid.as_deref());
        let (name, labels) = match self.shard {
            None => (self.base_name.clone(), BTreeMap::new()),
            Some(shard) => {
                let label = shard.lease_label(&self.base_name);
                let labels = BTreeMap::from([(shard_leases::LABEL.to_owned(), label)]);
                (shard.lease_name(&self.base_name), labels)
            }
        };
        Election::new(client.clone(), &self.namespace, name, labels, identity)
    }

    /// With `--shard`, starts to observe the leases of all shards, and waits until the live ones are
    /// known. Returns what this replica serves.
    async fn observe_shards(&self, client: &Client, metrics: &Arc<Metrics>) -> Served {
        let Some(shard) = self.shard else {
            return Served::All;
        };
        let leases = Api::namespaced(client.clone(), &self.namespace);
        let served = ShardObserver::start(leases, &self.base_name, shard, metrics.clone());
        tokio::time::sleep(OBSERVATION_PERIOD).await;
        served
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

/// Returns the namespaces to watch, where `None` is all. Empty names are ignored, so an empty
/// environment variable has no effect.
fn scopes(namespaces: &[String]) -> Vec<Option<String>> {
    let names = namespaces.iter().map(|name| name.trim());
    let names: BTreeSet<&str> = names.filter(|name| !name.is_empty()).collect();
    if names.is_empty() {
        return vec![None];
    }
    let scopes = names.into_iter().map(|name| Some(name.to_owned()));
    scopes.collect()
}

/// Returns the name of the Lease of an operator with these scopes and this selector of groups.
/// Operators that watch different namespaces or select different groups have different Leases, so
/// none of them waits for another. The name must not change between releases; otherwise, the old
/// and the new replica of an upgrade both act.
fn lease_name(scopes: &[Option<String>], selector: Option<&str>) -> String {
    let namespaces: Vec<&str> = scopes.iter().flatten().map(String::as_str).collect();
    let namespaces = namespaces.join(",");
    let groups = match selector {
        None if namespaces.is_empty() => return LEASE.to_owned(),
        None => namespaces,
        // No namespace contains a question mark.
        Some(selector) => format!("{namespaces}?{selector}"),
    };
    format!("{LEASE}-{}", names::hash(&groups, 10))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(namespaces: &[&str]) -> String {
        let namespaces: Vec<String> = namespaces.iter().map(|name| (*name).to_owned()).collect();
        lease_name(&scopes(&namespaces), None)
    }

    #[test]
    fn lease_name_depends_on_the_selector_of_groups() {
        let selected = |namespaces: &[&str], selector| {
            let namespaces: Vec<_> = namespaces.iter().map(|n| Some((*n).to_owned())).collect();
            lease_name(&namespaces, Some(selector))
        };
        let names = [
            lease(&[]),
            lease(&["a"]),
            selected(&[], "team=a"),
            selected(&[], "team=b"),
            selected(&["a"], "team=a"),
            selected(&["a", "b"], "team=a"),
        ];
        let different: BTreeSet<_> = names.iter().collect();
        assert_eq!(different.len(), names.len(), "{names:?}");
    }

    #[test]
    fn lease_name_depends_on_the_set_of_namespaces() {
        assert_eq!(lease(&[]), "oaat-operator");
        assert_eq!(lease(&["", " "]), "oaat-operator");
        let ab = lease(&["a", "b"]);
        assert_eq!(ab, "oaat-operator-1eb7c54d52");
        assert_eq!(lease(&[" b", "a", "b", ""]), ab);
        for other in [&["a"][..], &["ab"], &["a", "b", "c"], &[]] {
            assert_ne!(lease(other), ab, "{other:?}");
        }
    }
}
