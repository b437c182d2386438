//! The simulated cluster: the objects of the API server, and the true state of each pod, which only
//! the oracle reads.

use crate::mutation::{Mutation, breaks};
use crate::oracle::Oracle;
use crate::violation::ViolationKind;
use k8s_openapi::api::core::v1::{Pod, PodSchedulingGate};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff;
use oaat_api::{OaatGroup, OaatGroupSpec};
use oaat_operator::pod::{PodView, names};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The name of the group.
pub const GROUP: &str = "g";
/// The namespace of the group.
pub const NAMESPACE: &str = "n";

/// The true state of a pod, whatever the API server shows.
#[derive(Clone, Debug, Default)]
pub struct PodTruth {
    /// The name of the pod.
    pub name: String,
    /// The UID of the group that the pod was created for; `None` for a foreign pod.
    pub group: Option<String>,
    /// When the pod was created, in milliseconds since the history began.
    pub created: u64,
    /// Whether the operator's gate was removed at any time.
    pub opened: bool,
    /// Whether the pod is bound to the node.
    pub bound: bool,
    /// Whether it has a sidecar, which runs until the pod is deleted.
    pub sidecar: bool,
    /// Whether any of its containers runs.
    pub running: bool,
    /// The exit code of its main container and when it ended.
    pub ended: Option<(i32, u64)>,
    /// How far the node's clock was ahead when the container ended, in milliseconds.
    pub clock: i64,
    /// Whether the pod was evicted, or was lost with its node.
    pub evicted: bool,
    /// Whether the pod and its container are gone, or the API server also shows that they ended.
    pub gone: bool,
    /// When the pod was first deleted before its container had ended.
    pub deleted_while_running: Option<u64>,
    /// When the pod was disrupted.
    pub disrupted: Option<u64>,
    /// Whether the namespace controller was the first to delete the running pod.
    pub with_namespace: bool,
    /// Whether the pod prints a list of items and is not a run.
    pub lister: bool,
    /// The output of the pod.
    pub printed: Option<String>,
    /// Whether a claim of the pod was written.
    pub claimed: bool,
    /// Whether an operator deleted the pod while it was gated and unclaimed.
    pub removed: bool,
}

/// The group.
pub struct Group {
    /// The object without the status.
    pub object: OaatGroup,
    /// The status.
    pub status: Value,
}

/// A change that watches report.
#[derive(Clone, Debug)]
pub enum Change {
    /// The group's metadata or spec changed, or the group was created or deleted.
    Group,
    /// The group's status changed; the resource version after the change.
    Status(u64),
    /// A pod was created or changed; its new state.
    Pod(Box<PodView>),
    /// A pod was deleted; its last state.
    PodGone(Box<PodView>),
    /// A pod lost its gate, so the node may start it.
    Opened(String),
    /// A bound pod is being deleted; its grace period in seconds.
    Terminating(String, u64),
}

/// The simulated cluster.
pub struct SimulatedCluster {
    /// The time in milliseconds since the history began.
    pub now: u64,
    counter: u64,
    /// The group, if it exists.
    pub group: Option<Group>,
    /// The pods by name.
    pub pods: BTreeMap<String, Pod>,
    /// The true state of each pod by UID, including deleted pods.
    pub truth: BTreeMap<String, PodTruth>,
    /// The changes that have not been delivered.
    pub changes: Vec<Change>,
    /// When the deletion of the namespace began, while it lasts.
    pub namespace_ends: Option<u64>,
    /// How far the node's clock is ahead, in milliseconds.
    pub node_clock: i64,
    /// Whether to interrupt the deletion of the next pod that is not bound.
    pub interrupt_deletion: bool,
    /// The list of items that pods print.
    pub listed: Vec<String>,
    /// Whether the group was written since this was last reset.
    pub written: bool,
    /// The rule that is switched off.
    pub mutation: Option<Mutation>,
    /// The checks.
    pub oracle: Oracle,
}

/// When histories begin: 2026-01-01, in milliseconds.
const EPOCH: i64 = 1_767_225_600_000;

/// Returns the wall-clock time at a moment of the history, in milliseconds.
pub fn wall(now: u64) -> i64 {
    EPOCH + now as i64
}

/// Returns the time in whole seconds, as in the API.
pub fn time(now: u64) -> Time {
    skewed_time(now, 0)
}

/// Returns the time in whole seconds by a clock that is this far ahead, in milliseconds.
pub fn skewed_time(now: u64, clock: i64) -> Time {
    let seconds = (wall(now) + clock).div_euclid(1000);
    Time(jiff::Timestamp::from_second(seconds).unwrap_or_default())
}

/// Returns a pod's UID.
pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

pub(crate) fn gates(pod: &mut Pod) -> Option<&mut Vec<PodSchedulingGate>> {
    pod.spec.as_mut()?.scheduling_gates.as_mut()
}

