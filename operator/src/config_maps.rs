//! Reads the ConfigMaps that groups reference.
//!
//! Opens one metadata-only watch for each namespace that has such groups. Reads a ConfigMap when it
//! changes, and only a few at a time. The number of connections and the memory for reads therefore
//! do not grow with the number or size of the referenced ConfigMaps.

use crate::api_request::with_timeout;
use crate::cluster::ClusterError;
use crate::fair_limiter::FairLimiter;
use crate::watched::{Watched, watch_in_pages};
use futures::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::GetParams;
use kube::core::Request;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use prometheus_client::metrics::counter::Counter;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::AbortHandle;
use tracing::warn;

/// The maximum number of ConfigMaps in memory. Each has up to 1 MiB of values, and takes several
/// times its size if it has many short keys.
const MAX_CONCURRENT_READS: usize = 2;
/// The delay before a watch that was forbidden is started again.
const FORBIDDEN_RETRY_DELAY: Duration = Duration::from_secs(10);
/// The initial and the maximum backoff between failed reads of a ConfigMap.
const BACKOFF: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(60)];

/// The ConfigMap, `None` if it does not exist, or what to do if access is forbidden.
pub type ReadResult = Result<Option<ConfigMap>, String>;

type Callback = Arc<dyn Fn(&ReadResult) + Send + Sync>;

/// Watches and reads the ConfigMaps with subscriptions. Cheap to clone.
#[derive(Clone)]
pub struct ConfigMaps {
    client: Client,
    restarts: Counter,
    limiter: FairLimiter,
    namespaces: Arc<Mutex<HashMap<String, WatchedNamespace>>>,
}

struct WatchedNamespace {
    config_maps: HashMap<String, Arc<Mutex<Subscribed>>>,
    watch: AbortHandle,
}

/// A ConfigMap with at least one subscription.
#[derive(Default)]
struct Subscribed {
    callbacks: HashMap<u64, Callback>,
    last_id: u64,
    /// Whether a task is reading the ConfigMap.
    reading: bool,
    /// Whether the ConfigMap must be read again.
    read_pending: bool,
    /// The last resource version read.
    resource_version: Option<String>,
}

/// A subscription to a ConfigMap. Dropping the value cancels the subscription.
pub struct Subscription {
    config_maps: ConfigMaps,
    namespace: String,
    name: String,
    subscribed: Arc<Mutex<Subscribed>>,
    id: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Subscription {
    /// Reads the ConfigMap again, even if it has not changed.
    pub fn refresh(&self) {
        self.config_maps
            .request_read(&self.namespace, &self.name, &self.subscribed);
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut namespaces = lock(&self.config_maps.namespaces);
        let mut subscribed = lock(&self.subscribed);
        subscribed.callbacks.remove(&self.id);
        if !subscribed.callbacks.is_empty() {
            return;
        }
        let Some(namespace) = namespaces.get_mut(&self.namespace) else {
            return;
        };
        namespace.config_maps.remove(&self.name);
        if namespace.config_maps.is_empty() {
            namespace.watch.abort();
            namespaces.remove(&self.namespace);
        }
    }
}

impl ConfigMaps {
    /// Creates a registry without subscriptions. `restarts` counts interrupted watches.
    pub fn new(client: Client, restarts: Counter) -> Self {
        Self {
            client,
            restarts,
            limiter: FairLimiter::new(MAX_CONCURRENT_READS),
            namespaces: Arc::default(),
        }
    }

