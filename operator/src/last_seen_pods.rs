//! The last that was seen of pods that ended and may be gone when their group's cycle
//! looks: a pod may be deleted in the moment in which it ends, and its last state is
//! then only in the watch event.

use crate::pod::PodView;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Pods remembered of one group. One runs at a time, so few are needed.
const PER_GROUP: usize = 4;

/// What was seen of a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct LastSeenPod {
    /// Its last state, or the first in which it was terminal.
    pub last: PodView,
    /// It was asked to go while it was not terminal: seen with our own eyes, and so surer
    /// than a comparison of two machines' clocks.
    pub deleted_while_running: bool,
}

/// Pods as last seen, by group.
#[derive(Debug, Default)]
pub struct LastSeenPods(Mutex<HashMap<(String, String), VecDeque<LastSeenPod>>>);

impl LastSeenPods {
    /// Remembers a pod, if it is terminal or was asked to go while it was not.
    pub fn record(&self, namespace: &str, group: &str, pod: PodView) {
        if !pod.terminal() && pod.deletion.is_none() {
            return;
        }
        let mut groups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pods = groups
            .entry((namespace.to_owned(), group.to_owned()))
            .or_default();
        match pods.iter_mut().find(|seen| seen.last.uid == pod.uid) {
            Some(seen) => {
                // The first terminal sight is the result; a deletion that came later is not.
                if !seen.last.terminal() {
                    seen.last = pod;
                }
            }
            None => pods.push_back(LastSeenPod {
                deleted_while_running: !pod.terminal(),
                last: pod,
            }),
        }
        if pods.len() > PER_GROUP {
            pods.pop_front();
        }
    }

    /// The pod of a group with this uid, if it was seen at its end.
    pub fn last(&self, namespace: &str, group: &str, uid: &str) -> Option<LastSeenPod> {
        let groups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pods = groups.get(&(namespace.to_owned(), group.to_owned()))?;
        pods.iter().find(|pod| pod.last.uid == uid).cloned()
    }

    /// Forgets a pod: its result is recorded.
    pub fn recorded(&self, namespace: &str, group: &str, uid: &str) {
        let mut groups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (namespace.to_owned(), group.to_owned());
        if let Some(pods) = groups.get_mut(&key) {
            pods.retain(|pod| pod.last.uid != uid);
            if pods.is_empty() {
                groups.remove(&key);
            }
        }
    }

    /// Forgets a group's pods: it is gone.
    pub fn forget(&self, namespace: &str, group: &str) {
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
    fn a_deletion_that_came_before_the_end_is_remembered() {
        let last_seen_pods = LastSeenPods::default();
        let mut alive = pod("a", Phase::Running);
        alive.deletion = Some(crate::pod::Deletion {
            deadline: oaat_api::Timestamp(0),
            grace: std::time::Duration::ZERO,
        });
        last_seen_pods.record("n", "g", alive);
        last_seen_pods.record("n", "g", pod("a", Phase::Succeeded));
        last_seen_pods.record("n", "g", pod("a", Phase::Failed));
        let seen = last_seen_pods.last("n", "g", "a");
        let told = seen.map(|seen| (seen.deleted_while_running, seen.last.phase));
        assert_eq!(told, Some((true, Phase::Succeeded)));
    }

    #[test]
    fn only_terminal_pods_are_remembered_and_only_a_few() {
        let last_seen_pods = LastSeenPods::default();
        last_seen_pods.record("n", "g", pod("running", Phase::Running));
        assert_eq!(last_seen_pods.last("n", "g", "running"), None);
        for uid in ["a", "b", "c", "d", "e"] {
            last_seen_pods.record("n", "g", pod(uid, Phase::Failed));
        }
        assert_eq!(last_seen_pods.last("n", "g", "a"), None);
        assert!(last_seen_pods.last("n", "g", "e").is_some());
        last_seen_pods.recorded("n", "g", "e");
        assert_eq!(last_seen_pods.last("n", "g", "e"), None);
        last_seen_pods.forget("n", "g");
        assert_eq!(last_seen_pods.last("n", "g", "d"), None);
    }
}
