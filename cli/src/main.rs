//! The command line of `kubectl-oaat`. kubectl runs it as `kubectl oaat`.

use clap::{Parser, Subcommand};
use kubectl_oaat::{policy, validate, verbs};
use std::process::ExitCode;

/// Shows, runs, suspends, and validates the items of OaatGroups, and builds, tests, and packages
/// selection policies.
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
    /// Compile the policy on standard input. `kubectl-oaat` starts this child process itself.
    #[command(hide = true)]
    CompilePolicy,
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Cluster(command) => verbs::run(command, default_component::DEFAULT_POLICY),
        Command::Validate(files) => validate::run(&files),
        Command::Policy(command) => policy::run(command, default_component::DEFAULT_POLICY),
        Command::CompilePolicy => policy_host::run_compile_child(policy_host::Limits::default()),
    }
}
