//! Reads the ConfigMaps that groups refer to.
//!
//! One watch for each namespace with such groups delivers metadata only. A ConfigMap is read when it
//! changes, and only a few are read at a time, so neither connections nor memory grow with the
//! number and size of ConfigMaps that a tenant refers to.

use crate::cluster::ClusterError;
use crate::fair_limiter::FairLimiter;
use crate::kube_cluster::within;
use crate::watched::{Watched, listed_in_parts};
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::AbortHandle;
use tracing::warn;

/// The maximum number of ConfigMaps in memory. Each has up to 1 MiB, and twice that during
/// decoding.
const AT_A_TIME: usize = 4;
/// The initial and the maximum delay before a failed read of a ConfigMap is retried.
const RETRY: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(60)];

/// A ConfigMap (`None` if it does not exist), or the API server's reason if the operator may not
/// read it.
pub type Reading = Result<Option<ConfigMap>, String>;

type Receiver = Arc<dyn Fn(&Reading) + Send + Sync>;

/// The ConfigMaps in use. Cheap to clone.
#[derive(Clone)]
pub struct ConfigMaps {
    client: Client,
    limiter: FairLimiter,
    namespaces: Arc<Mutex<HashMap<String, Namespace>>>,
}

/// A namespace with ConfigMaps in use.
struct Namespace {
    in_use: HashMap<String, Arc<Mutex<InUse>>>,
    watch: AbortHandle,
}

/// A ConfigMap in use.
#[derive(Default)]
struct InUse {
    receivers: HashMap<u64, Receiver>,
    next: u64,
    /// Whether a task reads it, and whether it changed since that task began.
    reading: bool,
    changed: bool,
    /// The resource version that was read last.
    version: Option<String>,
}

