//! Walks through the model to its end and prints what was found.

use clap::Parser;
use oaat_model::{Budget, Mutation, Protocol, Report, violations};
use std::process::ExitCode;

/// Checks the at-most-one protocol in every order in which requests, faults and events can
/// come. Exits with 1 if something that must always hold does not.
#[derive(Parser)]
struct Options {
    /// Replicas of the operator that act, up to 3.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=3))]
    replicas: u8,
    /// Items of the group.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..))]
    items: u8,
    /// Runs that are started.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..100))]
    runs: u8,
    /// Crashes of replicas.
    #[arg(long, default_value_t = 2)]
    crashes: u8,
    /// Requests whose answer is lost or that arrive late.
    #[arg(long, default_value_t = 1)]
    unanswered: u8,
    /// Changes by hand: status wiped, group edited or replaced, label taken off a pod.
    #[arg(long, default_value_t = 1)]
    tampering: u8,
    /// Pods that the API server refuses.
    #[arg(long, default_value_t = 1)]
    refusals: u8,
    /// Pods that do not start in time, and are deleted.
    #[arg(long, default_value_t = 0)]
    timeouts: u8,
    /// The timeouts are windows that open: what runs is deleted, started or not.
    #[arg(long)]
    windows: bool,
    /// Break a rule of the protocol, and show what comes of it.
    #[arg(long)]
    mutation: Option<Mutation>,
    /// Leave states apart that differ in nothing that matters: many times more of them.
    #[arg(long)]
    whole: bool,
    /// Threads.
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
