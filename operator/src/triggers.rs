//! From watch events to the groups that are worth a look. Most events are not: a pod
//! that merely proceeds, or our own write of a status, changes nothing for its group.

use crate::api::OaatGroup;
use crate::items::Lists;
use crate::kube_cluster::Guarded;
use crate::metrics::Metrics;
use crate::pod::{PodView, names};
use crate::policies::{Adopted, Source, Sources};
use crate::sightings::Sightings;
use crate::{run_now, validate};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// A group to look at.
pub type GroupRef = ObjectRef<Guarded<OaatGroup>>;

/// How long a gated pod may stand unclaimed before a look is worth while. Its creator
/// opens it within milliseconds.
const UNCLAIMED: Duration = Duration::from_millis(5200);
/// How long the answer to our own write may come after its watch event.
const OWN_WRITE: Duration = Duration::from_millis(500);

/// What is remembered between events, and where triggers go.
#[derive(Clone)]
pub struct Triggers {
    queue: UnboundedSender<GroupRef>,
    groups: Store<Guarded<OaatGroup>>,
    sightings: Arc<Sightings>,
    adopted: Arc<Adopted>,
    policies: Sources,
    lists: Lists,
    metrics: Arc<Metrics>,
    memory: Arc<Mutex<Memory>>,
}

#[derive(Default)]
struct Memory {
    /// Each pod, by uid.
    pods: HashMap<String, KnownPod>,
    /// What of each group is the user's, and the version of our own last write.
    groups: HashMap<GroupRef, (u64, String)>,
}

/// What is remembered of a pod.
struct KnownPod {
    /// Hash of what of it is of interest.
    interest: u64,
    gated: bool,
    terminal: bool,
    /// The group that its label speaks of.
    group: GroupRef,
}

