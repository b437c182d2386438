//! A watch on one ConfigMap, by its name.

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};

/// Follows a ConfigMap for ever: what it is now, or that it is not there, or that the watch was
/// interrupted, which is then taken up again.
pub async fn follow(
    client: Client,
    namespace: &str,
    name: &str,
    mut each: impl FnMut(Result<Option<&ConfigMap>, &watcher::Error>),
) {
    let api: Api<ConfigMap> = Api::namespaced(client, namespace);
    let objects = watcher::watch_object(api, name).default_backoff();
    futures::pin_mut!(objects);
    while let Some(event) = objects.next().await {
        each(event.as_ref().map(Option::as_ref));
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
