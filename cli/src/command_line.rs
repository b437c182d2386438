//! The command line of `kubectl-oaat`.

use crate::{commands, policy, validate};
use clap::{Parser, Subcommand};
use clap_complete::Shell;
use std::path::PathBuf;

/// Inspect, run, suspend, and validate OaatGroups, and build, test, and package selection policies.
#[derive(Parser)]
#[command(name = "kubectl-oaat", version, about)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// A command for a cluster.
    #[command(flatten)]
    Cluster(commands::Command),
    /// Validate OaatGroups and OaatTypes in files, without a cluster.
    ///
    /// Checks the rules of the API server and of the operator, and prints one line per problem.
    /// Exits with 0 if all objects are valid, 1 if there are problems, and 2 if a file cannot be
    /// read or no file contains an OaatGroup or OaatType.
    Validate(validate::Files),
    /// Build, test, and package a selection policy.
    ///
    /// Each command exits with 0 for success, with 1 for a problem with the policy, and with 2 if
    /// the command could not be run, for example because a file cannot be read. A problem with the
    /// policy is a rejected component, rejected settings, a decision that fails, a failed case, a
    /// decision that differs from the record or from the other policy, or more fuel than saved.
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
