//! Lets a policy decide over days of virtual time, and shows what came of it.

mod axis;
mod bars;
mod fields;
mod figures;
mod scenario;
mod svg;
mod timeline;
mod world;

use anyhow::{Context, Result, bail};
use figures::Figures;
use policy_host::{EvalError, Policy};
use scenario::Scenario;
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use world::History;

pub(crate) use world::awaited;

/// Columns where neither the command line nor the terminal says.
const WIDTH: usize = 100;

/// Settings.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The policy.
    pub file: PathBuf,
    /// The scenario: a YAML file with the group's items, how long they take and when they fail.
    #[arg(long)]
    pub scenario: PathBuf,
    /// Write a picture, too.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Print all runs and figures as JSON.
    #[arg(long)]
    pub json: bool,
    /// Columns of the output; those of the terminal (COLUMNS) if left out, or 100.
    #[arg(long)]
    pub width: Option<usize>,
    /// Another seed than the scenario's.
    #[arg(long)]
    pub seed: Option<u64>,
}

pub(crate) fn run(args: &Args, built_in: &[u8]) -> Result<ExitCode> {
    let mut scenario = Scenario::read(&args.scenario)?;
    scenario.seed = args.seed.unwrap_or(scenario.seed);
    let policy = crate::policy::component::load(&args.file, built_in)?.policy;
    let history = live(&policy, &scenario)?;
    let figures = Figures::of(&scenario, &history);
    if let Some(file) = &args.svg {
        let title = format!("{} in {}", args.file.display(), args.scenario.display());
        let picture = svg::draw(&title, policy.digest(), &scenario, &history, &figures);
        std::fs::write(file, picture).with_context(|| format!("{}", file.display()))?;
    }
    if args.json {
        let report = report(&policy, &scenario, &history, &figures);
        writeln!(std::io::stdout(), "{report:#}")?;
    } else {
        let columns = std::env::var("COLUMNS")
            .ok()
            .and_then(|text| text.parse().ok());
        let width = args.width.or(columns).unwrap_or(WIDTH);
        let lines = timeline::timeline(&scenario, &history, &figures, width);
        let tables = timeline::tables(&scenario, &history, &figures);
        crate::policy::print(&format!("policy {}\n\n{lines}\n{tables}", policy.digest()))?;
    }
    Ok(match history.cut_short {
        None => ExitCode::SUCCESS,
        Some(_) => ExitCode::FAILURE,
    })
}

/// Has the settings checked, as the operator would, and lives through the scenario.
fn live(policy: &Policy, scenario: &Scenario) -> Result<History> {
    let checked = policy.validate(&scenario.settings, &scenario.item_settings());
    match checked.answer {
        Ok(()) => {}
        Err(EvalError::PolicyError(words)) => {
            bail!("the policy refuses the scenario's settings: {words}")
        }
        Err(error) => {
            bail!("the policy was asked whether the scenario's settings are right: {error}")
        }
    }
    Ok(world::live(scenario, |request| policy.evaluate(request)))
}

/// Everything, for programs.
fn report(policy: &Policy, scenario: &Scenario, history: &History, figures: &Figures) -> Value {
    let run = |run: &world::Run| {
        json!({
            "item": scenario.items[run.item].name,
            "started": axis::exact(run.started),
            "finished": axis::exact(run.finished),
            "outcome": run.end,
            "note": run.note,
        })
    };
    json!({
        "policy": policy.digest(),
        "seed": scenario.seed,
        "start": axis::exact(scenario.start),
        "end": axis::exact(history.end),
        "cutShort": history.cut_short,
        "figures": figures,
        "runs": history.runs.iter().map(run).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests;
