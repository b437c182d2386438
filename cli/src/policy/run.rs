//! `policy run`: evaluates a policy once and explains the decision.

use crate::input;
use crate::policy::component::{self, Component};
use crate::policy::failure;
use crate::policy::output::PolicyFormat;
use crate::policy::profile::Profile;
use anyhow::{Context, Result};
use policy_cases::{explain, item_settings};
use policy_host::{EvalError, Policy, Request};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// Arguments of `policy run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The policy: a component, the core module that cargo builds, or the name of a built-in policy,
    /// such as `default`.
    pub file: PathBuf,
    /// The request: YAML or JSON in the form of `given` in a test case, the `request` record of the
    /// contract as JSON, or a recorded decision; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    pub request: PathBuf,
    /// Override the seed of the request.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Write a flame graph of the fuel to this file, in the format of speedscope
    /// (https://www.speedscope.app). Its total is exactly the fuel of the decision.
    #[arg(long, value_name = "FILE")]
    pub profile: Option<PathBuf>,
    /// Print the `decision` record of the contract in this format instead of the explanation.
    #[arg(long, short, value_enum)]
    pub output: Option<PolicyFormat>,
}

pub(crate) fn run(args: &Args, built_in: &[u8]) -> Result<ExitCode> {
    let (name, text) = read(&args.request)?;
    let mut request = policy_cases::request(&text)
        .map_err(|error| crate::policy::read_error::in_file(&name, &error))?;
    if let Some(seed) = args.seed {
        request.seed = seed;
    }
    let component = component::load(&args.file, built_in)?;
    failure::validate(
        &component.policy,
        &request.settings,
        &item_settings(&request.items),
    )?;
    let outcome = evaluate(&component.policy, &request, args.output)?;
    if let Some(file) = &args.profile {
        profile(args, &component, &request, file)?;
    }
    Ok(match outcome {
        Ok(text) => {
            crate::policy::print(&text)?;
            ExitCode::SUCCESS
        }
        Err(text) => {
            crate::terminal::report(crate::policy::escape_control(&text).trim_end_matches('\n'));
            ExitCode::from(1)
        }
    })
}

/// Evaluates the request. Returns the decision in a format, or an `Err` that explains why there is
/// none.
fn evaluate(
    policy: &Policy,
    request: &Request,
    format: Option<PolicyFormat>,
) -> Result<Result<String, String>> {
    let start = Instant::now();
    let evaluation = policy.evaluate(request);
    let took = start.elapsed().as_micros();
    let text = match (&evaluation.answer, format) {
        (Ok(decision), Some(PolicyFormat::Json)) => crate::terminal::to_json(decision)?,
        (answer, _) => {
            let limit = policy.fuel_limit(request.items.len());
            let explanation = explain(request, &evaluation);
            let backtrace = answer.as_ref().err().map(backtrace).unwrap_or_default();
            format!(
                "{explanation}{backtrace}fuel: {} of {limit}\ntime: {took} µs\n",
                evaluation.fuel
            )
        }
    };
    Ok(match evaluation.answer {
        Ok(_) => Ok(text),
        Err(_) => Err(text),
    })
}

/// Returns the complete call stack of a crash, one line for each function.
fn backtrace(error: &EvalError) -> String {
    let EvalError::Trapped(crash) = error else {
        return String::new();
    };
    let frames = crash.backtrace.frames().iter();
    let mut text = String::from("backtrace:\n");
    text.extend(frames.map(|frame| format!("  {frame}\n")));
    text
}

/// Writes the profile of a decision to a file.
fn profile(args: &Args, component: &Component, request: &Request, file: &Path) -> Result<()> {
    let wasm = component::unpack(&component.wasm);
    let names = component::function_names(&args.file, &wasm);
    let decided = component.policy.evaluate(request);
    let profile = Profile::new(&wasm, names, request, &decided)?;
    let json = profile.speedscope(&format!("policy {}", component.policy.digest()));
    std::fs::write(file, serde_json::to_string(&json)?)
        .with_context(|| format!("{}", file.display()))?;
    crate::terminal::report(&format!(
        "wrote {}: {} fuel, one sample for each {}; open it with https://www.speedscope.app",
        file.display(),
        decided.fuel,
        profile.step
    ));
    Ok(())
}

/// Reads the request. Returns the name of the file for messages, and its text.
fn read(file: &Path) -> Result<(String, String)> {
    if file == Path::new("-") {
        return Ok(("standard input".to_owned(), input::read_stdin()?));
    }
    Ok((file.display().to_string(), input::read_text(file)?))
}

#[cfg(test)]
mod tests;
