//! Loads the policies in the ConfigMaps that groups reference.

use super::compiler::Compiler;
use crate::config_maps::{ConfigMaps, ReadResult, Subscription};
use crate::group_ref::{GroupRef, gone};
use crate::policy_source::PolicyRead;
use crate::policy_source::{PolicyProblem, PolicySource, bytes};
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
const BACKOFF: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(300)];

/// The policies in the ConfigMaps that groups use. Cheap to clone.
#[derive(Clone)]
pub struct PolicySources {
    config_maps: ConfigMaps,
    compiler: Compiler,
    queue: UnboundedSender<GroupRef>,
    state: Arc<Mutex<SourcesState>>,
    first_backoff: Duration,
}

#[derive(Default)]
struct SourcesState {
    /// The source that each group uses.
    groups: HashMap<GroupRef, PolicySource>,
    /// The rejected component in the status of each group.
    rejected: HashMap<GroupRef, RejectedPolicy>,
    /// The state of each source in use.
    sources: HashMap<PolicySource, LoadedSource>,
    /// The subscriptions to the ConfigMaps in use.
    subscriptions: HashMap<MapName, Subscription>,
    /// Policies by the sha256 of the value that they were loaded from.
    loaded: HashMap<String, WeakPolicy>,
    /// The number of loads started so far.
    loads: u64,
}

struct LoadedSource {
    users: HashSet<GroupRef>,
    state: SourceState,
    /// The sha256 of the value in the ConfigMap, if it has the key.
    value: Option<String>,
    load: Option<Load>,
}

