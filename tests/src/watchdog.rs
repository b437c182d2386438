//! Cleans up after this process when it can no longer do so itself.
//!
//! `Drop` does not run when a process is killed with SIGKILL, nor for a
//! `static`, and a test binary keeps its control plane in a `static`. So a
//! little shell waits at the other end of a pipe. It is told of every process
//! group and every temporary folder, and when the pipe breaks, because its
//! owner is gone for whatever reason, it kills the groups and removes the
//! folders that are left.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Groups are numbers and live in one string; folders may hold any character
/// and live in the positional parameters.
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
    // Never waited for: it outlives us by design.
    _shell: Child,
}

static WATCHDOG: Mutex<Option<Watchdog>> = Mutex::new(None);

/// The watchdog must know of this process group from now on.
pub(crate) fn started(group: u32) -> io::Result<()> {
    tell(&format!("started {group}\n"))
}

/// Makes sure that the watchdog runs, before there is anything to watch.
pub(crate) fn ready() -> io::Result<()> {
    tell("\n")
}

/// The group is gone, and its number may soon be somebody else's.
pub(crate) fn ended(group: u32) {
    // A watchdog that cannot be told is gone, and kills nobody.
    let _ = tell(&format!("ended {group}\n"));
}

/// The folder is to be removed when we are gone.
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
    // A panic elsewhere leaves the pipe as good as it was.
    WATCHDOG.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start() -> io::Result<Watchdog> {
    let mut shell = Command::new("/bin/sh")
        .arg("-c")
        .arg(SCRIPT)
        // A group of its own, out of reach of the terminal's Ctrl-C.
        .process_group(0)
        .current_dir("/")
        .stdin(Stdio::piped())
        // Inherited ones would keep a caller's pipe open after we are gone.
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
