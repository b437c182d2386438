//! Decides which watch events trigger a reconcile. Most do not: the normal progress of a pod and
//! the operator's own status writes require no action.

use crate::group_ref::{GroupRef, WatchedGroup, gone};
use crate::kube_cluster::WatchedType;
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
use tokio::sync::watch;

/// The delay before a gated pod triggers a reconcile. Its creator normally opens it within
/// milliseconds.
const UNCLAIMED_DELAY: Duration = Duration::from_millis(5200);
/// The time that the response to the operator's own write may take after the watch event of that
/// write.
const OWN_WRITE_DELAY: Duration = Duration::from_millis(500);

/// The maximum size in bytes of the pods of the initial list that are kept.
const MAX_LISTED_PODS: usize = 24 << 20;

/// The state between events, and the queue of triggered groups. Cheap to clone.
#[derive(Clone)]
pub struct Triggers {
    queue: UnboundedSender<GroupRef>,
    groups: Store<WatchedGroup>,
    last_seen_pods: Arc<LastSeenPods>,
    cache: Arc<PolicyCache>,
    references: References,
    state: Arc<Mutex<WatchState>>,
    /// Whether the initial list of pods has ended.
    pods_listed: watch::Sender<bool>,
}

#[derive(Default)]
struct WatchState {
    /// The pods by uid.
    pods: ListedObjects<String, KnownPod>,
    /// The groups of the pods that print lists of items, by the uid of the pod.
    listers: ListedObjects<String, GroupRef>,
    /// The resource versions of the types.
    types: ListedObjects<ObjectRef<WatchedType>, String>,
    /// The types of the list in progress.
    listed_types: Vec<ObjectRef<WatchedType>>,
    /// The types whose version changed in the list in progress. The store has the new versions only when
    /// the list ends.
    changed_types: Vec<ObjectRef<WatchedType>>,
    groups: HashMap<GroupRef, KnownGroup>,
    /// Whether the initial list of groups has ended. Its groups are not triggered one by one.
    groups_listed: bool,
    /// The groups of a relist that changed while the watch was disconnected.
    changed_groups: Vec<GroupRef>,
    /// The pods of the initial list, until [`Triggers::take_listed_pods`].
    listed_pods: Option<ListedPods>,
}

/// The objects of a watch. No event is delivered for objects that are deleted while the watch is
/// disconnected: they are missing from the next list.
struct ListedObjects<K, V> {
    known: HashMap<K, V>,
    /// During a list, the objects that it has not contained yet. While lists keep failing, these include
    /// objects that are gone.
    unlisted: HashMap<K, V>,
}

impl<K, V> Default for ListedObjects<K, V> {
    fn default() -> Self {
        Self {
            known: HashMap::new(),
            unlisted: HashMap::new(),
        }
    }
}

impl<K: Eq + Hash, V> ListedObjects<K, V> {
    /// Begins a list. The list before may have been interrupted.
    fn begin_list(&mut self) {
        self.unlisted.extend(self.known.drain());
    }

    /// Ends a list, and returns the objects that it did not contain.
    fn end_list(&mut self) -> HashMap<K, V> {
        std::mem::take(&mut self.unlisted)
    }

    fn insert(&mut self, key: K, value: V) {
        self.known.insert(key, value);
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.known.get(key).or_else(|| self.unlisted.get(key))
    }

    fn remove(&mut self, key: &K) -> Option<V> {
        let unlisted = self.unlisted.remove(key);
        self.known.remove(key).or(unlisted)
    }
}

impl WatchState {
    /// Records the version of a type. Returns whether it is another one.
    fn record_type(&mut self, type_: &ObjectRef<WatchedType>, version: Option<String>) -> bool {
        let version = version.unwrap_or_default();
        let before = self.types.remove(type_);
        let changed = before.as_ref() != Some(&version);
        self.types.insert(type_.clone(), version);
        changed
    }
}

/// The pods of the initial list.
#[derive(Default)]
pub struct ListedPods {
    /// The pods by namespace and label of their group.
    pods: HashMap<(String, String), Vec<PodView>>,
    /// The approximate size in bytes.
    size: usize,
}

