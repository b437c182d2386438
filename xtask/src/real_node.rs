//! `cargo xtask real-node`: runs the tests on a real node, after checking that this machine can be one.

use crate::packages::{self, on_path, succeeds};
use crate::{build, built, cargo, finish, tools};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// The exit status if this machine cannot be a node.
const UNSUPPORTED: u8 = 3;

/// The programs that a node needs, in addition to those that are built, with their Debian packages.
const PROGRAMS: &[(&str, &str)] = &[
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("busybox", "busybox-static"),
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
];
/// The places of a program of the package containernetworking-plugins, which is not on the PATH.
const PLUGIN: [&str; 2] = ["/usr/lib/cni/ptp", "/opt/cni/bin/ptp"];

/// Which tests to run, and what to do if there is no node.
#[derive(clap::Args)]
pub struct Options {
    /// Run only tests whose name contains this text.
    filter: Option<String>,
    /// Exit with 0 if this machine cannot run a node.
    #[arg(long)]
    if_possible: bool,
    /// Keep the directory with the logs of containerd and kubelet.
    #[arg(long)]
    keep: bool,
}

/// Runs the tests, or prints why this machine cannot be a node.
pub fn run(options: &Options) -> Result<ExitCode> {
    if let Err(error) = prepare() {
        eprintln!("skipping the tests on a real node: {error:#}");
        return Ok(if options.if_possible {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(UNSUPPORTED)
        });
    }
    tools::build_with_control_plane(
        Some(control_plane::ControllerManager::Required),
        &build(&[]),
    )?;
    tools::node()?;
    let test = test_program()?;
    let mut command = Command::new(test);
    command
        .env("OAAT_REAL_NODE", "1")
        .env("OAAT_OPERATOR_BINARY", built("debug", "oaat-operator"))
        .args(&options.filter);
    if options.keep {
        command.env("OAAT_REAL_NODE_KEEP", "1");
    }
    finish(&mut command)
}

/// Builds the test program and returns its path.
fn test_program() -> Result<PathBuf> {
    let output = cargo()
        .args(["test", "--workspace", "--test", "real_node", "--no-run"])
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(Stdio::inherit())
        .output()
        .context("failed to start cargo")?;
    if !output.status.success() {
        bail!("failed to build the tests; see the cargo output above");
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        // Cargo builds the programs of the crate as well.
        .filter(|message| message["target"]["name"] == "real_node")
        .find_map(|message| Some(PathBuf::from(message["executable"].as_str()?)))
        .context("cargo did not print the path of the test program")
}

/// Checks that this machine can be a node, and installs missing packages.
pub fn prepare() -> Result<()> {
    if !cfg!(target_os = "linux") {
        bail!("a real node needs Linux");
    }
    if !packages::is_root() {
        bail!("a real node needs root");
    }
    let users = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    if !users.split_whitespace().eq(["0", "0", "4294967295"]) {
        bail!("a real node needs root outside of user namespaces");
    }
    if !succeeds(Command::new("unshare").args(["--pid", "--fork", "--mount", "--net", "true"])) {
        bail!("failed to create namespaces; a container must be privileged");
    }
    let probe = cgroups().join(format!("oaat-node-probe-{}", std::process::id()));
    std::fs::create_dir(&probe)
        .and_then(|()| std::fs::remove_dir(&probe))
        .context("failed to create a cgroup")?;
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    install(&missing)
}

/// Returns the cgroup hierarchy for the check: that of memory, or the only one.
fn cgroups() -> PathBuf {
    let root = PathBuf::from("/sys/fs/cgroup");
    let memory = root.join("memory");
    if memory.is_dir() { memory } else { root }
}

/// Returns the packages of the missing programs.
fn missing() -> Vec<&'static str> {
    let mut missing: Vec<_> = PROGRAMS
        .iter()
        .filter(|(program, _)| !on_path(program))
        .map(|(_, package)| *package)
        .collect();
    if !PLUGIN.iter().any(|plugin| Path::new(plugin).exists()) {
        missing.push("containernetworking-plugins");
    }
    missing.dedup();
    missing
}

/// Installs Debian packages, without starting what they would start.
fn install(packages: &[&str]) -> Result<()> {
    let had_containerd = on_path("containerd");
    packages::install(packages)?;
    let still_missing = missing();
    if !still_missing.is_empty() {
        bail!(
            "still missing after the installation: {}",
            still_missing.join(", ")
        );
    }
    if !had_containerd && Path::new("/run/systemd/system").is_dir() {
        // Only the program is needed, not the service.
        succeeds(Command::new("systemctl").args(["disable", "--quiet", "--now", "containerd"]));
    }
    Ok(())
}
