//! Watches the ConfigMaps that groups take items from. Each key is watched once, however many
//! groups use it.

use super::{News, parse};
use crate::api::{ItemsFrom, ItemsKey, Timestamp};
use crate::config_maps::ConfigMaps;
use crate::text as message;
use crate::triggers::{GroupRef, gone};
use k8s_openapi::api::core::v1::ConfigMap;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;

/// A key of a ConfigMap: namespace, name, and key.
type MapKey = (String, String, String);

/// The lists in ConfigMaps. Cheap to clone.
#[derive(Clone)]
pub struct Lists {
    config_maps: ConfigMaps,
    queue: UnboundedSender<GroupRef>,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    /// The keys that each group uses.
    groups: HashMap<GroupRef, HashSet<MapKey>>,
    lists: HashMap<MapKey, Followed>,
}

/// A key in use.
#[derive(Default)]
struct Followed {
    users: HashSet<GroupRef>,
    /// `None` while the namespace has too many.
    watch: Option<JoinHandle<()>>,
    /// The list and the time of its last change, once it was read.
    list: Option<(Timestamp, Arc<List>)>,
    /// The size of the list that was read, if the namespace has no room for it.
    refused: usize,
}

/// A list, or why it cannot be read.
type List = Result<Vec<String>, String>;

/// The maximum size of all lists of a namespace in memory, in bytes: some 35 lists of the maximum
/// size.
const NAMESPACE: usize = 4 << 20;
/// The maximum number of keys that are followed in a namespace: each is a connection.
const FOLLOWED: usize = 200;

/// What a list takes in memory, roughly.
fn size(list: &List) -> usize {
    let names = list.as_ref().map_or(&[][..], Vec::as_slice);
    names.iter().map(|name| name.len() + 32).sum()
}

