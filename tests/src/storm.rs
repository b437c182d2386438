//! Kills and freezes operators repeatedly, behind connections that break, while groups run on a
//! real API server. No two pods of a group may run at the same time, and each run must be recorded
//! once.

use crate::proxy::{Fate, Proxy};
use crate::witness::{Opened, Witness, overlaps};
use crate::{ControlPlane, Mode, Node, NodeOptions, Operator, OperatorOptions, Signal, operator};
use anyhow::{Context, Result, ensure};
use http::Method;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::time::sleep;

mod report;

pub use report::{Report, seed};

/// The timeout for everything after the faults have stopped.
const PATIENCE: Duration = Duration::from_secs(180);
/// The items of a group, of which one always fails.
const ITEMS: [&str; 4] = ["one", "two", "three", "bad"];

/// A deterministic generator of random numbers (splitmix64).
struct Dice(AtomicU64);

impl Dice {
    /// Returns a number below `limit`.
    fn below(&self, limit: u64) -> u64 {
        let mut z = self
            .0
            .fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
            .wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit.max(1)
    }

    fn millis(&self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}

/// The options of a storm.
#[derive(Clone, Debug)]
pub struct StormOptions {
    /// The operator's binary.
    pub binary: PathBuf,
    /// The kubeconfig of the operator.
    pub kubeconfig: PathBuf,
    /// The namespace to create for the storm.
    pub namespace: String,
    /// The number of groups.
    pub groups: usize,
    /// The number of operators at a time.
    pub replicas: usize,
    /// Whether the operators elect a leader. Otherwise all of them act.
    pub leader_elect: bool,
    /// The minimum number of kills.
    pub kills: usize,
    /// The minimum duration.
    pub lasts: Duration,
    /// The maximum time between two faults. After a leader was killed, nothing happens until its
    /// lease expires, so with leader election a short pause would leave no time for runs.
    pub pause: Duration,
    /// The time between two restarts of the API server or etcd; `None` for no restarts. With
    /// restarts, no other test may use the control plane.
    pub restarts: Option<Duration>,
    /// The seed. The same seed results in the same sequence of random numbers, but their timing
    /// depends on the machine, so the history is not the same.
    pub seed: u64,
}

/// A replica of the deployment: an operator behind a separate proxy, or none at the moment.
struct Replica {
    proxy: Proxy,
    operator: Option<Operator>,
    /// The number of the pod of this replica.
    pod: u64,
}

struct Storm<'a> {
    plane: &'a ControlPlane,
    options: StormOptions,
    dice: Arc<Dice>,
    calm: Arc<AtomicBool>,
    broken: Arc<AtomicU64>,
    witness: Witness,
    node: Node,
    replicas: Vec<Replica>,
}

/// Runs a storm on a control plane, waits until all groups have settled, and returns the report.
pub async fn storm(plane: &ControlPlane, options: StormOptions) -> Report {
    let start = Instant::now();
    let mut report = Report {
        seed: options.seed,
        ..Report::default()
    };
    if let Err(error) = rage(plane, options, &mut report).await {
        report.violations.push(format!("{error:#}"));
    }
    report.took = start.elapsed();
    report
}

async fn rage(plane: &ControlPlane, options: StormOptions, report: &mut Report) -> Result<()> {
    let mut storm = Storm::new(plane, options).await?;
    let outcome = storm.rage(report).await;
    report.broken = storm.broken.load(Ordering::Relaxed);
    report.violations = storm.witness.wrong();
    if report.runs == 0 {
        report.runs = storm.node.runs().len();
    }
    outcome
}

impl Storm<'_> {
    async fn rage(&mut self, report: &mut Report) -> Result<()> {
        let start = Instant::now();
        let mut restarted = Instant::now();
        while report.kills < self.options.kills || start.elapsed() < self.options.lasts {
            let longest = u64::try_from(self.options.pause.as_millis())?;
            sleep(self.dice.millis(50, longest)).await;
            if self
                .options
                .restarts
                .is_some_and(|every| restarted.elapsed() > every)
            {
                match self.dice.below(2) {
                    0 => self.plane.restart_api_server().await?,
                    _ => self.plane.restart_etcd().await?,
                }
                report.restarts += 1;
                restarted = Instant::now();
            }
            let at = self.dice.below(self.replicas.len() as u64) as usize;
            if let Some(operator) = self.replicas[at].operator.take() {
                if !operator.process().is_running() {
                    report.exits += 1;
                } else if self.dice.below(8) == 0 {
                    operator.process().signal(Signal::Stop);
                    sleep(self.dice.millis(200, 2500)).await;
                    operator.process().signal(Signal::Continue);
                    report.freezes += 1;
                    self.replicas[at].operator = Some(operator);
                    continue;
                } else if self.options.leader_elect && self.dice.below(2) == 0 {
                    operator.stop().await;
                    report.stops += 1;
                } else {
                    operator.kill().await;
                    report.kills += 1;
                }
                // Sometimes it is the same pod with a restarted container.
                self.replicas[at].pod += self.dice.below(2);
            }
            self.start(at).await?;
            if !self.witness.wrong().is_empty() {
                return Ok(());
            }
        }
        report.runs = self.account().await?;
        Ok(())
    }
}

