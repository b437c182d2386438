//! Follows the ConfigMaps that groups take items from, each once however many groups do, and
//! asks web servers when it is time.

use super::http::{Allowed, Answer, fetch};
use super::{News, parse, retry, words};
use crate::api::{ItemsFrom, ItemsHttp, ItemsKey, Timestamp};
use crate::config_maps::ConfigMaps;
use crate::text;
use crate::triggers::{GroupRef, gone};
use crate::validate::source_rules;
use k8s_openapi::api::core::v1::ConfigMap;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;
use tracing::debug;

/// A ConfigMap: namespace and name.
type MapName = (String, String);

/// The sources of items that are not pods. Cheap to clone.
#[derive(Clone)]
pub struct Lists {
    config_maps: ConfigMaps,
    allowed: Arc<Allowed>,
    queue: UnboundedSender<GroupRef>,
    known: Arc<Mutex<Known>>,
    turns: Arc<Semaphore>,
}

/// Web servers that are asked at a time: each answer may have a megabyte.
const AT_A_TIME: usize = 32;
/// Requests to one of them at a time.
const OF_ONE_HOST: usize = 4;

#[derive(Default)]
struct Known {
    /// What each group has in its spec.
    groups: HashMap<GroupRef, Vec<ItemsFrom>>,
    maps: HashMap<MapName, Map>,
    /// Web servers that are being asked or have answered, by group and name of the source.
    asked: HashMap<(GroupRef, String), Asked>,
    /// Turns to ask each server that is being asked.
    hosts: HashMap<String, Arc<Semaphore>>,
}

/// A ConfigMap that is followed.
struct Map {
    users: HashSet<GroupRef>,
    watch: JoinHandle<()>,
    /// Since when it is as it is, and its texts; or why it cannot be read. Nothing before that is
    /// known.
    state: Option<(Timestamp, Result<Texts, String>)>,
    /// Lists that have been read from it as it is.
    lists: HashMap<String, Result<Vec<String>, String>>,
}

/// The texts of a ConfigMap; `None` where there is none of its name.
type Texts = Option<BTreeMap<String, String>>;

