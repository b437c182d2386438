//! From watch events to the groups that are worth a look. Most events are not: a pod
//! that merely proceeds, or our own write of a status, changes nothing for its group.

use crate::group_ref::{GroupRef, WatchedGroup, gone};
use crate::last_seen_pods::LastSeenPods;
use crate::pod::{PodView, names};
use crate::policies::PolicyCache;
use crate::references::References;
use crate::run_now;
use crate::watched::Watched;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};
use oaat_api::validate;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// How long a gated pod may stand unclaimed before a look is worth while. Its creator
/// opens it within milliseconds.
const UNCLAIMED: Duration = Duration::from_millis(5200);
/// How long the answer to our own write may come after its watch event.
const OWN_WRITE: Duration = Duration::from_millis(500);

/// What is remembered between events, and where triggers go.
#[derive(Clone)]
pub struct Triggers {
    queue: UnboundedSender<GroupRef>,
    groups: Store<WatchedGroup>,
    last_seen_pods: Arc<LastSeenPods>,
    cache: Arc<PolicyCache>,
    references: References,
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

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

impl Triggers {
    /// Triggers that go into `queue`.
    pub fn new(
        queue: UnboundedSender<GroupRef>,
        groups: Store<WatchedGroup>,
        last_seen_pods: Arc<LastSeenPods>,
        cache: Arc<PolicyCache>,
        references: References,
    ) -> Self {
        Self {
            queue,
            groups,
            last_seen_pods,
            cache,
            references,
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
    pub fn group(&self, event: &Event<WatchedGroup>) {
        let group = match event {
            Event::Apply(group) | Event::InitApply(group) => group,
            Event::Delete(group) => {
                let key = ObjectRef::from_obj(group);
                self.last_seen_pods
                    .forget(&group.namespace().unwrap_or_default(), &group.name_any());
                self.cache
                    .forget(group.meta().uid.as_deref().unwrap_or_default());
                self.references.forget(&key);
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
        let key = ObjectRef::from_obj(group);
        let meta = group.meta();
        let users = hash((
            &meta.uid,
            meta.generation,
            meta.deletion_timestamp.is_some(),
            // They are no part of the spec, so they make no generation.
            &meta.annotations,
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
        self.cache.retain(&uids);
        self.references.retain(&names);
        let mut memory = self.memory();
        for group in gone(memory.groups.keys(), &names) {
            memory.groups.remove(&group);
            let namespace = group.namespace.as_deref().unwrap_or_default();
            self.last_seen_pods.forget(namespace, &group.name);
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
            self.last_seen_pods.record(&namespace, &group.name, view);
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
        let news = deleted || view.terminal() || view.problem().is_some();
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

/// Keeps only a hash of each annotation that the operator reads, to detect changes. Each reconcile
/// reads the annotations live. Labels and owner references are not needed.
pub fn strip<K>(object: &mut Watched<K>) {
    object.metadata.labels = None;
    object.metadata.owner_references = None;
    let all = object.metadata.annotations.take();
    let read = all.into_iter().flatten();
    let read = read.filter(|(name, _)| [run_now::ANNOTATION, validate::PAUSED].contains(&&**name));
    let hashed = read.map(|(name, value)| (name, format!("{:x}", hash(value))));
    object.metadata.annotations = Some(hashed.collect());
}

/// Whether one resource version is later than the other. They are decimal numbers of
/// any length.
fn newer(one: &str, other: &str) -> bool {
    (one.len(), one) > (other.len(), other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config_maps::ConfigMaps;
    use crate::item_sources::ConfigMapLists;
    use crate::policies::{Compiler, PolicyRead, Sources};
    use crate::policy_limiter::{self, PolicyLimiter};
    use kube::runtime::reflector;
    use oaat_api::OaatGroup;
    use policy_host::{Host, Limits};
    use serde_json::json;

    /// A group with a policy in a ConfigMap.
    fn group(name: &str) -> OaatGroup {
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

    fn watched(group: &OaatGroup) -> WatchedGroup {
        let mut watched = Watched::from(group.metadata.clone());
        strip(&mut watched);
        watched
    }

    /// What groups use, before any was read.
    fn nothing_used(groups: Store<WatchedGroup>, queue: UnboundedSender<GroupRef>) -> References {
        let host = Host::new(Limits::default()).unwrap();
        let config_maps = ConfigMaps::new(crate::client::silent());
        let lists = ConfigMapLists::new(config_maps.clone(), queue.clone());
        let compiler = Compiler::new(move |bytes| host.load(bytes, None));
        References::new(groups, Sources::new(config_maps, compiler, queue), lists)
    }

    #[tokio::test]
    async fn groups_that_went_while_nobody_watched_are_forgotten() {
        let (groups, mut writer) = reflector::store::<WatchedGroup>();
        let (queue, _triggered) = tokio::sync::mpsc::unbounded_channel();
        let host = Host::new(Limits::default()).unwrap();
        let policy = host.load(default_component::DEFAULT_POLICY, None).unwrap();
        let references = nothing_used(groups.clone(), queue.clone());
        let cache = Arc::new(PolicyCache::default());
        let limiter = PolicyLimiter::new(policy_limiter::permits(), queue.clone());
        let triggers = Triggers::new(
            queue,
            groups,
            Arc::default(),
            cache.clone(),
            references.clone(),
        );
        let mut list = |names: &[&str]| {
            let listed = names
                .iter()
                .map(|name| Event::InitApply(watched(&group(name))));
            let events = std::iter::once(Event::Init).chain(listed);
            for event in events.chain([Event::InitDone]) {
                writer.apply_watcher_event(&event);
                triggers.group(&event);
            }
        };
        list(&["stays", "goes"]);
        for name in ["stays", "goes"] {
            let group = group(name);
            references.note(&ObjectRef::from_obj(&watched(&group)), Some(&group));
            let read = Some(PolicyRead::Loaded(policy.clone()));
            cache
                .select(&group, &group.spec.oaat_items, read, &policy, &limiter)
                .await;
        }
        list(&["stays"]);
        assert_eq!(references.policies().users(), ["stays"]);
        let of_type = |name| references.of_type(Some("home"), name).len();
        assert_eq!((of_type("t"), of_type("u")), (1, 0));
        assert!(cache.knows("stays") && !cache.knows("goes"));
        assert_eq!(triggers.memory().groups.len(), 1);
    }

    #[tokio::test]
    async fn a_group_that_was_deleted_while_it_was_read_uses_nothing() {
        let (groups, _writer) = reflector::store::<WatchedGroup>();
        let (queue, _triggered) = tokio::sync::mpsc::unbounded_channel();
        let references = nothing_used(groups, queue);
        let group = group("gone");
        references.note(&ObjectRef::from_obj(&watched(&group)), Some(&group));
        assert!(references.policies().users().is_empty());
        assert!(references.of_type(Some("home"), "t").is_empty());
    }

    #[test]
    fn of_an_object_only_what_triggers_need_is_kept() {
        let mut group = group("g");
        let annotate = |group: &mut OaatGroup, value: String| {
            let annotations = [(run_now::ANNOTATION, value), ("of-no-interest", "x".into())];
            let annotations = annotations.map(|(name, value)| (name.to_owned(), value));
            group.metadata.annotations = Some(annotations.into());
            watched(group).metadata.annotations.unwrap_or_default()
        };
        let before = annotate(&mut group, "x".repeat(200_000));
        let after = annotate(&mut group, "y".repeat(200_000));
        assert_ne!(before, after);
        assert_eq!(after.len(), 1);
        assert!(after.values().all(|value| value.len() <= 16), "{after:?}");
    }

    #[test]
    fn resource_versions_are_compared_as_numbers() {
        assert!(newer("10", "9"));
        assert!(newer("9", ""));
        assert!(!newer("9", "10"));
        assert!(!newer("10", "10"));
    }
}
