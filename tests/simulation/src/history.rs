//! One history: replicas, a cluster, and a node under faults, from a seed to a result.

use crate::config::{HistoryConfig, HistoryResult, Kill};
use crate::controllers;
use crate::event::{Event, Request};
use crate::fault_injection;
use crate::faults::FaultSet;
use crate::node::{self, RunProfile};
use crate::oracle::instant;
use crate::randomness::Randomness;
use crate::replica::{self, Progress, Replica};
use crate::simulated_cluster::{Change, Group, SimulatedCluster};
use crate::user_interference;
use crate::violation::ViolationKind;
use oaat_api::{OaatGroupSpec, OaatTypeSpec};
use oaat_operator::pod::PodView;
use oaat_operator::run_now;
use oaat_operator::snapshot::TypeRead;
use policy_host::Policy;
use serde_json::json;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

/// The state of one history.
pub struct History<'a> {
    default: &'a Policy,
    /// The random numbers.
    pub random: Randomness,
    /// The simulated cluster.
    pub cluster: SimulatedCluster,
    /// The replicas of the operator.
    pub replicas: Vec<Replica>,
    /// The set that faults are drawn from.
    pub faults: FaultSet,
    /// A write at which its replica is killed.
    pub kill: Option<Kill>,
    /// The number of writes that were sent.
    pub writes: u64,
    /// Whether the replicas elect a leader.
    pub election: bool,
    /// The group's spec, to create it again.
    pub spec: OaatGroupSpec,
    type_: TypeRead,
    floor: Duration,
    run_profile: RunProfile,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: std::collections::HashMap<u64, Event>,
    sequence: u64,
    settled_since: Option<u64>,
    reconciles: u64,
    trace_lines: Option<Vec<String>>,
}

/// The virtual time in milliseconds within which every item must succeed after the faults end.
const MAX_STALL_MS: u64 = 2 * 60 * 60 * 1000;
/// More reconciles than this are an endless loop.
const MAX_RECONCILES: u64 = 20_000;

impl<'a> History<'a> {
    /// Runs a history.
    pub fn run(config: &HistoryConfig, default: &'a Policy) -> HistoryResult {
        replica::begin();
        let mut history = Self::new(config, default);
        history.run_events();
        let trace = history.trace_lines.take().unwrap_or_default();
        HistoryResult {
            violation: history.cluster.oracle.violation,
            runs: history.cluster.oracle.runs,
            reconciles: history.reconciles,
            writes: history.writes,
            faults: history.random.injected,
            trace,
        }
    }

