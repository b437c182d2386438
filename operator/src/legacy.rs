//! What the first implementation of these kinds left on the objects. Pure.
//!
//! Its pods are the business of [`crate::snapshot`]; its annotation `pause_new_jobs` that of
//! [`oaat_api::validate`].

use oaat_api::{ItemStatus, Timestamp};
use serde_json::{Value, json};

/// Takes over an item's history once, so that a move does not run everything again. Gives whether
/// there was any.
pub fn inherit(item: &mut ItemStatus) -> bool {
    let success = item.old_last_success.take();
    let failure = item.old_last_failure.take();
    let count = item.old_failure_count.take();
    if success.is_none() && failure.is_none() && count.is_none() {
        return false;
    }
    // What has run since is newer.
    if item.runs.is_some() || item.last_success.is_some() || item.last_failure.is_some() {
        return false;
    }
    let time = |value: Option<Value>| serde_json::from_value::<Timestamp>(value?).ok();
    item.last_success = time(success);
    item.last_failure = time(failure);
    // It was written as a text.
    let number = |value: &Value| match value {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_i64(),
    };
    let failures = count.as_ref().and_then(number);
    item.failures = failures.map(|n| n.clamp(0, i32::MAX.into()) as i32);
    true
}

/// What to write instead of `spec.windows`, whose times of the day nobody heeds any more.
pub fn windows(old: &[Value]) -> String {
    let heeded = "spec.windows is not heeded; blackoutWindows takes its place";
    let new: Vec<Value> = old.iter().filter_map(window).collect();
    match new.len() == old.len() {
        true => format!("{heeded}. Write: blackoutWindows: {}", json!(new)),
        false => format!(
            "{heeded}. Of its {} windows these have a start and an end like 22:00: blackoutWindows: {}",
            old.len(),
            json!(new)
        ),
    }
}

fn window(old: &Value) -> Option<Value> {
    let minute = |which: &str| {
        let time = old["noStartItem"][which]["time"].as_str()?;
        let mut parts = time.trim().split(':').map(str::parse::<u32>);
        let (hour, minute) = (parts.next()?.ok()?, parts.next()?.ok()?);
        (hour < 24 && minute < 60).then(|| hour * 60 + minute)
    };
    let (start, end) = (minute("start")?, minute("end")?);
    // Over midnight, where it ends before it starts.
    let lasts = (end + 24 * 60 - start) % (24 * 60);
    let lasts = if lasts == 0 { 24 * 60 } else { lasts };
    Some(json!({
        "schedule": format!("{} {} * * *", start % 60, start / 60),
        "duration": format!("{lasts}m"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(value: Value) -> ItemStatus {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn an_items_history_is_taken_over_once() {
        let mut old = item(json!({
            "last_success": "2026-01-02T03:04:05.678901+00:00",
            "last_failure": "2026-01-01T00:00:00+00:00", "failure_count": "2", "podphase": "Failed",
        }));
        assert!(inherit(&mut old));
        assert_eq!(old.last_success, Some(Timestamp(1_767_323_045_678)));
        assert_eq!(old.last_failure, Some(Timestamp(1_767_225_600_000)));
        assert_eq!(old.failures, Some(2));
        let left = serde_json::to_value(&old).unwrap();
        assert!(left["last_success"].is_null() && left["failure_count"].is_null());
        assert!(!inherit(&mut old));
    }

    #[test]
    fn what_cannot_be_read_or_is_older_is_left_out() {
        let mut odd = item(json!({ "last_success": "yesterday", "failure_count": 3 }));
        assert!(inherit(&mut odd));
        assert_eq!((odd.last_success, odd.failures), (None, Some(3)));
        let mut ran = item(json!({ "last_success": "2026-01-02T03:04:05Z", "runs": 1 }));
        assert!(!inherit(&mut ran));
        assert_eq!(ran.last_success, None);
    }

    #[test]
    fn windows_are_told_as_they_are_written_now() {
        let old = |start: &str, end: &str| json!({ "noStartItem": { "start": { "time": start }, "end": { "time": end } } });
        let told = windows(&[old("22:30", "06:00")]);
        assert!(
            told.contains(r#"{"duration":"450m","schedule":"30 22 * * *"}"#),
            "{told}"
        );
        let told = windows(&[
            old("10:00", "12:15"),
            old("99999999:00", "later"),
            json!({}),
        ]);
        assert!(
            told.contains(r#""135m""#) && told.contains("Of its 3 windows"),
            "{told}"
        );
    }
}