/// Those of the known groups that are not there any more.
pub fn gone<'a>(
    known: impl Iterator<Item = &'a GroupRef>,
    there: &HashSet<GroupRef>,
) -> Vec<GroupRef> {
    known
        .filter(|group| !there.contains(group))
        .cloned()
        .collect()
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

impl Triggers {
    /// Triggers that go into `queue`.
    pub fn new(
        queue: UnboundedSender<GroupRef>,
        groups: Store<Guarded<OaatGroup>>,
        sightings: Arc<Sightings>,
        adopted: Arc<Adopted>,
        (policies, lists): (Sources, Lists),
        metrics: Arc<Metrics>,
    ) -> Self {
        adopted.send_to(queue.clone());
        Self {
            queue,
            groups,
            sightings,
            adopted,
            policies,
            lists,
            metrics,
            memory: Arc::default(),
        }
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trigger(&self, group: GroupRef) {
        // The receiver goes away at the end of the process only.
        let _ = self.queue.send(group);
    }

    fn all(&self) {
        for group in self.groups.state() {
            self.trigger(ObjectRef::from_obj(group.as_ref()));
        }
    }

    /// Remembers the version that our own write of a group's status made.
    pub fn wrote(&self, group: &GroupRef, version: &str) {
        if let Some(known) = self.memory().groups.get_mut(group) {
            known.1 = version.to_owned();
        }
    }

    /// An event of the watch on groups.
    pub fn group(&self, event: &Event<Guarded<OaatGroup>>) {
        let group = match event {
            Event::Apply(group) | Event::InitApply(group) => group,
            Event::Delete(group) => {
                let key = ObjectRef::from_obj(group);
                self.sightings
                    .forget(&group.namespace().unwrap_or_default(), &group.name_any());
                self.adopted
                    .forget(group.meta().uid.as_deref().unwrap_or_default());
                self.policies.used(&key, None);
                self.lists.used(&key, &[]);
                self.memory().groups.remove(&key);
                return;
            }
            Event::Init => return,
            Event::InitDone => {
                self.reconcile();
                // A group of a long list may have been looked for before the store had it.
                self.all();
                return;
            }
        };
        if matches!(group, DeserializeGuard(Err(_))) {
            self.metrics.undecodable.inc();
        }
        let key = ObjectRef::from_obj(group);
        let source = group.0.as_ref().ok().and_then(Source::of);
        self.policies.used(&key, source);
        let lists = group
            .0
            .as_ref()
            .map(|group| group.spec.items_from.as_slice());
        self.lists.used(&key, lists.unwrap_or_default());
        let meta = group.meta();
        let users = hash((
            &meta.uid,
            meta.generation,
            meta.deletion_timestamp.is_some(),
            // They are no part of the spec, so they make no generation.
            annotations(meta),
        ));
        let version = meta.resource_version.clone().unwrap_or_default();
        let known = {
            let mut memory = self.memory();
            let entry = memory.groups.entry(key.clone()).or_default();
            let known = entry.0 == users;
            entry.0 = users;
            known
        };
        if !known || matches!(event, Event::InitApply(_)) {
            self.trigger(key);
            return;
        }
        // Only the status changed: by us as a rule, by hand rarely. The answer to our
        // own write may come a moment after the event.
        let triggers = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(OWN_WRITE).await;
            let ours = {
                let memory = triggers.memory();
                let written = memory.groups.get(&key).map(|known| known.1.clone());
                written.is_some_and(|written| !newer(&version, &written))
            };
            if !ours {
                triggers.trigger(key);
            }
        });
    }

    /// Forgets the groups that went while the watch was down: of their going no event tells.
    fn reconcile(&self) {
        let (mut names, mut uids) = (HashSet::new(), HashSet::new());
        for group in self.groups.state() {
            names.insert(ObjectRef::from_obj(group.as_ref()));
            uids.extend(group.meta().uid.clone());
        }
        self.adopted.retain(&uids);
        self.policies.retain(&names);
        self.lists.retain(&names);
        let mut memory = self.memory();
        for group in gone(memory.groups.keys(), &names) {
            memory.groups.remove(&group);
            let namespace = group.namespace.as_deref().unwrap_or_default();
            self.sightings.forget(namespace, &group.name);
        }
    }

    /// An event of the watch on pods that carry a group's label.
    pub fn pod(&self, event: &Event<Pod>) {
        let (pod, deleted, listed) = match event {
            Event::Apply(pod) => (pod, false, false),
            Event::InitApply(pod) => (pod, false, true),
            Event::Delete(pod) => (pod, true, false),
            Event::Init => {
                // What was deleted while the watch was down is not told; a fresh start
                // makes every listed pod news, and groups whose pod is missing are found
                // by the look that follows a relist.
                self.memory().pods.clear();
                return;
            }
            Event::InitDone => {
                self.all();
                return;
            }
        };
        let view = PodView::from(pod);
        let uid = view.uid.clone();
        let before = self.memory().pods.remove(&uid);
        let group = self.group_of(pod, names::GROUP);
        // Relabelled: it is the business of two groups.
        if let Some(before) = &before
            && Some(&before.group) != group.as_ref()
        {
            self.trigger(before.group.clone());
        }
        let Some(group) = group else { return };
        let known = KnownPod {
            interest: hash(view.interest()),
            gated: view.gated,
            terminal: view.terminal(),
            group: group.clone(),
        };
        let moved = before.as_ref().is_none_or(|before| before.group != group);
        let changed = before
            .as_ref()
            .is_none_or(|before| before.interest != known.interest);
        let was_over = before.as_ref().is_some_and(|before| before.terminal);
        // One that was seen to have ended before is a finished pod that is cleared away.
        if !listed && !was_over && self.groups.get(&group).is_some() {
            let namespace = group.namespace.clone().unwrap_or_default();
            self.sightings.saw(&namespace, &group.name, view);
        }
        if deleted {
            if !(known.terminal && was_over) {
                self.trigger(group);
            }
            return;
        }
        let unclaimed = before.is_none() && known.gated && !listed;
        self.memory().pods.insert(uid.clone(), known);
        if unclaimed {
            let triggers = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(UNCLAIMED).await;
                let still = triggers
                    .memory()
                    .pods
                    .get(&uid)
                    .is_some_and(|known| known.gated);
                if still {
                    triggers.trigger(group);
                }
            });
        } else if (changed || moved) && !listed {
            // (All groups are looked at once a list is complete.)
            self.trigger(group);
        }
    }

    /// An event of the watch on pods that print lists of items. What comes of them is of interest,
    /// and what keeps them from it.
    pub fn lister(&self, event: &Event<Pod>) {
        let (pod, deleted) = match event {
            Event::Apply(pod) | Event::InitApply(pod) => (pod, false),
            Event::Delete(pod) => (pod, true),
            Event::Init | Event::InitDone => return,
        };
        let view = PodView::from(pod);
        let news = deleted || view.terminal() || view.trouble().is_some();
        if let Some(group) = self.group_of(pod, names::LISTER).filter(|_| news) {
            self.trigger(group);
        }
    }

    /// The group that a pod's label speaks of. A long name is hashed in the label; then
    /// the annotation has it, or else (on a foreigner's pod) one looks for it.
    fn group_of(&self, pod: &Pod, by: &str) -> Option<GroupRef> {
        let namespace = pod.namespace()?;
        let label = pod.labels().get(by)?;
        let fits = |name: &str| names::group_label(name) == *label;
        let named = ObjectRef::new(label).within(&namespace);
        if self.groups.get(&named).is_some() {
            return Some(named);
        }
        if let Some(name) = pod.annotations().get(by).filter(|name| fits(name)) {
            return Some(ObjectRef::new(name).within(&namespace));
        }
        let found = self.groups.find(|group| {
            group.namespace().as_ref() == Some(&namespace) && fits(&group.name_any())
        });
        // A group that is yet to come, as a rule.
        Some(found.map_or(named, |group| ObjectRef::from_obj(group.as_ref())))
    }
}

