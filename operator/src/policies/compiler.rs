//! Compiles components, on threads of their own: whatever a component does to the
//! compiler, no group's decision waits for it.

use super::Problem;
use policy_host::{Host, LoadError, Policy};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

/// Longest compilation before its group hears of it. An honest policy takes a tenth of a second.
pub const LONGEST: Duration = Duration::from_secs(30);

/// So many turns go to the one with the least work before one goes to the one that waited longest.
const LIGHT_TURNS: u32 = 3;

/// Compiles components, one at a time: more would only take cores away from decisions, and
/// each may take some 150 MB for the worst component that is accepted. Of those that wait the
/// one with the least work goes first, so that no queue of heavy ones holds an honest one up
/// for longer than the one in hand; but each fourth turn goes to the one that has waited longest,
/// so that a stream of light ones holds nobody up for ever.
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
    /// Turns that went to the lightest since one went to the one that waited longest.
    light: u32,
}

impl Queue {
    /// Whose turn is next.
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        if self.light < LIGHT_TURNS {
            self.light += 1;
            return self.waiting.pop_first().map(|(_, next)| next);
        }
        self.light = 0;
        let longest = *self.waiting.keys().min_by_key(|(_, came)| *came)?;
        self.waiting.remove(&longest)
    }
}

/// The right to compile. Goes to the next when it is dropped.
struct Turn(Arc<Mutex<Queue>>);

impl Drop for Turn {
    fn drop(&mut self) {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that wait no longer are passed over here, and not by dropping the turn that they
        // do not take: there may be thousands.
        while let Some(next) = queue.next() {
            if !next.is_closed() {
                queue.busy = true;
                drop(queue);
                let _ = next.send(Turn(self.0.clone()));
                return;
            }
        }
        queue.busy = false;
    }
}

/// Why there is no policy.
#[derive(Debug)]
pub struct Fault {
    /// In words for the group.
    pub problem: Problem,
    /// It was the machine's, not the component's: the same bytes may do at another time.
    pub passing: bool,
}

/// A compilation under way.
pub struct Compiling(oneshot::Receiver<Result<Policy, LoadError>>);

impl Compiling {
    /// The policy, or the reason of the first check that failed. [`LONGEST`] is for the caller
    /// to mind: a thread cannot be stopped, so a compilation goes on until it ends.
    ///
    /// # Errors
    /// The reason.
    pub async fn ended(&mut self) -> Result<Policy, Fault> {
        match (&mut self.0).await {
            Ok(Ok(policy)) => Ok(policy),
            Ok(Err(error)) => Err(Fault {
                problem: Problem::from(&error),
                passing: error.may_pass(),
            }),
            Err(_) => Err(failed("the compiler gave up")),
        }
    }
}

/// The compiler did not come to a verdict.
fn failed(words: &str) -> Fault {
    let problem = Problem {
        reason: "CompileFailed",
        message: format!("the component could not be compiled: {words}"),
    };
    Fault {
        problem,
        passing: true,
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
    pub async fn begin(&self, bytes: Arc<[u8]>) -> Result<Compiling, Fault> {
        // To unpack and read some megabytes takes longer than others should wait.
        let (host, read) = (self.host.clone(), bytes.clone());
        let effort = spawn_blocking(move || host.effort(&read)).await;
        let effort = effort.map_err(|error| failed(&error.to_string()))?;
        let turn = self.turn(effort).await;
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

    fn compiler() -> Compiler {
        Compiler::new(Host::new(Limits::default()).unwrap_or_else(|error| panic!("{error}")))
    }

    #[tokio::test]
    async fn light_ones_that_keep_coming_do_not_hold_a_heavy_one_up_for_ever() {
        let compiler = compiler();
        let first = compiler.turn(5).await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = Vec::new();
        for effort in [900, 1, 2, 3, 4, 5, 6, 7] {
            let (compiler, order) = (compiler.clone(), order.clone());
            waiting.push(tokio::spawn(async move {
                let _turn = compiler.turn(effort).await;
                order.lock().unwrap().push(effort);
            }));
            yield_now().await;
        }
        drop(first);
        for each in waiting {
            each.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), [1, 2, 3, 900, 4, 5, 6, 7]);
    }

    #[tokio::test]
    async fn the_least_work_goes_first_and_who_left_is_passed_over() {
        let compiler = compiler();
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
