//! The host, its loaded policies, and evaluations.

use crate::answer;
use crate::backtrace::{self, Backtrace, FunctionNames};
use crate::contract::{
    CONTRACT, Choice, Decision, Item, ItemSettings, PolicyIndices, PolicyPre, PolicyWorld, Request,
};
use crate::eval_error::{Crash, EvalError};
use crate::load::{self, CompileMemory, LoadError};
use crate::sandbox::{INSTANCES, Limits, LogLine, MEMORIES, Sandbox, TABLES};
use plain_text as text;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, Store,
    Trap,
};

/// The interval of the clock that interrupts guests. An evaluation may exceed its deadline by one
/// tick.
const TICK: Duration = Duration::from_millis(10);

/// The host could not be set up. The cause is this program or its machine, never a policy.
#[derive(Debug, thiserror::Error)]
#[error("failed to set up the WebAssembly runtime: {0:#}")]
pub struct HostError(wasmtime::Error);

/// The result of one call of a policy.
#[derive(Debug)]
pub struct Evaluation<T> {
    /// The checked answer, or why there is none.
    pub answer: Result<T, EvalError>,
    /// The fuel used. The same request uses the same fuel on every machine.
    pub fuel: u64,
    /// The lines that the policy logged.
    pub log: Vec<LogLine>,
    /// The number of log lines that were dropped.
    pub log_dropped: u64,
}

impl<T> Evaluation<T> {
    fn if_completed(self) -> Option<Self> {
        let interrupted = matches!(self.answer, Err(EvalError::Deadline(_)));
        (!interrupted).then_some(self)
    }
}

/// The WebAssembly runtime that all policies of a process share. Cheap to clone.
#[derive(Clone)]
pub struct Host {
    engine: Engine,
    linker: Arc<Linker<Sandbox>>,
    limits: Arc<Limits>,
    /// Loaded policies by digest, so that the same component is held in memory once.
    loaded: Arc<Mutex<HashMap<String, Weak<Loaded>>>>,
}

/// A component that passed every check, as machine code for this machine and release.
pub struct CompiledPolicy {
    /// The sha256 of the uncompressed component, in lowercase hexadecimal.
    pub digest: String,
    /// The machine code, as wasmtime serializes it.
    pub artifact: Vec<u8>,
    /// The size of the component's types, imports, exports, and other descriptions, in bytes.
    pub descriptions: usize,
}

impl Host {
    /// Sets up the runtime and starts the thread that interrupts runaway guests. The thread exits
    /// when the last clone of the host and its policies is dropped.
    ///
    /// # Errors
    /// Returns an error if the machine does not support the runtime or cannot start a thread.
    pub fn new(limits: Limits) -> Result<Self, HostError> {
        Self::with_config(&config(&limits), limits)
    }

    /// Sets up the runtime as [`Host::new`] does, for programs that evaluate thousands of requests on
    /// up to `threads` threads. Sandboxes reuse memory: it is cleared after each evaluation and not
    /// returned to the operating system. Answers and fuel are the same. A component with more
    /// instances, tables, or memories than the limits allow cannot be loaded. If more threads evaluate
    /// at once, the additional evaluations fail.
    ///
    /// The operator uses [`Host::new`] instead. Reuse would save half of the CPU time of a decision
    /// about 10 items (measured in a debug build: 21 of 40 µs), but a run costs the operator 1.8 ms in
    /// all. Reuse would also limit the number of concurrent evaluations, keep up to 2 MiB of each
    /// memory that a policy has used (measured: 7 MB more after 32 hostile evaluations at once), and
    /// make the isolation of tenants depend on clearing memory instead of unmapping it.
    ///
    /// # Errors
    /// Returns an error if the machine does not support the runtime or cannot start a thread.
    pub fn for_many_evaluations(limits: Limits, threads: u32) -> Result<Self, HostError> {
        let mut config = config(&limits);
        let strategy = InstanceAllocationStrategy::Pooling(pool(&limits, threads.max(1)));
        config
            .allocation_strategy(strategy)
            // With guard pages, each evaluation changes the protection of its memory, and threads
            // wait for each other to do so.
            .signals_based_traps(false)
            .memory_guard_size(0);
        Self::with_config(&config, limits)
    }

