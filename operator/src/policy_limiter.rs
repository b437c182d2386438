//! Limits the evaluations of policies other than the built-in one.
//!
//! Two run at a time, so together they use at most twice the memory limit of a sandbox. One of the
//! two permits is reserved for namespaces that are not heavy. If an evaluation with that permit
//! exceeds `SHORT_DEADLINE`, it is interrupted and repeated with the other permit. A group that
//! must wait is reconciled again when its turn comes; only the call to its policy waits.

use crate::fair_limiter::{FairLimiter, Permit};
use crate::group_ref::GroupRef;
use rustix::time::{ClockId, clock_gettime};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

/// The number of concurrent evaluations.
const PERMITS: usize = 2;
/// The CPU time of an evaluation that is not charged to the namespace. The documented algorithm takes
/// about a millisecond for 2,000 items.
const UNCHARGED: Duration = Duration::from_millis(5);
/// The deadline of an evaluation with the reserved permit, and of any evaluation before the end of a
/// run is recorded.
const SHORT_DEADLINE: Duration = Duration::from_millis(25);
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
                    self.enqueue(&mut waiting, group, false);
                }
                permit
            }
        }
    }

    /// Evaluates the policy of a group on a thread for blocking work, and releases the permit.
    ///
    /// `evaluation` receives a deadline, or `None` to use the deadline of the policy host. If it is
    /// interrupted at that deadline, it returns `None`. This function then returns `Ok(None)`, and the
    /// group is reconciled again when it has a permit without the short deadline. If `short_deadline`
    /// is set, the deadline is short with any permit.
    ///
    /// # Errors
    /// Returns an error if the evaluation panicked.
    pub async fn evaluate<T: Send + 'static>(
        &self,
        group: &GroupRef,
        mut permit: Permit,
        short_deadline: bool,
        evaluation: impl FnOnce(Option<Duration>) -> Option<T> + Send + 'static,
    ) -> Result<Option<T>, String> {
        let deadline = (short_deadline || !permit.is_heavy()).then_some(SHORT_DEADLINE);
        let timed = move || {
            let started = thread_cpu_time();
            let evaluated = evaluation(deadline);
            (evaluated, thread_cpu_time().saturating_sub(started))
        };
        let (evaluated, used) = if permit.is_of_heavy_namespace() {
            on_low_priority_thread(timed).await?
        } else {
            on_blocking_thread(timed).await?
        };
        permit.charge(used.saturating_sub(UNCHARGED));
        // Pause for the same time, so that heavy namespaces use at most half of a core.
        permit.release_after(used);
        if evaluated.is_none() {
            self.enqueue(&mut self.waiting(), group, true);
        }
        Ok(evaluated)
    }

    /// Queues the group for a permit; if its evaluation is `slow`, not for the reserved one.
    fn enqueue(&self, waiting: &mut HashMap<GroupRef, Turn>, group: &GroupRef, slow: bool) {
        let number = rand::random();
        let permit = None;
        waiting.insert(group.clone(), Turn { number, permit });
        tokio::spawn(self.clone().wait(group.clone(), number, slow));
    }

    async fn wait(self, group: GroupRef, number: u64, slow: bool) {
        let namespace = group.namespace.as_deref().unwrap_or_default();
        let permit = self.limiter.acquire_for(namespace, slow).await;
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

/// Returns the CPU time of this thread. Elapsed time would also charge a namespace for waiting for a
/// CPU.
pub(crate) fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.try_into().unwrap_or_default()
}

/// Runs work that blocks on a thread for blocking work.
///
/// # Errors
/// Returns an error if the work panicked.
pub async fn on_blocking_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| error.to_string())
}

/// Runs work that blocks on its own thread, at the lowest CPU priority.
///
/// # Errors
/// Returns an error if the work panicked, or if no thread could be started.
pub(crate) async fn on_low_priority_thread<T: Send + 'static>(
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

    /// Waits until a group gets a permit.
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
        let permit = limiter.acquire(&one).unwrap();
        let slow = |deadline| {
            assert_eq!(deadline, Some(SHORT_DEADLINE));
            let started = thread_cpu_time();
            while thread_cpu_time().saturating_sub(started) < Duration::from_millis(200) {}
            Some(())
        };
        let evaluated = limiter.evaluate(&one, permit, false, slow).await;
        assert_eq!(evaluated, Ok(Some(())));
        // The namespace is heavy now, and the pause is not over.
        assert!(limiter.acquire(&other).is_none());
        assert!(limiter.acquire(&group("another", "one")).is_some());
        turn(&limiter, &other).await;
    }

    #[tokio::test]
    async fn interrupted_evaluation_is_repeated_without_the_reserved_permit() {
        let (sender, mut queue) = unbounded_channel();
        let limiter = PolicyLimiter::new(permits(), sender);
        let slow = group("n", "slow");
        // It was interrupted although it got little CPU time, so the namespace is not heavy.
        let interrupted = |deadline: Option<Duration>| deadline.is_none().then_some("decided");
        for short_deadline in [false, true] {
            let permit = turn(&limiter, &slow).await;
            let evaluated = limiter.evaluate(&slow, permit, short_deadline, interrupted);
            assert_eq!(evaluated.await, Ok(None));
            assert_eq!(queue.recv().await.as_ref(), Some(&slow));
        }
        let permit = limiter.acquire(&slow).unwrap();
        assert!(permit.is_heavy() && !permit.is_of_heavy_namespace());
        // The other permit is free.
        let other = limiter.acquire(&group("another", "one"));
        assert!(other.is_some_and(|permit| !permit.is_heavy()));
        let evaluated = limiter.evaluate(&slow, permit, false, interrupted).await;
        assert_eq!(evaluated, Ok(Some("decided")));
    }

    #[tokio::test]
    async fn evaluation_of_a_heavy_namespace_runs_at_the_lowest_priority() {
        let nice = || rustix::process::nice(0).ok();
        let limiter = PolicyLimiter::new(permits(), unbounded_channel().0);
        let group = group("n", "one");
        let mut permit = limiter.acquire(&group).unwrap();
        permit.charge(Duration::from_secs(1));
        drop(permit);
        let permit = turn(&limiter, &group).await;
        let lowest = limiter
            .evaluate(&group, permit, false, move |_| nice())
            .await;
        assert_eq!(lowest, Ok(Some(LOWEST_PRIORITY)));
        assert_ne!(on_blocking_thread(nice).await, lowest);
        let panicking = |_| -> Option<()> { panic!("on purpose") };
        let permit = turn(&limiter, &group).await;
        let evaluated = limiter.evaluate(&group, permit, false, panicking).await;
        assert!(evaluated.is_err());
    }
}
