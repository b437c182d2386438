//! `policy test`: runs declarative cases against a policy.

mod junit;
mod pretty;

use anyhow::{Result, bail};
use policy_cases::Report;
use policy_host::Policy;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Arguments of `policy test`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The policy: a component, the core module that cargo builds, or the name of a built-in policy,
    /// such as `default`.
    pub file: PathBuf,
    /// The YAML file with the cases.
    #[arg(long, value_name = "FILE")]
    pub cases: PathBuf,
    /// Try at least this number of seeds for each case. Does not apply to cases that list their
    /// seeds.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub seeds: Option<u64>,
    /// The format of the report.
    #[arg(long, value_enum, default_value_t = Format::Pretty)]
    pub format: Format,
    /// Run only the cases whose name contains this text.
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
}

/// A format of the report.
#[derive(Debug, Clone, Copy, PartialEq, clap::ValueEnum)]
pub enum Format {
    /// Human-readable text.
    Pretty,
    /// JUnit XML.
    Junit,
}

/// The result of a case.
struct CaseResult {
    report: Report,
    /// The list that contains the case: `cases` or `validate`.
    list: &'static str,
    /// The line of the case; only set if it failed.
    line: Option<usize>,
    took: Duration,
}

pub(crate) fn run(args: &Args, built_in: &[u8]) -> Result<ExitCode> {
    let load = || Ok(crate::policy::component::load(&args.file, built_in)?.policy);
    let tested = test(args, load)?;
    match args.format {
        Format::Pretty => crate::policy::print(&tested.report)?,
        Format::Junit => std::io::stdout().write_all(tested.report.as_bytes())?,
    }
    Ok(match tested.failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// The results of all cases.
pub(crate) struct Tested {
    /// The report in the requested format.
    pub report: String,
    /// The number of cases.
    pub cases: usize,
    /// The number of failed cases.
    pub failed: usize,
}

/// Runs the cases. Loads the policy after the file with the cases has been read.
pub(crate) fn test(args: &Args, load: impl FnOnce() -> Result<Policy>) -> Result<Tested> {
    let file = args.cases.display().to_string();
    let yaml = crate::input::read_text(&args.cases)?;
    let cases = policy_cases::parse(&yaml)
        .map_err(|error| crate::policy::read_error::in_file(&file, &error))?;
    let filter = args.filter.as_deref().unwrap_or_default();
    let selected: Vec<_> = cases.iter().filter(|c| c.name.contains(filter)).collect();
    if selected.is_empty() {
        bail!(
            "--filter: none of the {} cases in {file} has {filter:?} in its name",
            cases.len()
        );
    }
    let policy = load()?;
    let run = |case: &policy_cases::Case| {
        let start = Instant::now();
        let report = case.run(&policy, args.seeds.unwrap_or(0));
        CaseResult {
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
    let results: Vec<_> = selected.into_iter().map(run).collect();
    let report = match args.format {
        Format::Pretty => pretty::write(&file, &results),
        Format::Junit => junit::write(&file, &results)?,
    };
    Ok(Tested {
        report,
        cases: results.len(),
        failed: failed(&results),
    })
}

/// Returns the number of failed cases.
fn failed(results: &[CaseResult]) -> usize {
    let failed = results.iter().filter(|result| !result.report.passed());
    failed.count()
}

#[cfg(test)]
mod tests;
