//! Loads the policies in the ConfigMaps that groups reference.

use super::PolicyRead;
use super::compiler::Compiler;
use super::source::{Problem, Source, bytes};
use crate::config_maps::{ConfigMaps, ReadResult, Subscription};
use crate::group_ref::{GroupRef, gone};
use k8s_openapi::api::core::v1::ConfigMap;
use oaat_api::{RejectedPolicy, Timestamp};
use policy_host::{WeakPolicy, sha256};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;
use tracing::{info, warn};

/// A ConfigMap: namespace and name.
type MapName = (String, String);

/// The initial and the maximum backoff for failures that are not the component's fault.
const WAITS: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(300)];

/// The policies in ConfigMaps, kept up to date. Cheap to clone.
#[derive(Clone)]
pub struct Sources {
    config_maps: ConfigMaps,
    compiler: Compiler,
    queue: UnboundedSender<GroupRef>,
    known: Arc<Mutex<Known>>,
    first_wait: Duration,
}

#[derive(Default)]
struct Known {
    /// What each group uses.
    groups: HashMap<GroupRef, Source>,
    /// The rejected component in the status of each group.
    rejected: HashMap<GroupRef, RejectedPolicy>,
    /// What is known of each source in use.
    sources: HashMap<Source, Entry>,
    /// The subscriptions to the ConfigMaps in use.
    subscriptions: HashMap<MapName, Subscription>,
    /// Policies by the sha256 of the value that they were loaded from.
    loaded: HashMap<String, WeakPolicy>,
    /// Loads begun so far.
    loads: u64,
}

struct Entry {
    users: HashSet<GroupRef>,
    state: State,
    /// sha256 of the value in the ConfigMap, if it has the key.
    value: Option<String>,
    load: Option<Load>,
}

#[derive(Clone)]
enum State {
    Loading(Timestamp),
    /// Loaded, and possibly evicted from memory since.
    Ready(WeakPolicy),
    Failed(Problem),
}

/// A load in progress, in a task. The watch continues, and a newer value replaces this load.
/// Dropping it aborts the task.
struct Load {
    number: u64,
    task: AbortHandle,
}

