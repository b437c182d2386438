//! The binary that runs in the cluster: the operator, and the processes that it starts.

use clap::{Parser, Subcommand};
use oaat_operator::run::{End, Settings, run};
use std::io::Write;
use std::process::ExitCode;

// The released binary must not contain the switches for tests.
#[cfg(oaat_mutations)]
compile_error!("oaat_mutations is set; build oaat-operator without it");

/// Runs the items of a group one at a time in pods, in an order that a WebAssembly policy decides.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the operator against the current kubeconfig context or, in a pod, its own cluster.
    Run(Settings),
    /// Print the CustomResourceDefinitions as YAML.
    Crd,
    /// Compile the policy on standard input. The operator starts this itself, once per policy.
    #[command(hide = true)]
    CompilePolicy,
    /// Fetch a list of items from a web server. The operator runs this in pods.
    #[command(hide = true)]
    FetchItems,
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Crd => match oaat_api::crd::yaml() {
            Ok(yaml) => {
                // A reader such as `head` may have closed the pipe.
                let _ = std::io::stdout().write_all(yaml.as_bytes());
                ExitCode::SUCCESS
            }
            Err(error) => failed(&error.into()),
        },
        Command::CompilePolicy => policy_host::run_compile_child(policy_host::Limits::default()),
        Command::Run(settings) => operate(settings),
        Command::FetchItems => oaat_operator::fetch_items::run(),
    }
}

fn operate(settings: Settings) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let end = runtime.block_on(run(settings));
    // Tasks that still run must not delay the exit.
    runtime.shutdown_background();
    match end {
        Ok(End::Stopped) => ExitCode::SUCCESS,
        Ok(End::LeaseLost) => ExitCode::from(1),
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("oaat-operator: {error:#}");
    ExitCode::FAILURE
}
