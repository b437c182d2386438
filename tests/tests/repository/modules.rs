//! The modules of each crate: no import cycles, and the layers of the operator.

use crate::files::{files, name};
use anyhow::{Context, Result, ensure};
use oaat_tests::operator::root;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Returns the source of a module without the tests in it.
fn source(file: &Path) -> Result<String> {
    let text = fs::read_to_string(file)?;
    let code = text.split("#[cfg(test)]\nmod tests {").next();
    Ok(code.unwrap_or_default().to_owned())
}

/// The path of a module below the root of its crate.
type ModulePath = Vec<String>;

/// The modules of a crate.
struct Modules {
    /// Their code, without tests and comments.
    code: BTreeMap<ModulePath, String>,
    /// The names that a module takes from its own submodules, each with the submodule.
    exported: BTreeMap<ModulePath, BTreeMap<String, String>>,
}

impl Modules {
    fn of(krate: &str) -> Result<Self> {
        let src = root().join(krate).join("src");
        let mut modules = Self {
            code: BTreeMap::new(),
            exported: BTreeMap::new(),
        };
        for file in files(&src, "rs")? {
            let path = file.strip_prefix(&src)?.with_extension("");
            let mut parts = path.iter().map(|part| part.to_string_lossy().into_owned());
            let mut path: ModulePath = parts.by_ref().collect();
            if path.iter().any(|part| part == "tests") {
                continue;
            }
            path.pop_if(|last| ["lib", "main", "mod"].contains(&last.as_str()));
            let code = source(&file)?;
            // A comment may link to any module.
            let lines = code.lines().filter(|l| !l.trim_start().starts_with("//"));
            let code: String = lines.flat_map(|line| [line, "\n"]).collect();
            modules.code.entry(path).or_default().push_str(&code);
        }
        for (module, code) in &modules.code {
            let uses = code.split("use ").skip(1).flat_map(use_paths);
            let own = uses.filter_map(|path| match path.as_slice() {
                [first, .., name] if modules.child(module, first).is_some() => {
                    Some((name.clone(), first.clone()))
                }
                _ => None,
            });
            modules.exported.insert(module.clone(), own.collect());
        }
        Ok(modules)
    }

    /// Returns the path of a submodule, if it exists.
    fn child(&self, module: &[String], name: &str) -> Option<ModulePath> {
        let child = [module, &[name.to_owned()]].concat();
        let is_below = |path: &ModulePath| path.starts_with(&child);
        self.code.keys().any(is_below).then_some(child)
    }

    /// Returns the module that contains what a path names. The path starts in `base`.
    fn resolve(&self, base: &[String], path: &[String]) -> ModulePath {
        let mut module = base.to_vec();
        for name in path {
            let exported = self.exported.get(&module).and_then(|own| own.get(name));
            match self.child(&module, exported.unwrap_or(name)) {
                Some(child) => module = child,
                None => break,
            }
        }
        module
    }

    /// Returns the modules that a module uses.
    fn used_by(&self, module: &[String]) -> Vec<ModulePath> {
        let code = self
            .code
            .get(module)
            .map(String::as_str)
            .unwrap_or_default();
        let mut used = Vec::new();
        for start in ["crate::", "super::"] {
            for (at, _) in code.match_indices(start) {
                let before = code[..at].chars().next_back();
                if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                    continue;
                }
                let is_super = start == "super::";
                let depth = if is_super {
                    module.len().saturating_sub(1)
                } else {
                    0
                };
                let mut base = &module[..depth];
                let mut rest = &code[at + start.len()..];
                while let Some(after) = rest.strip_prefix("super::") {
                    base = &base[..base.len().saturating_sub(1)];
                    rest = after;
                }
                let paths = use_paths(rest);
                used.extend(paths.iter().map(|path| self.resolve(base, path)));
            }
        }
        used
    }

    /// Returns which modules use which other ones, for the submodules of each module. What a module
    /// contains counts as a part of it.
    fn siblings(&self) -> BTreeMap<ModulePath, Uses> {
        let mut all: BTreeMap<ModulePath, Uses> = BTreeMap::new();
        for module in self.code.keys() {
            if let Some((name, parent)) = module.split_last() {
                let uses = all.entry(parent.to_vec()).or_default();
                uses.entry(name.clone()).or_default();
            }
            for used in self.used_by(module) {
                let same = module.iter().zip(&used).take_while(|(a, b)| a == b).count();
                if let (Some(one), Some(other)) = (module.get(same), used.get(same)) {
                    let uses = all.entry(module[..same].to_vec()).or_default();
                    uses.entry(one.clone()).or_default().insert(other.clone());
                }
            }
        }
        all
    }
}

/// Modules, each with the modules that it uses.
type Uses = BTreeMap<String, BTreeSet<String>>;

