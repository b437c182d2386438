//! `policy run`: one decision, explained.

use anyhow::{Context, Result};
use policy_cases::{explain, item_settings};
use policy_host::{EvalError, Policy, Request};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// Settings.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The policy: a component, a core module as cargo builds it, or `default`.
    pub file: PathBuf,
    /// The request: YAML or JSON as under `given` of a case, the contract's record as JSON,
    /// or the record of a decision; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    pub request: PathBuf,
    /// Another seed than the request's.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Print the contract's record of the decision, as JSON.
    #[arg(long)]
    pub json: bool,
}

pub(crate) fn run(args: &Args, built_in: &[u8]) -> Result<ExitCode> {
    let (name, text) = read(&args.request)?;
    let mut request =
        policy_cases::request(&text).map_err(|error| crate::policy::place::of(&name, &error))?;
    if let Some(seed) = args.seed {
        request.seed = seed;
    }
    let policy = crate::policy::component::load(&args.file, built_in)?.policy;
    Ok(match decide(&policy, &request, args.json)? {
        Ok(text) => {
            match args.json {
                true => std::io::stdout().write_all(text.as_bytes())?,
                false => crate::policy::print(&text)?,
            }
            ExitCode::SUCCESS
        }
        Err(text) => {
            eprint!("{}", crate::policy::plain(&text));
            ExitCode::from(1)
        }
    })
}

/// The decision in words or as JSON; or, as `Err`, in words why there is none.
fn decide(policy: &Policy, request: &Request, json: bool) -> Result<Result<String, String>> {
    let judgement = policy.validate(&request.settings, &item_settings(&request.items));
    // The operator would ask the policy for no decision by settings that it refuses.
    match judgement.answer {
        Ok(()) => {}
        Err(EvalError::PolicyError(words)) => {
            return Ok(Err(format!("SettingsRejected: the policy says: {words}\n")));
        }
        Err(error) => {
            let reason = error.reason();
            return Ok(Err(format!(
                "{reason}, when the settings were checked: {error}\n"
            )));
        }
    }
    let start = Instant::now();
    let evaluation = policy.evaluate(request);
    let took = start.elapsed().as_micros();
    let text = match &evaluation.answer {
        Ok(decision) if json => serde_json::to_string_pretty(decision)? + "\n",
        _ => {
            let limit = policy.fuel_limit(request.items.len());
            let words = explain(request, &evaluation);
            format!(
                "{words}fuel: {} of {limit}\ntime: {took} µs\n",
                evaluation.fuel
            )
        }
    };
    Ok(match evaluation.answer {
        Ok(_) => Ok(text),
        Err(_) => Err(text),
    })
}

/// The text of the request, and what to call its file in messages.
fn read(file: &Path) -> Result<(String, String)> {
    if file == Path::new("-") {
        let name = "standard input".to_owned();
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .with_context(|| name.clone())?;
        return Ok((name, text));
    }
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).with_context(|| name.clone())?;
    Ok((name, text))
}

#[cfg(test)]
mod tests;
