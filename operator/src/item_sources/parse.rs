//! Parses lists of items.
//!
//! Lists are read entry by entry, and reading stops at the first entry that is not a string or
//! exceeds the maximum number. The cost is proportional to the length of the text, regardless of
//! its nesting, aliases, and number of entries.

use oaat_api::json_path::JsonPath;
use oaat_api::validate::{MAX_BYTES, MAX_ITEM, MAX_ITEMS};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::collections::HashSet;
use std::fmt;

/// The maximum length of the text of a list, in bytes.
pub const MAX_TEXT: usize = 1 << 20;

/// The maximum number of entries in a list, including repeated ones.
const MAX_ENTRIES: usize = 10 * MAX_ITEMS;

/// The maximum length of the text that is passed to the YAML parser at once, in bytes.
const MAX_YAML: usize = 16 << 10;

/// The hint in errors about a list without entries.
const EMPTY: &str = "to list no items, write []";

/// Parses a list of items: one item per line, or a JSON or YAML list of strings.
///
/// Blank lines, and lines that begin with `#`, are ignored. The list is JSON or YAML if the first
/// remaining line begins with `[`, `- `, or `---`. Duplicate names are ignored.
///
/// # Errors
/// Returns an error if the text is not a list or exceeds a limit. The message names the entry and
/// the fix. Empty text is an error: an empty list is `[]`.
pub fn list(text: &str) -> Result<Vec<String>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = || {
        let trimmed = text.lines().map(str::trim);
        trimmed.filter(|line| !line.is_empty() && !line.starts_with('#'))
    };
    let Some(first) = lines().next() else {
        return Err(format!("the list is empty; {EMPTY}"));
    };
    if first.starts_with('[') {
        return match json(text) {
            // A YAML list may have the same brackets and no quotes.
            Err(error) if !error.is_data() && text.len() <= MAX_YAML => {
                let names = serde_norway::Deserializer::from_str(text).deserialize_seq(Names);
                checked(names.map_err(|error| unreadable(&error))?)
            }
            names => checked(names.map_err(|error| unreadable(&error))?),
        };
    }
    if first.starts_with("- ") || first == "-" || first == "---" {
        return checked(yaml_lines(text).map_err(|error| unreadable(&error))?);
    }
    if first.starts_with('<') {
        return Err("the text begins with <, like HTML or XML, and is not a list of items".into());
    }
    if first.starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok() {
        return Err(
            "the text is a JSON object, not a list; write for example [\"one\", \"two\"]".into(),
        );
    }
    checked(lines().map(str::to_owned))
}

fn unreadable(error: &dyn fmt::Display) -> String {
    format!("the text looks like JSON or YAML but cannot be parsed: {error}")
}

/// Formats the error for an entry that is not a string, such as `a number`.
fn not_a_string(entry: usize, what: &str) -> String {
    format!("entry {entry} is {what}, not a string; write names in quotes")
}

fn too_many() -> String {
    format!("the list has more than {MAX_ENTRIES} entries; use at most {MAX_ITEMS} items")
}

/// Truncates a name to one character more than the maximum, so that it is still too long.
fn truncate(name: &str) -> String {
    name.chars().take(MAX_ITEM + 1).collect()
}

/// Parses a YAML list of strings, each on a separate line after `- `.
///
/// Lines are parsed one by one, because a YAML parser may buffer its whole input.
fn yaml_lines(text: &str) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    let mut first_indent = None;
    for (number, line) in (1..).zip(text.lines()) {
        let entry = line.trim();
        if entry.is_empty() || entry.starts_with('#') || (names.is_empty() && entry == "---") {
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        let aligned = *first_indent.get_or_insert(indent) == indent;
        let value = entry.strip_prefix('-').filter(|value| {
            aligned && (value.is_empty() || value.starts_with(char::is_whitespace))
        });
        let Some(value) = value.filter(|value| value.len() <= MAX_YAML) else {
            return Err(format!(
                "line {number} is not a list entry; write for example - name, and indent all entries equally"
            ));
        };
        if names.len() == MAX_ENTRIES {
            return Err(too_many());
        }
        let value = serde_norway::Deserializer::from_str(value);
        let name = Entry(names.len() + 1).deserialize(value);
        names.push(name.map_err(|error| format!("line {number}: {error}"))?);
    }
    if names.is_empty() {
        return Err(format!("the list is empty; {EMPTY}"));
    }
    Ok(names)
}

/// Parses a JSON list of strings.
fn json(text: &str) -> serde_json::Result<Vec<String>> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let names = reader.deserialize_seq(Names)?;
    reader.end().map(|()| names)
}

struct Names;

impl<'de> Visitor<'de> for Names {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list, such as [\"one\", \"two\"]")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<String>, A::Error> {
        let mut names = Vec::new();
        while let Some(name) = list.next_element_seed(Entry(names.len() + 1))? {
            if names.len() == MAX_ENTRIES {
                return Err(A::Error::custom(too_many()));
            }
            names.push(name);
        }
        Ok(names)
    }
}

/// The number of an entry, counted from 1.
struct Entry(usize);

