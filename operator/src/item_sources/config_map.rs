//! Caches the item lists in the ConfigMaps that groups reference.

use super::parse;
use crate::config_maps::{ConfigMaps, ReadResult, Subscription};
use crate::group_ref::{GroupRef, gone};
use crate::snapshot::SourceUpdate;
use k8s_openapi::api::core::v1::ConfigMap;
use oaat_api::text as message;
use oaat_api::{ItemsFrom, ItemsKey, Timestamp};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc::UnboundedSender;

/// A key of a ConfigMap: namespace, name, and key.
type MapKey = (String, String, String);

/// The lists in ConfigMaps. Cheap to clone.
#[derive(Clone)]
pub struct ConfigMapLists {
    config_maps: ConfigMaps,
    queue: UnboundedSender<GroupRef>,
    state: Arc<Mutex<Lists>>,
}

#[derive(Default)]
struct Lists {
    /// The keys that each group uses.
    groups: HashMap<GroupRef, HashSet<MapKey>>,
    lists: HashMap<MapKey, CachedList>,
    /// The memory use of all lists, in bytes.
    bytes: usize,
}

/// A ConfigMap key that at least one group uses.
struct CachedList {
    users: HashSet<GroupRef>,
    subscription: Subscription,
    state: ListState,
}

enum ListState {
    Unread,
    /// The list and the time of its last change.
    Read(Timestamp, Arc<List>),
    /// Evicted from memory. The groups were queued first and keep the list in their status.
    Evicted,
}

impl ListState {
    /// Returns the approximate memory use in bytes.
    fn size(&self) -> usize {
        match self {
            Self::Read(_, list) => {
                let text = match list.as_ref() {
                    Ok(names) => names.iter().map(|name| name.len() + 32).sum(),
                    Err(problem) => problem.len(),
                };
                text + ENTRY
            }
            Self::Unread | Self::Evicted => 0,
        }
    }
}

/// The approximate memory use of an entry without its list, in bytes.
const ENTRY: usize = 200;

/// A list, or why it cannot be read.
type List = Result<Vec<String>, String>;

/// The memory budget for all lists, in bytes: some 65 lists of the maximum size.
const MEMORY_BUDGET: usize = 12 << 20;

