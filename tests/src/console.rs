//! The console blocks of the documentation, and whether a test runs them. A comment above each block
//! says so; it is not visible in the rendered page:
//!
//! - `<!-- run after crawl.yaml -->`: `e2e::examples` runs the commands after this example has ended.
//! - `<!-- run by some_test -->`: this test runs the commands.
//! - `<!-- not run: it needs Helm -->`: no test runs the commands, and why.

use crate::operator::root;
use anyhow::{Context, Result};
use std::path::Path;

/// How a block is tested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Marker {
    /// Runs after the example in this file has ended.
    RunAfter(String),
    /// Runs in this test.
    RunBy(String),
    /// Does not run, for this reason.
    NotRun(String),
}

impl Marker {
    fn read(line: &str) -> Option<Self> {
        let words = line.trim().strip_prefix("<!-- ")?.strip_suffix(" -->")?;
        let text = |text: &str| text.to_owned();
        words
            .strip_prefix("run after ")
            .map(|file| Self::RunAfter(text(file)))
            .or_else(|| {
                words
                    .strip_prefix("run by ")
                    .map(|test| Self::RunBy(text(test)))
            })
            .or_else(|| {
                words
                    .strip_prefix("not run: ")
                    .map(|why| Self::NotRun(text(why)))
            })
    }
}

/// A fenced block of console commands.
#[derive(Debug)]
pub struct Block {
    /// The path of the page in the repository.
    pub page: String,
    /// The number of the line with the fence.
    pub line: usize,
    /// How it is tested; `None` if nothing above the block says so.
    pub marker: Option<Marker>,
    text: String,
}

/// A command, and the output that the documentation shows.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Documented {
    /// The command without its prompt.
    pub text: String,
    /// The lines of its output.
    pub output: Vec<String>,
}

impl Block {
    /// Returns the commands of the block.
    pub fn commands(&self) -> Vec<Documented> {
        let mut commands: Vec<Documented> = Vec::new();
        for line in self.text.lines() {
            let line = line.trim_end();
            let last = commands.last_mut();
            if let Some(command) = line.trim_start().strip_prefix("$ ") {
                let text = command.to_owned();
                commands.push(Documented {
                    text,
                    output: Vec::new(),
                });
            } else if let Some(last) = last {
                if last.output.is_empty() && last.text.ends_with('\\') {
                    last.text.push('\n');
                    last.text.push_str(line);
                } else {
                    last.output.push(line.to_owned());
                }
            }
        }
        commands
    }
}

/// Returns the console blocks of the README, of CONTRIBUTING.md, of ARCHITECTURE.md, and of docs/.
///
/// # Errors
/// Returns an error if a page cannot be read.
pub fn blocks() -> Result<Vec<Block>> {
    let mut pages = ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md"]
        .map(Into::into)
        .to_vec();
    for folder in ["docs", "docs/recipes"] {
        let entries = std::fs::read_dir(root().join(folder)).context(folder)?;
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.ends_with(".md") {
                pages.push(format!("{folder}/{name}"));
            }
        }
    }
    pages.sort();
    let mut blocks = Vec::new();
    for page in pages {
        let path = root().join(Path::new(&page));
        let text = std::fs::read_to_string(&path).with_context(|| page.clone())?;
        blocks.extend(blocks_of(&page, &text));
    }
    Ok(blocks)
}

fn blocks_of(page: &str, text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut inside = false;
    let mut before = "";
    for (index, line) in text.lines().enumerate() {
        let fence = line.trim();
        if inside && fence == "```" {
            inside = false;
        } else if fence == "```console" {
            inside = true;
            blocks.push(Block {
                page: page.to_owned(),
                line: index + 1,
                marker: Marker::read(before),
                text: String::new(),
            });
        } else if let Some(block) = blocks.last_mut().filter(|_| inside) {
            block.text.push_str(line);
            block.text.push('\n');
        }
        before = line;
    }
    blocks
}

/// Returns a word of a documented line of output that is not in the real output. Words with digits
/// are ignored, because times and generated names differ in each run.
pub fn missing_word<'a>(line: &'a str, output: &str) -> Option<&'a str> {
    line.split_whitespace().find(|word| {
        let is_stable = word.chars().all(|c| !c.is_ascii_digit() && c.is_ascii()) && *word != "...";
        is_stable && !output.contains(word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_markers_commands_and_output() {
        let text = "text\n\n<!-- not run: it needs Helm -->\n```console\n$ helm install \\\n    x\n\
                    installed\n$ helm list\n```\n\n```console\n$ true\n```\n";
        let blocks = blocks_of("page.md", text);
        let markers: Vec<_> = blocks.iter().map(|block| block.marker.clone()).collect();
        assert_eq!(
            markers,
            [Some(Marker::NotRun("it needs Helm".into())), None]
        );
        let commands = blocks[0].commands();
        assert_eq!(commands[0].text, "helm install \\\n    x");
        assert_eq!(commands[0].output, ["installed"]);
        assert_eq!(commands[1].text, "helm list");
    }

    #[test]
    fn missing_words_ignore_digits() {
        let output = "run 8 of photos in pod backup-photos-y";
        assert_eq!(missing_word("run 7 of photos", output), None);
        assert_eq!(missing_word("run 7 of mail", output), Some("mail"));
    }
}
