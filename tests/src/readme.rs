//! The YAML of the README, so that the demo and the tests apply what users copy.

use crate::operator::root;
use anyhow::{Context, Result, bail};

/// Returns the README.
///
/// # Errors
/// Returns an error if it cannot be read.
pub fn text() -> Result<String> {
    let readme = root().join("README.md");
    std::fs::read_to_string(&readme).with_context(|| readme.display().to_string())
}

/// Returns the OaatType and the OaatGroup of the README's quick start, unchanged.
///
/// # Errors
/// Returns an error if the README does not contain them.
pub fn quick_start() -> Result<(String, String)> {
    let text = text()?;
    let (_, section) = text
        .split_once("## Quick start")
        .context("the README has no section Quick start")?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let find = |kind: &str| {
        blocks(section, "yaml")
            .into_iter()
            .find(|block| block.contains(&format!("kind: {kind}\n")))
    };
    match (find("OaatType"), find("OaatGroup")) {
        (Some(type_), Some(group)) => Ok((type_, group)),
        _ => bail!("the Quick Start lacks its OaatType or its OaatGroup"),
    }
}

/// Returns the fenced blocks of a language in a Markdown text.
pub fn blocks(markdown: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for line in markdown.lines() {
        match &mut open {
            None if line.trim() == format!("```{language}") => open = Some(String::new()),
            None => {}
            Some(_) if line.trim() == "```" => blocks.extend(open.take()),
            Some(block) => {
                block.push_str(line);
                block.push('\n');
            }
        }
    }
    blocks
}