    fn with_config(config: &Config, limits: Limits) -> Result<Self, HostError> {
        let engine = Engine::new(config).map_err(HostError)?;
        let mut linker = Linker::new(&engine);
        PolicyWorld::add_to_linker::<_, HasSelf<_>>(&mut linker, |sandbox| sandbox)
            .map_err(HostError)?;

        // An operating system thread, not a task: if evaluations block every worker of the async
        // runtime, tasks do not run, but this clock must.
        let weak = engine.weak();
        std::thread::Builder::new()
            .name("policy-deadline".into())
            .spawn(move || {
                while let Some(engine) = weak.upgrade() {
                    engine.increment_epoch();
                    drop(engine);
                    std::thread::sleep(TICK);
                }
            })
            .map_err(|e| HostError(e.into()))?;
        Ok(Self {
            engine,
            linker: Arc::new(linker),
            limits: Arc::new(limits),
            loaded: Arc::default(),
        })
    }

    /// Checks and compiles a component (plain or gzip) in this process, and tries it on a small
    /// request. `pin` is the sha256 that the uncompressed component must have.
    ///
    /// Use this only for trusted components, such as those of your own tests. A malicious component
    /// can keep the compiler busy for minutes, take gigabytes, or crash the process by overflowing
    /// the stack. Use [`CompileProcess`](crate::CompileProcess) for all others.
    ///
    /// # Errors
    /// Returns the first check that failed.
    pub fn load(&self, bytes: &[u8], pin: Option<&str>) -> Result<Policy, LoadError> {
        let (wasm, digest) = self.decompress(bytes)?;
        if let Some(pin) = pin {
            load::check_pin(&digest, pin)?;
        }
        match self.known(&digest) {
            Some(policy) => Ok(policy),
            None => Ok(self.register(self.check(&wasm, digest)?)),
        }
    }

    /// Checks and compiles a component as [`Host::load`] does, for use in another process.
    ///
    /// # Errors
    /// Returns the first check that failed.
    pub fn compile(&self, bytes: &[u8]) -> Result<CompiledPolicy, LoadError> {
        let (wasm, digest) = self.decompress(bytes)?;
        let policy = self.check(&wasm, digest)?;
        let artifact = policy.component().serialize();
        let artifact = artifact.map_err(|e| LoadError::CompileFailed(message(&e)))?;
        if artifact.len() > self.limits.artifact {
            return Err(LoadError::CompileTooLarge {
                what: CompileMemory::MachineCode,
                limit: self.limits.artifact,
            });
        }
        Ok(CompiledPolicy {
            digest: policy.digest().to_owned(),
            artifact,
            descriptions: policy.0.descriptions,
        })
    }

    /// Loads the result of [`Host::compile`]. wasmtime rejects artifacts from another release, with
    /// other settings, or for a processor with other features.
    ///
    /// The artifact is machine code that runs with the privileges of this process, and its content
    /// is not checked. It must come from a process that the caller started from its own program.
    ///
    /// # Errors
    /// Returns [`LoadError::CompileFailed`] if the artifact is not compatible with this host.
    #[allow(unsafe_code)]
    pub(crate) fn deserialize(&self, compiled: &CompiledPolicy) -> Result<Policy, LoadError> {
        if let Some(policy) = self.known(&compiled.digest) {
            return Ok(policy);
        }
        // SAFETY: The only caller is `CompileProcess::compile`. It reads the artifact from the pipe
        // of a child that it started from this program's own file and that exited with success. The
        // artifact never contains bytes of a tenant and is never stored.
        let component = unsafe { Component::deserialize(&self.engine, &compiled.artifact) };
        let component = component.map_err(|e| LoadError::CompileFailed(message(&e)))?;
        let (digest, descriptions) = (compiled.digest.clone(), compiled.descriptions);
        let policy = self.prepare(&component, digest, descriptions)?;
        Ok(self.register(policy))
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    fn decompress(&self, bytes: &[u8]) -> Result<(Vec<u8>, String), LoadError> {
        let wasm = load::decompress(bytes, self.limits.component)?;
        let digest = load::sha256(&wasm);
        Ok((wasm, digest))
    }

    /// Returns the loaded policy with this digest, if it is in use.
    pub fn known(&self, digest: &str) -> Option<Policy> {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Policy(loaded.get(digest)?.upgrade()?))
    }

