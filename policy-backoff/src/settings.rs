//! What the user set, and what is wrong with it.

use crate::Backoff;
use policy_sdk::Duration;
use serde_json::Value;
use std::ops::RangeInclusive;

const BASE: Duration = 60 * 1000;
const FACTOR: f64 = 2.0;
const MAX: Duration = 60 * 60 * 1000;
/// 100 years, as the operator has it.
const LONGEST: Duration = 100 * 31_557_600_000;

/// The settings as they were given: by the group, or by an item and its group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    base: Option<Duration>,
    factor: Option<f64>,
    max: Option<Duration>,
    jitter: Option<f64>,
    /// The item that they are of, if it gave any itself.
    item: Option<String>,
}

impl Settings {
    /// Reads the settings of a group, a JSON object.
    ///
    /// # Errors
    /// Names the setting, what was given, and what would be right.
    pub fn of_group(json: &str) -> Result<Self, String> {
        Self::default().with(json)
    }

    /// The settings of an item: its own where it has some, the group's otherwise.
    ///
    /// # Errors
    /// As for a group, and names the item.
    pub fn of_item(&self, name: &str, json: Option<&str>) -> Result<Self, String> {
        let Some(json) = json else {
            return Ok(self.clone());
        };
        let item = Some(name.to_owned());
        Self {
            item,
            ..self.clone()
        }
        .with(json)
    }

    /// Lays other settings over these.
    fn with(mut self, json: &str) -> Result<Self, String> {
        let whose = self.whose();
        let Ok(Value::Object(given)) = serde_json::from_str(json) else {
            return Err(format!(
                "the settings{whose} are {json}; they must be a JSON object, such as {{\"base\": \"1m\"}}"
            ));
        };
        for (key, value) in &given {
            let what = format!("{key}{whose}");
            match key.as_str() {
                "base" => self.base = Some(duration(&what, value)?),
                "factor" => {
                    self.factor = Some(number(
                        &what,
                        value,
                        1.0..=f64::MAX,
                        "a number of at least 1",
                    )?)
                }
                "max" => self.max = Some(duration(&what, value)?),
                "jitter" => {
                    self.jitter = Some(number(&what, value, 0.0..=1.0, "a number from 0 to 1")?)
                }
                _ => {
                    return Err(format!(
                        "the setting {key:?}{whose} is unknown and was given {value}; the settings are base, factor, max and jitter"
                    ));
                }
            }
        }
        Ok(self)
    }

    /// Completes the settings by the defaults. Where only one of `base` and `max` was
    /// given, the default of the other gives way.
    ///
    /// # Errors
    /// When `max` was given less than `base`.
    pub fn backoff(&self) -> Result<Backoff, String> {
        let base = self
            .base
            .unwrap_or_else(|| BASE.min(self.max.unwrap_or(MAX)));
        let max = self.max.unwrap_or_else(|| MAX.max(base));
        if max < base {
            let text = |ms| humantime::format_duration(std::time::Duration::from_millis(ms));
            return Err(format!(
                "max{} is {}, which is less than base, {}; max must be at least base",
                self.whose(),
                text(max),
                text(base)
            ));
        }
        Ok(Backoff {
            base,
            factor: self.factor.unwrap_or(FACTOR),
            max,
            jitter: self.jitter.unwrap_or(0.0),
        })
    }

    fn whose(&self) -> String {
        match &self.item {
            Some(name) => format!(" of item {name:?}"),
            None => String::new(),
        }
    }
}

fn duration(what: &str, value: &Value) -> Result<Duration, String> {
    let text = value.as_str().ok_or_else(|| {
        format!("{what} is {value}; it must be a duration in quotes, such as \"5m\" or \"1h 30m\"")
    })?;
    let parsed = humantime::parse_duration(text).map_err(|error| {
        format!(
            "{what} is {text:?}, which is no duration ({error}); write it like 30s, 5m or 1h 30m"
        )
    })?;
    Duration::try_from(parsed.as_millis())
        .ok()
        .filter(|millis| *millis <= LONGEST)
        .ok_or_else(|| format!("{what} is {text:?}; it must be at most 100years"))
}

fn number(
    what: &str,
    value: &Value,
    range: RangeInclusive<f64>,
    right: &str,
) -> Result<f64, String> {
    value
        .as_f64()
        .filter(|number| range.contains(number))
        .ok_or_else(|| format!("{what} is {value}; it must be {right}"))
}
