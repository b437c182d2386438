//! `policy bench`: measures the time and the fuel of a decision.

mod measure;
mod request;
mod results;
mod saved;

use crate::policy::check::json_object;
use crate::policy::failure;
use crate::policy::output::{PolicyFormat, print_json};
use anyhow::{Context, Result};
use measure::{measure_decisions, measure_load, micros};
use policy_cases::item_settings;
use policy_host::Request;
use request::request;
use results::{Results, format_results};
use saved::{Comparison, SavedDecision, SavedFuel};
use std::path::PathBuf;
use std::process::ExitCode;

/// The number of items that a request may have.
const ITEMS: std::ops::RangeInclusive<i64> = 1..=2_000;

/// Arguments of `policy bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The policy: a component, the core module that cargo builds, or the name of a built-in policy,
    /// such as `default`.
    pub file: PathBuf,
    /// The request sizes to measure, in items, separated by commas (1 to 2000 each).
    #[arg(
        long,
        value_delimiter = ',',
        default_values_t = [10, 100, 1_000, 2_000],
        value_parser = clap::value_parser!(u32).range(ITEMS)
    )]
    pub items: Vec<u32>,
    /// The group settings, a JSON object.
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub settings: String,
    /// The settings of each item, a JSON object.
    #[arg(long, value_name = "JSON")]
    pub item_settings: Option<String>,
    /// Save the fuel to this file. To compare another build with it, use `--compare`.
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// Compare the fuel with that in a file from `--save`, for the same numbers of items and the same
    /// settings. The command exits with 1 if a decision uses more fuel, even by one instruction.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["items", "settings", "item_settings"])]
    pub compare: Option<PathBuf>,
    /// The format of the output. The default is text.
    #[arg(long, short, value_enum)]
    pub output: Option<PolicyFormat>,
}

pub(crate) fn run(args: &Args, built_in: &[u8]) -> Result<ExitCode> {
    let saved = args.compare.as_deref().map(SavedFuel::read).transpose()?;
    let inputs = match &saved {
        Some(saved) => Inputs {
            items: saved.decisions.iter().map(|saved| saved.items).collect(),
            settings: json_object("settings", &saved.settings)?,
            item_settings: saved.item_settings.clone(),
        },
        None => Inputs {
            items: args.items.clone(),
            settings: json_object("--settings", &args.settings)?,
            item_settings: match &args.item_settings {
                Some(text) => Some(json_object("--item-settings", text)?),
                None => None,
            },
        },
    };
    let component = crate::policy::component::load(&args.file, built_in)?;
    // Validate all settings first, because measuring takes seconds.
    for items in &inputs.items {
        let request = inputs.request(*items);
        let item_settings = item_settings(&request.items);
        failure::validate(&component.policy, &request.settings, &item_settings)
            .with_context(|| format!("with {items} items"))?;
    }
    let mut results = Results {
        policy: component.policy.digest().to_owned(),
        bytes: component.wasm.len(),
        compile_p50_us: micros(measure_load(&component.wasm)?),
        debug_build: cfg!(debug_assertions),
        decisions: inputs
            .items
            .iter()
            .map(|items| measure_decisions(&component.policy, &inputs.request(*items)))
            .collect::<Result<_>>()?,
        comparison: None,
    };
    let fuel: Vec<SavedDecision> = results.decisions.iter().map(Into::into).collect();
    let wasmtime = component.policy.engine(0).wasmtime;
    results.comparison = saved.map(|saved| Comparison::new(&saved, &fuel, &wasmtime));
    match args.output {
        Some(PolicyFormat::Json) => print_json(&results)?,
        None => crate::policy::print(&format_results(&results))?,
    }
    if let Some(file) = &args.save {
        let saved = SavedFuel {
            wasmtime,
            policy: results.policy,
            settings: inputs.settings,
            item_settings: inputs.item_settings,
            decisions: fuel,
        };
        saved.write(file)?;
    }
    Ok(match results.comparison {
        Some(Comparison { more: true, .. }) => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    })
}

/// The inputs of the requests.
struct Inputs {
    items: Vec<u32>,
    settings: String,
    item_settings: Option<String>,
}

impl Inputs {
    fn request(&self, items: u32) -> Request {
        let mut request = request(items);
        request.settings.clone_from(&self.settings);
        for item in &mut request.items {
            item.settings.clone_from(&self.item_settings);
        }
        request
    }
}

#[cfg(test)]
mod tests;
