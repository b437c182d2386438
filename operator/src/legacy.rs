//! Data that the original operator left on the objects. Pure.
//!
//! [`crate::read_snapshot`] reads its pods, and [`oaat_api::validate`] reads its annotation
//! `pause_new_jobs`.

use oaat_api::{ItemStatus, Timestamp};
use serde_json::{Value, json};

/// Migrates the history of an item once, so that a migrated group does not run every item again.
/// Returns whether there was a history to migrate.
pub fn migrate_history(item: &mut ItemStatus) -> bool {
    let success = item.old_last_success.take();
    let failure = item.old_last_failure.take();
    let count = item.old_failure_count.take();
    if success.is_none() && failure.is_none() && count.is_none() {
        return false;
    }
    // The history of this operator is newer.
    if item.runs.is_some() || item.last_success.is_some() || item.last_failure.is_some() {
        return false;
    }
    let time = |value: Option<Value>| serde_json::from_value::<Timestamp>(value?).ok();
    item.last_success = time(success);
    item.last_failure = time(failure);
    // The original operator wrote the number as a string.
    let number = |value: &Value| match value {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_i64(),
    };
    let failures = count.as_ref().and_then(number);
    item.failures = failures.map(|n| n.clamp(0, i32::MAX.into()) as i32);
    true
}

/// Returns a message with the `blackoutWindows` that replace `spec.windows`, which is ignored.
pub fn windows(old: &[Value]) -> String {
    let new: Vec<Value> = old.iter().filter_map(window).collect();
    let replacement = format!("blackoutWindows: {}", json!(new));
    if new.len() == old.len() {
        format!("spec.windows is ignored. Replace it with {replacement}")
    } else if new.is_empty() {
        "spec.windows is ignored, and none of its windows can be converted; use blackoutWindows"
            .to_owned()
    } else {
        format!(
            "spec.windows is ignored. {} of its {} windows can be converted (those with a \
             start and an end such as 22:00); use {replacement}",
            new.len(),
            old.len()
        )
    }
}

/// Converts a window, if it has a start and an end such as `22:00`.
fn window(old: &Value) -> Option<Value> {
    let minute = |which: &str| {
        let time = old["noStartItem"][which]["time"].as_str()?;
        let mut parts = time.trim().split(':').map(str::parse::<u32>);
        let (hour, minute) = (parts.next()?.ok()?, parts.next()?.ok()?);
        (hour < 24 && minute < 60).then(|| hour * 60 + minute)
    };
    let (start, end) = (minute("start")?, minute("end")?);
    // A window that ends before it starts spans midnight.
    let minutes = (end + 24 * 60 - start) % (24 * 60);
    let minutes = if minutes == 0 { 24 * 60 } else { minutes };
    Some(json!({
        "schedule": format!("{} {} * * *", start % 60, start / 60),
        "duration": format!("{minutes}m"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(value: Value) -> ItemStatus {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn item_history_is_taken_over_once() {
        let mut old = item(json!({
            "last_success": "2026-01-02T03:04:05.678901+00:00",
            "last_failure": "2026-01-01T00:00:00+00:00", "failure_count": "2", "podphase": "Failed",
        }));
        assert!(migrate_history(&mut old));
        assert_eq!(old.last_success, Some(Timestamp(1_767_323_045_678)));
        assert_eq!(old.last_failure, Some(Timestamp(1_767_225_600_000)));
        assert_eq!(old.failures, Some(2));
        let rest = serde_json::to_value(&old).unwrap();
        assert!(rest["last_success"].is_null() && rest["failure_count"].is_null());
        assert!(!migrate_history(&mut old));
    }

    #[test]
    fn unreadable_or_older_history_is_ignored() {
        let mut odd = item(json!({ "last_success": "yesterday", "failure_count": 3 }));
        assert!(migrate_history(&mut odd));
        assert_eq!((odd.last_success, odd.failures), (None, Some(3)));
        let mut ran = item(json!({ "last_success": "2026-01-02T03:04:05Z", "runs": 1 }));
        assert!(!migrate_history(&mut ran));
        assert_eq!(ran.last_success, None);
    }

    #[test]
    fn windows_are_converted_to_blackout_windows() {
        let old = |start: &str, end: &str| json!({ "noStartItem": { "start": { "time": start }, "end": { "time": end } } });
        let message = windows(&[old("22:30", "06:00")]);
        assert!(
            message.contains(r#"{"duration":"450m","schedule":"30 22 * * *"}"#),
            "{message}"
        );
        let message = windows(&[
            old("10:00", "12:15"),
            old("99999999:00", "later"),
            json!({}),
        ]);
        assert!(
            message.contains(r#""135m""#) && message.contains("1 of its 3 windows"),
            "{message}"
        );
    }
}
