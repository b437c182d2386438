//! `policy pack`: the ConfigMap that ships a policy.

use crate::component;
use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::{Compression, GzBuilder};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Most bytes that the API server takes in one ConfigMap, keys and values together.
const CONFIG_MAP: usize = 1 << 20;
/// Most bytes of all annotations of an object. `kubectl apply` keeps the whole manifest in one,
/// unless it works on the server's side.
const ANNOTATIONS: usize = 256 << 10;

/// What to pack, and how.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A component (plain or gzip), or the core module that cargo builds.
    file: PathBuf,
    /// Name of the ConfigMap.
    #[arg(long)]
    name: String,
    /// Namespace of the ConfigMap: that of the groups that use it. By default kubectl's.
    #[arg(long, short)]
    namespace: Option<String>,
    /// The key.
    #[arg(long, default_value = "policy.wasm")]
    key: String,
    /// Compress it.
    #[arg(long)]
    gzip: bool,
}

pub(crate) fn run(args: &Args, built_in: &[u8]) -> Result<ExitCode> {
    // As it is: what is gzip already stays so.
    let bytes = component::read(&args.file, built_in)?;
    let policy = component::load(&args.file, built_in)?.policy;
    named_well(&args.name, "--name", false)?;
    named_well(&args.key, "--key", true)?;
    if let Some(namespace) = &args.namespace {
        named_well(namespace, "--namespace", false)?;
    }
    let packed = if args.gzip && !bytes.starts_with(&[0x1f, 0x8b]) {
        gzip(&bytes).context("--gzip")?
    } else {
        bytes
    };
    if packed.len() + args.key.len() > CONFIG_MAP {
        let hint = if args.gzip {
            "make it smaller"
        } else {
            "try --gzip"
        };
        bail!(
            "{}: {} bytes do not fit into a ConfigMap, which holds at most {CONFIG_MAP}; {hint}",
            args.file.display(),
            packed.len()
        );
    }
    let manifest = manifest(args, policy.digest(), &packed);
    print!("{manifest}");
    let apply = match manifest.len() > ANNOTATIONS - 4096 {
        true => "kubectl apply --server-side -f - (it is too large for a plain kubectl apply)",
        false => "kubectl apply -f -",
    };
    eprintln!(
        "{} bytes, sha256 {}; apply it with: {apply}\nin a group: spec.policy.configMap {{ name: {}, key: {} }}",
        packed.len(),
        policy.digest(),
        args.name,
        args.key,
    );
    Ok(ExitCode::SUCCESS)
}

/// The manifest, as YAML. Names were checked, so they need no quotes but for those that YAML
/// would take for something else.
fn manifest(args: &Args, digest: &str, packed: &[u8]) -> String {
    let namespace = match &args.namespace {
        Some(namespace) => format!("\n  namespace: {namespace:?}"),
        None => String::new(),
    };
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {:?}{namespace}\n  annotations:\n    \
         oaat.kawaja.net/policy-sha256: {digest:?}\nbinaryData:\n  {:?}: {}\n",
        args.name,
        args.key,
        STANDARD.encode(packed)
    )
}

/// The rules of the API server for names of objects, and of keys.
fn named_well(name: &str, what: &str, key: bool) -> Result<()> {
    let allowed = |c: char| {
        c.is_ascii_lowercase()
            || c.is_ascii_digit()
            || "-.".contains(c)
            || (key && (c.is_ascii_uppercase() || c == '_'))
    };
    let edges = |c: Option<char>| key || c.is_some_and(|c| c.is_ascii_alphanumeric());
    let fits = (1..=253).contains(&name.len())
        && name.chars().all(allowed)
        && edges(name.chars().next())
        && edges(name.chars().last());
    if !fits {
        let letters = if key {
            "letters, digits, -, _ and ."
        } else {
            "lower-case letters, digits, - and ."
        };
        bail!("{what} is {name:?}; it must be 1 to 253 characters of {letters}, such as my-policy");
    }
    Ok(())
}

/// The same bytes for the same component, whenever and wherever.
fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut writer = GzBuilder::new()
        .mtime(0)
        .write(Vec::new(), Compression::best());
    writer.write_all(bytes)?;
    writer.finish()
}