/// A web server that was asked.
#[derive(Default)]
struct Asked {
    source: ItemsFrom,
    task: Option<JoinHandle<()>>,
    /// What came of it, and when.
    news: Option<(Timestamp, Result<Vec<String>, String>)>,
    /// What the status said of the last try when that was first offered.
    offered: Option<Option<Timestamp>>,
    /// The last good answer, by which the server can tell that nothing has changed.
    answer: Option<Answer>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Lists {
    /// Lists that send the groups concerned to `queue` whenever there is something new.
    pub fn new(
        config_maps: ConfigMaps,
        allowed: Arc<Allowed>,
        queue: UnboundedSender<GroupRef>,
    ) -> Self {
        Self {
            config_maps,
            allowed,
            queue,
            known: Arc::default(),
            turns: Arc::new(Semaphore::new(AT_A_TIME)),
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the sources of a group; none, when it is gone.
    pub fn used(&self, group: &GroupRef, sources: &[ItemsFrom]) {
        let mut known = self.known();
        if known.groups.get(group).map_or(&[][..], Vec::as_slice) == sources {
            return;
        }
        let namespace = group.namespace.clone().unwrap_or_default();
        let wanted: HashSet<MapName> = sources
            .iter()
            .filter_map(|source| source.config_map.as_ref())
            .map(|map| (namespace.clone(), map.name.clone()))
            .collect();
        known.maps.retain(|name, map| {
            if !wanted.contains(name) {
                map.users.remove(group);
            }
            if map.users.is_empty() {
                map.watch.abort();
            }
            !map.users.is_empty()
        });
        for name in wanted {
            let map = known.maps.entry(name.clone());
            let map = map.or_insert_with(|| Map {
                users: HashSet::new(),
                watch: tokio::spawn(self.clone().follow(name)),
                state: None,
                lists: HashMap::new(),
            });
            map.users.insert(group.clone());
        }
        known
            .asked
            .retain(|(of, _), asked| of != group || sources.contains(&asked.source));
        match sources {
            [] => known.groups.remove(group),
            _ => known.groups.insert(group.clone(), sources.to_vec()),
        };
    }

    /// Forgets the groups that are not among these: those that went while nobody watched.
    pub fn retain(&self, there: &HashSet<GroupRef>) {
        let gone = gone(self.known().groups.keys(), there);
        for group in gone {
            self.used(&group, &[]);
        }
    }

    async fn follow(self, name: MapName) {
        let config_maps = self.config_maps.clone();
        let (namespace, configmap) = name.clone();
        config_maps
            .follow(&namespace, &configmap, move |read| match read {
                Ok(map) => self.put(&name, Ok(map.as_ref().map(texts))),
                Err(forbidden) => {
                    let words = format!(
                        "the operator may not read it: {forbidden}; give it the rights in \
                         manifests/02-oaat-operator-deployment.yaml (get, list, and watch configmaps)"
                    );
                    self.put(&name, Err(words));
                }
            })
            .await;
    }

    fn put(&self, name: &MapName, state: Result<Texts, String>) {
        let mut known = self.known();
        let Some(map) = known.maps.get_mut(name) else {
            return;
        };
        if map.state.as_ref().is_some_and(|(_, known)| *known == state) {
            return;
        }
        map.state = Some((Timestamp::now(), state));
        map.lists.clear();
        for group in &map.users {
            // The receiver goes away at the end of the process only.
            let _ = self.queue.send(group.clone());
        }
    }

    /// What is new of a source of a group. A web server is asked again if that is `due` by the status
    /// and by what is known here; `since` is when the status says that it was tried last.
    pub fn read(
        &self,
        group: &GroupRef,
        source: &ItemsFrom,
        due: bool,
        since: Option<Timestamp>,
    ) -> News {
        match (&source.config_map, &source.http) {
            (Some(key), _) => self.in_map(group, key),
            (_, Some(http)) => self.behind(group, source, http, due, since),
            _ => News::Nothing,
        }
    }

    fn in_map(&self, group: &GroupRef, key: &ItemsKey) -> News {
        let name = (
            group.namespace.clone().unwrap_or_default(),
            key.name.clone(),
        );
        let mut known = self.known();
        // One that is not followed yet: the watch event of its group is on its way.
        let Some(map) = known.maps.get_mut(&name) else {
            return News::Nothing;
        };
        let Some((since, state)) = &map.state else {
            return News::Nothing;
        };
        let list = map.lists.entry(key.key.clone());
        let list = list.or_insert_with(|| match state {
            Ok(texts) => in_texts(&key.key, texts.as_ref()),
            Err(problem) => Err(problem.clone()),
        });
        News::Followed(*since, list.clone())
    }

    fn behind(
        &self,
        group: &GroupRef,
        source: &ItemsFrom,
        http: &ItemsHttp,
        due: bool,
        since: Option<Timestamp>,
    ) -> News {
        let mut known = self.known();
        // Of a group that is gone, or has changed, the watch event comes after this at times.
        if !known
            .groups
            .get(group)
            .is_some_and(|sources| sources.contains(source))
        {
            return News::Nothing;
        }
        let key = (group.clone(), source.name.clone());
        let asked = known.asked.entry(key).or_default();
        if asked.source != *source {
            *asked = Asked::default();
            asked.source = source.clone();
        }
        let free = asked.task.as_ref().is_none_or(JoinHandle::is_finished);
        // What has nothing new is not written down, so the status does not know of it.
        let late = asked.news.as_ref().is_none_or(|(at, list)| {
            let wait = source_rules(source).map(|rules| retry(rules, list.is_err()));
            at.plus(wait.unwrap_or_default()) <= Timestamp::now()
        });
        if due && free && late {
            let task = self.clone().ask(
                group.clone(),
                source.clone(),
                http.clone(),
                asked.answer.clone(),
            );
            asked.task = Some(tokio::spawn(task));
        }
        // News are for the status as it was when they were first offered: once it has changed, here
        // or by another operator, they are none, whatever the clocks say.
        let Some((at, list)) = &asked.news else {
            return News::Nothing;
        };
        match asked.offered {
            Some(offered) if offered != since => News::Nothing,
            _ => {
                asked.offered = Some(since);
                News::Read(*at, list.clone())
            }
        }
    }

    /// The turns of those who ask one server.
    fn turns_of(&self, url: &str) -> Arc<Semaphore> {
        let host = reqwest::Url::parse(url).ok();
        let host = host
            .as_ref()
            .and_then(|url| url.host_str())
            .unwrap_or_default();
        let mut known = self.known();
        known.hosts.retain(|_, turns| Arc::strong_count(turns) > 1);
        let turns = known.hosts.entry(host.to_owned());
        turns
            .or_insert_with(|| Arc::new(Semaphore::new(OF_ONE_HOST)))
            .clone()
    }

    async fn ask(
        self,
        group: GroupRef,
        source: ItemsFrom,
        http: ItemsHttp,
        before: Option<Answer>,
    ) {
        // Nobody closes them. One server that hangs holds up those who ask it.
        let host = self.turns_of(&http.url);
        let _of_host = host.acquire().await;
        let _turn = self.turns.acquire().await;
        let answer = match source_rules(&source) {
            Ok(rules) => fetch(&http, rules.timeout, &self.allowed, before).await,
            Err(problems) => Err(text::list(problems, "; ", text::PROBLEM)),
        };
        debug!(
            group = group.name,
            source = words(&source),
            ok = answer.is_ok(),
            "asked for a list of items"
        );
        {
            let mut known = self.known();
            let key = (group.clone(), source.name.clone());
            let Some(asked) = known
                .asked
                .get_mut(&key)
                .filter(|asked| asked.source == source)
            else {
                return;
            };
            let list = answer.as_ref().map(|answer| answer.items.clone());
            asked.news = Some((Timestamp::now(), list.map_err(Clone::clone)));
            asked.offered = None;
            if let Ok(answer) = answer {
                asked.answer = Some(answer);
            }
        }
        let _ = self.queue.send(group);
    }
}

fn texts(map: &ConfigMap) -> BTreeMap<String, String> {
    map.data.clone().unwrap_or_default()
}

fn in_texts(key: &str, texts: Option<&BTreeMap<String, String>>) -> Result<Vec<String>, String> {
    let Some(texts) = texts else {
        return Err("there is no such ConfigMap in this namespace".into());
    };
    match texts.get(key) {
        Some(list) => parse::list(list),
        None if texts.is_empty() => Err("it has no texts at all under data".into()),
        None => {
            let keys = text::list(texts.keys(), ", ", text::NAME);
            Err(format!("it has no such key under data, but {keys}"))
        }
    }
}
