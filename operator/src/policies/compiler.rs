//! Compiles components, one at a time and fairly between namespaces, and keeps the results.

use super::memory::PolicyMemory;
use crate::fair_limiter::{FairLimiter, Permit};
use policy_host::{LoadError, Policy};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// After each compilation of a namespace that compiles much, such namespaces pause for this many
/// times its length, so that they keep at most a fifth of one core busy.
const PAUSE: u32 = 4;

type Compile = dyn Fn(&[u8]) -> Result<Policy, LoadError> + Send + Sync;

/// The compiler of a process. Cheap to clone.
#[derive(Clone)]
pub struct Compiler {
    compile: Arc<Compile>,
    // Each compiler process may take half of the container's memory.
    limiter: FairLimiter,
    memory: Arc<Mutex<PolicyMemory>>,
}

impl Compiler {
    /// Compiles with this function, which may block.
    pub fn new(
        compile: impl Fn(&[u8]) -> Result<Policy, LoadError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            compile: Arc::new(compile),
            limiter: FairLimiter::new(1),
            memory: Arc::default(),
        }
    }

    /// The policies that are kept in memory.
    pub fn memory(&self) -> MutexGuard<'_, PolicyMemory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is this namespace's turn.
    pub async fn turn(&self, namespace: &str) -> Permit {
        self.limiter.acquire(namespace).await
    }

    /// Checks and compiles a component.
    ///
    /// # Errors
    /// The first check that failed.
    pub async fn compile(&self, mut turn: Permit, bytes: Vec<u8>) -> Result<Policy, LoadError> {
        let compile = self.compile.clone();
        // The turn ends with the compilation, even if the caller no longer waits for the result.
        let compiled = tokio::task::spawn_blocking(move || {
            let started = Instant::now();
            let compiled = compile(&bytes);
            let took = started.elapsed();
            turn.charge(took);
            turn.release_after(took * PAUSE);
            compiled
        });
        compiled
            .await
            .unwrap_or_else(|error| Err(LoadError::CompilerUnavailable(error.to_string())))
    }
}
