//! Corrects times in a status that lie in the future.
//!
//! The clock of an operator or of a node was wrong when such a time was recorded, or the status was
//! restored on a machine whose clock is behind. Without a correction, an item whose last success is
//! in 2030 would not run before then.

use oaat_api::text;
use oaat_api::{OaatGroupStatus, Timestamp};
use std::time::Duration;

/// By how much a time must lie in the future. Clocks often differ by minutes, and such times correct
/// themselves soon.
const TOLERANCE: Duration = Duration::from_secs(3600);

/// Replaces times in the future with the current time. Returns a message if there were any.
pub(super) fn correct_future_times(status: &mut OaatGroupStatus, now: Timestamp) -> Option<String> {
    let mut latest = None;
    let mut correct = |time: &mut Timestamp| {
        let wrong = *time > now.plus(TOLERANCE);
        if wrong {
            latest = latest.max(Some(*time));
            *time = now;
        }
        wrong
    };
    let mut items = Vec::new();
    for (name, item) in &mut status.items {
        let times = [
            &mut item.last_success,
            &mut item.last_failure,
            &mut item.last_started,
            &mut item.last_finished,
            &mut item.missing_since,
        ];
        // Without a short circuit: every time is corrected.
        let wrong = times.into_iter().flatten().map(&mut correct);
        if wrong.fold(false, |any, wrong| any | wrong) {
            items.push(name);
        }
    }
    let others = [
        status.last_run.as_mut(),
        status.current.as_mut().map(|current| &mut current.claimed),
        status
            .run_now
            .as_mut()
            .and_then(|request| request.time.as_mut()),
        status.rejected.as_mut().map(|rejected| &mut rejected.until),
    ];
    for time in others.into_iter().flatten() {
        correct(time);
    }
    for run in &mut status.history {
        correct(&mut run.started);
        correct(&mut run.finished);
    }
    let latest = latest?;
    let of = match items[..] {
        [] => String::new(),
        _ => format!(" (items {})", text::list(items, ", ", text::NAME)),
    };
    Some(format!(
        "the status contained times in the future, up to {latest}{of}; a clock was wrong, so the \
         current time replaces them"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn status(time: &str) -> OaatGroupStatus {
        let run = json!({
            "run": 1, "item": "a", "started": time, "finished": time, "result": "Succeeded",
            "reason": "Completed",
        });
        serde_json::from_value(json!({
            "items": {
                "a": { "lastSuccess": time, "lastStarted": time, "lastFinished": time },
                "b": { "lastFailure": time, "missingSince": time },
                "c": { "lastSuccess": "2020-01-01T00:00:00Z" },
            },
            "lastRun": time,
            "current": {
                "run": 2, "item": "a", "podName": "p", "podUid": "u", "claimed": time,
            },
            "runNow": { "token": "t", "time": time },
            "rejected": { "count": 1, "until": time, "message": "no" },
            "history": [run],
        }))
        .expect("the JSON is a status")
    }

    #[test]
    fn times_in_the_future_are_replaced_and_reported() {
        let mut wrong = status("2030-01-01T00:00:00Z");
        let message = correct_future_times(&mut wrong, NOW).unwrap_or_default();
        assert!(
            message.contains("2030-01-01T00:00:00Z (items a, b);"),
            "{message}"
        );
        let expected = status(&NOW.to_string());
        assert_eq!(wrong, expected);
        assert_eq!(correct_future_times(&mut wrong, NOW), None);
    }

    #[test]
    fn times_of_a_clock_that_is_ahead_by_minutes_are_kept() {
        let ahead = NOW.plus(Duration::from_secs(600)).to_string();
        let mut kept = status(&ahead);
        assert_eq!(correct_future_times(&mut kept, NOW), None);
        assert_eq!(kept, status(&ahead));
    }
}
