//! Durations such as `1h 30m`.

use crate::field_error::FieldError;
use crate::text::clean;
use std::time::Duration;

/// The maximum duration: 100 years, so that every time derived from one can be represented.
const MAX_DURATION: Duration = Duration::from_secs(100 * 31_557_600);

/// The maximum length of a duration in bytes, as in the schema.
const MAX_DURATION_TEXT: usize = 64;

/// Parses a duration of a field, or returns the default. `zero` allows 0.
pub(super) fn duration(
    field: &str,
    given: &Option<String>,
    default: Duration,
    zero: bool,
) -> Result<Duration, FieldError> {
    let Some(text) = given else {
        return Ok(default);
    };
    let too_long =
        || FieldError::out_of_range(field, &clean(text, MAX_DURATION_TEXT), "at most 100years");
    if has_too_many_digits(text) {
        return Err(too_long());
    }
    match humantime::parse_duration(text.trim()) {
        Ok(parsed) if parsed > MAX_DURATION => Err(too_long()),
        Ok(parsed) if parsed >= Duration::from_millis(1) || (zero && parsed.is_zero()) => {
            Ok(parsed)
        }
        Ok(_) => Err(FieldError::out_of_range(
            field,
            text,
            "at least 1ms, such as 5m",
        )),
        Err(error) => Err(FieldError::invalid(
            field,
            text,
            format!("not a duration ({error})"),
            "use for example 5m, 1h 30m, or 2days",
        )),
    }
}

/// Returns whether a duration has more digits than any useful one. The parser panics if the sum
/// overflows, which takes more digits than this.
fn has_too_many_digits(text: &str) -> bool {
    let digits = text.split(|c: char| !c.is_ascii_digit()).map(str::len);
    text.len() > MAX_DURATION_TEXT || digits.max().is_some_and(|digits| digits > 11)
}
