//! The operator's compile process, seen from outside: how components end in it, what that takes,
//! and what stays behind in the process that asked.

use anyhow::{Context, Result};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How a component ended.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The reason, or `Compiled`.
    pub reason: String,
    /// The words.
    pub message: String,
    /// How long it took.
    pub took: Duration,
    /// The most resident memory of the child, in bytes, as far as it was seen.
    pub peak: u64,
}

/// Compiles components in child processes of the operator's binary.
#[derive(Clone, Debug)]
pub struct Compiler {
    binary: PathBuf,
}

impl Compiler {
    /// Whose children compile.
    ///
    /// # Errors
    /// When the machine cannot run what they compile.
    pub fn new(binary: PathBuf) -> Result<Self> {
        Ok(Self { binary })
    }

    /// A policy that can be asked.
    ///
    /// # Errors
    /// When it is refused.
    pub fn load(&self, bytes: &[u8]) -> Result<policy_host::Policy> {
        let host = policy_host::Host::new(policy_host::Limits::default())?;
        Ok(host.load(bytes, None)?)
    }

    /// How a component ends.
    ///
    /// # Errors
    /// When the child cannot be started.
    pub fn verdict(&self, bytes: &[u8]) -> Result<Verdict> {
        compile(&self.binary, bytes)
    }
}

fn compile(binary: &Path, bytes: &[u8]) -> Result<Verdict> {
    let begin = Instant::now();
    let mut child = Command::new("sh")
        .arg("-c")
        .arg("ulimit -v 1500000; ulimit -c 0; exec timeout -s KILL 30 $0 compile-policy")
        .arg(binary)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    let peaks = Peaks::watch();
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(&bytes);
    });
    let out = child.wait_with_output()?;
    let _ = writer.join();
    let first = out.stdout.split(|b| *b == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(first).into_owned();
    let (reason, message) = match line.split_once(' ') {
        Some((reason, message)) => (reason.to_owned(), message.to_owned()),
        None => {
            let err = String::from_utf8_lossy(&out.stderr);
            (
                format!("{}", out.status).replace(' ', "_"),
                err.lines()
                    .find(|l| {
                        l.contains("panicked") || l.contains("overflow") || l.contains("alloc")
                    })
                    .unwrap_or_default()
                    .to_owned(),
            )
        }
    };
    Ok(Verdict {
        reason,
        message,
        took: begin.elapsed(),
        peak: peaks.end(),
    })
}

/// A line of a process's status, in bytes.
///
/// # Errors
/// When there is no such process, or no such line.
pub fn memory(process: &str, line: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let found = status.lines().find_map(|l| l.strip_prefix(line));
    let kilobytes = found.and_then(|rest| rest.split_whitespace().nth(1));
    let kilobytes: u64 = kilobytes.context("no such line")?.parse()?;
    Ok(kilobytes << 10)
}

/// Looks at the memory of the children of this process until it is told to stop.
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
                for child in children() {
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

/// The children of this process, by the threads that started them.
fn children() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten();
    let files = tasks.flatten().map(|task| task.path().join("children"));
    let lists = files.filter_map(|file| std::fs::read_to_string(file).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The operator's binary.
///
/// # Errors
/// When it does not build.
pub fn binary() -> Result<PathBuf> {
    crate::operator::binary(!cfg!(debug_assertions))
}
