//! A witness: sees every state that a pod of a namespace was ever in, by a watch.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Result, ensure};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt};
use tokio::task::JoinHandle;

use crate::place::phase;

/// Everything that was seen.
#[derive(Default)]
struct Seen {
    /// The pods that might run just now, by uid, with their names.
    runnable: BTreeMap<String, String>,
    /// All pods that were ever without a gate, by uid.
    opened: BTreeMap<String, String>,
    /// What must never be, in words.
    wrong: Vec<String>,
}

/// Watches the pods of one namespace from before the first one is made.
pub struct Witness {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Witness {
    pub async fn start(pods: Api<Pod>) -> Result<Self> {
        let now = pods.list(&ListParams::default()).await?;
        ensure!(now.items.is_empty(), "the witness came too late");
        let mut version = now.metadata.resource_version.unwrap_or_default();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let task = tokio::spawn({
            let seen = Arc::clone(&seen);
            async move {
                // One that breaks off goes on where it was, so that nothing is missed.
                while let Ok(()) = follow(&pods, &seen, &mut version).await {}
            }
        });
        Ok(Self { seen, task })
    }

    /// The names of all pods that were ever without a gate. Fails if two were at the same
    /// time before one of them had ended.
    pub fn opened(&self) -> Result<Vec<String>> {
        let seen = lock(&self.seen);
        ensure!(seen.wrong.is_empty(), "{}", seen.wrong.join("; "));
        ensure!(!self.task.is_finished(), "the witness lost sight");
        Ok(seen.opened.values().cloned().collect())
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(pods: &Api<Pod>, seen: &Mutex<Seen>, version: &mut String) -> Result<()> {
    let events = pods.watch(&WatchParams::default(), version).await;
    let Ok(events) = events else {
        // The API server does not answer: it will.
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        return Ok(());
    };
    let mut events = std::pin::pin!(events);
    while let Some(Ok(event)) = events.next().await {
        match event {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                lock(seen).note(&pod, false);
                *version = pod.resource_version().unwrap_or_default();
            }
            WatchEvent::Deleted(pod) => {
                lock(seen).note(&pod, true);
                *version = pod.resource_version().unwrap_or_default();
            }
            WatchEvent::Bookmark(mark) => *version = mark.metadata.resource_version,
            WatchEvent::Error(error) => anyhow::bail!("{error}"),
        }
    }
    Ok(())
}

impl Seen {
    fn note(&mut self, pod: &Pod, gone: bool) {
        let (uid, name) = (pod.uid().unwrap_or_default(), pod.name_any());
        let gates = pod.spec.as_ref().and_then(|s| s.scheduling_gates.as_ref());
        if gates.is_some_and(|gates| !gates.is_empty()) {
            return;
        }
        self.opened.insert(uid.clone(), name.clone());
        if gone || matches!(phase(pod), "Succeeded" | "Failed") {
            self.runnable.remove(&uid);
            return;
        }
        self.runnable.insert(uid, name);
        if self.runnable.len() > 1 {
            let names: Vec<_> = self.runnable.values().cloned().collect();
            self.wrong.push(format!(
                "these might run at the same time: {}",
                names.join(", ")
            ));
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
