//! Reads the ConfigMaps that groups refer to, each by name.
//!
//! The watch delivers only metadata. The data of a ConfigMap is read when it changes, and only a
//! few ConfigMaps are read at a time, so memory does not grow with their number and size.

use crate::cluster::ClusterError;
use crate::fair_limiter::FairLimiter;
use crate::kube_cluster::within;
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::warn;

/// The maximum number of ConfigMaps in memory. Each has up to 1 MiB, and twice that during
/// decoding.
const AT_A_TIME: usize = 4;
/// The delay before a failed read of a ConfigMap is retried.
const RETRY: Duration = Duration::from_secs(2);

/// Reads ConfigMaps. Cheap to clone.
#[derive(Clone)]
pub struct ConfigMaps {
    client: Client,
    limiter: FairLimiter,
}

impl ConfigMaps {
    /// Creates a reader that uses this client.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            limiter: FairLimiter::new(AT_A_TIME),
        }
    }

    /// Watches a ConfigMap indefinitely. Calls `each` with its current state (`None` if it does not
    /// exist), or with the API server's reason if the operator may not read it. `each` may block.
    pub async fn follow(
        &self,
        namespace: &str,
        name: &str,
        each: impl Fn(Result<Option<ConfigMap>, String>) + Send + Sync + 'static,
    ) {
        let each = Arc::new(each);
        let api: Api<PartialObjectMeta<ConfigMap>> =
            Api::namespaced(self.client.clone(), namespace);
        let events = watcher::watch_object(api, name).default_backoff();
        futures::pin_mut!(events);
        while let Some(event) = events.next().await {
            match event {
                Ok(None) => each(Ok(None)),
                Ok(Some(_)) => self.read(namespace, name, each.clone()).await,
                Err(error) => {
                    warn!(namespace, configmap = name, %error, "the watch on a ConfigMap was interrupted; resuming it");
                    if let watcher::Error::InitialListFailed(kube::Error::Api(status)) = error
                        && status.code == 403
                    {
                        each(Err(status.message));
                    }
                }
            }
        }
    }

    async fn read<F>(&self, namespace: &str, name: &str, each: Arc<F>)
    where
        F: Fn(Result<Option<ConfigMap>, String>) + Send + Sync + 'static,
    {
        loop {
            let mut permit = self.limiter.acquire(namespace).await;
            let started = Instant::now();
            match self.get(namespace, name).await {
                Ok(map) => {
                    let each = each.clone();
                    // Not on a runtime thread: there may be a megabyte to hash or parse.
                    let _ = tokio::task::spawn_blocking(move || each(Ok(map))).await;
                    permit.charge(started.elapsed());
                    return;
                }
                Err(error) => {
                    permit.charge(started.elapsed());
                    drop(permit);
                    warn!(namespace, configmap = name, %error, "failed to read a ConfigMap; retrying");
                    tokio::time::sleep(RETRY).await;
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
