//! `policy test`: declarative cases against a policy.

mod junit;
mod pretty;
mod tap;

use anyhow::{Context, Result, bail};
use policy_cases::Report;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Settings.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The policy: a component, a core module as cargo builds it, or `default`.
    pub file: PathBuf,
    /// The file of cases, YAML.
    #[arg(long, value_name = "FILE")]
    pub cases: PathBuf,
    /// Try at least this many seeds for each case; lists of seeds are tried as they are.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub seeds: Option<u64>,
    /// How to report.
    #[arg(long, value_enum, default_value_t = Format::Pretty)]
    pub format: Format,
    /// Run only the cases whose name contains this.
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
}

/// A form of report.
#[derive(Debug, Clone, Copy, PartialEq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Pretty,
    /// TAP, version 14.
    Tap,
    /// JUnit XML.
    Junit,
}

/// A case that was run.
struct Ran {
    report: Report,
    /// `cases` or `validate`.
    list: &'static str,
    /// Where it stands; found for the failed ones only.
    line: Option<usize>,
    took: Duration,
}

pub(crate) fn run(args: &Args, built_in: &[u8]) -> Result<ExitCode> {
    let (text, passed) = test(args, built_in)?;
    match args.format {
        Format::Pretty => crate::policy::print(&text)?,
        Format::Tap | Format::Junit => std::io::stdout().write_all(text.as_bytes())?,
    }
    Ok(match passed {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(1),
    })
}

/// The report, and whether all cases passed.
fn test(args: &Args, built_in: &[u8]) -> Result<(String, bool)> {
    let file = args.cases.display().to_string();
    let yaml = std::fs::read_to_string(&args.cases).with_context(|| file.clone())?;
    let cases =
        policy_cases::parse(&yaml).map_err(|error| crate::policy::place::of(&file, &error))?;
    let filter = args.filter.as_deref().unwrap_or_default();
    let wanted: Vec<_> = cases.iter().filter(|c| c.name.contains(filter)).collect();
    if wanted.is_empty() {
        bail!(
            "{file}: none of its {} cases has {filter:?} in its name, so nothing was tested",
            cases.len()
        );
    }
    let policy = crate::policy::component::load(&args.file, built_in)?.policy;
    let run = |case: &policy_cases::Case| {
        let start = Instant::now();
        let report = case.run(&policy, args.seeds.unwrap_or(0));
        Ran {
            list: case.list(),
            took: start.elapsed(),
            line: if report.passed() {
                None
            } else {
                case.line(&yaml)
            },
            report,
        }
    };
    let ran: Vec<_> = wanted.into_iter().map(run).collect();
    let text = match args.format {
        Format::Pretty => pretty::write(&file, &ran),
        Format::Tap => tap::write(&file, &ran)?,
        Format::Junit => junit::write(&file, &ran),
    };
    Ok((text, failed(&ran) == 0))
}

fn failed(ran: &[Ran]) -> usize {
    ran.iter().filter(|ran| !ran.report.passed()).count()
}

#[cfg(test)]
mod tests;
