//! `cargo xtask e2e`: the cases on a real node, after making sure that this machine can be one.

use crate::{build, built, cargo, finish, tools};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// The exit status that says that this machine cannot run it.
const CANNOT: u8 = 3;

/// What a node is made of, beside what is built, and Debian's packages of it.
const PROGRAMS: &[(&str, &str)] = &[
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("busybox", "busybox-static"),
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
];
/// A program of the package containernetworking-plugins, which is on nobody's PATH.
const PLUGIN: [&str; 2] = ["/usr/lib/cni/ptp", "/opt/cni/bin/ptp"];

/// How it is asked for.
pub struct Options {
    /// Only cases with this in their name.
    pub filter: Option<String>,
    /// A machine that cannot run it is no failure.
    pub if_possible: bool,
    /// The folder with all logs stays.
    pub keep: bool,
}

/// Runs the cases, or says in one sentence why not.
pub fn run(options: &Options) -> Result<ExitCode> {
    if let Err(why) = able() {
        eprintln!("real node: not tested on this machine: {why:#}");
        return Ok(match options.if_possible {
            true => ExitCode::SUCCESS,
            false => ExitCode::from(CANNOT),
        });
    }
    tools::side_by_side(true, &build(&[]))?;
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

/// Builds the test program and says where it is.
fn test_program() -> Result<PathBuf> {
    let output = cargo()
        .args(["test", "--workspace", "--test", "real_node", "--no-run"])
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(Stdio::inherit())
        .output()
        .context("cargo cannot be started")?;
    if !output.status.success() {
        bail!("the tests do not build; cargo's messages above say why");
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        // The crate's programs are built as well.
        .filter(|message| message["target"]["name"] == "real_node")
        .find_map(|message| Some(PathBuf::from(message["executable"].as_str()?)))
        .context("cargo built the tests and does not say where they are")
}

/// Whether this machine can be a node; installs what is missing where that is possible.
fn able() -> Result<()> {
    if !cfg!(target_os = "linux") {
        bail!("a real node needs Linux");
    }
    let user = Command::new("id").arg("-u").output();
    if !user.is_ok_and(|user| user.stdout.trim_ascii() == b"0") {
        bail!("a real node needs root");
    }
    let users = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    if !users.split_whitespace().eq(["0", "0", "4294967295"]) {
        bail!("a real node needs the machine's root, and this is root of a user namespace");
    }
    if !succeeds(Command::new("unshare").args(["--pid", "--fork", "--mount", "--net", "true"])) {
        bail!("this root may not make namespaces, as in a container without privileges");
    }
    let probe = cgroups().join(format!("oaat-e2e-probe-{}", std::process::id()));
    std::fs::create_dir(&probe)
        .and_then(|()| std::fs::remove_dir(&probe))
        .context("cgroups cannot be made")?;
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    install(&missing)
}

/// Where a new cgroup can be tried: in the hierarchy of memory, or the only one.
fn cgroups() -> PathBuf {
    let root = PathBuf::from("/sys/fs/cgroup");
    let memory = root.join("memory");
    if memory.is_dir() { memory } else { root }
}

/// The packages of what is not there.
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

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|folder| folder.join(program).is_file())
}

/// Installs Debian packages, without starting what they would start.
fn install(packages: &[&str]) -> Result<()> {
    let names = packages.join(", ");
    if !on_path("apt-get") {
        bail!("these are missing, and there is no apt-get to install them: {names}");
    }
    eprintln!("real node: installing {names}");
    let had_containerd = on_path("containerd");
    let apt = || {
        let mut apt = Command::new("apt-get");
        apt.args(["-y", "-qq"])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::null());
        apt
    };
    // Without fresh lists the install may still find what it needs.
    succeeds(apt().arg("update"));
    let mut install = apt();
    install
        .args(["install", "--no-install-recommends"])
        .args(packages);
    if !succeeds(&mut install) || !missing().is_empty() {
        bail!("these are missing, and apt-get cannot install them: {names}");
    }
    if !had_containerd && Path::new("/run/systemd/system").is_dir() {
        // Only its program is wanted.
        succeeds(Command::new("systemctl").args(["disable", "--quiet", "--now", "containerd"]));
    }
    Ok(())
}

fn succeeds(command: &mut Command) -> bool {
    command.status().is_ok_and(|status| status.success())
}
