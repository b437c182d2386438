//! No process outlives the one that started it, however that one ends.

// The tests look into /proc; what they test is not tied to it.
#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use oaat_tests::{Signal, Supervised};

const PATIENCE: Duration = Duration::from_secs(20);

/// Set for the copy of this test binary that is to be killed.
const LOG: &str = "OAAT_TEST_PROCESS_LOG";

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// Whether there is still such a process; one that waits to be reaped is none.
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
async fn the_exit_status_is_the_programs_own() -> Result<()> {
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
async fn the_group_ends_with_its_first_process() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log");
    let process = Supervised::spawn(shell("sleep 60 & echo $!"), &log)?;
    process.wait().await;
    let other = fs::read_to_string(&log)?;
    until("the other process ends", || !lives(&other)).await
}

#[tokio::test]
async fn dropping_the_handle_kills() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let process = Supervised::spawn(shell("exec sleep 60"), &folder.path().join("log"))?;
    let pid = process.pid().to_string();
    assert!(lives(&pid));
    drop(process);
    assert!(!lives(&pid));
    Ok(())
}

#[tokio::test]
async fn killing_the_owner_kills() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log");
    let mut owner = Command::new(std::env::current_exe()?);
    owner.args(["--exact", "owner_to_be_killed"]);
    owner.env(LOG, &log).stdout(Stdio::null());
    // Not by our own means, which would kill the group and prove nothing.
    let mut owner = owner.spawn()?;
    let pid = || fs::read_to_string(&log).unwrap_or_default();
    until("the process says its number", || pid().ends_with('\n')).await?;
    assert!(lives(&pid()));
    owner.kill()?;
    owner.wait()?;
    until("the process ends", || !lives(&pid())).await
}

/// The other half of the test above; by itself it does nothing.
#[test]
fn owner_to_be_killed() -> Result<()> {
    let Some(log) = std::env::var_os(LOG) else {
        return Ok(());
    };
    let process = Supervised::spawn(shell("exec sleep 60"), Path::new(&log))?;
    // Only now is the process sure to be watched.
    fs::write(&log, format!("{}\n", process.pid()))?;
    std::thread::sleep(PATIENCE);
    Ok(())
}
