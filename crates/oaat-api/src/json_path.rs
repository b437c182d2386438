//! `jsonPath`: the subset of JSONPath with members, indexes, and wildcards.
//!
//! A path is parsed from left to right in one pass. Each step goes one level deeper into the
//! response, so evaluating a path visits each value at most once.

use serde_json::Value;
use std::fmt;
use std::str::FromStr;

/// The maximum length of a path in bytes.
const MAX_PATH: usize = 1024;

/// A path such as `$.disks[*].name`.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// A member of an object: `.name`, `['name']`, or `["name"]`.
    Member(String),
    /// An element of a list: `[0]`, or `[-1]` from the end.
    Index(i64),
    /// All elements of a list or all members of an object: `[*]` or `.*`.
    All,
}

/// Returns whether a character may be part of an unquoted name.
fn is_unquoted(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-') || (!c.is_ascii() && !c.is_whitespace())
}

impl JsonPath {
    /// Returns the values that the path leads to.
    pub fn follow<'a>(&self, response: &'a Value) -> Vec<&'a Value> {
        self.0.iter().fold(vec![response], |values, step| {
            values.into_iter().flat_map(|v| step.follow(v)).collect()
        })
    }
}

impl Step {
    fn follow<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        match (self, value) {
            (Self::Member(name), Value::Object(members)) => members.get(name).into_iter().collect(),
            (Self::Index(index), Value::Array(list)) => {
                let distance = usize::try_from(index.unsigned_abs()).ok();
                let position = match index {
                    ..0 => distance.and_then(|distance| list.len().checked_sub(distance)),
                    _ => distance,
                };
                position
                    .and_then(|position| list.get(position))
                    .into_iter()
                    .collect()
            }
            (Self::All, Value::Array(list)) => list.iter().collect(),
            (Self::All, Value::Object(members)) => members.values().collect(),
            _ => Vec::new(),
        }
    }
}

impl FromStr for JsonPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > MAX_PATH {
            return Err(format!(
                "it has {} bytes; the maximum is {MAX_PATH}",
                text.len()
            ));
        }
        let mut rest = text.strip_prefix('$').unwrap_or(text);
        if text.is_empty() {
            return Err("it is empty; use $ for the whole response".into());
        }
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, after) = parse_step(rest).ok_or_else(|| unexpected(text, rest))?;
            steps.push(step);
            rest = after;
        }
        Ok(Self(steps))
    }
}

/// Parses one step. Returns it and the rest of the text.
fn parse_step(text: &str) -> Option<(Step, &str)> {
    if let Some(name) = text.strip_prefix('.') {
        if let Some(after) = name.strip_prefix('*') {
            return Some((Step::All, after));
        }
        let end = name.find(|c| !is_unquoted(c)).unwrap_or(name.len());
        let (name, after) = name.split_at(end);
        return (!name.is_empty()).then(|| (Step::Member(name.into()), after));
    }
    let inner = text.strip_prefix('[')?;
    let (step, after) = match inner.chars().next()? {
        '*' => (Step::All, &inner[1..]),
        quote @ ('\'' | '"') => {
            let (name, after) = quoted(&inner[1..], quote)?;
            (Step::Member(name), after)
        }
        _ => {
            let (index, after) = inner.split_at(inner.find(']')?);
            // JSONPath does not allow a plus sign.
            let index = Some(index).filter(|index| !index.starts_with('+'));
            (Step::Index(index?.parse().ok()?), after)
        }
    };
    Some((step, after.strip_prefix(']')?))
}

/// Parses a name up to its closing quote. A backslash escapes only a quote or a backslash.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.push(
                chars
                    .next()
                    .map(|(_, c)| c)
                    .filter(|c| "'\"\\".contains(*c))?,
            ),
            c if c == quote => return Some((name, &text[at + 1..])),
            c => name.push(c),
        }
    }
    None
}