/// Returns the paths at the start of the code: one, or those in braces.
fn use_paths(code: &str) -> Vec<Vec<String>> {
    let mut prefix: Vec<String> = Vec::new();
    // The length of the prefix before each open brace.
    let mut open = Vec::new();
    let mut paths = Vec::new();
    let mut name = String::new();
    let mut chars = code.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '*' => name.push(c),
            ':' if chars.next_if_eq(&':').is_some() => prefix.push(std::mem::take(&mut name)),
            '{' if name.is_empty() => open.push(prefix.len()),
            ' ' | '\n' if !open.is_empty() && name.is_empty() => {}
            // The path ends here, and an alias follows.
            ' ' if !open.is_empty() => while chars.next_if(|c| !",}".contains(*c)).is_some() {},
            _ => {
                if !name.is_empty() {
                    let name = std::mem::take(&mut name);
                    paths.push(prefix.iter().cloned().chain([name]).collect());
                }
                if c == '}' {
                    open.pop();
                }
                match open.last() {
                    Some(length) => prefix.truncate(*length),
                    None => break,
                }
            }
        }
    }
    paths
}

/// Returns the modules of a crate, each with the modules that it uses.
fn modules(krate: &str) -> Result<Uses> {
    let mut siblings = Modules::of(krate)?.siblings();
    Ok(siblings.remove(&ModulePath::new()).unwrap_or_default())
}

/// Returns the folders of all crates, relative to the root.
fn crates() -> Result<Vec<String>> {
    let manifests = files(&root(), "toml")?;
    let folders = manifests.iter().filter(|file| file.ends_with("Cargo.toml"));
    let folders = folders.filter_map(|file| file.parent());
    Ok(folders
        .filter(|f| f.join("src").is_dir())
        .map(name)
        .collect())
}

#[test]
fn modules_have_no_import_cycles() -> Result<()> {
    let mut count = 0;
    for krate in crates()? {
        // The parts of the simulation share its world.
        if krate == "tests/simulation" {
            continue;
        }
        for (parent, mut modules) in Modules::of(&krate)?.siblings() {
            // The switches for rules reach into the code that they change, in the simulation only.
            modules.remove("mutation");
            count += modules.len();
            // Repeatedly removes the modules that use none of the remaining ones.
            loop {
                let known: BTreeSet<String> = modules.keys().cloned().collect();
                let before = modules.len();
                modules.retain(|_, used| used.iter().any(|other| known.contains(other)));
                if modules.len() == before {
                    break;
                }
            }
            ensure!(
                modules.is_empty(),
                "in {krate}, module {parent:?}, these import each other, or each other's users: \
                 {modules:#?}"
            );
        }
    }
    ensure!(count >= 300, "{count} modules");
    Ok(())
}

#[test]
fn use_paths_contain_all_names() {
    for (code, expected) in [
        ("a::b::C;", vec!["a::b::C"]),
        ("a(b::c)", vec!["a"]),
        (
            "a::{b, c::{D, E}, f as g};\nuse h::i;",
            vec!["a::b", "a::c::D", "a::c::E", "a::f"],
        ),
        ("{\n    a::B,\n    c,\n};", vec!["a::B", "c"]),
    ] {
        let paths = use_paths(code);
        let found: Vec<String> = paths.iter().map(|path| path.join("::")).collect();
        assert_eq!(found, expected, "{code}");
    }
}

#[test]
fn pure_modules_use_neither_a_client_nor_a_runtime() -> Result<()> {
    let operator = root().join("operator/src");
    let mut pure = files(&operator.join("plan"), "rs")?;
    pure.extend(files(&operator.join("pod"), "rs")?);
    for module in [
        "item_sources/merge",
        "legacy",
        "policy_selection",
        "run_history",
        "shard",
        "snapshot",
    ] {
        pure.push(operator.join(format!("{module}.rs")));
    }
    pure.extend(files(&root().join("crates/oaat-api/src"), "rs")?);
    for file in pure {
        let code = source(&file)?;
        for forbidden in ["kube::Client", "Client,", "tokio::", "use tokio"] {
            ensure!(
                !code.contains(forbidden),
                "{} uses {forbidden}",
                name(&file)
            );
        }
    }
    let modules = modules("operator")?;
    for (one, other) in [
        ("read_snapshot", "apply"),
        ("apply", "read_snapshot"),
        ("plan", "cluster"),
    ] {
        ensure!(modules.contains_key(other), "{other} is not a module");
        let used = modules
            .get(one)
            .with_context(|| format!("{one} is not a module"))?;
        ensure!(!used.contains(other), "{one} uses {other}");
    }
    Ok(())
}

#[test]
fn only_apply_and_the_lister_write_pods() -> Result<()> {
    let operator = root().join("operator/src");
    for file in files(&operator, "rs")? {
        let path = name(&file);
        // The trait, its implementation, the type's dry run, and the two that write.
        let may_write = [
            "apply/",
            "item_sources/container.rs",
            "cluster.rs",
            "kube_cluster.rs",
            "mutation.rs",
        ];
        if may_write.iter().any(|may| path.contains(may)) || path.contains("tests") {
            continue;
        }
        let code = source(&file)?;
        for call in [
            ".create_pod(",
            ".delete_pod(",
            ".open_gate(",
            ".write_status(",
        ] {
            let report = path.ends_with("reconciler.rs") && call == ".write_status(";
            ensure!(report || !code.contains(call), "{path} calls {call}");
        }
    }
    Ok(())
}
