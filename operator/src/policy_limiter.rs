//! Limits the evaluations of policies other than the built-in one.
//!
//! Two run at a time, so together they use at most twice the memory limit of a sandbox. One of the
//! two permits is reserved for namespaces whose policies were fast, and for fast evaluations: a slow
//! one is interrupted and repeated with the other permit. A group that must wait is reconciled again
//! when its turn comes; only the call to its policy waits.

use crate::fair_limiter::{FairLimiter, HEAVY, Permit};
use crate::group_ref::GroupRef;
use rustix::time::{ClockId, clock_gettime};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

/// The number of concurrent evaluations.
const PERMITS: usize = 2;
/// Only the CPU time of an evaluation beyond this is charged to the namespace. The documented
/// algorithm takes a millisecond for 2,000 items.
const ORDINARY: Duration = Duration::from_millis(5);
/// The deadline of an evaluation with the reserved permit. An evaluation that takes longer is
/// interrupted, and the namespace is heavy from then on.
const FAST: Duration = HEAVY.saturating_add(ORDINARY);
/// The nice value of the lowest CPU priority.
const LOWEST_PRIORITY: i32 = 19;
/// The time within which a group must use its turn.
const TURN: Duration = Duration::from_secs(5);

/// The limiter. Cheap to clone.
#[derive(Clone)]
pub struct PolicyLimiter {
    limiter: FairLimiter,
    waiting: Arc<Mutex<HashMap<GroupRef, Turn>>>,
    queue: UnboundedSender<GroupRef>,
    turn: Duration,
}

/// The turn of a group that waits, or that has been queued because its turn has come.
struct Turn {
    number: u64,
    permit: Option<Permit>,
}

/// Creates the permits that all limiters of a process share.
pub fn permits() -> FairLimiter {
    FairLimiter::new(PERMITS)
}

impl PolicyLimiter {
    /// Creates a limiter that sends groups to `queue` when their turn comes.
    pub fn new(permits: FairLimiter, queue: UnboundedSender<GroupRef>) -> Self {
        Self {
            limiter: permits,
            waiting: Arc::default(),
            queue,
            turn: TURN,
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<GroupRef, Turn>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a permit to evaluate the policy of a group. If none is free, the group is reconciled
    /// again when its turn comes.
    pub fn acquire(&self, group: &GroupRef) -> Option<Permit> {
        let namespace = group.namespace.as_deref().unwrap_or_default();
        let mut waiting = self.waiting();
        match waiting.remove(group) {
            Some(Turn {
                permit: None,
                number,
            }) => {
                let permit = None;
                waiting.insert(group.clone(), Turn { number, permit });
                None
            }
            Some(turn) => turn.permit,
            None => {
                let permit = self.limiter.try_acquire(namespace);
                if permit.is_none() {
                    let number = rand::random();
                    let turn = Turn {
                        number,
                        permit: None,
                    };
                    waiting.insert(group.clone(), turn);
                    tokio::spawn(self.clone().wait(group.clone(), number));
                }
                permit
            }
        }
    }

    async fn wait(self, group: GroupRef, number: u64) {
        let namespace = group.namespace.as_deref().unwrap_or_default();
        let permit = self.limiter.acquire(namespace).await;
        if let Some(turn) = self.waiting().get_mut(&group) {
            turn.permit = Some(permit);
        }
        // The receiver is dropped only when the process ends.
        let _ = self.queue.send(group.clone());
        tokio::time::sleep(self.turn).await;
        let mut waiting = self.waiting();
        let unused = waiting
            .get(&group)
            .is_some_and(|turn| turn.number == number);
        let unused = unused.then(|| waiting.remove(&group)).flatten();
        // The permit takes the limiter's lock, so this lock is released first.
        drop(waiting);
        if let Some(permit) = unused.and_then(|turn| turn.permit).as_mut() {
            // An unused turn keeps others waiting as well.
            permit.charge(self.turn);
        }
    }
}

/// Runs an evaluation of a policy, which blocks, and releases the permit. The built-in policy needs no
/// permit.
///
/// `evaluation` is called with its deadline, or with `None` if the deadline of the policy host is
/// enough. It returns `None` if it was interrupted at the deadline that was given; then this function
/// returns `Ok(None)`, and the next permit of the namespace allows more time. With `only_fast`, no
/// permit does.
///
/// # Errors
/// Returns an error if the evaluation panicked.
pub async fn evaluate<T: Send + 'static>(
    permit: Option<Permit>,
    only_fast: bool,
    evaluation: impl FnOnce(Option<Duration>) -> Option<T> + Send + 'static,
) -> Result<Option<T>, String> {
    let Some(mut permit) = permit else {
        return on_shared_thread(move || evaluation(None)).await;
    };
    let heavy = permit.is_heavy();
    let deadline = (only_fast || !heavy).then_some(FAST);
    let timed = move || {
        let started = thread_time();
        let evaluated = evaluation(deadline);
        (evaluated, thread_time().saturating_sub(started))
    };
    let (evaluated, used) = if heavy {
        on_low_priority_thread(timed).await?
    } else {
        on_shared_thread(timed).await?
    };
    // An evaluation that was interrupted must not take the reserved permit again at once.
    let interrupted = evaluated.is_none() && !heavy;
    permit.charge(if interrupted {
        used.max(FAST)
    } else {
        used.saturating_sub(ORDINARY)
    });
    // A pause of the same length: heavy namespaces use at most half of one core.
    permit.release_after(used);
    Ok(evaluated)
}

/// Returns the CPU time of this thread. On a busy machine, the elapsed time would count against
/// namespaces whose policies only waited.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.try_into().unwrap_or_default()
}

