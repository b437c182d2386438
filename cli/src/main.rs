//! The command line of `kubectl-oaat`. kubectl runs it as `kubectl oaat`.

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use kubectl_oaat::{policy, validate, verbs};
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Inspect, run, suspend, and validate OaatGroups, and build, test, and package selection policies.
#[derive(Parser)]
#[command(name = "kubectl-oaat", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(flatten)]
    Cluster(verbs::Command),
    /// Validate OaatGroups and OaatTypes in files, without a cluster.
    ///
    /// Checks the rules of the API server and of the operator, and prints one line per problem.
    /// Exits with 0 if all objects are valid, 1 if there are problems, and 2 if a file cannot be
    /// read or no file contains an OaatGroup or OaatType.
    Validate(validate::Files),
    /// Build, test, and package a selection policy.
    #[command(subcommand)]
    Policy(policy::Command),
    /// Print a shell completion script.
    ///
    /// For bash, add this line to ~/.bashrc: source <(kubectl-oaat completion bash)
    Completion {
        /// The shell.
        shell: Shell,
    },
    /// Write the man pages.
    Man {
        /// The directory for the pages, one for each command.
        directory: PathBuf,
    },
    /// Compile the policy on standard input. `kubectl-oaat` starts this child process itself.
    #[command(hide = true)]
    CompilePolicy,
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Cluster(command) => verbs::run(command, default_component::DEFAULT_POLICY),
        Command::Validate(files) => validate::run(&files),
        Command::Policy(command) => policy::run(command, default_component::DEFAULT_POLICY),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "kubectl-oaat", &mut script);
            written(std::io::stdout().write_all(&script))
        }
        Command::Man { directory } => written(clap_mangen::generate_to(Cli::command(), directory)),
        Command::CompilePolicy => policy_host::run_compile_child(policy_host::Limits::default()),
    }
}

/// Returns the exit status of a command that only writes.
fn written(outcome: std::io::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // The reader closed the pipe early.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing can report that this failed.
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}