impl<'a> Storm<'a> {
    async fn new(plane: &'a ControlPlane, options: StormOptions) -> Result<Self> {
        let namespace = &options.namespace;
        plane.namespace(namespace).await?;
        operator::lease_in(plane, namespace).await?;
        let client = plane.admin();
        let witness = Witness::start(Api::namespaced(client.clone(), namespace)).await?;
        let node = NodeOptions {
            name: format!("node-{namespace}"),
            namespace: Some(namespace.clone()),
            mode: Mode::Processes,
            ..NodeOptions::default()
        };
        let node = Node::start(client, node).await?;
        let dice = Arc::new(Dice(AtomicU64::new(options.seed)));
        let mut storm = Self {
            plane,
            options,
            dice,
            calm: Arc::default(),
            broken: Arc::default(),
            witness,
            node,
            replicas: Vec::new(),
        };
        storm.apply().await?;
        for at in 0..storm.options.replicas {
            let proxy = storm.proxy().await?;
            storm.replicas.push(Replica {
                proxy,
                operator: None,
                pod: 0,
            });
            storm.start(at).await?;
        }
        Ok(storm)
    }

    fn groups(&self) -> impl Iterator<Item = String> {
        (0..self.options.groups).map(|number| format!("group-{number}"))
    }

    fn api(&self) -> Api<DynamicObject> {
        let resource =
            ApiResource::from_gvk(&GroupVersionKind::gvk("kawaja.net", "v1", "OaatGroup"));
        Api::namespaced_with(self.plane.admin(), &self.options.namespace, &resource)
    }

    async fn apply(&self) -> Result<()> {
        let script = "sleep 0.$((RANDOM % 4))$((RANDOM % 10)); [ $OAAT_ITEM != bad ]";
        let object = |kind: &str, name: &str, spec: Value| {
            json!({
                "apiVersion": "kawaja.net/v1", "kind": kind, "spec": spec,
                "metadata": { "name": name, "namespace": self.options.namespace },
            })
            .to_string()
        };
        let container =
            json!({ "name": "main", "image": "any", "command": ["bash", "-c", script] });
        let podspec = json!({ "container": container });
        let spec = json!({ "type": "pod", "podspec": podspec });
        self.plane.apply(&object("OaatType", "work", spec)).await?;
        for name in self.groups() {
            let spec = json!({
                "oaatType": "work", "oaatItems": ITEMS,
                "frequency": "1s", "failureCoolOff": "1s",
            });
            self.plane.apply(&object("OaatGroup", &name, spec)).await?;
        }
        Ok(())
    }

    async fn proxy(&self) -> Result<Proxy> {
        let dice = Arc::clone(&self.dice);
        let (calm, broken) = (Arc::clone(&self.calm), Arc::clone(&self.broken));
        Proxy::start(&self.options.kubeconfig, move |seen| {
            let roll = dice.below(1000);
            // An operator exits if it cannot renew the lease, which another test covers.
            if calm.load(Ordering::Relaxed) || seen.uri.path().contains("/leases") {
                return Fate::Passes;
            }
            let fate = match roll {
                0..50 => Fate::Late(dice.millis(1, 400)),
                50..70 => Fate::Breaks,
                70..110 if seen.method != Method::GET => Fate::Unheard,
                110..112 if seen.method != Method::GET => Fate::Silent,
                _ => return Fate::Passes,
            };
            broken.fetch_add(1, Ordering::Relaxed);
            fate
        })
        .await
    }

    /// Starts an operator for a replica that has none. If it does not start because of faults in
    /// its first requests, it is started again, as a kubelet would do.
    async fn start(&mut self, at: usize) -> Result<()> {
        let replica = &mut self.replicas[at];
        let options = OperatorOptions {
            binary: self.options.binary.clone(),
            kubeconfig: replica.proxy.kubeconfig().to_owned(),
            namespaces: vec![self.options.namespace.clone()],
            leader_elect: self.options.leader_elect,
            retry_floor: "300ms".into(),
            log_dir: self.plane.folder().to_owned(),
            more: Vec::new(),
        };
        let name = format!("replica-{at}-{}", replica.pod);
        let pod = [
            ("POD_NAME", name.as_str()),
            ("POD_UID", name.as_str()),
            ("POD_NAMESPACE", self.options.namespace.as_str()),
        ];
        for _ in 0..10 {
            match Operator::start_as(&options, &pod).await {
                Ok(operator) => {
                    replica.operator = Some(operator);
                    return Ok(());
                }
                Err(error) => eprintln!("started again: {error:#}"),
            }
        }
        anyhow::bail!("the operator does not start")
    }

