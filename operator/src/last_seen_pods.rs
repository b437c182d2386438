//! Keeps the last known state of pods that ended. A pod can be deleted at the moment it ends. Its
//! last state is then only in the watch event, because the pod is gone when its group is
//! reconciled.

use crate::pod::PodView;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The maximum number of pods that are kept for a group. One runs at a time, so few are needed.
const PER_GROUP: usize = 4;

/// The last known state of a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct LastSeenPod {
    /// The first terminal state, or the last state if none was terminal.
    pub last: PodView,
    /// Whether its deletion was seen while it was not terminal. This is more reliable than
    /// comparing the clocks of two machines.
    pub deleted_while_running: bool,
}

#[derive(Debug)]
struct Recorded {
    pod: LastSeenPod,
    /// When the first terminal state was observed.
    ended: Option<Instant>,
}

/// The last known states of pods, by namespace and name of the group.
#[derive(Debug, Default)]
pub struct LastSeenPods(Mutex<HashMap<(String, String), VecDeque<Recorded>>>);

impl LastSeenPods {
    /// Records the state of a pod, if it is terminal or being deleted.
    pub fn record(&self, namespace: &str, group: &str, pod: PodView) {
        if !pod.is_terminal() && pod.deletion.is_none() {
            return;
        }
        let mut groups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pods = groups
            .entry((namespace.to_owned(), group.to_owned()))
            .or_default();
        let ended = pod.is_terminal().then(Instant::now);
        match pods.iter_mut().find(|seen| seen.pod.last.uid == pod.uid) {
            Some(seen) => {
                // The first terminal state is the result. A later deletion does not change it.
                if !seen.pod.last.is_terminal() {
                    seen.pod.last = pod;
                    seen.ended = ended;
                }
            }
            None => pods.push_back(Recorded {
                pod: LastSeenPod {
                    deleted_while_running: !pod.is_terminal(),
                    last: pod,
                },
                ended,
            }),
        }
        if pods.len() > PER_GROUP {
            pods.pop_front();
        }
    }

    /// Returns the state of a group's pod with this UID, if one was recorded.
    pub fn get(&self, namespace: &str, group: &str, uid: &str) -> Option<LastSeenPod> {
        let groups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pods = groups.get(&(namespace.to_owned(), group.to_owned()))?;
        let seen = pods.iter().find(|seen| seen.pod.last.uid == uid);
        seen.map(|seen| seen.pod.clone())
    }

    /// Removes a pod whose result is in the status of its group. Returns when its end was observed.
    pub fn remove(&self, namespace: &str, group: &str, uid: &str) -> Option<Instant> {
        let mut groups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (namespace.to_owned(), group.to_owned());
        let pods = groups.get_mut(&key)?;
        let index = pods.iter().position(|seen| seen.pod.last.uid == uid);
        let removed = index.and_then(|index| pods.remove(index));
        if pods.is_empty() {
            groups.remove(&key);
        }
        removed?.ended
    }

    /// Removes the pods of a group that was deleted.
    pub fn remove_group(&self, namespace: &str, group: &str) {
        let mut groups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        groups.remove(&(namespace.to_owned(), group.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::Phase;

    fn pod(uid: &str, phase: Phase) -> PodView {
        PodView {
            uid: uid.into(),
            phase,
            ..PodView::default()
        }
    }

    #[test]
    fn deletion_before_the_end_is_recorded() {
        let last_seen_pods = LastSeenPods::default();
        let mut alive = pod("a", Phase::Running);
        alive.deletion = Some(crate::pod::Deletion {
            deadline: oaat_api::Timestamp(0),
            grace: std::time::Duration::ZERO,
        });
        last_seen_pods.record("n", "g", alive);
        last_seen_pods.record("n", "g", pod("a", Phase::Succeeded));
        last_seen_pods.record("n", "g", pod("a", Phase::Failed));
        let seen = last_seen_pods.get("n", "g", "a");
        let state = seen.map(|seen| (seen.deleted_while_running, seen.last.phase));
        assert_eq!(state, Some((true, Phase::Succeeded)));
    }

    #[test]
    fn only_a_few_terminal_pods_are_kept() {
        let last_seen_pods = LastSeenPods::default();
        last_seen_pods.record("n", "g", pod("running", Phase::Running));
        assert_eq!(last_seen_pods.get("n", "g", "running"), None);
        for uid in ["a", "b", "c", "d", "e"] {
            last_seen_pods.record("n", "g", pod(uid, Phase::Failed));
        }
        assert_eq!(last_seen_pods.get("n", "g", "a"), None);
        assert!(last_seen_pods.get("n", "g", "e").is_some());
        assert!(last_seen_pods.remove("n", "g", "e").is_some());
        assert_eq!(last_seen_pods.get("n", "g", "e"), None);
        last_seen_pods.remove_group("n", "g");
        assert_eq!(last_seen_pods.get("n", "g", "d"), None);
    }
}
