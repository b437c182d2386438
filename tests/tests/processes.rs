//! No process outlives the process that started it, however that one ends.

// The tests read /proc; the tested code does not depend on it.
#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use oaat_tests::{Signal, Supervised};

const PATIENCE: Duration = Duration::from_secs(20);

/// Set for the copy of this test binary that is killed.
const LOG: &str = "OAAT_TEST_PROCESS_LOG";

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// Returns whether a process exists and is not a zombie.
fn lives(pid: &str) -> bool {
    fs::read_to_string(Path::new("/proc").join(pid.trim()).join("stat"))
        .is_ok_and(|stat| !stat.contains(") Z "))
}

async fn until(what: &str, condition: impl Fn() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !condition() {
        ensure!(
            begun.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

#[tokio::test]
async fn exit_status_is_that_of_the_program() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log");
    let process = Supervised::spawn(shell("exit 137"), &log)?;
    assert_eq!(process.wait().await.code(), Some(137));

    let process = Supervised::spawn(shell("exec sleep 60"), &log)?;
    assert!(process.is_running());
    process.signal(Signal::Term);
    assert_eq!(process.wait().await.signal(), Some(15));
    Ok(())
}

#[tokio::test]
async fn process_group_ends_with_its_first_process() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log");
    let process = Supervised::spawn(shell("sleep 60 & echo $!"), &log)?;
    process.wait().await;
    let other = fs::read_to_string(&log)?;
    until("the other process ends", || !lives(&other)).await
}

#[tokio::test]
async fn process_is_killed_when_its_handle_is_dropped() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let process = Supervised::spawn(shell("exec sleep 60"), &folder.path().join("log"))?;
    let pid = process.pid().to_string();
    assert!(lives(&pid));
    drop(process);
    assert!(!lives(&pid));
    Ok(())
}

#[tokio::test]
async fn process_is_killed_when_its_owner_is_killed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log");
    let mut owner = Command::new(std::env::current_exe()?);
    owner.args(["--exact", "process_owner_that_is_killed"]);
    owner.env(LOG, &log).stdout(Stdio::null());
    // Not with the tested code, which would kill the process group and prove nothing.
    let mut owner = owner.spawn()?;
    let pid = || fs::read_to_string(&log).unwrap_or_default();
    until("the process prints its pid", || pid().ends_with('\n')).await?;
    assert!(lives(&pid()));
    owner.kill()?;
    owner.wait()?;
    until("the process ends", || !lives(&pid())).await
}

/// The process that the test above kills. It does nothing by itself.
#[test]
fn process_owner_that_is_killed() -> Result<()> {
    let Some(log) = std::env::var_os(LOG) else {
        return Ok(());
    };
    let process = Supervised::spawn(shell("exec sleep 60"), Path::new(&log))?;
    // From here on, the process is registered with the watchdog.
    fs::write(&log, format!("{}\n", process.pid()))?;
    std::thread::sleep(PATIENCE);
    Ok(())
}