/// A subscription to a ConfigMap. Dropping it ends it.
pub struct Subscription {
    config_maps: ConfigMaps,
    namespace: String,
    name: String,
    in_use: Arc<Mutex<InUse>>,
    id: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Subscription {
    /// Reads the ConfigMap again, even if it has not changed.
    pub fn refresh(&self) {
        self.config_maps
            .read(&self.namespace, &self.name, &self.in_use);
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut namespaces = lock(&self.config_maps.namespaces);
        let mut in_use = lock(&self.in_use);
        in_use.receivers.remove(&self.id);
        if !in_use.receivers.is_empty() {
            return;
        }
        let Some(namespace) = namespaces.get_mut(&self.namespace) else {
            return;
        };
        namespace.in_use.remove(&self.name);
        if namespace.in_use.is_empty() {
            namespace.watch.abort();
            namespaces.remove(&self.namespace);
        }
    }
}

impl ConfigMaps {
    /// Creates a registry that uses this client.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            limiter: FairLimiter::new(AT_A_TIME),
            namespaces: Arc::default(),
        }
    }

    /// Calls `receiver` with the current state of a ConfigMap, and again whenever it changes.
    /// `receiver` may block.
    pub fn subscribe(
        &self,
        namespace: &str,
        name: &str,
        receiver: impl Fn(&Reading) + Send + Sync + 'static,
    ) -> Subscription {
        let mut namespaces = lock(&self.namespaces);
        let in_namespace = namespaces.entry(namespace.to_owned());
        let in_namespace = in_namespace.or_insert_with(|| Namespace {
            in_use: HashMap::new(),
            watch: tokio::spawn(self.clone().watch(namespace.to_owned())).abort_handle(),
        });
        let in_use = in_namespace.in_use.entry(name.to_owned()).or_default();
        let in_use = in_use.clone();
        let id = {
            let mut in_use = lock(&in_use);
            in_use.next += 1;
            let id = in_use.next;
            in_use.receivers.insert(id, Arc::new(receiver));
            id
        };
        // Not before: whoever drops the last receiver removes the ConfigMap.
        drop(namespaces);
        self.read(namespace, name, &in_use);
        Subscription {
            config_maps: self.clone(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            in_use,
            id,
        }
    }

    fn in_use(&self, namespace: &str) -> HashMap<String, Arc<Mutex<InUse>>> {
        let namespaces = lock(&self.namespaces);
        let found = namespaces.get(namespace);
        found.map(|found| found.in_use.clone()).unwrap_or_default()
    }

    async fn watch(self, namespace: String) {
        let api: Api<Watched<ConfigMap>> = Api::namespaced(self.client.clone(), &namespace);
        let start = move |config| watcher(api.clone(), config);
        let events = listed_in_parts(watcher::Config::default(), start).default_backoff();
        futures::pin_mut!(events);
        let mut listed = HashSet::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => listed.clear(),
                Ok(
                    ref event @ (Event::InitApply(ref map)
                    | Event::Apply(ref map)
                    | Event::Delete(ref map)),
                ) => {
                    let name = map.name_any();
                    let Some(in_use) = self.in_use(&namespace).remove(&name) else {
                        continue;
                    };
                    let known = lock(&in_use).version == map.resource_version();
                    if !known || matches!(event, Event::Delete(_)) {
                        self.read(&namespace, &name, &in_use);
                    }
                    listed.insert(name);
                }
                Ok(Event::InitDone) => {
                    // No event is delivered for objects deleted while the watch was disconnected.
                    for (name, in_use) in self.in_use(&namespace) {
                        if !listed.contains(&name) {
                            self.read(&namespace, &name, &in_use);
                        }
                    }
                }
                Err(error) => {
                    warn!(namespace, %error, "the watch on ConfigMaps was interrupted; resuming it");
                    if let watcher::Error::InitialListFailed(kube::Error::Api(status))
                    | watcher::Error::WatchStartFailed(kube::Error::Api(status)) = error
                        && status.code == 403
                    {
                        for in_use in self.in_use(&namespace).values() {
                            deliver(in_use, Err(status.message.clone())).await;
                        }
                    }
                }
            }
        }
    }

    /// Starts to read a ConfigMap, or lets the task that reads it do so once more.
    fn read(&self, namespace: &str, name: &str, in_use: &Arc<Mutex<InUse>>) {
        let mut state = lock(in_use);
        state.changed = true;
        if !std::mem::replace(&mut state.reading, true) {
            let reading =
                self.clone()
                    .reading(namespace.to_owned(), name.to_owned(), in_use.clone());
            tokio::spawn(reading);
        }
    }

    async fn reading(self, namespace: String, name: String, in_use: Arc<Mutex<InUse>>) {
        let mut wait = RETRY[0];
        loop {
            {
                let mut state = lock(&in_use);
                let changed = std::mem::take(&mut state.changed);
                state.reading = changed && !state.receivers.is_empty();
                if !state.reading {
                    return;
                }
            }
            let mut permit = self.limiter.acquire(&namespace).await;
            let started = Instant::now();
            let read = self.get(&namespace, &name).await;
            permit.charge(started.elapsed());
            match read {
                Ok(map) => {
                    lock(&in_use).version = map.as_ref().and_then(ResourceExt::resource_version);
                    deliver(&in_use, Ok(map)).await;
                    wait = RETRY[0];
                }
                Err(error) => {
                    drop(permit);
                    let configmap = &name;
                    warn!(namespace, configmap, %error, "failed to read a ConfigMap; retrying");
                    tokio::time::sleep(wait).await;
                    wait = RETRY[1].min(wait * 2);
                    lock(&in_use).changed = true;
                }
            }
        }
    }

    /// Reads a ConfigMap; `None` if it does not exist.
    ///
    /// # Errors
    /// As any request to the API server.
    pub async fn get(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<ConfigMap>, ClusterError> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        match within(api.get(name)).await {
            Ok(map) => Ok(Some(map)),
            Err(ClusterError::NotFound) => Ok(None),
            Err(other) => Err(other),
        }
    }
}

/// Passes a reading to all receivers. Not on a runtime thread: there may be a megabyte to hash or
/// parse.
async fn deliver(in_use: &Mutex<InUse>, reading: Reading) {
    let receivers: Vec<Receiver> = lock(in_use).receivers.values().cloned().collect();
    let deliver = move || receivers.iter().for_each(|receiver| receiver(&reading));
    if let Err(error) = tokio::task::spawn_blocking(deliver).await {
        warn!(%error, "failed to process a ConfigMap");
    }
}
