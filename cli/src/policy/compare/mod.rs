//! `policy compare`: compares two policies on recorded decisions, and simulates the groups with each
//! of them.

mod group_simulation;
mod picture;
mod report;
mod side;
mod smallest;
mod tally;
mod work;

use crate::policy::decisions;
use crate::policy::output::{PolicyFormat, print_json};
use crate::policy::simulate::format_percent;
use crate::terminal::Progress;
use anyhow::{Context, Result, bail};
use group_simulation::{Agreement, GroupSimulation};
use policy_host::{Host, Limits};
use side::Side;
use std::cmp::Reverse;
use std::path::PathBuf;
use std::process::ExitCode;
use tally::{Counts, GroupName, GroupTally, Tally};

/// The maximum number of groups that are simulated and described.
const MAX_GROUPS: usize = 20;

/// Arguments of `policy compare`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Policy A, for example the one in use: a component, the core module that cargo builds, or
    /// the name of a built-in policy.
    a: PathBuf,
    /// Policy B, for example a new version. Accepts the same values as A.
    b: PathBuf,
    /// Recorded decisions: files from `--record-decisions`, directories with such files, or logs
    /// of an operator with `--log-decisions full`; `-` is standard input.
    #[arg(long, value_name = "DIR|LOG", required = true, num_args = 1..)]
    decisions: Vec<PathBuf>,
    /// Compare only decisions of this group. Can be repeated.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = parse_group)]
    group: Vec<GroupName>,
    /// The group settings for A, a JSON object, instead of the recorded ones.
    #[arg(long, value_name = "JSON")]
    settings_a: Option<String>,
    /// The group settings for B, a JSON object, instead of the recorded ones.
    #[arg(long, value_name = "JSON")]
    settings_b: Option<String>,
    /// How long to simulate each group after its last recorded decision. 0s disables the
    /// simulation.
    #[arg(long, value_name = "DURATION", default_value = "1d", value_parser = policy_cases::time::duration)]
    length: u64,
    /// Write both simulations of the group with the most differences to this file, as SVG.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// The format of the output. The default is text.
    #[arg(long, short, value_enum)]
    output: Option<PolicyFormat>,
}

/// A group with its counts and its simulations.
struct ComparedGroup<'a> {
    name: &'a GroupName,
    tally: &'a GroupTally,
    /// The simulations, or why they failed. `None` if simulations are disabled.
    simulation: Option<Result<GroupSimulation, String>>,
}

/// The results of a comparison.
struct Comparison<'a> {
    sides: &'a [Side; 2],
    tally: &'a Tally,
    /// The files by their positions.
    files: &'a [PathBuf],
    /// The groups, those with the most differences first.
    groups: Vec<ComparedGroup<'a>>,
}

pub(crate) fn run(args: &Args, built_in: &[u8]) -> Result<ExitCode> {
    let threads = u32::try_from(work::threads()).unwrap_or(u32::MAX);
    let host = Host::for_many_evaluations(Limits::default(), threads)?;
    let load = |file, settings: &Option<String>, flag| {
        Side::load(&host, file, settings.as_deref(), flag, built_in)
    };
    let sides = [
        load(&args.a, &args.settings_a, "--settings-a")?,
        load(&args.b, &args.settings_b, "--settings-b")?,
    ];
    let files = decisions::recorded_files(&args.decisions)?;
    let tally = work::compare(&sides, &files, &args.group)?;
    if tally.counts == Counts::default() {
        bail!("{}", nothing_compared(args, &tally));
    }
    let comparison = Comparison::new(&sides, &tally, &files, args.length);
    if let Some(file) = &args.svg {
        let picture = comparison.picture()?;
        std::fs::write(file, picture).with_context(|| file.display().to_string())?;
    }
    match args.output {
        Some(PolicyFormat::Json) => print_json(&report::json(&comparison))?,
        None => crate::policy::print(&report::text(&comparison))?,
    }
    Ok(comparison.exit_code())
}

fn parse_group(text: &str) -> Result<GroupName, String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => Ok(GroupName {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }),
        _ => Err(format!(
            "{text:?} is not a group; use NAMESPACE/NAME, for example home/backup"
        )),
    }
}

/// Describes why no decision was compared.
fn nothing_compared(args: &Args, tally: &Tally) -> String {
    let files = args.decisions.iter().map(|file| file.display().to_string());
    let files = files.collect::<Vec<_>>().join(", ");
    match args.group.as_slice() {
        _ if tally.has_digests => format!("{files}: {}", decisions::ONLY_DIGESTS),
        [] => format!(
            "{files}: no recorded decision found; {}",
            decisions::USE_RECORDS
        ),
        _ => format!("--group: no recorded decision of this group in {files}"),
    }
}

impl<'a> Comparison<'a> {
    /// Simulates the groups with the most differences.
    fn new(sides: &'a [Side; 2], tally: &'a Tally, files: &'a [PathBuf], length: u64) -> Self {
        let mut groups: Vec<_> = tally.groups.iter().collect();
        // Stable, so that groups with the same number are in the order of their names.
        groups.sort_by_key(|(_, group)| Reverse((group.counts.differ, group.counts.both_failed)));
        groups.truncate(MAX_GROUPS);
        let count = groups.len();
        let progress = Progress::new();
        let groups = groups.into_iter().zip(1..).map(|((name, tally), number)| {
            let show = |share| {
                progress.show(|| {
                    let share = format_percent(share);
                    format!("simulating group {number} of {count}: {share}")
                });
            };
            let simulation = (length > 0).then(|| GroupSimulation::new(tally, sides, length, show));
            ComparedGroup {
                name,
                tally,
                simulation,
            }
        });
        Self {
            sides,
            tally,
            files,
            groups: groups.collect(),
        }
    }

    /// Draws the simulations of the first group that was simulated.
    fn picture(&self) -> Result<String> {
        let drawn = self.groups.iter().find_map(|group| {
            let simulation = group.simulation.as_ref()?.as_ref().ok()?;
            Some(picture::picture(group.name, simulation, self.sides))
        });
        drawn.context("--svg: no group was simulated; see the report without --svg")
    }

    /// Returns 0 if the policies agree, 1 if they differ, and 2 if some decisions could not be
    /// compared, for example because both policies failed.
    fn exit_code(&self) -> ExitCode {
        let counts = self.tally.counts;
        let simulations = self
            .groups
            .iter()
            .filter_map(|group| group.simulation.as_ref());
        let agreements: Vec<_> = simulations
            .map(|simulation| match simulation {
                Ok(simulation) => simulation.agreement(),
                Err(_) => Agreement::Incomplete,
            })
            .collect();
        let not_compared = counts.both_failed + counts.interrupted + counts.unreadable;
        if counts.differ > 0 || agreements.contains(&Agreement::Differ) {
            ExitCode::FAILURE
        } else if not_compared > 0 || agreements.contains(&Agreement::Incomplete) {
            ExitCode::from(2)
        } else {
            ExitCode::SUCCESS
        }
    }
}

#[cfg(test)]
mod tests;
