//! The tools of a policy's author, as subcommands of the operator's binary
//! (`kubectl-oaat policy …`). All of them evaluate on the operator's own host, under
//! the operator's limits.

mod bench;
mod build;
mod check;
mod component;
mod new;
mod pack;
mod place;
mod replay;
mod run;
mod simulate;
mod table;
mod test;
#[cfg(test)]
mod testing;
mod xml;

pub use replay::recorded;

use clap::Subcommand;
use policy_host::text::is_unprintable;
use std::process::ExitCode;

/// What to do with a policy.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a crate for a policy, which builds and passes its tests as it is.
    New(new::Args),
    /// Build a policy's crate into a component.
    Build(build::Args),
    /// Say whether the operator would take a component, and what it is.
    Check(check::Args),
    /// Ask a policy for one decision, and show it with its reasons.
    Run(run::Args),
    /// Run declarative cases against a policy.
    Test(test::Args),
    /// Let a policy decide over days of virtual time, and show what came of it.
    Simulate(simulate::Args),
    /// Measure time and fuel of a decision.
    Bench(bench::Args),
    /// Print the ConfigMap that ships a policy.
    Pack(pack::Args),
    /// Repeat decisions that the operator made, from its log or from records.
    Replay(replay::Args),
}

/// Runs one of the tools. `built_in` is the component of the operator's default policy,
/// which goes by the name `default`.
///
/// The exit status is 0 when all is well, 1 when the policy is not (a refused component, a
/// failed case), 2 when the tool could not do its work (a file that cannot be read).
pub fn run(command: Command, built_in: &[u8]) -> ExitCode {
    let outcome = match command {
        Command::New(args) => new::run(&args),
        Command::Build(args) => build::run(&args),
        Command::Check(args) => check::run(&args, built_in),
        Command::Pack(args) => pack::run(&args, built_in),
        Command::Replay(args) => replay::run(&args, built_in),
        Command::Run(args) => run::run(&args, built_in),
        Command::Test(args) => test::run(&args, built_in),
        Command::Simulate(args) => simulate::run(&args, built_in),
        Command::Bench(args) => bench::run(&args, built_in),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("kubectl-oaat policy: {}", plain(&format!("{error:#}")));
            match error.is::<component::Refused>() {
                true => ExitCode::FAILURE,
                false => ExitCode::from(2),
            }
        }
    }
}

/// Whether a simulation asks again as soon as the operator would stop holding an item of this
/// standing. Public for the test that compares it with what the operator does.
pub fn awaits_release(standing: policy_host::Standing) -> bool {
    simulate::awaited(standing)
}

/// A time as people read it.
fn time(millis: policy_host::Instant) -> String {
    match chrono::DateTime::from_timestamp_millis(millis) {
        Some(time) => time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true),
        None => format!("{millis} ms since 1970"),
    }
}

/// Text fit for a terminal: what it would act on, or what would change the order in which a line
/// is read, is shown instead by its number. Lines stay lines.
///
/// Components, requests and records come from strangers, and say what they like.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c != '\n' && is_unprintable(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// Prints text of whatever origin.
fn print(text: &str) -> std::io::Result<()> {
    use std::io::{ErrorKind, Write, stdout};
    let mut out = stdout();
    match out
        .write_all(plain(text).as_bytes())
        .and_then(|()| out.flush())
    {
        // `… | head`: whoever reads has read enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_is_left_that_a_terminal_acts_on() {
        let text = "a\n\u{1b}[31mb\u{9b}c\r\u{202e}d ü";
        assert_eq!(
            super::plain(text),
            r"a
\u{1b}[31mb\u{9b}c\u{d}\u{202e}d ü"
        );
    }
}
