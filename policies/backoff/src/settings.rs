//! Parses and validates settings.

use crate::Backoff;
use policy_sdk::Duration;
use serde_json::Value;
use std::fmt;
use std::ops::RangeInclusive;

const BASE: Duration = 60 * 1000;
const FACTOR: f64 = 2.0;
const MAX: Duration = 60 * 60 * 1000;
/// The maximum duration: 100 years, as for durations in a group.
const MAX_DURATION: Duration = 100 * 31_557_600_000;

/// The settings of a group, or of an item merged with those of its group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    base: Option<Duration>,
    factor: Option<f64>,
    max: Option<Duration>,
    jitter: Option<f64>,
}

impl Settings {
    /// Parses the settings of a group, a JSON object.
    ///
    /// # Errors
    /// Returns a message that names the setting, the value, and the fix.
    pub fn of_group(json: &str) -> Result<Self, String> {
        let settings = Self::default().overridden_by(json, ItemSuffix(None))?;
        settings.with_defaults(ItemSuffix(None))?;
        Ok(settings)
    }

    /// Returns the effective settings of an item. Settings of the item override those of the group.
    ///
    /// # Errors
    /// Returns a message that names the item, the setting, the value, and the fix.
    pub fn effective(&self, item: &str, json: Option<&str>) -> Result<Backoff, String> {
        match json {
            Some(json) => {
                let suffix = ItemSuffix(Some(item));
                self.clone()
                    .overridden_by(json, suffix)?
                    .with_defaults(suffix)
            }
            None => self.with_defaults(ItemSuffix(None)),
        }
    }

    /// Overrides these settings with others.
    fn overridden_by(mut self, json: &str, suffix: ItemSuffix<'_>) -> Result<Self, String> {
        let Ok(Value::Object(given)) = serde_json::from_str(json) else {
            return Err(format!(
                "the settings{suffix} are {json}; they must be a JSON object, such as {{\"base\": \"1m\"}}"
            ));
        };
        for (key, value) in &given {
            let setting = Setting { key, suffix, value };
            match key.as_str() {
                "base" => self.base = Some(setting.duration()?),
                "factor" => {
                    self.factor = Some(setting.number(1.0..=f64::MAX, "of at least 1")?);
                }
                "max" => self.max = Some(setting.duration()?),
                "jitter" => self.jitter = Some(setting.number(0.0..=1.0, "from 0 to 1")?),
                _ => {
                    return Err(format!(
                        "unknown setting {key:?}{suffix} with the value {value}; the settings are base, factor, max, and jitter"
                    ));
                }
            }
        }
        Ok(self)
    }

    /// Applies the defaults. If only one of `base` and `max` is set, the default of the other one is
    /// adjusted so that `max` is at least `base`.
    fn with_defaults(&self, suffix: ItemSuffix<'_>) -> Result<Backoff, String> {
        let base = self
            .base
            .unwrap_or_else(|| BASE.min(self.max.unwrap_or(MAX)));
        let max = self.max.unwrap_or_else(|| MAX.max(base));
        if max < base {
            let text = |ms| humantime::format_duration(std::time::Duration::from_millis(ms));
            let (base, max) = (text(base), text(max));
            return Err(format!(
                "max{suffix} is {max}, which is less than base, {base}; max must be at least base"
            ));
        }
        Ok(Backoff {
            base,
            factor: self.factor.unwrap_or(FACTOR),
            max,
            jitter: self.jitter.unwrap_or(0.0),
        })
    }
}

/// A setting and its value.
struct Setting<'a> {
    key: &'a str,
    suffix: ItemSuffix<'a>,
    value: &'a Value,
}

impl Setting<'_> {
    fn duration(&self) -> Result<Duration, String> {
        let Self { key, suffix, value } = self;
        let text = value.as_str().ok_or_else(|| {
            format!("{key}{suffix} is {value}; it must be a duration in quotes, such as \"5m\" or \"1h 30m\"")
        })?;
        let parsed = humantime::parse_duration(text).map_err(|error| {
            format!("{key}{suffix} is {text:?}, which is not a duration ({error}); use for example 30s, 5m, or 1h 30m")
        })?;
        Duration::try_from(parsed.as_millis())
            .ok()
            .filter(|millis| *millis <= MAX_DURATION)
            .ok_or_else(|| format!("{key}{suffix} is {text:?}; it must be at most 100years"))
    }

    fn number(&self, range: RangeInclusive<f64>, expected: &str) -> Result<f64, String> {
        let Self { key, suffix, value } = self;
        value
            .as_f64()
            .filter(|number| range.contains(number))
            .ok_or_else(|| format!("{key}{suffix} is {value}; it must be a number {expected}"))
    }
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
