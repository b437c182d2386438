//! Watches the ConfigMaps that groups name: each by its name, once however many groups use
//! it, and not one more.

use super::PolicyRead;
use super::compiler::{Compiler, Fault, LONGEST};
use super::source::{Problem, Source, bytes};
use crate::api::Timestamp;
use crate::config_maps;
use crate::triggers::{GroupRef, gone};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::runtime::watcher;
use policy_host::Policy;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::{AbortHandle, JoinHandle};
use tracing::{info, warn};

/// A ConfigMap: namespace and name.
type MapName = (String, String);

/// How long to wait before what failed for no fault of the component's is tried again: at first,
/// and at most.
const WAITS: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(300)];

/// The policies in ConfigMaps, kept up to date. Cheap to clone.
#[derive(Clone)]
pub struct Sources {
    client: Client,
    compiler: Compiler,
    queue: UnboundedSender<GroupRef>,
    known: Arc<Mutex<Known>>,
    first_wait: Duration,
}

#[derive(Default)]
struct Known {
    /// What each group uses.
    groups: HashMap<GroupRef, Source>,
    /// What is known of each source in use.
    sources: HashMap<Source, Entry>,
    /// The watch on each ConfigMap in use.
    watches: HashMap<MapName, JoinHandle<()>>,
    /// Loads begun so far.
    loads: u64,
}

struct Entry {
    users: HashSet<GroupRef>,
    read: PolicyRead,
    /// What is being loaded, or was, as long as the ConfigMap has it.
    load: Option<Load>,
}

/// The loading of some bytes, on a task of its own: the watch goes on meanwhile, and what it
/// brings next takes the place of this. Ends when it is dropped.
struct Load {
    number: u64,
    /// Hash of the bytes.
    bytes: u64,
    task: AbortHandle,
}

impl Drop for Load {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sources {
    /// Sources that send the groups concerned to `queue` whenever one changes.
    pub fn new(client: Client, compiler: Compiler, queue: UnboundedSender<GroupRef>) -> Self {
        Self {
            client,
            compiler,
            queue,
            known: Arc::default(),
            first_wait: WAITS[0],
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a source now. One that no group was seen to use yet is loading: the
    /// watch event of that group is on its way.
    pub fn read(&self, source: &Source) -> PolicyRead {
        self.known().sources.get(source).map_or_else(
            || PolicyRead::Loading(Timestamp::now()),
            |entry| entry.read.clone(),
        )
    }

    /// Notes which source a group uses; `None` for none, or when the group is gone.
    pub fn used(&self, group: &GroupRef, source: Option<Source>) {
        let mut known = self.known();
        if known.groups.get(group) == source.as_ref() {
            return;
        }
        if let Some(before) = known.groups.remove(group) {
            known.leave(group, &before);
        }
        let Some(source) = source else { return };
        let map = (source.namespace.clone(), source.name.clone());
        let entry = known.sources.entry(source.clone());
        let mut fresh = false;
        let entry = entry.or_insert_with(|| {
            fresh = true;
            Entry {
                users: HashSet::new(),
                read: PolicyRead::Loading(Timestamp::now()),
                load: None,
            }
        });
        entry.users.insert(group.clone());
        known.groups.insert(group.clone(), source);
        if fresh {
            // Anew also where another key is watched already: its list brings this one too.
            let watch = tokio::spawn(self.clone().watch(map.clone()));
            if let Some(before) = known.watches.insert(map, watch) {
                before.abort();
            }
        }
    }

    /// Forgets the groups that are not among these: those that went while nobody watched.
    pub fn retain(&self, there: &HashSet<GroupRef>) {
        let gone = gone(self.known().groups.keys(), there);
        for group in gone {
            self.used(&group, None);
        }
    }

    /// The groups that are known to use a source.
    #[cfg(test)]
    pub(crate) fn users(&self) -> Vec<String> {
        let known = self.known();
        known
            .groups
            .keys()
            .map(|group| group.name.clone())
            .collect()
    }

    async fn watch(self, map: MapName) {
        let client = self.client.clone();
        config_maps::follow(client, &map.0, &map.1, |event| match event {
            Ok(object) => self.take(&map, object),
            Err(error) => self.interrupted(&map, error),
        })
        .await;
    }

    /// What there is to load in a ConfigMap, or in its absence.
    fn take(&self, map: &MapName, object: Option<&ConfigMap>) {
        let wanted: Vec<Source> = {
            let known = self.known();
            let of_map = |s: &&Source| (&s.namespace, &s.name) == (&map.0, &map.1);
            known.sources.keys().filter(of_map).cloned().collect()
        };
        for source in wanted {
            match bytes(&source, object) {
                Err(problem) => self.put(&source, None, PolicyRead::Failed(problem)),
                Ok(bytes) => self.load(&source, bytes),
            }
        }
    }

    /// Begins to load these bytes, unless it has been begun; what was begun before is given up.
    fn load(&self, source: &Source, bytes: &[u8]) {
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        let hashed = hasher.finish();
        let mut known = self.known();
        known.loads += 1;
        let number = known.loads;
        let Some(entry) = known.sources.get_mut(source) else {
            return;
        };
        if entry.load.as_ref().is_some_and(|load| load.bytes == hashed) {
            return;
        }
        let loading = self.clone().loading(source.clone(), number, bytes.into());
        entry.load = Some(Load {
            number,
            bytes: hashed,
            task: tokio::spawn(loading).abort_handle(),
        });
    }

    /// Loads a component, again and again while it is not the component that is at fault.
    async fn loading(self, source: Source, number: u64, bytes: Arc<[u8]>) {
        let mut wait = self.first_wait;
        loop {
            let (problem, passing) = match self.compile(&source, number, bytes.clone()).await {
                Ok(policy) => {
                    self.put(&source, Some(number), PolicyRead::Loaded(policy));
                    return;
                }
                Err(Fault { problem, passing }) => (problem, passing),
            };
            let problem = match passing {
                true => problem.tried_again(wait),
                false => problem,
            };
            self.put(&source, Some(number), PolicyRead::Failed(problem));
            if !passing {
                return;
            }
            tokio::time::sleep(wait).await;
            wait = WAITS[1].min(wait * 2);
        }
    }

    /// Compiles what a source holds. One that takes too long is reported as such, and taken all
    /// the same once it is ready: on a machine that is busy enough an honest one may be late.
    async fn compile(
        &self,
        source: &Source,
        number: u64,
        bytes: Arc<[u8]>,
    ) -> Result<Policy, Fault> {
        let mut compiling = self.compiler.begin(bytes).await?;
        match tokio::time::timeout(LONGEST, compiling.ended()).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let problem = Problem::compile_timeout(LONGEST);
                self.put(source, Some(number), PolicyRead::Failed(problem));
                compiling.ended().await
            }
        }
    }