    /// Adds a policy to the loaded ones and removes entries of dropped policies.
    fn register(&self, policy: Policy) -> Policy {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.retain(|_, known| known.strong_count() > 0);
        loaded.insert(policy.digest().to_owned(), Arc::downgrade(&policy.0));
        policy
    }

    fn check(&self, wasm: &[u8], digest: String) -> Result<Policy, LoadError> {
        load::check_header(wasm)?;
        let descriptions = load::descriptions_size(wasm, self.limits.descriptions)?;
        let component = Component::from_binary(&self.engine, wasm).map_err(|e| {
            load::wasi_import(wasm).unwrap_or_else(|| LoadError::CompileFailed(message(&e)))
        })?;
        load::check_interfaces(&self.engine, &component)?;
        let policy = self.prepare(&component, digest, descriptions)?;
        let startup = policy.check_types()?;
        match policy.probe().answer {
            // An error that the policy returns is an answer, as is an invalid decision. Both are
            // reported when they occur for a real request.
            Ok(_) | Err(EvalError::PolicyError(_) | EvalError::BadAnswer(_)) => Ok(policy),
            // A start function that runs out of fuel or time needs another fix.
            Err(error @ (EvalError::Trapped(_) | EvalError::OutOfMemory(_)))
                if startup == Startup::Failed && load::is_composed(wasm) =>
            {
                Err(LoadError::ComposedComponent { error })
            }
            Err(error) => Err(LoadError::ProbeFailed(error)),
        }
    }

    fn prepare(
        &self,
        component: &Component,
        digest: String,
        descriptions: usize,
    ) -> Result<Policy, LoadError> {
        let pre = self.linker.instantiate_pre(component);
        let pre = pre
            .and_then(PolicyPre::new)
            .map_err(|e| LoadError::InterfaceMismatch(message(&e)))?;
        Ok(Policy(Arc::new(Loaded {
            engine: self.engine.clone(),
            limits: self.limits.clone(),
            pre,
            digest,
            descriptions,
            names: FunctionNames::default(),
        })))
    }
}

/// Returns the configuration of the runtime.
fn config(limits: &Limits) -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .consume_fuel(true)
        .epoch_interruption(true)
        .max_wasm_stack(limits.stack)
        .wasm_backtrace_max_frames(NonZeroUsize::new(backtrace::MAX_FRAMES))
        // Every call gets a fresh sandbox. Copying a few kilobytes of data and reserving little
        // memory is cheaper than mapping (measured: 33 instead of 41 µs for 10 items).
        .memory_reservation(limits.memory as u64)
        .memory_init_cow(false)
        // The component is already optimized. Optimizing it again makes loading slower (measured:
        // 89 instead of 70 ms for 118 KB) and decisions no faster (210 µs for 1,000 items).
        .cranelift_opt_level(OptLevel::None)
        // Results must be identical on every machine.
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false)
        // Each compilation uses one thread, whose stack size is limited.
        .parallel_compilation(false);
    config
}