impl ListedPods {
    /// Adds a pod, unless the pods take too much memory.
    fn add(&mut self, pod: &Pod, view: &PodView) {
        if self.size > MAX_LISTED_PODS {
            self.pods.clear();
            return;
        }
        self.size += size_of::<PodView>() + format!("{view:?}").len();
        let label = pod.labels().get(names::GROUP).cloned();
        let key = (
            pod.namespace().unwrap_or_default(),
            label.unwrap_or_default(),
        );
        self.pods.entry(key).or_default().push(view.clone());
    }

    /// Removes the pods of a group, and returns them; `None` if they are not known.
    pub fn take(&mut self, namespace: &str, group: &str) -> Option<Vec<PodView>> {
        let key = (namespace.to_owned(), names::group_label(group));
        let complete = self.size <= MAX_LISTED_PODS;
        complete.then(|| self.pods.remove(&key).unwrap_or_default())
    }
}

/// The known state of a pod.
struct KnownPod {
    /// A hash of [`PodView::trigger_state`].
    trigger_state: u64,
    gated: bool,
    terminal: bool,
    /// The group in its label.
    group: GroupRef,
}

/// The known state of a group.
#[derive(Default)]
struct KnownGroup {
    /// A hash of everything that the user controls.
    user_input: u64,
    /// The resource version after the operator's last write.
    written: String,
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

impl Triggers {
    /// Creates triggers that send groups to `queue`.
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
            state: Arc::new(Mutex::new(WatchState {
                listed_pods: Some(ListedPods::default()),
                ..WatchState::default()
            })),
            pods_listed: watch::Sender::new(false),
        }
    }

    /// Waits for the initial lists of groups and pods, and removes and returns the listed pods. Returns
    /// `None` if the list of pods is not complete in time; the rest of it then triggers the groups of
    /// its pods.
    pub async fn take_listed_pods(&self, timeout: Duration) -> Option<ListedPods> {
        // If a writer or sender is dropped, the process stops as well.
        let _ = self.groups.wait_until_ready().await;
        let mut listed = self.pods_listed.subscribe();
        let listed = tokio::time::timeout(timeout, listed.wait_for(|listed| *listed));
        let listed = listed.await.is_ok();
        self.state().listed_pods.take().filter(|_| listed)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, WatchState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Triggers a reconcile of a group.
    pub fn trigger(&self, group: GroupRef) {
        // The receiver is dropped only when the process ends.
        let _ = self.queue.send(group);
    }

    /// Triggers a reconcile of the group of a pod. If the pod was seen before its group, only the label
    /// of the group is known, which is not the name if that is long.
    fn trigger_labeled(&self, group: GroupRef) {
        if self.groups.get(&group).is_some() {
            return self.trigger(group);
        }
        self.trigger_if(|other| {
            other.namespace() == group.namespace
                && names::group_label(&other.name_any()) == group.name
        });
    }

    /// Triggers a reconcile of all groups.
    pub fn trigger_all(&self) {
        self.trigger_if(|_| true);
    }

    /// Triggers a reconcile of the groups that match a condition.
    pub fn trigger_if(&self, condition: impl Fn(&WatchedGroup) -> bool) {
        for group in self.groups.state() {
            if condition(&group) {
                self.trigger(ObjectRef::from_obj(group.as_ref()));
            }
        }
    }

    /// Forgets what a group refers to, because this replica does not serve it. The last seen pods
    /// stay: if the replica takes the group over, they show how a run ended.
    pub fn forget_references(&self, group: &GroupRef, uid: Option<&str>) {
        self.references.remove_group(group);
        self.cache.remove_group(uid.unwrap_or_default());
    }

    /// Records the resource version after the operator's own write of a group's status.
    pub fn record_own_write(&self, group: &GroupRef, version: &str) {
        if let Some(known) = self.state().groups.get_mut(group) {
            known.written = version.to_owned();
        }
    }

    /// Handles an event of the watch on types: checks the type, and triggers the groups that use it.
    pub fn oaat_type(
        &self,
        event: &Event<WatchedType>,
        type_queue: &UnboundedSender<ObjectRef<WatchedType>>,
    ) {
        let (checked, changed) = {
            let mut state = self.state();
            match event {
                Event::Apply(type_) => {
                    let key = ObjectRef::from_obj(type_);
                    let changed = state.record_type(&key, type_.resource_version());
                    (
                        vec![key.clone()],
                        if changed { vec![key] } else { Vec::new() },
                    )
                }
                Event::InitApply(type_) => {
                    let key = ObjectRef::from_obj(type_);
                    if state.record_type(&key, type_.resource_version()) {
                        state.changed_types.push(key.clone());
                    }
                    state.listed_types.push(key);
                    return;
                }
                Event::Delete(type_) => {
                    let key = ObjectRef::from_obj(type_);
                    state.types.remove(&key);
                    (Vec::new(), vec![key])
                }
                Event::Init => {
                    state.types.begin_list();
                    state.listed_types.clear();
                    return;
                }
                Event::InitDone => {
                    let mut changed = std::mem::take(&mut state.changed_types);
                    changed.extend(state.types.end_list().into_keys());
                    (std::mem::take(&mut state.listed_types), changed)
                }
            }
        };
        for type_ in checked {
            let _ = type_queue.send(type_);
        }
        // Another shard may have checked a type after one of its groups was planned.
        for type_ in changed {
            let users = self
                .references
                .of_type(type_.namespace.as_deref(), &type_.name);
            users.into_iter().for_each(|group| self.trigger(group));
        }
    }

    /// Handles an event of the watch on groups.
    pub fn group(&self, event: &Event<WatchedGroup>) {
        let group = match event {
            Event::Apply(group) | Event::InitApply(group) => group,
            Event::Delete(group) => {
                let key = ObjectRef::from_obj(group);
                self.last_seen_pods
                    .remove_group(&group.namespace().unwrap_or_default(), &group.name_any());
                self.cache
                    .remove_group(group.meta().uid.as_deref().unwrap_or_default());
                self.references.remove_group(&key);
                self.state().groups.remove(&key);
                // The reconcile removes the metrics of the group.
                self.trigger(key);
                return;
            }
            Event::Init => {
                self.state().changed_groups.clear();
                return;
            }
            Event::InitDone => {
                self.forget_missing_groups();
                let changed = {
                    let mut state = self.state();
                    state.groups_listed = true;
                    std::mem::take(&mut state.changed_groups)
                };
                changed.into_iter().for_each(|group| self.trigger(group));
                return;
            }
        };
        let key = ObjectRef::from_obj(group);
        let meta = group.meta();
        let user_input = hash((
            &meta.uid,
            meta.generation,
            meta.deletion_timestamp.is_some(),
            // Annotations are not part of the spec, so they do not change the generation.
            &meta.annotations,
        ));
        let version = meta.resource_version.clone().unwrap_or_default();
        let unchanged = {
            let mut state = self.state();
            let first_list = !state.groups_listed;
            let known = state.groups.entry(key.clone()).or_default();
            let unchanged = known.user_input == user_input;
            known.user_input = user_input;
            if first_list {
                return;
            }
            if let Event::InitApply(_) = event {
                // The store contains the objects of the list when the list ends.
                let stored = self.groups.get(&key);
                if stored.and_then(|group| group.resource_version()) != Some(version) {
                    state.changed_groups.push(key);
                }
                return;
            }
            unchanged
        };
        if !unchanged {
            self.trigger(key);
            return;
        }
        // Only the status changed: usually by the operator, rarely by a user. The response to the
        // operator's own write may arrive shortly after the event.
        let triggers = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(OWN_WRITE_DELAY).await;
            let own_write = {
                let state = triggers.state();
                let known = state.groups.get(&key);
                known.is_some_and(|known| !newer(&version, &known.written))
            };
            if !own_write {
                triggers.trigger(key);
            }
        });
    }

    /// Forgets the groups that no longer exist. No event is delivered for groups deleted while the
    /// watch was disconnected.
    fn forget_missing_groups(&self) {
        let (mut names, mut uids) = (HashSet::new(), HashSet::new());
        for group in self.groups.state() {
            names.insert(ObjectRef::from_obj(group.as_ref()));
            uids.extend(group.meta().uid.clone());
        }
        self.cache.retain(&uids);
        self.references.retain(&names);
        let mut state = self.state();
        for group in gone(state.groups.keys(), &names) {
            state.groups.remove(&group);
            let namespace = group.namespace.as_deref().unwrap_or_default();
            self.last_seen_pods.remove_group(namespace, &group.name);
            self.trigger(group);
        }
    }

    /// Handles an event of the watch on pods with a group's label.
    pub fn pod(&self, event: &Event<Pod>) {
        let (pod, deleted, listed) = match event {
            Event::Apply(pod) => (pod, false, false),
            Event::InitApply(pod) => (pod, false, true),
            Event::Delete(pod) => (pod, true, false),
            Event::Init => {
                let mut state = self.state();
                state.pods.begin_list();
                if let Some(listed) = &mut state.listed_pods {
                    *listed = ListedPods::default();
                    self.pods_listed.send_replace(false);
                }
                return;
            }
            Event::InitDone => {
                self.pods_listed.send_replace(true);
                let missing = self.state().pods.end_list();
                for pod in missing.into_values().filter(|pod| !pod.terminal) {
                    self.trigger_labeled(pod.group);
                }
                return;
            }
        };
        let view = PodView::from(pod);
        let uid = view.uid.clone();
        let (before, first_list) = {
            let mut state = self.state();
            let first_list = state.listed_pods.as_mut().filter(|_| listed);
            let is_first_list = first_list.is_some();
            if let Some(pods) = first_list {
                pods.add(pod, &view);
            }
            (state.pods.remove(&uid), is_first_list)
        };
        let group = self.group_of(pod, names::GROUP);
        // The label changed, which concerns two groups.
        if let Some(before) = &before
            && Some(&before.group) != group.as_ref()
        {
            self.trigger_labeled(before.group.clone());
        }
        let Some(group) = group else { return };
        let known = KnownPod {
            trigger_state: hash(view.trigger_state()),
            gated: view.gated,
            terminal: view.is_terminal(),
            group: group.clone(),
        };
        let relabelled = before.as_ref().is_none_or(|before| before.group != group);
        let changed = before
            .as_ref()
            .is_none_or(|before| before.trigger_state != known.trigger_state);
        let was_terminal = before.as_ref().is_some_and(|before| before.terminal);
        // A pod that was terminal before is a finished pod, and its state no longer matters.
        if (!listed || before.is_some()) && !was_terminal && self.groups.get(&group).is_some() {
            let namespace = group.namespace.clone().unwrap_or_default();
            self.last_seen_pods.record(&namespace, &group.name, view);
        }
        if deleted {
            if !(known.terminal && was_terminal) {
                self.trigger(group);
            }
            return;
        }
        let unclaimed = before.is_none() && known.gated && !listed;
        self.state().pods.insert(uid.clone(), known);
        if unclaimed {
            let triggers = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(UNCLAIMED_DELAY).await;
                let still_gated = triggers
                    .state()
                    .pods
                    .get(&uid)
                    .is_some_and(|known| known.gated);
                if still_gated {
                    triggers.trigger(group);
                }
            });
        } else if (changed || relabelled) && !first_list {
            self.trigger(group);
        }
    }

    /// Handles an event of the watch on pods that print lists of items. Triggers a reconcile if the
    /// pod has ended, cannot start, or is gone.
    pub fn lister(&self, event: &Event<Pod>) {
        let (pod, deleted) = match event {
            Event::Apply(pod) | Event::InitApply(pod) => (pod, false),
            Event::Delete(pod) => (pod, true),
            Event::Init => {
                self.state().listers.begin_list();
                return;
            }
            Event::InitDone => {
                let missing = self.state().listers.end_list();
                missing.into_values().for_each(|group| self.trigger(group));
                return;
            }
        };
        let view = PodView::from(pod);
        // A sidecar may run on after the container that prints the list has ended.
        let ended = view.containers.iter().any(|c| c.finished().is_some());
        let relevant = deleted || ended || view.is_terminal() || view.problem().is_some();
        let Some(group) = self.group_of(pod, names::LISTER) else {
            return;
        };
        {
            let mut state = self.state();
            state.listers.remove(&view.uid);
            if !deleted {
                state.listers.insert(view.uid, group.clone());
            }
        }
        if relevant {
            self.trigger(group);
        }
    }

    /// Returns the group in the label `key` of a pod. A long name is hashed in the label. The
    /// annotation then contains it, or, for a foreign pod, the known groups are searched.
    fn group_of(&self, pod: &Pod, key: &str) -> Option<GroupRef> {
        let namespace = pod.namespace()?;
        let label = pod.labels().get(key)?;
        let matches = |name: &str| names::group_label(name) == *label;
        let named = ObjectRef::new(label).within(&namespace);
        if self.groups.get(&named).is_some() {
            return Some(named);
        }
        if let Some(name) = pod.annotations().get(key).filter(|name| matches(name)) {
            return Some(ObjectRef::new(name).within(&namespace));
        }
        let found = self.groups.find(|group| {
            group.namespace().as_ref() == Some(&namespace) && matches(&group.name_any())
        });
        // If there is none, the group usually does not exist yet.
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

/// Returns whether `one` is a later resource version than `other`. Both are decimal numbers of any
/// length.
fn newer(one: &str, other: &str) -> bool {
    (one.len(), one) > (other.len(), other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config_maps::ConfigMaps;
    use crate::item_sources::ConfigMapLists;
    use crate::policies::{Compiler, PolicySources};
    use crate::policy_limiter::{self, PolicyLimiter};
    use crate::policy_source::PolicyRead;
    use crate::shadow::Shadows;
    use kube::runtime::reflector;
    use oaat_api::OaatGroup;
    use policy_host::{Host, Limits};
    use serde_json::json;

    /// Returns a group with a policy in a ConfigMap.
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

    /// Returns references without any group.
    fn no_references(groups: Store<WatchedGroup>, queue: UnboundedSender<GroupRef>) -> References {
        let host = Host::new(Limits::default()).unwrap();
        let config_maps = ConfigMaps::new(
            crate::client::silent(),
            prometheus_client::metrics::counter::Counter::default(),
        );
        let lists = ConfigMapLists::new(config_maps.clone(), queue.clone());
        let compiler = Compiler::new(move |bytes| host.load(bytes, None));
        let policies = PolicySources::new(config_maps.clone(), compiler.clone(), queue.clone());
        let metrics = Arc::default();
        let shadows = Shadows::new(config_maps, policies.clone(), compiler, queue, metrics);
        References::new(groups, policies, shadows, lists)
    }

    #[tokio::test]
    async fn groups_deleted_while_the_watch_was_down_are_forgotten() {
        let (groups, mut writer) = reflector::store::<WatchedGroup>();
        let (queue, _triggered) = tokio::sync::mpsc::unbounded_channel();
        let host = Host::new(Limits::default()).unwrap();
        let policy = host.load(built_in_policies::DEFAULT_POLICY, None).unwrap();
        let references = no_references(groups.clone(), queue.clone());
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
            references.record(&ObjectRef::from_obj(&watched(&group)), Some(&group));
            let read = Some(PolicyRead::Loaded(policy.clone()));
            cache
                .select(
                    &group,
                    &group.spec.oaat_items,
                    read,
                    &policy,
                    &limiter,
                    None,
                )
                .await;
        }
        list(&["stays"]);
        assert_eq!(references.policies().users(), ["stays"]);
        let of_type = |name| references.of_type(Some("home"), name).len();
        assert_eq!((of_type("t"), of_type("u")), (1, 0));
        assert!(cache.knows("stays") && !cache.knows("goes"));
        assert_eq!(triggers.state().groups.len(), 1);
    }

    /// The initial lists trigger nothing, because the groups are planned from them afterwards. Relists
    /// trigger the groups that changed while the watch was disconnected, or whose pods did.
    #[tokio::test]
    async fn relist_triggers_only_changed_groups() {
        let (groups, mut writer) = reflector::store::<WatchedGroup>();
        let (queue, mut triggered) = tokio::sync::mpsc::unbounded_channel();
        let references = no_references(groups.clone(), queue.clone());
        let triggers = Triggers::new(queue, groups, Arc::default(), Arc::default(), references);
        let mut list_groups = |listed: &[(&str, &str)]| {
            let listed = listed.iter().map(|(name, version)| {
                let mut group = group(name);
                group.metadata.resource_version = Some((*version).into());
                Event::InitApply(watched(&group))
            });
            let events = std::iter::once(Event::Init).chain(listed);
            for event in events.chain([Event::InitDone]) {
                writer.apply_watcher_event(&event);
                triggers.group(&event);
            }
        };
        let pod = |group: &str, phase: &str| -> Pod {
            serde_json::from_value(json!({
                "metadata": {
                    "name": group, "namespace": "home", "uid": group,
                    "labels": { names::GROUP: group },
                },
                "status": { "phase": phase },
            }))
            .unwrap()
        };
        let list_pods = |pods: &[Pod]| {
            let listed = pods.iter().map(|pod| Event::InitApply(pod.clone()));
            let events = std::iter::once(Event::Init).chain(listed);
            events
                .chain([Event::InitDone])
                .for_each(|event| triggers.pod(&event));
        };
        let mut next = || triggered.try_recv().ok().map(|group| group.name);

        let (a, b, c) = (pod("a", "Running"), pod("b", "Running"), pod("c", "Failed"));
        list_groups(&[("a", "1"), ("b", "1"), ("c", "1")]);
        list_pods(&[a.clone(), b.clone(), c.clone()]);
        assert_eq!(next(), None);
        let pods = triggers.take_listed_pods(Duration::from_secs(60)).await;
        let mut pods = pods.unwrap();
        assert_eq!(pods.take("home", "a").map(|pods| pods.len()), Some(1));
        assert_eq!(pods.take("home", "d").map(|pods| pods.len()), Some(0));

        list_pods(&[a.clone(), b.clone(), c]);
        assert_eq!(next(), None);
        // A list that is interrupted has seen only the change.
        triggers.pod(&Event::Init);
        triggers.pod(&Event::InitApply(pod("a", "Succeeded")));
        assert_eq!(next().as_deref(), Some("a"));
        // A running pod is gone. So is one that had ended, which does not matter.
        list_pods(&[pod("a", "Succeeded")]);
        assert_eq!(next().as_deref(), Some("b"));
        assert_eq!(next(), None);

        list_groups(&[("a", "1"), ("b", "2"), ("new", "3")]);
        assert_eq!(next().as_deref(), Some("c"), "it is gone");
        assert_eq!(next().as_deref(), Some("b"));
        assert_eq!(next().as_deref(), Some("new"));
        assert_eq!(next(), None);
    }

    #[tokio::test]
    async fn list_of_pods_that_is_repeated_before_the_plan_must_be_complete() {
        let (groups, mut writer) = reflector::store::<WatchedGroup>();
        let (queue, _triggered) = tokio::sync::mpsc::unbounded_channel();
        let references = no_references(groups.clone(), queue.clone());
        let triggers = Triggers::new(queue, groups, Arc::default(), Arc::default(), references);
        for event in [Event::Init, Event::InitDone] {
            writer.apply_watcher_event(&event);
            triggers.group(&event);
        }
        for event in [Event::Init, Event::InitDone, Event::Init] {
            triggers.pod(&event);
        }
        let pods = triggers.take_listed_pods(Duration::from_millis(1)).await;
        assert!(pods.is_none());
    }

    #[tokio::test]
    async fn missing_pod_triggers_a_group_whose_name_is_hashed_in_its_label() {
        let (groups, mut writer) = reflector::store::<WatchedGroup>();
        let (queue, mut triggered) = tokio::sync::mpsc::unbounded_channel();
        let references = no_references(groups.clone(), queue.clone());
        let triggers = Triggers::new(queue, groups, Arc::default(), Arc::default(), references);
        let name = "long".repeat(20);
        let pod: Pod = serde_json::from_value(json!({ "metadata": {
            "name": "p", "namespace": "home", "uid": "p",
            "labels": { names::GROUP: names::group_label(&name) },
        } }))
        .unwrap();
        // The pod is seen before the group.
        for event in [Event::Init, Event::InitApply(pod), Event::InitDone] {
            triggers.pod(&event);
        }
        writer.apply_watcher_event(&Event::Apply(watched(&group(&name))));
        for event in [Event::Init, Event::InitDone] {
            triggers.pod(&event);
        }
        assert_eq!(triggered.try_recv().map(|group| group.name), Ok(name));
    }

    #[test]
    fn objects_that_a_list_has_not_contained_yet_are_known() {
        let mut objects = ListedObjects::default();
        objects.insert("a", 1);
        objects.begin_list();
        assert_eq!(objects.get(&"a"), Some(&1));
        assert_eq!(objects.remove(&"a"), Some(1));
        assert!(objects.end_list().is_empty());
    }

    #[tokio::test]
    async fn missing_pods_that_print_lists_trigger_their_groups() {
        let (groups, _writer) = reflector::store::<WatchedGroup>();
        let (queue, mut triggered) = tokio::sync::mpsc::unbounded_channel();
        let references = no_references(groups.clone(), queue.clone());
        let triggers = Triggers::new(queue, groups, Arc::default(), Arc::default(), references);
        let pod: Pod = serde_json::from_value(json!({ "metadata": {
            "name": "p", "namespace": "home", "uid": "p", "labels": { names::LISTER: "a" },
        } }))
        .unwrap();
        let running = Event::InitApply(pod);
        for event in [Event::Init, running, Event::InitDone, Event::Init] {
            triggers.lister(&event);
        }
        assert!(triggered.try_recv().is_err());
        triggers.lister(&Event::InitDone);
        assert_eq!(triggered.try_recv().map(|group| group.name), Ok("a".into()));
    }

    #[tokio::test]
    async fn changed_and_missing_types_trigger_the_groups_that_use_them() {
        let (groups, mut writer) = reflector::store::<WatchedGroup>();
        let (queue, mut triggered) = tokio::sync::mpsc::unbounded_channel();
        let references = no_references(groups.clone(), queue.clone());
        let of_groups = references.clone();
        let triggers = Triggers::new(queue, groups, Arc::default(), Arc::default(), references);
        let user = group("user");
        writer.apply_watcher_event(&Event::Apply(watched(&user)));
        of_groups.record(&ObjectRef::from_obj(&watched(&user)), Some(&user));
        let (types, mut checked) = tokio::sync::mpsc::unbounded_channel();
        let type_ = |version: &str| {
            let metadata = json!({ "name": "t", "namespace": "home", "resourceVersion": version });
            let metadata: kube::api::ObjectMeta = serde_json::from_value(metadata).unwrap();
            Event::InitApply(Watched::from(metadata))
        };
        for (listed, expected) in [
            (Some("1"), true),
            (Some("1"), false),
            (Some("2"), true),
            (None, true),
            (None, false),
        ] {
            // The first list is interrupted.
            for _ in 0..2 {
                triggers.oaat_type(&Event::Init, &types);
                if let Some(version) = listed {
                    triggers.oaat_type(&type_(version), &types);
                }
                // The store still contains the old types.
                assert!(checked.try_recv().is_err() && triggered.try_recv().is_err());
            }
            triggers.oaat_type(&Event::InitDone, &types);
            assert_eq!(checked.try_recv().is_ok(), listed.is_some(), "{listed:?}");
            assert_eq!(triggered.try_recv().is_ok(), expected, "{listed:?}");
        }
    }

    #[tokio::test]
    async fn late_initial_list_of_pods_triggers_their_groups() {
        let (groups, mut writer) = reflector::store::<WatchedGroup>();
        let (queue, mut triggered) = tokio::sync::mpsc::unbounded_channel();
        let references = no_references(groups.clone(), queue.clone());
        let triggers = Triggers::new(queue, groups, Arc::default(), Arc::default(), references);
        let listed = Event::InitApply(watched(&group("a")));
        for event in [Event::Init, listed, Event::InitDone] {
            writer.apply_watcher_event(&event);
            triggers.group(&event);
        }
        let pods = triggers.take_listed_pods(Duration::from_millis(1)).await;
        assert!(pods.is_none());
        assert!(triggered.try_recv().is_err());
        let pod = json!({ "metadata": {
            "name": "p", "namespace": "home", "uid": "p", "labels": { names::GROUP: "a" },
        } });
        triggers.pod(&Event::InitApply(serde_json::from_value(pod).unwrap()));
        assert_eq!(triggered.try_recv().map(|group| group.name), Ok("a".into()));
    }

    #[test]
    fn too_many_listed_pods_are_not_kept() {
        let pod: Pod = serde_json::from_value(json!({ "metadata": {
            "namespace": "n", "labels": { names::GROUP: "g" },
        } }))
        .unwrap();
        let view = PodView {
            message: Some("x".repeat(MAX_LISTED_PODS / 4)),
            ..PodView::default()
        };
        let mut pods = ListedPods::default();
        for _ in 0..3 {
            pods.add(&pod, &view);
        }
        assert!(pods.size < MAX_LISTED_PODS);
        for _ in 0..3 {
            pods.add(&pod, &view);
        }
        assert!(pods.pods.is_empty() && pods.take("n", "g").is_none());
    }

    #[tokio::test]
    async fn group_deleted_while_it_was_read_has_no_references() {
        let (groups, _writer) = reflector::store::<WatchedGroup>();
        let (queue, _triggered) = tokio::sync::mpsc::unbounded_channel();
        let references = no_references(groups, queue);
        let group = group("gone");
        references.record(&ObjectRef::from_obj(&watched(&group)), Some(&group));
        assert!(references.policies().users().is_empty());
        assert!(references.of_type(Some("home"), "t").is_empty());
    }

    #[test]
    fn strip_keeps_only_what_triggers_need() {
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
