//! Explores the model and prints the findings.

use clap::Parser;
use oaat_model::{Budget, Mutation, Protocol, Report, violations};
use std::process::ExitCode;

/// Check the at-most-one protocol in every possible order of requests, faults, and events. Exits
/// with 1 if a property that must always hold does not.
#[derive(Parser)]
struct Options {
    /// The number of operator replicas, up to 3. All of them act.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=3))]
    replicas: u8,
    /// The number of items of the group.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..))]
    items: u8,
    /// The number of runs to start.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..100))]
    runs: u8,
    /// The number of crashes.
    #[arg(long, default_value_t = 2)]
    crashes: u8,
    /// The number of requests whose response is lost or that arrive late.
    #[arg(long, default_value_t = 1)]
    unanswered: u8,
    /// The number of changes by hand: edits of the status, edits or replacements of the group, and
    /// removed labels.
    #[arg(long, default_value_t = 1)]
    tampering: u8,
    /// The number of pods that the API server rejects.
    #[arg(long, default_value_t = 1)]
    refusals: u8,
    /// The number of pods that do not start in time and are deleted.
    #[arg(long, default_value_t = 0)]
    timeouts: u8,
    /// Use blackouts and ended completion containers instead of timeouts: a running pod is deleted,
    /// started or not.
    #[arg(long)]
    windows: bool,
    /// Switch off a rule of the protocol, and show the violation.
    #[arg(long)]
    mutation: Option<Mutation>,
    /// Keep equivalent states apart. There are many times more of them.
    #[arg(long)]
    whole: bool,
    /// The number of threads.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..))]
    threads: u8,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let protocol = Protocol {
        replicas: options.replicas.into(),
        items: options.items,
        runs: options.runs,
        budget: Budget {
            crashes: options.crashes,
            unanswered: options.unanswered,
            tampering: options.tampering,
            refusals: options.refusals,
            timeouts: options.timeouts,
        },
        windows: options.windows,
        mutation: options.mutation,
        whole: options.whole,
    };
    let report = Report::of(protocol, options.threads.into());
    println!("{report}");
    let broken = violations()
        .into_iter()
        .any(|property| report.found(property));
    ExitCode::from(u8::from(broken))
}
