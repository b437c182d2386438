//! Keeps secrets out of a report: only fields on a list are kept. Pure.
//!
//! A field that is not on the list, such as a new one, is left out. So are the values of environment
//! variables, commands, arguments, annotations, settings, and what containers wrote.

use serde_json::{Map, Value};
use std::collections::HashMap;

/// What replaces a secret in a text.
const LEFT_OUT: &str = "(left out)";
/// Parts of names whose values are left out of texts.
const SECRET_NAMES: [&str; 9] = [
    "pass",
    "token",
    "secret",
    "key",
    "credential",
    "auth",
    "cookie",
    "signature",
    "bearer",
];
/// The minimum length of a word that looks like a token.
const MIN_TOKEN: usize = 20;

/// The fields of a kind that are kept.
///
/// Each is a path of names that are separated by dots. `*` is each key of a map or each element of a
/// list. A path that ends in `~` is a text for people, in which what looks like a secret is replaced.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields(pub &'static [&'static str]);

/// Returns the parts of a value that are on the list; `None` if nothing is.
pub(super) fn redact(value: &Value, fields: Fields) -> Option<Value> {
    Allowed::of(fields).keep(value)
}

/// A list of fields as a tree.
#[derive(Default)]
struct Allowed {
    below: HashMap<&'static str, Allowed>,
    is_value: bool,
    is_text: bool,
}

impl Allowed {
    fn of(fields: Fields) -> Self {
        let mut root = Self::default();
        for path in fields.0 {
            let (names, is_text) = match path.strip_suffix('~') {
                Some(names) => (names, true),
                None => (*path, false),
            };
            let mut node = &mut root;
            for name in names.split('.') {
                node = node.below.entry(name).or_default();
            }
            node.is_text = is_text;
            node.is_value = !is_text;
        }
        root
    }

    /// Returns the parts of a value that are below this node.
    fn keep(&self, value: &Value) -> Option<Value> {
        match value {
            Value::Object(object) => {
                let fields = object.iter().filter_map(|(key, value)| {
                    let below = self.below.get(key.as_str());
                    let kept = below.or_else(|| self.below.get("*"))?.keep(value)?;
                    Some((without_credentials(key), kept))
                });
                let fields: Map<_, _> = fields.collect();
                (!fields.is_empty()).then_some(Value::Object(fields))
            }
            Value::Array(list) => {
                let below = self.below.get("*")?;
                let kept: Vec<_> = list.iter().filter_map(|value| below.keep(value)).collect();
                (!kept.is_empty()).then_some(Value::Array(kept))
            }
            Value::String(text) if self.is_text => Some(Value::String(scrub(text))),
            Value::String(text) if self.is_value => Some(Value::String(without_credentials(text))),
            Value::String(_) => None,
            other => self.is_value.then(|| other.clone()),
        }
    }
}

/// Returns a text without what looks like a secret: credentials and paths of URLs, values of names
/// such as `password`, and tokens.
pub(super) fn scrub(text: &str) -> String {
    let text = without_credentials(text);
    let mut out = String::with_capacity(text.len());
    let mut next_is_secret = false;
    let mut previous = "";
    for part in text.split_inclusive(is_separator) {
        let word = part.trim_end_matches(is_separator);
        let separator = &part[word.len()..];
        if word.is_empty() {
            out.push_str(separator);
            continue;
        }
        if std::mem::take(&mut next_is_secret) {
            next_is_secret = is_scheme(word);
            out.push_str(LEFT_OUT);
        } else {
            let (kept, announces_secret) = scrub_word(word);
            // A colon is a separate word after a quoted name.
            next_is_secret = announces_secret || matches!(word, ":" | "=") && is_secret(previous);
            out.push_str(&kept);
        }
        previous = word;
        out.push_str(separator);
    }
    out
}

fn is_separator(c: char) -> bool {
    c.is_whitespace() || "\"'`,;(){}[]<>&|\\".contains(c)
}

/// Returns whether a word announces credentials, as in `Authorization: Bearer …`.
fn is_scheme(word: &str) -> bool {
    word.eq_ignore_ascii_case("bearer") || word.eq_ignore_ascii_case("basic")
}

/// Returns whether values of this name are secret.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|secret| name.contains(secret))
}

/// Returns a word without its secret, and whether the next word is one.
fn scrub_word(word: &str) -> (String, bool) {
    // Credentials in URLs are left out already.
    if word.contains("://") {
        return (word.to_owned(), false);
    }
    if is_scheme(word) {
        return (word.to_owned(), true);
    }
    if let Some((name, value)) = word.split_once(['=', ':']) {
        if is_secret(name) && value.is_empty() {
            return (word.to_owned(), true);
        }
        if is_secret(name) || looks_like_token(value) {
            return (format!("{name}={LEFT_OUT}"), false);
        }
    }
    let kept = if looks_like_token(word) {
        LEFT_OUT
    } else {
        word
    };
    (kept.to_owned(), false)
}

/// Returns whether a word is long, and mixes letters and digits as no name or digest in Kubernetes
/// does.
fn looks_like_token(word: &str) -> bool {
    let is_in_token = |c: char| c.is_ascii_alphanumeric() || "+/_=.-".contains(c);
    word.len() >= MIN_TOKEN
        && word.chars().all(is_in_token)
        && word.contains(|c: char| c.is_ascii_uppercase())
        && word.contains(|c: char| c.is_ascii_digit())
}

/// Returns a text in which each URL is only its scheme and host.
fn without_credentials(text: &str) -> String {
    // The characters that a URL cannot contain.
    let is_end = |c: char| c.is_whitespace() || "\"`<>\\".contains(c);
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + "://".len());
        let end = after.find(is_end).unwrap_or(after.len());
        let (url, next) = after.split_at(end);
        let (authority, path) = url.split_at(url.find(['/', '?', '#']).unwrap_or(url.len()));
        // A password may contain the characters that end the authority.
        let host = if path.contains('@') {
            LEFT_OUT
        } else {
            authority.rsplit('@').next().unwrap_or_default()
        };
        out.push_str(before);
        out.push_str(host);
        if !path.is_empty() {
            out.push_str("/…");
        }
        rest = next;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests;
