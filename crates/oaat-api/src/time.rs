//! Points in time in the API.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::fmt;
use std::time::Duration;

/// A point in time, in milliseconds since 1970-01-01T00:00:00Z. In JSON, it is an RFC 3339 string in
/// UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Returns the current time of this machine.
    pub fn now() -> Self {
        Self(Utc::now().timestamp_millis())
    }

    /// Returns the time that is later by `duration`, saturating at the maximum.
    pub fn plus(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add_unsigned(millis))
    }

    /// Returns the time that is earlier by `duration`, saturating at the minimum.
    pub fn minus(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub_unsigned(millis))
    }

    /// Rounds up to whole seconds, for display.
    pub fn seconds(self) -> Self {
        Self(
            self.0
                .saturating_add(999)
                .div_euclid(1000)
                .saturating_mul(1000),
        )
    }

    /// Returns the time since `earlier`, or zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        let millis = self.0.saturating_sub(earlier.0);
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // RFC 3339 supports the years 1 to 9999. A policy may return any time.
        let writable = self.0.clamp(-62_135_596_800_000, 253_402_300_799_000);
        match DateTime::<Utc>::from_timestamp_millis(writable) {
            // Whole seconds are shown without a fraction: most times come from Kubernetes.
            Some(time) => f.write_str(&time.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
            None => f.write_str("the end of time"),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match DateTime::parse_from_rfc3339(&text) {
            Ok(time) => Ok(Self(time.timestamp_millis())),
            Err(error) => Err(D::Error::custom(format!(
                "{text:?} is not an RFC 3339 time ({error}); use for example 2026-01-01T00:00:00Z"
            ))),
        }
    }
}

impl schemars::JsonSchema for Timestamp {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "date-time" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_rfc_3339_in_utc() {
        let time = |text: &str| serde_json::from_str::<Timestamp>(&format!("{text:?}")).ok();
        assert_eq!(time("1970-01-01T00:00:01Z"), Some(Timestamp(1000)));
        assert_eq!(time("1970-01-01T01:00:01.5+01:00"), Some(Timestamp(1500)));
        assert_eq!(time("yesterday"), None);
        assert_eq!(Timestamp(1500).to_string(), "1970-01-01T00:00:01.500Z");
        assert_eq!(Timestamp(i64::MAX).to_string(), "9999-12-31T23:59:59Z");
        assert_eq!(Timestamp(i64::MIN).to_string(), "0001-01-01T00:00:00Z");
        assert_eq!(Timestamp(1000).to_string(), "1970-01-01T00:00:01Z");
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Timestamp(i64::MAX).plus(Duration::MAX), Timestamp(i64::MAX));
        assert_eq!(Timestamp(0).minus(Duration::MAX), Timestamp(i64::MIN));
        assert_eq!(Timestamp(0).since(Timestamp(5)), Duration::ZERO);
    }
}
