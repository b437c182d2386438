use super::*;
use kube::runtime::reflector::ObjectRef;
use proptest::prelude::*;
use std::collections::BTreeSet;

const SECOND: Duration = Duration::from_secs(1);

/// A queue with a clock, for groups of the namespace `n` unless a name contains a slash.
struct Fixture {
    queue: WorkQueue,
    now: Instant,
}

fn named(name: &str) -> GroupRef {
    let (namespace, name) = name.split_once('/').unwrap_or(("n", name));
    ObjectRef::new(name).within(namespace)
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
