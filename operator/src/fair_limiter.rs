//! Limits concurrent work fairly between namespaces: of those that wait, the namespace that has
//! used the least time recently goes first.
//!
//! A tenant controls how long its policies take to compile and to decide. Slow policies delay the
//! tenant's own work; other namespaces wait only for work that is already running.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// The time after which past usage counts half.
const HALF_LIFE: Duration = Duration::from_secs(10);
/// A namespace that has recently used more than this is *heavy*. Callers charge only the time beyond
/// what ordinary work takes.
const HEAVY: Duration = Duration::from_millis(20);
/// Usage below this is dropped.
const NEGLIGIBLE: Duration = Duration::from_millis(1);

/// The limiter. Cheap to clone.
#[derive(Clone)]
pub struct FairLimiter(Arc<Mutex<State>>);

struct State {
    free: usize,
    /// The free permits that heavy namespaces may take: if there are several permits, all but one.
    heavy_free: usize,
    /// The waiters, in the order of arrival.
    waiting: Vec<Waiter>,
    used: HashMap<String, (Duration, Instant)>,
}

struct Waiter {
    namespace: String,
    slow: bool,
    /// Whether waiters that are not in the background go first.
    background: bool,
    permit: oneshot::Sender<Permit>,
}

/// A permit for a namespace. Dropping it passes it to the next waiter.
pub struct Permit {
    limiter: FairLimiter,
    namespace: String,
    heavy: bool,
}

impl State {
    fn used(&self, namespace: &str, now: Instant) -> Duration {
        self.used
            .get(namespace)
            .map_or(Duration::ZERO, |(used, at)| decayed(*used, *at, now))
    }

    /// Returns whether the permit counts as one of a heavy namespace; `None` if the work must wait.
    fn admits(&self, namespace: &str, slow: bool, now: Instant) -> Option<bool> {
        let heavy = slow || self.used(namespace, now) > HEAVY;
        (self.free > 0 && (!heavy || self.heavy_free > 0)).then_some(heavy)
    }

    fn grant(&mut self, limiter: &FairLimiter, namespace: &str, heavy: bool) -> Permit {
        self.free -= 1;
        self.heavy_free -= usize::from(heavy);
        Permit {
            limiter: limiter.clone(),
            namespace: namespace.to_owned(),
            heavy,
        }
    }

    /// Removes and returns the next waiter that may work now.
    fn next(&mut self, now: Instant) -> Option<(Waiter, bool)> {
        if self.free == 0 {
            return None;
        }
        self.waiting.retain(|waiter| !waiter.permit.is_closed());
        let candidates = self.waiting.iter().enumerate();
        let (_, index, heavy) = candidates
            .filter_map(|(index, waiter)| {
                let heavy = self.admits(&waiter.namespace, waiter.slow, now)?;
                let used = self.used(&waiter.namespace, now);
                Some(((waiter.background, used, index), index, heavy))
            })
            .min_by_key(|(order, ..)| *order)?;
        Some((self.waiting.remove(index), heavy))
    }
}

fn decayed(used: Duration, at: Instant, now: Instant) -> Duration {
    let half_lives = now.saturating_duration_since(at).as_secs_f64() / HALF_LIFE.as_secs_f64();
    used.mul_f64(0.5_f64.powf(half_lives))
}

