//! Compiles components, on threads of their own: whatever a component does to the
//! compiler, no group's decision waits for it.

use super::Problem;
use policy_host::{Host, Policy};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};

/// Compilations at a time. More would only take cores away from decisions, and each may take
/// some 150 MB for the worst component that is accepted.
const AT_A_TIME: usize = 1;
/// Longest compilation. An honest policy takes a tenth of a second.
const LONGEST: Duration = Duration::from_secs(30);
/// How much a compiling thread stands back behind the others, as `nice` has it.
const NICE: i32 = 10;

/// Compiles components.
#[derive(Clone)]
pub struct Compiler {
    host: Host,
    slots: Arc<Semaphore>,
}

impl Compiler {
    /// With a host that all policies share.
    pub fn new(host: Host) -> Self {
        Self {
            host,
            slots: Arc::new(Semaphore::new(AT_A_TIME)),
        }
    }

    /// Checks and compiles a component.
    ///
    /// # Errors
    /// The reason of the first check that failed, or CompileTimeout.
    pub async fn load(&self, bytes: Vec<u8>) -> Result<Policy, Problem> {
        // Never closed.
        let slot = self.slots.clone().acquire_owned().await;
        let (done, outcome) = oneshot::channel();
        let host = self.host.clone();
        let thread = std::thread::Builder::new().name("policy-compiler".into());
        // A thread cannot be stopped: one that takes too long keeps its slot until it ends, so
        // that there are never more of them than slots.
        let started = thread.spawn(move || {
            let _slot = slot;
            let me = rustix::thread::gettid();
            let _ = rustix::process::setpriority_process(Some(me), NICE);
            let _ = done.send(host.load(&bytes, None));
        });
        let failed = |words: String| Problem {
            reason: "CompileFailed",
            message: format!("the component could not be compiled: {words}"),
        };
        if let Err(error) = started {
            return Err(failed(format!("no thread: {error}")));
        }
        match tokio::time::timeout(LONGEST, outcome).await {
            Ok(Ok(Ok(policy))) => Ok(policy),
            Ok(Ok(Err(error))) => Err(Problem::from(&error)),
            Ok(Err(_)) => Err(failed("the compiler gave up".into())),
            Err(_) => Err(Problem::compile_timeout(LONGEST)),
        }
    }
}
