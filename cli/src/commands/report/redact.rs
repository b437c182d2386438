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
/// The minimum length of the hexadecimal digits of a digest.
const MIN_DIGEST: usize = 32;

/// The fields of a kind that are kept.
///
/// Each is a path of names that are separated by dots. `*` is each key of a map or each element of a
/// list. A path that ends in `~` is a text for people, in which what looks like a secret is replaced.
/// A path that ends in `@` is the name of an image.
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
    leaf: Option<Leaf>,
}

/// What a kept field contains.
#[derive(Clone, Copy)]
enum Leaf {
    Value,
    Text,
    Image,
}

impl Allowed {
    fn of(fields: Fields) -> Self {
        let mut root = Self::default();
        for path in fields.0 {
            let leaf = match path.chars().last() {
                Some('~') => Leaf::Text,
                Some('@') => Leaf::Image,
                _ => Leaf::Value,
            };
            let names = path.trim_end_matches(['~', '@']);
            let mut node = &mut root;
            for name in names.split('.') {
                node = node.below.entry(name).or_default();
            }
            node.leaf = Some(leaf);
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
                    Some((without_credentials(key, false), kept))
                });
                let fields: Map<_, _> = fields.collect();
                (!fields.is_empty()).then_some(Value::Object(fields))
            }
            Value::Array(list) => {
                let below = self.below.get("*")?;
                let kept: Vec<_> = list.iter().filter_map(|value| below.keep(value)).collect();
                (!kept.is_empty()).then_some(Value::Array(kept))
            }
            Value::String(text) => Some(Value::String(match self.leaf? {
                Leaf::Text => scrub(text),
                Leaf::Value => without_credentials(text, false),
                Leaf::Image => without_credentials(without_user(text), false),
            })),
            other => matches!(self.leaf, Some(Leaf::Value)).then(|| other.clone()),
        }
    }
}

/// Returns a text without what looks like a secret: credentials and paths of URLs, values of names
/// such as `password`, and tokens.
pub(super) fn scrub(text: &str) -> String {
    let text = without_credentials(text, true);
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

/// Replaces the arguments that follow a flag such as `--client-secret`.
pub(super) fn redact_flag_values(args: &mut [Value]) {
    let mut next_is_secret = false;
    for arg in args {
        let text = arg.as_str().unwrap_or_default();
        let announces_secret = text.starts_with('-') && !text.contains('=') && is_secret(text);
        if std::mem::replace(&mut next_is_secret, announces_secret) {
            *arg = Value::String(LEFT_OUT.to_owned());
        }
    }
}

/// Returns the name of an image without what precedes an `@`, unless a digest follows it.
fn without_user(image: &str) -> &str {
    let name_end = match image.rsplit_once('@') {
        Some((name, digest)) if is_digest(digest) => name.len(),
        _ => image.len(),
    };
    match image[..name_end].rfind('@') {
        Some(at) => &image[at + 1..],
        None => image,
    }
}

/// Returns whether a text is the digest of an image, such as `sha256:…`.
fn is_digest(text: &str) -> bool {
    let (_, hex) = text.split_once(':').unwrap_or_default();
    hex.len() >= MIN_DIGEST && hex.chars().all(|c| c.is_ascii_hexdigit())
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
    let address = without_user(word);
    if address.len() < word.len() {
        return (format!("{LEFT_OUT}@{address}"), false);
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

/// Returns a text in which each URL is only its scheme and host. If the text may be cut, so may a URL at
/// its end, before the `@` after its credentials.
fn without_credentials(text: &str, may_be_cut: bool) -> String {
    // The characters that a URL cannot contain. A password may contain them.
    let is_end = |c: char| c.is_whitespace() || "\"`<>\\".contains(c);
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + "://".len());
        let word = &after[..after.find(char::is_whitespace).unwrap_or(after.len())];
        let path_start = |url: &str| url.find(['/', '?', '#']);
        let credentials = word.rfind('@').map_or(0, |at| at + 1);
        // The credentials contain a character that ends the authority, or the `@` is in the path.
        let is_ambiguous = path_start(&word[..credentials]).is_some();
        let after = &after[credentials..];
        let (url, next) = after.split_at(after.find(is_end).unwrap_or(after.len()));
        let (authority, path) = url.split_at(path_start(url).unwrap_or(url.len()));
        let is_cut = may_be_cut && path.is_empty() && next.is_empty();
        // Punctuation of the sentence may follow.
        let host = authority.trim_end_matches([':', ',', ';', '.', '\'', ')', '}']);
        out.push_str(before);
        if is_ambiguous || is_cut || !is_host(host) {
            out.push_str(LEFT_OUT);
        } else {
            out.push_str(authority);
        }
        if !path.is_empty() {
            out.push_str("/…");
        }
        rest = next;
    }
    out.push_str(rest);
    out
}

/// Returns whether a text is a host, with or without a port.
fn is_host(text: &str) -> bool {
    let with_port = text.rsplit_once(':').filter(|_| !text.ends_with(']'));
    let (host, port) = with_port.unwrap_or((text, "0"));
    let address = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let is_in_name = |c: char| c.is_alphanumeric() || ".-_".contains(c);
    let is_valid = match address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.chars().all(is_in_name),
    };
    is_valid && port.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests;
