//! `policy check`: reports whether the operator accepts a file as a policy, and why not.

use crate::policy::{component, failure};
use anyhow::{Context, Result};
use policy_host::{
    CompileProcess, Compiled, EvalError, FunctionNames, Host, ItemSettings, Limits, Policy,
};
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use wasmparser::{Parser, Payload};

/// Arguments of `policy check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The policy: a component (plain or gzip), the core module that cargo builds, or the name of a
    /// built-in policy, such as `default`.
    file: PathBuf,
    /// Also check whether the policy accepts these group settings, a JSON object.
    #[arg(long, value_name = "JSON")]
    settings: Option<String>,
    /// Also check whether the policy accepts these settings of an item, a JSON object, for example
    /// 'photos={"weight": 2}'. The name of the item is optional. Can be repeated.
    #[arg(long, value_name = "[NAME=]JSON")]
    item_settings: Vec<String>,
}

pub(crate) fn run(args: &Args, built_in: &[u8]) -> Result<ExitCode> {
    let wasm = component::read(&args.file, built_in)?;
    let core = component::is_core_module_file(&args.file);
    let (code, accepted) = if core {
        let outcome = report_core_module(&args.file, &wasm);
        outcome.with_context(|| format!("{}", args.file.display()))?
    } else {
        let code = report(&args.file, &wasm)?;
        (code, code == ExitCode::SUCCESS)
    };
    let given = args.settings.is_some() || !args.item_settings.is_empty();
    if !given || !accepted {
        return Ok(code);
    }
    let settings = json_object("--settings", args.settings.as_deref().unwrap_or("{}"))?;
    let items = args.item_settings.iter().enumerate();
    let items = items.map(|(index, text)| item_settings(index, text));
    let items = items.collect::<Result<Vec<_>>>()?;
    let policy = component::load(&args.file, built_in)?.policy;
    let (verdict, code) = match failure::validate(&policy, &settings, &items) {
        Ok(()) => {
            let items = items.iter();
            let items = items.map(|item| format!(", {}: {}", item.name, item.settings));
            let items: String = items.collect();
            (format!("accepted: {settings}{items}"), code)
        }
        Err(failure) => (format!("rejected, {failure}"), ExitCode::FAILURE),
    };
    crate::policy::print(&format!("settings   {verdict}\n"))?;
    Ok(code)
}

/// Checks that the value of a flag is a JSON object, and returns it in its shortest form.
pub(crate) fn json_object(flag: &str, text: &str) -> Result<String> {
    let object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(text).map_err(|error| {
            anyhow::anyhow!(
                "{flag}: {text:?} is not a JSON object: {error}; use for example {{\"base\": \"5m\"}}"
            )
        })?;
    Ok(serde_json::to_string(&object)?)
}

/// Parses `NAME=JSON` or `JSON`. The JSON object starts at the first brace.
fn item_settings(index: usize, text: &str) -> Result<ItemSettings> {
    let (name, json) = text.split_at(text.find('{').unwrap_or(0));
    let name = match name.strip_suffix('=') {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => {
            anyhow::ensure!(
                name.is_empty(),
                "--item-settings: {text:?} has no = between the name of the item and its settings; \
                 use for example photos={{\"weight\": 2}}"
            );
            format!("item-{}", index + 1)
        }
    };
    Ok(ItemSettings {
        name,
        settings: json_object("--item-settings", json)?,
    })
}

/// Prints a report on a core module and on the component that `pack` converts it to. Also returns
/// whether the operator accepts that component.
fn report_core_module(file: &Path, converted: &[u8]) -> Result<(ExitCode, bool)> {
    let bytes = std::fs::metadata(file)?.len();
    let (text, code) = inspect(converted, component::function_names(file, converted));
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
    let wasm = component::unpack(bytes);
    let size = match &wasm {
        Cow::Owned(wasm) => format!("{} bytes packed, {} unpacked", bytes.len(), wasm.len()),
        Cow::Borrowed(_) => format!("{} bytes", bytes.len()),
    };
    let (text, code) = inspect(&wasm, component::function_names(file, bytes));
    crate::policy::print(&format!("file       {}, {size}\n{text}", file.display()))?;
    Ok(code)
}

/// Describes a component. Compiles it in a child process with the operator's limits.
fn inspect(bytes: &[u8], names: FunctionNames) -> (String, ExitCode) {
    let mut text = String::new();
    if let Some(names) = ImportsAndExports::parse(bytes) {
        text += &format!("imports    {}\n", join(&names.imports));
        text += &format!("exports    {}\n", join(&names.exports));
    }
    let process = Host::new(Limits::default()).map(CompileProcess::of_this_program);
    match process.map(|process| process.compile(bytes)) {
        Ok(Ok(Compiled { policy, .. })) => {
            text += &describe_accepted(&policy.with_names(names));
            (text, ExitCode::SUCCESS)
        }
        Ok(Err(error)) => {
            let error = error.with_names(&names);
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
            "the operator accepts it, but the trial request failed: {}: {error:#}",
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