    fn new(config: &HistoryConfig, default: &'a Policy) -> Self {
        let mut random = Randomness::new(config.seed, &config.without);
        random.fault_free = config.faults == FaultSet::None;
        let names = ["a", "b", "c", "d"];
        let items = &names[..random.draw(1..5) as usize];
        let mut spec: OaatGroupSpec = serde_json::from_value(json!({
            "oaatType": "t",
            "oaatItems": items,
            "frequency": random.pick(&["10s", "1m", "3m"]),
            "failureCoolOff": random.pick(&["0s", "5s", "1m"]),
            "startTimeout": random.pick(&["0s", "2s", "30s", "15m"]),
            "podRetention": random.pick(&["0s", "10s", "12h"]),
            "podHistoryLimit": random.pick(&[0, 1, 3, 10]),
        }))
        .unwrap_or_else(|error| panic!("invalid spec of a history: {error}"));
        if config.faults == FaultSet::ItemLists {
            let container = json!({
                "podspec": { "container": { "name": "main", "image": "busybox" } },
                "refresh": "10s", "timeout": "20s",
            });
            let source = json!({ "name": "disks", "container": container });
            spec.items_from.extend(serde_json::from_value(source));
        }
        let mut podspec = json!({ "container": { "name": "main", "image": "busybox" } });
        if config.faults == FaultSet::Disruptions {
            spec.max_failures = Some(2);
            if random.draw(0..2) == 0 {
                podspec["schedulingGates"] = json!([{ "name": "queue" }]);
            }
        }
        let mut type_ = json!({ "type": "pod", "podspec": podspec });
        if config.faults == FaultSet::SidecarsAndDeletions {
            type_["completionContainers"] = json!(["main"]);
        }
        let type_: OaatTypeSpec = serde_json::from_value(type_)
            .unwrap_or_else(|error| panic!("invalid type of a history: {error}"));
        let type_ = TypeRead::Valid(Arc::new(type_));
        let count = random.draw(1..4) as usize;
        // Either a leader is elected, or there is no leader and all replicas act, or all replicas
        // believe that they lead.
        let (election, leads) = random.pick(&[(true, false), (false, false), (false, true)]);
        let replicas = (0..count)
            .map(|i| Replica::new(i as u64, leads || (election && i == 0), 0))
            .collect();
        let run_profile = RunProfile {
            max_run_ms: random.pick(&[50, 2_000, 40_000]),
            failures_per_1000: random.pick(&[0, 200, 600]),
        };
        let floor = Duration::from_secs(random.pick(&[0, 1, 10]));
        let mut history = Self {
            default,
            cluster: SimulatedCluster::new(config.mutation),
            replicas,
            faults: config.faults,
            kill: config.kill,
            writes: 0,
            election,
            spec,
            type_,
            floor,
            run_profile,
            queue: BinaryHeap::new(),
            events: std::collections::HashMap::new(),
            sequence: 0,
            settled_since: None,
            reconciles: 0,
            trace_lines: config.trace.then(Vec::new),
            random,
        };
        for replica in 0..count {
            history.schedule(0, Event::RestoreType(replica));
        }
        history.cluster.oracle.floor = floor.as_millis() as i64;
        history.cluster.create_group(history.spec.clone());
        let fault_time = history.random.draw(10_000..60_000);
        history.schedule(fault_time, Event::FaultsEnd);
        history.schedule(500, Event::InjectFault);
        history.schedule(1000, Event::RunControllers);
        history
    }

    /// Schedules an event in `later` milliseconds.
    pub fn schedule(&mut self, later: u64, event: Event) {
        self.sequence += 1;
        let key = (self.cluster.now + later, self.sequence);
        self.queue.push(Reverse(key));
        self.events.insert(self.sequence, event);
    }

    /// Records a step, if the history is traced.
    pub fn trace(&mut self, details: impl FnOnce() -> String) {
        let now = self.cluster.now;
        if let Some(lines) = &mut self.trace_lines {
            lines.push(format!("{:>9.3} s  {}", now as f64 / 1000.0, details()));
        }
    }

