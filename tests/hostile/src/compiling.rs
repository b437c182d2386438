//! The operator's compile process, seen from outside: the result of each component, its cost, and
//! what remains in the parent process.

use crate::COMPILED;
use anyhow::{Context, Result};
use policy_host::{CompileProcess, Host, Limits, LoadError, Policy};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The result of a component.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The reason, or `Compiled`.
    pub reason: &'static str,
    /// The message.
    pub message: String,
    /// How long it took.
    pub took: Duration,
    /// The peak resident memory of the child that was observed, in bytes.
    pub peak: u64,
}

/// Compiles components in child processes of the operator's binary, as the operator does.
#[derive(Clone)]
pub struct Compiler(CompileProcess);

impl Compiler {
    /// Uses the `compile-policy` of this binary, which must be from this build.
    ///
    /// # Errors
    /// Returns an error if the machine cannot run policies.
    pub fn new(binary: PathBuf) -> Result<Self> {
        let host = Host::new(Limits::default())?;
        Ok(Self(CompileProcess::new(binary, host)))
    }

    /// Compiles and loads a policy.
    ///
    /// # Errors
    /// Returns an error if the policy is rejected.
    pub fn load(&self, bytes: &[u8]) -> Result<Policy, LoadError> {
        self.0.compile(bytes).map(|compiled| compiled.policy)
    }

    /// Compiles a component, and returns its result.
    pub fn verdict(&self, bytes: &[u8]) -> Verdict {
        let begin = Instant::now();
        let peaks = Peaks::watch();
        let (reason, message) = match self.load(bytes) {
            Ok(_) => (COMPILED, String::new()),
            Err(error) => (error.reason(), error.to_string()),
        };
        Verdict {
            reason,
            message,
            took: begin.elapsed(),
            peak: peaks.end(),
        }
    }
}

/// Returns a value of a process's status, in bytes.
///
/// # Errors
/// Returns an error if there is no such process or value.
pub fn memory(process: &str, line: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let found = status.lines().find_map(|l| l.strip_prefix(line));
    let kilobytes = found.and_then(|rest| rest.split_whitespace().nth(1));
    let kilobytes: u64 = kilobytes.context("the status has no such line")?.parse()?;
    Ok(kilobytes << 10)
}

/// Samples the memory of this process's children until it is stopped.
struct Peaks {
    most: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Peaks {
    fn watch() -> Self {
        let (most, done) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (seen, stop) = (most.clone(), done.clone());
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                for child in children("self") {
                    let peak = memory(&child, "VmHWM").unwrap_or(0);
                    seen.fetch_max(peak, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        Self { most, done, thread }
    }

    fn end(self) -> u64 {
        self.done.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
        self.most.load(Ordering::Relaxed)
    }
}

/// Returns the children of a process, from the threads that started them.
fn children(process: &str) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task"));
    let files = tasks.into_iter().flatten().flatten();
    let lists = files.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let children = lists.map(|list| {
        list.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    });
    children.flatten().collect()
}
