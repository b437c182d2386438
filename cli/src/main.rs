//! The command line of `kubectl-oaat`. kubectl runs it as `kubectl oaat`.

use clap::{CommandFactory, Parser};
use kubectl_oaat::command_line::{Cli, Command};
use kubectl_oaat::{commands, policy, validate};
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Cluster(command) => commands::run(command, built_in_policies::DEFAULT_POLICY),
        Command::Validate(files) => validate::run(&files),
        Command::Policy(command) => policy::run(command, built_in_policies::DEFAULT_POLICY),
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
