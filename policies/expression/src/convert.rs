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
        Value::Double(value) => format_double(*value),
        Value::Timestamp(millis) => format_timestamp(*millis).ok_or(Reason::OutOfRange),
        Value::Duration(millis) => Ok(format_duration(*millis)),
        _ => return None,
    })
}

/// Formats a double with at most six decimals, or as an integer from 10^9 on. The formatter of the
/// standard library is exact, but needs up to 115,000 fuel for some numbers, and tables.
pub fn format_double(value: f64) -> Result<String, Reason> {
    const MILLION: u64 = 1_000_000;
    if value.is_nan() || value.abs() >= 1e9 {
        return double_to_int(value.round_ties_even()).map(|int| int.to_string());
    }
    let millionths = (value.abs() * 1e6).round_ties_even() as u64;
    let sign = if value < 0.0 && millionths > 0 {
        "-"
    } else {
        ""
    };
    let whole = (millionths / MILLION).to_string();
    let decimals = format!("{:06}", millionths % MILLION);
    let decimals = decimals.trim_end_matches('0');
    let point = if decimals.is_empty() { "" } else { "." };
    Ok([sign, &whole, point, decimals].concat())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_are_formatted_with_up_to_six_decimals() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "0"),
            (2.0, "2"),
            (-2.5, "-2.5"),
            (0.1 + 0.2, "0.3"),
            (3.913_366_052_018_17e-3, "0.003913"),
            (0.999_999_9, "1"),
            (-1e-7, "0"),
            (5.423_967_944_077_99e-300, "0"),
            (999_999_999.25, "999999999.25"),
            (1e9 + 0.75, "1000000001"),
            (-9e18, "-9000000000000000000"),
        ] {
            assert_eq!(format_double(value), Ok(expected.to_owned()), "{value}");
        }
        for value in [f64::NAN, f64::INFINITY, -1e308] {
            assert_eq!(format_double(value), Err(Reason::OutOfRange), "{value}");
        }
    }
}
