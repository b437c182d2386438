//! The host, the policies it loaded, and one evaluation.

use crate::answer;
use crate::contract::{
    CONTRACT, Choice, Decision, Item, ItemSettings, PolicyIndices, PolicyPre, Request, World,
};
use crate::inspect::inspect;
use crate::load::{self, LoadError};
use crate::sandbox::{Limits, LogLine, Sandbox};
use crate::text;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Config, Engine, OptLevel, Store, Trap};

/// How often the clock that interrupts guests ticks. An evaluation may overrun
/// its deadline by one tick.
const TICK: Duration = Duration::from_millis(20);

/// Threads that compile one component. More would take the machine, and each adds to the
/// memory that the worst component takes.
const COMPILERS: usize = 2;
/// How much they stand back behind the threads that decide, as `nice` has it: all the way, since
/// a hostile component may keep them busy for ever.
#[cfg(target_os = "linux")]
const NICE: i32 = 19;

/// The host could not be set up: a fault of this program or of its machine, never
/// of a policy.
#[derive(Debug, thiserror::Error)]
#[error("the WebAssembly runtime could not be set up: {0:#}")]
pub struct HostError(wasmtime::Error);

/// Why an evaluation gave no decision.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
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

/// The runtime that all policies of a process share. Cheap to clone.
#[derive(Clone)]
pub struct Host {
    engine: Engine,
    linker: Arc<Linker<Sandbox>>,
    limits: Arc<Limits>,
    compilers: Arc<rayon::ThreadPool>,
    /// What is loaded, by digest: however many ask for a component, it is compiled once.
    loaded: Arc<Mutex<HashMap<String, Weak<Loaded>>>>,
}

impl Host {
    /// Sets the runtime up and starts its threads: one that interrupts runaway guests, and
    /// those that compile. They end with the last clone of the host and its policies.
    ///
    /// # Errors
    /// When the machine cannot run the compiler or has no thread left.
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
            // A policy's compiler has optimised it already: to do so again makes loading a fifth
            // longer and decisions no shorter (measured: 70 against 89 ms for 118 KB, 210 µs
            // either way for 1,000 items).
            .cranelift_opt_level(OptLevel::None)
            // The same bits on every machine.
            .cranelift_nan_canonicalization(true)
            .wasm_relaxed_simd(false);
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
        let compilers = rayon::ThreadPoolBuilder::new()
            .num_threads(COMPILERS)
            .thread_name(|number| format!("policy-compiler-{number}"))
            .start_handler(|_| stand_back())
            .build()
            .map_err(|e| HostError(wasmtime::Error::msg(e.to_string())))?;
        Ok(Self {
            compilers: Arc::new(compilers),
            engine,
            linker: Arc::new(linker),
            limits: Arc::new(limits),
            loaded: Arc::default(),
        })
    }

    /// How much work it would be to compile a component (plain or gzip), in steps of about one
    /// instruction each; none for one that is refused before it is compiled.
    pub fn effort(&self, bytes: &[u8]) -> u64 {
        let read = || {
            let wasm = load::unpack(bytes, self.limits.component).ok()?;
            inspect(&wasm, self.limits.table_elements).ok()
        };
        catch_unwind(AssertUnwindSafe(read))
            .ok()
            .flatten()
            .unwrap_or(0)
    }

    /// Checks and compiles a component (plain or gzip) and tries it on a small
    /// request. `pin` is the sha256 that the uncompressed component must have.
    ///
    /// Components of the same digest are one: a second load gives the policy that is there.
    ///
    /// Takes milliseconds for an honest component, and some seconds and some 150 MB
    /// for the worst that is accepted: keep it off every path that others wait on,
    /// and load one at a time where memory is short. Compiled it is on threads of the host's
    /// own, which stand back behind all others; the trial, which a clock bounds, is done on this.
    ///
    /// # Errors
    /// The first check that failed.
    pub fn load(&self, bytes: &[u8], pin: Option<&str>) -> Result<Policy, LoadError> {
        let wasm = load::unpack(bytes, self.limits.component)?;
        let digest = load::digest(&wasm);
        if let Some(pin) = pin {
            load::pinned(&digest, pin)?;
        }
        if let Some(there) = self.known(&digest) {
            return Ok(Policy(there));
        }
        load::sniff(&wasm)?;
        // A compiler is a large program, and what it reads comes from strangers: a
        // panic in it is a fault of the component that caused it.
        let compile = || catch_unwind(AssertUnwindSafe(|| self.compile(&wasm)));
        let pre = (self.compilers.install(compile))
            .unwrap_or_else(|panic| Err(LoadError::CompileFailed(text::of_panic(&*panic))))?;
        let policy = Policy(Arc::new(Loaded {
            engine: self.engine.clone(),
            limits: self.limits.clone(),
            pre,
            digest,
        }));
        policy.fits()?;
        match policy.probe().answer {
            // A refusal in words is an answer; so is one that fails the checks, and
            // both are told when a real request gets them.
            Ok(_) | Err(EvalError::PolicyError(_) | EvalError::BadAnswer(_)) => {
                let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
                loaded.retain(|_, known| known.strong_count() > 0);
                loaded.insert(policy.digest().to_owned(), Arc::downgrade(&policy.0));
                Ok(policy)
            }
            Err(error) => Err(LoadError::ProbeFailed(error)),
        }
    }

    fn known(&self, digest: &str) -> Option<Arc<Loaded>> {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.get(digest)?.upgrade()
    }

    fn compile(&self, wasm: &[u8]) -> Result<PolicyPre<Sandbox>, LoadError> {
        inspect(wasm, self.limits.table_elements)?;
        let said = |e: wasmtime::Error| text::clean(&format!("{e:#}"), text::ERROR);
        let component = Component::from_binary(&self.engine, wasm)
            .map_err(|e| LoadError::CompileFailed(said(e)))?;
        load::names(&self.engine, &component)?;
        self.linker
            .instantiate_pre(&component)
            .and_then(PolicyPre::new)
            .map_err(|e| LoadError::InterfaceMismatch(said(e)))
    }
}

/// Lowers this thread's priority. Where that is refused or unknown it merely stands back less.
fn stand_back() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
}

struct Loaded {
    engine: Engine,
    limits: Arc<Limits>,
    pre: PolicyPre<Sandbox>,
    digest: String,
}

/// A checked, compiled component, ready to be asked. Cheap to clone; may be asked
/// from many threads at once.
#[derive(Clone)]
pub struct Policy(Arc<Loaded>);

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
        self.validate_within(settings, items, self.0.limits.deadline)
    }

    /// The same, with a deadline as in [`Policy::evaluate_within`].
    pub fn validate_within(
        &self,
        settings: &str,
        items: &[ItemSettings],
        deadline: Duration,
    ) -> Evaluation<()> {
        self.call(self.fuel_limit(items.len()), deadline, |world, store| {
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
        let mismatch = |e: wasmtime::Error| {
            LoadError::InterfaceMismatch(text::clean(&format!("{e:#}"), text::ERROR))
        };
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