    /// Waits until all groups have settled. Compares the observations of the witness, the processes
    /// on the node, and the status of the groups. Returns the number of runs.
    async fn account(&mut self) -> Result<usize> {
        self.calm.store(true, Ordering::Relaxed);
        let spec = json!({ "spec": { "frequency": "24h", "failureCoolOff": "24h" } });
        let start = Instant::now();
        let params = PatchParams::default();
        for name in self.groups() {
            // A recently started API server may still return errors.
            while let Err(error) = self.api().patch(&name, &params, &Patch::Merge(&spec)).await {
                ensure!(start.elapsed() < PATIENCE, "the spec of {name}: {error}");
                sleep(Duration::from_millis(250)).await;
            }
        }
        let groups = loop {
            for at in 0..self.replicas.len() {
                let operator = self.replicas[at].operator.take();
                match operator.filter(|operator| operator.process().is_running()) {
                    Some(operator) => self.replicas[at].operator = Some(operator),
                    None => self.start(at).await?,
                }
            }
            let groups = self.settled().await;
            match groups {
                Ok(groups) if groups.iter().all(|(_, _, settled)| *settled) => break groups,
                groups => ensure!(
                    start.elapsed() < PATIENCE,
                    "the groups did not settle: {}",
                    self.unsettled(groups).await
                ),
            }
            sleep(Duration::from_millis(250)).await;
        };
        let seen = self.witness.runs()?;
        let wrong = overlaps(&self.node.runs(), &seen);
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        let mut opened: BTreeMap<String, Vec<Opened>> = BTreeMap::new();
        for pod in seen {
            opened.entry(pod.group.clone()).or_default().push(pod);
        }
        let mut runs = 0;
        for (name, status, _) in groups {
            let pods = opened.remove(&name).unwrap_or_default();
            runs += pods.len();
            check(&status, &pods).with_context(|| format!("{name}: {status:#}"))?;
        }
        ensure!(opened.is_empty(), "pods without a group: {opened:?}");
        ensure!(
            self.node.runs().len() == runs,
            "a pod without a gate did not run"
        );
        Ok(runs)
    }

    /// Describes the groups that have not settled, all pods, and the last log lines.
    async fn unsettled(&self, groups: Result<Vec<(String, Value, bool)>>) -> String {
        let mut groups = match groups {
            Ok(groups) => groups,
            Err(error) => return format!("{error:#}"),
        };
        groups.retain(|(_, _, settled)| !settled);
        let mut out = String::new();
        for (name, mut status, _) in groups {
            if let Some(status) = status.as_object_mut() {
                status.remove("history");
            }
            out.push_str(&format!("{name}: {status:#}\n"));
        }
        let pods: Api<Pod> = Api::namespaced(self.plane.admin(), &self.options.namespace);
        for pod in pods.list(&Default::default()).await.into_iter().flatten() {
            let phase = pod.status.as_ref().and_then(|status| status.phase.clone());
            let gates = pod
                .spec
                .as_ref()
                .and_then(|spec| spec.scheduling_gates.as_ref());
            let deleted = &pod.metadata.deletion_timestamp;
            out.push_str(&format!(
                "pod {}: {phase:?}, gates {gates:?}, deleted {deleted:?}\n",
                pod.name_any()
            ));
        }
        for operator in self.replicas.iter().flat_map(|replica| &replica.operator) {
            out.push_str(&operator.last_log(40));
        }
        out
    }

    /// Returns the status of every group, and whether it has settled.
    async fn settled(&self) -> Result<Vec<(String, Value, bool)>> {
        let groups = self.api().list(&Default::default()).await?.items;
        let judge = |group: DynamicObject| {
            let status = group.data["status"].clone();
            let seen = status["observedGeneration"].as_i64() == group.metadata.generation;
            let ran = |item: &&str| status["items"][*item]["runs"].as_i64() > Some(0);
            let settled = seen && status["current"].is_null() && ITEMS.iter().all(ran);
            (group.name_any(), status, settled)
        };
        Ok(groups.into_iter().map(judge).collect())
    }
}

/// Checks that each run of a group is recorded once, with the correct result.
fn check(status: &Value, pods: &[Opened]) -> Result<()> {
    let count = |key: &str, item: &str| status["items"][item][key].as_i64().unwrap_or(0);
    let recorded: i64 = ITEMS.iter().map(|item| count("runs", item)).sum();
    ensure!(
        recorded == i64::try_from(pods.len())?,
        "{recorded} runs are recorded, but {} pods were released",
        pods.len()
    );
    let failed = pods.iter().filter(|pod| pod.phase == "Failed").count();
    ensure!(
        count("runs", "bad") == i64::try_from(failed)?
            && count("failures", "bad") == i64::try_from(failed)?,
        "{failed} pods failed"
    );
    for item in ITEMS.iter().filter(|item| **item != "bad") {
        ensure!(count("failures", item) == 0, "{item} never failed");
    }
    let numbers: BTreeSet<_> = pods.iter().filter_map(|pod| pod.run).collect();
    ensure!(
        numbers.len() == pods.len(),
        "two pods have the same run number"
    );
    Ok(())
}
