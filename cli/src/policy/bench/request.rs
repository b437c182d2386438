//! The requests whose decisions are measured.

use policy_host::{Item, Outcome, Request, Run};

/// The time of the requests.
const NOW: i64 = 1_800_000_000_000;

/// Returns the request of a typical group. Of every four items, one succeeded recently, one is due
/// again, one is in its cool-off, and one has never run or failed long ago.
pub(super) fn request(items: u32) -> Request {
    let item = |index: u32| {
        let offset = i64::from(index) * 7_919 % 600_000;
        let (last_success, last_failure) = match index % 8 {
            0 | 4 => (Some(NOW - 60_000 - offset), None),
            1 => (Some(NOW - 4_000_000 - offset), None),
            5 => (
                Some(NOW - 4_000_000 - offset),
                Some(NOW - 9_000_000 - offset),
            ),
            2 | 6 => (Some(NOW - 8_000_000 - offset), Some(NOW - offset)),
            3 => (None, None),
            _ => (None, Some(NOW - 2_000_000 - offset)),
        };
        let failures = u32::from(last_failure > last_success);
        let runs = u32::from(last_success.is_some()) * 12 + failures;
        Item {
            name: format!("home/user{index}/documents"),
            frequency: Some(3_600_000),
            cool_off: 600_000,
            settings: None,
            startable: true,
            last_success,
            last_failure,
            failures,
            runs,
            last_duration: (runs > 0).then_some(90_000),
        }
    };
    let items: Vec<_> = (0..items).map(item).collect();
    Request {
        namespace: "default".into(),
        group: "bench".into(),
        now: NOW,
        seed: 42,
        settings: "{}".into(),
        state: String::new(),
        recent: recent(&items),
        items,
        extra: "{}".into(),
    }
}

/// Returns the latest runs, at most one for each item.
fn recent(items: &[Item]) -> Vec<Run> {
    let run = |(index, item): (usize, &Item)| {
        let finished = item.last_success.max(item.last_failure)?;
        let failed = item.last_failure > item.last_success;
        Some(Run {
            item: u32::try_from(index).ok()?,
            started: finished - 90_000,
            finished,
            outcome: if failed {
                Outcome::Failed
            } else {
                Outcome::Succeeded
            },
            exit_code: Some(i32::from(failed)),
        })
    };
    let mut runs: Vec<_> = items.iter().enumerate().filter_map(run).collect();
    runs.sort_by_key(|run| std::cmp::Reverse(run.finished));
    runs.truncate(20);
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_has_fresh_cooling_and_new_items() {
        let r = request(1_000);
        let since = |at: Option<i64>| at.map(|at| NOW - at);
        let count = |matches: fn(Option<i64>, Option<i64>) -> bool| {
            let ages = r
                .items
                .iter()
                .map(|i| (since(i.last_success), since(i.last_failure)));
            ages.filter(|(success, failure)| matches(*success, *failure))
                .count()
        };
        let fresh = count(|success, _| success.is_some_and(|s| s < 3_600_000));
        let cooling = count(|_, failure| failure.is_some_and(|f| f < 600_000));
        let never = count(|success, failure| success.is_none() && failure.is_none());
        assert_eq!((fresh, cooling, never), (250, 250, 125));
        assert_eq!(r.recent.len(), 20);
        assert!(r.recent.is_sorted_by_key(|run| -run.finished));
        assert!(request(1).recent.len() == 1 && request(4).recent.len() == 3);
        for item in &r.items {
            let failed = item.last_failure > item.last_success;
            assert_eq!(item.failures > 0, failed, "{item:?}");
        }
    }
}
