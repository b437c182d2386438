//! Compiles components, one at a time and fairly between namespaces, and keeps the results.

use super::memory::PolicyMemory;
use crate::fair_limiter::{FairLimiter, Permit};
use policy_host::{LoadError, Policy};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Only compilation time beyond this is charged to the namespace. An ordinary policy of 40 KB takes
/// a tenth of a second.
const ORDINARY: Duration = Duration::from_millis(250);

type Compile = dyn Fn(&[u8]) -> Result<Policy, LoadError> + Send + Sync;

/// The compiler of a process. Cheap to clone.
#[derive(Clone)]
pub struct Compiler {
    compile: Arc<Compile>,
    // Each compiler process may take half of the container's memory.
    limiter: FairLimiter,
    memory: Arc<Mutex<PolicyMemory>>,
    /// Whether other compilations go first.
    in_background: bool,
}

impl Compiler {
    /// Creates a compiler that uses this function, which may block.
    pub fn new(
        compile: impl Fn(&[u8]) -> Result<Policy, LoadError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            compile: Arc::new(compile),
            limiter: FairLimiter::new(1),
            memory: Arc::default(),
            in_background: false,
        }
    }

    /// Returns a compiler for shadow policies, with a separate memory. Policies that decide are
    /// compiled first, and shadow policies never evict them.
    pub fn for_shadows(&self) -> Self {
        Self {
            memory: Arc::new(Mutex::new(PolicyMemory::for_shadows())),
            in_background: true,
            ..self.clone()
        }
    }

    /// Returns the policies in memory.
    pub fn memory(&self) -> MutexGuard<'_, PolicyMemory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the permit of a namespace.
    pub async fn acquire(&self, namespace: &str) -> Permit {
        if self.in_background {
            self.limiter.acquire_in_background(namespace).await
        } else {
            self.limiter.acquire(namespace).await
        }
    }

    /// Checks and compiles a component.
    ///
    /// # Errors
    /// Returns the error of the first check that fails.
    pub async fn compile(&self, mut permit: Permit, bytes: Vec<u8>) -> Result<Policy, LoadError> {
        let compile = self.compile.clone();
        // The permit is held until the compilation ends, even if the caller no longer waits.
        let compiled = tokio::task::spawn_blocking(move || {
            let started = Instant::now();
            let compiled = compile(&bytes);
            permit.charge(started.elapsed().saturating_sub(ORDINARY));
            compiled
        });
        compiled
            .await
            .unwrap_or_else(|error| Err(LoadError::CompilerUnavailable(error.to_string())))
    }
}
