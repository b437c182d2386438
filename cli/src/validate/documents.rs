//! Parses files of YAML or JSON as kubectl does.

use serde_json::{Number, Value};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{Error, MessageFormatter, UserMessageFormatter};
use std::borrow::Cow;

/// The maximum nesting of lists and maps. Kubernetes objects are about 20 levels deep.
const MAX_DEPTH: usize = 64;
/// The maximum number of values in a file, including those that aliases repeat.
const MAX_VALUES: usize = 5_000_000;

/// Parses the documents of a file, YAML or JSON. Skips empty documents.
///
/// # Errors
/// Returns a message with the line number if the text is neither YAML nor JSON.
pub(crate) fn parse(text: &str) -> Result<Vec<Value>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = match parse_json(text) {
        Some(documents) => documents,
        None => parse_yaml(text)?,
    };
    documents.iter_mut().for_each(normalize_numbers);
    Ok(documents)
}

/// Parses a stream of JSON objects, which need no separator. Returns `None` if it is not JSON.
fn parse_json(text: &str) -> Option<Vec<Value>> {
    let is_object = text.trim_start().starts_with('{');
    let stream = || serde_json::Deserializer::from_str(text).into_iter();
    is_object.then(|| stream().collect::<Result<_, _>>().ok())?
}

fn parse_yaml(text: &str) -> Result<Vec<Value>, String> {
    let options = serde_saphyr::options! {
        // kubectl reads YAML 1.1, in which 0777 is an octal number.
        legacy_octal_numbers: true,
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_nodes: MAX_VALUES,
            max_events: 2 * MAX_VALUES,
            // The number of values already limits what aliases repeat.
            enforce_alias_anchor_ratio: false,
        },
    };
    // Keys keep their type, because kubectl converts the key yes to "true".
    let documents: Vec<serde_norway::Value> =
        serde_saphyr::from_multiple_with_options(text, options)
            .map_err(|error| error.render_with_formatter(&YamlErrors))?;
    let to_json = |document| serde_json::to_value(document).map_err(|error| error.to_string());
    documents.into_iter().map(to_json).collect()
}

/// Formats errors of the parser for users, with the limits of this module.
struct YamlErrors;

impl MessageFormatter for YamlErrors {
    fn format_message<'a>(&self, error: &'a Error) -> Cow<'a, str> {
        match error {
            Error::Budget {
                breach: BudgetBreach::Depth { .. },
                ..
            } => format!("lists and maps are nested more than {MAX_DEPTH} levels deep").into(),
            Error::Budget { .. } => "too many values, including those that aliases repeat".into(),
            other => UserMessageFormatter.format_message(other),
        }
    }
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
        let many = format!("a: &a [x]\nb: [{}]\n", ["*a"; 500].join(", "));
        assert_eq!(one(&many)["b"].as_array().unwrap().len(), 500);
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
            ("a: [1", "unclosed bracket '[' at line 1, column 4"),
            (
                "a: 1\na: 2",
                "duplicate mapping key `a` is not allowed here at line 2",
            ),
            ("a: *b", "line 1, column 4"),
            ("a: &a [*a]", "line 1, column 8"),
            ("a: .nan", "`.nan` is not a finite number at line 1"),
            ("? [a]\n: b", "must be a string"),
            ("<<: 5", "merge value must be mapping"),
            (&"- ".repeat(150), "more than 64 levels deep"),
            (
                &"[".repeat(100_000),
                "recursion limit exceeded at line 1, column 65",
            ),
            (&bomb, "too many values"),
            (&chain, "more than 64 levels deep"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(words), "{text:.40}: {error}");
        }
    }
}
