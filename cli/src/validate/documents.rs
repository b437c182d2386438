//! Parses files of YAML or JSON as kubectl does.

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::{Map, Number, Value};
use std::collections::HashMap;

/// The maximum nesting of lists and maps. Kubernetes objects are about 20 levels deep.
const MAX_DEPTH: usize = 100;
/// The maximum number of values in a file, including those that aliases repeat.
const MAX_VALUES: usize = 5_000_000;

/// Parses the documents of a file, YAML or JSON. Skips empty documents.
///
/// # Errors
/// Returns a message with the line number if the text is neither YAML nor JSON.
pub(crate) fn parse(text: &str) -> Result<Vec<Value>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_start().starts_with('{') {
        let stream = serde_json::Deserializer::from_str(text).into_iter();
        if let Ok(mut documents) = stream.collect::<Result<Vec<Value>, _>>() {
            documents.iter_mut().for_each(normalize_numbers);
            return Ok(documents);
        }
    }
    let mut builder = DocumentBuilder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| error.to_string())?;
        let at = |problem: String| format!("line {}: {problem}", span.start.line());
        builder.handle(event).map_err(at)?;
    }
    builder.documents.retain(|document| !document.is_null());
    Ok(builder.documents)
}

/// A list or a map that is not yet complete.
enum Collection {
    List {
        items: Vec<Value>,
        anchor: usize,
    },
    Map {
        entries: Map<String, Value>,
        /// The key whose value comes next.
        key: Option<String>,
        anchor: usize,
    },
}

/// Builds documents from the events of the parser.
#[derive(Default)]
struct DocumentBuilder {
    documents: Vec<Value>,
    open: Vec<Collection>,
    anchors: HashMap<usize, Value>,
    values: usize,
}

impl DocumentBuilder {
    fn handle(&mut self, event: Event<'_>) -> Result<(), String> {
        match event {
            Event::DocumentStart(_) => self.anchors.clear(),
            Event::Alias(anchor) => {
                // An anchor is defined at its end, so an alias inside its own anchor is an error.
                let value = self.anchors.get(&anchor).cloned();
                let value = value.ok_or("the alias refers to an anchor that is not defined yet")?;
                let size = Size::of(&value);
                self.check_depth(size.depth)?;
                self.count(size.values)?;
                self.insert(value)?;
            }
            Event::Scalar(text, style, anchor, tag) => {
                let is_plain = style == ScalarStyle::Plain && !is_string_tag(tag.as_deref());
                let value = if is_plain {
                    plain_scalar(&text)?
                } else {
                    Value::String(text.into_owned())
                };
                self.finish(value, anchor)?;
            }
            Event::SequenceStart(anchor, _) => self.begin(Collection::List {
                items: Vec::new(),
                anchor,
            })?,
            Event::MappingStart(anchor, _) => self.begin(Collection::Map {
                entries: Map::new(),
                key: None,
                anchor,
            })?,
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Collection::List { items, anchor }) => {
                    self.finish(Value::Array(items), anchor)?;
                }
                Some(Collection::Map {
                    entries, anchor, ..
                }) => self.finish(Value::Object(apply_merge_key(entries)?), anchor)?,
                None => {}
            },
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn begin(&mut self, collection: Collection) -> Result<(), String> {
        self.check_depth(1)?;
        self.open.push(collection);
        Ok(())
    }

    fn check_depth(&self, more: usize) -> Result<(), String> {
        (self.open.len() + more <= MAX_DEPTH)
            .then_some(())
            .ok_or_else(|| format!("lists and maps are nested more than {MAX_DEPTH} levels deep"))
    }

    fn count(&mut self, more: usize) -> Result<(), String> {
        self.values = self.values.saturating_add(more);
        (self.values <= MAX_VALUES).then_some(()).ok_or_else(|| {
            format!("more than {MAX_VALUES} values, including those that aliases repeat")
        })
    }

