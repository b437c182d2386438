//! Watches the pods and passes each event on.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ResourceExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::task::JoinSet;

use super::shared::Shared;
use super::signals::connect;
use super::{scheduler, worker};

/// A constant short pause after every error. A test that restarts the API server should not wait
/// for an exponential backoff.
struct Steady;

const PAUSE: Duration = Duration::from_millis(100);

impl Iterator for Steady {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(PAUSE)
    }
}

impl Backoff for Steady {
    fn reset(&mut self) {}
}

/// Runs as long as the node. The work on the pods ends with it.
pub(super) async fn pods(shared: Arc<Shared>) {
    let api: Api<Pod> = match &shared.namespace {
        Some(namespace) => Api::namespaced(shared.client.clone(), namespace),
        None => Api::all(shared.client.clone()),
    };
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).backoff(Steady));
    let mut tasks = JoinSet::new();
    let mut listed = HashSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(pod)) => see(&shared, &mut tasks, pod),
            Ok(Event::Delete(pod)) => shared.forget(&pod.uid().unwrap_or_default()),
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(pod)) => {
                listed.extend(pod.uid());
                see(&shared, &mut tasks, pod);
            }
            // Pods that were deleted while the watch was disconnected.
            Ok(Event::InitDone) => shared.keep_only(&listed),
            Err(error) => tracing::debug!(node = shared.name, %error, "watching pods"),
        }
        while tasks.try_join_next().is_some() {}
    }
}

fn see(shared: &Arc<Shared>, tasks: &mut JoinSet<()>, pod: Pod) {
    let bound = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    let uid = pod.uid().unwrap_or_default();
    if bound == Some(shared.name.as_str()) {
        see_ours(shared, tasks, uid, Arc::new(pod));
    } else if scheduler::is_waiting(&pod) && shared.begin_scheduling(&uid) {
        let shared = Arc::clone(shared);
        tasks.spawn(async move {
            scheduler::schedule(&shared, &pod).await;
            shared.end_scheduling(&uid);
        });
    }
}

fn see_ours(shared: &Arc<Shared>, tasks: &mut JoinSet<()>, uid: String, pod: Arc<Pod>) {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    let ended = matches!(phase, Some("Succeeded" | "Failed"));
    let mut workers = shared.workers();
    if let Some(line) = workers.get_mut(&uid) {
        line.pod.send_replace(Arc::clone(&pod));
        if !line.over {
            return;
        }
    } else if !ended {
        let (line, signals) = connect(Arc::clone(&pod));
        workers.insert(uid, line);
        tasks.spawn(worker::run(Arc::clone(shared), signals));
        return;
    }
    drop(workers);
    // The pod ended before it was deleted, so there is nothing to stop.
    if Shared::awaits_deletion(&pod) {
        let shared = Arc::clone(shared);
        tasks.spawn(async move { worker::delete_now(&shared, &pod).await });
    }
}
