//! The generated pages are up to date, and the book has neither warnings nor broken links.

use anyhow::{Context, Result, ensure};
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

#[test]
fn generated_pages_are_up_to_date() -> Result<()> {
    for page in oaat_docs::generated()? {
        let path = oaat_docs::root().join("docs").join(page.name);
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        ensure!(
            text == page.text,
            "docs/{} is out of date; run: cargo xtask docs",
            page.name
        );
    }
    Ok(())
}

#[test]
fn generated_pages_contain_fields_metrics_and_flags() -> Result<()> {
    let pages: BTreeMap<_, _> = oaat_docs::generated()?
        .into_iter()
        .map(|page| (page.name, page.text))
        .collect();
    for (name, words) in [
        (
            "reference-api.md",
            [
                "### OaatGroup spec.blackoutWindows[]",
                "| `frequency` | string |",
            ],
        ),
        (
            "reference-metrics.md",
            [
                "| `oaat_runs_total` | counter | `result` |",
                "| `oaat_item_given_up` | gauge | `namespace`, `group`, `item` |",
            ],
        ),
        (
            "reference-cli.md",
            [
                "## kubectl-oaat policy pack",
                "| `--retry-floor <RETRY_FLOOR>` | `OAAT_RETRY_FLOOR` | `10s` |",
            ],
        ),
        (
            "reference-policy-files.md",
            [
                "| `everyOneOf` | [Names](#names) |",
                "| `items` | list of [ScenarioItem](#scenarioitem) |",
            ],
        ),
        (
            "examples.md",
            [
                "[crawl-sites.yaml](../manifests/examples/crawl-sites.yaml)",
                "Crawls sites",
            ],
        ),
    ] {
        let text = pages.get(name).context(name)?;
        for words in words {
            ensure!(text.contains(words), "{name} lacks {words}");
        }
    }
    Ok(())
}

/// Returns the HTML files below a folder.
fn html(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(html(&path)?);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "html")
        {
            found.push(path);
        }
    }
    Ok(found)
}

#[test]
fn book_has_no_warnings_and_no_broken_links() -> Result<()> {
    let folder = tempfile::tempdir()?;
    oaat_docs::book::build(folder.path())?;
    let (href, id) = (
        Regex::new("href=\"([^\"]+)\"")?,
        Regex::new("id=\"([^\"]+)\"")?,
    );
    let mut pages = BTreeMap::new();
    for path in html(folder.path())? {
        let text = std::fs::read_to_string(&path)?;
        pages.insert(path.canonicalize()?, text);
    }
    ensure!(pages.len() > 25, "{} pages", pages.len());
    let ids = |text: &str| -> BTreeSet<String> {
        id.captures_iter(text)
            .map(|found| found[1].to_owned())
            .collect()
    };
    let anchors: BTreeMap<_, _> = pages.iter().map(|(path, text)| (path, ids(text))).collect();
    let mut links = 0;
    for (path, text) in &pages {
        // The page for missing pages has absolute links.
        if path.ends_with("404.html") || path.ends_with("print.html") || path.ends_with("toc.html")
        {
            continue;
        }
        for link in href.captures_iter(text).map(|found| found[1].to_owned()) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            links += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let folder = path.parent().context("no folder")?;
            let target = if file.is_empty() {
                path.clone()
            } else {
                folder.join(file)
            };
            let target = target.canonicalize();
            let target = target.with_context(|| format!("{} links to {link}", path.display()))?;
            let exists =
                anchor.is_empty() || anchors.get(&target).is_some_and(|ids| ids.contains(anchor));
            ensure!(
                exists,
                "{} links to {link}, which has no such anchor",
                path.display()
            );
        }
    }
    ensure!(links > 200, "{links} links");
    Ok(())
}
