//! Documents: their form, their links, and what they quote.

use crate::files::{files, name};
use anyhow::{Result, ensure};
use oaat_tests::console::{self, Marker};
use oaat_tests::operator::root;
use oaat_tests::readme;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Returns the lines of Markdown that are prose: outside of code blocks, tables, and links that
/// cannot be wrapped.
pub fn prose(text: &str) -> Vec<(usize, &str)> {
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
