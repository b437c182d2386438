//! Words that texts for users avoid.

use crate::documents::prose;
use crate::files::{files, name};
use anyhow::{Result, ensure};
use oaat_tests::operator::root;
use std::fs;
use std::path::Path;

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
