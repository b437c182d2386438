//! Loads the policies that groups reference: those in ConfigMaps, and the built-in ones.

use super::compiler::Compiler;
use super::kept::{KeptPolicies, RetainedPolicy};
use super::memory::BUILT_IN;
use crate::config_maps::{ConfigMaps, ReadResult, Subscription};
use crate::fair_limiter::Permit;
use crate::group_ref::{GroupRef, gone};
use crate::policy_source::PolicyRead;
use crate::policy_source::{
    KeptPolicy, LastGoodPolicy, PolicyConfigMap, PolicyProblem, PolicySource, bytes,
};
use k8s_openapi::api::core::v1::ConfigMap;
use oaat_api::{BuiltInPolicy, RejectedPolicy, Timestamp};
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

/// The number of attempts to load a copy before it counts as failed. They take about 2.5 minutes.
const KEPT_ATTEMPTS: usize = 6;

/// The policies that groups use. Cheap to clone.
#[derive(Clone)]
pub struct PolicySources {
    config_maps: ConfigMaps,
    compiler: Compiler,
    kept: Option<KeptPolicies>,
    queue: UnboundedSender<GroupRef>,
    state: Arc<Mutex<SourcesState>>,
    first_backoff: Duration,
    /// Whether groups are reconciled when a policy is loaded again after an eviction from memory.
    groups_wait: bool,
}

#[derive(Default)]
struct SourcesState {
    /// The sources of the policy and of the shadow policy of each group.
    groups: HashMap<GroupRef, HashSet<PolicySource>>,
    /// The rejected component in the status of each group.
    rejected: HashMap<GroupRef, RejectedPolicy>,
    /// The state of each source in use.
    sources: HashMap<PolicySource, LoadedSource>,
    /// The subscriptions to the ConfigMaps in use.
    subscriptions: HashMap<MapName, Subscription>,
    /// Policies by the sha256 of the value that they were loaded from.
    loaded: HashMap<String, WeakPolicy>,
    /// The loaded built-in policies. They stay in memory.
    built_in: HashMap<BuiltInPolicy, WeakPolicy>,
    /// The number of loads started so far.
    loads: u64,
}

