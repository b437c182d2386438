//! Parses and validates settings.

use policy_sdk::Duration;
use policy_sdk::settings::Settings;

const MAX_GAP: Duration = 24 * 60 * 60 * 1000;

/// Parses the setting of a group: the minimum time between two runs. The default is 0.
///
/// # Errors
/// Returns a message that names the setting, the value, and the fix.
pub fn gap(json: &str) -> Result<Duration, String> {
    let mut settings = Settings::parse(json)?;
    let expected = "a duration of at most 24h in quotes, such as \"30s\"";
    let gap = settings.string_as("gap", expected, |text| {
        let millis = humantime::parse_duration(text).ok()?.as_millis();
        let gap = Duration::try_from(millis).ok();
        gap.filter(|gap| *gap <= MAX_GAP)
    })?;
    settings.finish()?;
    Ok(gap.unwrap_or(0))
}

/// Parses the setting of an item: the size of its share relative to other items, in thousandths. The
/// default is 1000.
///
/// # Errors
/// Returns a message that names the item, the setting, the value, and the fix.
pub fn weight(item: &str, json: Option<&str>) -> Result<u64, String> {
    let Some(json) = json else {
        return Ok(1000);
    };
    let weight = Settings::parse(json).and_then(|mut settings| {
        let weight = settings.thousandths("weight", 10..=100_000)?;
        settings.finish()?;
        Ok(weight.map_or(1000, i64::unsigned_abs))
    });
    weight.map_err(|error| format!("item \"{item}\": {error}"))
}