    fn run_events(&mut self) {
        while let Some(Reverse((time, sequence))) = self.queue.pop() {
            let Some(event) = self.events.remove(&sequence) else {
                continue;
            };
            self.cluster.now = time;
            self.handle(event);
            self.deliver_changes();
            if self.cluster.oracle.violation.is_some() || self.reconciles > MAX_RECONCILES {
                return;
            }
            let Some(settled_since) = self.settled_since else {
                continue;
            };
            if std::mem::take(&mut self.cluster.written) && self.all_items_succeeded(settled_since)
            {
                return self.check_final_state();
            }
            if time > settled_since + MAX_STALL_MS {
                let status = self
                    .cluster
                    .group
                    .as_ref()
                    .map(|group| group.status.clone());
                let details = format!("no progress: {}", status.unwrap_or_default());
                return self.cluster.oracle.report(ViolationKind::Stuck, details);
            }
        }
        let details = "no events are left".to_owned();
        self.cluster.oracle.report(ViolationKind::Stuck, details);
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Wake(replica, life) => {
                let target = &mut self.replicas[replica];
                let may_reconcile =
                    target.alive && !target.paused && (!self.election || target.leads);
                if !may_reconcile || target.life != life || !target.wake(self.default, self.floor) {
                    return;
                }
                self.reconciles += 1;
                if self.reconciles > MAX_RECONCILES {
                    let details = "endless reconciles".to_owned();
                    self.cluster.oracle.report(ViolationKind::Stuck, details);
                }
                self.poll(replica);
            }
            Event::RequestArrives(request, response_delay) => {
                self.deliver(&request, response_delay)
            }
            Event::ResponseArrives(replica, life, call, reply) => {
                let target = &mut self.replicas[replica];
                if !target.alive || target.life != life {
                    return;
                }
                if target.paused {
                    return self.schedule(100, Event::ResponseArrives(replica, life, call, reply));
                }
                target.client.requests().answer(call, *reply);
                self.poll(replica);
            }
            Event::WatchEvent(replica, life, change) => {
                self.receive_watch_event(replica, life, &change)
            }
            Event::StatusChanged(replica, life, version) => {
                let target = &self.replicas[replica];
                if target.life == life && target.wrote < version {
                    self.wake(replica, 0);
                }
            }
            Event::Node(uid, step) => {
                self.trace(|| format!("node: {step:?} {uid}"));
                let (cluster, random) = (&mut self.cluster, &mut self.random);
                for (wait, uid, step) in node::step(cluster, &uid, step, self.run_profile, random) {
                    self.schedule(wait, Event::Node(uid, step));
                }
            }
            Event::InjectFault => {
                if let Some(fault) = self.random.fault(self.faults.other_faults_per_1000()) {
                    fault_injection::inject(self, fault);
                }
                if !self.random.fault_free {
                    let wait = self.random.draw(50..1000);
                    self.schedule(wait, Event::InjectFault);
                }
            }
            Event::RunControllers => {
                controllers::run(self);
                self.schedule(1000, Event::RunControllers);
            }
            Event::Restart(replica) => self.restart(replica),
            Event::Resume(replica, life) => {
                let target = &mut self.replicas[replica];
                if target.life == life && target.alive && target.paused {
                    target.paused = false;
                    self.trace(|| format!("replica {replica} resumes"));
                    self.wake(replica, 1);
                    self.lose_lease(replica);
                }
            }
            Event::LeaseLost(replica, life) => {
                let target = &self.replicas[replica];
                if target.life == life && target.alive {
                    self.crash(replica, 1_000);
                }
            }
            Event::Relist(replica, life) => {
                if self.replicas[replica].life == life {
                    let version = self.cluster.group_version();
                    self.replicas[replica].relist(version);
                    self.wake(replica, 1);
                }
            }
            Event::Recreate => {
                if self.cluster.namespace_ends.is_some() {
                    self.schedule(1_000, Event::Recreate);
                } else if self.cluster.group.is_none() {
                    self.trace(|| "the group is created again".into());
                    self.cluster.create_group(self.spec.clone());
                }
            }
            Event::RestoreType(replica) => {
                self.replicas[replica].client.requests().type_ = Some(self.type_.clone());
                self.wake(replica, 1);
            }
            Event::LiftRestrictions => user_interference::lift_restrictions(&mut self.cluster),
            Event::FaultsEnd => self.end_faults(),
            Event::FaultsSettled => {
                user_interference::delete_blocking_pods(&mut self.cluster);
                self.schedule(5_000, Event::Recreate);
                self.settled_since = Some(self.cluster.now);
                self.trace(|| "the faults have settled".into());
            }
        }
    }

    fn end_faults(&mut self) {
        self.trace(|| "the faults end".into());
        self.random.fault_free = true;
        self.cluster.node_clock = 0;
        self.cluster.interrupt_deletion = false;
        for replica in 0..self.replicas.len() {
            self.restart(replica);
            self.replicas[replica].clock = 0;
            let life = self.replicas[replica].life;
            self.schedule(0, Event::Resume(replica, life));
            self.schedule(1, Event::Relist(replica, life));
            self.schedule(1, Event::RestoreType(replica));
        }
        self.run_profile.failures_per_1000 = 0;
        self.spec.max_failures = None;
        if matches!(
            self.faults,
            FaultSet::SuspendAndRunNow | FaultSet::Disruptions
        ) {
            self.schedule(1, Event::LiftRestrictions);
        }
        self.schedule(5_000, Event::Recreate);
        // This is longer than the longest delay of a request and than the node hangs.
        self.schedule(65_000, Event::FaultsSettled);
    }

    /// Continues the reconcile of a replica and sends its new requests.
    fn poll(&mut self, replica: usize) {
        let now = self.cluster.now;
        let rule = self.cluster.mutation;
        let progress = self.replicas[replica].poll(now, rule, &mut self.random);
        let target = &self.replicas[replica];
        let (life, new) = (
            target.life,
            std::mem::take(&mut target.client.requests().new),
        );
        let clock = target.clocks;
        for (call, verb) in new {
            // An earlier request may have killed its sender.
            if !self.replicas[replica].alive {
                return;
            }
            self.send(Request {
                replica,
                life,
                call,
                verb: Box::new(verb),
                clock,
                kill_sender_for: None,
            });
        }
        if let Progress::Done(Some(wait)) = progress {
            self.schedule(wait, Event::Wake(replica, life));
        }
    }

    /// Delivers the changes to the watches and to the node.
    fn deliver_changes(&mut self) {
        for change in std::mem::take(&mut self.cluster.changes)
            .into_iter()
            .map(Arc::new)
        {
            for (wait, uid, step) in node::react(&change, &mut self.random) {
                self.schedule(wait, Event::Node(uid, step));
            }
            if let Change::Opened(_) | Change::Terminating(..) = *change {
                continue;
            }
            for replica in 0..self.replicas.len() {
                let wait = match self.random.fault(10) {
                    Some(mut fault) => fault.draw(0..5_000),
                    None => self.random.draw(1..20),
                };
                let life = self.replicas[replica].life;
                self.schedule(wait, Event::WatchEvent(replica, life, change.clone()));
            }
        }
    }

    /// Returns whether each item has succeeded since `since`.
    fn all_items_succeeded(&self, since: u64) -> bool {
        let Some(group) = &self.cluster.group else {
            return false;
        };
        let items = &group.status["items"];
        if self.faults == FaultSet::SuspendAndRunNow && self.run_now_pending() {
            return false;
        }
        let listed = match self.faults {
            FaultSet::ItemLists => self.cluster.listed.as_slice(),
            _ => &[],
        };
        group
            .object
            .spec
            .oaat_items
            .iter()
            .chain(listed)
            .all(|item| {
                let last = items
                    .get(item)
                    .and_then(|item| instant(&item["lastSuccess"]));
                last.is_some_and(|last| last > crate::simulated_cluster::wall(since))
            })
    }

    /// Returns whether a requested item has not been started.
    fn run_now_pending(&self) -> bool {
        let status = |group: &Group| serde_json::from_value(group.status.clone()).ok();
        self.cluster.group.as_ref().is_some_and(|group| {
            let status = status(group).unwrap_or_default();
            !run_now::pending(&group.object, &group.object.spec.oaat_items, &status).is_empty()
        })
    }

    fn check_final_state(&mut self) {
        let current = self.cluster.current().unwrap_or_default().to_owned();
        let group = self.cluster.group_uid().unwrap_or_default();
        self.cluster
            .oracle
            .check_all_recorded(&self.cluster.truth, &group, &current);
        let now = self.cluster.now;
        let leftover = self.cluster.pods.values().map(PodView::from).find(|pod| {
            let age = now.saturating_sub(self.cluster.truth[&pod.uid].created);
            pod.gated && pod.uid != current && age > 60_000
        });
        if let Some(pod) = leftover {
            let details = format!("candidate {} was not removed", pod.name);
            self.cluster.oracle.report(ViolationKind::LeftOver, details);
        }
    }
}
