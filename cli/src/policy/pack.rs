//! `policy pack`: prints a ConfigMap that contains a policy.

use crate::policy::component;
use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use policy_host::{compress, is_gzip};
use std::path::PathBuf;
use std::process::ExitCode;

/// The maximum size of a ConfigMap, keys and values together.
const MAX_CONFIG_MAP: usize = 1 << 20;

/// The default of `configMap.key` in a group.
const DEFAULT_KEY: &str = "policy.wasm";

/// Arguments of `policy pack`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A component (plain or gzip), the core module that cargo builds, or the name of a built-in
    /// policy, such as `backoff`.
    file: PathBuf,
    /// The name of the ConfigMap.
    #[arg(long)]
    name: String,
    /// The namespace of the ConfigMap and of the groups that use it. The default is the namespace
    /// of the current kubectl context.
    #[arg(long, short)]
    namespace: Option<String>,
    /// The key under `binaryData`.
    #[arg(long, default_value = DEFAULT_KEY)]
    key: String,
    /// Compress the component with gzip.
    #[arg(long)]
    gzip: bool,
}

pub(crate) fn run(args: &Args, built_in: &[u8]) -> Result<ExitCode> {
    NameRule::check_all(args)?;
    // A file that is already compressed is packed unchanged.
    let bytes = component::read(&args.file, built_in)?;
    let policy = component::load(&args.file, built_in)?.policy;
    let packed = if args.gzip && !is_gzip(&bytes) {
        compress(&bytes).context("--gzip")?
    } else {
        bytes
    };
    if packed.len() + args.key.len() > MAX_CONFIG_MAP {
        let hint = if args.gzip {
            "reduce its size"
        } else {
            "try --gzip"
        };
        bail!(
            "{}: {} bytes exceed the maximum size of a ConfigMap, {MAX_CONFIG_MAP} bytes; {hint}",
            args.file.display(),
            packed.len()
        );
    }
    let manifest = manifest(args, policy.digest(), &packed);
    crate::policy::print(&manifest)?;
    crate::terminal::report(&hint(args, policy.digest(), packed.len()));
    Ok(ExitCode::SUCCESS)
}

/// Returns a command and a part of a group's spec to paste. A client-side `kubectl apply` fails for
/// large policies, because it stores the whole manifest in an annotation.
fn hint(args: &Args, digest: &str, packed: usize) -> String {
    let mut command = format!(
        "kubectl-oaat policy pack {} --name {}",
        quoted(&args.file.to_string_lossy()),
        args.name
    );
    let default_key = args.key == DEFAULT_KEY;
    if !default_key {
        command += &format!(" --key={}", args.key);
    }
    if args.gzip {
        command += " --gzip";
    }
    let mut apply = "kubectl apply".to_owned();
    if let Some(namespace) = &args.namespace {
        command += &format!(" --namespace {namespace}");
        apply += &format!(" --namespace {namespace}");
    }
    let key = if default_key {
        String::new()
    } else {
        format!(", key: {:?}", args.key)
    };
    format!(
        "{packed} bytes, sha256 {digest}\n\
         to apply it:\n  {command} | {apply} --server-side -f -\n\
         to use it in a group in the same namespace:\n  spec:\n    policy:\n      \
         configMap: {{name: {:?}{key}}}\n      sha256: {digest:?}",
        args.name,
    )
}

/// Quotes a word for a shell, if necessary.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Formats the manifest as YAML. Valid names need no escapes in double quotes.
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
enum NameRule {
    /// A DNS subdomain: labels with dots between them.
    Object,
    /// A DNS label.
    Namespace,
    /// A key of a ConfigMap.
    Key,
}

impl NameRule {
    fn check_all(args: &Args) -> Result<()> {
        Self::Object.check("--name", &args.name)?;
        Self::Key.check("--key", &args.key)?;
        if let Some(namespace) = &args.namespace {
            Self::Namespace.check("--namespace", namespace)?;
        }
        Ok(())
    }

    fn accepts(&self, name: &str) -> bool {
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

    fn check(&self, option: &str, name: &str) -> Result<()> {
        if self.accepts(name) {
            return Ok(());
        }
        let (kind, fix) = match self {
            Self::Object => (
                "the name of a ConfigMap",
                "at most 253 lowercase letters, digits, -, and ., with a letter or digit at both ends and on both \
                 sides of each dot, for example my-policy",
            ),
            Self::Namespace => (
                "a namespace",
                "at most 63 lowercase letters, digits, and -, with a letter or digit at both ends, for example \
                 backups",
            ),
            Self::Key => (
                "a key of a ConfigMap",
                "1 to 253 letters, digits, -, _, and ., not starting with two dots, for example policy.wasm",
            ),
        };
        bail!("{option}: {name:?} is not {kind}; use {fix}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hint_can_be_pasted() {
        let args = Args {
            file: "it's/a policy.wasm".into(),
            name: "1".into(),
            namespace: Some("backups".into()),
            key: "-v2".into(),
            gzip: true,
        };
        let expected = "9 bytes, sha256 0e1\n\
             to apply it:\n  \
             kubectl-oaat policy pack 'it'\\''s/a policy.wasm' --name 1 --key=-v2 --gzip --namespace backups | \
             kubectl apply --namespace backups --server-side -f -\n\
             to use it in a group in the same namespace:\n  spec:\n    policy:\n      \
             configMap: {name: \"1\", key: \"-v2\"}\n      sha256: \"0e1\"";
        assert_eq!(hint(&args, "0e1", 9), expected);
        let args = Args {
            file: "target/my_policy.wasm".into(),
            name: "my-policy".into(),
            namespace: None,
            key: DEFAULT_KEY.into(),
            gzip: false,
        };
        let hint = hint(&args, "ab", 9);
        let command = "\n  kubectl-oaat policy pack target/my_policy.wasm --name my-policy | \
             kubectl apply --server-side -f -\n";
        assert!(hint.contains(command), "{hint}");
        assert!(
            hint.contains("configMap: {name: \"my-policy\"}\n"),
            "{hint}"
        );
    }

    #[test]
    fn name_rules_match_the_api_server() {
        let long = |count: usize| "a".repeat(count);
        let cases = [
            (NameRule::Object, "a", true),
            (NameRule::Object, "my-policy.v1", true),
            (NameRule::Object, &long(253), true),
            (NameRule::Object, &long(254), false),
            (NameRule::Object, "", false),
            (NameRule::Object, "My", false),
            (NameRule::Object, "a_b", false),
            (NameRule::Object, "-a", false),
            (NameRule::Object, "a-", false),
            (NameRule::Object, "a..b", false),
            (NameRule::Object, "a.-b", false),
            (NameRule::Object, "a.", false),
            (NameRule::Namespace, "home-lab", true),
            (NameRule::Namespace, &long(63), true),
            (NameRule::Namespace, &long(64), false),
            (NameRule::Namespace, "a.b", false),
            (NameRule::Namespace, "", false),
            (NameRule::Key, "Policy_1.wasm", true),
            (NameRule::Key, "-", true),
            (NameRule::Key, ".hidden", true),
            (NameRule::Key, "", false),
            (NameRule::Key, ".", false),
            (NameRule::Key, "..", false),
            (NameRule::Key, "..a", false),
            (NameRule::Key, "a/b", false),
            (NameRule::Key, &long(254), false),
        ];
        for (rule, name, accepted) in cases {
            assert_eq!(rule.accepts(name), accepted, "{name:?}");
            assert_eq!(rule.check("--x", name).is_ok(), accepted, "{name:?}");
        }
    }
}
