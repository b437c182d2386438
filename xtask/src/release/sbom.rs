//! The software bill of materials of a binary, in the format CycloneDX (JSON). It has neither a
//! serial number nor a time, so that it depends only on Cargo.lock.

use crate::cargo;
use crate::cross::Arch;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;

/// The crates that are linked into the binaries, by identifier, such as `anyhow@1.0.104`.
#[derive(Default)]
pub(crate) struct Crates(BTreeMap<String, Crate>);

#[derive(Default)]
struct Crate {
    license: String,
    dependencies: BTreeSet<String>,
}

impl Crates {
    /// Reads the crates of the binaries, and of the policies that both contain, from cargo.
    pub(crate) fn of_binaries(archs: &[Arch], policies: &[&str]) -> Result<Self> {
        let mut crates = Self::default();
        let targets: Vec<_> = archs.iter().map(|arch| arch.triple()).collect();
        crates.add(&tree(&["oaat-operator", "kubectl-oaat"], &targets)?)?;
        let policies = policies.iter().chain([&"default"]);
        let policies: Vec<_> = policies.map(|name| format!("policy-{name}")).collect();
        crates.add(&tree(&policies, &["wasm32-unknown-unknown".to_owned()])?)?;
        // The binaries depend on the policies through a build script, which cargo does not report.
        let version = env!("CARGO_PKG_VERSION");
        let policies = policies.iter().map(|name| format!("{name}@{version}"));
        let embedding = format!("built-in-policies@{version}");
        let embedding = crates.0.entry(embedding).or_default();
        embedding.dependencies.extend(policies);
        Ok(crates)
    }

    /// Adds the crates in the output of `cargo tree`.
    fn add(&mut self, tree: &str) -> Result<()> {
        // The crate that was last seen at each depth.
        let mut path: Vec<String> = Vec::new();
        for line in tree.lines().filter(|line| !line.is_empty()) {
            let (depth, id, license) = parse(line)
                .with_context(|| format!("unexpected output of cargo tree: {line:?}"))?;
            path.truncate(depth);
            if let Some(parent) = path.last() {
                let parent = self.0.entry(parent.clone()).or_default();
                parent.dependencies.insert(id.clone());
            }
            self.0.entry(id.clone()).or_default().license = license;
            path.push(id);
        }
        Ok(())
    }

    /// Returns the crates in the binary of a package, including the package.
    fn reachable(&self, package: &str) -> BTreeMap<&str, &Crate> {
        let mut found = BTreeMap::new();
        let mut open = vec![package];
        while let Some(id) = open.pop() {
            let Some((id, entry)) = self.0.get_key_value(id) else {
                continue;
            };
            if found.insert(id.as_str(), entry).is_none() {
                open.extend(entry.dependencies.iter().map(String::as_str));
            }
        }
        found
    }

    /// Returns the document for the binary of a package. `lock` is the content of Cargo.lock.
    pub(crate) fn document(&self, package: &str, lock: &str) -> Result<Vec<u8>> {
        let package = format!("{package}@{}", env!("CARGO_PKG_VERSION"));
        let checksums = checksums(lock);
        let crates = self.reachable(&package);
        if !crates.contains_key(package.as_str()) {
            bail!("cargo tree reports no package {package}");
        }
        let component = |id: &str, kind: &str| {
            let (name, version) = id.split_once('@').unwrap_or((id, ""));
            let mut component = json!({
                "type": kind,
                "bom-ref": id,
                "name": name,
                "version": version,
                "licenses": [{ "expression": crates[id].license }],
            });
            // The crates of this repository have no checksum, and are not published.
            if let Some(checksum) = checksums.get(id) {
                component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
                component["purl"] = json!(format!("pkg:cargo/{id}"));
            }
            component
        };
        let libraries: Vec<Value> = crates
            .keys()
            .filter(|id| **id != package)
            .map(|id| component(id, "library"))
            .collect();
        let dependencies: Vec<Value> = crates
            .iter()
            .map(|(id, entry)| json!({ "ref": id, "dependsOn": entry.dependencies }))
            .collect();
        let mut document = serde_json::to_vec_pretty(&json!({
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "version": 1,
            "metadata": { "component": component(&package, "application") },
            "components": libraries,
            "dependencies": dependencies,
        }))?;
        document.push(b'\n');
        Ok(document)
    }
}

