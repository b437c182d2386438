//! Decides which watch events trigger a reconcile. Most do not: the normal progress of a pod and
//! the operator's own status writes require no action.

mod groups;
mod listed_objects;
mod listed_pods;
mod oaat_types;
mod pods;
#[cfg(test)]
mod tests;
mod watch_state;

pub use listed_pods::ListedPods;

use crate::group_ref::{GroupRef, WatchedGroup};
use crate::last_seen_pods::LastSeenPods;
use crate::policies::PolicyCache;
use crate::references::References;
use crate::run_now;
use crate::watched::Watched;
use kube::runtime::reflector::{ObjectRef, Store};
use oaat_api::validate;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use watch_state::WatchState;

/// The state between events, and the queue of triggered groups. Cheap to clone.
#[derive(Clone)]
pub struct Triggers {
    queue: UnboundedSender<GroupRef>,
    groups: Store<WatchedGroup>,
    last_seen_pods: Arc<LastSeenPods>,
    cache: Arc<PolicyCache>,
    references: References,
    state: Arc<Mutex<WatchState>>,
    /// Whether the initial list of pods has ended.
    pods_listed: watch::Sender<bool>,
}

impl Triggers {
    /// Creates triggers that send groups to `queue`.
    pub fn new(
        queue: UnboundedSender<GroupRef>,
        groups: Store<WatchedGroup>,
        last_seen_pods: Arc<LastSeenPods>,
        cache: Arc<PolicyCache>,
        references: References,
    ) -> Self {
        Self {
            queue,
            groups,
            last_seen_pods,
            cache,
            references,
            state: Arc::new(Mutex::new(WatchState {
                listed_pods: Some(ListedPods::default()),
                ..WatchState::default()
            })),
            pods_listed: watch::Sender::new(false),
        }
    }

    /// Waits for the initial lists of groups and pods, and removes and returns the listed pods. Returns
    /// `None` if the list of pods is not complete in time; the rest of it then triggers the groups of
    /// its pods.
    pub async fn take_listed_pods(&self, timeout: Duration) -> Option<ListedPods> {
        // If a writer or sender is dropped, the process stops as well.
        let _ = self.groups.wait_until_ready().await;
        let mut listed = self.pods_listed.subscribe();
        let listed = tokio::time::timeout(timeout, listed.wait_for(|listed| *listed));
        let listed = listed.await.is_ok();
        self.state().listed_pods.take().filter(|_| listed)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, WatchState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Triggers a reconcile of a group.
    pub fn trigger(&self, group: GroupRef) {
        // The receiver is dropped only when the process ends.
        let _ = self.queue.send(group);
    }

    /// Triggers a reconcile of all groups.
    pub fn trigger_all(&self) {
        self.trigger_if(|_| true);
    }

    /// Triggers a reconcile of the groups that match a condition.
    pub fn trigger_if(&self, condition: impl Fn(&WatchedGroup) -> bool) {
        for group in self.groups.state() {
            if condition(&group) {
                self.trigger(ObjectRef::from_obj(group.as_ref()));
            }
        }
    }

    /// Forgets what a group refers to, because this replica does not serve it. The last seen pods
    /// stay: if the replica takes the group over, they show how a run ended.
    pub fn forget_references(&self, group: &GroupRef, uid: Option<&str>) {
        self.references.remove_group(group);
        self.cache.remove_group(uid.unwrap_or_default());
    }
}

/// Keeps only a hash of each annotation that the operator reads, to detect changes. Each reconcile
/// reads the annotations live. Labels and owner references are not needed.
pub fn strip<K>(object: &mut Watched<K>) {
    object.metadata.labels = None;
    object.metadata.owner_references = None;
    let all = object.metadata.annotations.take();
    let read = all.into_iter().flatten();
    let read = read.filter(|(name, _)| [run_now::ANNOTATION, validate::PAUSED].contains(&&**name));
    let hashed = read.map(|(name, value)| (name, format!("{:x}", hash(value))));
    object.metadata.annotations = Some(hashed.collect());
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
