//! From text to a list of items.

use crate::validate::{MAX_BYTES, MAX_ITEM, MAX_ITEMS};
use jsonpath_rust::JsonPath;
use jsonpath_rust::parser::model::Segment;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::collections::HashSet;
use std::fmt;

/// Most bytes of a text with a list in it.
pub const MAX_TEXT: usize = 1 << 20;

/// How an empty list is told from one that is not there.
const EMPTY: &str = "to say that there are no items, write []";

/// Reads a list of items: one a line (blank lines, and those that begin with `#`, count for
/// nothing), or, where the first line that counts begins with `[`, `- ` or `---`, JSON or YAML. A
/// name that is there twice counts once.
///
/// # Errors
/// What is wrong with the text, and what would be right. Also when nothing is in it: an empty list
/// is `[]`.
pub fn list(text: &str) -> Result<Vec<String>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = || {
        let trimmed = text.lines().map(str::trim);
        trimmed.filter(|line| !line.is_empty() && !line.starts_with('#'))
    };
    let Some(first) = lines().next() else {
        return Err(format!("the list is empty; {EMPTY}"));
    };
    if first.starts_with('[') || first.starts_with("- ") || first == "-" || first == "---" {
        return match serde_norway::from_str(text) {
            Ok(Names(names)) => checked(names.into_iter()),
            Err(error) => Err(format!(
                "the list, which begins like one of JSON or YAML, cannot be read: {error}"
            )),
        };
    }
    if first.starts_with('<') {
        return Err("it begins with <, like a page of HTML or XML, and is no list of items".into());
    }
    if first.starts_with('{') && serde_json::from_str::<Value>(text).is_ok() {
        return Err(
            "there is a JSON object where a list is expected, such as [\"one\", \"two\"]".into(),
        );
    }
    checked(lines().map(str::to_owned))
}

/// A list of texts. Read entry by entry: what is no such list ends at its first wrong entry, so
/// that a short text whose aliases stand for millions of entries is no more than a wrong one.
struct Names(Vec<String>);

/// Most entries of a list, with those that are there twice.
const MOST: usize = 10 * MAX_ITEMS;

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list, such as [\"one\", \"two\"]")
            }

            fn visit_unit<E: Error>(self) -> Result<Names, E> {
                Err(E::custom(format!("the list is empty; {EMPTY}")))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = list.next_element_seed(Entry(names.len() + 1))? {
                    names.push(name);
                    if names.len() > MOST {
                        return Err(A::Error::custom(format!(
                            "it has more than {MOST} entries; at most {MAX_ITEMS} items are possible"
                        )));
                    }
                }
                Ok(Names(names))
            }
        }

        deserializer.deserialize_any(List)
    }
}

/// An entry of a list, by its number.
struct Entry(usize);

