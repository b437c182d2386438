//! Parses and validates settings.

use policy_sdk::Duration;
use serde_json::Value;
use std::fmt;

/// Parses the setting of a group: the minimum time between two runs. The default is 0.
///
/// # Errors
/// Returns a message that names the setting, the value, and the fix.
pub fn gap(json: &str) -> Result<Duration, String> {
    let Some(value) = only_setting("gap", ItemSuffix(None), json)? else {
        return Ok(0);
    };
    let text = value.as_str().ok_or_else(|| {
        format!("gap is {value}; it must be a duration in quotes, such as \"30s\"")
    })?;
    let parsed = humantime::parse_duration(text).map_err(|error| {
        format!("gap is {text:?}, which is not a duration ({error}); use for example 30s or 5m")
    })?;
    Duration::try_from(parsed.as_millis())
        .ok()
        .filter(|millis| *millis <= MAX_GAP)
        .ok_or_else(|| format!("gap is {text:?}; it must be at most 24h"))
}

const MAX_GAP: Duration = 24 * 60 * 60 * 1000;

/// Parses the setting of an item: the size of its share relative to other items. The default is 1.
///
/// # Errors
/// Returns a message that names the item, the setting, the value, and the fix.
pub fn weight(item: &str, json: Option<&str>) -> Result<f64, String> {
    let suffix = ItemSuffix(Some(item));
    let Some(value) = only_setting("weight", suffix, json.unwrap_or("{}"))? else {
        return Ok(1.0);
    };
    value
        .as_f64()
        .filter(|weight| (0.01..=100.0).contains(weight))
        .ok_or_else(|| format!("weight{suffix} is {value}; it must be a number from 0.01 to 100"))
}

/// Returns the value of the only supported setting of a JSON object; `None` if it is not set.
fn only_setting(name: &str, suffix: ItemSuffix<'_>, json: &str) -> Result<Option<Value>, String> {
    let Ok(Value::Object(given)) = serde_json::from_str(json) else {
        return Err(format!(
            "the settings{suffix} are {json}; they must be a JSON object, such as {{}}"
        ));
    };
    let mut found = None;
    for (key, value) in given {
        if key != name {
            return Err(format!(
                "unknown setting {key:?}{suffix} with the value {value}; a group can set gap, and an item can set weight"
            ));
        }
        found = Some(value);
    }
    Ok(found)
}

/// The item in a message, if any. Formatted as ` of item "NAME"`.
#[derive(Clone, Copy)]
struct ItemSuffix<'a>(Option<&'a str>);

impl fmt::Display for ItemSuffix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(name) => write!(f, " of item {name:?}"),
            None => Ok(()),
        }
    }
}