/// The annotations that the operator reads.
fn annotations(meta: &ObjectMeta) -> [Option<&String>; 2] {
    let read = |name| meta.annotations.as_ref()?.get(name);
    [read(run_now::ANNOTATION), read(validate::PAUSED)]
}

/// Whether one resource version is later than the other. They are decimal numbers of
/// any length.
fn newer(one: &str, other: &str) -> bool {
    (one.len(), one) > (other.len(), other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::{Compiler, PolicyRead};
    use kube::runtime::reflector;
    use policy_host::{Host, Limits};
    use serde_json::json;

    /// A group with a policy in a ConfigMap.
    fn group(name: &str) -> Guarded<OaatGroup> {
        serde_json::from_value(json!({
            "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
            "metadata": { "name": name, "namespace": "home", "uid": name, "resourceVersion": "1" },
            "spec": {
                "oaatType": "t", "oaatItems": ["a"],
                "policy": { "configMap": { "name": "mine" } },
            },
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn groups_that_went_while_nobody_watched_are_forgotten() {
        let (groups, mut writer) = reflector::store::<Guarded<OaatGroup>>();
        let (queue, _triggered) = tokio::sync::mpsc::unbounded_channel();
        let host = Host::new(Limits::default()).unwrap();
        let policy = host.load(crate::DEFAULT_POLICY, None).unwrap();
        let silent = tower::service_fn(|_: http::Request<kube::client::Body>| {
            std::future::pending::<Result<http::Response<kube::client::Body>, std::io::Error>>()
        });
        let client = kube::Client::new(silent, "default");
        let lists = Lists::new(client.clone(), queue.clone());
        let sources = Sources::new(client, Compiler::new(host), queue.clone());
        let adopted = Arc::new(Adopted::default());
        let triggers = Triggers::new(
            queue,
            groups,
            Arc::default(),
            adopted.clone(),
            (sources.clone(), lists),
            Arc::default(),
        );
        let mut list = |names: &[&str]| {
            let listed = names.iter().map(|name| Event::InitApply(group(name)));
            let events = std::iter::once(Event::Init).chain(listed);
            for event in events.chain([Event::InitDone]) {
                writer.apply_watcher_event(&event);
                triggers.group(&event);
            }
        };
        list(&["stays", "goes"]);
        for name in ["stays", "goes"] {
            let DeserializeGuard(Ok(group)) = group(name) else {
                panic!("{name} is no group");
            };
            let read = Some(PolicyRead::Loaded(policy.clone()));
            adopted.rule(&group, read, &policy).await;
        }
        list(&["stays"]);
        assert_eq!(sources.users(), ["stays"]);
        assert!(adopted.knows("stays") && !adopted.knows("goes"));
        assert_eq!(triggers.memory().groups.len(), 1);
    }

    #[test]
    fn resource_versions_are_compared_as_numbers() {
        assert!(newer("10", "9"));
        assert!(newer("9", ""));
        assert!(!newer("9", "10"));
        assert!(!newer("10", "10"));
    }
}
