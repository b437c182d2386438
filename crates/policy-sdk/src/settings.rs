//! Parses settings with little code: a JSON object whose values are strings, numbers, and booleans.
//! For lists and nested objects, use another JSON parser, such as serde_json, which makes a component
//! several times larger, and each decision more expensive.
//!
//! ```
//! use policy_sdk::settings::Settings;
//!
//! fn gap(json: &str) -> Result<i64, String> {
//!     let mut settings = Settings::parse(json)?;
//!     let gap = settings.integer("gapMinutes", 0..=1440)?.unwrap_or(5);
//!     settings.finish()?;
//!     Ok(gap * 60_000)
//! }
//!
//! assert_eq!(gap(r#"{"gapMinutes": 10}"#), Ok(600_000));
//! assert_eq!(
//!     gap(r#"{"gap": 10}"#),
//!     Err(r#"unknown setting "gap"; use gapMinutes"#.into())
//! );
//! ```

use std::ops::RangeInclusive;

/// The settings of a group or of an item. Take each setting once; [`Settings::finish`] rejects the
/// remaining ones.
#[derive(Clone, Debug)]
pub struct Settings {
    remaining: Vec<Entry>,
    known: Vec<&'static str>,
}

#[derive(Clone, Debug)]
struct Entry {
    name: String,
    value: Value,
    /// The position of the name's opening quote in the settings, in bytes, counted from 1.
    at: usize,
}

#[derive(Clone, Debug)]
enum Value {
    String(String),
    /// A number, as written.
    Number(String),
    Boolean(bool),
    Null,
    /// A list or an object, which no setting accepts.
    Nested,
}

impl Settings {
    /// Parses a JSON object. A list or an object as a value is an error only when that setting is
    /// taken.
    ///
    /// # Errors
    /// Returns a message that contains the settings if they are not a JSON object.
    pub fn parse(json: &str) -> Result<Self, String> {
        let remaining = Parser { rest: json }.object().ok_or_else(|| {
            format!(
                "the settings are {json}; they must be a JSON object of strings, numbers, and booleans, such as {{}}"
            )
        })?;
        let known = Vec::new();
        Ok(Self { remaining, known })
    }

    /// Takes a string; `None` if it is not set.
    ///
    /// # Errors
    /// Returns a message that names the setting, the value, and the fix.
    pub fn string(&mut self, name: &'static str) -> Result<Option<String>, String> {
        match self.take(name)? {
            None => Ok(None),
            Some(Value::String(string)) => Ok(Some(string)),
            Some(value) => Err(invalid(name, &value, "a string in quotes")),
        }
    }