    fn finish(&mut self, value: Value, anchor: usize) -> Result<(), String> {
        self.count(1)?;
        // 0 means that the value has no anchor.
        if anchor > 0 {
            self.anchors.insert(anchor, value.clone());
        }
        self.insert(value)
    }

    fn insert(&mut self, value: Value) -> Result<(), String> {
        match self.open.last_mut() {
            None => self.documents.push(value),
            Some(Collection::List { items, .. }) => items.push(value),
            Some(Collection::Map { entries, key, .. }) => match key.take() {
                None => *key = Some(map_key(value)?),
                Some(key) if entries.contains_key(&key) => {
                    return Err(format!("duplicate key {key:?} in a map"));
                }
                Some(key) => {
                    entries.insert(key, value);
                }
            },
        }
        Ok(())
    }
}

fn is_string_tag(tag: Option<&Tag>) -> bool {
    tag.is_some_and(|tag| tag.suffix == "str" || (tag.handle.is_empty() && tag.suffix == "!"))
}

fn map_key(key: Value) -> Result<String, String> {
    match key {
        Value::String(text) => Ok(text),
        Value::Bool(_) | Value::Number(_) => Ok(key.to_string()),
        _ => Err("a map key must be a string".into()),
    }
}

/// The size of a value.
struct Size {
    /// The number of values in it, with itself.
    values: usize,
    /// The nesting of lists and maps in it.
    depth: usize,
}

impl Size {
    fn of(value: &Value) -> Self {
        let leaf = Self {
            values: 1,
            depth: 0,
        };
        let empty = Self {
            values: 1,
            depth: 1,
        };
        let add = |total: Self, inner: &Value| {
            let inner = Self::of(inner);
            Self {
                values: total.values + inner.values,
                depth: total.depth.max(inner.depth + 1),
            }
        };
        match value {
            Value::Array(list) => list.iter().fold(empty, add),
            Value::Object(map) => map.values().fold(empty, add),
            _ => leaf,
        }
    }
}

/// Replaces the merge key `<<` with the entries of its maps. Entries of the map itself win.
fn apply_merge_key(mut map: Map<String, Value>) -> Result<Map<String, Value>, String> {
    let merged = match map.remove("<<") {
        None => return Ok(map),
        Some(Value::Array(list)) => list,
        Some(one) => vec![one],
    };
    for merged in merged {
        let Value::Object(merged) = merged else {
            return Err("<< must be a map or a list of maps".into());
        };
        for (key, value) in merged {
            map.entry(key).or_insert(value);
        }
    }
    Ok(map)
}

/// Interprets a scalar without quotes as kubectl does, by YAML 1.1: `yes` is a boolean.
fn plain_scalar(text: &str) -> Result<Value, String> {
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Value::Bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Value::Bool(false)
        }
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf" | "-.INF"
        | ".nan" | ".NaN" | ".NAN" => {
            return Err(format!(
                "{text} is not a number in JSON; use a finite number"
            ));
        }
        _ if text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) => {
            number(text).map_or_else(|| Value::String(text.into()), Value::Number)
        }
        _ => Value::String(text.into()),
    })
}

fn number(text: &str) -> Option<Number> {
    let digits = text.replace('_', "");
    let (minus, rest) = match digits.strip_prefix(['-', '+']) {
        Some(rest) => (digits.starts_with('-'), rest),
        None => (false, digits.as_str()),
    };
    let lower = rest.to_ascii_lowercase();
    let (radix, rest) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    // `from_str_radix` would accept a second sign.
    if rest.starts_with(|c: char| c.is_ascii_alphanumeric())
        && let Ok(whole) = i128::from_str_radix(rest, radix)
    {
        let whole = if minus { -whole } else { whole };
        let signed = i64::try_from(whole).map(Number::from);
        if let Ok(number) = signed.or_else(|_| u64::try_from(whole).map(Number::from)) {
            return Some(number);
        }
    }
    let decimal = digits
        .bytes()
        .all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    let float: f64 = digits.parse().ok().filter(|_| decimal)?;
    Some(as_integer(float).unwrap_or(Number::from_f64(float)?))
}