impl Lists {
    /// Lists that send the groups concerned to `queue` whenever there is something new.
    pub fn new(config_maps: ConfigMaps, queue: UnboundedSender<GroupRef>) -> Self {
        Self {
            config_maps,
            queue,
            known: Arc::default(),
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the sources of a group; empty if the group was deleted.
    pub fn used(&self, group: &GroupRef, sources: &[ItemsFrom]) {
        let namespace = group.namespace.as_deref().unwrap_or_default();
        let maps = sources.iter().filter_map(|s| s.config_map.as_ref());
        let wanted: HashSet<MapKey> = maps.map(|key| map_key(namespace, key)).collect();
        let mut known = self.known();
        let before = match wanted.is_empty() {
            true => known.groups.remove(group),
            false => known.groups.insert(group.clone(), wanted.clone()),
        };
        for key in before.unwrap_or_default().difference(&wanted) {
            let Some(followed) = known.lists.get_mut(key) else {
                continue;
            };
            followed.users.remove(group);
            if followed.users.is_empty() {
                if let Some(watch) = &followed.watch {
                    watch.abort();
                }
                known.lists.remove(key);
            }
        }
        for key in wanted {
            let followed = known.lists.entry(key).or_default();
            followed.users.insert(group.clone());
        }
        self.follow_more(&mut known, namespace);
    }

    /// Follows the keys of a namespace that wait for a watch or for memory, as far as the limits
    /// allow.
    fn follow_more(&self, known: &mut Known, namespace: &str) {
        let of_namespace = |(key, _): &(&MapKey, _)| key.0 == namespace;
        let lists = known.lists.iter().filter(of_namespace);
        let (mut watched, mut bytes) = lists.fold((0, 0), |(watched, bytes), (_, followed)| {
            let size = followed.list.as_ref().map_or(0, |(_, list)| size(list));
            (
                watched + usize::from(followed.watch.is_some()),
                bytes + size,
            )
        });
        for (key, followed) in &mut known.lists {
            let waits = followed.watch.is_none() || followed.refused > 0;
            if key.0 != namespace || !waits {
                continue;
            }
            let (place, room) = (usize::from(followed.watch.is_none()), followed.refused);
            if watched + place <= FOLLOWED && bytes + room <= NAMESPACE {
                (watched, bytes) = (watched + place, bytes + room);
                followed.refused = 0;
                let watch = tokio::spawn(self.clone().follow(key.clone()));
                if let Some(before) = followed.watch.replace(watch) {
                    before.abort();
                }
            } else if followed.list.is_none() {
                followed.list = Some((Timestamp::now(), Arc::new(too_many())));
            }
        }
    }

    /// Forgets the groups that are not among these: those that went while nobody watched.
    pub fn retain(&self, there: &HashSet<GroupRef>) {
        let gone = gone(self.known().groups.keys(), there);
        for group in gone {
            self.used(&group, &[]);
        }
    }

    async fn follow(self, key: MapKey) {
        let config_maps = self.config_maps.clone();
        let (namespace, configmap, data_key) = key.clone();
        config_maps
            .follow(&namespace, &configmap, move |read| {
                let list = match read {
                    Ok(map) => {
                        text(map.as_ref(), &data_key).and_then(|text| parse::list(&text))
                    }
                    Err(forbidden) => Err(format!(
                        "the operator may not read it: {forbidden}; give it the rights in \
                         manifests/02-oaat-operator-deployment.yaml (get, list, and watch configmaps)"
                    )),
                };
                self.put(&key, list);
            })
            .await;
    }

    fn put(&self, key: &MapKey, mut list: List) {
        let mut known = self.known();
        let others = known
            .lists
            .iter()
            .filter(|(of, _)| of.0 == key.0 && *of != key);
        let others: usize = others
            .filter_map(|(_, followed)| Some(size(followed.list.as_ref()?.1.as_ref())))
            .sum();
        let refused = match others + size(&list) > NAMESPACE {
            true => size(&list),
            false => 0,
        };
        if refused > 0 {
            list = Err(format!(
                "the lists in ConfigMaps of this namespace have more than {} MiB together; remove some",
                NAMESPACE >> 20
            ));
        }
        let Some(followed) = known.lists.get_mut(key) else {
            return;
        };
        followed.refused = refused;
        if followed.list.as_ref().is_some_and(|(_, l)| **l == list) {
            return;
        }
        followed.list = Some((Timestamp::now(), Arc::new(list)));
        for group in &followed.users {
            // The receiver goes away at the end of the process only.
            let _ = self.queue.send(group.clone());
        }
        self.follow_more(&mut known, &key.0);
    }

    /// Returns what changed in a list; nothing until it has been read once.
    pub fn read(&self, namespace: &str, key: &ItemsKey) -> News {
        let key = map_key(namespace, key);
        // Not watched yet: the watch event of its group has not arrived.
        let list = self.known().lists.get(&key).and_then(|f| f.list.clone());
        match list {
            Some((since, list)) => News::Followed(since, list.as_ref().clone()),
            None => News::Nothing,
        }
    }
}

fn too_many() -> List {
    Err(format!(
        "more than {FOLLOWED} keys of ConfigMaps are listed in this namespace; remove some"
    ))
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
        format!("it has no such key under data, but {keys}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::Client;
    use kube::runtime::reflector::ObjectRef;
    use serde_json::json;

    fn lists() -> (Lists, tokio::sync::mpsc::UnboundedReceiver<GroupRef>) {
        let silent = tower::service_fn(|_: http::Request<kube::client::Body>| {
            std::future::pending::<Result<http::Response<kube::client::Body>, std::io::Error>>()
        });
        let (queue, triggered) = tokio::sync::mpsc::unbounded_channel();
        let config_maps = ConfigMaps::new(Client::new(silent, "default"));
        (Lists::new(config_maps, queue), triggered)
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
    async fn a_key_is_followed_while_a_group_uses_it() {
        let (lists, mut triggered) = lists();
        lists.used(&group("one"), &sources(&["a", "b"]));
        lists.used(&group("two"), &sources(&["b"]));
        assert_eq!(lists.known().lists.len(), 2);
        lists.used(&group("one"), &sources(&["a"]));
        assert_eq!(lists.known().lists.len(), 2);

        let key = |name: &str| ("home".to_owned(), "disks".to_owned(), name.to_owned());
        let read = |name: &str| match sources(&[name])[0].config_map.as_ref() {
            Some(key) => lists.read("home", key),
            None => News::Nothing,
        };
        assert_eq!(read("b"), News::Nothing);
        lists.put(&key("b"), Ok(vec!["x".into()]));
        assert!(matches!(read("b"), News::Followed(_, Ok(list)) if list == ["x"]));
        assert_eq!(triggered.try_recv().unwrap(), group("two"));
        // The same list again is not a change.
        lists.put(&key("b"), Ok(vec!["x".into()]));
        assert!(triggered.try_recv().is_err());

        lists.retain(&HashSet::from([group("one")]));
        assert_eq!(lists.known().lists.len(), 1);
        assert_eq!(read("b"), News::Nothing);
        lists.used(&group("one"), &[]);
        assert!(lists.known().lists.is_empty() && lists.known().groups.is_empty());
    }

    #[tokio::test]
    async fn keys_beyond_a_limit_are_followed_once_there_is_room() {
        let (lists, _triggered) = lists();
        let names: Vec<_> = (0..=FOLLOWED).map(|number| number.to_string()).collect();
        for name in &names {
            lists.used(&group(name), &sources(&[name]));
        }
        let watched = || {
            let known = lists.known();
            known.lists.values().filter(|l| l.watch.is_some()).count()
        };
        assert_eq!(
            (watched(), lists.known().lists.len()),
            (FOLLOWED, FOLLOWED + 1)
        );
        lists.used(&group("0"), &[]);
        assert_eq!((watched(), lists.known().lists.len()), (FOLLOWED, FOLLOWED));

        let key = |name: &str| ("home".to_owned(), "disks".to_owned(), name.to_owned());
        let refused = |name: &str| lists.known().lists[&key(name)].refused > 0;
        let long = || Ok(vec!["x".repeat(NAMESPACE / 2)]);
        lists.put(&key("1"), long());
        lists.put(&key("2"), long());
        assert!(!refused("1") && refused("2"));
        lists.put(&key("1"), Ok(Vec::new()));
        assert!(!refused("2"));
    }

    #[test]
    fn a_key_that_is_missing_is_reported_with_those_that_are_there() {
        let map = |data: serde_json::Value| -> ConfigMap {
            serde_json::from_value(json!({ "metadata": { "name": "m" }, "data": data })).unwrap()
        };
        let many: serde_json::Map<_, _> = (0..50).map(|i| (format!("k{i}"), json!("x"))).collect();
        assert_eq!(text(Some(&map(json!({ "a": "x" }))), "a"), Ok("x".into()));
        let missing = text(Some(&map(many.into())), "a").unwrap_err();
        assert!(
            missing.contains("but k0, k1") && missing.len() < 100,
            "{missing}"
        );
        let empty = text(Some(&map(json!({}))), "a").unwrap_err();
        assert!(empty.contains("no keys under data"), "{empty}");
        assert!(text(None, "a").unwrap_err().contains("no such ConfigMap"));
    }
}
