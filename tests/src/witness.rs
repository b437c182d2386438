//! A witness: observes every state of the pods in a namespace with a watch.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Result, ensure};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt};
use tokio::task::JoinHandle;

use crate::node::Run;

/// A pod that was observed without a gate, so that it could run.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The uid.
    pub uid: String,
    /// The name.
    pub name: String,
    /// The group in its label.
    pub group: String,
    /// The number of the run in its label.
    pub run: Option<i64>,
    /// The last phase.
    pub phase: String,
}

impl Opened {
    fn ended(&self) -> bool {
        matches!(self.phase.as_str(), "Succeeded" | "Failed")
    }
}

/// All observations.
#[derive(Default)]
struct Seen {
    /// The pods that can run now, by uid.
    runnable: BTreeMap<String, Opened>,
    /// All pods that were observed without a gate, by uid.
    opened: BTreeMap<String, Opened>,
    /// The violations.
    wrong: Vec<String>,
}

/// Watches the pods of one namespace, from before the first pod is created.
pub struct Witness {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Witness {
    /// Starts the watch.
    ///
    /// # Errors
    /// Returns an error if the namespace already has pods.
    pub async fn start(pods: Api<Pod>) -> Result<Self> {
        let now = pods.list(&ListParams::default()).await?;
        ensure!(now.items.is_empty(), "the namespace already has pods");
        let mut version = now.metadata.resource_version.unwrap_or_default();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let task = tokio::spawn({
            let seen = Arc::clone(&seen);
            async move {
                // An interrupted watch continues at its resource version, so nothing is missed.
                while let Ok(()) = follow(&pods, &seen, &mut version).await {}
            }
        });
        Ok(Self { seen, task })
    }

    /// Returns the names of all pods that were observed without a gate. Fails if two pods of a
    /// group were without a gate at the same time and neither had ended.
    ///
    /// # Errors
    /// Returns an error if there are violations, or if the watch has ended.
    pub fn opened(&self) -> Result<Vec<String>> {
        Ok(self.runs()?.into_iter().map(|pod| pod.name).collect())
    }

    /// Returns all pods that were observed without a gate.
    ///
    /// # Errors
    /// Returns an error under the conditions of [`Witness::opened`].
    pub fn runs(&self) -> Result<Vec<Opened>> {
        let seen = lock(&self.seen);
        ensure!(seen.wrong.is_empty(), "{}", seen.wrong.join("; "));
        ensure!(!self.task.is_finished(), "the watch of the pods has ended");
        Ok(seen.opened.values().cloned().collect())
    }

    /// Returns the violations so far.
    pub fn wrong(&self) -> Vec<String> {
        lock(&self.seen).wrong.clone()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Returns the violations by the processes that ran on the node, independent of the API server:
/// pods of a group that ran at the same time, and pods that ran without being observed by the first
/// witness.
pub fn overlaps(ran: &[Run], opened: &[Opened]) -> Vec<String> {
    let groups: BTreeMap<&str, &str> = opened
        .iter()
        .map(|pod| (pod.uid.as_str(), pod.group.as_str()))
        .collect();
    let mut wrong = Vec::new();
    let mut of_group: BTreeMap<&str, Vec<&Run>> = BTreeMap::new();
    for run in ran {
        match groups.get(run.uid.as_str()) {
            Some(group) => of_group.entry(group).or_default().push(run),
            None => wrong.push(format!("pod {} ran without being observed", run.pod)),
        }
    }
    for (group, mut runs) in of_group {
        runs.sort_by_key(|run| run.started);
        for pair in runs.windows(2) {
            if pair[0].ended.is_none_or(|ended| ended > pair[1].started) {
                wrong.push(format!(
                    "the processes of pods {} and {} of {group} ran at the same time",
                    pair[0].pod, pair[1].pod
                ));
            }
        }
    }
    wrong
}

async fn follow(pods: &Api<Pod>, seen: &Mutex<Seen>, version: &mut String) -> Result<()> {
    let events = pods.watch(&WatchParams::default(), version).await;
    let Ok(events) = events else {
        // The API server is down and will respond later.
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
            // A recently started API server has no history, only the current state.
            WatchEvent::Error(error) if error.code == 410 => {
                let Ok(now) = pods.list(&ListParams::default()).await else {
                    return Ok(());
                };
                let mut seen = lock(seen);
                seen.runnable.clear();
                for pod in &now.items {
                    seen.note(pod, false);
                }
                *version = now.metadata.resource_version.unwrap_or_default();
                return Ok(());
            }
            WatchEvent::Error(_) => return Ok(()),
        }
    }
    Ok(())
}

impl Seen {
    fn note(&mut self, pod: &Pod, gone: bool) {
        let gates = pod.spec.as_ref().and_then(|s| s.scheduling_gates.as_ref());
        if gates.is_some_and(|gates| !gates.is_empty()) {
            return;
        }
        let label = |name: &str| pod.labels().get(name).cloned();
        let status = pod.status.as_ref();
        let uid = pod.uid().unwrap_or_default();
        let opened = Opened {
            uid: uid.clone(),
            name: pod.name_any(),
            group: label("oaat.kawaja.net/group").unwrap_or_default(),
            run: label("oaat.kawaja.net/run").and_then(|run| run.parse().ok()),
            phase: status.and_then(|s| s.phase.clone()).unwrap_or_default(),
        };
        self.opened.insert(uid.clone(), opened.clone());
        if gone || opened.ended() {
            self.runnable.remove(&uid);
            return;
        }
        let group = opened.group.clone();
        self.runnable.insert(uid, opened);
        let of_group = self.runnable.values().filter(|pod| pod.group == group);
        let names: Vec<_> = of_group.map(|pod| pod.name.as_str()).collect();
        if names.len() > 1 {
            let wrong = format!("these might run at the same time: {}", names.join(", "));
            self.wrong.push(wrong);
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    fn opened(uid: &str, group: &str) -> Opened {
        Opened {
            uid: uid.into(),
            name: uid.into(),
            group: group.into(),
            run: None,
            phase: "Succeeded".into(),
        }
    }

    fn ran(uid: &str, started: u64, ended: Option<u64>) -> Run {
        let at = |second| SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        Run {
            namespace: "n".into(),
            pod: uid.into(),
            uid: uid.into(),
            started: at(started),
            ended: ended.map(at),
        }
    }

    #[test]
    fn overlapping_processes_of_a_group_are_reported() {
        let known = [opened("a", "g"), opened("b", "g"), opened("c", "other")];
        let fine = [
            ran("a", 1, Some(3)),
            ran("c", 2, Some(9)),
            ran("b", 3, None),
        ];
        assert_eq!(overlaps(&fine, &known), Vec::<String>::new());
        for (ended, started) in [(Some(3), 2), (None, 5)] {
            let both = [ran("b", started, Some(9)), ran("a", 1, ended)];
            assert_eq!(overlaps(&both, &known).len(), 1, "{both:?}");
        }
    }

    #[test]
    fn process_of_an_unobserved_pod_is_reported() {
        assert_eq!(overlaps(&[ran("a", 1, Some(2))], &[]).len(), 1);
    }
}
