//! `policy pack`: the ConfigMap that ships a policy.

use crate::policy::component;
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
    Names::check(args)?;
    // As it is: what is gzip already stays so.
    let bytes = component::read(&args.file, built_in)?;
    let policy = component::load(&args.file, built_in)?.policy;
    let packed = if args.gzip && !component::is_gzip(&bytes) {
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
    crate::policy::print(&manifest)?;
    let within = match &args.namespace {
        Some(namespace) => format!(" -n {namespace}"),
        None => String::new(),
    };
    let apply = match manifest.len() > ANNOTATIONS - 4096 {
        true => format!(
            "kubectl apply{within} --server-side -f - (it is too large for a plain kubectl apply)"
        ),
        false => format!("kubectl apply{within} -f -"),
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

/// The rules of the API server for the names in a manifest.
enum Names {
    /// A DNS subdomain: labels with dots between them.
    Object,
    /// A DNS label.
    Namespace,
    /// A key of a ConfigMap.
    Key,
}

impl Names {
    fn check(args: &Args) -> Result<()> {
        Self::Object.named("--name", &args.name)?;
        Self::Key.named("--key", &args.key)?;
        if let Some(namespace) = &args.namespace {
            Self::Namespace.named("--namespace", namespace)?;
        }
        Ok(())
    }

    fn fits(&self, name: &str) -> bool {
        let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let label = |label: &str| {
            label.chars().all(|c| letter(c) || c == '-')
                && label.starts_with(letter)
                && label.ends_with(letter)
        };
        match self {
            Self::Object => name.len() <= 253 && name.split('.').all(label),
            Self::Namespace => name.len() <= 63 && label(name),
            Self::Key => {
                let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
                (1..=253).contains(&name.len())
                    && name.chars().all(allowed)
                    && name != "."
                    && !name.starts_with("..")
            }
        }
    }

    fn named(&self, what: &str, name: &str) -> Result<()> {
        if self.fits(name) {
            return Ok(());
        }
        let rule = match self {
            Self::Object => {
                "up to 253 lower-case letters, digits, - and ., with a letter or digit at both ends and on both \
                 sides of each dot, such as my-policy"
            }
            Self::Namespace => {
                "up to 63 lower-case letters, digits and -, with a letter or digit at both ends, such as backups"
            }
            Self::Key => {
                "1 to 253 letters, digits, -, _ and ., not beginning with two dots, such as policy.wasm"
            }
        };
        bail!("{what} is {name:?}; it must be {rule}");
    }
}

/// The same bytes for the same component, whenever and wherever.
fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut writer = GzBuilder::new()
        .mtime(0)
        .write(Vec::new(), Compression::best());
    writer.write_all(bytes)?;
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_the_api_server_takes() {
        let long = |count: usize| "a".repeat(count);
        let cases = [
            (Names::Object, "a", true),
            (Names::Object, "my-policy.v1", true),
            (Names::Object, &long(253), true),
            (Names::Object, &long(254), false),
            (Names::Object, "", false),
            (Names::Object, "My", false),
            (Names::Object, "a_b", false),
            (Names::Object, "-a", false),
            (Names::Object, "a-", false),
            (Names::Object, "a..b", false),
            (Names::Object, "a.-b", false),
            (Names::Object, "a.", false),
            (Names::Namespace, "home-lab", true),
            (Names::Namespace, &long(63), true),
            (Names::Namespace, &long(64), false),
            (Names::Namespace, "a.b", false),
            (Names::Namespace, "", false),
            (Names::Key, "Policy_1.wasm", true),
            (Names::Key, "-", true),
            (Names::Key, ".hidden", true),
            (Names::Key, "", false),
            (Names::Key, ".", false),
            (Names::Key, "..", false),
            (Names::Key, "..a", false),
            (Names::Key, "a/b", false),
            (Names::Key, &long(254), false),
        ];
        for (names, name, fits) in cases {
            assert_eq!(names.fits(name), fits, "{name:?}");
            assert_eq!(names.named("--x", name).is_ok(), fits, "{name:?}");
        }
    }
}
