//! The tools of a policy's author, as subcommands of the operator's binary
//! (`oaat-operator policy …`). All of them evaluate on the operator's own host, under
//! the operator's limits.

mod bench;
mod component;
mod place;
mod run;
mod simulate;
mod test;

use clap::Subcommand;
use std::process::ExitCode;

/// What to do with a policy.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Ask a policy for one decision, and show it with its reasons.
    Run(run::Args),
    /// Run declarative cases against a policy.
    Test(test::Args),
    /// Let a policy decide over days of virtual time, and show what came of it.
    Simulate(simulate::Args),
    /// Measure time and fuel of a decision.
    Bench(bench::Args),
}

/// Runs one of the tools. `built_in` is the component of the operator's default policy,
/// which goes by the name `default`.
///
/// The exit status is 0 when all is well, 1 when the policy is not (a refused component, a
/// failed case), 2 when the tool could not do its work (a file that cannot be read).
pub fn run(command: Command, built_in: &[u8]) -> ExitCode {
    let outcome = match command {
        Command::Run(args) => run::run(&args, built_in),
        Command::Test(args) => test::run(&args, built_in),
        Command::Simulate(args) => simulate::run(&args, built_in),
        Command::Bench(args) => bench::run(&args, built_in),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("oaat-operator policy: {error:#}");
            ExitCode::from(2)
        }
    }
}