async fn on_shared_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| error.to_string())
}

async fn on_low_priority_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let (sender, done) = oneshot::channel();
    // The priority of a thread cannot be raised again, so this thread is not reused.
    let thread = std::thread::Builder::new().name("heavy-policy".into());
    let spawned = thread.spawn(move || {
        // If this fails, the thread keeps the normal priority.
        let _ = rustix::process::nice(LOWEST_PRIORITY);
        let _ = sender.send(work());
    });
    spawned.map_err(|error| format!("failed to start a thread: {error}"))?;
    let panicked = |_| "the thread of the evaluation panicked".to_owned();
    done.await.map_err(panicked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::runtime::reflector::ObjectRef;
    use tokio::sync::mpsc::unbounded_channel;

    fn group(namespace: &str, name: &str) -> GroupRef {
        ObjectRef::new(name).within(namespace)
    }

    /// Waits for the turn of a group.
    async fn turn(limiter: &PolicyLimiter, group: &GroupRef) -> Permit {
        loop {
            match limiter.acquire(group) {
                Some(permit) => return permit,
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    #[tokio::test]
    async fn waiting_group_is_queued_when_its_turn_comes() {
        let (sender, mut queue) = unbounded_channel();
        let limiter = PolicyLimiter::new(permits(), sender);
        let held = ["a", "b"].map(|name| limiter.acquire(&group("n", name)));
        assert!(held.iter().all(Option::is_some));
        let waiting = group("n", "waiting");
        for _ in 0..3 {
            assert!(limiter.acquire(&waiting).is_none());
        }
        drop(held);
        assert_eq!(queue.recv().await.as_ref(), Some(&waiting));
        assert!(limiter.acquire(&waiting).is_some());
        assert!(queue.try_recv().is_err());
    }

    #[tokio::test]
    async fn unused_turn_passes_to_the_next_group() {
        let (sender, mut queue) = unbounded_channel();
        let mut limiter = PolicyLimiter::new(permits(), sender);
        limiter.turn = Duration::from_millis(20);
        let held = ["a", "b"].map(|name| limiter.acquire(&group("n", name)));
        let deleted = ["gone-1", "gone-2"].map(|name| group("n", name));
        let last = group("n", "last");
        assert!(deleted.iter().all(|group| limiter.acquire(group).is_none()));
        assert!(limiter.acquire(&last).is_none());
        drop(held);
        let queued = [queue.recv().await, queue.recv().await, queue.recv().await];
        assert_eq!(queued.last(), Some(&Some(last.clone())));
        assert!(limiter.acquire(&last).is_some());
    }

    #[tokio::test]
    async fn long_evaluation_is_followed_by_a_pause() {
        let limiter = PolicyLimiter::new(permits(), unbounded_channel().0);
        let (one, other) = (group("n", "one"), group("n", "other"));
        let permit = limiter.acquire(&one);
        let slow = |deadline| {
            assert_eq!(deadline, Some(FAST));
            let started = thread_time();
            while thread_time().saturating_sub(started) < Duration::from_millis(200) {}
            None::<()>
        };
        assert_eq!(evaluate(permit, false, slow).await, Ok(None));
        // The namespace is heavy now, and the pause is not over.
        assert!(limiter.acquire(&other).is_none());
        assert!(limiter.acquire(&group("another", "one")).is_some());
        turn(&limiter, &other).await;
    }

    #[tokio::test]
    async fn interrupted_evaluation_is_repeated_without_the_reserved_permit() {
        let limiter = PolicyLimiter::new(permits(), unbounded_channel().0);
        let (slow, other) = (group("n", "slow"), group("another", "one"));
        // It was interrupted although it got little CPU time.
        let interrupted = |deadline: Option<Duration>| deadline.is_none().then_some("decided");
        let evaluated = evaluate(limiter.acquire(&slow), false, interrupted).await;
        assert_eq!(evaluated, Ok(None));
        let permit = turn(&limiter, &slow).await;
        assert!(permit.is_heavy() && limiter.acquire(&group("n", "second")).is_none());
        assert!(limiter.acquire(&other).is_some());
        let evaluated = evaluate(Some(permit), false, interrupted).await;
        assert_eq!(evaluated, Ok(Some("decided")));
        let permit = turn(&limiter, &slow).await;
        let evaluated = evaluate(Some(permit), true, interrupted).await;
        assert_eq!(evaluated, Ok(None));
    }

    #[tokio::test]
    async fn evaluation_of_a_heavy_namespace_runs_at_the_lowest_priority() {
        let nice = |_| rustix::process::nice(0).ok();
        let limiter = PolicyLimiter::new(permits(), unbounded_channel().0);
        let group = group("n", "one");
        let mut permit = limiter.acquire(&group).unwrap();
        permit.charge(Duration::from_secs(1));
        drop(permit);
        let (heavy, light) = (limiter.acquire(&group), None);
        let lowest = evaluate(heavy, false, nice).await;
        assert_eq!(lowest, Ok(Some(LOWEST_PRIORITY)));
        assert_ne!(evaluate(light, false, nice).await, lowest);
        let panicking = |_| -> Option<()> { panic!("on purpose") };
        let permit = turn(&limiter, &group).await;
        assert!(evaluate(Some(permit), false, panicking).await.is_err());
    }
}
