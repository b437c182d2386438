//! `kubectl-oaat policy …`: the commands for authors of policies. All of them evaluate policies
//! with the operator's host, under the operator's limits.

mod bench;
mod build;
mod check;
mod compare;
mod component;
mod decisions;
mod dev;
mod failure;
mod names_file;
mod new;
mod output;
mod pack;
mod profile;
mod read_error;
mod replay;
mod run;
pub mod schema;
mod serve;
mod simulate;
mod table;
mod test;
#[cfg(test)]
mod test_fixtures;
mod xml;

pub use decisions::recorded;
pub(crate) use simulate::{Forecast, ForecastView};

use crate::terminal::{self, escape_control, report};
use clap::Subcommand;
use std::io::ErrorKind;
use std::process::ExitCode;

/// The subcommands of `policy`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a policy in Rust or C, ready to build and test.
    New(new::Args),
    /// Build a policy into a component.
    Build(build::Args),
    /// Build and test a policy after each change, until interrupted.
    Dev(dev::Args),
    /// Check whether the operator accepts a policy, and describe its component.
    Check(check::Args),
    /// Evaluate a policy once, and explain its decision.
    Run(run::Args),
    /// Run declarative test cases against a policy.
    Test(test::Args),
    /// Simulate a group in virtual time, and show a timeline and metrics.
    Simulate(simulate::Args),
    /// Measure the time and the fuel of a decision.
    Bench(bench::Args),
    /// Print a ConfigMap that contains a policy.
    Pack(pack::Args),
    /// Replay the operator's decisions from its log or from recorded files.
    Replay(replay::Args),
    /// Compare two policies on recorded decisions, and simulate what follows with each.
    ///
    /// The policies differ on a decision if they choose different items, wait until different times,
    /// give an item different standings, or store different states. They also differ if only one of
    /// them fails. A decision that differs in several ways is counted once for each. If both policies
    /// fail, they neither agree nor differ, and the decision is counted separately.
    ///
    /// In the simulation, the lateness of an item is the time from when it is due to the start of its
    /// next successful run. A gap is the time from one success to the next. An item waits while it is
    /// due, not in its cool-off, and not running. It starves if it waits for more than three times its
    /// frequency or, with eachOnce, if it never starts.
    ///
    /// The command exits with 0 if the policies agree, and with 1 if they differ or if one of them
    /// cannot be used. It exits with 2 if it cannot run, or if it cannot compare some decisions, for
    /// example because both policies failed.
    Compare(compare::Args),
    /// Print the JSON Schema of a file of cases, a request, or a scenario.
    ///
    /// Editors use it to complete and check these files.
    Schema(schema::Args),
    /// Evaluate a policy for the tests of a crate. policy-testkit starts this child process itself.
    #[command(hide = true)]
    Serve(serve::Args),
}

/// Runs a command. `built_in` is the component of the built-in policy `default`. Commands
/// accept the name of a built-in policy instead of a file.
///
/// The exit status is 0 for success, 1 for a problem with the policy (a rejected component, a
/// failed case), and 2 if the command could not be run (an unreadable file).
pub fn run(command: Command, built_in: &[u8]) -> ExitCode {
    let outcome = match command {
        Command::New(args) => new::run(&args),
        Command::Build(args) => build::run(&args),
        Command::Dev(args) => dev::run(&args),
        Command::Check(args) => check::run(&args, built_in),
        Command::Pack(args) => pack::run(&args, built_in),
        Command::Replay(args) => replay::run(&args, built_in),
        Command::Serve(args) => serve::run(&args, built_in),
        Command::Compare(args) => compare::run(&args, built_in),
        Command::Run(args) => run::run(&args, built_in),
        Command::Test(args) => test::run(&args, built_in),
        Command::Simulate(args) => simulate::run(&args, built_in),
        Command::Bench(args) => bench::run(&args, built_in),
        Command::Schema(args) => schema::run(&args),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            report(&format!(
                "kubectl-oaat policy: {}",
                escape_control(&format!("{error:#}"))
            ));
            if component::is_policy_error(&error) || error.is::<failure::PolicyFailure>() {
                ExitCode::FAILURE
            } else {
                ExitCode::from(2)
            }
        }
    }
}

/// Reports whether a simulation asks the policy again when the retry floor of an item with this
/// standing ends. Public for a test that compares it with the operator.
pub fn reevaluates_after_retry_floor(standing: policy_host::Standing) -> bool {
    simulate::reevaluates_after_retry_floor(standing)
}

/// Prints untrusted text to standard output. If the reader has closed the pipe (`… | head`), the exit
/// status is still that of the command.
fn print(text: &str) -> std::io::Result<()> {
    match terminal::print(text) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

/// Formats a time as RFC 3339.
fn format_time(millis: policy_host::Instant) -> String {
    match chrono::DateTime::from_timestamp_millis(millis) {
        Some(time) => time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true),
        None => format!("{millis} ms since 1970"),
    }
}