/// Converts a float without a fraction to an integer, as kubectl does.
fn as_integer(float: f64) -> Option<Number> {
    (float.fract() == 0.0 && float.abs() < 1e15).then(|| Number::from(float as i64))
}

/// Converts all floats without a fraction in a value to integers.
fn normalize_numbers(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            if let Some(integer) = number.as_f64().and_then(as_integer) {
                *number = integer;
            }
        }
        Value::Array(list) => list.iter_mut().for_each(normalize_numbers),
        Value::Object(map) => map.values_mut().for_each(normalize_numbers),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn one(text: &str) -> Value {
        parse(text).unwrap().remove(0)
    }

    #[test]
    fn plain_scalars_are_interpreted_as_by_kubectl() {
        for (text, value) in [
            ("yes", json!(true)),
            ("Off", json!(false)),
            ("'yes'", json!("yes")),
            ("\"1\"", json!("1")),
            ("!!str 5", json!("5")),
            ("5", json!(5)),
            ("5.0", json!(5)),
            ("1_000", json!(1000)),
            ("0x1F", json!(31)),
            ("0777", json!(511)),
            ("08", json!(8)),
            ("-1.5e3", json!(-1500)),
            ("2.5", json!(2.5)),
            ("5m", json!("5m")),
            ("1-5", json!("1-5")),
            ("-", json!([null])),
            ("2026-01-02", json!("2026-01-02")),
            ("18446744073709551615", json!(u64::MAX)),
            ("Norway", json!("Norway")),
        ] {
            assert_eq!(one(text), value, "{text}");
        }
    }

    #[test]
    fn parse_reads_several_documents_and_skips_empty_ones() {
        let read = parse("---\na: 1\n---\n# nothing\n---\nb: [x, {c: d}]\n").unwrap();
        assert_eq!(read, [json!({"a": 1}), json!({"b": ["x", {"c": "d"}]})]);
        assert_eq!(parse("").unwrap(), Vec::<Value>::new());
        let json = parse("{\"a\": 1}\n{\"a\": 2.0}\n").unwrap();
        assert_eq!(json, [json!({"a": 1}), json!({"a": 2})]);
        assert_eq!(one("\u{feff}{a: 1}"), json!({"a": 1}));
    }

    #[test]
    fn aliases_and_merge_keys_are_expanded() {
        let read = one("base: &b {x: 1, z: 2}\nover: {<<: *b, z: 3}\nsame: *b\n");
        assert_eq!(read["over"], json!({"x": 1, "z": 3}));
        assert_eq!(read["same"], json!({"x": 1, "z": 2}));
        assert_eq!(one("5: a\nyes: b"), json!({"5": "a", "true": "b"}));
    }

    #[test]
    fn parse_errors_name_the_line_and_the_problem() {
        let bomb = (1..30).fold("a0: &a0 [x]\n".to_owned(), |text, n| {
            let before = format!("*a{}", n - 1);
            format!("{text}a{n}: &a{n} [{}]\n", [before.as_str(); 9].join(","))
        });
        let chain = (1..1000).fold("a0: &a0 [x]\n".to_owned(), |text, n| {
            format!("{text}a{n}: &a{n} [*a{}]\n", n - 1)
        });
        for (text, words) in [
            ("a: [1", "line 2"),
            ("a: 1\na: 2", "line 2: duplicate key \"a\""),
            ("a: *b", "nchor"),
            ("a: &a [*a]", "not defined yet"),
            ("a: .nan", "line 1"),
            ("? [a]\n: b", "must be a string"),
            ("<<: 5", "<< must be a map"),
            (&"- ".repeat(150), "more than 100 levels deep"),
            (&"[".repeat(100_000), "recursion limit"),
            (&bomb, "more than 5000000 values"),
            (&chain, "more than 100 levels deep"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(words), "{text:.40}: {error}");
        }
    }
}
