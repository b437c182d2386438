//! Rules for the repository itself: its documents, its words, and the layers of the operator.

use anyhow::{Context, Result, ensure};
use oaat_tests::chart;
use oaat_tests::console::{self, Marker};
use oaat_tests::operator::root;
use oaat_tests::readme;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Returns the files below a folder with this extension, without build output.
fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if !["target", ".git", "node_modules", "vendor"].contains(&&*name) {
                found.extend(files(&path, extension)?);
            }
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn name(path: &Path) -> String {
    let path = path.strip_prefix(root()).unwrap_or(path);
    path.display().to_string()
}

/// Returns the lines of Markdown that are prose: outside of code blocks, tables, and links that
/// cannot be wrapped.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut code = false;
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            code = !code;
        } else if !code && !line.trim_start().starts_with('|') {
            lines.push((index + 1, line));
        }
    }
    lines
}

#[test]
fn markdown_lines_have_at_most_100_characters() -> Result<()> {
    let mut long = Vec::new();
    for file in files(&root(), "md")? {
        let text = fs::read_to_string(&file)?;
        for (number, line) in prose(&text) {
            let url = line.contains("](http") || line.trim_start().starts_with('[');
            if line.chars().count() > 100 && !url {
                long.push(format!("{}:{number}", name(&file)));
            }
        }
    }
    ensure!(
        long.is_empty(),
        "lines of more than 100 characters: {long:#?}"
    );
    Ok(())
}

#[test]
fn readme_has_at_most_150_lines() -> Result<()> {
    let lines = fs::read_to_string(root().join("README.md"))?
        .lines()
        .count();
    ensure!(
        lines <= 150,
        "README.md has {lines} lines; move details to docs/"
    );
    Ok(())
}

#[test]
fn top_level_has_at_most_12_folders() -> Result<()> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(root())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() && !name.starts_with('.') && name != "target" {
            folders.push(name);
        }
    }
    ensure!(folders.len() <= 12, "{folders:?}");
    Ok(())
}

/// Words that the style of this project avoids, and their replacements.
const AVOIDED: [(&str, &str); 16] = [
    ("heed", "process, honor"),
    ("heeded", "processed, honored"),
    ("mend", "fix"),
    ("mended", "fixed"),
    ("amid", "during"),
    ("whoever", "the user, anyone who"),
    ("for ever", "forever, indefinitely"),
    ("count for nothing", "are ignored"),
    ("counts for nothing", "is ignored"),
    ("of single items", "per-item"),
    ("may be had", "is available"),
    ("at hand", "available"),
    ("stands in the way", "blocks"),
    ("goes by the name", "is called"),
    ("look after", "supervise"),
    ("in force", "in effect"),
];

/// Returns whether a text contains a phrase as whole words.
fn contains(text: &str, phrase: &str) -> bool {
    let boundary = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
    text.match_indices(phrase).any(|(at, _)| {
        boundary(text[..at].chars().next_back())
            && boundary(text[at + phrase.len()..].chars().next())
    })
}

#[test]
fn texts_for_users_avoid_the_listed_words() -> Result<()> {
    let root = root();
    let mut found = Vec::new();
    let mut check = |file: &Path, number: usize, line: &str| {
        let line = line.to_lowercase();
        for (avoided, instead) in AVOIDED {
            if contains(&line, avoided) {
                found.push(format!(
                    "{}:{number}: {avoided:?}; write {instead}",
                    name(file)
                ));
            }
        }
    };
    for file in files(&root, "md")? {
        for (number, line) in prose(&fs::read_to_string(&file)?) {
            check(&file, number, line);
        }
    }
    for folder in [
        "operator/src",
        "cli/src",
        "crates",
        "policies",
        "policy-default",
        "xtask/src",
    ] {
        for file in files(&root.join(folder), "rs")? {
            for (index, line) in fs::read_to_string(&file)?.lines().enumerate() {
                check(&file, index + 1, line);
            }
        }
    }
    for folder in ["charts", "manifests", "wit"] {
        for extension in ["json", "tpl", "txt", "wit", "yaml"] {
            for file in files(&root.join(folder), extension)? {
                for (index, line) in fs::read_to_string(&file)?.lines().enumerate() {
                    check(&file, index + 1, line);
                }
            }
        }
    }
    ensure!(found.is_empty(), "{found:#?}");
    Ok(())
}

/// Returns the anchors of a document's headings, as GitHub derives them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).into_iter().filter(|(_, l)| l.starts_with('#'));
    let anchor = |heading: &str| {
        let words = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = words
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.collect::<String>().replace(' ', "-")
    };
    headings.map(|(_, heading)| anchor(heading)).collect()
}