/// Returns the tree of the crates that are linked into packages for targets.
fn tree(packages: &[impl AsRef<OsStr>], targets: &[String]) -> Result<String> {
    let mut tree = cargo();
    tree.args(["tree", "--locked", "--edges", "normal,no-proc-macro"]);
    tree.args(["--prefix", "depth", "--format", " {p}\t{l}"]);
    for package in packages {
        tree.arg("--package").arg(package);
    }
    for target in targets {
        tree.args(["--target", target]);
    }
    let output = tree.output().context("failed to start cargo")?;
    if !output.status.success() {
        bail!(
            "cargo tree failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Parses a line such as `2 anyhow v1.0.104<tab>MIT OR Apache-2.0 (*)` into the depth, the
/// identifier, and the license.
fn parse(line: &str) -> Option<(usize, String, String)> {
    let (depth, rest) = line.split_once(' ')?;
    let (package, license) = rest.split_once('\t')?;
    let mut words = package.split(' ');
    let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
    // The older form of a license expression has a slash.
    let license = license.trim_end_matches(" (*)").replace(" / ", "/");
    let license = license.replace('/', " OR ");
    Some((depth.parse().ok()?, format!("{name}@{version}"), license))
}

/// Returns the checksums in Cargo.lock by identifier.
fn checksums(lock: &str) -> BTreeMap<String, &str> {
    let packages = lock.split("[[package]]").skip(1).filter_map(|package| {
        let field = |name: &str| {
            let mut lines = package.lines();
            lines.find_map(|line| {
                let value = line.strip_prefix(name)?.strip_prefix(" = \"")?;
                value.strip_suffix('"')
            })
        };
        let id = format!("{}@{}", field("name")?, field("version")?);
        Some((id, field("checksum")?))
    });
    packages.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = "version = 4\n\n[[package]]\nname = \"oaat-operator\"\nversion = \"0.1.0\"\n\n\
                        [[package]]\nname = \"a\"\nversion = \"1.2.3\"\nchecksum = \"0123\"\n";

    #[test]
    fn sbom_contains_what_one_binary_contains() {
        let version = env!("CARGO_PKG_VERSION");
        let tree = format!(
            "0 kubectl-oaat v{version} (/src/cli)\tApache-2.0\n1 cli-only v1.0.0\tMIT\n\
             2 a v1.2.3\tMIT/Apache-2.0\n3 b v1.0.0\tISC\n\n\
             0 oaat-operator v{version} (/src/operator)\tApache-2.0\n\
             1 a v1.2.3\tMIT/Apache-2.0 (*)\n"
        );
        let mut crates = Crates::default();
        crates.add(&tree).expect("the lines are valid");
        let document = crates.document("oaat-operator", LOCK);
        let document = document.expect("the package is in the tree");
        let document: Value = serde_json::from_slice(&document).expect("it is JSON");
        let operator = format!("oaat-operator@{version}");
        assert_eq!(document["metadata"]["component"]["bom-ref"], operator);
        // What is below `a` is only in the part of the tree of the other binary.
        let expected = json!([
            {
                "type": "library", "bom-ref": "a@1.2.3", "name": "a", "version": "1.2.3",
                "licenses": [{ "expression": "MIT OR Apache-2.0" }],
                "hashes": [{ "alg": "SHA-256", "content": "0123" }],
                "purl": "pkg:cargo/a@1.2.3",
            },
            {
                "type": "library", "bom-ref": "b@1.0.0", "name": "b", "version": "1.0.0",
                "licenses": [{ "expression": "ISC" }],
            },
        ]);
        assert_eq!(document["components"], expected);
        let expected = json!([
            { "ref": "a@1.2.3", "dependsOn": ["b@1.0.0"] },
            { "ref": "b@1.0.0", "dependsOn": [] },
            { "ref": operator, "dependsOn": ["a@1.2.3"] },
        ]);
        assert_eq!(document["dependencies"], expected);
    }

    #[test]
    fn sbom_of_an_unknown_package_is_an_error() {
        let error = Crates::default().document("other", "").unwrap_err();
        assert!(error.to_string().contains("other@"), "{error}");
        assert!(Crates::default().add("no depth\n").is_err());
    }
}