    /// Calls `callback` with the current ConfigMap, and again after each change or refresh.
    /// `callback` may block.
    pub fn subscribe(
        &self,
        namespace: &str,
        name: &str,
        callback: impl Fn(&ReadResult) + Send + Sync + 'static,
    ) -> Subscription {
        let mut namespaces = lock(&self.namespaces);
        let watched = namespaces.entry(namespace.to_owned());
        let watched = watched.or_insert_with(|| WatchedNamespace {
            config_maps: HashMap::new(),
            watch: tokio::spawn(self.clone().watch(namespace.to_owned())).abort_handle(),
        });
        let subscribed = watched.config_maps.entry(name.to_owned()).or_default();
        let subscribed = subscribed.clone();
        let id = {
            let mut subscribed = lock(&subscribed);
            subscribed.last_id += 1;
            let id = subscribed.last_id;
            subscribed.callbacks.insert(id, Arc::new(callback));
            id
        };
        // The lock is held until the callback is registered, so that a concurrent drop cannot
        // remove the entry.
        drop(namespaces);
        self.request_read(namespace, name, &subscribed);
        Subscription {
            config_maps: self.clone(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subscribed,
            id,
        }
    }

    fn subscribed(&self, namespace: &str) -> HashMap<String, Arc<Mutex<Subscribed>>> {
        let namespaces = lock(&self.namespaces);
        let watched = namespaces.get(namespace);
        watched
            .map(|watched| watched.config_maps.clone())
            .unwrap_or_default()
    }

    async fn watch(self, namespace: String) {
        loop {
            self.watch_while_allowed(&namespace).await;
            tokio::time::sleep(FORBIDDEN_RETRY_DELAY).await;
        }
    }

    /// Watches the ConfigMaps of a namespace until that is forbidden.
    async fn watch_while_allowed(&self, namespace: &str) {
        let api: Api<Watched<ConfigMap>> = Api::namespaced(self.client.clone(), namespace);
        let start = move |config| watcher(api.clone(), config);
        let events = watch_in_pages(watcher::Config::default(), start).default_backoff();
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
                    let subscribed = lock(&self.namespaces)
                        .get(namespace)
                        .and_then(|watched| watched.config_maps.get(&name).cloned());
                    let Some(subscribed) = subscribed else {
                        continue;
                    };
                    let already_read = lock(&subscribed).resource_version == map.resource_version();
                    if !already_read || matches!(event, Event::Delete(_)) {
                        self.request_read(namespace, &name, &subscribed);
                    }
                    listed.insert(name);
                }
                Ok(Event::InitDone) => {
                    // No event is delivered for objects deleted while the watch was disconnected.
                    for (name, subscribed) in self.subscribed(namespace) {
                        if !listed.contains(&name) {
                            self.request_read(namespace, &name, &subscribed);
                        }
                    }
                }
                Err(error) => {
                    self.restarts.inc();
                    warn!(namespace, %error, "ConfigMap watch interrupted; resuming");
                    if let watcher::Error::InitialListFailed(kube::Error::Api(status))
                    | watcher::Error::WatchStartFailed(kube::Error::Api(status)) = error
                        && status.code == 403
                    {
                        let forbidden = format!(
                            "{}; grant the operator get, list, and watch on configmaps (see \
                             manifests/02-oaat-operator-deployment.yaml)",
                            status.message
                        );
                        for subscribed in self.subscribed(namespace).values() {
                            // Read again once access is granted.
                            lock(subscribed).resource_version = None;
                            deliver(subscribed, Err(forbidden.clone())).await;
                        }
                        return;
                    }
                }
            }
        }
    }

    /// Starts a task that reads the ConfigMap. If one is running, it reads the ConfigMap again.
    fn request_read(&self, namespace: &str, name: &str, subscribed: &Arc<Mutex<Subscribed>>) {
        let mut state = lock(subscribed);
        state.read_pending = true;
        if !std::mem::replace(&mut state.reading, true) {
            let (namespace, name) = (namespace.to_owned(), name.to_owned());
            tokio::spawn(
                self.clone()
                    .read_until_current(namespace, name, subscribed.clone()),
            );
        }
    }

    async fn read_until_current(
        self,
        namespace: String,
        name: String,
        subscribed: Arc<Mutex<Subscribed>>,
    ) {
        let mut backoff = BACKOFF[0];
        loop {
            {
                let mut state = lock(&subscribed);
                let pending = std::mem::take(&mut state.read_pending);
                state.reading = pending && !state.callbacks.is_empty();
                if !state.reading {
                    return;
                }
            }
            let mut permit = self.limiter.acquire(&namespace).await;
            let started = Instant::now();
            let read = self.get(&namespace, &name).await;
            match read {
                Ok(map) => {
                    let version = map.as_ref().and_then(ResourceExt::resource_version);
                    lock(&subscribed).resource_version = version;
                    deliver(&subscribed, Ok(map)).await;
                    permit.charge(started.elapsed());
                    backoff = BACKOFF[0];
                }
                Err(error) => {
                    permit.charge(started.elapsed());
                    drop(permit);
                    let configmap = &name;
                    warn!(namespace, configmap, %error, "failed to read a ConfigMap; retrying");
                    tokio::time::sleep(backoff).await;
                    backoff = BACKOFF[1].min(backoff * 2);
                    lock(&subscribed).read_pending = true;
                }
            }
        }
    }

    /// Reads a ConfigMap; `None` if it does not exist.
    ///
    /// # Errors
    /// Returns an error if the request fails.
    pub async fn get(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<ConfigMap>, ClusterError> {
        let request = Request::new(ConfigMap::url_path(&(), Some(namespace)))
            .get(name, &GetParams::default())
            .map_err(|error| ClusterError::Unavailable(error.to_string()))?;
        match with_timeout(self.client.request::<Data>(request)).await {
            Ok(map) => Ok(Some(map.into())),
            Err(ClusterError::NotFound) => Ok(None),
            Err(other) => Err(other),
        }
    }
}

/// The part of a ConfigMap that is decoded: no managed fields, which take many times their size.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    metadata: Metadata,
    data: Option<BTreeMap<String, String>>,
    binary_data: Option<BTreeMap<String, ByteString>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    resource_version: Option<String>,
}

impl From<Data> for ConfigMap {
    fn from(map: Data) -> Self {
        Self {
            metadata: ObjectMeta {
                resource_version: map.metadata.resource_version,
                ..ObjectMeta::default()
            },
            data: map.data,
            binary_data: map.binary_data,
            immutable: None,
        }
    }
}

/// Passes a result to all callbacks. Runs them on a blocking thread because they may hash or parse
/// up to 1 MiB.
async fn deliver(subscribed: &Mutex<Subscribed>, result: ReadResult) {
    let callbacks: Vec<Callback> = lock(subscribed).callbacks.values().cloned().collect();
    let deliver = move || callbacks.iter().for_each(|callback| callback(&result));
    if let Err(error) = tokio::task::spawn_blocking(deliver).await {
        warn!(%error, "panic while processing a ConfigMap");
    }
}
