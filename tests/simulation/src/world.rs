//! The API server, as far as the cycle sees it, and beside each pod the truth about it, which
//! only the oracle knows.

use crate::mutation::{Mutation, breaks};
use crate::oracle::Oracle;
use crate::violation::Kind;
use k8s_openapi::api::core::v1::{Pod, PodSchedulingGate};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff;
use oaat_api::{OaatGroup, OaatGroupSpec};
use oaat_operator::pod::{PodView, names};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Name of the one group.
pub const GROUP: &str = "g";
/// Its namespace.
pub const NAMESPACE: &str = "n";

/// What is so, whatever the API says.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// Name of the pod.
    pub name: String,
    /// Uid of the group that it was made for; none for a foreigner's.
    pub group: Option<String>,
    /// When it was created.
    pub created: u64,
    /// Our gate was taken away at some time.
    pub opened: bool,
    /// A node has it.
    pub bound: bool,
    /// Its container runs.
    pub live: bool,
    /// How its container ended, and when.
    pub ended: Option<(i32, u64)>,
    /// By how many milliseconds the node's clock was ahead then.
    pub clock: i64,
    /// It was evicted.
    pub evicted: bool,
    /// The pod and its container are gone, or have ended for the server as well.
    pub gone: bool,
    /// When somebody asked for its deletion before its container had ended.
    pub deleted_while_running: Option<u64>,
    /// And that was the namespace controller, and nobody before it.
    pub with_namespace: bool,
    /// It prints a list of items, and is no run.
    pub lister: bool,
    /// What it has printed.
    pub printed: Option<String>,
    /// Its claim has been written.
    pub claimed: bool,
    /// An operator has had it deleted, shut as it was, before anybody claimed it.
    pub removed: bool,
}

/// The group.
pub struct Group {
    /// Everything but the status.
    pub object: OaatGroup,
    /// The status.
    pub status: Value,
}

/// What has happened, for those who watch.
#[derive(Clone, Debug)]
pub enum Change {
    /// The group's spec, or the whole group.
    Group,
    /// The group's status, which has this version now.
    Status(u64),
    /// A pod, as it is now.
    Pod(Box<PodView>),
    /// A pod that is gone, as it was last.
    PodGone(Box<PodView>),
    /// A pod may be started by a node.
    Opened(String),
    /// A pod that a node has was asked to go, and so many seconds are left to it.
    Going(String, u64),
}

/// The cluster.
pub struct World {
    /// Milliseconds since the history began.
    pub now: u64,
    counter: u64,
    /// The group, while there is one.
    pub group: Option<Group>,
    /// The pods, by name.
    pub pods: BTreeMap<String, Pod>,
    /// The truth, by uid.
    pub truth: BTreeMap<String, Truth>,
    /// What has happened since the last look.
    pub changes: Vec<Change>,
    /// When the namespace was deleted, while it is still there.
    pub namespace_ends: Option<u64>,
    /// By how many milliseconds the node's clock is ahead.
    pub node_clock: i64,
    /// The items that pods print the list of.
    pub listed: Vec<String>,
    /// Somebody has written the group since this was last taken back.
    pub written: bool,
    /// A rule switched off.
    pub mutation: Option<Mutation>,
    /// Who knows better.
    pub oracle: Oracle,
}

/// When histories begin: 2026-01-01.
const EPOCH: i64 = 1_767_225_600_000;

/// The time of day at a moment of the history.
pub fn wall(now: u64) -> i64 {
    EPOCH + now as i64
}

/// Whole seconds, as the API has them.
pub fn time(now: u64) -> Time {
    Time(jiff::Timestamp::from_second(wall(now).div_euclid(1000)).unwrap_or_default())
}

/// A pod's uid.
pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

pub(crate) fn gates(pod: &mut Pod) -> Option<&mut Vec<PodSchedulingGate>> {
    pod.spec.as_mut()?.scheduling_gates.as_mut()
}