#[derive(Clone)]
enum SourceState {
    Loading(Timestamp),
    /// Loaded, and possibly evicted from memory since.
    Ready(WeakPolicy),
    Failed(PolicyProblem),
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

impl PolicySources {
    /// Creates an empty set of sources. When a source changes, its groups are sent to `queue`.
    pub fn new(
        config_maps: ConfigMaps,
        compiler: Compiler,
        queue: UnboundedSender<GroupRef>,
    ) -> Self {
        Self {
            config_maps,
            compiler,
            queue,
            state: Arc::default(),
            first_backoff: BACKOFF[0],
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, SourcesState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the state of a source. A source that is not known yet counts as loading, because the
    /// watch event of its group has not arrived. So does one whose policy was evicted from memory.
    pub fn read(&self, source: &PolicySource) -> PolicyRead {
        let mut state = self.lock();
        let Some(entry) = state.sources.get_mut(source) else {
            return PolicyRead::Loading(Timestamp::now());
        };
        match &entry.state {
            SourceState::Loading(since) => PolicyRead::Loading(*since),
            SourceState::Failed(problem) => PolicyRead::Failed(problem.clone()),
            SourceState::Ready(policy) => {
                if let Some(policy) = policy.upgrade() {
                    let mut memory = self.compiler.memory();
                    memory.touch(&source.namespace, policy.digest());
                    return PolicyRead::Loaded(policy);
                }
                let since = Timestamp::now();
                entry.state = SourceState::Loading(since);
                self.load(&mut state, source);
                PolicyRead::Loading(since)
            }
        }
    }

    /// Records the source that a group uses, and the rejected component in its status. `None` if it
    /// uses none, or if the group was deleted.
    pub fn set_source(
        &self,
        group: &GroupRef,
        source: Option<PolicySource>,
        rejected: Option<RejectedPolicy>,
    ) {
        let mut state = self.lock();
        match rejected.filter(|_| source.is_some()) {
            Some(rejected) => state.rejected.insert(group.clone(), rejected),
            None => state.rejected.remove(group),
        };
        if state.groups.get(group) == source.as_ref() {
            return;
        }
        if let Some(before) = state.groups.remove(group) {
            state.remove_user(group, &before);
            let same_namespace = |s: &PolicySource| s.namespace == before.namespace;
            if source.is_none() && !state.sources.keys().any(same_namespace) {
                self.compiler.memory().remove_namespace(&before.namespace);
            }
        }
        let Some(source) = source else { return };
        let map = (source.namespace.clone(), source.name.clone());
        let entry = state.sources.entry(source.clone());
        let mut is_new = false;
        let entry = entry.or_insert_with(|| {
            is_new = true;
            LoadedSource {
                users: HashSet::new(),
                state: SourceState::Loading(Timestamp::now()),
                value: None,
                load: None,
            }
        });
        entry.users.insert(group.clone());
        state.groups.insert(group.clone(), source);
        if !is_new {
            return;
        }
        if let Some(subscription) = state.subscriptions.get(&map) {
            subscription.refresh();
            return;
        }
        let (sources, map_name) = (self.clone(), map.clone());
        let callback = move |result: &ReadResult| match result {
            Ok(object) => sources.update(&map_name, object.as_ref()),
            Err(message) => sources.set_forbidden(&map_name, message),
        };
        let subscription = self.config_maps.subscribe(&map.0, &map.1, callback);
        state.subscriptions.insert(map, subscription);
    }

    /// Removes groups that are not in `existing`, such as those deleted while the watch was
    /// disconnected.
    pub fn retain(&self, existing: &HashSet<GroupRef>) {
        let gone = gone(self.lock().groups.keys(), existing);
        for group in gone {
            self.set_source(&group, None, None);
        }
    }

    /// Returns the names of the groups that use a source.
    #[cfg(test)]
    pub(crate) fn users(&self) -> Vec<String> {
        let state = self.lock();
        state
            .groups
            .keys()
            .map(|group| group.name.clone())
            .collect()
    }

    /// Returns the sources in use from a ConfigMap.
    fn sources_in(&self, map: &MapName) -> Vec<PolicySource> {
        let state = self.lock();
        let of_map = |s: &&PolicySource| (&s.namespace, &s.name) == (&map.0, &map.1);
        state.sources.keys().filter(of_map).cloned().collect()
    }

    /// Processes the current state of a ConfigMap; `None` if it does not exist.
    fn update(&self, map: &MapName, object: Option<&ConfigMap>) {
        for source in self.sources_in(map) {
            match bytes(&source, object) {
                Err(problem) => self.set(&source, SourceState::Failed(problem)),
                Ok(bytes) => self.set_value(&source, sha256(bytes)),
            }
        }
    }

    /// Loads a value, unless a load is in progress or its result is known.
    fn set_value(&self, source: &PolicySource, value: String) {
        let mut state = self.lock();
        let known_state = state.state_of(source, &value);
        let Some(entry) = state.sources.get_mut(source) else {
            return;
        };
        if entry.value.as_ref() == Some(&value) {
            return;
        }
        entry.value = Some(value);
        match known_state {
            Some(known_state) => {
                entry.load = None;
                drop(state);
                self.publish(source, known_state);
            }
            None => self.load(&mut state, source),
        }
    }

    /// Starts to load the value of a source. Aborts a load in progress.
    fn load(&self, state: &mut SourcesState, source: &PolicySource) {
        state.loads += 1;
        let number = state.loads;
        if let Some(entry) = state.sources.get_mut(source) {
            let loading = self.clone().load_with_retries(source.clone(), number);
            let task = tokio::spawn(loading).abort_handle();
            entry.load = Some(Load { number, task });
        }
    }

    /// Loads a component. Retries with backoff while the component is not at fault.
    async fn load_with_retries(self, source: PolicySource, number: u64) {
        let mut backoff = self.first_backoff;
        loop {
            let mut value = None;
            let (problem, retry) = match self.compile(&source, &mut value).await {
                Ok(state) => return self.finish_load(&source, number, value, state),
                Err(failed) => failed,
            };
            let problem = if retry {
                problem.with_retry(backoff)
            } else {
                problem
            };
            self.finish_load(&source, number, value, SourceState::Failed(problem));
            if !retry {
                return;
            }
            tokio::time::sleep(backoff).await;
            backoff = BACKOFF[1].min(backoff * 2);
        }
    }

    /// Reads and compiles the value of a source. On failure, returns the problem and whether to
    /// retry. Sets `read` to the sha256 of the value once it was read.
    ///
    /// The component is read only after a permit was acquired, because thousands may be waiting.
    async fn compile(
        &self,
        source: &PolicySource,
        read: &mut Option<String>,
    ) -> Result<SourceState, (PolicyProblem, bool)> {
        let PolicySource {
            namespace, name, ..
        } = source;
        let permit = self.compiler.acquire(namespace).await;
        let map = self.config_maps.get(namespace, name).await;
        let map =
            map.map_err(|error| (PolicyProblem::unreadable(source, &error.to_string()), true))?;
        let bytes = bytes(source, map.as_ref()).map_err(|problem| (problem, false))?;
        let bytes = bytes.to_vec();
        drop(map);
        let hashed = tokio::task::spawn_blocking(move || (sha256(&bytes), bytes)).await;
        let (value, bytes) = hashed
            .map_err(|error| (PolicyProblem::unreadable(source, &error.to_string()), true))?;
        *read = Some(value.clone());
        match self.compiler.compile(permit, bytes).await {
            Ok(policy) => {
                self.compiler.memory().insert(namespace, &policy);
                let mut state = self.lock();
                state.loaded.retain(|_, policy| policy.upgrade().is_some());
                state.loaded.insert(value, policy.downgrade());
                drop(state);
                Ok(SourceState::Ready(policy.downgrade()))
            }
            Err(error) if error.is_transient() => Err((PolicyProblem::from(&error), true)),
            Err(error) => Err((PolicyProblem::rejected(&error, value), false)),
        }
    }

    /// Records the state of a source without a value. Aborts a load in progress.
    fn set(&self, source: &PolicySource, source_state: SourceState) {
        {
            let mut state = self.lock();
            let Some(entry) = state.sources.get_mut(source) else {
                return;
            };
            (entry.load, entry.value) = (None, None);
        }
        self.publish(source, source_state);
    }

    /// Records the result of a load, unless a newer load was started. `value` is the sha256 of the
    /// value that it read, which may be newer than the one that it was started for.
    fn finish_load(
        &self,
        source: &PolicySource,
        number: u64,
        value: Option<String>,
        source_state: SourceState,
    ) {
        {
            let mut state = self.lock();
            let Some(entry) = state.sources.get_mut(source) else {
                return;
            };
            if entry.load.as_ref().is_none_or(|load| load.number != number) {
                return;
            }
            entry.value = value;
        }
        self.publish(source, source_state);
    }

    /// Records the state of a source, and requeues its groups.
    fn publish(&self, source: &PolicySource, source_state: SourceState) {
        {
            let mut state = self.lock();
            let Some(entry) = state.sources.get_mut(source) else {
                return;
            };
            entry.state = source_state.clone();
            for group in &entry.users {
                // The receiver is dropped only when the process ends.
                let _ = self.queue.send(group.clone());
            }
        }
        let (namespace, configmap, key) = (&source.namespace, &source.name, &source.key);
        match source_state {
            SourceState::Ready(policy) => {
                let digest = policy.digest();
                info!(namespace, configmap, key, digest, "policy loaded");
            }
            SourceState::Failed(PolicyProblem {
                reason, message, ..
            }) => {
                warn!(
                    namespace,
                    configmap, key, reason, "policy not loaded: {message}"
                );
            }
            SourceState::Loading(_) => {}
        }
    }

    /// Records that the operator may not read a ConfigMap. Only sources that are still loading are
    /// affected.
    fn set_forbidden(&self, map: &MapName, error: &str) {
        for source in self.sources_in(map) {
            let loading = {
                let state = self.lock();
                let entry = state.sources.get(&source);
                entry.is_some_and(|entry| matches!(entry.state, SourceState::Loading(_)))
            };
            if loading {
                let problem = PolicyProblem::unreadable(&source, error);
                self.set(&source, SourceState::Failed(problem));
            }
        }
    }
}

impl SourcesState {
    /// Returns the state of a value that need not be compiled: it is loaded, or the status of a
    /// group in the same namespace records that it was rejected.
    fn state_of(&self, source: &PolicySource, value: &str) -> Option<SourceState> {
        if let Some(policy) = self.loaded.get(value).and_then(WeakPolicy::upgrade) {
            return Some(SourceState::Ready(policy.downgrade()));
        }
        // Only from the same namespace: a tenant may be able to forge the status of its own groups.
        let mut rejected = self.rejected.iter().filter(|(group, rejected)| {
            group.namespace.as_ref() == Some(&source.namespace) && rejected.sha256 == value
        });
        rejected
            .find_map(|(_, rejected)| PolicyProblem::from_status(rejected).map(SourceState::Failed))
    }

    /// Removes a group from the users of a source.
    fn remove_user(&mut self, group: &GroupRef, source: &PolicySource) {
        let Some(entry) = self.sources.get_mut(source) else {
            return;
        };
        entry.users.remove(group);
        if !entry.users.is_empty() {
            return;
        }
        self.sources.remove(source);
        let map = (source.namespace.clone(), source.name.clone());
        let of_map = |s: &PolicySource| (&s.namespace, &s.name) == (&map.0, &map.1);
        if !self.sources.keys().any(of_map) {
            self.subscriptions.remove(&map);
        }
    }
}

#[cfg(test)]
mod tests;
