//! Functions with one operand.

use crate::failure::Reason;
use crate::program::UnaryFunction;
use crate::value::Value;
use jiff::{SignedDuration, Timestamp};
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
                .map_err(|_| Reason::NotANumber(text.into_owned()))?,
        ),
        (F::ToDouble, Value::Int(int)) => Value::Double(int as f64),
        (F::ToDouble, Value::String(text)) => Value::Double(
            text.parse()
                .map_err(|_| Reason::NotANumber(text.into_owned()))?,
        ),
        (F::ToDuration, Value::String(text)) => Value::Duration(parse_duration(&text)?),
        (F::ToTimestamp, Value::String(text)) => Value::Timestamp(parse_timestamp(&text)?),
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
    Some(Ok(match value {
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Double(value) => value.to_string(),
        Value::Timestamp(millis) => match timestamp(*millis) {
            Ok(timestamp) => timestamp.to_string(),
            Err(reason) => return Some(Err(reason)),
        },
        Value::Duration(millis) => {
            let sign = if *millis < 0 { "-" } else { "" };
            let millis = millis.unsigned_abs();
            let fraction = match millis % 1000 {
                0 => String::new(),
                fraction => format!(".{fraction:03}").trim_end_matches('0').to_owned(),
            };
            format!("{sign}{}{fraction}s", millis / 1000)
        }
        _ => return None,
    }))
}

/// Converts milliseconds to a timestamp with a calendar.
pub fn timestamp(millis: i64) -> Result<Timestamp, Reason> {
    Timestamp::from_millisecond(millis).map_err(|_| Reason::OutOfRange)
}

fn parse_duration(text: &str) -> Result<i64, Reason> {
    let duration: SignedDuration = text
        .parse()
        .map_err(|_| Reason::NotADuration(text.to_owned()))?;
    whole_millis(duration.as_nanos())
}

fn parse_timestamp(text: &str) -> Result<i64, Reason> {
    let timestamp: Timestamp = text
        .parse()
        .map_err(|_| Reason::NotATimestamp(text.to_owned()))?;
    whole_millis(timestamp.as_nanosecond())
}

/// Returns the milliseconds of a time. Times have no smaller parts.
fn whole_millis(nanos: i128) -> Result<i64, Reason> {
    let millis = i64::try_from(nanos / 1_000_000).map_err(|_| Reason::OutOfRange)?;
    let whole = nanos % 1_000_000 == 0;
    whole.then_some(millis).ok_or(Reason::OutOfRange)
}

/// Parses a duration of the settings.
pub fn setting_duration(text: &str) -> Option<i64> {
    parse_duration(text).ok()
}
