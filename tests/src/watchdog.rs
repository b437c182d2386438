//! Cleans up after this process if it cannot do so itself.
//!
//! `Drop` does not run if a process is killed with SIGKILL, nor for a `static`, and a test binary
//! keeps its control plane in a `static`. Therefore a shell waits at the other end of a pipe. It
//! receives every process group and every temporary directory. When the pipe breaks because its
//! owner has ended for any reason, it kills the remaining groups and removes the remaining
//! directories.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Groups are numbers and are kept in one string. Directories may contain any character, and are
/// kept in the positional parameters.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
groups=' '
set --
while read -r what value; do
  case $what in
    started) groups="$groups$value " ;;
    ended)
      case $groups in
        *" $value "*) groups="${groups%%" $value "*} ${groups#*" $value "}" ;;
      esac ;;
    folder) set -- "$@" "$value" ;;
  esac
done
for group in $groups; do kill -s KILL -- "-$group"; done
if [ $# -gt 0 ]; then rm -rf -- "$@" || { sleep 1; rm -rf -- "$@"; }; fi
"#;

struct Watchdog {
    pipe: ChildStdin,
    // The shell is never waited for, because it outlives this process by design.
    _shell: Child,
}

static WATCHDOG: Mutex<Option<Watchdog>> = Mutex::new(None);

/// Registers a process group.
pub(crate) fn started(group: u32) -> io::Result<()> {
    tell(&format!("started {group}\n"))
}

/// Starts the watchdog before anything is registered.
pub(crate) fn ready() -> io::Result<()> {
    tell("\n")
}

/// Removes a process group that has ended, because its id may be reused.
pub(crate) fn ended(group: u32) {
    // If this fails, the watchdog has ended and kills nothing.
    let _ = tell(&format!("ended {group}\n"));
}

/// Registers a directory to be removed after the end of this process.
pub(crate) fn folder(path: &Path) -> io::Result<()> {
    tell(&format!("folder {}\n", path.display()))
}

fn tell(line: &str) -> io::Result<()> {
    let mut watchdog = lock();
    if watchdog.is_none() {
        *watchdog = Some(start()?);
    }
    match watchdog.as_mut() {
        Some(running) => running.pipe.write_all(line.as_bytes()),
        None => Ok(()),
    }
}

fn lock() -> MutexGuard<'static, Option<Watchdog>> {
    // A panic in another thread does not affect the pipe.
    WATCHDOG.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start() -> io::Result<Watchdog> {
    let mut shell = Command::new("/bin/sh")
        .arg("-c")
        .arg(SCRIPT)
        // A separate group, so that Ctrl-C in the terminal does not reach it.
        .process_group(0)
        .current_dir("/")
        .stdin(Stdio::piped())
        // Inherited streams would keep a caller's pipe open after the end of this process.
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let pipe = shell
        .stdin
        .take()
        .ok_or_else(|| io::Error::other("the watchdog has no stdin"))?;
    Ok(Watchdog {
        pipe,
        _shell: shell,
    })
}
