//! Child processes that never outlive this process.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::SystemTime;

use anyhow::{Context, Result, anyhow, ensure};
use rustix::process::{
    Pid, Signal as RawSignal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid,
};
use tokio::sync::watch;

use crate::watchdog;

/// The signals that tests send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Asks the process to stop.
    Term,
    /// Interrupts the process, as Ctrl-C does.
    Interrupt,
    /// Kills the process immediately.
    Kill,
    /// Freezes the process, as on a machine that stalls.
    Stop,
    /// Continues the process after [`Signal::Stop`].
    Continue,
}

impl Signal {
    fn raw(self) -> RawSignal {
        match self {
            Self::Term => RawSignal::TERM,
            Self::Interrupt => RawSignal::INT,
            Self::Kill => RawSignal::KILL,
            Self::Stop => RawSignal::STOP,
            Self::Continue => RawSignal::CONT,
        }
    }
}

/// The exit status and the time of a process's end.
type Ended = (ExitStatus, SystemTime);

/// The message for a process whose end was not observed.
const UNKNOWN: i32 = 0xff00;

/// A child process in a separate process group.
///
/// The whole group is killed when its first process ends (as a container ends with its first
/// process), when this handle is dropped, and when the process that holds the handle ends in any
/// way, including SIGKILL. There is one gap: if this process is killed in the few microseconds
/// before [`Supervised::spawn`] has registered the group with the watchdog, the child is left
/// behind. Closing that gap would need an additional shell for every start.
///
/// A handle does not belong to an async runtime, so a handle in a `static` can be used by every
/// test of a binary.
#[derive(Debug)]
pub struct Supervised {
    pid: Pid,
    /// True once the pid may belong to another process.
    reaped: Arc<Mutex<bool>>,
    exit: watch::Receiver<Option<Ended>>,
    waiter: Option<JoinHandle<()>>,
}

/// Kills a process that runs.
pub(crate) async fn stop(server: &Mutex<Option<Supervised>>) {
    // A separate statement: the lock must not be held during the wait.
    let running = lock(server).take();
    if let Some(running) = running {
        running.kill().await;
    }
}

/// Locks the handle of a process that a test may stop and start again.
pub(crate) fn lock(server: &Mutex<Option<Supervised>>) -> MutexGuard<'_, Option<Supervised>> {
    server.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Supervised {
    /// Starts `command` without input and appends its output to the file `log`.
    ///
    /// # Errors
    /// Returns an error if the program cannot be started or the log file cannot be opened.
    pub fn spawn(mut command: Command, log: &Path) -> Result<Self> {
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot open {}", log.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("cannot share the log file")?)
            .stderr(output);
        let program = command.get_program().to_owned();
        Self::spawn_as_is(&mut command)
            .with_context(|| format!("cannot start {}", program.display()))
    }

    /// Starts `command` with its configured input and output.
    pub(crate) fn spawn_as_is(command: &mut Command) -> io::Result<Self> {
        watchdog::ready()?;
        let mut child = command.process_group(0).spawn()?;
        let pid = Pid::from_child(&child);
        if let Err(error) = watchdog::started(child.id()) {
            // Without the watchdog, the child could outlive this process.
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
        let reaped = Arc::new(Mutex::new(false));
        let (sender, exit) = watch::channel(None);
        let waiter = thread::Builder::new()
            .name(format!("wait-{}", child.id()))
            .spawn({
                let reaped = Arc::clone(&reaped);
                move || reap(child, pid, &reaped, &sender)
            })?;
        Ok(Self {
            pid,
            reaped,
            exit,
            waiter: Some(waiter),
        })
    }

    /// Returns the process id of the program itself, not of a wrapper.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Returns whether the process is still running.
    pub fn is_running(&self) -> bool {
        self.exit.borrow().is_none()
    }

    /// Returns the exit status; `None` if the process is still running.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.exit.borrow().map(|(status, _)| status)
    }

    /// Sends a signal to the program. Does nothing if the program has ended.
    pub fn signal(&self, signal: Signal) {
        self.unless_reaped(|pid| kill_process(pid, signal.raw()));
    }

    /// Sends a signal to the program and all its descendants in the group.
    pub fn signal_group(&self, signal: Signal) {
        self.unless_reaped(|pid| kill_process_group(pid, signal.raw()));
    }

    /// Kills the program and all its descendants in the group, and waits for the end.
    pub async fn kill(&self) -> ExitStatus {
        self.signal_group(Signal::Kill);
        self.wait().await
    }

    /// Waits until the program ends, and returns its exit status.
    pub async fn wait(&self) -> ExitStatus {
        self.ended().await.0
    }

    /// Waits until the program ends, and returns its exit status and the time of its end, which may
    /// be long before the call.
    pub async fn ended(&self) -> Ended {
        let mut exit = self.exit.clone();
        let ended = exit.wait_for(Option::is_some).await;
        // The sender always sends a value before it is dropped.
        ended
            .ok()
            .and_then(|ended| *ended)
            .unwrap_or_else(|| (ExitStatus::from_raw(UNKNOWN), SystemTime::now()))
    }

    fn unless_reaped(&self, act: impl FnOnce(Pid) -> rustix::io::Result<()>) {
        let reaped = self.reaped.lock().unwrap_or_else(PoisonError::into_inner);
        if !*reaped {
            // The process may have ended, which is not an error.
            let _ = act(self.pid);
        }
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.signal_group(Signal::Kill);
        if let Some(waiter) = self.waiter.take() {
            // So that the process no longer writes when its directory is removed.
            let _ = waiter.join();
        }
    }
}

/// Waits for the child without reaping it. Until it is reaped, its pid, which is also the id of its
/// group, is not reused.
fn reap(mut child: Child, pid: Pid, reaped: &Mutex<bool>, sender: &watch::Sender<Option<Ended>>) {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(pid), options) {}
    let ended = SystemTime::now();
    // Usually the group contains only the zombie.
    let _ = kill_process_group(pid, RawSignal::KILL);
    let status = {
        let mut reaped = reaped.lock().unwrap_or_else(PoisonError::into_inner);
        watchdog::ended(child.id());
        let status = child.wait();
        *reaped = true;
        status
    };
    sender.send_replace(Some((
        status.unwrap_or_else(|_| ExitStatus::from_raw(UNKNOWN)),
        ended,
    )));
}

/// Returns the last lines of a log file, for an error message.
pub fn tail(log: &Path, lines: usize) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Returns the error for a program that ended unexpectedly.
pub(crate) fn ended_early(name: &str, status: ExitStatus, log: &Path) -> anyhow::Error {
    anyhow!("{name} ended ({status}):\n{}", tail(log, 20))
}

/// Runs a program without input, and returns its standard output. If the program fails, the error
/// contains all of its output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let failed = |command: &Command| format!("{command:?} failed");
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| failed(command))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{}:\n{text}{errors}",
        failed(command)
    );
    Ok(text)
}