fn unexpected(text: &str, rest: &str) -> String {
    let position = text[..text.len() - rest.len()].chars().count() + 1;
    let shown: String = rest.chars().take(10).collect();
    format!(
        "at character {position} ({shown:?}): expected .name, ['name'], [0], [*], or .*; filters, \
         slices, unions, .., and functions are not supported"
    )
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("$")?;
        for step in &self.0 {
            match step {
                Step::Member(name) if !name.is_empty() && name.chars().all(is_unquoted) => {
                    write!(f, ".{name}")?;
                }
                Step::Member(name) => {
                    let name = name.replace('\\', "\\\\").replace('\'', "\\'");
                    write!(f, "['{name}']")?;
                }
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::All => f.write_str("[*]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn followed(path: &str, response: &Value) -> Vec<Value> {
        let path: JsonPath = path.parse().unwrap_or_else(|e| panic!("{path}: {e}"));
        path.follow(response).into_iter().cloned().collect()
    }

    #[test]
    fn members_indexes_and_wildcards_are_followed() {
        let response = json!({
            "a b": {"it's": [1, 2, 3]}, "disks": [{"name": "x"}, {}, {"name": "y"}, 5], "é-1": 7,
        });
        let cases: [(&str, Value); 14] = [
            ("$", json!([response])),
            ("$.disks[*].name", json!(["x", "y"])),
            (".disks[0].name", json!(["x"])),
            ("['disks'][2][\"name\"]", json!(["y"])),
            ("$.disks[-1]", json!([5])),
            ("$.disks[-4].name", json!(["x"])),
            ("$.disks[-5]", json!([])),
            ("$.disks[4]", json!([])),
            (r"$['a b']['it\'s'][1]", json!([2])),
            (r#"$["a b"]["it's"][*]"#, json!([1, 2, 3])),
            ("$.é-1", json!([7])),
            ("$.disks.name", json!([])),
            ("$.*.*[*]", json!([1, 2, 3, "x", "y"])),
            ("$.disks[-9223372036854775808]", json!([])),
        ];
        for (path, values) in cases {
            assert_eq!(json!(followed(path, &response)), values, "{path}");
        }
    }

    #[test]
    fn unsupported_syntax_is_rejected_with_its_position() {
        for (path, position) in [
            ("disks", 1),
            ("$..name", 2),
            ("$.a[?@.b]", 4),
            ("$.a[1:3]", 4),
            ("$['a','b']", 2),
            ("$.a[+1]", 4),
            ("$.a[99999999999999999999]", 4),
            ("$.a[", 4),
            ("$.é[", 4),
            ("$.", 2),
            ("$.a.length()", 11),
            ("$[length(length($))]", 2),
            (r"$['a\n']", 2),
            ("$['a", 2),
            ("$ .a", 2),
            ("$$", 2),
        ] {
            let error = path.parse::<JsonPath>().unwrap_err();
            assert!(
                error.starts_with(&format!("at character {position} (")),
                "{path}: {error}"
            );
            assert!(error.contains(".name, ['name'], [0], [*]"), "{error}");
        }
        assert!("".parse::<JsonPath>().unwrap_err().contains("empty"));
        let long = format!("${}", "[0]".repeat(342));
        assert!(long.parse::<JsonPath>().unwrap_err().contains("1027 bytes"));
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            "\\PC{0,6}|[a-c'\"\\\\\n]{0,4}".prop_map(Step::Member),
            any::<i64>().prop_map(Step::Index),
            (-3..4_i64).prop_map(Step::Index),
            Just(Step::All),
        ]
    }

    fn response() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(Value::Null), any::<i32>().prop_map(Value::from)];
        leaf.prop_recursive(4, 40, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-c]", inner, 0..4)
                    .prop_map(|members| members.into_iter().collect()),
            ]
        })
    }

    /// Collects every value of a response with its path.
    fn collect<'a>(response: &'a Value, path: &[Step], found: &mut Vec<(Vec<Step>, &'a Value)>) {
        found.push((path.to_vec(), response));
        let mut below =
            |step: Step, value: &'a Value| collect(value, &[path, &[step]].concat(), found);
        match response {
            Value::Array(list) => (0..).zip(list).for_each(|(i, v)| below(Step::Index(i), v)),
            Value::Object(members) => members
                .iter()
                .for_each(|(name, v)| below(Step::Member(name.clone()), v)),
            _ => {}
        }
    }

    fn matches(pattern: &[Step], path: &[Step]) -> bool {
        pattern.len() == path.len()
            && pattern
                .iter()
                .zip(path)
                .all(|(p, s)| *p == Step::All || p == s)
    }

    proptest! {
        #[test]
        fn parser_does_not_panic_on_any_text(text in "\\PC{0,40}|[$.\\[\\]'\"*?@a0\\\\\\-]{0,40}") {
            if let Ok(path) = text.parse::<JsonPath>() {
                prop_assert_eq!(path.to_string().parse::<JsonPath>(), Ok(path));
            }
        }

        #[test]
        fn paths_survive_a_round_trip(steps in proptest::collection::vec(step(), 0..8)) {
            let path = JsonPath(steps);
            prop_assert_eq!(path.to_string().parse::<JsonPath>(), Ok(path));
        }

        #[test]
        fn paths_lead_to_all_matching_values(
            response in response(),
            steps in proptest::collection::vec(
                prop_oneof![
                    "[a-c]".prop_map(Step::Member),
                    (0..3_i64).prop_map(Step::Index),
                    Just(Step::All),
                ],
                0..5,
            ),
        ) {
            let mut all = Vec::new();
            collect(&response, &[], &mut all);
            let matching = all.iter().filter(|(path, _)| matches(&steps, path));
            let expected: Vec<&Value> = matching.map(|(_, value)| *value).collect();
            prop_assert_eq!(JsonPath(steps).follow(&response), expected);
        }
    }
}
