//! The tools that the other commands need in addition to Rust: the wasm target, a control plane,
//! Helm, promtool, Alertmanager, a browser, and Zig.

use crate::archive::hex;
use crate::{built, cargo, packages, progress, root};
use anyhow::{Context, Result, bail};
use control_plane::{ControllerManager, HelmTools};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread;

const TARGET: &str = "wasm32-unknown-unknown";
/// The version of Zig, as requirements for pip.
const ZIG: &str = include_str!("../zig.txt");

/// Installs or builds what the commands need, except what a real node needs.
pub fn install_all() -> Result<ExitCode> {
    // It takes as long as the other programs.
    let programs = thread::spawn(|| {
        browser();
        c_tools();
    });
    build_with_control_plane(Some(ControllerManager::Required), &["fetch"])?;
    helm()?;
    monitoring()?;
    if programs.join().is_err() {
        bail!("the thread that installs packages panicked");
    }
    Ok(ExitCode::SUCCESS)
}

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
        .context("failed to start rustc; install Rust with rustup")?;
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

/// Finds Zig, which contains a C compiler for all architectures, or installs it into the cache with
/// pip. Returns its path.
pub(crate) fn zig() -> Result<String> {
    let cache = control_plane::cache_directory()
        .context("found no cache directory for Zig; set HOME, XDG_CACHE_HOME, or OAAT_CACHE_DIR")?;
    let folder = cache.join(format!("zig-{}", &hex(ZIG.as_bytes())[..16]));
    let program = folder.join("ziglang/zig").display().to_string();
    if program.contains(char::is_whitespace) {
        bail!(
            "{program}: the path of the C compiler has a space; set OAAT_CACHE_DIR to another directory"
        );
    }
    if folder.is_dir() {
        return Ok(program);
    }
    eprintln!("installing Zig into {}", folder.display());
    // Renamed when it is complete.
    let unfinished = cache.join(format!("zig-unfinished-{}", std::process::id()));
    let installed = Command::new("python3")
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--require-hashes",
        ])
        .arg("--requirement")
        .arg(root().join("xtask/zig.txt"))
        .arg("--target")
        .arg(&unfinished)
        .status();
    if !installed.is_ok_and(|status| status.success()) {
        let _ = std::fs::remove_dir_all(&unfinished);
        bail!(
            "failed to install Zig with pip; install Python 3 with pip (Debian: python3-pip), or set \
             CC_x86_64_unknown_linux_musl and CC_aarch64_unknown_linux_musl to C compilers"
        );
    }
    // Another process may have been faster.
    if std::fs::rename(&unfinished, &folder).is_err() {
        let _ = std::fs::remove_dir_all(&unfinished);
    }
    Ok(program)
}

/// Finds or builds kubelet and kube-scheduler, and shows the progress.
pub fn node() -> Result<()> {
    run_with_progress("real node", |progress| control_plane::ensure_node(progress)).map(drop)
}

/// Finds or builds Helm and helm-unittest, and shows the progress.
pub fn helm() -> Result<HelmTools> {
    run_with_progress("helm", |progress| control_plane::ensure_helm(progress))
}

/// Finds or builds promtool and Alertmanager, and shows the progress.
pub fn monitoring() -> Result<()> {
    run_with_progress("promtool", |progress| {
        control_plane::ensure_promtool(progress)
    })?;
    run_with_progress("alertmanager", |progress| {
        control_plane::ensure_alertmanager(progress)
    })
    .map(drop)
}

/// Installs Chromium and chromedriver if they are missing and this process may install packages.
/// Otherwise, prints what is missing. Without them, the tests in a browser are skipped, except in CI.
pub fn browser() {
    if let Err(error) = ensure_browser() {
        eprintln!("the browser tests need programs that are {error:#}");
    }
}

/// Finds Chromium and chromedriver, or installs them.
pub fn ensure_browser() -> Result<()> {
    let Err(missing) = control_plane::locate_browser() else {
        return Ok(());
    };
    if !packages::is_root() || !packages::on_path("apt-get") {
        return Err(missing);
    }
    packages::install(&["chromium", "chromium-driver"])?;
    control_plane::locate_browser().map(drop)
}

