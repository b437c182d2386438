//! The list of the examples, from the comments at the top of the files.

use crate::markdown::{cell, header, paragraphs, table};
use anyhow::{Context, Result};
use std::path::Path;

/// Returns the page for the files in a folder.
pub(crate) fn page(folder: &Path) -> Result<String> {
    let mut files: Vec<_> = std::fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.sort();
    let mut rows = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let lines = text.lines().map_while(|line| line.strip_prefix("# "));
        let words: Vec<_> = lines.collect();
        let words = words.join(" ");
        let words = words.split(" Expect: ").next().unwrap_or_default();
        rows.push([
            format!("[{name}](../manifests/examples/{name})"),
            cell(words),
        ]);
    }
    let mut page = header("All examples");
    page.push_str(&paragraphs(
        "You can apply each file unchanged, except for credentials and the names of your own \
         servers. The comment at its top states what to expect. A test applies each file to a real \
         API server and runs it to completion, with [replacements for programs such as \
         restic](../tests/README.md#what-is-real-and-what-is-not).",
    ));
    page.push_str(&table(["file", "what it does"], &rows));
    Ok(page.trim_end().to_owned() + "\n")
}
