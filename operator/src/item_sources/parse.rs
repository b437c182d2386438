//! From text to a list of items.
//!
//! Lists are read entry by entry, and reading stops at the first entry that is not a string or
//! exceeds the maximum number. The cost is proportional to the length of the text, whatever its
//! nesting, aliases, or number of entries.

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

/// How an empty list differs from one that is missing.
const EMPTY: &str = "to say that there are no items, write []";

/// Reads a list of items: one item a line (blank lines, and lines that begin with `#`, are
/// ignored), or, if the first other line begins with `[`, `- `, or `---`, a JSON or YAML list of
/// texts. Repeated names count once.
///
/// # Errors
/// What is wrong with the text, and what would be right. An empty text is an error: an empty list
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
    if first.starts_with('[') {
        return match json(text) {
            // YAML has the same brackets, and needs no quotes.
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
        return Err("it begins with <, like HTML or XML, and is not a list of items".into());
    }
    if first.starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok() {
        return Err("it is a JSON object; a list is expected, such as [\"one\", \"two\"]".into());
    }
    checked(lines().map(str::to_owned))
}

fn unreadable(error: &dyn fmt::Display) -> String {
    format!("the list begins like JSON or YAML and cannot be read: {error}")
}

/// Formats the error for an entry that is not a string, such as `a number`.
fn not_a_text(entry: usize, what: &str) -> String {
    format!("entry {entry} is {what}, not a string; write names in quotes")
}

fn too_many() -> String {
    format!("it has more than {MAX_ENTRIES} entries; it must have at most {MAX_ITEMS} items")
}

/// The part of a name that is enough to see that it is too long.
fn start_of(name: &str) -> String {
    name.chars().take(MAX_ITEM + 1).collect()
}

/// Reads a YAML list of texts, each on its own line after `- `.
///
/// Lines are read one by one, because a YAML parser may buffer all that it is given.
fn yaml_lines(text: &str) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    let mut first_indent = None;
    for (number, line) in (1..).zip(text.lines()) {
        let entry = line.trim();
        if entry.is_empty() || entry.starts_with('#') || (names.is_empty() && entry == "---") {
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        let same = *first_indent.get_or_insert(indent) == indent;
        let value = entry
            .strip_prefix('-')
            .filter(|value| same && (value.is_empty() || value.starts_with(char::is_whitespace)));
        let Some(value) = value.filter(|value| value.len() <= MAX_YAML) else {
            return Err(format!(
                "line {number} is not an entry such as - name; all entries begin in the same column"
            ));
        };
        if names.len() == MAX_ENTRIES {
            return Err(too_many());
        }
        let value = serde_norway::Deserializer::from_str(value);
        let name = Entry(names.len() + 1).deserialize(value);
        names.push(name.map_err(|error| format!("line {number}: {error}"))?);
    }
    match names.is_empty() {
        true => Err(format!("the list is empty; {EMPTY}")),
        false => Ok(names),
    }
}

/// Reads a JSON list of texts.
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

/// An entry of a list, by its number.
struct Entry(usize);