/// Returns the paths, links, and tests in a document that do not exist.
fn missing_references(document: &Path, tests: &BTreeSet<String>) -> Result<Vec<String>> {
    let text = fs::read_to_string(document)?;
    let folder = document.parent().unwrap_or(document);
    let bases = [
        root(),
        folder.to_owned(),
        root().join("operator/src"),
        root().join("tests"),
        root().join("tests/tests"),
    ];
    let mut missing = Vec::new();
    for link in text.split("](").skip(1) {
        let link = link.split(')').next().unwrap_or_default();
        if link.starts_with("http") {
            continue;
        }
        let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
        let target = if path.is_empty() {
            document.to_owned()
        } else {
            folder.join(path)
        };
        let exists = target.exists()
            && (anchor.is_empty() || anchors(&fs::read_to_string(&target)?).contains(anchor));
        if !exists {
            missing.push(link.to_owned());
        }
    }
    let mut fenced = false;
    for line in text.lines() {
        fenced ^= line.trim_start().starts_with("```");
        // Inside a fence, nothing is quoted by single backticks.
        let quoted = line.split('`').skip(1).step_by(2);
        for code in quoted.filter(|_| !fenced) {
            let first = code.split('/').next().unwrap_or_default();
            let is_path = code.contains('/')
                && !code.contains([' ', '*', '<', '{'])
                && !first.is_empty()
                // Build output is not part of the repository.
                && first != "target"
                && bases.iter().any(|base| base.join(first).is_dir());
            // A name with at least three underscores is taken to be a test.
            let last = code.rsplit("::").next().unwrap_or_default();
            let is_test = last.matches('_').count() >= 3
                && !last.starts_with("oaat_")
                && last
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            let exists = bases.iter().any(|base| base.join(code).exists());
            if is_path && !exists || is_test && !tests.contains(last) {
                missing.push(code.to_owned());
            }
        }
    }
    Ok(missing)
}

/// Returns the names of all functions in the sources, which include the tests.
fn functions() -> Result<BTreeSet<String>> {
    let mut functions = BTreeSet::new();
    for folder in [
        "cli",
        "crates",
        "operator",
        "policies",
        "policy-default",
        "tests",
        "xtask",
    ] {
        for file in files(&root().join(folder), "rs")? {
            let text = fs::read_to_string(&file)?;
            let names = text.split("fn ").skip(1);
            functions.extend(names.filter_map(|rest| Some(rest.split_once('(')?.0.to_owned())));
        }
    }
    Ok(functions)
}

#[test]
fn paths_links_and_tests_in_documents_exist() -> Result<()> {
    let tests = functions()?;
    for document in files(&root(), "md")? {
        // The template's links are relative to the crate that is created from it.
        if !document.starts_with(root().join("cli/template")) {
            let missing = missing_references(&document, &tests)?;
            ensure!(
                missing.is_empty(),
                "{} refers to paths, links, or tests that do not exist: {missing:#?}",
                name(&document)
            );
        }
    }
    let nothing = BTreeSet::new();
    let security = root().join("docs/security.md");
    ensure!(
        !missing_references(&security, &nothing)?.is_empty(),
        "no test is named"
    );
    Ok(())
}

/// See [`console`] for the comments that say which test runs a block.
#[test]
fn console_blocks_are_run_by_a_test_or_say_why_not() -> Result<()> {
    let tests = functions()?;
    let blocks = console::blocks()?;
    ensure!(blocks.len() > 60, "{} console blocks", blocks.len());
    for block in blocks {
        let place = format!("{}:{}", block.page, block.line);
        let example = |file: &str| root().join("manifests/examples").join(file).is_file();
        let fix = "add <!-- run after EXAMPLE.yaml -->, <!-- run by TEST -->, or <!-- not run: WHY --> \
                   above the block";
        match block.marker {
            None => anyhow::bail!("{place} does not say whether a test runs it; {fix}"),
            Some(Marker::RunAfter(file)) => ensure!(example(&file), "{place}: no example {file}"),
            Some(Marker::RunBy(test)) => ensure!(tests.contains(&test), "{place}: no test {test}"),
            Some(Marker::NotRun(why)) => ensure!(why.len() > 10, "{place}: no reason"),
        }
    }
    Ok(())
}

/// The YAML in these pages is a part of an example that the page links to.
#[test]
fn recipes_quote_the_examples() -> Result<()> {
    let docs = root().join("docs");
    let mut pages = files(&docs.join("recipes"), "md")?;
    ensure!(pages.len() >= 9, "{pages:?}");
    pages.push(docs.join("getting-started.md"));
    for page in pages {
        let text = fs::read_to_string(&page)?;
        let links = text.split("manifests/examples/").skip(1);
        let linked: BTreeSet<&str> = links
            .filter_map(|rest| rest.split([')', ' ', '\n']).next())
            .collect();
        let examples = linked
            .iter()
            .map(|file| fs::read_to_string(root().join("manifests/examples").join(file)));
        let examples = examples.collect::<Result<Vec<_>, _>>()?;
        let quotes = readme::blocks(&text, "yaml");
        ensure!(!quotes.is_empty(), "{} quotes no example", name(&page));
        for quote in quotes {
            ensure!(
                examples.iter().any(|example| example.contains(&quote)),
                "{} quotes YAML that is in none of {linked:?}:\n{quote}",
                name(&page)
            );
        }
    }
    Ok(())
}