impl Entry {
    fn error<T, E: Error>(self, what: &str) -> Result<T, E> {
        Err(E::custom(not_a_string(self.0, what)))
    }
}

impl<'de> DeserializeSeed<'de> for Entry {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Entry {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<String, E> {
        Ok(truncate(name))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<String, E> {
        self.error("true or false")
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<String, E> {
        self.error("a number")
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<String, E> {
        self.error("a number")
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<String, E> {
        self.error("a number")
    }

    fn visit_unit<E: Error>(self) -> Result<String, E> {
        self.error("empty")
    }

    fn visit_none<E: Error>(self) -> Result<String, E> {
        self.error("empty")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<String, A::Error> {
        self.error("a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<String, A::Error> {
        self.error("an object")
    }
}

/// Returns the list at a path of a JSON response: the values that the path selects, or the elements
/// of the list if it selects one list.
///
/// # Errors
/// Returns the same errors as [`list`]. A path that selects nothing is an error, not an empty list.
pub fn at_path(response: &str, path: &JsonPath) -> Result<Vec<String>, String> {
    let response: Value = serde_json::from_str(response)
        .map_err(|error| format!("the response is not JSON: {error}"))?;
    let values = path.follow(&response);
    let entries = match values.as_slice() {
        [] => {
            return Err(
                "jsonPath selects nothing in the response; for a list without items, it must \
                 select []"
                    .into(),
            );
        }
        [Value::Array(list)] => list.iter().collect(),
        _ => values,
    };
    let names = entries.into_iter().enumerate().map(|(index, entry)| {
        let what = match entry {
            Value::String(name) => return Ok(name.clone()),
            Value::Null => "empty",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        };
        Err(not_a_string(index + 1, what))
    });
    checked(names.collect::<Result<Vec<_>, _>>()?)
}

/// Returns the distinct names, or the first error.
fn checked(names: impl IntoIterator<Item = String>) -> Result<Vec<String>, String> {
    let (mut seen, mut bytes) = (HashSet::new(), 0);
    let mut list = Vec::new();
    for (index, name) in names.into_iter().enumerate() {
        let entry = index + 1;
        if entry > MAX_ENTRIES {
            return Err(too_many());
        }
        let length = name.chars().count();
        if length == 0 || length > MAX_ITEM {
            return Err(format!(
                "entry {entry} has {length} characters; an item must have 1 to {MAX_ITEM}"
            ));
        }
        if name.chars().any(char::is_control) {
            return Err(format!(
                "entry {entry} ({name:?}) contains a control character; use one line of plain text"
            ));
        }
        if seen.contains(&name) {
            continue;
        }
        bytes += name.len();
        seen.insert(name.clone());
        list.push(name);
        if list.len() > MAX_ITEMS || bytes > MAX_BYTES {
            return Err(format!(
                "the list exceeds {MAX_ITEMS} items or {MAX_BYTES} bytes; use several groups"
            ));
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn list_may_be_lines_json_or_yaml() {
        let cases: [(&str, &[&str]); 14] = [
            ("a\nb\n", &["a", "b"]),
            ("\u{feff}# head\r\n\r\n  a b  \r\n#c\nb", &["a b", "b"]),
            (r#"["a", "b, c"]"#, &["a", "b, c"]),
            ("[a, b]", &["a", "b"]),
            ("# head\n- a\n- \"5\"\n", &["a", "5"]),
            ("---\n- a\n", &["a"]),
            ("b\na\nb\n", &["b", "a"]),
            ("[]", &[]),
            ("{a}\n", &["{a}"]),
            ("  - a # first\n  - 'b: c'\n", &["a", "b: c"]),
            (
                "[\n  a, # first\n  'it''s', b#c\n]\n",
                &["a", "it's", "b#c"],
            ),
            (r#"["\u00e9\ud83d\ude00\/"]"#, &["é😀/"]),
            ("--- [a]", &["--- [a]"]),
            ("- -a\n- 1.2.3\n- yes\n", &["-a", "1.2.3", "yes"]),
        ];
        for (text, items) in cases {
            assert_eq!(
                list(text),
                Ok(items.iter().map(|i| i.to_string()).collect()),
                "{text:?}"
            );
        }
    }

    #[test]
    fn invalid_list_is_rejected_with_a_reason() {
        let long = "x".repeat(301);
        let many = (0..2001).map(|i| format!("i{i}\n")).collect::<String>();
        let large = (0..500).map(|i| format!("{i:0300}\n")).collect::<String>();
        let cases = [
            ("", "write []"),
            ("\n# nothing\n", "write []"),
            ("---\n", "write []"),
            ("[1]", "entry 1 is a number"),
            ("- a\n- true\n", "entry 2 is true or false"),
            ("- .5", "entry 1 is a number"),
            ("- a\n-\n", "entry 2 is empty"),
            ("[a, ~]", "entry 2 is empty"),
            ("- a: b", "entry 1 is an object"),
            ("[{}]", "entry 1 is an object"),
            ("- &a b\n- *a", "line 2"),
            ("- a\n  - b", "line 2 is not a list entry"),
            ("- 'a' b", "line 1"),
            ("-\n- a", "entry 1 is empty"),
            ("[a] b", "cannot be parsed"),
            ("[a\nb", "cannot be parsed"),
            ("- a: b\n", "entry 1 is an object"),
            ("---\na: b", "line 2 is not a list entry"),
            ("- [a]", "entry 1 is a list"),
            ("[\"a\"", "cannot be parsed"),
            ("[a", "cannot be parsed"),
            ("<html>\n<body>", "like HTML"),
            ("{\"items\": []}", "a JSON object, not a list"),
            ("[\"\"]", "entry 1 has 0 characters"),
            ("[\"a\\nb\"]", "control character"),
            (&long, "entry 1 has 301 characters"),
            (&many, "exceeds 2000 items"),
            (&large, "120000 bytes"),
        ];
        for (text, expected) in cases {
            let error = list(text).unwrap_err();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    /// Expensive or deeply nested lists are rejected at the first entry that is not a string.
    #[test]
    fn hostile_text_is_rejected_at_the_first_invalid_entry() {
        let xs = "x,".repeat(10_000);
        let aliases = "*a,".repeat(10_000);
        let long = "y".repeat(300_000);
        let of = |text: &str| text.repeat(MAX_TEXT / text.len());
        for (text, expected) in [
            (format!("[&a [{xs}], {aliases}]"), "cannot be parsed"),
            (format!("[&a [{}], *a]", &xs[..8000]), "entry 1 is a list"),
            (
                format!("[&a '{}',{}]", &long[..8000], &aliases[..6000]),
                "entry 1 has 301 characters",
            ),
            (format!("- &a [{}]\n- *a", &xs[..8000]), "entry 1 is a list"),
            (format!("[\"{long}\"]"), "entry 1 has 301 characters"),
            (of("["), "entry 1 is a list"),
            (of("- "), "line 1 is not a list entry"),
            ("- ".repeat(8000), "cannot be parsed"),
            ("[".repeat(16_000), "entry 1 is a list"),
            (format!("- a\n- {}", of("[")), "line 2 is not a list entry"),
            (format!("- [{}", &xs[..8000]), "entry 1 is a list"),
            (format!("[{}", "{a: ".repeat(4000)), "entry 1 is an object"),
            (format!("[{}", of("{\"a\":")), "entry 1 is an object"),
            (of("[\"a\","), "entry 2 is a list"),
            (format!("- {}", "? ".repeat(4000)), "entry 1 is an object"),
            (format!("[{}]", of("x,")), "cannot be parsed"),
            (
                format!("[\"x\"{}]", of(",\"x\"")),
                "more than 20000 entries",
            ),
            (of("- x\n"), "more than 20000 entries"),
            (of("x\n"), "more than 20000 entries"),
            (format!("[{}", of(" ")), "cannot be parsed"),
            (format!("[\"{}", of("a")), "cannot be parsed"),
            (format!("- {}", "!!".repeat(4000)), "entry 1 has 0"),
            (of("- x\n-\n"), "line 2: entry 2 is empty"),
            (format!("- |\n{}", of(" x\n")), "line 2 is not a list entry"),
            (format!("- {}", of("a\n  ")), "line 2 is not a list entry"),
            (of("a"), "characters; an item must have 1 to 300"),
        ] {
            let error = list(&text).unwrap_err();
            assert!(error.contains(expected), "{}: {error}", &text[..20]);
        }
    }

    #[test]
    fn json_path_selects_the_list() {
        let text = r#"{"disks": [{"name": "a"}, {"name": "b"}], "none": [], "one": "x"}"#;
        let of = |path: &str| at_path(text, &path.parse()?);
        assert_eq!(of("$.disks[*].name"), Ok(vec!["a".into(), "b".into()]));
        assert_eq!(of("$.none"), Ok(vec![]));
        assert_eq!(of("$.one"), Ok(vec!["x".into()]));
        for (path, expected) in [
            ("$.nothing", "selects nothing"),
            ("$.none[*]", "selects nothing"),
            ("$.disks", "entry 1 is an object"),
        ] {
            let error = of(path).unwrap_err();
            assert!(error.contains(expected), "{path}: {error}");
        }
        let html = at_path("<html>", &"$".parse().unwrap());
        assert!(html.unwrap_err().contains("not JSON"));
    }

    proptest! {
        #[test]
        fn any_text_is_a_valid_list_or_an_error(text in "\\PC{0,200}|([\\[\\]\\-#,\" a\n]{0,40})") {
            match list(&text) {
                Ok(items) => {
                    let distinct: HashSet<_> = items.iter().collect();
                    prop_assert_eq!(distinct.len(), items.len());
                    prop_assert!(items.iter().all(|item| !item.is_empty() && !item.chars().any(char::is_control)));
                }
                Err(error) => prop_assert!(!error.is_empty()),
            }
        }

        #[test]
        fn json_list_is_parsed_unchanged(items in proptest::collection::hash_set("\\PC{1,20}", 0..20)) {
            let items: Vec<String> = items.into_iter().collect();
            let text = serde_json::to_string(&items).unwrap();
            prop_assert_eq!(list(&text), Ok(items));
        }
    }
}
