//! The queue of groups to reconcile: first in, first out, by the time at which a group became due.
//!
//! If more groups are due than the API server can serve, each of them still gets its turn: a group
//! that waits is passed at most once by any other group of its namespace. The queue of `kube` does
//! not guarantee this, because it takes due objects in the order of a hash map.

use crate::group_ref::GroupRef;
use crate::mutation::broken;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use prometheus_client::metrics::gauge::Gauge;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;

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

/// The channels that add groups to the queue.
pub struct Sources {
    /// The groups that a trigger adds last.
    pub triggered: UnboundedReceiver<GroupRef>,
    /// The groups that continue an earlier turn. They are added first.
    pub resumed: UnboundedReceiver<GroupRef>,
    /// The groups that need no reconcile now, with the delay after which they do.
    pub delayed: UnboundedReceiver<(GroupRef, Duration)>,
}

/// Reconciles queued groups until `stop` turns true and the reconciles in progress have finished.
/// Groups are queued from the start, but no reconcile begins before `ready` completes. Adds the
/// number of waiting groups to `depth`, which several queues share.
pub async fn run<R: Future<Output = Requeue>>(
    mut sources: Sources,
    ready: impl Future<Output = ()>,
    mut stop: watch::Receiver<bool>,
    depth: Gauge,
    reconcile: impl Fn(GroupRef) -> R,
) {
    let mut queue = WorkQueue::default();
    let mut published_depth = 0;
    let mut in_progress = FuturesUnordered::new();
    let mut is_ready = false;
    let stops = stop.clone();
    tokio::pin!(ready);
    let stopped = async move {
        // If the sender is dropped, the process stops as well.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    tokio::pin!(stopped);
    loop {
        let mut wake_at = None;
        while is_ready && !*stops.borrow() {
            match queue.next(Instant::now()) {
                Next::Reconcile(group) => {
                    let reconcile = reconcile(group.clone());
                    in_progress.push(async move { (group, reconcile.await) });
                }
                Next::Wait(until) => {
                    wake_at = until;
                    break;
                }
            }
        }
        let waiting = i64::try_from(queue.depth()).unwrap_or(i64::MAX);
        depth.inc_by(waiting - std::mem::replace(&mut published_depth, waiting));
        let timer = async {
            match wake_at {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => futures::future::pending().await,
            }
        };
        tokio::select! {
            // Triggers are handled before the ends of reconciles. A group whose reconcile ends is
            // then queued behind them.
            biased;
            () = &mut stopped => break,
            Some(group) = sources.resumed.recv() => queue.add(group, Place::First, Instant::now()),
            Some(group) = sources.triggered.recv() => queue.add(group, Place::Last, Instant::now()),
            Some((group, delay)) = sources.delayed.recv() => {
                queue.add_delayed(group, delay, Instant::now());
            }
            Some((group, requeue)) = in_progress.next() => {
                queue.done(group, requeue, Instant::now());
            }
            () = &mut ready, if !is_ready => is_ready = true,
            () = timer => {}
        }
    }
    depth.dec_by(published_depth);
    while in_progress.next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::runtime::reflector::ObjectRef;
    use proptest::prelude::*;
    use std::cell::RefCell;
    use std::collections::BTreeSet;
    use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

    const SECOND: Duration = Duration::from_secs(1);

    fn group(namespace: &str, name: &str) -> GroupRef {
        ObjectRef::new(name).within(namespace)
    }

    /// A queue with a clock, for groups of the namespace `n` unless a name contains a slash.
    struct Fixture {
        queue: WorkQueue,
        now: Instant,
    }

    fn named(name: &str) -> GroupRef {
        let (namespace, name) = name.split_once('/').unwrap_or(("n", name));
        group(namespace, name)
    }

    impl Fixture {
        fn new() -> Self {
            Self {
                queue: WorkQueue::default(),
                now: Instant::now(),
            }
        }

        fn add(&mut self, names: &[&str]) {
            for name in names {
                self.queue.add(named(name), Place::Last, self.now);
            }
        }

        fn done(&mut self, name: &str, requeue: Requeue) {
            self.queue.done(named(name), requeue, self.now);
        }

        /// Begins all reconciles that may begin, and returns the names of their groups.
        fn started(&mut self) -> Vec<String> {
            std::iter::from_fn(|| match self.queue.next(self.now) {
                Next::Reconcile(group) => Some(group.name),
                Next::Wait(_) => None,
            })
            .collect()
        }

        /// Adds groups of a namespace and begins their reconciles.
        fn occupy(&mut self, namespace: &str, count: usize) {
            let names: Vec<_> = (0..count).map(|n| format!("{namespace}/{n}")).collect();
            self.add(&names.iter().map(String::as_str).collect::<Vec<_>>());
            assert_eq!(self.started().len(), count);
        }

        fn is_empty(&self) -> bool {
            let queue = &self.queue;
            queue.groups.is_empty()
                && queue.delayed.is_empty()
                && queue.namespaces.is_empty()
                && queue.in_progress == 0
        }
    }

    #[test]
    fn groups_are_reconciled_in_the_order_of_arrival() {
        let mut fixture = Fixture::new();
        fixture.add(&["c", "a", "b", "m/d"]);
        assert_eq!(fixture.started(), ["c", "a", "b", "d"]);
        assert!(fixture.started().is_empty());
    }

    #[test]
    fn group_is_queued_at_most_once() {
        let mut fixture = Fixture::new();
        fixture.add(&["a", "b", "a"]);
        assert_eq!(fixture.started(), ["a", "b"]);
        fixture.done("a", Requeue::OnTrigger);
        assert!(fixture.started().is_empty());
    }

    #[test]
    fn earliest_due_time_wins() {
        let mut fixture = Fixture::new();
        fixture.add(&["a"]);
        fixture.now += SECOND;
        fixture.add(&["b"]);
        fixture.now += SECOND;
        fixture.add(&["a"]);
        assert_eq!(fixture.started(), ["a", "b"]);
    }

    #[test]
    fn group_is_not_reconciled_twice_at_the_same_time() {
        let mut fixture = Fixture::new();
        fixture.add(&["a"]);
        assert_eq!(fixture.started(), ["a"]);
        fixture.add(&["a", "a"]);
        assert!(fixture.started().is_empty());
        fixture.done("a", Requeue::OnTrigger);
        assert_eq!(fixture.started(), ["a"]);
    }

    #[test]
    fn group_added_during_its_reconcile_is_queued_last() {
        let mut fixture = Fixture::new();
        fixture.add(&["a"]);
        assert_eq!(fixture.started(), ["a"]);
        fixture.add(&["a"]);
        fixture.now += SECOND;
        fixture.add(&["b"]);
        // The trigger overrides the delay.
        fixture.done("a", Requeue::After(SECOND * 60));
        assert_eq!(fixture.started(), ["b", "a"]);
    }

    #[test]
    fn delayed_group_becomes_due_after_its_delay() {
        let mut fixture = Fixture::new();
        fixture.add(&["a"]);
        assert_eq!(fixture.started(), ["a"]);
        let due = fixture.now + SECOND;
        fixture.done("a", Requeue::After(SECOND));
        assert_eq!(fixture.queue.next(fixture.now), Next::Wait(Some(due)));
        fixture.now = due;
        assert_eq!(fixture.started(), ["a"]);
        assert_eq!(fixture.queue.next(fixture.now), Next::Wait(None));
    }

    #[test]
    fn delay_is_added_only_for_a_group_that_is_not_queued() {
        let mut fixture = Fixture::new();
        let add = |fixture: &mut Fixture, name: &str, delay| {
            fixture.queue.add_delayed(named(name), delay, fixture.now);
        };
        add(&mut fixture, "delayed", SECOND);
        add(&mut fixture, "delayed", SECOND * 2);
        fixture.add(&["due"]);
        add(&mut fixture, "due", SECOND * 2);
        assert_eq!(fixture.started(), ["due"]);
        add(&mut fixture, "due", SECOND);
        fixture.done("due", Requeue::OnTrigger);
        fixture.now += SECOND;
        assert_eq!(fixture.started(), ["delayed"]);
    }

    #[test]
    fn order_is_by_due_time_even_if_the_queue_is_asked_late() {
        let mut fixture = Fixture::new();
        fixture.add(&["delayed"]);
        assert_eq!(fixture.started(), ["delayed"]);
        fixture.done("delayed", Requeue::After(SECOND));
        fixture.add(&["before"]);
        fixture.now += SECOND * 2;
        fixture.add(&["after"]);
        assert_eq!(fixture.started(), ["before", "delayed", "after"]);
    }

    #[test]
    fn trigger_ends_a_delay() {
        let mut fixture = Fixture::new();
        fixture.add(&["a"]);
        assert_eq!(fixture.started(), ["a"]);
        fixture.done("a", Requeue::After(SECOND * 60));
        fixture.now += SECOND;
        fixture.add(&["a"]);
        assert_eq!(fixture.started(), ["a"]);
        // The result of this reconcile replaces the delay of the one before.
        fixture.done("a", Requeue::After(SECOND * 3600));
        fixture.now += SECOND * 120;
        assert!(fixture.started().is_empty());
        fixture.now += SECOND * 3600;
        assert_eq!(fixture.started(), ["a"]);
        fixture.done("a", Requeue::OnTrigger);
        assert!(fixture.is_empty());
    }

    #[test]
    fn resumed_reconcile_keeps_its_place() {
        let mut fixture = Fixture::new();
        fixture.add(&["failed", "other"]);
        assert_eq!(fixture.started(), ["failed", "other"]);
        fixture.now += SECOND;
        fixture.add(&["waiting"]);
        fixture.done("failed", Requeue::Resume(SECOND));
        fixture.done("other", Requeue::After(SECOND));
        fixture.now += SECOND;
        assert_eq!(fixture.started(), ["failed", "waiting", "other"]);
    }

    #[test]
    fn trigger_ends_the_delay_of_a_resumed_reconcile_which_keeps_its_place() {
        let mut fixture = Fixture::new();
        fixture.add(&["failed"]);
        assert_eq!(fixture.started(), ["failed"]);
        fixture.now += SECOND;
        fixture.add(&["waiting"]);
        fixture.done("failed", Requeue::Resume(SECOND * 60));
        fixture.add(&["failed"]);
        assert_eq!(fixture.started(), ["failed", "waiting"]);
    }

    #[test]
    fn trigger_during_an_incomplete_reconcile_does_not_cost_the_place() {
        let mut fixture = Fixture::new();
        fixture.add(&["failed"]);
        assert_eq!(fixture.started(), ["failed"]);
        fixture.now += SECOND;
        fixture.add(&["waiting", "failed"]);
        fixture.done("failed", Requeue::Resume(SECOND * 60));
        assert_eq!(fixture.started(), ["failed", "waiting"]);
    }

    #[test]
    fn group_with_the_first_place_passes_others() {
        let mut fixture = Fixture::new();
        fixture.add(&["a", "b", "in-progress"]);
        fixture.queue.add(named("b"), Place::First, fixture.now);
        fixture.queue.add(named("c"), Place::First, fixture.now);
        // A later trigger does not move it back.
        fixture.add(&["c"]);
        assert_eq!(fixture.started(), ["b", "c", "a", "in-progress"]);
        fixture.add(&["d", "in-progress"]);
        let again = named("in-progress");
        fixture.queue.add(again.clone(), Place::First, fixture.now);
        fixture.queue.add(again, Place::Last, fixture.now);
        fixture.done("in-progress", Requeue::OnTrigger);
        assert_eq!(fixture.started(), ["in-progress", "d"]);
    }

    #[test]
    fn longest_delay_does_not_overflow() {
        let mut fixture = Fixture::new();
        fixture.add(&["a", "b"]);
        assert_eq!(fixture.started(), ["a", "b"]);
        fixture.done("a", Requeue::After(Duration::MAX));
        fixture.done("b", Requeue::Resume(Duration::MAX));
        fixture.now += MAX_DELAY;
        assert_eq!(fixture.started(), ["b", "a"]);
    }

    #[test]
    fn concurrency_is_limited() {
        let mut fixture = Fixture::new();
        for namespace in ["a", "b", "c", "d"] {
            fixture.occupy(namespace, CONCURRENCY / 4);
        }
        fixture.add(&["e/waiting"]);
        assert!(fixture.started().is_empty());
        fixture.done("c/0", Requeue::OnTrigger);
        assert_eq!(fixture.started(), ["waiting"]);
    }

    #[test]
    fn namespace_leaves_its_share_to_others() {
        let mut fixture = Fixture::new();
        fixture.occupy("busy", CONCURRENCY - NAMESPACE_SHARE);
        fixture.add(&["busy/waiting", "other/a"]);
        assert_eq!(fixture.started(), ["a"]);
        fixture.done("other/a", Requeue::OnTrigger);
        assert!(fixture.started().is_empty());
        fixture.done("busy/0", Requeue::OnTrigger);
        assert_eq!(fixture.started(), ["waiting"]);
    }

    #[test]
    fn throttled_group_keeps_its_place() {
        let mut fixture = Fixture::new();
        fixture.occupy("busy", CONCURRENCY - NAMESPACE_SHARE);
        fixture.add(&["busy/first", "busy/second"]);
        assert!(fixture.started().is_empty());
        fixture.now += SECOND;
        fixture.add(&["busy/third", "busy/first"]);
        for (number, next) in ["first", "second", "third"].into_iter().enumerate() {
            fixture.done(&format!("busy/{number}"), Requeue::OnTrigger);
            assert_eq!(fixture.started(), [next]);
        }
    }

    #[test]
    fn finished_groups_are_forgotten() {
        let mut fixture = Fixture::new();
        fixture.occupy("a", 3);
        fixture.occupy("b", 1);
        for name in ["a/0", "a/1", "a/2", "b/0"] {
            fixture.done(name, Requeue::OnTrigger);
        }
        assert!(fixture.is_empty());
    }

    proptest! {
        /// All groups are always busy, and reconciles end in the order in which they began.
        #[test]
        fn no_group_is_more_than_one_turn_behind_another(
            groups in 1..150_usize,
            triggered_during_reconcile in proptest::collection::vec(any::<bool>(), 1..1000),
        ) {
            let mut fixture = Fixture::new();
            let names: Vec<_> = (0..groups).map(|number| number.to_string()).collect();
            fixture.add(&names.iter().map(String::as_str).collect::<Vec<_>>());
            let mut turns: BTreeMap<String, usize> =
                names.into_iter().map(|name| (name, 0)).collect();
            let mut running = std::collections::VecDeque::new();
            for during in triggered_during_reconcile {
                for name in fixture.started() {
                    *turns.get_mut(&name).unwrap() += 1;
                    running.push_back(name);
                }
                let behind = turns.values().max().unwrap() - turns.values().min().unwrap();
                prop_assert!(behind <= 1, "{turns:?}");
                fixture.now += Duration::from_millis(10);
                let name = running.pop_front().unwrap();
                if during {
                    fixture.add(&[&name]);
                }
                fixture.done(&name, Requeue::OnTrigger);
                fixture.add(&[&name]);
            }
        }

        /// Reconciles end in any order. Some fail and are retried soon.
        #[test]
        fn waiting_group_is_passed_at_most_once_by_each_other_group(
            groups in 2..60_usize,
            ends in proptest::collection::vec((any::<prop::sample::Index>(), 0..4_u8), 1..300),
        ) {
            let mut fixture = Fixture::new();
            let names: Vec<_> = (0..groups).map(|number| number.to_string()).collect();
            fixture.add(&names.iter().map(String::as_str).collect::<Vec<_>>());
            // For each waiting group, those that have passed it.
            let mut passed: HashMap<String, BTreeSet<String>> =
                names.into_iter().map(|name| (name, BTreeSet::new())).collect();
            let mut running: Vec<String> = Vec::new();
            let mut retried = BTreeSet::new();
            for (end, kind) in ends {
                for name in fixture.started() {
                    prop_assert!(!running.contains(&name));
                    passed.remove(&name);
                    // A retry continues the same turn.
                    if !retried.remove(&name) {
                        for by in passed.values_mut() {
                            prop_assert!(by.insert(name.clone()), "{name} passed twice");
                        }
                    }
                    running.push(name);
                }
                if running.is_empty() {
                    fixture.now += Duration::from_millis(100);
                    continue;
                }
                let name = running.swap_remove(end.index(running.len()));
                if kind == 0 {
                    fixture.done(&name, Requeue::Resume(Duration::from_millis(100)));
                    retried.insert(name);
                } else {
                    fixture.now += Duration::from_millis(10);
                    fixture.done(&name, Requeue::After(Duration::from_secs(5)));
                    fixture.add(&[&name]);
                    passed.insert(name, BTreeSet::new());
                }
            }
        }
    }

    fn channels() -> ([UnboundedSender<GroupRef>; 2], Sources) {
        let (trigger, triggered) = unbounded_channel();
        let (resume, resumed) = unbounded_channel();
        let (_delay, delayed) = unbounded_channel();
        let sources = Sources {
            triggered,
            resumed,
            delayed,
        };
        ([trigger, resume], sources)
    }

    #[tokio::test]
    async fn reconciles_begin_when_ready_and_finish_after_stop() {
        let ([trigger, _resume], sources) = channels();
        let (stop, stopping) = watch::channel(false);
        let (ready, is_ready) = tokio::sync::oneshot::channel::<()>();
        let (finish, may_finish) = watch::channel(false);
        let (begun, mut has_begun) = unbounded_channel();
        let (ended, mut has_ended) = unbounded_channel();
        let queue = tokio::spawn(run(
            sources,
            async move {
                let _ = is_ready.await;
            },
            stopping,
            Gauge::default(),
            move |group| {
                let (begun, ended) = (begun.clone(), ended.clone());
                let mut may_finish = may_finish.clone();
                async move {
                    let _ = begun.send(group.name.clone());
                    let _ = may_finish.wait_for(|finish| *finish).await;
                    let _ = ended.send(group.name);
                    Requeue::After(Duration::ZERO)
                }
            },
        ));
        trigger.send(named("a")).unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(has_begun.try_recv().is_err());
        ready.send(()).unwrap();
        assert_eq!(has_begun.recv().await.as_deref(), Some("a"));
        stop.send(true).unwrap();
        trigger.send(named("b")).unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!queue.is_finished());
        finish.send(true).unwrap();
        queue.await.unwrap();
        assert_eq!(has_ended.recv().await.as_deref(), Some("a"));
        assert!(has_begun.try_recv().is_err());
    }

    #[tokio::test]
    async fn stop_before_ready_returns_at_once() {
        let ([trigger, _resume], sources) = channels();
        let (stop, stopping) = watch::channel(false);
        trigger.send(named("a")).unwrap();
        stop.send(true).unwrap();
        let reconcile = |_| async { unreachable!("nothing may start") };
        let never = futures::future::pending();
        run(sources, never, stopping, Gauge::default(), reconcile).await;
    }

    #[tokio::test]
    async fn groups_are_reconciled_after_their_delay_and_when_triggered() {
        let ([trigger, resume], sources) = channels();
        let (stop, stopping) = watch::channel(false);
        let begun = RefCell::new(Vec::new());
        let depth = Gauge::default();
        let run = run(sources, async {}, stopping, depth, |group| {
            begun.borrow_mut().push(group.name.clone());
            let count = begun.borrow().len();
            let (stop, trigger) = (&stop, &trigger);
            async move {
                match count {
                    1 => return Requeue::After(Duration::from_millis(20)),
                    2 => trigger.send(named("triggered")).unwrap(),
                    _ => stop.send(true).unwrap(),
                }
                Requeue::OnTrigger
            }
        });
        resume.send(named("delayed")).unwrap();
        run.await;
        assert_eq!(*begun.borrow(), ["delayed", "delayed", "triggered"]);
    }

    #[tokio::test]
    async fn reconciles_run_concurrently_up_to_the_limit() {
        let ([trigger, _resume], sources) = channels();
        let (stop, stopping) = watch::channel(false);
        let count = CONCURRENCY * 2;
        for number in 0..count {
            trigger.send(group(&number.to_string(), "g")).unwrap();
        }
        let (running, most, finished) = (RefCell::new(0), RefCell::new(0), RefCell::new(0));
        let depth = Gauge::default();
        let deepest = RefCell::new(0);
        run(sources, async {}, stopping, depth.clone(), |_| async {
            deepest.replace_with(|deepest| (*deepest).max(depth.get()));
            *running.borrow_mut() += 1;
            most.replace_with(|most| (*most).max(*running.borrow()));
            tokio::time::sleep(Duration::from_millis(20)).await;
            *running.borrow_mut() -= 1;
            *finished.borrow_mut() += 1;
            if *finished.borrow() == count {
                stop.send(true).unwrap();
            }
            Requeue::OnTrigger
        })
        .await;
        assert_eq!((*most.borrow(), *finished.borrow()), (CONCURRENCY, count));
        let (deepest, after) = (*deepest.borrow(), depth.get());
        assert_eq!((deepest, after), ((count - CONCURRENCY) as i64, 0));
    }
}