    /// Takes a string and parses it, for example with `FromStr`; `None` if it is not set. `expected`
    /// describes the valid strings, such as `a duration in quotes, such as "5m"`.
    ///
    /// # Errors
    /// Returns a message that names the setting, the value, and the fix.
    pub fn string_as<T>(
        &mut self,
        name: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, String> {
        let Some(value) = self.take(name)? else {
            return Ok(None);
        };
        let parsed = match &value {
            Value::String(string) => parse(string),
            _ => None,
        };
        match parsed {
            Some(parsed) => Ok(Some(parsed)),
            None => Err(invalid(name, &value, expected)),
        }
    }

    /// Takes a boolean; `None` if it is not set.
    ///
    /// # Errors
    /// Returns a message that names the setting, the value, and the fix.
    pub fn boolean(&mut self, name: &'static str) -> Result<Option<bool>, String> {
        match self.take(name)? {
            None => Ok(None),
            Some(Value::Boolean(value)) => Ok(Some(value)),
            Some(value) => Err(invalid(name, &value, "true or false")),
        }
    }

    /// Takes an integer in a range; `None` if it is not set.
    ///
    /// # Errors
    /// Returns a message that names the setting, the value, and the fix.
    pub fn integer(
        &mut self,
        name: &'static str,
        range: RangeInclusive<i64>,
    ) -> Result<Option<i64>, String> {
        let expected = || format!("an integer from {} to {}", range.start(), range.end());
        self.parsed(name, &range, |digits| digits.parse().ok(), expected)
    }

    /// Takes a number with at most three decimals, and returns it in thousandths: 1500 for 1.5. Returns
    /// `None` if it is not set. Numbers of type `f64` would make a component 40 KB larger.
    ///
    /// # Errors
    /// Returns a message that names the setting, the value, and the fix.
    pub fn thousandths(
        &mut self,
        name: &'static str,
        range: RangeInclusive<i64>,
    ) -> Result<Option<i64>, String> {
        let expected = || {
            let (start, end) = (decimal(*range.start()), decimal(*range.end()));
            format!("a number from {start} to {end} with at most three decimals")
        };
        self.parsed(name, &range, thousandths, expected)
    }

    /// Rejects the settings that have not been taken.
    ///
    /// # Errors
    /// Returns a message that names the first of them, and the known settings.
    pub fn finish(self) -> Result<(), String> {
        match (self.remaining.first(), &*self.known) {
            (None, _) => Ok(()),
            (Some(Entry { name, .. }), []) => Err(format!("unknown setting \"{name}\"; remove it")),
            // `{name:?}` would add Unicode tables of 3 KB, which each decision copies.
            (Some(Entry { name, .. }), known) => Err(format!(
                "unknown setting \"{name}\"; use {}",
                known.join(", ")
            )),
        }
    }

    fn parsed(
        &mut self,
        name: &'static str,
        range: &RangeInclusive<i64>,
        parse: fn(&str) -> Option<i64>,
        expected: impl Fn() -> String,
    ) -> Result<Option<i64>, String> {
        let Some(value) = self.take(name)? else {
            return Ok(None);
        };
        let parsed = match &value {
            Value::Number(digits) => parse(digits).filter(|number| range.contains(number)),
            _ => None,
        };
        match parsed {
            Some(number) => Ok(Some(number)),
            None => Err(invalid(name, &value, &expected())),
        }
    }

    /// Takes a value. A repeated name is an error: JSON does not define which value applies.
    fn take(&mut self, name: &'static str) -> Result<Option<Value>, String> {
        self.known.push(name);
        let is_same = |entry: &Entry| entry.name == name;
        let Some(index) = self.remaining.iter().position(is_same) else {
            return Ok(None);
        };
        let taken = self.remaining.remove(index);
        match self.remaining.iter().find(|entry| is_same(entry)) {
            None => Ok(Some(taken.value)),
            Some(repeated) => Err(format!(
                "{name} is set more than once, at byte {} and at byte {} of the settings; remove all but one",
                taken.at, repeated.at
            )),
        }
    }
}

fn invalid(name: &str, value: &Value, expected: &str) -> String {
    let (quote, value) = match value {
        Value::String(string) => ("\"", &**string),
        Value::Number(digits) => ("", &**digits),
        Value::Boolean(true) => ("", "true"),
        Value::Boolean(false) => ("", "false"),
        Value::Null => ("", "null"),
        Value::Nested => ("", "a list or an object"),
    };
    format!("{name} is {quote}{value}{quote}; it must be {expected}")
}

/// Parses a decimal number with at most three decimals, in thousandths.
fn thousandths(digits: &str) -> Option<i64> {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let only_digits = fraction.bytes().all(|c| c.is_ascii_digit());
    if !only_digits || fraction.is_empty() || fraction.len() > 3 {
        return None;
    }
    let scale = 10_i64.pow(3 - fraction.len() as u32);
    let fraction = fraction.parse::<i64>().ok()? * scale;
    let fraction = if whole.starts_with('-') {
        -fraction
    } else {
        fraction
    };
    let whole = whole.parse::<i64>().ok()?.checked_mul(1000)?;
    whole.checked_add(fraction)
}

/// Formats thousandths as a decimal number.
fn decimal(thousandths: i64) -> String {
    let (sign, number) = (
        if thousandths < 0 { "-" } else { "" },
        thousandths.unsigned_abs(),
    );
    let text = format!("{sign}{}.{:03}", number / 1000, number % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Splits with functions that return `None`, not with ranges: a range outside of a string panics,
/// and the message of this panic adds Unicode tables of 3 KB.
struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    /// Parses the whole text as an object. Returns `None` if it is anything else.
    fn object(&mut self) -> Option<Vec<Entry>> {
        let length = self.rest.len();
        let mut entries = Vec::new();
        self.token('{')?;
        if self.token('}').is_none() {
            loop {
                self.token('"')?;
                let at = length - self.rest.len();
                let name = self.string()?;
                self.token(':')?;
                let value = self.value()?;
                entries.push(Entry { name, value, at });
                if self.token(',').is_none() {
                    break;
                }
            }
            self.token('}')?;
        }
        self.skip_space();
        self.rest.is_empty().then_some(entries)
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    /// Takes a character after any space.
    fn token(&mut self, token: char) -> Option<()> {
        self.skip_space();
        self.rest = self.rest.strip_prefix(token)?;
        Some(())
    }

    fn value(&mut self) -> Option<Value> {
        if self.token('"').is_some() {
            return self.string().map(Value::String);
        }
        if self.rest.starts_with(['[', '{']) {
            return self.nested();
        }
        let end = self.rest.find([',', '}', ' ', '\t', '\n', '\r'])?;
        let (word, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        Some(match word {
            "true" => Value::Boolean(true),
            "false" => Value::Boolean(false),
            "null" => Value::Null,
            number if number.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => {
                Value::Number(number.to_owned())
            }
            _ => return None,
        })
    }

    /// Takes a list or an object. Does not check it any further.
    fn nested(&mut self) -> Option<Value> {
        let mut depth = 0_usize;
        loop {
            let next = self.rest.find(['"', '[', '{', ']', '}'])?;
            let (_, rest) = self.rest.split_at_checked(next)?;
            let mut rest = rest.chars();
            let character = rest.next()?;
            self.rest = rest.as_str();
            match character {
                '"' => {
                    self.string()?;
                }
                '[' | '{' => depth += 1,
                _ if depth == 1 => return Some(Value::Nested),
                _ => depth -= 1,
            }
        }
    }

    /// Parses a string after its opening quote.
    fn string(&mut self) -> Option<String> {
        let mut text = String::new();
        loop {
            let end = self.rest.find(['"', '\\'])?;
            let (plain, rest) = self.rest.split_at_checked(end)?;
            text.push_str(plain);
            if let Some(rest) = rest.strip_prefix('"') {
                self.rest = rest;
                return Some(text);
            }
            self.rest = rest.strip_prefix('\\')?;
            text.push(self.escape()?);
        }
    }

    /// Parses an escape after its backslash.
    fn escape(&mut self) -> Option<char> {
        let mut rest = self.rest.chars();
        let escape = rest.next()?;
        self.rest = rest.as_str();
        Some(match escape {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'u' => {
                let first = self.utf16_unit()?;
                let pair = if (0xd800..0xdc00).contains(&first) {
                    self.rest = self.rest.strip_prefix("\\u")?;
                    Some(self.utf16_unit()?)
                } else {
                    None
                };
                let units = std::iter::once(first).chain(pair);
                char::decode_utf16(units).next()?.ok()?
            }
            '"' | '\\' | '/' => escape,
            _ => return None,
        })
    }

    /// Parses the four hexadecimal digits of a UTF-16 code unit.
    fn utf16_unit(&mut self) -> Option<u16> {
        let (digits, rest) = self.rest.split_at_checked(4)?;
        self.rest = rest;
        u16::from_str_radix(digits, 16).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_each_type_are_taken() {
        let json =
            "{\"a\": \"x\\\"\\u00e9\\ud83d\\ude00\\n\", \"b\":true ,\"c\":-12,\"d\": 0.25}\n";
        let mut settings = Settings::parse(json).unwrap();
        assert_eq!(settings.string("a"), Ok(Some("x\"é😀\n".to_owned())));
        assert_eq!(settings.boolean("b"), Ok(Some(true)));
        assert_eq!(settings.integer("c", -20..=0), Ok(Some(-12)));
        assert_eq!(settings.thousandths("d", 0..=2000), Ok(Some(250)));
        assert_eq!(settings.string("e"), Ok(None));
        assert_eq!(settings.finish(), Ok(()));
    }

    #[test]
    fn errors_name_the_setting_the_value_and_the_fix() {
        let mut settings = Settings::parse(r#"{"a": 1, "b": "x", "c": 11, "d": false}"#).unwrap();
        let string = settings.string("a");
        assert_eq!(string, Err("a is 1; it must be a string in quotes".into()));
        let boolean = settings.boolean("b");
        assert_eq!(boolean, Err(r#"b is "x"; it must be true or false"#.into()));
        let integer = settings.integer("c", 0..=10);
        assert_eq!(
            integer,
            Err("c is 11; it must be an integer from 0 to 10".into())
        );
        let unknown = settings.finish();
        assert_eq!(unknown, Err("unknown setting \"d\"; use a, b, c".into()));
    }

    #[test]
    fn repeated_setting_is_rejected_with_its_positions() {
        let json = r#"{"a": 1, "b": true, "a": 2}"#;
        let mut settings = Settings::parse(json).unwrap();
        assert_eq!(
            settings.integer("a", 0..=10),
            Err(
                "a is set more than once, at byte 2 and at byte 21 of the settings; remove all but one"
                    .into()
            )
        );
        assert_eq!(settings.boolean("b"), Ok(Some(true)));
    }

    #[test]
    fn string_as_parses_strings_only() {
        let json = r#"{"a": "7", "b": "x", "c": 7, "d": null}"#;
        let mut settings = Settings::parse(json).unwrap();
        let mut take =
            |name| settings.string_as::<u8>(name, "a digit in quotes", |text| text.parse().ok());
        assert_eq!(take("a"), Ok(Some(7)));
        let invalid = |found: &str| Err(format!("{found}; it must be a digit in quotes"));
        assert_eq!(take("b"), invalid(r#"b is "x""#));
        assert_eq!(take("c"), invalid("c is 7"));
        assert_eq!(take("d"), invalid("d is null"));
        assert_eq!(take("e"), Ok(None));
    }

    #[test]
    fn thousandths_are_exact() {
        for (digits, expected) in [
            ("0", Some(0)),
            ("1.5", Some(1500)),
            ("-0.001", Some(-1)),
            ("-2.25", Some(-2250)),
            ("9223372036854775", Some(9_223_372_036_854_775_000)),
            ("9223372036854776", None),
            ("1.2345", None),
            ("1.", None),
            ("1e3", None),
            ("1.-5", None),
        ] {
            assert_eq!(thousandths(digits), expected, "{digits}");
        }
        for (number, text) in [(0, "0"), (1500, "1.5"), (-1, "-0.001"), (100_000, "100")] {
            assert_eq!(decimal(number), text);
        }
    }

    #[test]
    fn lists_and_objects_are_rejected_by_name() {
        let json = r#"{"a": ["]", [{}]], "b": {"c": "}\""}, "d": 1}"#;
        let mut settings = Settings::parse(json).unwrap();
        let expected = "a is a list or an object; it must be true or false";
        assert_eq!(settings.boolean("a"), Err(expected.into()));
        assert_eq!(settings.integer("d", 0..=1), Ok(Some(1)));
        assert_eq!(
            settings.finish(),
            Err("unknown setting \"b\"; use a, d".into())
        );
    }

    #[test]
    fn malformed_json_is_rejected() {
        for json in [
            "",
            "{",
            "[]",
            "{}x",
            "{\"a\"}",
            "{\"a\":1,}",
            "{\"a\":[1}",
            "{\"a\":{}",
            "{\"a\":[}",
            "{\"a\":[\"]}",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"\\ud800\"}",
            "{\"a\":\"\\u00",
            "{\"a\":\"é",
            "{a:1}",
        ] {
            assert!(Settings::parse(json).is_err(), "{json}");
        }
        assert!(Settings::parse(" { } ").is_ok());
    }
}
