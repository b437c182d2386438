//! From the text of a file to its objects, read as kubectl reads them.

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::{Map, Number, Value};
use std::collections::HashMap;

/// How deep lists and maps may be in one another. Objects of Kubernetes are some twenty deep.
const DEEPEST: usize = 100;
/// How many values a file may have, with what its aliases repeat.
const MOST: usize = 5_000_000;

/// The documents of a file, YAML or JSON, those that are empty left out.
///
/// # Errors
/// What is wrong, and in which line, where the text is neither.
pub fn documents(text: &str) -> Result<Vec<Value>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_start().starts_with('{') {
        let stream = serde_json::Deserializer::from_str(text).into_iter();
        if let Ok(mut documents) = stream.collect::<Result<Vec<Value>, _>>() {
            documents.iter_mut().for_each(whole);
            return Ok(documents);
        }
    }
    let mut reader = Reader::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| error.to_string())?;
        let at = |problem: String| format!("line {}: {problem}", span.start.line());
        reader.take(event).map_err(at)?;
    }
    reader.documents.retain(|document| !document.is_null());
    Ok(reader.documents)
}

/// A list or a map that is not yet complete.
enum Open {
    List(Vec<Value>, usize),
    Map(Map<String, Value>, Option<String>, usize),
}

#[derive(Default)]
struct Reader {
    documents: Vec<Value>,
    open: Vec<Open>,
    anchors: HashMap<usize, Value>,
    values: usize,
}

impl Reader {
    fn take(&mut self, event: Event<'_>) -> Result<(), String> {
        match event {
            Event::DocumentStart(_) => self.anchors.clear(),
            Event::Alias(anchor) => {
                // One inside of what it names has no end.
                let value = self.anchors.get(&anchor).cloned();
                let value = value.ok_or("an alias of what is not there yet")?;
                let (values, deep) = measure(&value);
                self.fits(deep)?;
                self.count(values)?;
                self.put(value)?;
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && !is_text(tag.as_deref());
                let value = match plain {
                    true => plain_value(&text)?,
                    false => Value::String(text.into_owned()),
                };
                self.done(value, anchor)?;
            }
            Event::SequenceStart(anchor, _) => self.begin(Open::List(Vec::new(), anchor))?,
            Event::MappingStart(anchor, _) => self.begin(Open::Map(Map::new(), None, anchor))?,
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List(list, anchor)) => self.done(Value::Array(list), anchor)?,
                Some(Open::Map(map, _, anchor)) => {
                    self.done(Value::Object(merged(map)?), anchor)?
                }
                None => {}
            },
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn begin(&mut self, open: Open) -> Result<(), String> {
        self.fits(1)?;
        self.open.push(open);
        Ok(())
    }

    fn fits(&self, deep: usize) -> Result<(), String> {
        (self.open.len() + deep <= DEEPEST)
            .then_some(())
            .ok_or_else(|| format!("lists and maps are more than {DEEPEST} deep"))
    }

    fn count(&mut self, more: usize) -> Result<(), String> {
        self.values = self.values.saturating_add(more);
        (self.values <= MOST)
            .then_some(())
            .ok_or_else(|| format!("there are more than {MOST} values, with those of the aliases"))
    }

    fn done(&mut self, value: Value, anchor: usize) -> Result<(), String> {
        self.count(1)?;
        // 0: it has none.
        if anchor > 0 {
            self.anchors.insert(anchor, value.clone());
        }
        self.put(value)
    }

    fn put(&mut self, value: Value) -> Result<(), String> {
        match self.open.last_mut() {
            None => self.documents.push(value),
            Some(Open::List(list, _)) => list.push(value),
            Some(Open::Map(map, key, _)) => match key.take() {
                None => *key = Some(key_text(value)?),
                Some(key) if map.contains_key(&key) => {
                    return Err(format!("the key {key:?} is there twice in a map"));
                }
                Some(key) => {
                    map.insert(key, value);
                }
            },
        }
        Ok(())
    }
}

fn is_text(tag: Option<&Tag>) -> bool {
    tag.is_some_and(|tag| tag.suffix == "str" || (tag.handle.is_empty() && tag.suffix == "!"))
}

fn key_text(key: Value) -> Result<String, String> {
    match key {
        Value::String(text) => Ok(text),
        Value::Bool(_) | Value::Number(_) => Ok(key.to_string()),
        _ => Err("the key of a map is no text".into()),
    }
}

