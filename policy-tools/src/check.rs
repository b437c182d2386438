//! `policy check`: what the operator would do with a file, and why.

use crate::component;
use anyhow::Result;
use policy_host::{EvalError, Host, Limits, Policy};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use wasmparser::{Parser, Payload};

/// The file to check.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A component (plain or gzip), or the core module that cargo builds; `default` is the
    /// built-in policy.
    file: PathBuf,
    /// The settings that a group would give it, a JSON object: would it accept them?
    #[arg(long, value_name = "JSON")]
    settings: Option<String>,
}

pub(crate) fn run(args: &Args, built_in: &[u8]) -> Result<ExitCode> {
    let wasm = component::read(&args.file, built_in)?;
    let code = report(&args.file, &wasm);
    let (Some(settings), true) = (&args.settings, code == ExitCode::SUCCESS) else {
        return Ok(code);
    };
    let settings: serde_json::Map<String, serde_json::Value> = serde_json::from_str(settings)
        .map_err(|error| anyhow::anyhow!("--settings: {settings:?} is no JSON object: {error}"))?;
    let policy = component::load(&args.file, built_in)?.policy;
    let settings = serde_json::to_string(&settings)?;
    Ok(match policy.validate(&settings, &[]).answer {
        Ok(()) => {
            println!("settings   accepted: {settings}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let words = match error {
                EvalError::PolicyError(words) => words,
                other => other.to_string(),
            };
            println!("settings   refused, SettingsRejected: {words}");
            ExitCode::FAILURE
        }
    })
}

/// Prints what there is to say about a component; success when the operator would take it.
pub(crate) fn report(file: &Path, bytes: &[u8]) -> ExitCode {
    println!("file       {}, {} bytes", file.display(), bytes.len());
    if let Some((imports, exports)) = names(bytes) {
        println!("imports    {}", listed(&imports));
        println!("exports    {}", listed(&exports));
    }
    let outcome = Host::new(Limits::default()).map(|host| host.load(bytes, None));
    match outcome {
        Ok(Ok(policy)) => {
            accepted(&policy);
            ExitCode::SUCCESS
        }
        Ok(Err(error)) => {
            println!("verdict    refused, {}: {error}", error.reason());
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("verdict    unknown: {error}");
            ExitCode::from(2)
        }
    }
}

fn accepted(policy: &Policy) {
    println!("sha256     {}", policy.digest());
    println!("contract   oaat:policy@{}", policy.contract());
    let probe = policy.probe();
    println!(
        "fuel       {} of {} for the trial request of 2 items",
        probe.fuel,
        policy.fuel_limit(2)
    );
    match probe.answer {
        Ok(_) => println!("verdict    the operator takes it"),
        Err(EvalError::PolicyError(words)) => println!(
            "verdict    the operator takes it; to the trial request, which has no settings, it answered: {words}"
        ),
        Err(error) => println!(
            "verdict    the operator takes it, but its answer to the trial request was no good, {}: {error}",
            error.reason()
        ),
    }
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "none".into(),
        names => names.join(", "),
    }
}

/// The names that a component imports and exports. Not to be had where it is no component.
fn names(bytes: &[u8]) -> Option<(Vec<String>, Vec<String>)> {
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.ok()? {
            Payload::ComponentSection { .. } | Payload::ModuleSection { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    imports.push(import.ok()?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    exports.push(export.ok()?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Some((imports, exports))
}