struct LoadedSource {
    users: HashSet<GroupRef>,
    state: SourceState,
    /// The sha256 of the value in the ConfigMap, if it has the key.
    value: Option<String>,
    load: Option<Load>,
    /// The digest of the policy that the groups were last notified of.
    known: Option<String>,
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
            kept: None,
            queue,
            state: Arc::default(),
            first_backoff: BACKOFF[0],
            groups_wait: true,
        }
    }

    /// Creates an empty set of sources of shadow policies. No group waits for such a policy.
    pub fn for_shadows(
        config_maps: ConfigMaps,
        compiler: Compiler,
        queue: UnboundedSender<GroupRef>,
    ) -> Self {
        Self {
            groups_wait: false,
            ..Self::new(config_maps, compiler, queue)
        }
    }

    /// Sets the copies of the last good policies.
    pub fn with_kept(self, kept: Option<KeptPolicies>) -> Self {
        Self { kept, ..self }
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
                    memory.touch(source.namespace(), policy.digest());
                    return PolicyRead::Loaded(policy);
                }
                let since = Timestamp::now();
                entry.state = SourceState::Loading(since);
                self.load(&mut state, source);
                PolicyRead::Loading(since)
            }
        }
    }

    /// Returns the state of a last good policy of a group, and loads it if necessary. Returns `None`
    /// if the operator keeps no copies, or if the group uses no policy.
    pub fn read_last_good(&self, group: &GroupRef, source: &PolicySource) -> Option<PolicyRead> {
        if self.kept.is_none() && matches!(source, PolicySource::Kept(_)) {
            return None;
        }
        let mut state = self.lock();
        if state.groups.get_mut(group)?.insert(source.clone()) {
            self.add_user(&mut state, group, source);
        }
        drop(state);
        Some(self.read(source))
    }

    /// Records the last good policies of a group, so that the operator keeps copies of those that are
    /// not built in.
    pub fn record_last_good(
        &self,
        group: &GroupRef,
        policies: impl IntoIterator<Item = LastGoodPolicy>,
    ) {
        let Some(kept) = &self.kept else { return };
        let state = self.lock();
        let in_use = policies.into_iter().filter_map(|last| {
            let PolicySource::Kept(policy) = last.source else {
                return None;
            };
            let source = state.loaded_from(group, &last.name, &policy.digest);
            Some(RetainedPolicy { policy, source })
        });
        kept.record(group, in_use.collect());
    }

    /// Records the sources that a group uses, and the rejected component in its status. `sources` is
    /// empty if the group was deleted or uses only the default policy, which is always loaded.
    /// `last_good` contains the last good policies. Those that were read before stay loaded.
    ///
    /// Loads the policies that no other group uses.
    pub fn set_sources(
        &self,
        group: &GroupRef,
        sources: impl IntoIterator<Item = PolicySource>,
        last_good: impl IntoIterator<Item = PolicySource>,
        rejected: Option<RejectedPolicy>,
    ) {
        const DEFAULT: PolicySource = PolicySource::BuiltIn(BuiltInPolicy::Default);
        let mut sources: HashSet<_> = sources.into_iter().filter(|s| *s != DEFAULT).collect();
        let mut state = self.lock();
        match rejected.filter(|_| !sources.is_empty()) {
            Some(rejected) => state.rejected.insert(group.clone(), rejected),
            None => state.rejected.remove(group),
        };
        let before = state.groups.remove(group).unwrap_or_default();
        if !sources.is_empty() {
            sources.extend(last_good.into_iter().filter(|last| before.contains(last)));
        }
        for source in before.difference(&sources) {
            state.remove_user(group, source);
        }
        let namespace = group.namespace.as_deref().unwrap_or_default();
        if sources.is_empty() {
            let is_unused = !state.sources.keys().any(|s| s.namespace() == namespace);
            if is_unused && !before.is_empty() {
                self.compiler.memory().remove_namespace(namespace);
            }
            if let Some(kept) = &self.kept {
                kept.record(group, Vec::new());
            }
            return;
        }
        for source in sources.difference(&before) {
            self.add_user(&mut state, group, source);
        }
        state.groups.insert(group.clone(), sources);
    }

    /// Records a group as a user of a source. Loads a source without other users.
    fn add_user(&self, state: &mut SourcesState, group: &GroupRef, source: &PolicySource) {
        if let Some(entry) = state.sources.get_mut(source) {
            entry.users.insert(group.clone());
            return;
        }
        let loaded = match source {
            PolicySource::BuiltIn(policy) => state.built_in.get(policy).cloned(),
            PolicySource::ConfigMap(_) | PolicySource::Kept(_) => None,
        };
        let is_loaded = loaded.is_some();
        let entry = LoadedSource {
            users: HashSet::from([group.clone()]),
            state: loaded.map_or_else(
                || SourceState::Loading(Timestamp::now()),
                SourceState::Ready,
            ),
            value: None,
            load: None,
            known: None,
        };
        state.sources.insert(source.clone(), entry);
        let Some(key) = source.config_map() else {
            if !is_loaded {
                self.load(state, source);
            }
            return;
        };
        let map = (key.namespace.clone(), key.name.clone());
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
            self.set_sources(&group, None, None, None);
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

    /// Returns the keys of a ConfigMap that groups use.
    fn keys_of(&self, map: &MapName) -> Vec<PolicyConfigMap> {
        let state = self.lock();
        state.keys_of(map).cloned().collect()
    }

    /// Processes the current state of a ConfigMap; `None` if it does not exist.
    fn update(&self, map: &MapName, object: Option<&ConfigMap>) {
        for key in self.keys_of(map) {
            let value = bytes(&key, object).map(sha256);
            let source = PolicySource::ConfigMap(key);
            match value {
                Err(problem) => self.set(&source, SourceState::Failed(problem)),
                Ok(value) => self.set_value(&source, value),
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
        for attempt in 1_usize.. {
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
            // If the last good policy fails to load, another one may decide. Retry first, so that a
            // short outage does not cause that.
            let is_kept = matches!(source, PolicySource::Kept(_));
            if !retry || !is_kept || attempt >= KEPT_ATTEMPTS {
                self.finish_load(&source, number, value, SourceState::Failed(problem));
            }
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
        let namespace = source.namespace();
        let permit = self.compiler.acquire(namespace).await;
        let key = match source {
            PolicySource::BuiltIn(policy) => return self.compile_built_in(permit, *policy).await,
            PolicySource::Kept(policy) => return self.compile_kept(permit, policy).await,
            PolicySource::ConfigMap(key) => key,
        };
        let unreadable = |error: &str| (PolicyProblem::unreadable(key, error), true);
        let map = self.config_maps.get(namespace, &key.name).await;
        let map = map.map_err(|error| unreadable(&error.to_string()))?;
        let bytes = bytes(key, map.as_ref()).map_err(|problem| (problem, false))?;
        let bytes = bytes.to_vec();
        drop(map);
        let hashed = tokio::task::spawn_blocking(move || (sha256(&bytes), bytes)).await;
        let (value, bytes) = hashed.map_err(|error| unreadable(&error.to_string()))?;
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

    /// Reads and compiles the copy of a policy. On failure, returns the problem and whether to retry.
    async fn compile_kept(
        &self,
        permit: Permit,
        policy: &KeptPolicy,
    ) -> Result<SourceState, (PolicyProblem, bool)> {
        let no_copy = || (PolicyProblem::no_copy(policy), false);
        let kept = self.kept.as_ref().ok_or_else(no_copy)?;
        let value = kept.read(policy).await.map_err(|error| {
            let problem = PolicyProblem::unreadable_copy(policy, &error.to_string());
            (problem, true)
        })?;
        match self
            .compiler
            .compile(permit, value.ok_or_else(no_copy)?)
            .await
        {
            Ok(compiled) if compiled.digest() == policy.digest => {
                let mut memory = self.compiler.memory();
                memory.insert(&policy.namespace, &compiled);
                Ok(SourceState::Ready(compiled.downgrade()))
            }
            Err(error) if error.is_transient() => Err((PolicyProblem::from(&error), true)),
            Ok(_) | Err(_) => Err(no_copy()),
        }
    }

    /// Compiles a built-in policy. Its component is never at fault, so every failure is retried.
    async fn compile_built_in(
        &self,
        permit: Permit,
        policy: BuiltInPolicy,
    ) -> Result<SourceState, (PolicyProblem, bool)> {
        let bytes = built_in_policies::component(policy).to_vec();
        let compiled = self.compiler.compile(permit, bytes).await;
        let compiled = compiled.map_err(|error| (PolicyProblem::from(&error), true))?;
        self.compiler.memory().insert(BUILT_IN, &compiled);
        let loaded = compiled.downgrade();
        self.lock().built_in.insert(policy, loaded.clone());
        Ok(SourceState::Ready(loaded))
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
            let digest = match &source_state {
                SourceState::Ready(policy) => Some(policy.digest().to_owned()),
                SourceState::Loading(_) | SourceState::Failed(_) => None,
            };
            let reloaded = digest.is_some() && entry.known == digest;
            entry.known = digest;
            let users = entry.users.iter().filter(|_| self.groups_wait || !reloaded);
            for group in users {
                // The receiver is dropped only when the process ends.
                let _ = self.queue.send(group.clone());
            }
        }
        log(source, source_state);
    }

    /// Records that the operator may not read a ConfigMap. Only sources that are still loading are
    /// affected.
    fn set_forbidden(&self, map: &MapName, error: &str) {
        for key in self.keys_of(map) {
            let source = PolicySource::ConfigMap(key.clone());
            let loading = {
                let state = self.lock();
                let entry = state.sources.get(&source);
                entry.is_some_and(|entry| matches!(entry.state, SourceState::Loading(_)))
            };
            if loading {
                let problem = PolicyProblem::unreadable(&key, error);
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
            group.namespace.as_deref() == Some(source.namespace()) && rejected.sha256 == value
        });
        rejected
            .find_map(|(_, rejected)| PolicyProblem::from_status(rejected).map(SourceState::Failed))
    }

    /// Returns the ConfigMap from which a group's policy with this source and digest was loaded.
    fn loaded_from(&self, group: &GroupRef, name: &str, digest: &str) -> Option<PolicyConfigMap> {
        let is_loaded = |source: &&PolicySource| {
            let entry = self.sources.get(source);
            let is_ready = entry.is_some_and(|entry| {
                matches!(&entry.state, SourceState::Ready(policy) if policy.digest() == digest)
            });
            is_ready && source.to_string() == name
        };
        let source = self.groups.get(group)?.iter().find(is_loaded)?;
        source.config_map().cloned()
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
        let Some(key) = source.config_map() else {
            return;
        };
        let map = (key.namespace.clone(), key.name.clone());
        if self.keys_of(&map).next().is_none() {
            self.subscriptions.remove(&map);
        }
    }

    /// Returns the keys of a ConfigMap that groups use.
    fn keys_of(&self, map: &MapName) -> impl Iterator<Item = &PolicyConfigMap> {
        let keys = self.sources.keys().filter_map(PolicySource::config_map);
        keys.filter(move |key| (&key.namespace, &key.name) == (&map.0, &map.1))
    }
}

/// Logs whether a policy was loaded.
fn log(source: &PolicySource, state: SourceState) {
    let key = source.config_map();
    let namespace = key.map(|key| key.namespace.as_str());
    let configmap = key.map(|key| key.name.as_str());
    let built_in = match source {
        PolicySource::BuiltIn(policy) => Some(policy.name()),
        PolicySource::ConfigMap(_) | PolicySource::Kept(_) => None,
    };
    let kept = match source {
        PolicySource::Kept(policy) => Some(policy.digest.as_str()),
        _ => None,
    };
    let namespace = namespace.or_else(|| kept.is_some().then(|| source.namespace()));
    let key = key.map(|key| key.key.as_str());
    match state {
        SourceState::Ready(policy) => {
            let digest = policy.digest();
            info!(
                namespace,
                configmap, key, built_in, kept, digest, "policy loaded"
            );
        }
        SourceState::Failed(PolicyProblem {
            reason, message, ..
        }) => {
            warn!(
                namespace,
                configmap, key, built_in, kept, reason, "policy not loaded: {message}"
            );
        }
        SourceState::Loading(_) => {}
    }
}

#[cfg(test)]
mod tests;
