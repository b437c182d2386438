//! `policy simulate`: simulates a group over days of virtual time, and shows a timeline and
//! metrics.

mod axis;
mod bars;
mod fields;
mod forecast;
mod metrics;
mod recorded;
mod scenario;
mod simulator;
mod svg;
mod timeline;

use crate::policy::output::{PolicyFormat, print_json};
use crate::terminal::Progress;
use anyhow::{Context, Result};
use policy_host::{Policy, Request};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;

pub(crate) use axis::{format_brief, format_exact};
pub(crate) use forecast::{Forecast, ForecastView};
pub(crate) use metrics::{ItemMetrics, Metrics};
pub(crate) use recorded::{RecordedRun, scenario_of};
pub(crate) use scenario::Scenario;
pub(crate) use simulator::{CutShort, History, Run, reevaluates_after_retry_floor, simulate};
pub(crate) use svg::{Heading, draw};
pub(crate) use timeline::{format_percent, truncated};

/// Arguments of `policy simulate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The policy: a component, the core module that cargo builds, or the name of a built-in policy,
    /// such as `default`.
    pub file: PathBuf,
    /// The scenario: a YAML file with the items of the group, how long they run, and how often they
    /// fail.
    #[arg(long, value_name = "FILE")]
    pub scenario: PathBuf,
    /// Also write the timeline to this file, as SVG.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Print all runs and metrics in this format instead of the timeline.
    #[arg(long, short, value_enum)]
    pub output: Option<PolicyFormat>,
    /// The width of the output in columns. The default is $COLUMNS, then the width of the terminal,
    /// then 100.
    #[arg(long)]
    pub width: Option<usize>,
    /// Override the seed of the scenario.
    #[arg(long)]
    pub seed: Option<u64>,
}

/// Returns the JSON Schema of a scenario.
pub(crate) fn scenario_schema() -> schemars::Schema {
    policy_cases::schema::document::<scenario::File>()
}

pub(crate) fn run(args: &Args, built_in: &[u8]) -> Result<ExitCode> {
    let mut scenario = Scenario::read(&args.scenario)?;
    scenario.seed = args.seed.unwrap_or(scenario.seed);
    let policy = crate::policy::component::load(&args.file, built_in)?.policy;
    let history = validate_and_simulate(&policy, &scenario)?;
    let metrics = Metrics::of(&scenario, &history);
    if let Some(file) = &args.svg {
        let title = format!("{} in {}", args.file.display(), args.scenario.display());
        let heading = Heading::new(title, policy.digest(), &scenario, &history, &metrics);
        let picture = draw(&heading, &scenario, &history, &metrics);
        std::fs::write(file, picture).with_context(|| format!("{}", file.display()))?;
    }
    match args.output {
        Some(PolicyFormat::Json) => print_json(&report(&policy, &scenario, &history, &metrics))?,
        None => {
            let width = args.width.unwrap_or_else(crate::terminal::width);
            let lines = timeline::timeline(&scenario, &history, &metrics, width);
            let tables = timeline::tables(&scenario, &history, &metrics);
            crate::policy::print(&format!("policy {}\n\n{lines}\n{tables}", policy.digest()))?;
        }
    }
    Ok(match history.cut_short {
        None => ExitCode::SUCCESS,
        Some(_) => ExitCode::FAILURE,
    })
}

/// Validates the settings, as the operator does, and simulates the scenario.
fn validate_and_simulate(policy: &Policy, scenario: &Scenario) -> Result<History> {
    let items = scenario.item_settings();
    crate::policy::failure::validate(policy, &scenario.settings, &items)?;
    let progress = Progress::new();
    let decide = |request: &Request| policy.evaluate(request);
    Ok(simulate(scenario, decide, |now| {
        let share = scenario.elapsed_share(now.0);
        progress.show(|| format!("simulating: {}", format_percent(share)));
    }))
}

/// Returns all runs and metrics as JSON.
fn report(policy: &Policy, scenario: &Scenario, history: &History, metrics: &Metrics) -> Value {
    let run = |run: &simulator::Run| {
        json!({
            "item": scenario.items[run.item].name,
            "started": axis::format_exact(run.started),
            "finished": axis::format_exact(run.finished),
            "outcome": run.outcome,
            "note": run.note,
        })
    };
    json!({
        "policy": policy.digest(),
        "seed": scenario.seed,
        "start": axis::format_exact(scenario.start),
        "end": axis::format_exact(history.end),
        "cutShort": history.cut_short,
        "metrics": metrics,
        "runs": history.runs.iter().map(run).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests;
