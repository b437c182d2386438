//! Dependencies: licenses, sources, versions, and features.

use anyhow::{Context, Result, ensure};
use oaat_tests::operator::root;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// The licenses that dependencies may have. An expression with `OR` needs one of them, and one with
/// `AND` needs all of its licenses.
const LICENSES: [&str; 13] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    // Only the icons of the book, which is not part of a release.
    "CC-BY-4.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    // Only mdBook, which builds the documentation.
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// The older versions of crates that exist in several versions, each with the crate that requires it.
/// Remove an entry when nothing requires the version any more.
const OLDER_VERSIONS: [(&str, &str, &str); 25] = [
    ("base64", "0.22.", "k8s-openapi, reqwest, tower-http"),
    ("bit-vec", "0.8.", "proptest"),
    ("block-buffer", "0.10.", "wasmtime"),
    ("cpufeatures", "0.2.", "wasmtime"),
    ("crypto-common", "0.1.", "wasmtime"),
    ("darling", "0.20.", "derive_builder"),
    ("darling_core", "0.20.", "derive_builder"),
    ("darling_macro", "0.20.", "derive_builder"),
    ("digest", "0.10.", "wasmtime"),
    ("embedded-io", "0.4.", "wasmtime"),
    ("getrandom", "0.2.", "ring"),
    ("getrandom", "0.3.", "stateright"),
    ("hashbrown", "0.14.", "stateright"),
    ("hashbrown", "0.16.", "gimli, kube-runtime"),
    ("r-efi", "5.", "stateright"),
    ("rand", "0.9.", "stateright"),
    ("rand_core", "0.9.", "stateright"),
    ("sha2", "0.10.", "wasmtime"),
    ("syn", "2.", "many derive macros"),
    ("synstructure", "0.13.", "asn1-rs"),
    ("thiserror", "1.", "cel"),
    ("thiserror-impl", "1.", "cel"),
    ("tower-http", "0.6.", "reqwest"),
    ("windows-sys", "0.52.", "ring"),
    ("wit-bindgen", "0.57.", "wasip2"),
];

/// A package in the output of `cargo metadata`.
#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

/// Returns all packages that Cargo.lock names, for all platforms.
fn packages() -> Result<Vec<Package>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    let output = control_plane::cargo()
        .current_dir(root())
        .args(["metadata", "--format-version", "1", "--locked"])
        .output()
        .context("failed to start cargo")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo metadata: {errors}");
    let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
    Ok(metadata.packages)
}

/// Returns whether the allowed licenses satisfy a license expression. `AND` binds more tightly than
/// `OR`, and some crates write `/` instead of `OR`.
fn is_licensed(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    let mut words = expression.replace('(', " ( ").replace(')', " ) ");
    // The innermost parentheses first; each becomes an allowed license or one that is not.
    while let Some(close) = words.find(" ) ") {
        let Some(open) = words[..close].rfind(" ( ") else {
            return false;
        };
        let inner = if is_licensed(&words[open + 3..close]) {
            LICENSES[0]
        } else {
            "none"
        };
        words.replace_range(open..close + 3, &format!(" {inner} "));
    }
    words.split(" OR ").any(|all| {
        let mut all = all.split(" AND ").map(str::trim);
        all.all(|license| LICENSES.contains(&license))
    })
}

#[test]
fn license_expressions_are_evaluated() {
    for expression in [
        "MIT",
        "GPL-3.0 OR MIT",
        "MIT/Apache-2.0",
        "Apache-2.0 / MIT",
        "(MIT OR GPL-3.0) AND Unicode-3.0",
        "Apache-2.0 WITH LLVM-exception OR GPL-3.0",
    ] {
        assert!(is_licensed(expression), "{expression}");
    }
    for expression in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND GPL-3.0"] {
        assert!(!is_licensed(expression), "{expression}");
    }
}

#[test]
fn dependencies_have_allowed_licenses_and_come_from_crates_io() -> Result<()> {
    for package in packages()? {
        let Package { name, version, .. } = &package;
        let source = package.source.as_deref();
        ensure!(
            source.is_none_or(|s| s == "registry+https://github.com/rust-lang/crates.io-index"),
            "{name} {version} comes from {source:?}"
        );
        let license = package.license.as_deref().unwrap_or_default();
        ensure!(is_licensed(license), "{name} {version}: {license:?}");
    }
    Ok(())
}

#[test]
fn dependencies_have_several_versions_only_if_listed() -> Result<()> {
    let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in packages()? {
        versions
            .entry(package.name)
            .or_default()
            .push(package.version);
    }
    let number = |version: &String| -> Vec<u64> {
        let parts = version.split(['.', '+', '-']);
        parts.map_while(|part| part.parse().ok()).collect()
    };
    let mut unlisted = Vec::new();
    let mut unused: BTreeSet<_> = OLDER_VERSIONS
        .map(|(name, prefix, _)| (name, prefix))
        .into();
    for (name, mut versions) in versions {
        versions.sort_by_key(number);
        versions.pop();
        for version in versions {
            let listed = |(n, prefix): &(&str, &str)| *n == name && version.starts_with(prefix);
            let before = unused.len();
            unused.retain(|entry| !listed(entry));
            if unused.len() == before {
                unlisted.push(format!("{name} {version}"));
            }
        }
    }
    ensure!(
        unlisted.is_empty() && unused.is_empty(),
        "not in OLDER_VERSIONS: {unlisted:?}; no longer needed there: {unused:?}"
    );
    Ok(())
}

/// Checks that `cargo test` and `cargo build` can share the compiled dependencies. Compiling them
/// twice takes minutes.
#[test]
fn dependencies_have_the_same_features_with_and_without_development_dependencies() -> Result<()> {
    let tree = |edges: &str| -> Result<BTreeSet<String>> {
        let output = control_plane::cargo()
            .current_dir(root())
            .args(["tree", "--workspace", "--prefix", "none"])
            .args(["--format", "{p} [{f}]", "--edges", edges])
            .output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "cargo tree: {errors}");
        let lines = String::from_utf8(output.stdout)?;
        // Repeated packages are marked.
        let packages = lines.lines().map(|line| line.trim_end_matches(" (*)"));
        Ok(packages.map(ToOwned::to_owned).collect())
    };
    let with = tree("normal,build,dev")?;
    let without = tree("normal,build")?;
    let different: Vec<_> = without.difference(&with).collect();
    ensure!(
        different.is_empty(),
        "development dependencies change the features of: {different:#?}"
    );
    Ok(())
}