impl Entry {
    fn wrong<T, E: Error>(self, what: &str) -> Result<T, E> {
        Err(E::custom(not_a_text(self.0, what)))
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
        Ok(start_of(name))
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

    fn visit_none<E: Error>(self) -> Result<String, E> {
        self.wrong("empty")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<String, A::Error> {
        self.wrong("a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<String, A::Error> {
        self.wrong("an object")
    }
}

/// Reads the list that a JSON answer has at a path: the values that the path leads to, or the
/// elements of the one list that it leads to.
///
/// # Errors
/// As [`list`]. A path that selects nothing is not an empty list.
pub fn at_path(answer: &str, path: &JsonPath) -> Result<Vec<String>, String> {
    let answer: Value =
        serde_json::from_str(answer).map_err(|error| format!("the answer is not JSON: {error}"))?;
    let values = path.follow(&answer);
    let entries = match values.as_slice() {
        [] => {
            return Err("jsonPath selects nothing in the response; an empty list is accepted only if it selects []".into());
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
        Err(not_a_text(index + 1, what))
    });
    checked(names.collect::<Result<Vec<_>, _>>()?)
}

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
                "entry {entry} has {length} characters; an item has 1 to {MAX_ITEM}"
            ));
        }
        if name.chars().any(char::is_control) {
            return Err(format!(
                "entry {entry} ({name:?}) has a control character in it; names are one line of plain text"
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
            ("- .5", "entry 1 is a number"),
            ("- a\n-\n", "entry 2 is empty"),
            ("[a, ~]", "entry 2 is empty"),
            ("- a: b", "entry 1 is an object"),
            ("[{}]", "entry 1 is an object"),
            ("- &a b\n- *a", "line 2"),
            ("- a\n  - b", "line 2 is not an entry"),
            ("- 'a' b", "line 1"),
            ("-\n- a", "entry 1 is empty"),
            ("[a] b", "cannot be read"),
            ("[a\nb", "cannot be read"),
            ("- a: b\n", "entry 1 is an object"),
            ("---\na: b", "line 2 is not an entry"),
            ("- [a]", "entry 1 is a list"),
            ("[\"a\"", "cannot be read"),
            ("[a", "cannot be read"),
            ("<html>\n<body>", "like HTML"),
            ("{\"items\": []}", "JSON object; a list"),
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

    /// Expensive or deeply nested lists are rejected at the first entry that is not a string.
    #[test]
    fn a_hostile_text_is_refused_at_its_first_wrong_entry() {
        let xs = "x,".repeat(10_000);
        let aliases = "*a,".repeat(10_000);
        let long = "y".repeat(300_000);
        let of = |text: &str| text.repeat(MAX_TEXT / text.len());
        for (text, words) in [
            (format!("[&a [{xs}], {aliases}]"), "cannot be read"),
            (format!("[&a [{}], *a]", &xs[..8000]), "entry 1 is a list"),
            (
                format!("[&a '{}',{}]", &long[..8000], &aliases[..6000]),
                "entry 1 has 301 characters",
            ),
            (format!("- &a [{}]\n- *a", &xs[..8000]), "entry 1 is a list"),
            (format!("[\"{long}\"]"), "entry 1 has 301 characters"),
            (of("["), "entry 1 is a list"),
            (of("- "), "line 1 is not an entry"),
            ("- ".repeat(8000), "cannot be read"),
            ("[".repeat(16_000), "entry 1 is a list"),
            (format!("- a\n- {}", of("[")), "line 2 is not an entry"),
            (format!("- [{}", &xs[..8000]), "entry 1 is a list"),
            (format!("[{}", "{a: ".repeat(4000)), "entry 1 is an object"),
            (format!("[{}", of("{\"a\":")), "entry 1 is an object"),
            (of("[\"a\","), "entry 2 is a list"),
            (format!("- {}", "? ".repeat(4000)), "entry 1 is an object"),
            (format!("[{}]", of("x,")), "cannot be read"),
            (
                format!("[\"x\"{}]", of(",\"x\"")),
                "more than 20000 entries",
            ),
            (of("- x\n"), "more than 20000 entries"),
            (of("x\n"), "more than 20000 entries"),
            (format!("[{}", of(" ")), "cannot be read"),
            (format!("[\"{}", of("a")), "cannot be read"),
            (format!("- {}", "!!".repeat(4000)), "entry 1 has 0"),
            (of("- x\n-\n"), "line 2: entry 2 is empty"),
            (format!("- |\n{}", of(" x\n")), "line 2 is not an entry"),
            (format!("- {}", of("a\n  ")), "line 2 is not an entry"),
            (of("a"), "characters; an item has 1 to 300"),
        ] {
            let error = list(&text).unwrap_err();
            assert!(error.contains(words), "{}: {error}", &text[..20]);
        }
    }

    #[test]
    fn a_path_leads_to_the_list() {
        let text = r#"{"disks": [{"name": "a"}, {"name": "b"}], "none": [], "one": "x"}"#;
        let of = |path: &str| at_path(text, &path.parse()?);
        assert_eq!(of("$.disks[*].name"), Ok(vec!["a".into(), "b".into()]));
        assert_eq!(of("$.none"), Ok(vec![]));
        assert_eq!(of("$.one"), Ok(vec!["x".into()]));
        for (path, words) in [
            ("$.nothing", "selects nothing"),
            ("$.none[*]", "selects nothing"),
            ("$.disks", "entry 1 is an object"),
        ] {
            let error = of(path).unwrap_err();
            assert!(error.contains(words), "{path}: {error}");
        }
        let html = at_path("<html>", &"$".parse().unwrap());
        assert!(html.unwrap_err().contains("not JSON"));
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
