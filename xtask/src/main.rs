//! The commands of this repository. `cargo xtask --help` lists them.

mod archive;
mod cross;
mod demo;
mod fuzz;
mod image;
mod manifests;
mod packages;
mod progress;
mod real_node;
mod release;
mod test;
mod tools;
mod tour;
mod upgrade;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use control_plane::ControllerManager::Required;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use xtask::{BenchOptions, ChaosOptions, DemoOptions, ScreenshotsOptions};

/// Developer commands for this repository.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run the README's quick start with the operator on a local control plane.
    Demo(DemoOptions),
    /// Run all tests except those on a real node. Arguments after `--` are passed to cargo test.
    Test {
        /// Run only the tests that need no cluster, and 300 simulated histories of each kind.
        #[arg(long)]
        quick: bool,
        /// Run the end-to-end tests with this release of Kubernetes, such as 1.31 (its latest patch
        /// release) or 1.31.13. The first build of its servers takes 5 to 10 minutes.
        #[arg(long, value_name = "RELEASE", conflicts_with = "quick")]
        kubernetes: Option<String>,
        /// Arguments for cargo test.
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Run the tests on a real node (kubelet and containerd). Requires root on Linux. Installs
    /// missing Debian packages. Exits with 3 if this machine cannot run a node.
    RealNode(real_node::Options),
    /// Install the operator from its chart on a real node, make an item fail, and show how the alert,
    /// kubectl oaat, and the dashboard help to diagnose and fix it. Requires root on Linux.
    Tour {
        /// The directory to write the screenshots to.
        #[arg(long, default_value = "target/tour")]
        screenshots: PathBuf,
    },
    /// Run the benchmarks in a release build.
    Bench(BenchOptions),
    /// Kill and freeze operators, break their connections, and kill the API server and etcd. Prints
    /// the numbers of kills, runs, and violations.
    Chaos(ChaosOptions),
    /// Fuzz the parsers of user input (components, lists, JSON paths, schedules, annotations, and
    /// objects), and run all components that attack the compiler.
    Fuzz {
        /// The total duration in minutes.
        #[arg(long, default_value_t = 10)]
        minutes: u64,
        /// Fuzz only this target: attacks (all components that attack the compiler), components,
        /// lists, paths, schedules, annotations, or objects.
        #[arg(long)]
        target: Option<String>,
        /// Repeat the cases of this seed. A failing run prints its seed.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Build the operator of the previous release, and test the upgrade from it and back while items
    /// run. The first build takes 10 to 20 minutes.
    Upgrade {
        /// The tag or commit to upgrade from. The default is the latest release tag.
        #[arg(long)]
        from: Option<String>,
    },
    /// Write manifests/01-oaat-operator-crd.yaml from the API types, copy it into the chart, and
    /// render the other manifests of the operator from the chart.
    Manifests {
        /// Write nothing, and fail if a file is out of date.
        #[arg(long)]
        check: bool,
    },
    /// Write the generated pages of docs/, and build the book into target/book.
    Docs,
    /// Simulate the orders in policies/gallery, and write their pictures of a week.
    Gallery,
    /// Write the policies of this release, with recorded decisions, as fixtures for later releases.
    /// Run once for each version of the contract.
    Freeze,
    /// Write the operator's image as an archive that any container runtime can load.
    Image {
        /// The file to write.
        #[arg(long, default_value = "target/oaat-operator.tar")]
        output: PathBuf,
    },
    /// Update the dashboard screenshots in docs/screenshots.
    Screenshots(ScreenshotsOptions),
    /// Write the files of a release: images and kubectl plugins for x86_64 and aarch64, the chart,
    /// manifests, and their digests. The build optimizes for size, so the first one takes a long time.
    Release(release::Options),
    /// Install or build what the other commands need, except for `real-node`.
    Tools,
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Demo(options) => demo::run(&options),
        Task::Test {
            quick,
            kubernetes,
            arguments,
        } => test::run(quick, kubernetes.as_deref(), arguments),
        Task::RealNode(options) => real_node::run(&options),
        Task::Tour { screenshots } => tour::run(&screenshots),
        Task::Bench(_) => {
            tools::build_with_control_plane(
                Some(Required),
                &[&build(&["bench"])[..], &["--release"]].concat(),
            )?;
            start("release", "bench")
        }
        Task::Chaos(_) => {
            tools::build_with_control_plane(Some(Required), &build(&["chaos"]))?;
            start("debug", "chaos")
        }
        Task::Fuzz {
            minutes,
            target,
            seed,
        } => fuzz::run(minutes, target.as_deref(), seed),
        Task::Upgrade { from } => upgrade::run(from.as_deref()),
        Task::Manifests { check } => manifests::run(check),
        Task::Docs => {
            tools::build_with_control_plane(None, &build(&["docs"]))?;
            start("debug", "docs")
        }
        Task::Gallery => {
            tools::wasm_target()?;
            let mut gallery = cargo();
            // The whole workspace, so that dependencies are not built again with other features.
            gallery.args(["test", "--workspace", "--test", "gallery", "pictures"]);
            finish(gallery.env("OAAT_WRITE_GALLERY", "1"))
        }
        Task::Freeze => {
            tools::wasm_target()?;
            finish(cargo().args(["run", "--package", "oaat-bench", "--bin", "freeze"]))
        }
        Task::Image { output } => {
            tools::wasm_target()?;
            image::write(&output)?;
            Ok(ExitCode::SUCCESS)
        }
        Task::Screenshots(_) => {
            tools::ensure_browser()?;
            tools::build_with_control_plane(
                Some(Required),
                &build(&["kubectl-oaat", "screenshots"]),
            )?;
            start("debug", "screenshots")
        }
        Task::Release(options) => release::run(&options),
        Task::Tools => tools::install_all(),
    }
}