#[test]
fn all_pages_are_in_the_book() -> Result<()> {
    let docs = root().join("docs");
    let summary = fs::read_to_string(docs.join("SUMMARY.md"))?;
    for page in files(&docs, "md")? {
        let path = page.strip_prefix(&docs)?.display().to_string();
        let is_linked = summary.contains(&format!("]({path})"));
        ensure!(
            is_linked || path == "SUMMARY.md",
            "docs/SUMMARY.md lacks {path}"
        );
    }
    Ok(())
}

/// Returns the source of a module without its tests.
fn source(file: &Path) -> Result<String> {
    let text = fs::read_to_string(file)?;
    let code = text.split("#[cfg(test)]\nmod tests").next();
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

/// Returns the fields of a manifest that set a user or a group. In the schema of a CRD, the value
/// of such a field is an object.
fn users_and_groups(value: &Value) -> Vec<&str> {
    let fields = ["runAsUser", "runAsGroup", "fsGroup", "supplementalGroups"];
    match value {
        Value::Object(object) => object
            .iter()
            .flat_map(|(key, value)| {
                let mut found = users_and_groups(value);
                if fields.contains(&&**key) && !value.is_object() {
                    found.push(key);
                }
                found
            })
            .collect(),
        Value::Array(list) => list.iter().flat_map(users_and_groups).collect(),
        _ => Vec::new(),
    }
}

/// OpenShift assigns the user and the group of a pod, and rejects a pod that sets others. On other
/// platforms, the user of the image applies, which `runAsNonRoot` accepts only if it is numeric.
#[test]
fn manifests_set_no_user_and_the_image_sets_a_numeric_one() -> Result<()> {
    let mut operators = 0;
    for file in files(&root().join("manifests"), "yaml")? {
        let text = fs::read_to_string(&file)?;
        for document in serde_norway::Deserializer::from_str(&text) {
            let object = Value::deserialize(document)?;
            let found = users_and_groups(&object);
            ensure!(found.is_empty(), "{} sets {found:?}", name(&file));
            if object["kind"] == "Deployment" {
                let context = &object["spec"]["template"]["spec"]["securityContext"];
                ensure!(context["runAsNonRoot"] == true, "{}", name(&file));
                operators += 1;
            }
        }
    }
    ensure!(operators >= 2, "{operators} Deployments");

    let dockerfile = fs::read_to_string(root().join("Dockerfile"))?;
    let mut users = dockerfile.lines().filter_map(|l| l.strip_prefix("USER "));
    let user = users.next_back().context("the Dockerfile has no USER")?;
    let numeric = user
        .split(':')
        .all(|id| id.parse::<u32>().is_ok_and(|id| id > 0));
    ensure!(numeric, "USER {user} is not numeric");
    let image = fs::read_to_string(root().join("xtask/src/image.rs"))?;
    ensure!(
        image.contains(&format!("const USER: &str = {user:?};")),
        "xtask/src/image.rs sets another user than {user}"
    );
    Ok(())
}

/// The chart's own tests show what each value does, and that a bad one is rejected with its name.
/// `tests/chart.rs` runs them.
#[test]
fn each_value_of_the_chart_has_cases() -> Result<()> {
    let cases = chart::cases()?;
    let values = chart::leaves(&chart::default_values()?);
    ensure!(values.len() > 40, "{} values", values.len());
    for (path, default) in values {
        let changes = |case: &chart::Case| {
            let set = case.values_at(&path);
            case.error.is_none() && set.iter().any(|(_, value)| *value != default)
        };
        ensure!(cases.iter().any(changes), "no case changes {path}");
        let pointer = format!("'/{}", path.replace('.', "/"));
        let rejected = |case: &chart::Case| {
            let named = case.error.as_ref().is_some_and(|e| e.contains(&pointer));
            named && !case.values_at(&path).is_empty()
        };
        ensure!(cases.iter().any(rejected), "no case rejects a {path}");
    }
    Ok(())
}

#[test]
fn chart_installs_the_operator_of_this_version() -> Result<()> {
    let chart = fs::read_to_string(chart::folder().join("Chart.yaml"))?;
    let chart: Value = serde_norway::from_str(&chart)?;
    ensure!(chart["appVersion"] == env!("CARGO_PKG_VERSION"), "{chart}");
    Ok(())
}

/// The chart's copy of the CRDs. Helm reads only files in the folder of the chart.
#[test]
fn chart_contains_the_crds_of_the_manifests() -> Result<()> {
    let copy = fs::read_to_string(chart::folder().join("files/crds.yaml"))?;
    let crds = fs::read_to_string(oaat_tests::operator::crds())?;
    ensure!(copy == crds, "run: cargo xtask manifests");
    Ok(())
}

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