impl Drop for Load {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sources {
    /// Sources that send the groups concerned to `queue` whenever one changes.
    pub fn new(
        config_maps: ConfigMaps,
        compiler: Compiler,
        queue: UnboundedSender<GroupRef>,
    ) -> Self {
        Self {
            config_maps,
            compiler,
            queue,
            known: Arc::default(),
            first_wait: WAITS[0],
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the state of a source. A source that is not known yet counts as loading, because the
    /// watch event of its group has not arrived. So does one whose policy was evicted from memory.
    pub fn read(&self, source: &Source) -> PolicyRead {
        let mut known = self.known();
        let Some(entry) = known.sources.get_mut(source) else {
            return PolicyRead::Loading(Timestamp::now());
        };
        match &entry.state {
            State::Loading(since) => PolicyRead::Loading(*since),
            State::Failed(problem) => PolicyRead::Failed(problem.clone()),
            State::Ready(policy) => {
                if let Some(policy) = policy.upgrade() {
                    let mut memory = self.compiler.memory();
                    memory.touch(&source.namespace, policy.digest());
                    return PolicyRead::Loaded(policy);
                }
                let since = Timestamp::now();
                entry.state = State::Loading(since);
                self.load(&mut known, source);
                PolicyRead::Loading(since)
            }
        }
    }

    /// Records the source that a group uses, and the rejected component in its status. `None` if it
    /// uses none, or if the group was deleted.
    pub fn used(&self, group: &GroupRef, source: Option<Source>, rejected: Option<RejectedPolicy>) {
        let mut known = self.known();
        match rejected.filter(|_| source.is_some()) {
            Some(rejected) => known.rejected.insert(group.clone(), rejected),
            None => known.rejected.remove(group),
        };
        if known.groups.get(group) == source.as_ref() {
            return;
        }
        if let Some(before) = known.groups.remove(group) {
            known.leave(group, &before);
            let same_namespace = |s: &Source| s.namespace == before.namespace;
            if source.is_none() && !known.sources.keys().any(same_namespace) {
                self.compiler.memory().forget(&before.namespace);
            }
        }
        let Some(source) = source else { return };
        let map = (source.namespace.clone(), source.name.clone());
        let entry = known.sources.entry(source.clone());
        let mut is_new = false;
        let entry = entry.or_insert_with(|| {
            is_new = true;
            Entry {
                users: HashSet::new(),
                state: State::Loading(Timestamp::now()),
                value: None,
                load: None,
            }
        });
        entry.users.insert(group.clone());
        known.groups.insert(group.clone(), source);
        if !is_new {
            return;
        }
        if let Some(subscription) = known.subscriptions.get(&map) {
            subscription.refresh();
            return;
        }
        let (sources, map_name) = (self.clone(), map.clone());
        let callback = move |result: &ReadResult| match result {
            Ok(object) => sources.take(&map_name, object.as_ref()),
            Err(message) => sources.forbidden(&map_name, message),
        };
        let subscription = self.config_maps.subscribe(&map.0, &map.1, callback);
        known.subscriptions.insert(map, subscription);
    }

    /// Removes the groups that are not in `there`: those deleted while the watch was disconnected.
    pub fn retain(&self, there: &HashSet<GroupRef>) {
        let gone = gone(self.known().groups.keys(), there);
        for group in gone {
            self.used(&group, None, None);
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

    /// Returns the sources in use from a ConfigMap.
    fn sources_in(&self, map: &MapName) -> Vec<Source> {
        let known = self.known();
        let of_map = |s: &&Source| (&s.namespace, &s.name) == (&map.0, &map.1);
        known.sources.keys().filter(of_map).cloned().collect()
    }

    /// Processes the current state of a ConfigMap; `None` if it does not exist.
    fn take(&self, map: &MapName, object: Option<&ConfigMap>) {
        for source in self.sources_in(map) {
            match bytes(&source, object) {
                Err(problem) => self.put(&source, None, State::Failed(problem)),
                Ok(bytes) => self.found(&source, sha256(bytes)),
            }
        }
    }

    /// Loads a value, unless a load is in progress or its result is known.
    fn found(&self, source: &Source, value: String) {
        let mut known = self.known();
        let verdict = known.verdict(source, &value);
        let Some(entry) = known.sources.get_mut(source) else {
            return;
        };
        if entry.value.as_ref() == Some(&value) {
            return;
        }
        entry.value = Some(value);
        match verdict {
            Some(state) => {
                entry.load = None;
                drop(known);
                self.publish(source, state);
            }
            None => self.load(&mut known, source),
        }
    }

    /// Starts to load the value of a source. Aborts a load in progress.
    fn load(&self, known: &mut Known, source: &Source) {
        known.loads += 1;
        let number = known.loads;
        if let Some(entry) = known.sources.get_mut(source) {
            let loading = self.clone().loading(source.clone(), number);
            let task = tokio::spawn(loading).abort_handle();
            entry.load = Some(Load { number, task });
        }
    }

    /// Loads a component. Retries with backoff while the component is not at fault.
    async fn loading(self, source: Source, number: u64) {
        let mut wait = self.first_wait;
        loop {
            let mut value = None;
            let (problem, passing) = match self.compile(&source, &mut value).await {
                Ok(state) => return self.put(&source, Some((number, value)), state),
                Err(failed) => failed,
            };
            let problem = match passing {
                true => problem.tried_again(wait),
                false => problem,
            };
            self.put(&source, Some((number, value)), State::Failed(problem));
            if !passing {
                return;
            }
            tokio::time::sleep(wait).await;
            wait = WAITS[1].min(wait * 2);
        }
    }

    /// Reads and compiles the value of a source. On failure, returns the problem and whether to
    /// retry.
    ///
    /// The component is read only when its turn comes, because thousands may be waiting.
    async fn compile(
        &self,
        source: &Source,
        read: &mut Option<String>,
    ) -> Result<State, (Problem, bool)> {
        let Source {
            namespace, name, ..
        } = source;
        let turn = self.compiler.turn(namespace).await;
        let map = self.config_maps.get(namespace, name).await;
        let map = map.map_err(|error| (Problem::unavailable(source, &error.to_string()), true))?;
        let bytes = bytes(source, map.as_ref()).map_err(|problem| (problem, false))?;
        let bytes = bytes.to_vec();
        drop(map);
        let hashed = tokio::task::spawn_blocking(move || (sha256(&bytes), bytes)).await;
        let (value, bytes) =
            hashed.map_err(|error| (Problem::unavailable(source, &error.to_string()), true))?;
        *read = Some(value.clone());
        match self.compiler.compile(turn, bytes).await {
            Ok(policy) => {
                self.compiler.memory().keep(namespace, &policy);
                let mut known = self.known();
                known.loaded.retain(|_, policy| policy.upgrade().is_some());
                known.loaded.insert(value, policy.downgrade());
                drop(known);
                Ok(State::Ready(policy.downgrade()))
            }
            Err(error) if error.is_transient() => Err((Problem::from(&error), true)),
            Err(error) => Err((Problem::rejected(&error, value), false)),
        }
    }

    /// Notes what came of a source. `load` is the load that it came of, if any, with the value that it
    /// read, which may be newer than the one that it was begun for. Another load that was begun since
    /// knows better.
    fn put(&self, source: &Source, load: Option<(u64, Option<String>)>, state: State) {
        {
            let mut known = self.known();
            let Some(entry) = known.sources.get_mut(source) else {
                return;
            };
            match load {
                None => (entry.load, entry.value) = (None, None),
                Some((number, _)) if entry.load.as_ref().is_none_or(|l| l.number != number) => {
                    return;
                }
                Some((_, value)) => entry.value = value,
            }
        }
        self.publish(source, state);
    }

    /// Records the state of a source, and requeues its groups.
    fn publish(&self, source: &Source, state: State) {
        {
            let mut known = self.known();
            let Some(entry) = known.sources.get_mut(source) else {
                return;
            };
            entry.state = state.clone();
            for group in &entry.users {
                // The receiver is dropped only when the process ends.
                let _ = self.queue.send(group.clone());
            }
        }
        let (namespace, configmap, key) = (&source.namespace, &source.name, &source.key);
        match state {
            State::Ready(policy) => {
                let digest = policy.digest();
                info!(namespace, configmap, key, digest, "policy loaded");
            }
            State::Failed(Problem {
                reason, message, ..
            }) => {
                warn!(
                    namespace,
                    configmap, key, reason, "policy not loaded: {message}"
                );
            }
            State::Loading(_) => {}
        }
    }

    /// Records that the operator may not read a ConfigMap. Only sources that are still loading are
    /// affected.
    fn forbidden(&self, map: &MapName, words: &str) {
        for source in self.sources_in(map) {
            let loading = {
                let known = self.known();
                let entry = known.sources.get(&source);
                entry.is_some_and(|entry| matches!(entry.state, State::Loading(_)))
            };
            if loading {
                let problem = Problem::unavailable(&source, words);
                self.put(&source, None, State::Failed(problem));
            }
        }
    }
}

impl Known {
    /// Returns the state of a value that need not be compiled: it is loaded, or the status of a
    /// group in the same namespace records that it was rejected.
    fn verdict(&self, source: &Source, value: &str) -> Option<State> {
        if let Some(policy) = self.loaded.get(value).and_then(WeakPolicy::upgrade) {
            return Some(State::Ready(policy.downgrade()));
        }
        // Only from the same namespace: a tenant may be able to forge the status of its own groups.
        let mut rejected = self.rejected.iter().filter(|(group, rejected)| {
            group.namespace.as_ref() == Some(&source.namespace) && rejected.sha256 == value
        });
        rejected.find_map(|(_, rejected)| Problem::remembered(rejected).map(State::Failed))
    }

    /// Removes a group from the users of a source.
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
        if !self.sources.keys().any(of_map) {
            self.subscriptions.remove(&map);
        }
    }
}

#[cfg(test)]
mod tests;
