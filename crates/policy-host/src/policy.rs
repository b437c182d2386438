//! The host, the policies it loaded, and one evaluation.

use crate::answer;
use crate::contract::{
    CONTRACT, Choice, Decision, Item, ItemSettings, PolicyIndices, PolicyPre, Request, World,
};
use crate::load::{self, CompileMemory, LoadError};
use crate::sandbox::{Limits, LogLine, Sandbox};
use plain_text as text;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Config, Engine, OptLevel, Store, Trap};

/// How often the clock that interrupts guests ticks. An evaluation may overrun
/// its deadline by one tick.
const TICK: Duration = Duration::from_millis(20);

/// The host could not be set up: a fault of this program or of its machine, never
/// of a policy.
#[derive(Debug, thiserror::Error)]
#[error("the WebAssembly runtime could not be set up: {0:#}")]
pub struct HostError(wasmtime::Error);

/// Why an evaluation gave no decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub enum EvalError {
    /// The policy itself said, in words, that it cannot decide.
    #[error("the policy cannot decide: {0}")]
    PolicyError(String),
    /// The guest crashed.
    #[error("the policy crashed: {0}")]
    Trapped(String),
    /// It executed more instructions than it may.
    #[error("the policy used up its fuel of {0}")]
    OutOfFuel(u64),
    /// It ran longer than it may.
    #[error("the policy was interrupted after {} ms", .0.as_millis())]
    Deadline(Duration),
    /// It wanted more memory than it may have.
    #[error(
        "the policy wanted more than {0} bytes of memory, or more tables than a policy may have"
    )]
    OutOfMemory(usize),
    /// Its answer breaks the contract.
    #[error("the policy's answer breaks the contract: it {0}")]
    BadAnswer(String),
}

impl EvalError {
    /// A CamelCase token for conditions and events.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::PolicyError(_) => "PolicyError",
            Self::Trapped(_) => "Trapped",
            Self::OutOfFuel(_) => "OutOfFuel",
            Self::Deadline(_) => "Deadline",
            Self::OutOfMemory(_) => "OutOfMemory",
            Self::BadAnswer(_) => "BadAnswer",
        }
    }
}

/// What came of one call into a policy.
#[derive(Debug)]
pub struct Evaluation<T> {
    /// The answer, checked, or why there is none.
    pub answer: Result<T, EvalError>,
    /// Fuel used: the same for the same request, everywhere.
    pub fuel: u64,
    /// What the policy logged.
    pub log: Vec<LogLine>,
    /// Lines of log that were dropped.
    pub log_dropped: u64,
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
    /// sha256 of the uncompressed component, in lower-case hex.
    pub digest: String,
    /// The machine code, as wasmtime serializes it.
    pub artifact: Vec<u8>,
    /// Bytes of the component's types, imports, exports, and other descriptions.
    pub descriptions: usize,
}