impl ConfigMapLists {
    /// Creates an empty cache that sends the groups that use a list to `queue` when the list
    /// changes.
    pub fn new(config_maps: ConfigMaps, queue: UnboundedSender<GroupRef>) -> Self {
        Self {
            config_maps,
            queue,
            state: Arc::default(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Lists> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the sources of a group; empty if the group was deleted.
    pub fn set_sources(&self, group: &GroupRef, sources: &[ItemsFrom]) {
        let namespace = group.namespace.as_deref().unwrap_or_default();
        let maps = sources.iter().filter_map(|s| s.config_map.as_ref());
        let used: HashSet<MapKey> = maps.map(|key| map_key(namespace, key)).collect();
        let mut state = self.lock();
        let previous = if used.is_empty() {
            state.groups.remove(group)
        } else {
            state.groups.insert(group.clone(), used.clone())
        };
        for key in previous.unwrap_or_default().difference(&used) {
            if let Some(list) = state.lists.get_mut(key) {
                list.users.remove(group);
                if list.users.is_empty()
                    && let Some(list) = state.lists.remove(key)
                {
                    state.bytes -= list.state.size();
                }
            }
        }
        for key in used {
            let list = state
                .lists
                .entry(key.clone())
                .or_insert_with(|| CachedList {
                    users: HashSet::new(),
                    subscription: self.subscribe(key),
                    state: ListState::Unread,
                });
            list.users.insert(group.clone());
        }
    }

    /// Removes groups that are not in `existing`, such as those deleted while the watch was
    /// disconnected.
    pub fn retain(&self, existing: &HashSet<GroupRef>) {
        let gone = gone(self.lock().groups.keys(), existing);
        for group in gone {
            self.set_sources(&group, &[]);
        }
    }

    fn subscribe(&self, key: MapKey) -> Subscription {
        let (lists, (namespace, configmap, data_key)) = (self.clone(), key.clone());
        let callback = move |result: &ReadResult| {
            let list = match result {
                Ok(map) => text(map.as_ref(), &data_key).and_then(|text| parse::list(&text)),
                Err(forbidden) => Err(forbidden.clone()),
            };
            lists.put(&key, list, MEMORY_BUDGET);
        };
        self.config_maps.subscribe(&namespace, &configmap, callback)
    }

    fn put(&self, key: &MapKey, list: List, budget: usize) {
        let list = list.map_err(|problem| message::clean(&problem, message::PROBLEM));
        let mut state = self.lock();
        let state = &mut *state;
        let Some(cached) = state.lists.get_mut(key) else {
            return;
        };
        if let ListState::Read(_, current) = &cached.state
            && **current == list
        {
            return;
        }
        state.bytes -= cached.state.size();
        cached.state = ListState::Read(Timestamp::now(), Arc::new(list));
        state.bytes += cached.state.size();
        for group in &cached.users {
            // The receiver is dropped only when the process ends.
            let _ = self.queue.send(group.clone());
        }
        state.evict(key, budget);
    }

    /// Returns the list, or `SourceUpdate::Nothing` if it is not in memory. `in_status` is true if
    /// the group's status holds the list. If it is false, an evicted list is read again.
    pub fn read(&self, namespace: &str, key: &ItemsKey, in_status: bool) -> SourceUpdate {
        let key = map_key(namespace, key);
        let state = self.lock();
        // The key is not registered yet because the watch event for the group has not arrived.
        let Some(cached) = state.lists.get(&key) else {
            return SourceUpdate::Nothing;
        };
        match &cached.state {
            ListState::Read(since, list) => SourceUpdate::Watched(*since, list.as_ref().clone()),
            ListState::Evicted if !in_status => {
                cached.subscription.refresh();
                SourceUpdate::Nothing
            }
            ListState::Unread | ListState::Evicted => SourceUpdate::Nothing,
        }
    }
}

impl Lists {
    /// If all lists exceed `budget` bytes, evicts some: of the namespace that uses the most memory
    /// first, and of those the least recently changed, but never `newest`.
    fn evict(&mut self, newest: &MapKey, budget: usize) {
        if self.bytes <= budget {
            return;
        }
        let mut sizes: HashMap<&str, usize> = HashMap::new();
        let mut oldest = Vec::new();
        for (key, cached) in &self.lists {
            *sizes.entry(&key.0).or_default() += cached.state.size();
            if let ListState::Read(since, _) = cached.state
                && key != newest
            {
                oldest.push((since, key.clone()));
            }
        }
        let largest = sizes.into_iter().max_by_key(|(_, size)| *size);
        let largest = largest.map(|(namespace, _)| namespace.to_owned());
        // The largest namespace first, so that other namespaces keep their lists as long as
        // possible.
        oldest.sort_by_key(|(since, key)| (Some(&key.0) != largest.as_ref(), *since));
        for (_, key) in oldest {
            // To three quarters, so that not every change scans all lists.
            if self.bytes <= budget / 4 * 3 {
                return;
            }
            if let Some(cached) = self.lists.get_mut(&key) {
                self.bytes -= cached.state.size();
                cached.state = ListState::Evicted;
            }
        }
    }
}

fn map_key(namespace: &str, key: &ItemsKey) -> MapKey {
    (namespace.to_owned(), key.name.clone(), key.key.clone())
}

/// Returns the text under a key of a ConfigMap, or why it is missing.
fn text(map: Option<&ConfigMap>, key: &str) -> Result<String, String> {
    let Some(map) = map else {
        return Err("there is no such ConfigMap in this namespace".into());
    };
    let texts = map.data.as_ref().filter(|texts| !texts.is_empty());
    let Some(texts) = texts else {
        return Err("it has no keys under data".into());
    };
    texts.get(key).cloned().ok_or_else(|| {
        let keys = message::list(texts.keys(), ", ", message::NAME);
        format!("it has no such key under data; keys: {keys}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::runtime::reflector::ObjectRef;
    use serde_json::json;

    fn lists() -> (
        ConfigMapLists,
        tokio::sync::mpsc::UnboundedReceiver<GroupRef>,
    ) {
        let (queue, triggered) = tokio::sync::mpsc::unbounded_channel();
        let config_maps = ConfigMaps::new(
            crate::client::silent(),
            prometheus_client::metrics::counter::Counter::default(),
        );
        (ConfigMapLists::new(config_maps, queue), triggered)
    }

    fn sources(keys: &[&str]) -> Vec<ItemsFrom> {
        let source = |key: &&str| {
            let source = json!({ "name": key, "configMap": { "name": "disks", "key": key } });
            serde_json::from_value(source).unwrap()
        };
        keys.iter().map(source).collect()
    }

    fn group(name: &str) -> GroupRef {
        ObjectRef::new(name).within("home")
    }

    #[tokio::test]
    async fn key_is_cached_while_a_group_uses_it() {
        let (lists, mut triggered) = lists();
        lists.set_sources(&group("one"), &sources(&["a", "b"]));
        lists.set_sources(&group("two"), &sources(&["b"]));
        assert_eq!(lists.lock().lists.len(), 2);
        lists.set_sources(&group("one"), &sources(&["a"]));
        assert_eq!(lists.lock().lists.len(), 2);

        let key = |name: &str| ("home".to_owned(), "disks".to_owned(), name.to_owned());
        let read = |name: &str| match sources(&[name])[0].config_map.as_ref() {
            Some(key) => lists.read("home", key, false),
            None => SourceUpdate::Nothing,
        };
        assert_eq!(read("b"), SourceUpdate::Nothing);
        lists.put(&key("b"), Ok(vec!["x".into()]), MEMORY_BUDGET);
        assert!(matches!(read("b"), SourceUpdate::Watched(_, Ok(list)) if list == ["x"]));
        assert_eq!(triggered.try_recv().unwrap(), group("two"));
        // The same list again is not a change.
        lists.put(&key("b"), Ok(vec!["x".into()]), MEMORY_BUDGET);
        assert!(triggered.try_recv().is_err());

        lists.retain(&HashSet::from([group("one")]));
        assert_eq!(lists.lock().lists.len(), 1);
        assert_eq!(read("b"), SourceUpdate::Nothing);
        lists.set_sources(&group("one"), &[]);
        assert!(lists.lock().lists.is_empty() && lists.lock().groups.is_empty());
    }

    #[tokio::test]
    async fn eviction_removes_the_oldest_list_of_the_largest_namespace() {
        let (lists, _triggered) = lists();
        lists.set_sources(&group("one"), &sources(&["a", "b", "c"]));
        let other = ObjectRef::new("other").within("elsewhere");
        lists.set_sources(&other, &sources(&["a"]));
        let key = |namespace: &str, name: &str| {
            (namespace.to_owned(), "disks".to_owned(), name.to_owned())
        };
        let put = |namespace: &str, name: &str| {
            lists.put(&key(namespace, name), Ok(vec!["x".repeat(1000)]), 4500);
            std::thread::sleep(std::time::Duration::from_millis(2));
        };
        let read = |namespace: &str, name: &str| {
            lists.read(
                namespace,
                sources(&[name])[0].config_map.as_ref().unwrap(),
                true,
            )
        };
        put("elsewhere", "a");
        put("home", "b");
        put("home", "a");
        put("home", "c");
        // Down to three quarters of the budget.
        for name in ["b", "a"] {
            assert_eq!(read("home", name), SourceUpdate::Nothing);
        }
        for (namespace, name) in [("home", "c"), ("elsewhere", "a")] {
            assert!(
                matches!(read(namespace, name), SourceUpdate::Watched(_, Ok(_))),
                "{namespace} {name}"
            );
        }
    }

    #[test]
    fn missing_key_is_reported_with_the_existing_keys() {
        let map = |data: serde_json::Value| -> ConfigMap {
            serde_json::from_value(json!({ "metadata": { "name": "m" }, "data": data })).unwrap()
        };
        let many: serde_json::Map<_, _> = (0..50).map(|i| (format!("k{i}"), json!("x"))).collect();
        assert_eq!(text(Some(&map(json!({ "a": "x" }))), "a"), Ok("x".into()));
        let missing = text(Some(&map(many.into())), "a").unwrap_err();
        assert!(
            missing.contains("keys: k0, k1") && missing.len() < 100,
            "{missing}"
        );
        let empty = text(Some(&map(json!({}))), "a").unwrap_err();
        assert!(empty.contains("no keys under data"), "{empty}");
        assert!(text(None, "a").unwrap_err().contains("no such ConfigMap"));
    }
}