/// Installs the programs that build policies in C if they are missing. Prints what is missing if this
/// process may not install packages. Without these programs, the tests of policies in C are skipped,
/// except in CI.
pub fn c_tools() {
    let Err(missing) = control_plane::check_c_tools() else {
        return;
    };
    let installed = if packages::is_root() && packages::on_path("apt-get") {
        packages::install(&["clang", "lld", "make"])
    } else {
        Err(missing)
    };
    if let Err(error) = installed {
        eprintln!("the tests of policies in C need programs that are {error:#}");
    }
}

/// Finds or builds Prometheus, and shows the progress.
pub fn prometheus() -> Result<()> {
    run_with_progress("Prometheus", |progress| {
        control_plane::ensure_prometheus(progress)
    })
    .map(drop)
}

/// Finds or builds the servers of a release of Kubernetes, shows the progress, and returns their
/// directory.
pub fn release_servers(release: &str) -> Result<PathBuf> {
    let release = release.to_owned();
    run_with_progress("control plane", move |progress| {
        control_plane::ensure_release(&release, progress)
    })
}

/// Runs `build` in a thread and shows the lines that it reports.
fn run_with_progress<T: Send + 'static>(
    name: &'static str,
    build: impl FnOnce(&dyn Fn(&str)) -> Result<T> + Send + 'static,
) -> Result<T> {
    let (sender, lines) = channel();
    let build = thread::spawn(move || {
        build(&|line| {
            let _ = sender.send((name, line.to_owned()));
        })
    });
    progress::show(&lines);
    build
        .join()
        .unwrap_or_else(|_| bail!("the thread that builds the programs of the {name} panicked"))
}

/// Finds or builds the control plane while cargo runs, and shows the progress of both. This takes
/// seconds with warm caches, and minutes the first time.
pub fn build_with_control_plane(
    control_plane: Option<ControllerManager>,
    arguments: &[&str],
) -> Result<()> {
    wasm_target()?;
    if !built("debug", "oaat-operator").exists() {
        eprintln!(
            "The first build takes 10 to 30 minutes on two cores. Most of that is the operator's \
             WebAssembly compiler, etcd, and kube-apiserver. Later builds take seconds."
        );
    }
    let (sender, lines) = channel();
    let build = control_plane.map(|controller_manager| {
        let sender = sender.clone();
        thread::spawn(move || {
            let report = |line: &str| {
                let _ = sender.send(("control plane", line.to_owned()));
            };
            let result = control_plane::ensure(controller_manager, &report).map(|_| ());
            report("ready");
            result
        })
    });
    let mut command = cargo();
    command.args(arguments);
    let rust = thread::spawn(move || compile(command, &sender));
    progress::show(&lines);
    let rust = rust
        .join()
        .unwrap_or_else(|_| bail!("the thread that runs cargo panicked"));
    let build = build.map(thread::JoinHandle::join).transpose();
    // An error of cargo first, because it is about this repository.
    rust?;
    match build {
        Ok(Some(result)) => result,
        Ok(None) => Ok(()),
        Err(_) => bail!("the thread that builds the control plane panicked"),
    }
}

/// Runs a command of cargo and shows its progress.
pub fn show_cargo(command: Command) -> Result<()> {
    let (sender, lines) = channel();
    let rust = thread::spawn(move || compile(command, &sender));
    progress::show(&lines);
    rust.join()
        .unwrap_or_else(|_| bail!("the thread that runs cargo panicked"))
}

/// Runs cargo and reports each line of its output. The error contains the complete output.
fn compile(mut command: Command, sender: &Sender<(&'static str, String)>) -> Result<()> {
    command.stderr(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().context("failed to start cargo")?;
    let mut lines = Vec::new();
    if let Some(output) = child.stderr.take() {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let _ = sender.send(("Rust", line.trim().to_owned()));
            lines.push(line);
        }
    }
    if child.wait()?.success() {
        return Ok(());
    }
    bail!("cargo failed:\n{}", lines.join("\n"))
}
