//! The queue of groups to reconcile: first in, first out, by the time at which a group became due.
//!
//! If more groups are due than the API server can serve, each of them still gets its turn: a group
//! that waits is passed at most once by any other group of its namespace. The queue of `kube` does
//! not guarantee this, because it takes due objects in the order of a hash map.

#[cfg(test)]
mod tests;
mod worker;

pub use worker::{Sources, run};

use crate::group_ref::GroupRef;
use crate::mutation::broken;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// The maximum number of concurrent reconciles. Each waits for the API server most of the time.
/// More would only queue there.
const CONCURRENCY: usize = 32;
/// The maximum number of concurrent reconciles of a namespace while at most this number are left
/// for others. Slow requests of one namespace then do not delay other namespaces.
const NAMESPACE_SHARE: usize = 8;
/// The maximum delay. It keeps times within the range of the clock.
const MAX_DELAY: Duration = Duration::from_secs(180 * 24 * 60 * 60);

/// Where a group is added to the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Before the groups that are not added first.
    First,
    /// After all groups that are due.
    Last,
}

/// When a group is queued again after a reconcile. A trigger queues it at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requeue {
    /// Only a trigger queues the group.
    OnTrigger,
    /// The group becomes due after this delay.
    After(Duration),
    /// The group becomes due after this delay and keeps its place, because the reconcile is not
    /// complete.
    Resume(Duration),
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Reconcile this group, and call [`WorkQueue::done`].
    Reconcile(GroupRef),
    /// Wait until a group is added, a reconcile is done, or this time has come.
    Wait(Option<Instant>),
}

/// The position in the queue: by place, by the time at which the group became due, and by arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Position {
    place: Place,
    due: Instant,
    number: u64,
}

enum GroupState {
    /// Waits in [`WorkQueue::delayed`], under this key.
    Delayed(Position),
    /// Waits in [`Namespace::due`], at this position.
    Due(Position),
    /// Is being reconciled.
    InProgress {
        /// The position at which the reconcile began.
        position: Position,
        /// Where the group is added after the reconcile, if it was added meanwhile.
        again: Option<Place>,
    },
}

/// A group whose delay has not passed.
struct Delayed {
    group: GroupRef,
    /// The position that the group gets after the delay.
    position: Position,
}

#[derive(Default)]
struct Namespace {
    due: BTreeMap<Position, GroupRef>,
    in_progress: usize,
}

/// The queue, without a clock. Contains a group at most once, and never returns a group whose
/// reconcile is in progress.
#[derive(Default)]
pub struct WorkQueue {
    /// All groups that wait or are being reconciled.
    groups: HashMap<GroupRef, GroupState>,
    /// The groups whose delay has not passed. The key has the end of the delay.
    delayed: BTreeMap<Position, Delayed>,
    /// The namespaces of groups that are due or being reconciled.
    namespaces: HashMap<String, Namespace>,
    in_progress: usize,
    last_number: u64,
}

fn namespace_of(group: &GroupRef) -> &str {
    group.namespace.as_deref().unwrap_or_default()
}

impl WorkQueue {
    /// Adds a group. If it is delayed, the delay ends. If it is due already, it keeps the better of
    /// the two places. If it is being reconciled, it is added after the reconcile.
    pub fn add(&mut self, group: GroupRef, place: Place, now: Instant) {
        let mut position = self.new_position(place, now);
        match self.groups.get_mut(&group) {
            None => {}
            Some(GroupState::InProgress { again, .. }) => {
                *again = Some(again.map_or(place, |again| again.min(place)));
                return;
            }
            Some(GroupState::Due(before)) if *before < position => return,
            Some(GroupState::Due(before)) => {
                if let Some(namespace) = self.namespaces.get_mut(namespace_of(&group)) {
                    namespace.due.remove(before);
                }
            }
            Some(GroupState::Delayed(until)) => {
                if let Some(delayed) = self.delayed.remove(until) {
                    position = position.min(delayed.position);
                }
            }
        }
        self.insert_due(group, position);
    }