/// Returns the configuration of a pool of sandboxes. Each thread uses one at a time.
fn pool(limits: &Limits, threads: u32) -> PoolingAllocationConfig {
    /// The memory of a sandbox that stays resident, in bytes. Policies rarely need more.
    const KEPT: usize = 2 << 20;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(threads)
        .total_core_instances(threads * INSTANCES)
        .max_core_instances_per_component(INSTANCES)
        .total_tables(threads * TABLES)
        .max_tables_per_component(TABLES)
        .max_tables_per_module(TABLES)
        .table_elements(limits.table_elements)
        .total_memories(threads * MEMORIES)
        .max_memories_per_component(MEMORIES)
        .max_memories_per_module(MEMORIES)
        .max_memory_size(limits.memory)
        .linear_memory_keep_resident(KEPT)
        .table_keep_resident(KEPT)
        // Clears only the pages that were used, where the kernel can report them.
        .pagemap_scan(Enabled::Auto);
    pool
}

fn message(error: &wasmtime::Error) -> String {
    text::clean(&format!("{error:#}"), text::ERROR)
}

/// Whether an instance of a component could be created.
#[derive(Clone, Copy, PartialEq)]
enum Startup {
    Succeeded,
    Failed,
}

/// What one evaluation may use.
#[derive(Clone, Copy)]
struct Budget {
    fuel: u64,
    deadline: Duration,
}

#[derive(Clone)]
struct Loaded {
    engine: Engine,
    limits: Arc<Limits>,
    pre: PolicyPre<Sandbox>,
    digest: String,
    descriptions: usize,
    names: FunctionNames,
}

/// A checked and compiled component. Cheap to clone. Many threads can evaluate it at once.
#[derive(Clone)]
pub struct Policy(Arc<Loaded>);

/// A policy that may have been dropped from memory.
#[derive(Clone)]
pub struct WeakPolicy {
    digest: String,
    policy: Weak<Loaded>,
}

impl WeakPolicy {
    /// Returns the sha256 of the uncompressed component, in lowercase hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Returns the policy, if it is still in memory.
    pub fn upgrade(&self) -> Option<Policy> {
        self.policy.upgrade().map(Policy)
    }
}

impl std::fmt::Debug for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Policy({})", self.digest())
    }
}

impl Policy {
    /// Returns the sha256 of the uncompressed component, in lowercase hexadecimal.
    pub fn digest(&self) -> &str {
        &self.0.digest
    }

    /// Returns the policy with the names of its functions for the backtraces of crashes.
    pub fn with_names(&self, names: FunctionNames) -> Self {
        Self(Arc::new(Loaded {
            names,
            ..(*self.0).clone()
        }))
    }

    /// Estimates the memory that the policy takes, in bytes.
    pub fn size(&self) -> usize {
        /// The memory per byte of descriptions (measured: 100,000 exports of 7 bytes take 14 MB).
        const PER_BYTE: usize = 24;
        let image = self.component().image_range();
        (image.end as usize - image.start as usize) + self.0.descriptions * PER_BYTE
    }

