//! Child processes that never outlive us.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::SystemTime;

use anyhow::{Context, Result, anyhow};
use rustix::process::{
    Pid, Signal as RawSignal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid,
};
use tokio::sync::watch;

use crate::watchdog;

/// The signals that tests send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Please stop.
    Term,
    /// Ctrl-C.
    Interrupt,
    /// No questions asked.
    Kill,
    /// Freeze, as on a machine that stalls.
    Stop,
    /// Go on after [`Signal::Stop`].
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

/// How and when a process ended.
type Ended = (ExitStatus, SystemTime);

/// What is said of a process whose end nobody saw.
const UNKNOWN: i32 = 0xff00;

/// A child process in a process group of its own.
///
/// The whole group is killed when its first process ends (as a container ends
/// with its first process), when this handle is dropped, and when the process
/// that holds the handle goes away in any manner, SIGKILL included. (But for the
/// few microseconds until [`Supervised::spawn`] has told the watchdog: who is
/// killed right then leaves a process behind. Closing that gap would cost every
/// start a shell.)
///
/// It needs no async runtime and belongs to none, so one that is kept in a
/// `static` works from every test of a binary.
#[derive(Debug)]
pub struct Supervised {
    pid: Pid,
    /// True once the pid may belong to somebody else.
    reaped: Arc<Mutex<bool>>,
    exit: watch::Receiver<Option<Ended>>,
    waiter: Option<JoinHandle<()>>,
}

impl Supervised {
    /// Starts `command` without input and appends its output to the file `log`.
    ///
    /// # Errors
    /// If the program or the log file is not to be had.
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

    /// Starts `command` with the input and output that it already has.
    pub(crate) fn spawn_as_is(command: &mut Command) -> io::Result<Self> {
        watchdog::ready()?;
        let mut child = command.process_group(0).spawn()?;
        let pid = Pid::from_child(&child);
        if let Err(error) = watchdog::started(child.id()) {
            // Unwatched it could outlive us.
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

    /// The process id of the program itself, not of a wrapper.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Whether it has not ended yet.
    pub fn is_running(&self) -> bool {
        self.exit.borrow().is_none()
    }

    /// How it ended, if it has.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.exit.borrow().map(|(status, _)| status)
    }

    /// Sends a signal to the program; does nothing if that has ended.
    pub fn signal(&self, signal: Signal) {
        self.unless_reaped(|pid| kill_process(pid, signal.raw()));
    }

    /// Sends a signal to the program and everything it has started.
    pub fn signal_group(&self, signal: Signal) {
        self.unless_reaped(|pid| kill_process_group(pid, signal.raw()));
    }

    /// Kills the program and everything it has started, and waits for the end.
    pub async fn kill(&self) -> ExitStatus {
        self.signal_group(Signal::Kill);
        self.wait().await
    }

    /// Waits until the program ends. Its code and signal are its own.
    pub async fn wait(&self) -> ExitStatus {
        self.ended().await.0
    }

    /// As [`Self::wait`], with the time of the end, which may be well before
    /// the time that anybody asks.
    pub async fn ended(&self) -> Ended {
        let mut exit = self.exit.clone();
        let ended = exit.wait_for(Option::is_some).await;
        // The sender says something before it goes, so there is no other case.
        ended
            .ok()
            .and_then(|ended| *ended)
            .unwrap_or_else(|| (ExitStatus::from_raw(UNKNOWN), SystemTime::now()))
    }

    fn unless_reaped(&self, act: impl FnOnce(Pid) -> rustix::io::Result<()>) {
        let reaped = self.reaped.lock().unwrap_or_else(PoisonError::into_inner);
        if !*reaped {
            // It may have ended, which is all the same to the sender.
            let _ = act(self.pid);
        }
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.signal_group(Signal::Kill);
        if let Some(waiter) = self.waiter.take() {
            // So that whoever removes its folder next is not in its way.
            let _ = waiter.join();
        }
    }
}

/// Waits for the child without reaping it: as long as it is not reaped, its
/// number, which is that of its group as well, belongs to nobody else.
fn reap(mut child: Child, pid: Pid, reaped: &Mutex<bool>, sender: &watch::Sender<Option<Ended>>) {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(pid), options) {}
    let ended = SystemTime::now();
    // Empty but for the zombie, most of the time.
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

/// The last lines of a log file, for an error message.
pub fn tail(log: &Path, lines: usize) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// The error for a program that ended although it should be running.
pub(crate) fn ended_early(name: &str, status: ExitStatus, log: &Path) -> anyhow::Error {
    anyhow!("{name} ended ({status}):\n{}", tail(log, 20))
}
