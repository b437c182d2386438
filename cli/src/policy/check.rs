//! `policy check`: reports whether the operator accepts a file as a policy, and why not.

use crate::policy::component;
use anyhow::{Context, Result};
use flate2::read::MultiGzDecoder;
use policy_host::{CompileProcess, Compiled, EvalError, Host, Limits, Policy};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use wasmparser::{Parser, Payload};

/// Arguments of `policy check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A component (plain or gzip), or the core module that cargo builds; `default` is the
    /// built-in policy.
    file: PathBuf,
    /// Also check whether the policy accepts these group settings, a JSON object.
    #[arg(long, value_name = "JSON")]
    settings: Option<String>,
}

pub(crate) fn run(args: &Args, built_in: &[u8]) -> Result<ExitCode> {
    let wasm = component::read(&args.file, built_in)?;
    let core = std::fs::read(&args.file).is_ok_and(|bytes| component::is_core_module(&bytes));
    let (code, accepted) = if core {
        let outcome = report_core_module(&args.file, &wasm);
        outcome.with_context(|| format!("{}", args.file.display()))?
    } else {
        let code = report(&args.file, &wasm)?;
        (code, code == ExitCode::SUCCESS)
    };
    let (Some(settings), true) = (&args.settings, accepted) else {
        return Ok(code);
    };
    let settings: serde_json::Map<String, serde_json::Value> = serde_json::from_str(settings)
        .map_err(|error| {
            anyhow::anyhow!("--settings: {settings:?} is not a JSON object: {error}")
        })?;
    let policy = component::load(&args.file, built_in)?.policy;
    let settings = serde_json::to_string(&settings)?;
    Ok(match policy.validate(&settings, &[]).answer {
        Ok(()) => {
            crate::policy::print(&format!("settings   accepted: {settings}\n"))?;
            code
        }
        Err(error) => {
            let message = match error {
                EvalError::PolicyError(message) => message,
                other => other.to_string(),
            };
            crate::policy::print(&format!(
                "settings   rejected, SettingsRejected: {message}\n"
            ))?;
            ExitCode::FAILURE
        }
    })
}

/// Prints a report on a core module and on the component that `pack` converts it to. Also returns
/// whether the operator accepts that component.
fn report_core_module(file: &Path, converted: &[u8]) -> Result<(ExitCode, bool)> {
    let bytes = std::fs::metadata(file)?.len();
    let (text, code) = inspect(converted);
    crate::policy::print(&format!(
        "file       {}, {bytes} bytes, a core module\n\
         verdict    rejected, Malformed: the operator accepts only components; `kubectl-oaat policy pack` converts \
         this module to a component, and `policy build` also writes the component to a file\n\
         \nconverted component:\nsize       {} bytes\n{text}",
        file.display(),
        converted.len(),
    ))?;
    Ok((ExitCode::FAILURE, code == ExitCode::SUCCESS))
}

/// Prints a report on a component. Returns success if the operator accepts the component.
pub(crate) fn report(file: &Path, bytes: &[u8]) -> Result<ExitCode> {
    let unpacked = if component::is_gzip(bytes) {
        unpack(bytes)
    } else {
        None
    };
    let size = match &unpacked {
        Some(wasm) => format!("{} bytes packed, {} unpacked", bytes.len(), wasm.len()),
        None => format!("{} bytes", bytes.len()),
    };
    let (text, code) = inspect(unpacked.as_deref().unwrap_or(bytes));
    crate::policy::print(&format!("file       {}, {size}\n{text}", file.display()))?;
    Ok(code)
}

/// Decompresses gzip. Returns `None` if the content exceeds the maximum size of a component.
fn unpack(bytes: &[u8]) -> Option<Vec<u8>> {
    let limit = Limits::default().component;
    let mut wasm = Vec::new();
    let mut unpacked = MultiGzDecoder::new(bytes).take(limit as u64 + 1);
    unpacked.read_to_end(&mut wasm).ok()?;
    (wasm.len() <= limit).then_some(wasm)
}

/// Describes a component. Compiles it in a child process with the operator's limits.
fn inspect(bytes: &[u8]) -> (String, ExitCode) {
    let mut text = String::new();
    if let Some(names) = ImportsAndExports::parse(bytes) {
        text += &format!("imports    {}\n", join(&names.imports));
        text += &format!("exports    {}\n", join(&names.exports));
    }
    let process = Host::new(Limits::default()).map(CompileProcess::of_this_program);
    match process.map(|process| process.compile(bytes)) {
        Ok(Ok(Compiled { policy, .. })) => {
            text += &describe_accepted(&policy);
            (text, ExitCode::SUCCESS)
        }
        Ok(Err(error)) => {
            text += &format!("verdict    rejected, {}: {error}\n", error.reason());
            (text, ExitCode::FAILURE)
        }
        Err(error) => {
            text += &format!("verdict    unknown: {error}\n");
            (text, ExitCode::from(2))
        }
    }
}

fn describe_accepted(policy: &Policy) -> String {
    let probe = policy.probe();
    let verdict = match probe.answer {
        Ok(_) => "the operator accepts it".to_owned(),
        Err(EvalError::PolicyError(message)) => format!(
            "the operator accepts it; for the trial request, which has no settings, the policy returned the error: \
             {message}"
        ),
        Err(error) => format!(
            "the operator accepts it, but the trial request failed: {}: {error}",
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

fn join(names: &[String]) -> String {
    match names {
        [] => "none".into(),
        names => names.join(", "),
    }
}

/// The names that a component imports and exports.
#[derive(Default)]
struct ImportsAndExports {
    imports: Vec<String>,
    exports: Vec<String>,
}

impl ImportsAndExports {
    /// Parses a component. Returns `None` if the bytes are malformed.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut names = Self::default();
        let mut depth = 0;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.ok()? {
                Payload::ComponentSection { .. } | Payload::ModuleSection { .. } => depth += 1,
                Payload::End(_) => depth -= 1,
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        names.imports.push(import.ok()?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        names.exports.push(export.ok()?.name.name.to_owned());
                    }
                }
                _ => {}
            }
        }
        Some(names)
    }
}