    /// Returns a reference that does not keep the policy in memory.
    pub fn downgrade(&self) -> WeakPolicy {
        WeakPolicy {
            digest: self.digest().to_owned(),
            policy: Arc::downgrade(&self.0),
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    fn component(&self) -> &Component {
        self.0.pre.instance_pre().component()
    }

    /// Compares the digest with a pin, as [`Host::load`] does.
    ///
    /// # Errors
    /// Returns [`LoadError::DigestMismatch`] if they differ.
    pub fn check_pin(&self, pin: &str) -> Result<(), LoadError> {
        load::check_pin(self.digest(), pin)
    }

    /// Returns the version of `oaat:policy` that the policy implements.
    pub fn contract(&self) -> &'static str {
        CONTRACT
    }

    /// Requests a decision in a fresh sandbox. Blocks while the guest runs: microseconds as a rule,
    /// and at most until [`Limits::deadline`].
    pub fn evaluate(&self, request: &Request) -> Evaluation<Decision> {
        self.evaluate_with(request, self.budget(request.items.len()))
    }

    /// Requests a decision as [`Policy::evaluate`] does, but returns `None` if it takes longer than
    /// `deadline`, which is not an error of the policy. Retry with a longer deadline.
    pub fn evaluate_within(
        &self,
        request: &Request,
        deadline: Duration,
    ) -> Option<Evaluation<Decision>> {
        let budget = self.budget(request.items.len());
        self.evaluate_with(request, Budget { deadline, ..budget })
            .if_completed()
    }

    fn evaluate_with(&self, request: &Request, budget: Budget) -> Evaluation<Decision> {
        let mut evaluation = self.call(budget, |world, store| {
            world.oaat_policy_selector().call_select(store, request)
        });
        evaluation.answer = evaluation
            .answer
            .and_then(|decision| answer::check(request, decision).map_err(EvalError::BadAnswer));
        evaluation
    }

    /// Returns the call stack at which a decision has used this fuel. The stack is read at the next
    /// check of the fuel: the start of a function or of an iteration of a loop. Returns `None` if the
    /// decision uses less. May take a minute.
    pub fn stack_at(&self, request: &Request, fuel: u64) -> Option<Backtrace> {
        let mut store = self.sandbox(Budget {
            fuel,
            deadline: Duration::from_secs(60),
        });
        let world = self.0.pre.instantiate(&mut store);
        let error = world
            .and_then(|world| {
                let selector = world.oaat_policy_selector();
                selector.call_select(&mut store, request)
            })
            .err()?;
        let out_of_fuel = matches!(error.downcast_ref(), Some(Trap::OutOfFuel));
        out_of_fuel.then(|| Backtrace::of(&error, &self.0.names))
    }

    /// Requests a decision about the trial request of [`Host::load`].
    pub fn probe(&self) -> Evaluation<Decision> {
        self.evaluate(&trial_request())
    }

    /// Validates settings in a fresh sandbox. If the policy rejects them,
    /// [`EvalError::PolicyError`] contains its message.
    pub fn validate(&self, settings: &str, items: &[ItemSettings]) -> Evaluation<()> {
        self.validate_with(settings, items, self.budget(items.len()))
    }

    /// Validates settings as [`Policy::validate`] does, but returns `None` if it takes longer than
    /// `deadline`, which is not an error of the policy. Retry with a longer deadline.
    pub fn validate_within(
        &self,
        settings: &str,
        items: &[ItemSettings],
        deadline: Duration,
    ) -> Option<Evaluation<()>> {
        let budget = self.budget(items.len());
        self.validate_with(settings, items, Budget { deadline, ..budget })
            .if_completed()
    }

    fn validate_with(
        &self,
        settings: &str,
        items: &[ItemSettings],
        budget: Budget,
    ) -> Evaluation<()> {
        self.call(budget, |world, store| {
            world
                .oaat_policy_selector()
                .call_validate(store, settings, items)
        })
    }

    /// Returns the fuel limit of a decision about this number of items.
    pub fn fuel_limit(&self, items: usize) -> u64 {
        let limits = &self.0.limits;
        let items = limits.fuel_per_item.saturating_mul(items as u64);
        limits.fuel.saturating_add(items)
    }

    fn budget(&self, items: usize) -> Budget {
        Budget {
            fuel: self.fuel_limit(items),
            deadline: self.0.limits.deadline,
        }
    }

    /// Creates a sandbox with all limits. They also apply to instantiation, which may run code of
    /// the guest.
    fn sandbox(&self, budget: Budget) -> Store<Sandbox> {
        let limits = &*self.0.limits;
        let mut store = Store::new(&self.0.engine, Sandbox::new(limits));
        store.limiter(|sandbox| sandbox);
        store.set_hostcall_fuel(limits.answer);
        let ticks = budget.deadline.as_millis().div_ceil(TICK.as_millis()) as u64 + 1;
        store.set_epoch_deadline(ticks);
        // Fails only in an engine without fuel. Without fuel, the guest stops at once.
        let _ = store.set_fuel(budget.fuel);
        store
    }

    /// Checks that the functions have the types of the contract. The linker compares them only in an
    /// instance.
    fn check_types(&self) -> Result<Startup, LoadError> {
        let pre = self.0.pre.instance_pre();
        let mismatch = |e: wasmtime::Error| LoadError::InterfaceMismatch(message(&e));
        let indices = PolicyIndices::new(pre).map_err(mismatch)?;
        let mut store = self.sandbox(self.budget(0));
        match pre.instantiate(&mut store) {
            Ok(instance) => indices
                .load(&mut store, &instance)
                .map(|_| Startup::Succeeded)
                .map_err(mismatch),
            // The trial request fails in the same way and returns a better error.
            Err(_) => Ok(Startup::Failed),
        }
    }

    fn call<T>(
        &self,
        budget: Budget,
        call: impl FnOnce(&PolicyWorld, &mut Store<Sandbox>) -> wasmtime::Result<Result<T, String>>,
    ) -> Evaluation<T> {
        let mut store = self.sandbox(budget);
        let world = self.0.pre.instantiate(&mut store);
        let started = world.is_ok();
        let outcome = world.and_then(|world| call(&world, &mut store));
        let left = store.get_fuel().unwrap_or(0);
        let sandbox = store.into_data();
        let answer = match outcome {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(message)) => Err(EvalError::PolicyError(text::policy_error(&message))),
            Err(error) => Err(self.classify_error(&error, started, &sandbox, budget)),
        };
        Evaluation {
            answer,
            fuel: budget.fuel.saturating_sub(left),
            log: sandbox.log,
            log_dropped: sandbox.log_dropped,
        }
    }

