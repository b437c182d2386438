//! `policy check`: what the operator would do with a file, and why.

use crate::policy::component;
use anyhow::{Context, Result};
use flate2::read::MultiGzDecoder;
use policy_host::{CompileProcess, Compiled, EvalError, Host, Limits, Policy};
use std::io::Read;
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
    let core = std::fs::read(&args.file).is_ok_and(|bytes| component::is_core_module(&bytes));
    let (code, taken) = if core {
        let said = core_module(&args.file, &wasm);
        said.with_context(|| format!("{}", args.file.display()))?
    } else {
        let code = report(&args.file, &wasm)?;
        (code, code == ExitCode::SUCCESS)
    };
    let (Some(settings), true) = (&args.settings, taken) else {
        return Ok(code);
    };
    let settings: serde_json::Map<String, serde_json::Value> = serde_json::from_str(settings)
        .map_err(|error| anyhow::anyhow!("--settings: {settings:?} is no JSON object: {error}"))?;
    let policy = component::load(&args.file, built_in)?.policy;
    let settings = serde_json::to_string(&settings)?;
    Ok(match policy.validate(&settings, &[]).answer {
        Ok(()) => {
            crate::policy::print(&format!("settings   accepted: {settings}\n"))?;
            code
        }
        Err(error) => {
            let words = match error {
                EvalError::PolicyError(words) => words,
                other => other.to_string(),
            };
            crate::policy::print(&format!("settings   refused, SettingsRejected: {words}\n"))?;
            ExitCode::FAILURE
        }
    })
}

/// Says of cargo's core module what the operator would do with it, and with the component that
/// the tools make of it, and whether it would take that.
fn core_module(file: &Path, made: &[u8]) -> Result<(ExitCode, bool)> {
    let bytes = std::fs::metadata(file)?.len();
    let (text, code) = examined(made);
    crate::policy::print(&format!(
        "file       {}, {bytes} bytes: a core module, as cargo builds it\n\
         verdict    refused as it is, Malformed: the operator takes components only. `kubectl-oaat policy pack` ships \
         the component that it makes of this one, and `policy build` writes it down\n\
         \nThat component:\nsize       {} bytes\n{text}",
        file.display(),
        made.len(),
    ))?;
    Ok((ExitCode::FAILURE, code == ExitCode::SUCCESS))
}

/// Prints what there is to say about a component; success when the operator would take it.
pub(crate) fn report(file: &Path, bytes: &[u8]) -> Result<ExitCode> {
    let unpacked = match component::is_gzip(bytes) {
        true => unpack(bytes),
        false => None,
    };
    let size = match &unpacked {
        Some(wasm) => format!("{} bytes packed, {} unpacked", bytes.len(), wasm.len()),
        None => format!("{} bytes", bytes.len()),
    };
    let (text, code) = examined(unpacked.as_deref().unwrap_or(bytes));
    crate::policy::print(&format!("file       {}, {size}\n{text}", file.display()))?;
    Ok(code)
}

/// What is in gzip, if it is not more than a component may be.
fn unpack(bytes: &[u8]) -> Option<Vec<u8>> {
    let limit = Limits::default().component;
    let mut wasm = Vec::new();
    let mut unpacked = MultiGzDecoder::new(bytes).take(limit as u64 + 1);
    unpacked.read_to_end(&mut wasm).ok()?;
    (wasm.len() <= limit).then_some(wasm)
}

/// Reports on a component's content. It is compiled by the operator's own compiler process, under
/// its limits.
fn examined(bytes: &[u8]) -> (String, ExitCode) {
    let mut text = String::new();
    if let Some((imports, exports)) = names(bytes) {
        text += &format!("imports    {}\n", listed(&imports));
        text += &format!("exports    {}\n", listed(&exports));
    }
    let process = Host::new(Limits::default()).map(CompileProcess::of_this_program);
    match process.map(|process| process.compile(bytes)) {
        Ok(Ok(Compiled { policy, .. })) => {
            text += &accepted(&policy);
            (text, ExitCode::SUCCESS)
        }
        Ok(Err(error)) => {
            text += &format!("verdict    refused, {}: {error}\n", error.reason());
            (text, ExitCode::FAILURE)
        }
        Err(error) => {
            text += &format!("verdict    unknown: {error}\n");
            (text, ExitCode::from(2))
        }
    }
}

fn accepted(policy: &Policy) -> String {
    let probe = policy.probe();
    let verdict = match probe.answer {
        Ok(_) => "the operator takes it".to_owned(),
        Err(EvalError::PolicyError(words)) => format!(
            "the operator takes it; to the trial request, which has no settings, it answered: {words}"
        ),
        Err(error) => format!(
            "the operator takes it, but its answer to the trial request was no good, {}: {error}",
            error.reason()
        ),
    };
    format!(
        "sha256     {}\ncontract   oaat:policy@{}\n\
         fuel       {} of {} for the trial request of 2 items\nverdict    {verdict}\n",
        policy.digest(),
        policy.contract(),
        probe.fuel,
        policy.fuel_limit(2)
    )
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