    /// Notes what came of a source, and tells its groups. `load` is the load that it came of,
    /// where it came of one; another that was begun since knows better.
    fn put(&self, source: &Source, load: Option<u64>, read: PolicyRead) {
        {
            let mut known = self.known();
            let Some(entry) = known.sources.get_mut(source) else {
                return;
            };
            if load.is_none() {
                entry.load = None;
            } else if entry.load.as_ref().map(|load| load.number) != load {
                return;
            }
            entry.read = read.clone();
            for group in &entry.users {
                // The receiver goes away at the end of the process only.
                let _ = self.queue.send(group.clone());
            }
        }
        let (namespace, configmap, key) = (&source.namespace, &source.name, &source.key);
        match read {
            PolicyRead::Loaded(policy) => {
                let (digest, contract) = (policy.digest(), policy.contract());
                info!(namespace, configmap, key, digest, contract, "policy loaded");
            }
            PolicyRead::Failed(Problem { reason, message }) => {
                warn!(
                    namespace,
                    configmap, key, reason, "policy not loaded: {message}"
                );
            }
            PolicyRead::Loading(_) => {}
        }
    }

    /// The watch broke; it is taken up again. Only what is not known yet suffers from it.
    fn interrupted(&self, map: &MapName, error: &watcher::Error) {
        let (namespace, configmap) = map;
        warn!(namespace, configmap, %error, "the watch on a policy was interrupted; it is taken up again");
        let Some(forbidden) = config_maps::forbidden(error) else {
            return;
        };
        let loading: Vec<Source> = {
            let known = self.known();
            let of_map = |(s, entry): &(&Source, &Entry)| {
                (&s.namespace, &s.name) == (&map.0, &map.1)
                    && matches!(entry.read, PolicyRead::Loading(_))
            };
            let found = known.sources.iter().filter(of_map);
            found.map(|(source, _)| source.clone()).collect()
        };
        for source in loading {
            let problem = Problem::unreadable(&source, forbidden);
            self.put(&source, None, PolicyRead::Failed(problem));
        }
    }
}

impl Known {
    /// A group uses a source no longer.
    fn leave(&mut self, group: &GroupRef, source: &Source) {
        let Some(entry) = self.sources.get_mut(source) else {
            return;
        };
        entry.users.remove(group);
        if !entry.users.is_empty() {
            return;
        }
        self.sources.remove(source);
        let map = (source.namespace.clone(), source.name.clone());
        let of_map = |s: &Source| (&s.namespace, &s.name) == (&map.0, &map.1);
        if !self.sources.keys().any(of_map)
            && let Some(watch) = self.watches.remove(&map)
        {
            watch.abort();
        }
    }
}

#[cfg(test)]
mod tests;