impl SimulatedCluster {
    /// Creates an empty cluster.
    pub fn new(mutation: Option<Mutation>) -> Self {
        Self {
            now: 0,
            counter: 0,
            group: None,
            pods: BTreeMap::new(),
            truth: BTreeMap::new(),
            changes: Vec::new(),
            namespace_ends: None,
            node_clock: 0,
            interrupt_deletion: false,
            listed: vec!["x".into(), "y".into()],
            written: false,
            mutation,
            oracle: Oracle::new(mutation.map(breaks)),
        }
    }

    fn count(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// Creates the group.
    pub fn create_group(&mut self, spec: OaatGroupSpec) {
        let mut object = OaatGroup::new(GROUP, spec);
        object.metadata.namespace = Some(NAMESPACE.into());
        object.metadata.uid = Some(format!("group-{}", self.count()));
        object.metadata.generation = Some(1);
        object.metadata.creation_timestamp = Some(time(self.now));
        self.group = Some(Group {
            object,
            status: json!({}),
        });
        self.touch_group(Some(Change::Group));
    }

    /// Gives the group a new resource version. `other` is the change, unless it is a change of the
    /// status.
    pub fn touch_group(&mut self, other: Option<Change>) -> u64 {
        let version = self.count();
        self.written = true;
        if let Some(group) = &mut self.group {
            let meta = &mut group.object.metadata;
            meta.resource_version = Some(version.to_string());
            if other.is_some() {
                meta.generation = Some(meta.generation.unwrap_or(0) + 1);
            }
        }
        self.changes.push(other.unwrap_or(Change::Status(version)));
        version
    }

    /// Returns the resource version of the group, if it exists.
    pub fn group_version(&self) -> Option<String> {
        self.group
            .as_ref()?
            .object
            .metadata
            .resource_version
            .clone()
    }

    /// Returns the UID of the group, if it exists.
    pub fn group_uid(&self) -> Option<String> {
        let group = self.group.as_ref()?;
        group.object.metadata.uid.clone()
    }

    /// Returns the UID of the current pod.
    pub fn current(&self) -> Option<&str> {
        self.group.as_ref()?.status["current"]["podUid"].as_str()
    }

    /// Returns whether a pod prints a list of items.
    pub fn lister(&self, uid: &str) -> bool {
        self.truth.get(uid).is_some_and(|truth| truth.lister)
    }

    /// Returns the name of the pod with this UID, if it still exists.
    pub fn name_of(&self, uid_: &str) -> Option<String> {
        let name = &self.truth.get(uid_)?.name;
        let pod = self.pods.get(name)?;
        (uid(pod) == uid_).then(|| name.clone())
    }

    /// Changes a pod, if it still exists.
    pub fn change_pod(&mut self, uid: &str, change: impl FnOnce(&mut Pod)) {
        let Some(name) = self.name_of(uid) else {
            return;
        };
        let version = self.count();
        if let Some(pod) = self.pods.get_mut(&name) {
            change(pod);
            pod.metadata.resource_version = Some(version.to_string());
            let view = PodView::from(&*pod);
            if let Some(truth) = self.truth.get_mut(uid) {
                truth.gone = view.is_terminal() && !truth.running;
            }
            self.changes.push(Change::Pod(Box::new(view)));
        }
        self.check();
    }

    /// Removes a pod at once.
    pub fn remove_pod(&mut self, uid: &str) {
        let Some(name) = self.name_of(uid) else {
            return;
        };
        if let Some(pod) = self.pods.remove(&name) {
            if let Some(truth) = self.truth.get_mut(uid) {
                truth.gone = !truth.running;
            }
            self.changes.push(Change::PodGone(Box::new((&pod).into())));
        }
        self.check();
    }

    /// Adds a pod. `foreign`: a user created it, not the operator.
    pub fn put_pod(&mut self, mut pod: Pod, foreign: bool) -> Pod {
        let uid = format!("pod-{}", self.count());
        let name = pod.metadata.name.clone().unwrap_or_default();
        pod.metadata.uid = Some(uid.clone());
        pod.metadata.resource_version = Some(self.count().to_string());
        pod.metadata.creation_timestamp = Some(time(self.now));
        let owner = PodView::from(&pod).owner;
        let labels = pod.metadata.labels.as_ref();
        let lister = labels.is_some_and(|labels| labels.contains_key(names::LISTER));
        let sidecar = pod
            .metadata
            .annotations
            .as_ref()
            .is_some_and(|all| all.contains_key(names::COMPLETION_CONTAINERS));
        let gated = gates(&mut pod).is_some_and(|gates| !gates.is_empty());
        self.truth.insert(
            uid.clone(),
            PodTruth {
                name: name.clone(),
                group: if foreign { None } else { owner },
                created: self.now,
                opened: !gated,
                lister,
                sidecar,
                ..PodTruth::default()
            },
        );
        self.changes.push(Change::Pod(Box::new((&pod).into())));
        if !gated {
            self.changes.push(Change::Opened(uid));
        }
        self.pods.insert(name, pod.clone());
        self.check();
        pod
    }

    /// Returns when the latest object was created that the operator reads, in milliseconds.
    pub fn latest_creation(&self) -> i64 {
        let group = self.group.as_ref();
        let group = group.and_then(|group| group.object.metadata.creation_timestamp.as_ref());
        let pods = self.labelled();
        let pods = pods.filter_map(|pod| pod.metadata.creation_timestamp.as_ref());
        let times = group.into_iter().chain(pods);
        times.map(|at| at.0.as_millisecond()).max().unwrap_or(0)
    }

    /// Removes a pod's gate.
    pub fn open(&mut self, uid: &str) {
        let opened = self.truth.get(uid).is_some_and(|truth| truth.opened);
        if opened || self.name_of(uid).is_none() {
            return;
        }
        if let Some(truth) = self.truth.get_mut(uid) {
            truth.opened = true;
        }
        self.change_pod(uid, |pod| {
            if let Some(gates) = gates(pod) {
                gates.retain(|gate| gate.name != names::GATE);
            }
        });
        self.changes.push(Change::Opened(uid.to_owned()));
    }

    /// Deletes a pod gracefully.
    pub fn delete(&mut self, uid: &str) {
        let Some(name) = self.name_of(uid) else {
            return;
        };
        let Some(pod) = self.pods.get(&name) else {
            return;
        };
        let (view, terminating) = (
            PodView::from(pod),
            pod.metadata.deletion_timestamp.is_some(),
        );
        let Some(truth) = self.truth.get_mut(uid) else {
            return;
        };
        if !view.is_terminal() && truth.ended.is_none() && !truth.evicted {
            truth.deleted_while_running.get_or_insert(self.now);
        }
        // A pod that is not bound has no grace period.
        if !truth.bound {
            let interrupted = std::mem::take(&mut self.interrupt_deletion) && !view.is_terminal();
            if !interrupted || terminating {
                return self.remove_pod(uid);
            }
            let now = time(self.now);
            return self.change_pod(uid, |pod| {
                pod.metadata.deletion_timestamp = Some(now);
                pod.metadata.deletion_grace_period_seconds = Some(0);
            });
        }
        if terminating {
            return;
        }
        let grace = 30;
        let deadline = time(self.now + grace * 1000);
        self.change_pod(uid, |pod| {
            pod.metadata.deletion_timestamp = Some(deadline);
            pod.metadata.deletion_grace_period_seconds = Some(grace as i64);
        });
        self.changes
            .push(Change::Terminating(uid.to_owned(), grace));
    }

    /// Deletes a pod on behalf of the namespace controller.
    pub fn delete_with_namespace(&mut self, uid: &str) {
        let deleted = |cluster: &Self| cluster.truth.get(uid)?.deleted_while_running;
        let before = deleted(self).is_some();
        self.delete(uid);
        let after = deleted(self).is_some();
        if let Some(truth) = self.truth.get_mut(uid) {
            truth.with_namespace |= after && !before;
        }
    }

    /// Removes the group at once.
    pub fn remove_group(&mut self) {
        self.group = None;
        self.changes.push(Change::Group);
    }

    /// Reports a violation if two pods of a group may run, or run, at the same time.
    pub fn check(&mut self) {
        let runnable = |(uid_, truth): (&String, &PodTruth)| {
            if truth.running {
                return true;
            }
            let pod = self.pods.get(&truth.name).filter(|pod| uid(pod) == uid_);
            pod.is_some_and(|pod| !PodView::from(pod).is_terminal())
        };
        let opened = self
            .truth
            .iter()
            .filter(|(_, truth)| truth.group.is_some() && truth.opened && !truth.gone);
        let running = opened.filter(|one| runnable((one.0, one.1)));
        // A pod that prints a list may run beside a run, but not beside another such pod.
        let (listers, running): (Vec<_>, Vec<_>) = running.partition(|(_, truth)| truth.lister);
        for pods in [running, listers] {
            let names = pods
                .iter()
                .map(|(uid, truth)| format!("{} ({uid})", truth.name));
            let names: Vec<_> = names.collect();
            if names.len() > 1 {
                let details = format!("two pods at once: {}", names.join(" and "));
                self.oracle.report(ViolationKind::TwoAtOnce, details);
            }
        }
    }

    /// Returns all pods with the group's label.
    pub fn labelled(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values().filter(|pod| {
            let labels = pod.metadata.labels.as_ref();
            labels.is_some_and(|labels| labels.contains_key(names::GROUP))
        })
    }
}