    /// Returns the next group to reconcile, or how long to wait. Skips namespaces that have used
    /// their share.
    pub fn next(&mut self, now: Instant) -> Next {
        while let Some(delayed) = self.delayed.first_entry()
            && delayed.key().due <= now
        {
            let Delayed { group, position } = delayed.remove();
            self.insert_due(group, position);
        }
        match self.take_first_due() {
            Some(group) => Next::Reconcile(group),
            None => Next::Wait(self.delayed.first_key_value().map(|(until, _)| until.due)),
        }
    }

    /// Adds a group that becomes due after a delay. Does nothing if the group is queued or being
    /// reconciled.
    pub fn add_delayed(&mut self, group: GroupRef, delay: Duration, now: Instant) {
        if !self.groups.contains_key(&group) {
            let position = self.new_position(Place::Last, now + delay.min(MAX_DELAY));
            self.insert_delayed(group, position, position);
        }
    }

    /// Ends the reconcile of a group, and queues the group again if necessary.
    pub fn done(&mut self, group: GroupRef, requeue: Requeue, now: Instant) {
        let Some(&GroupState::InProgress { position, again }) = self.groups.get(&group) else {
            return;
        };
        self.groups.remove(&group);
        self.in_progress -= 1;
        if let Some(namespace) = self.namespaces.get_mut(namespace_of(&group)) {
            namespace.in_progress -= 1;
            if namespace.in_progress == 0 && namespace.due.is_empty() {
                self.namespaces.remove(namespace_of(&group));
            }
        }
        if let Requeue::After(delay) | Requeue::Resume(delay) = requeue {
            let until = self.new_position(Place::Last, now + delay.min(MAX_DELAY));
            let resumes = matches!(requeue, Requeue::Resume(_));
            let position = if resumes { position } else { until };
            self.insert_delayed(group.clone(), until, position);
        }
        if let Some(place) = again {
            self.add(group, place, now);
        }
    }

    /// Returns the number of groups that are due and wait for their reconcile.
    pub fn depth(&self) -> usize {
        self.groups.len() - self.delayed.len() - self.in_progress
    }

    /// Returns a position after all others with the same place and time.
    fn new_position(&mut self, place: Place, due: Instant) -> Position {
        self.last_number += 1;
        Position {
            place,
            due,
            number: self.last_number,
        }
    }

    fn insert_due(&mut self, group: GroupRef, position: Position) {
        let namespace = namespace_of(&group).to_owned();
        let namespace = self.namespaces.entry(namespace).or_default();
        namespace.due.insert(position, group.clone());
        self.groups.insert(group, GroupState::Due(position));
    }

    fn insert_delayed(&mut self, group: GroupRef, until: Position, position: Position) {
        let state = GroupState::Delayed(until);
        self.groups.insert(group.clone(), state);
        self.delayed.insert(until, Delayed { group, position });
    }

    /// Begins the reconcile of the first due group whose namespace has not used its share.
    fn take_first_due(&mut self) -> Option<GroupRef> {
        if self.in_progress >= CONCURRENCY {
            return None;
        }
        let few_left = self.in_progress >= CONCURRENCY - NAMESPACE_SHARE;
        let namespace = self
            .namespaces
            .values_mut()
            .filter(|namespace| !few_left || namespace.in_progress < NAMESPACE_SHARE)
            .filter(|namespace| !namespace.due.is_empty())
            .min_by_key(|namespace| namespace.due.first_key_value().map(|(first, _)| *first))?;
        let (position, group) = if broken!(NewestDueFirst) {
            namespace.due.pop_last()?
        } else {
            namespace.due.pop_first()?
        };
        namespace.in_progress += 1;
        self.in_progress += 1;
        let again = None;
        let state = GroupState::InProgress { position, again };
        self.groups.insert(group.clone(), state);
        Some(group)
    }
}
