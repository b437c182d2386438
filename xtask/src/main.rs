//! The commands of this repository. `cargo xtask --help` lists them.

mod e2e;
mod fuzz;
mod image;
mod progress;
mod tools;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The commands of this repository.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Show the main job: a control plane, the operator, and the README's quick start.
    Demo {
        /// End with exit status 0 once every item has succeeded.
        #[arg(long)]
        once: bool,
        /// Use this context of your kubeconfig, and the nodes of that cluster, instead
        /// of a control plane of our own.
        #[arg(long)]
        context: Option<String>,
        /// Let this policy decide: a component, as `kubectl-oaat policy build` writes it. It is
        /// shipped in a ConfigMap and swapped while the group runs.
        #[arg(long)]
        policy: Option<PathBuf>,
    },
    /// Run every test. What follows `--` goes to cargo test.
    Test {
        /// Arguments for cargo test.
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Run the cases on a real node (kubelet, containerd) as root on Linux, which installs the
    /// Debian packages that are missing. Exit status 3: this machine cannot be a node.
    E2e {
        /// Only the cases with this in their name.
        filter: Option<String>,
        /// Where the machine cannot be a node, say so and exit with 0.
        #[arg(long)]
        if_possible: bool,
        /// Keep the folder with the logs of containerd and kubelet.
        #[arg(long)]
        keep: bool,
    },
    /// Measure, in a release build, on this machine.
    Bench {
        /// Runs per group measurement.
        #[arg(long, default_value_t = 300)]
        runs: usize,
        /// Measure this alone: decision, attacks, handover, policies, hostile, election, recovery,
        /// or wishes.
        #[arg(long)]
        only: Option<String>,
    },
    /// Kill and freeze operators, break their connections, and kill API server and etcd, for as
    /// long as one likes; prints kills, runs, violations.
    Chaos {
        /// How long.
        #[arg(long, default_value_t = 5)]
        minutes: u64,
        /// Where chance begins.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Give what users write, changed at random, to whatever reads it: components, lists, JSON
    /// paths, schedules, annotations, and objects, one after the other.
    Fuzz {
        /// How long in all.
        #[arg(long, default_value_t = 10)]
        minutes: u64,
        /// This target alone: attacks (all components made against the compiler), components,
        /// lists, paths, schedules, annotations, or objects.
        #[arg(long)]
        target: Option<String>,
        /// Repeat the cases of this seed, which a failure names.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Write the generated manifests.
    Manifests,
    /// Keep the components of this release's policies, with their answers, as fixtures: once
    /// for each version of the contract.
    Freeze,
    /// Write the operator's image as an archive that any container runtime loads.
    Image {
        /// Where to.
        #[arg(long, default_value = "target/oaat-operator.tar")]
        output: PathBuf,
    },
    /// Install or build what the other commands need, and nothing else.
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
        Task::Demo {
            once,
            context,
            policy,
        } => {
            tools::side_by_side(context.is_none(), &build(&["demo"]))?;
            let mut demo = Command::new(built("debug", "demo"));
            demo.env("OAAT_OPERATOR_BINARY", built("debug", "oaat-operator"));
            demo.args(once.then_some("--once"));
            if let Some(context) = context {
                demo.args(["--context", &context]);
            }
            if let Some(policy) = policy {
                demo.arg("--policy").arg(policy);
            }
            finish(&mut demo)
        }
        Task::Test { arguments } => {
            tools::side_by_side(true, &["test", "--workspace", "--no-run"])?;
            // One failure says little about the rest: all are told.
            finish(
                cargo()
                    .args(["test", "--workspace", "--no-fail-fast"])
                    .args(arguments),
            )
        }
        Task::E2e {
            filter,
            if_possible,
            keep,
        } => e2e::run(&e2e::Options {
            filter,
            if_possible,
            keep,
        }),
        Task::Bench { runs, only } => {
            tools::side_by_side(true, &[&build(&["bench"])[..], &["--release"]].concat())?;
            let mut bench = Command::new(built("release", "bench"));
            bench.env("OAAT_OPERATOR_BINARY", built("release", "oaat-operator"));
            bench.args(["--runs", &runs.to_string()]);
            if let Some(only) = only {
                bench.args(["--only", &only]);
            }
            finish(&mut bench)
        }
        Task::Chaos { minutes, seed } => {
            tools::side_by_side(true, &build(&["chaos"]))?;
            let mut chaos = Command::new(built("debug", "chaos"));
            chaos.env("OAAT_OPERATOR_BINARY", built("debug", "oaat-operator"));
            chaos.args(["--minutes", &minutes.to_string()]);
            if let Some(seed) = seed {
                chaos.args(["--seed", &seed.to_string()]);
            }
            finish(&mut chaos)
        }
        Task::Fuzz {
            minutes,
            target,
            seed,
        } => fuzz::run(minutes, target.as_deref(), seed),
        Task::Manifests => manifests(),
        Task::Freeze => {
            tools::wasm_target()?;
            finish(cargo().args(["run", "--package", "oaat-tests", "--bin", "freeze"]))
        }
        Task::Image { output } => {
            tools::wasm_target()?;
            image::write(&output)?;
            Ok(ExitCode::SUCCESS)
        }
        Task::Tools => {
            tools::side_by_side(true, &["fetch"])?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn manifests() -> Result<ExitCode> {
    tools::wasm_target()?;
    let printed = cargo()
        .args(["run", "--quiet", "--package", "oaat-operator", "--", "crd"])
        .stderr(std::process::Stdio::inherit())
        .output()?;
    if !printed.status.success() {
        bail!("the operator did not print its CRDs");
    }
    let file = root().join("manifests/01-oaat-operator-crd.yaml");
    std::fs::write(&file, printed.stdout).with_context(|| file.display().to_string())?;
    println!("wrote {}", file.display());
    Ok(ExitCode::SUCCESS)
}

/// Returns the arguments with which cargo builds the operator and other programs.
fn build<'a>(programs: &[&'a str]) -> Vec<&'a str> {
    // The whole workspace decides on the features of dependencies. With a part of it, they would
    // be built again.
    let mut arguments = vec!["build", "--workspace", "--bin", "oaat-operator"];
    for program in programs {
        arguments.extend(["--bin", program]);
    }
    arguments
}

/// The root of the repository.
fn root() -> PathBuf {
    // Cargo says where it runs this now; where it was built may be another checkout.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.parent().map_or(manifest.clone(), Path::to_owned)
}

/// The cargo that runs this.
fn cargo() -> Command {
    let mut cargo = control_plane::cargo();
    cargo.current_dir(root());
    cargo
}

/// Where cargo puts a program.
fn built(profile: &str, name: &str) -> PathBuf {
    target().join(profile).join(name)
}

/// Cargo's target folder.
fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// Runs a command to its end with our own screen, and takes over its exit status.
fn finish(command: &mut Command) -> Result<ExitCode> {
    let program = command.get_program().to_owned();
    let status = command
        .status()
        .with_context(|| format!("{} cannot be started", program.display()))?;
    Ok(match status.code() {
        Some(0) => ExitCode::SUCCESS,
        Some(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        None => ExitCode::FAILURE,
    })
}