impl World {
    /// A cluster with nothing in it.
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
        self.group = Some(Group {
            object,
            status: json!({}),
        });
        self.touch_group(Some(Change::Group));
    }

    /// Gives the group a new resource version: somebody changed its status, or something else.
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

    /// Uid of the group that there is.
    pub fn group_uid(&self) -> Option<String> {
        let group = self.group.as_ref()?;
        group.object.metadata.uid.clone()
    }

    /// Uid of the pod of the run in progress.
    pub fn current(&self) -> Option<&str> {
        self.group.as_ref()?.status["current"]["podUid"].as_str()
    }

    /// Whether a pod prints a list of items.
    pub fn lister(&self, uid: &str) -> bool {
        self.truth.get(uid).is_some_and(|truth| truth.lister)
    }

    /// The name that a uid belongs to, if that pod still exists.
    pub fn name_of(&self, uid_: &str) -> Option<String> {
        let name = &self.truth.get(uid_)?.name;
        let pod = self.pods.get(name)?;
        (uid(pod) == uid_).then(|| name.clone())
    }

    /// Changes a pod.
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
                truth.gone = view.terminal() && !truth.live;
            }
            self.changes.push(Change::Pod(Box::new(view)));
        }
        self.check();
    }

    /// Takes a pod away.
    pub fn remove_pod(&mut self, uid: &str) {
        let Some(name) = self.name_of(uid) else {
            return;
        };
        if let Some(pod) = self.pods.remove(&name) {
            if let Some(truth) = self.truth.get_mut(uid) {
                truth.gone = !truth.live;
            }
            self.changes.push(Change::PodGone(Box::new((&pod).into())));
        }
        self.check();
    }

    /// Puts a pod there. `foreign`: not by the operator.
    pub fn put_pod(&mut self, mut pod: Pod, foreign: bool) -> Pod {
        let uid = format!("pod-{}", self.count());
        let name = pod.metadata.name.clone().unwrap_or_default();
        pod.metadata.uid = Some(uid.clone());
        pod.metadata.resource_version = Some(self.count().to_string());
        pod.metadata.creation_timestamp = Some(time(self.now));
        let owner = PodView::from(&pod).owner;
        let labels = pod.metadata.labels.as_ref();
        let lister = labels.is_some_and(|labels| labels.contains_key(names::LISTER));
        let gated = gates(&mut pod).is_some_and(|gates| !gates.is_empty());
        self.truth.insert(
            uid.clone(),
            Truth {
                name: name.clone(),
                group: if foreign { None } else { owner },
                created: self.now,
                opened: !gated,
                lister,
                ..Truth::default()
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

    /// Opens a pod's gate.
    pub fn open(&mut self, uid: &str) {
        let was = self.truth.get(uid).is_some_and(|truth| truth.opened);
        if was || self.name_of(uid).is_none() {
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

    /// Asks for a pod's graceful deletion.
    pub fn delete(&mut self, uid: &str) {
        let Some(name) = self.name_of(uid) else {
            return;
        };
        let Some(pod) = self.pods.get(&name) else {
            return;
        };
        let (view, asked) = (
            PodView::from(pod),
            pod.metadata.deletion_timestamp.is_some(),
        );
        let Some(truth) = self.truth.get_mut(uid) else {
            return;
        };
        if !view.terminal() && truth.ended.is_none() && !truth.evicted {
            truth.deleted_while_running.get_or_insert(self.now);
        }
        // What no node has goes at once.
        if !truth.bound {
            return self.remove_pod(uid);
        }
        if asked {
            return;
        }
        let grace = 30;
        let deadline = time(self.now + grace * 1000);
        self.change_pod(uid, |pod| {
            pod.metadata.deletion_timestamp = Some(deadline);
            pod.metadata.deletion_grace_period_seconds = Some(grace as i64);
        });
        self.changes.push(Change::Going(uid.to_owned(), grace));
    }

    /// The namespace controller asks for a pod's deletion.
    pub fn delete_with_namespace(&mut self, uid: &str) {
        let alive = |world: &Self| world.truth.get(uid)?.deleted_while_running;
        let before = alive(self).is_some();
        self.delete(uid);
        let after = alive(self).is_some();
        if let Some(truth) = self.truth.get_mut(uid) {
            truth.with_namespace |= after && !before;
        }
    }

    /// Deletes the group as the garbage collector leaves it: without it.
    pub fn remove_group(&mut self) {
        self.group = None;
        self.changes.push(Change::Group);
    }

    /// Pods of the label that may run or do.
    pub fn check(&mut self) {
        let runnable = |(uid_, truth): (&String, &Truth)| {
            if truth.live {
                return true;
            }
            let there = self.pods.get(&truth.name).filter(|pod| uid(pod) == uid_);
            there.is_some_and(|pod| !PodView::from(pod).terminal())
        };
        let ours = self
            .truth
            .iter()
            .filter(|(_, truth)| truth.group.is_some() && truth.opened && !truth.gone);
        let running = ours.filter(|one| runnable((one.0, one.1)));
        // A pod that prints a list goes beside a run, and never beside another.
        let (listers, running): (Vec<_>, Vec<_>) = running.partition(|(_, truth)| truth.lister);
        for together in [running, listers] {
            let names = together
                .iter()
                .map(|(uid, truth)| format!("{} ({uid})", truth.name));
            let names: Vec<_> = names.collect();
            if names.len() > 1 {
                let words = format!("two at once: {}", names.join(" and "));
                self.oracle.violated(Kind::TwoAtOnce, words);
            }
        }
    }

    /// All pods with the group's label.
    pub fn labelled(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values().filter(|pod| {
            let labels = pod.metadata.labels.as_ref();
            labels.is_some_and(|labels| labels.contains_key(names::GROUP))
        })
    }
}
