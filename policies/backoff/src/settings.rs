//! Parses and validates settings.

use crate::Backoff;
use policy_sdk::Duration;
use policy_sdk::settings::Settings as Given;

const BASE: Duration = 60 * 1000;
/// The default factor in thousandths.
const FACTOR: i64 = 2000;
const MAX: Duration = 60 * 60 * 1000;
/// The maximum duration: 100 years, as for durations in a group.
const MAX_DURATION: Duration = 100 * 31_557_600_000;
/// The maximum factor in thousandths.
const MAX_FACTOR: i64 = 1000 * 1000;

/// The settings of a group, or of an item merged with those of its group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    base: Option<Duration>,
    /// In thousandths.
    factor: Option<i64>,
    max: Option<Duration>,
    /// In thousandths.
    jitter: Option<i64>,
}

impl Settings {
    /// Parses the settings of a group, a JSON object.
    ///
    /// # Errors
    /// Returns a message that names the setting, the value, and the fix.
    pub fn of_group(json: &str) -> Result<Self, String> {
        let settings = Self::default().overridden_by(json)?;
        settings.with_defaults()?;
        Ok(settings)
    }

    /// Returns the effective settings of an item. Settings of the item override those of the group.
    ///
    /// # Errors
    /// Returns a message that names the item, the setting, the value, and the fix.
    pub fn effective(&self, item: &str, json: Option<&str>) -> Result<Backoff, String> {
        let Some(json) = json else {
            return self.with_defaults();
        };
        let overridden = self.clone().overridden_by(json);
        overridden
            .and_then(|settings| settings.with_defaults())
            .map_err(|error| format!("item \"{item}\": {error}"))
    }

    /// Overrides these settings with others.
    fn overridden_by(mut self, json: &str) -> Result<Self, String> {
        let mut given = Given::parse(json)?;
        self.base = duration(&mut given, "base")?.or(self.base);
        let factor = given.thousandths("factor", 1000..=MAX_FACTOR)?;
        self.factor = factor.or(self.factor);
        self.max = duration(&mut given, "max")?.or(self.max);
        self.jitter = given.thousandths("jitter", 0..=1000)?.or(self.jitter);
        given.finish()?;
        Ok(self)
    }

    /// Applies the defaults. If only one of `base` and `max` is set, the default of the other one is
    /// adjusted so that `max` is at least `base`.
    fn with_defaults(&self) -> Result<Backoff, String> {
        let base = self
            .base
            .unwrap_or_else(|| BASE.min(self.max.unwrap_or(MAX)));
        let max = self.max.unwrap_or_else(|| MAX.max(base));
        if max < base {
            let text = |ms| humantime::format_duration(std::time::Duration::from_millis(ms));
            let (base, max) = (text(base), text(max));
            return Err(format!(
                "max is {max}, which is less than base, {base}; max must be at least base"
            ));
        }
        Ok(Backoff {
            base,
            factor: self.factor.unwrap_or(FACTOR) as f64 / 1000.0,
            max,
            jitter: self.jitter.unwrap_or(0) as f64 / 1000.0,
        })
    }
}

fn duration(given: &mut Given, name: &'static str) -> Result<Option<Duration>, String> {
    let expected = "a duration of at most 100years in quotes, such as \"5m\" or \"1h 30m\"";
    given.string_as(name, expected, |text| {
        let millis = humantime::parse_duration(text).ok()?.as_millis();
        let duration = Duration::try_from(millis).ok();
        duration.filter(|duration| *duration <= MAX_DURATION)
    })
}
