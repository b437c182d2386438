//! Functions with one operand.

use crate::failure::{Quote, Reason};
use crate::program::UnaryFunction;
use crate::time::{format_duration, format_timestamp, parse_duration, parse_timestamp};
use crate::value::Value;
use serde_json::Value as Json;
use std::borrow::Cow;

/// Applies a function to a value.
pub fn convert(function: UnaryFunction, value: Value<'_>) -> Result<Value<'_>, Reason> {
    use UnaryFunction as F;
    let wrong_type = Reason::WrongTypes(value.type_name(), None);
    Ok(match (function, value) {
        (F::Size, value) => Value::Int(size(&value).ok_or(wrong_type)?),
        (F::ToInt, Value::Double(double)) => Value::Int(double_to_int(double)?),
        (F::ToInt, Value::Timestamp(millis)) => Value::Int(millis.div_euclid(1000)),
        (F::ToInt, Value::String(text)) => Value::Int(
            text.parse()
                .map_err(|_| Reason::NotANumber(Quote::new(&text)))?,
        ),
        (F::ToDouble, Value::Int(int)) => Value::Double(int as f64),
        (F::ToDouble, Value::String(text)) => {
            Value::Double(parse_double(&text).ok_or_else(|| Reason::NotANumber(Quote::new(&text)))?)
        }
        (F::ToDuration, Value::String(text)) => Value::Duration(
            parse_duration(&text).ok_or_else(|| Reason::NotADuration(Quote::new(&text)))?,
        ),
        (F::ToTimestamp, Value::String(text)) => Value::Timestamp(
            parse_timestamp(&text).ok_or_else(|| Reason::NotATimestamp(Quote::new(&text)))?,
        ),
        (F::ToTimestamp, Value::Int(seconds)) => {
            Value::Timestamp(seconds.checked_mul(1000).ok_or(Reason::OutOfRange)?)
        }
        (F::ToInt, value @ Value::Int(_))
        | (F::ToDouble, value @ Value::Double(_))
        | (F::ToString, value @ Value::String(_))
        | (F::ToDuration, value @ Value::Duration(_))
        | (F::ToTimestamp, value @ Value::Timestamp(_)) => value,
        (F::ToString, value) => Value::String(Cow::Owned(text(&value).ok_or(wrong_type)??)),
        (F::Hours, Value::Duration(millis)) => Value::Int(millis / 3_600_000),
        (F::Minutes, Value::Duration(millis)) => Value::Int(millis / 60_000),
        (F::Seconds, Value::Duration(millis)) => Value::Int(millis / 1000),
        _ => return Err(wrong_type),
    })
}

fn size(value: &Value<'_>) -> Option<i64> {
    let size = match value {
        Value::String(text) => text.chars().count(),
        Value::Json(Json::Object(object)) => object.len(),
        list => list.list_len()?,
    };
    i64::try_from(size).ok()
}

fn double_to_int(double: f64) -> Result<i64, Reason> {
    // Both limits are exact as doubles. The comparison also fails for NaN.
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    let fits = double > -LIMIT && double < LIMIT;
    fits.then_some(double as i64).ok_or(Reason::OutOfRange)
}

/// Returns a value as text; `None` if its type has no text.
fn text(value: &Value<'_>) -> Option<Result<String, Reason>> {
    Some(match value {
        Value::Bool(value) => Ok(value.to_string()),
        Value::Int(value) => Ok(value.to_string()),
        Value::Double(value) => Ok(value.to_string()),
        Value::Timestamp(millis) => format_timestamp(*millis).ok_or(Reason::OutOfRange),
        Value::Duration(millis) => Ok(format_duration(*millis)),
        _ => return None,
    })
}

/// Parses a double. The parser of serde_json is in the component anyway, and the one of the standard
/// library would add a table of 10 KB. It is exact up to 15 digits.
pub fn parse_double(text: &str) -> Option<f64> {
    // Lists and objects use more fuel than the estimate.
    match text.trim_ascii_start().as_bytes() {
        [b'-' | b'0'..=b'9', ..] => {}
        _ => return None,
    }
    match serde_json::from_str(text).ok()? {
        Json::Number(number) => number.as_f64(),
        _ => None,
    }
}