    fn classify_error(
        &self,
        error: &wasmtime::Error,
        started: bool,
        sandbox: &Sandbox,
        budget: Budget,
    ) -> EvalError {
        let limits = &self.0.limits;
        if sandbox.limit_reached {
            return EvalError::OutOfMemory(limits.memory);
        }
        match error.downcast_ref::<Trap>() {
            Some(Trap::OutOfFuel) => EvalError::OutOfFuel(budget.fuel),
            Some(Trap::Interrupt) => EvalError::Deadline(budget.deadline),
            Some(trap) => EvalError::Trapped(Crash {
                message: match &sandbox.last_error {
                    // The panic hook of the SDK logs the panic message.
                    Some(line) => format!("{trap} ({line})"),
                    None => trap.to_string(),
                },
                backtrace: Backtrace::of(error, &self.0.names),
            }),
            None => {
                let cause = text::clean(&error.root_cause().to_string(), text::ERROR);
                if started {
                    // The guest did not trap, but its answer could not be decoded.
                    EvalError::BadAnswer(format!("could not be decoded: {cause}"))
                } else {
                    EvalError::Trapped(format!("it failed to start: {cause}").into())
                }
            }
        }
    }
}

/// Returns the trial request of [`Host::load`]: two ready items without settings.
pub(crate) fn trial_request() -> Request {
    let item = |name: &str, last_success| Item {
        name: name.into(),
        frequency: Some(3_600_000),
        cool_off: 0,
        settings: None,
        startable: true,
        last_success,
        last_failure: None,
        failures: 0,
        runs: u32::from(last_success.is_some()),
        last_duration: last_success.map(|_| 1000),
    };
    Request {
        namespace: "probe".into(),
        group: "probe".into(),
        now: 1_767_225_600_000,
        seed: 1,
        settings: "{}".into(),
        state: String::new(),
        items: vec![item("a", None), item("b", Some(1_767_225_000_000))],
        recent: vec![],
        extra: "{}".into(),
    }
}

impl Decision {
    /// Returns the index of the item to start, if the policy chose one.
    pub fn chosen(&self) -> Option<usize> {
        match self.choice {
            Choice::Run(index) => Some(index as usize),
            Choice::Wait(_) => None,
        }
    }
}
