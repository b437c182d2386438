//! A watch on one ConfigMap, by its name.

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::sleep;

/// The ConfigMaps that are held whole at a time, by all watches: each may have 1 MiB, and at a
/// start all that are in use come at once.
static READS: Semaphore = Semaphore::const_new(4);
/// The time until a read that failed is repeated.
const AGAIN: Duration = Duration::from_secs(5);

/// Follows a ConfigMap indefinitely: what it is now, or that it is not there, or that the watch
/// was interrupted, which is then taken up again. The watch is on its metadata; the whole of it is
/// read when that changes.
pub async fn follow(
    client: Client,
    namespace: &str,
    name: &str,
    mut each: impl FnMut(Result<Option<&ConfigMap>, &watcher::Error>),
) {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let metadata: Api<PartialObjectMeta<ConfigMap>> = Api::namespaced(client, namespace);
    let events = watcher(metadata, config).default_backoff();
    futures::pin_mut!(events);
    let mut listed = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed = false,
            Ok(Event::InitDone) if listed => {}
            Ok(Event::InitDone | Event::Delete(_)) => each(Ok(None)),
            Ok(Event::InitApply(_) | Event::Apply(_)) => {
                listed = true;
                loop {
                    // Nobody closes it.
                    let permit = READS.acquire().await;
                    match api.get_opt(name).await {
                        Ok(map) => break each(Ok(map.as_ref())),
                        Err(error) => each(Err(&watcher::Error::InitialListFailed(error))),
                    }
                    drop(permit);
                    sleep(AGAIN).await;
                }
            }
            Err(error) => each(Err(&error)),
        }
    }
}

/// Why the API server does not let the operator read it, where that is what an error says.
pub fn forbidden(error: &watcher::Error) -> Option<&str> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 403 => {
            Some(&status.message)
        }
        _ => None,
    }
}
