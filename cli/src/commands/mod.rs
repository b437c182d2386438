//! The commands that work on the groups of a cluster, with the user's own permissions.

mod dashboard;
mod doctor;
mod forecast;
mod history;
mod logs;
mod mark;
mod output;
mod pods;
mod report;
mod run;
mod status;
mod suspend;
mod why;

use crate::cluster::{ClusterArgs, ClusterError, Session};
use crate::terminal::{escape_control, report};
use clap::Subcommand;
use std::process::ExitCode;

/// The commands that work on a cluster.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show groups: what runs, what is due, and how late it is.
    ///
    /// Without a name, shows all groups of the namespace. LATE shows the item that is most periods
    /// late: a full bar is a whole period of its frequency or schedule.
    Status(status::StatusArgs),
    /// Explain why an item does not run now, by which rule, and when it may run next.
    Why(why::WhyArgs),
    /// Show which item starts next, and when.
    ///
    /// Evaluates the policy that decides for the group, from its live status.
    Next(forecast::NextArgs),
    /// Simulate a group from its live status: which items start when, are late, or never start.
    ///
    /// Evaluates the policy that decides for the group in virtual time. Runs take as long as the
    /// median of the item's last five successful runs, and all of them succeed.
    Forecast(forecast::ForecastArgs),
    /// List the latest runs.
    ///
    /// A group stores its last 20 runs.
    History(history::HistoryArgs),
    /// Run items now.
    ///
    /// Items of an earlier request that have not started yet stay requested. With --wait, shows the
    /// log, and exits with 0 if all runs succeeded. Otherwise, exits with the exit code of the first
    /// run that did not, or 1 if it has none. If no run failed, exits with 75 if a run is blocked
    /// until a user acts or a blackout ends, or if the request is removed. Exits with 124 if --timeout
    /// expires.
    Run(run::RunArgs),
    /// Suspend groups: nothing starts until they are resumed.
    ///
    /// A run in progress continues. The reason and your user name are stored in annotations of the
    /// group.
    Suspend(suspend::SuspendArgs),
    /// Resume suspended groups.
    Resume(suspend::ResumeArgs),
    /// Mark an item as succeeded without a run.
    ///
    /// For example, after a backup that you made by hand. Resets the failures of the item, even if
    /// it has given up. Requires permission to patch oaatgroups/status.
    Mark(mark::MarkArgs),
    /// Check the installation, and explain how to fix what is wrong.
    ///
    /// Checks the CustomResourceDefinitions, your permissions, the guard, the leader, the clocks, the
    /// groups, and their policies. Exits with 1 if a check failed.
    Doctor(doctor::DoctorArgs),
    /// Write an archive for a bug report. Omits or redacts secrets.
    ///
    /// The report is an archive with the groups, types, pods, events, and the state and the log of the
    /// operator. It contains only fields on an allowlist. It lists what you do not have permission to
    /// read.
    Report(report::ReportArgs),
    /// Print the log of an item's current or latest run.
    Logs(logs::LogsArgs),
    /// Serve a live dashboard to your browser until you press Ctrl-C.
    ///
    /// Shows the groups, and why their items do not run. Can run items, and suspend and resume
    /// groups, after you confirm. Uses your own permissions, and listens only on 127.0.0.1. The printed URL
    /// contains a token that is valid until the command ends.
    Dashboard(dashboard::DashboardArgs),
}

/// Runs a command. `built_in` is the component of the built-in policy. The exit status is 1 if it
/// fails.
pub fn run(command: Command, built_in: &[u8]) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(run_async(command, built_in));
            // A forecast for the dashboard may still be simulated.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(ClusterError::Output(error)),
    };
    match outcome {
        Ok(code) => code,
        // The reader closed the pipe, for example because it needs only the first lines.
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            report(&escape_control(&format!("error: {error}")));
            ExitCode::FAILURE
        }
    }
}

async fn run_async(command: Command, built_in: &[u8]) -> Result<ExitCode, ClusterError> {
    match command {
        Command::Status(args) => status::run(&args).await,
        Command::Why(args) => why::run(&args).await,
        Command::Next(args) => forecast::next(&args, built_in).await,
        Command::Forecast(args) => forecast::forecast(&args, built_in).await,
        Command::History(args) => history::run(&args).await,
        Command::Run(args) => return run::run(&args).await,
        Command::Doctor(args) => return doctor::run(&args).await,
        Command::Suspend(args) => suspend::suspend(&args).await,
        Command::Mark(args) => mark::run(&args).await,
        Command::Resume(args) => suspend::resume(&args).await,
        Command::Report(args) => report::run(&args).await,
        Command::Logs(args) => logs::run(&args).await,
        Command::Dashboard(args) => dashboard::run(&args, built_in).await,
    }?;
    Ok(ExitCode::SUCCESS)
}

/// The namespace and the connection of a command that can read all namespaces.
#[derive(clap::Args, Debug)]
struct Scope {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Read all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
}

impl Scope {
    async fn session(&self) -> Result<Session, ClusterError> {
        Session::new(&self.cluster).await
    }

    /// Returns the namespace to read; `None` for all.
    fn namespace<'a>(&self, session: &'a Session) -> Option<&'a str> {
        (!self.all_namespaces).then_some(session.namespace.as_str())
    }
}