impl Entry {
    fn wrong<T, E: Error>(self, what: &str) -> Result<T, E> {
        Err(E::custom(format!(
            "entry {} is {what} and no text; write names in quotes",
            self.0
        )))
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
        f.write_str("a text")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<String, E> {
        // Long enough to be told that it is too long.
        Ok(name.chars().take(MAX_ITEM + 1).collect())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<String, E> {
        self.wrong("true or false")
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<String, E> {
        self.wrong("a number")
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<String, E> {
        self.wrong("a number")
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<String, E> {
        self.wrong("a number")
    }

    fn visit_unit<E: Error>(self) -> Result<String, E> {
        self.wrong("empty")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<String, A::Error> {
        self.wrong("a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<String, A::Error> {
        self.wrong("an object")
    }
}

/// Whether a path is one, and one that is followed in a time that grows with the answer alone: not
/// one that goes everywhere more than once, or takes the same node again and again.
///
/// # Errors
/// What is wrong with it.
pub fn path(path: &str) -> Result<(), String> {
    let parsed = jsonpath_rust::parser::parse_json_path(path).map_err(|error| error.to_string())?;
    let several = |segment: &Segment| match segment {
        Segment::Selectors(_) => true,
        Segment::Descendant(inner) => matches!(**inner, Segment::Selectors(_)),
        Segment::Selector(_) => false,
    };
    let (everywhere, filters) = (path.matches("..").count(), path.matches('?').count());
    if parsed.segments.iter().any(several) || everywhere + filters > 1 {
        return Err(
            "it may take one name, number, range, * or filter in each step, and has at most one filter or .. in it".into(),
        );
    }
    Ok(())
}

/// Reads the list that a JSON text has at a path (RFC 9535): the nodes that the path leads to, or
/// the elements of the one list that it leads to.
///
/// # Errors
/// As [`list`]. A path that leads nowhere is no empty list.
pub fn at_path(text: &str, path: &str) -> Result<Vec<String>, String> {
    self::path(path).map_err(|error| format!("jsonPath {path:?}: {error}"))?;
    let value: Value =
        serde_json::from_str(text).map_err(|error| format!("the answer is no JSON: {error}"))?;
    let nodes = value
        .query(path)
        .map_err(|error| format!("jsonPath {path:?} cannot be followed: {error}"))?;
    match nodes.as_slice() {
        [] => Err(format!(
            "jsonPath {path:?} leads to nothing in the answer; an empty list is believed only where the \
             path leads to []"
        )),
        [one @ Value::Array(_)] => of_value(one),
        nodes => texts(nodes.iter().copied()),
    }
}

fn of_value(value: &Value) -> Result<Vec<String>, String> {
    match value {
        Value::Array(entries) => texts(entries.iter()),
        _ => Err("a list is expected, such as [\"one\", \"two\"]".into()),
    }
}

fn texts<'a>(entries: impl Iterator<Item = &'a Value>) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    for (index, entry) in entries.enumerate() {
        match entry {
            Value::String(name) => names.push(name.clone()),
            other => {
                let what = match other {
                    Value::Null => "empty",
                    Value::Bool(_) => "true or false",
                    Value::Number(_) => "a number",
                    Value::Array(_) => "a list",
                    _ => "an object",
                };
                return Err(format!(
                    "entry {} is {what} and no text; write names in quotes",
                    index + 1
                ));
            }
        }
    }
    checked(names.into_iter())
}

fn checked(names: impl Iterator<Item = String>) -> Result<Vec<String>, String> {
    let (mut seen, mut bytes) = (HashSet::new(), 0);
    let mut list = Vec::new();
    for (index, name) in names.enumerate() {
        let entry = index + 1;
        let length = name.chars().count();
        if length == 0 || length > MAX_ITEM {
            return Err(format!(
                "entry {entry} has {length} characters; an item has 1 to {MAX_ITEM}"
            ));
        }
        if name.chars().any(char::is_control) {
            return Err(format!(
                "entry {entry} ({name:?}) has a control character in it; names are one line of plain text"
            ));
        }
        if !seen.insert(name.clone()) {
            continue;
        }
        bytes += name.len();
        list.push(name);
        if list.len() > MAX_ITEMS || bytes > MAX_BYTES {
            return Err(format!(
                "the list is too long: at most {MAX_ITEMS} items with {MAX_BYTES} bytes together are \
                 possible; use several groups"
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
    fn a_list_may_be_lines_or_json_or_yaml() {
        let cases: [(&str, &[&str]); 9] = [
            ("a\nb\n", &["a", "b"]),
            ("\u{feff}# head\r\n\r\n  a b  \r\n#c\nb", &["a b", "b"]),
            (r#"["a", "b, c"]"#, &["a", "b, c"]),
            ("[a, b]", &["a", "b"]),
            ("# head\n- a\n- \"5\"\n", &["a", "5"]),
            ("---\n- a\n", &["a"]),
            ("b\na\nb\n", &["b", "a"]),
            ("[]", &[]),
            ("{a}\n", &["{a}"]),
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
    fn what_is_no_list_is_refused_in_words() {
        let long = "x".repeat(301);
        let many = (0..2001).map(|i| format!("i{i}\n")).collect::<String>();
        let large = (0..500).map(|i| format!("{i:0300}\n")).collect::<String>();
        let cases = [
            ("", "write []"),
            ("\n# nothing\n", "write []"),
            ("---\n", "write []"),
            ("[1]", "entry 1 is a number"),
            ("- a\n- true\n", "entry 2 is true or false"),
            ("- [a]", "entry 1 is a list"),
            ("[\"a\"", "cannot be read"),
            ("<html>\n<body>", "like a page of HTML"),
            ("{\"items\": []}", "JSON object where a list"),
            ("[\"\"]", "entry 1 has 0 characters"),
            ("[\"a\\nb\"]", "control character"),
            (&long, "entry 1 has 301 characters"),
            (&many, "at most 2000 items"),
            (&large, "120000 bytes"),
        ];
        for (text, words) in cases {
            let error = list(text).unwrap_err();
            assert!(error.contains(words), "{text:?}: {error}");
        }
    }

    /// Each `*a` stands for ten thousand entries: whoever built them all would want gigabytes.
    #[test]
    fn a_short_text_that_stands_for_a_long_list_is_refused() {
        let xs = "x,".repeat(10_000);
        let aliases = "*a,".repeat(10_000);
        let nested = list(&format!("[&a [{xs}], {aliases}]")).unwrap_err();
        assert!(nested.contains("entry 1 is a list"), "{nested}");
        let long = "y".repeat(300_000);
        let same = list(&format!("[&a {long}, {aliases}]")).unwrap_err();
        assert!(same.contains("entry 1 has 301 characters"), "{same}");
        let many = list(&format!("[{}]", "x,".repeat(30_000))).unwrap_err();
        assert!(many.contains("more than 20000 entries"), "{many}");
    }

    #[test]
    fn a_path_may_not_multiply() {
        for good in [
            "$.a[*].b",
            "$..name",
            "$.a[?@.on==true].b",
            "$[1:3]",
            "$['a b']",
        ] {
            assert_eq!(path(good), Ok(()), "{good}");
        }
        for bad in [
            "$..*..*",
            "$['a','a']['b','b']",
            "$..a[?@.b]",
            "$[?@[?@.a]]",
            "$..['a','a']",
        ] {
            assert!(path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_path_leads_to_the_list() {
        let text = r#"{"disks": [{"name": "a"}, {"name": "b"}], "none": [], "one": "x"}"#;
        let of = |path| at_path(text, path);
        assert_eq!(of("$.disks[*].name"), Ok(vec!["a".into(), "b".into()]));
        assert_eq!(of("$.none"), Ok(vec![]));
        assert_eq!(of("$.one"), Ok(vec!["x".into()]));
        for (path, words) in [
            ("$.nothing", "leads to nothing"),
            ("$.none[*]", "leads to nothing"),
            ("$.disks", "entry 1 is an object"),
            ("$[", "jsonPath"),
        ] {
            let error = of(path).unwrap_err();
            assert!(error.contains(words), "{path}: {error}");
        }
        assert!(at_path("<html>", "$").unwrap_err().contains("no JSON"));
    }

    proptest! {
        #[test]
        fn whatever_the_text_what_comes_of_it_is_a_list_or_a_sentence(text in "\\PC{0,200}|([\\[\\]\\-#,\" a\n]{0,40})") {
            match list(&text) {
                Ok(items) => {
                    let distinct: HashSet<_> = items.iter().collect();
                    prop_assert_eq!(distinct.len(), items.len());
                    prop_assert!(items.iter().all(|item| !item.is_empty() && !item.chars().any(char::is_control)));
                }
                Err(words) => prop_assert!(!words.is_empty()),
            }
        }

        #[test]
        fn what_is_written_as_json_is_read_back(items in proptest::collection::hash_set("\\PC{1,20}", 0..20)) {
            let items: Vec<String> = items.into_iter().collect();
            let text = serde_json::to_string(&items).unwrap();
            prop_assert_eq!(list(&text), Ok(items));
        }
    }
}
