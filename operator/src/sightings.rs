//! The last that was seen of pods that ended and may be gone when their group's cycle
//! looks: a pod may be deleted in the moment in which it ends, and its last state is
//! then only in the watch event.

use crate::pod::PodView;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Pods remembered of one group. One runs at a time, so few are needed.
const PER_GROUP: usize = 4;

/// Terminal pods as last seen, by group.
#[derive(Debug, Default)]
pub struct Sightings(Mutex<HashMap<(String, String), VecDeque<PodView>>>);

impl Sightings {
    /// Remembers a pod, if it is terminal.
    pub fn saw(&self, namespace: &str, group: &str, pod: PodView) {
        if !pod.terminal() {
            return;
        }
        let mut groups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pods = groups
            .entry((namespace.to_owned(), group.to_owned()))
            .or_default();
        // The first terminal sight is the result; a deletion that came later is not.
        if pods.iter().any(|seen| seen.uid == pod.uid) {
            return;
        }
        pods.push_back(pod);
        if pods.len() > PER_GROUP {
            pods.pop_front();
        }
    }

    /// The pod with this uid, if it was seen at its end.
    pub fn last(&self, uid: &str) -> Option<PodView> {
        let groups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        groups
            .values()
            .flatten()
            .find(|pod| pod.uid == uid)
            .cloned()
    }

    /// Forgets a group's pods: their results are recorded, or the group is gone.
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
    fn only_terminal_pods_are_remembered_and_only_a_few() {
        let sightings = Sightings::default();
        sightings.saw("n", "g", pod("running", Phase::Running));
        assert_eq!(sightings.last("running"), None);
        for uid in ["a", "b", "c", "d", "e"] {
            sightings.saw("n", "g", pod(uid, Phase::Failed));
        }
        assert_eq!(sightings.last("a"), None);
        assert!(sightings.last("e").is_some());
        sightings.forget("n", "g");
        assert_eq!(sightings.last("e"), None);
    }
}
