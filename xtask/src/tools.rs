//! What the other commands need beside Rust: the wasm target, and a control plane.

use crate::{cargo, progress, root};
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread;

const TARGET: &str = "wasm32-unknown-unknown";

/// Installs the target that policies are built for, if it is missing.
pub fn wasm_target() -> Result<()> {
    rust_target(TARGET)
}

/// Installs a target of the toolchain, if it is missing.
pub fn rust_target(target: &str) -> Result<()> {
    let printed = Command::new("rustc")
        .current_dir(root())
        .args(["--print", "target-libdir", "--target", target])
        .output()
        .context("rustc cannot be started; install Rust with rustup")?;
    if Path::new(String::from_utf8_lossy(&printed.stdout).trim()).is_dir() {
        return Ok(());
    }
    eprintln!("installing the Rust target {target}");
    let installed = Command::new("rustup")
        .current_dir(root())
        .args(["target", "add", target])
        .status();
    match installed {
        Ok(status) if status.success() => Ok(()),
        _ => bail!(
            "the Rust target {target} is missing; install it with: rustup target add {target}"
        ),
    }
}

/// Finds or builds kubelet and kube-scheduler, and shows how far that is.
pub fn node() -> Result<()> {
    let (sender, lines) = channel();
    let go = thread::spawn(move || {
        control_plane::ensure_node(&|line| {
            let _ = sender.send(("real node", line.to_owned()));
        })
        .map(drop)
    });
    progress::show(&lines);
    go.join()
        .unwrap_or_else(|_| bail!("the thread that built kubelet and kube-scheduler broke off"))
}

/// Finds or builds the control plane while cargo works, and shows how far both are.
/// With warm caches this takes seconds; the first time it takes minutes.
pub fn side_by_side(control_plane: bool, arguments: &[&str]) -> Result<()> {
    wasm_target()?;
    let (sender, lines) = channel();
    let go = control_plane.then(|| {
        let sender = sender.clone();
        thread::spawn(move || {
            let tell = |line: &str| {
                let _ = sender.send(("control plane", line.to_owned()));
            };
            let found = control_plane::ensure(&tell).map(|_| ());
            tell("ready");
            found
        })
    });
    let mut command = cargo();
    command
        .args(arguments)
        .stderr(Stdio::piped())
        .stdout(Stdio::null());
    let rust = thread::spawn(move || compile(command, &sender));
    progress::show(&lines);
    let rust = rust
        .join()
        .unwrap_or_else(|_| bail!("the thread that ran cargo broke off"));
    let go = go.map(thread::JoinHandle::join).transpose();
    // Cargo's complaint first: it is about this repository.
    rust?;
    match go {
        Ok(Some(found)) => found,
        Ok(None) => Ok(()),
        Err(_) => bail!("the thread that built the control plane broke off"),
    }
}

/// Runs cargo, tells its last line, and shows all of what it said if it fails.
fn compile(mut command: Command, sender: &Sender<(&'static str, String)>) -> Result<()> {
    let mut child = command.spawn().context("cargo cannot be started")?;
    let mut said = Vec::new();
    if let Some(output) = child.stderr.take() {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let _ = sender.send(("Rust", line.trim().to_owned()));
            said.push(line);
        }
    }
    if child.wait()?.success() {
        return Ok(());
    }
    bail!("cargo failed:\n{}", said.join("\n"))
}