/// How many values a value is, and how deep.
fn measure(value: &Value) -> (usize, usize) {
    let add = |(values, deep): (usize, usize), inner: &Value| {
        let (more, below) = measure(inner);
        (values + more, deep.max(below + 1))
    };
    match value {
        Value::Array(list) => list.iter().fold((1, 1), add),
        Value::Object(map) => map.values().fold((1, 1), add),
        _ => (1, 0),
    }
}

/// With what `<<` stands for laid under it.
fn merged(mut map: Map<String, Value>) -> Result<Map<String, Value>, String> {
    let under = match map.remove("<<") {
        None => return Ok(map),
        Some(Value::Array(list)) => list,
        Some(one) => vec![one],
    };
    for under in under {
        let Value::Object(under) = under else {
            return Err("<< takes a map, or a list of maps".into());
        };
        for (key, value) in under {
            map.entry(key).or_insert(value);
        }
    }
    Ok(map)
}

/// What a text without quotes means to kubectl, which reads YAML 1.1: `yes` is a truth value there.
fn plain_value(text: &str) -> Result<Value, String> {
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
            return Err(format!("{text} is a number that JSON does not have"));
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
    // A sign belongs at the front.
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
    Some(as_whole(float).unwrap_or(Number::from_f64(float)?))
}

/// kubectl writes a number without its point where nothing follows it.
fn as_whole(float: f64) -> Option<Number> {
    (float.fract() == 0.0 && float.abs() < 1e15).then(|| Number::from(float as i64))
}

/// The same in a value that has been read already.
fn whole(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            if let Some(whole) = number.as_f64().and_then(as_whole) {
                *number = whole;
            }
        }
        Value::Array(list) => list.iter_mut().for_each(whole),
        Value::Object(map) => map.values_mut().for_each(whole),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn one(text: &str) -> Value {
        documents(text).unwrap().remove(0)
    }

    #[test]
    fn what_has_no_quotes_is_what_kubectl_makes_of_it() {
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
    fn documents_are_several_and_empty_ones_are_none() {
        let read = documents("---\na: 1\n---\n# nothing\n---\nb: [x, {c: d}]\n").unwrap();
        assert_eq!(read, [json!({"a": 1}), json!({"b": ["x", {"c": "d"}]})]);
        assert_eq!(documents("").unwrap(), Vec::<Value>::new());
        let json = documents("{\"a\": 1}\n{\"a\": 2.0}\n").unwrap();
        assert_eq!(json, [json!({"a": 1}), json!({"a": 2})]);
        assert_eq!(one("\u{feff}{a: 1}"), json!({"a": 1}));
    }

    #[test]
    fn anchors_stand_for_what_they_name_and_are_laid_under_it() {
        let read = one("base: &b {x: 1, z: 2}\nover: {<<: *b, z: 3}\nsame: *b\n");
        assert_eq!(read["over"], json!({"x": 1, "z": 3}));
        assert_eq!(read["same"], json!({"x": 1, "z": 2}));
        assert_eq!(one("5: a\nyes: b"), json!({"5": "a", "true": "b"}));
    }

    #[test]
    fn what_cannot_be_read_is_said_with_its_line() {
        let bomb = (1..30).fold("a0: &a0 [x]\n".to_owned(), |text, n| {
            let before = format!("*a{}", n - 1);
            format!("{text}a{n}: &a{n} [{}]\n", [before.as_str(); 9].join(","))
        });
        let chain = (1..1000).fold("a0: &a0 [x]\n".to_owned(), |text, n| {
            format!("{text}a{n}: &a{n} [*a{}]\n", n - 1)
        });
        for (text, words) in [
            ("a: [1", "line 2"),
            ("a: 1\na: 2", "line 2: the key \"a\" is there twice"),
            ("a: *b", "nchor"),
            ("a: &a [*a]", "not there yet"),
            ("a: .nan", "line 1"),
            ("? [a]\n: b", "no text"),
            ("<<: 5", "<< takes a map"),
            (&"- ".repeat(150), "more than 100 deep"),
            (&"[".repeat(100_000), "recursion limit"),
            (&bomb, "more than 5000000 values"),
            (&chain, "more than 100 deep"),
        ] {
            let error = documents(text).unwrap_err();
            assert!(error.contains(words), "{text:.40}: {error}");
        }
    }
}