impl Host {
    /// Sets up the runtime and starts the thread that interrupts runaway guests, which ends with
    /// the last clone of the host and its policies.
    ///
    /// # Errors
    /// If the machine cannot run the compiler or cannot start a thread.
    pub fn new(limits: Limits) -> Result<Self, HostError> {
        let mut config = Config::new();
        config
            .wasm_component_model(true)
            .consume_fuel(true)
            .epoch_interruption(true)
            .max_wasm_stack(limits.stack)
            // A fresh sandbox for every call: to copy a policy's few kilobytes of data is
            // cheaper than to map them, and so is a small reservation (measured: 33
            // against 41 µs for a decision about 10 items).
            .memory_reservation(limits.memory as u64)
            .memory_init_cow(false)
            // The policy's own compiler has already optimized it. Optimizing again makes loading
            // slower by a fifth and decisions no faster (measured: 70 against 89 ms for 118 KB, 210
            // µs either way for 1,000 items).
            .cranelift_opt_level(OptLevel::None)
            // The same bits on every machine.
            .cranelift_nan_canonicalization(true)
            .wasm_relaxed_simd(false)
            // A compilation stays on one thread, within the stack of that thread.
            .parallel_compilation(false);
        let engine = Engine::new(&config).map_err(HostError)?;
        let mut linker = Linker::new(&engine);
        World::add_to_linker::<_, HasSelf<_>>(&mut linker, |sandbox| sandbox).map_err(HostError)?;

        // A thread of the system, not a task: tasks stand still when every worker
        // of the runtime is busy evaluating, which is when this is needed.
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
    /// Use this only for trusted components, such as those of your own tests: a malicious component
    /// can keep the compiler busy for minutes, take gigabytes, or overflow the stack, which ends
    /// the process. Use [`CompileProcess`](crate::CompileProcess) for all others.
    ///
    /// # Errors
    /// The first check that failed.
    pub fn load(&self, bytes: &[u8], pin: Option<&str>) -> Result<Policy, LoadError> {
        let (wasm, digest) = self.unpack(bytes)?;
        if let Some(pin) = pin {
            load::pinned(&digest, pin)?;
        }
        match self.known(&digest) {
            Some(policy) => Ok(policy),
            None => Ok(self.keep(self.check(&wasm, digest)?)),
        }
    }

    /// Checks and compiles as [`Host::load`] does, for another process to use.
    ///
    /// # Errors
    /// The first check that failed.
    pub fn compile(&self, bytes: &[u8]) -> Result<CompiledPolicy, LoadError> {
        let (wasm, digest) = self.unpack(bytes)?;
        let policy = self.check(&wasm, digest)?;
        let artifact = policy.component().serialize();
        let artifact = artifact.map_err(|e| LoadError::CompileFailed(sentence(&e)))?;
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
    /// The artifact is machine code that runs with the rights of this process. It must come from a
    /// process that the caller started from its own program; nothing in it is checked beyond that.
    ///
    /// # Errors
    /// [`LoadError::CompileFailed`] if the artifact does not fit this host.
    #[allow(unsafe_code)]
    pub(crate) fn deserialize(&self, compiled: &CompiledPolicy) -> Result<Policy, LoadError> {
        if let Some(policy) = self.known(&compiled.digest) {
            return Ok(policy);
        }
        // SAFETY: crate-private, and its only caller is `CompileProcess::compile`, which read the
        // artifact from the pipe of a child that it started from this program's own file and that
        // ended with success. No bytes of a tenant get here, and none that were stored anywhere.
        let component = unsafe { Component::deserialize(&self.engine, &compiled.artifact) };
        let component = component.map_err(|e| LoadError::CompileFailed(sentence(&e)))?;
        let (digest, descriptions) = (compiled.digest.clone(), compiled.descriptions);
        let policy = self.prepare(&component, digest, descriptions)?;
        Ok(self.keep(policy))
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    fn unpack(&self, bytes: &[u8]) -> Result<(Vec<u8>, String), LoadError> {
        let wasm = load::unpack(bytes, self.limits.component)?;
        let digest = load::sha256(&wasm);
        Ok((wasm, digest))
    }

    /// Returns the loaded policy with this digest, if it is in use.
    pub fn known(&self, digest: &str) -> Option<Policy> {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Policy(loaded.get(digest)?.upgrade()?))
    }

    fn keep(&self, policy: Policy) -> Policy {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.retain(|_, known| known.strong_count() > 0);
        loaded.insert(policy.digest().to_owned(), Arc::downgrade(&policy.0));
        policy
    }

    fn check(&self, wasm: &[u8], digest: String) -> Result<Policy, LoadError> {
        load::sniff(wasm)?;
        let descriptions = load::descriptions(wasm, self.limits.descriptions)?;
        let component = Component::from_binary(&self.engine, wasm)
            .map_err(|e| LoadError::CompileFailed(sentence(&e)))?;
        load::names(&self.engine, &component)?;
        let policy = self.prepare(&component, digest, descriptions)?;
        policy.fits()?;
        match policy.probe().answer {
            // A refusal in words is an answer; so is one that fails the checks, and
            // both are reported when a real request gets them.
            Ok(_) | Err(EvalError::PolicyError(_) | EvalError::BadAnswer(_)) => Ok(policy),
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
            .map_err(|e| LoadError::InterfaceMismatch(sentence(&e)))?;
        Ok(Policy(Arc::new(Loaded {
            engine: self.engine.clone(),
            limits: self.limits.clone(),
            pre,
            digest,
            descriptions,
        })))
    }
}

fn sentence(error: &wasmtime::Error) -> String {
    text::clean(&format!("{error:#}"), text::ERROR)
}

struct Loaded {
    engine: Engine,
    limits: Arc<Limits>,
    pre: PolicyPre<Sandbox>,
    digest: String,
    descriptions: usize,
}

/// A checked, compiled component, ready to be asked. Cheap to clone; may be asked
/// from many threads at once.
#[derive(Clone)]
pub struct Policy(Arc<Loaded>);

/// A policy that may have been dropped from memory.
#[derive(Clone)]
pub struct WeakPolicy {
    digest: String,
    policy: Weak<Loaded>,
}

impl WeakPolicy {
    /// sha256 of the uncompressed component, in lower-case hex.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The policy, if it is still in memory.
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
    /// sha256 of the uncompressed component, in lower-case hex.
    pub fn digest(&self) -> &str {
        &self.0.digest
    }

    /// An estimate of the memory that it takes, in bytes.
    pub fn size(&self) -> usize {
        /// Memory for each byte of a description (measured: 100,000 exports of 7 bytes take 14 MB).
        const EACH: usize = 24;
        let image = self.component().image_range();
        (image.end as usize - image.start as usize) + self.0.descriptions * EACH
    }

    /// A reference that does not keep the policy in memory.
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

    /// Checks the digest against a pin, as [`Host::load`] does.
    ///
    /// # Errors
    /// [`LoadError::DigestMismatch`].
    pub fn is(&self, pin: &str) -> Result<(), LoadError> {
        load::pinned(self.digest(), pin)
    }

    /// The version of `oaat:policy` it speaks.
    pub fn contract(&self) -> &'static str {
        CONTRACT
    }

    /// Asks for a decision in a fresh sandbox. Blocks for as long as the guest
    /// runs: microseconds as a rule, up to the deadline at worst.
    pub fn evaluate(&self, request: &Request) -> Evaluation<Decision> {
        self.evaluate_within(request, self.0.limits.deadline)
    }

    /// The same, with a deadline other than that of the limits. What it interrupts depends on
    /// the machine, so [`EvalError::Deadline`] then says nothing about the policy but that it
    /// has to be asked with more time.
    pub fn evaluate_within(&self, request: &Request, deadline: Duration) -> Evaluation<Decision> {
        let fuel = self.fuel_limit(request.items.len());
        let mut evaluation = self.call(fuel, deadline, |world, store| {
            world.oaat_policy_selector().call_select(store, request)
        });
        evaluation.answer = evaluation
            .answer
            .and_then(|decision| answer::check(request, decision).map_err(EvalError::BadAnswer));
        evaluation
    }

    /// Asks for a decision about the small request that [`Host::load`] tries a component on.
    pub fn probe(&self) -> Evaluation<Decision> {
        self.evaluate(&probe())
    }

    /// Asks whether settings are right, in a fresh sandbox.
    /// [`EvalError::PolicyError`] carries the policy's own words.
    pub fn validate(&self, settings: &str, items: &[ItemSettings]) -> Evaluation<()> {
        let fuel = self.fuel_limit(items.len());
        self.call(fuel, self.0.limits.deadline, |world, store| {
            world
                .oaat_policy_selector()
                .call_validate(store, settings, items)
        })
    }

    /// The fuel that a decision about so many items may take.
    pub fn fuel_limit(&self, items: usize) -> u64 {
        let limits = &self.0.limits;
        let items = limits.fuel_per_item.saturating_mul(items as u64);
        limits.fuel.saturating_add(items)
    }

    /// A sandbox under all limits: before instantiation, which may run code of the
    /// guest.
    fn sandbox(&self, fuel: u64, deadline: Duration) -> Store<Sandbox> {
        let limits = &*self.0.limits;
        let mut store = Store::new(&self.0.engine, Sandbox::new(limits));
        store.limiter(|sandbox| sandbox);
        store.set_hostcall_fuel(limits.answer);
        let ticks = deadline.as_millis().div_ceil(TICK.as_millis()) as u64 + 1;
        store.set_epoch_deadline(ticks);
        // Fails only in an engine without fuel; with none the guest stops at once.
        let _ = store.set_fuel(fuel);
        store
    }

    /// Whether the functions have the contract's types, which the linker compares
    /// in an instance only.
    fn fits(&self) -> Result<(), LoadError> {
        let pre = self.0.pre.instance_pre();
        let mismatch = |e: wasmtime::Error| LoadError::InterfaceMismatch(sentence(&e));
        let indices = PolicyIndices::new(pre).map_err(mismatch)?;
        let mut store = self.sandbox(self.fuel_limit(0), self.0.limits.deadline);
        match pre.instantiate(&mut store) {
            Ok(instance) => indices
                .load(&mut store, &instance)
                .map(drop)
                .map_err(mismatch),
            // The trial request ends in the same way, and tells it better.
            Err(_) => Ok(()),
        }
    }

    fn call<T>(
        &self,
        fuel: u64,
        deadline: Duration,
        call: impl FnOnce(&World, &mut Store<Sandbox>) -> wasmtime::Result<Result<T, String>>,
    ) -> Evaluation<T> {
        let mut store = self.sandbox(fuel, deadline);
        let world = self.0.pre.instantiate(&mut store);
        let started = world.is_ok();
        let outcome = world.and_then(|world| call(&world, &mut store));
        let left = store.get_fuel().unwrap_or(0);
        let sandbox = store.into_data();
        let answer = match outcome {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(words)) => Err(EvalError::PolicyError(text::words(&words))),
            Err(error) => Err(self.explain(&error, started, &sandbox, (fuel, deadline))),
        };
        Evaluation {
            answer,
            fuel: fuel.saturating_sub(left),
            log: sandbox.log,
            log_dropped: sandbox.log_dropped,
        }
    }

    fn explain(
        &self,
        error: &wasmtime::Error,
        started: bool,
        sandbox: &Sandbox,
        (fuel, deadline): (u64, Duration),
    ) -> EvalError {
        let limits = &self.0.limits;
        if sandbox.refused {
            return EvalError::OutOfMemory(limits.memory);
        }
        match error.downcast_ref::<Trap>() {
            Some(Trap::OutOfFuel) => EvalError::OutOfFuel(fuel),
            Some(Trap::Interrupt) => EvalError::Deadline(deadline),
            Some(trap) => EvalError::Trapped(match &sandbox.last_error {
                // The panic hook of the sdk logs what a panic says.
                Some(line) => format!("{trap} ({line})"),
                None => trap.to_string(),
            }),
            None => {
                let cause = text::clean(&error.root_cause().to_string(), text::ERROR);
                if started {
                    // Not a trap of its code: what it handed over could not be taken.
                    EvalError::BadAnswer(format!("could not be read: {cause}"))
                } else {
                    EvalError::Trapped(format!("it could not be started: {cause}"))
                }
            }
        }
    }
}

/// The trial request of [`Host::load`]: small, and of the plainest kind.
fn probe() -> Request {
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
    /// The index of the item to start, if one is to be started.
    pub fn chosen(&self) -> Option<usize> {
        match self.choice {
            Choice::Run(index) => Some(index as usize),
            Choice::Wait(_) => None,
        }
    }
}
