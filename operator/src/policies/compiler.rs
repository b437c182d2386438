//! Compiles components, on threads of their own: whatever a component does to the
//! compiler, no group's decision waits for it.

use super::Problem;
use policy_host::{Host, LoadError, Policy};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// Longest compilation before its group hears of it. An honest policy takes a tenth of a second.
pub const LONGEST: Duration = Duration::from_secs(30);

/// Compiles components, one at a time: more would only take cores away from decisions, and
/// each may take some 150 MB for the worst component that is accepted. Of those that wait the
/// one with the least work goes first, so that no queue of heavy ones holds an honest one up
/// for longer than the one in hand.
#[derive(Clone)]
pub struct Compiler {
    host: Host,
    queue: Arc<Mutex<Queue>>,
}

#[derive(Default)]
struct Queue {
    busy: bool,
    /// Those that wait, by their work and then in the order of their coming.
    waiting: BTreeMap<(u64, u64), oneshot::Sender<Turn>>,
    came: u64,
}

/// The right to compile. Goes to the next when it is dropped.
struct Turn(Arc<Mutex<Queue>>);

impl Drop for Turn {
    fn drop(&mut self) {
        let next = {
            let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let next = queue.waiting.pop_first();
            queue.busy = next.is_some();
            next
        };
        if let Some((_, next)) = next {
            // One that waits no longer drops its turn at once, and so hands it on.
            let _ = next.send(Turn(self.0.clone()));
        }
    }
}

/// A compilation under way.
pub struct Compiling(oneshot::Receiver<Result<Policy, LoadError>>);

impl Compiling {
    /// The policy, or the reason of the first check that failed. [`LONGEST`] is for the caller
    /// to mind: a thread cannot be stopped, so a compilation goes on until it ends.
    ///
    /// # Errors
    /// The reason.
    pub async fn ended(&mut self) -> Result<Policy, Problem> {
        match (&mut self.0).await {
            Ok(Ok(policy)) => Ok(policy),
            Ok(Err(error)) => Err(Problem::from(&error)),
            Err(_) => Err(failed("the compiler gave up")),
        }
    }
}

fn failed(words: &str) -> Problem {
    Problem {
        reason: "CompileFailed",
        message: format!("the component could not be compiled: {words}"),
    }
}

impl Compiler {
    /// With a host that all policies share.
    pub fn new(host: Host) -> Self {
        Self {
            host,
            queue: Arc::default(),
        }
    }

    /// Begins to check and compile a component, once it is its turn.
    ///
    /// # Errors
    /// When no thread is to be had.
    pub async fn begin(&self, bytes: Vec<u8>) -> Result<Compiling, Problem> {
        let turn = self.turn(self.host.effort(&bytes)).await;
        let (done, outcome) = oneshot::channel();
        let host = self.host.clone();
        let thread = std::thread::Builder::new().name("policy-compiler".into());
        // One that takes too long keeps its turn until it ends, so that there are never two.
        let started = thread.spawn(move || {
            let _turn = turn;
            let _ = done.send(host.load(&bytes, None));
        });
        match started {
            Ok(_) => Ok(Compiling(outcome)),
            Err(error) => Err(failed(&format!("no thread: {error}"))),
        }
    }

    async fn turn(&self, effort: u64) -> Turn {
        loop {
            let turn = {
                let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
                if !queue.busy {
                    queue.busy = true;
                    return Turn(self.queue.clone());
                }
                let (mine, turn) = oneshot::channel();
                queue.came += 1;
                let place = (effort, queue.came);
                queue.waiting.insert(place, mine);
                turn
            };
            if let Ok(turn) = turn.await {
                return turn;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy_host::Limits;
    use tokio::task::yield_now;

    #[tokio::test]
    async fn the_least_work_goes_first_and_who_left_is_passed_over() {
        let host = Host::new(Limits::default()).unwrap_or_else(|error| panic!("{error}"));
        let compiler = Compiler::new(host);
        let first = compiler.turn(5).await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = Vec::new();
        for effort in [9, 1, 7, 3] {
            let (compiler, order) = (compiler.clone(), order.clone());
            waiting.push(tokio::spawn(async move {
                let _turn = compiler.turn(effort).await;
                order.lock().unwrap().push(effort);
            }));
            yield_now().await;
        }
        // The one with 7 does not wait any longer.
        waiting.remove(2).abort();
        yield_now().await;
        drop(first);
        for each in waiting {
            each.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), [1, 3, 9]);
        compiler.turn(0).await;
    }
}