impl FairLimiter {
    /// Creates a limiter with this number of permits.
    pub fn new(permits: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            free: permits,
            heavy_free: permits.saturating_sub(1).max(1),
            waiting: Vec::new(),
            used: HashMap::new(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a permit if one is free for this namespace now.
    pub fn try_acquire(&self, namespace: &str) -> Option<Permit> {
        self.try_acquire_for(namespace, false)
    }

    fn try_acquire_for(&self, namespace: &str, slow: bool) -> Option<Permit> {
        let mut state = self.state();
        let heavy = state.admits(namespace, slow, Instant::now())?;
        Some(state.grant(self, namespace, heavy))
    }

    /// Waits for a permit.
    pub async fn acquire(&self, namespace: &str) -> Permit {
        self.acquire_for(namespace, false).await
    }

    /// Waits for a permit. For work that is known to be `slow`, it counts as that of a heavy namespace.
    pub async fn acquire_for(&self, namespace: &str, slow: bool) -> Permit {
        self.acquire_when(namespace, slow, false).await
    }

    /// Waits for a permit for background work, which waits for all other work. Its time is charged to
    /// a separate account.
    pub async fn acquire_in_background(&self, namespace: &str) -> Permit {
        // No namespace contains a space.
        let account = format!("{namespace} background");
        self.acquire_when(&account, false, true).await
    }

    async fn acquire_when(&self, namespace: &str, slow: bool, background: bool) -> Permit {
        loop {
            if let Some(permit) = self.try_acquire_for(namespace, slow) {
                return permit;
            }
            let (permit, granted) = oneshot::channel();
            self.state().waiting.push(Waiter {
                namespace: namespace.to_owned(),
                slow,
                background,
                permit,
            });
            // A permit may have become free between the two locks.
            self.hand_out();
            if let Ok(permit) = granted.await {
                return permit;
            }
        }
    }

    fn hand_out(&self) {
        loop {
            let granted = {
                let mut state = self.state();
                let Some((waiter, heavy)) = state.next(Instant::now()) else {
                    return;
                };
                let permit = state.grant(self, &waiter.namespace, heavy);
                (waiter.permit, permit)
            };
            // Not under the lock, because a permit for a waiter that gave up is dropped here.
            let _ = granted.0.send(granted.1);
        }
    }
}

impl Permit {
    /// Returns whether the permit counts as one of a heavy namespace.
    pub fn is_heavy(&self) -> bool {
        self.heavy
    }

    /// Returns whether the namespace is heavy now.
    pub fn is_of_heavy_namespace(&self) -> bool {
        let state = self.limiter.state();
        state.used(&self.namespace, Instant::now()) > HEAVY
    }

    /// Adds to the time that the namespace has used.
    pub fn charge(&mut self, time: Duration) {
        let (mut state, now) = (self.limiter.state(), Instant::now());
        let used = state.used(&self.namespace, now) + time;
        state
            .used
            .retain(|_, (used, at)| decayed(*used, *at, now) > NEGLIGIBLE);
        state.used.insert(self.namespace.clone(), (used, now));
        if used > HEAVY && !self.heavy && state.heavy_free > 0 {
            self.heavy = true;
            state.heavy_free -= 1;
        }
    }

    /// Releases the permit. If the namespace is heavy, heavy namespaces have one fewer permit until
    /// `pause` has passed, which leaves time for others.
    pub fn release_after(mut self, pause: Duration) {
        if std::mem::take(&mut self.heavy) {
            let limiter = self.limiter.clone();
            tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                limiter.state().heavy_free += 1;
                limiter.hand_out();
            });
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        {
            let mut state = self.limiter.state();
            state.free += 1;
            state.heavy_free += usize::from(self.heavy);
        }
        self.limiter.hand_out();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::yield_now;

    fn charge(limiter: &FairLimiter, namespace: &str, used: Duration) {
        let permit = limiter.try_acquire(namespace);
        permit.unwrap_or_else(|| panic!("{namespace}")).charge(used);
    }

    /// Lets namespaces wait in this order, and returns the order in which they got their turn.
    async fn order(limiter: &FairLimiter, namespaces: &[&'static str]) -> Vec<&'static str> {
        let held: Vec<_> = std::iter::from_fn(|| limiter.try_acquire("holder")).collect();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for namespace in namespaces.iter().copied() {
            let (limiter, order) = (limiter.clone(), order.clone());
            tasks.push(tokio::spawn(async move {
                let mut permit = limiter.acquire(namespace).await;
                permit.charge(Duration::from_secs(1));
                order.lock().unwrap().push(namespace);
            }));
            yield_now().await;
        }
        drop(held);
        for task in tasks {
            task.await.unwrap();
        }
        let order = order.lock().unwrap();
        order.clone()
    }

    #[tokio::test]
    async fn least_used_namespace_is_next() {
        let limiter = FairLimiter::new(1);
        charge(&limiter, "busy", Duration::from_secs(60));
        let order = order(&limiter, &["busy", "a", "a", "b"]).await;
        assert_eq!(order, ["a", "b", "a", "busy"]);
    }

    #[tokio::test]
    async fn equally_used_namespaces_are_served_in_order_of_arrival() {
        let order = order(&FairLimiter::new(1), &["c", "a", "b"]).await;
        assert_eq!(order, ["c", "a", "b"]);
    }

    #[tokio::test]
    async fn background_work_waits_for_all_other_work_and_is_charged_separately() {
        let limiter = FairLimiter::new(1);
        charge(&limiter, "busy", Duration::from_secs(60));
        let held = limiter.try_acquire("holder");
        let order = Arc::new(Mutex::new(Vec::new()));
        let (later, other) = (limiter.clone(), order.clone());
        let background = tokio::spawn(async move {
            let mut permit = later.acquire_in_background("idle").await;
            permit.charge(Duration::from_secs(1));
            other.lock().unwrap().push("background");
        });
        yield_now().await;
        let (busy, other) = (limiter.clone(), order.clone());
        let busy = tokio::spawn(async move {
            let _permit = busy.acquire("busy").await;
            other.lock().unwrap().push("busy");
        });
        yield_now().await;
        drop(held);
        background.await.unwrap();
        busy.await.unwrap();
        assert_eq!(*order.lock().unwrap(), ["busy", "background"]);
        let state = limiter.state();
        assert_eq!(state.used("idle", Instant::now()), Duration::ZERO);
    }

    #[tokio::test]
    async fn heavy_namespaces_leave_one_permit_to_others() {
        let limiter = FairLimiter::new(2);
        for namespace in ["heavy-1", "heavy-2"] {
            charge(&limiter, namespace, HEAVY * 3);
        }
        let heavy = limiter.try_acquire("heavy-1");
        assert!(heavy.is_some());
        assert!(limiter.try_acquire("heavy-2").is_none());
        let light = limiter.try_acquire("light");
        assert!(light.is_some());
        assert!(limiter.try_acquire("light").is_none());
        drop(heavy);
        assert!(limiter.try_acquire("heavy-2").is_some());
    }

    #[tokio::test]
    async fn single_permit_is_not_reserved() {
        let limiter = FairLimiter::new(1);
        charge(&limiter, "heavy", HEAVY * 3);
        assert!(limiter.try_acquire("heavy").is_some());
    }

    #[tokio::test]
    async fn aborted_waiter_does_not_block_others() {
        let limiter = FairLimiter::new(1);
        let held = limiter.try_acquire("a");
        let (waiting, other) = (limiter.clone(), limiter.clone());
        let waiting = tokio::spawn(async move { drop(waiting.acquire("a").await) });
        let other = tokio::spawn(async move { drop(other.acquire("b").await) });
        yield_now().await;
        waiting.abort();
        yield_now().await;
        drop(held);
        other.await.unwrap();
        assert!(limiter.try_acquire("c").is_some());
    }

    #[tokio::test]
    async fn heavy_namespaces_wait_for_the_pause_and_others_do_not() {
        let limiter = FairLimiter::new(1);
        let mut permit = limiter.acquire("heavy").await;
        permit.charge(HEAVY * 3);
        permit.release_after(Duration::from_millis(300));
        assert!(limiter.try_acquire("heavy").is_none());
        assert!(limiter.try_acquire("light").is_some());
        // The pause ends.
        limiter.acquire("heavy").await;
    }

    #[test]
    fn used_time_decays() {
        let (limiter, now) = (FairLimiter::new(1), Instant::now());
        charge(&limiter, "a", Duration::from_secs(8));
        let later = |seconds| {
            let state = limiter.state();
            state.used("a", now + Duration::from_secs(seconds))
        };
        assert!(later(0) > later(10) && later(10) > later(20));
        assert!(later(10) < Duration::from_secs(5));
        assert!(later(1000) < NEGLIGIBLE);
    }
}
