//! Reads ConfigMaps that groups name, each by its name.
//!
//! The watch brings metadata only. What a ConfigMap holds is read when it has changed, and of all
//! ConfigMaps only a few at a time, so that memory does not grow with their number and size.

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

/// ConfigMaps in memory at the same time: each has up to 1 MiB, and twice that while it is decoded.
const AT_A_TIME: usize = 4;
/// The time after which a ConfigMap that could not be read is read again.
const RETRY: Duration = Duration::from_secs(2);

/// Reads ConfigMaps. Cheap to clone.
#[derive(Clone)]
pub struct ConfigMaps {
    client: Client,
    limiter: FairLimiter,
}

impl ConfigMaps {
    /// Reads with this client.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            limiter: FairLimiter::new(AT_A_TIME),
        }
    }

    /// Follows a ConfigMap forever: calls `each` with what it is now (`None`: it does not exist), or
    /// with the API server's reason why the operator may not read it. `each` may block.
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
                    warn!(namespace, configmap = name, %error, "the watch on a ConfigMap was interrupted; it is resumed");
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
                    // Not on a thread of the runtime: there may be a megabyte to hash or to parse.
                    let _ = tokio::task::spawn_blocking(move || each(Ok(map))).await;
                    permit.charge(started.elapsed());
                    return;
                }
                Err(error) => {
                    permit.charge(started.elapsed());
                    drop(permit);
                    warn!(namespace, configmap = name, %error, "a ConfigMap could not be read; it is read again");
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