/// Returns the arguments with which cargo builds the operator and other programs.
fn build<'a>(programs: &[&'a str]) -> Vec<&'a str> {
    // The whole workspace, so that dependencies have the same features and are not built again.
    let mut arguments = vec!["build", "--workspace", "--bin", "oaat-operator"];
    for program in programs {
        arguments.extend(["--bin", program]);
    }
    arguments
}

/// Returns the root of the repository.
fn root() -> PathBuf {
    // The variable of the running cargo, because the binary may be from another checkout.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.parent().map_or(manifest.clone(), Path::to_owned)
}

/// Returns a command for the current cargo in the root of the repository.
fn cargo() -> Command {
    let mut cargo = control_plane::cargo();
    cargo.current_dir(root());
    cargo
}

/// Returns the path of a program that cargo built.
fn built(profile: &str, name: &str) -> PathBuf {
    target().join(profile).join(name)
}

/// Returns cargo's target directory.
fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// Starts a program that cargo built, with the operator and the options of the task.
fn start(profile: &str, program: &str) -> Result<ExitCode> {
    let mut command = Command::new(built(profile, program));
    command.env("OAAT_OPERATOR_BINARY", built(profile, "oaat-operator"));
    finish(command.args(std::env::args_os().skip(2)))
}

/// Replaces this process with a command, so that signals reach the command itself. Returns only if
/// that fails.
fn finish(command: &mut Command) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt;
    let error = command.exec();
    Err(error).with_context(|| format!("failed to start {}", command.get_program().display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    #[test]
    fn each_task_answers_help_without_a_build() {
        let help = |task: &str| {
            let parsed = Cli::try_parse_from(["xtask", task, "--help"]);
            parsed.err().unwrap_or_else(|| panic!("{task} starts"))
        };
        for task in Cli::command().get_subcommands() {
            let help = help(task.get_name());
            assert_eq!(help.kind(), ErrorKind::DisplayHelp, "{help}");
        }
        // The options of a program that is built first.
        let bench = help("bench").to_string();
        assert!(bench.contains("--only <ONLY>"), "{bench}");
        assert!(bench.contains("windows-and-lists"), "{bench}");
    }
}
