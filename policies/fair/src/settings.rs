//! What the user set, and what is wrong with it.

use policy_sdk::Duration;
use serde_json::Value;
use std::fmt;

/// The group's setting: how long nothing runs between two runs. Default none.
///
/// # Errors
/// Names the setting, what was given, and what would be right.
pub fn gap(json: &str) -> Result<Duration, String> {
    let Some(value) = only("gap", Whose(None), json)? else {
        return Ok(0);
    };
    let text = value.as_str().ok_or_else(|| {
        format!("gap is {value}; it must be a duration in quotes, such as \"30s\"")
    })?;
    let parsed = humantime::parse_duration(text).map_err(|error| {
        format!("gap is {text:?}, which is no duration ({error}); write it like 30s or 5m")
    })?;
    Duration::try_from(parsed.as_millis())
        .ok()
        .filter(|millis| *millis <= LONGEST)
        .ok_or_else(|| format!("gap is {text:?}; it must be at most 24h"))
}

const LONGEST: Duration = 24 * 60 * 60 * 1000;

/// An item's setting: how large its share is, compared with others. Default 1.
///
/// # Errors
/// Names the item, the setting, what was given, and what would be right.
pub fn weight(item: &str, json: Option<&str>) -> Result<f64, String> {
    let whose = Whose(Some(item));
    let Some(value) = only("weight", whose, json.unwrap_or("{}"))? else {
        return Ok(1.0);
    };
    value
        .as_f64()
        .filter(|weight| (0.01..=100.0).contains(weight))
        .ok_or_else(|| format!("weight{whose} is {value}; it must be a number from 0.01 to 100"))
}

/// The value of the only setting that a JSON object may have.
fn only(name: &str, whose: Whose<'_>, json: &str) -> Result<Option<Value>, String> {
    let Ok(Value::Object(given)) = serde_json::from_str(json) else {
        return Err(format!(
            "the settings{whose} are {json}; they must be a JSON object, such as {{}}"
        ));
    };
    let mut found = None;
    for (key, value) in given {
        if key != name {
            return Err(format!(
                "the setting {key:?}{whose} is unknown and was given {value}; a group may set gap, and an item weight"
            ));
        }
        found = Some(value);
    }
    Ok(found)
}

/// The item that a message speaks of, if any; written only where there is a message.
#[derive(Clone, Copy)]
struct Whose<'a>(Option<&'a str>);

impl fmt::Display for Whose<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(name) => write!(f, " of item {name:?}"),
            None => Ok(()),
        }
    }
}
