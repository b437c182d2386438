//! Metrics of groups and items: what their latest reconcile knew.

use crate::group_ref::GroupRef;
use crate::plan::ScheduleTimes;
use crate::snapshot::GroupSnapshot;
use oaat_api::reasons::states;
use oaat_api::validate::ValidatedGroup;
use oaat_api::{ItemState, ItemStatus, OaatGroupStatus, Timestamp};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The metrics of a group and its items.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupSample {
    state: String,
    /// When the run in progress started.
    running_since: Option<Timestamp>,
    /// The number of items that could run now.
    due_items: usize,
    /// When an item may start next, if no item is running and nothing else prevents a start.
    next_start: Option<Timestamp>,
    /// The names of the items, one after the other: there may be hundreds of thousands of items.
    names: String,
    items: Box<[ItemSample]>,
}

#[derive(Clone, Debug, PartialEq)]
struct ItemSample {
    /// The end of the name in [`GroupSample::names`].
    name_end: u32,
    failures: i32,
    /// How long the last run took, in seconds.
    last_duration: f32,
    given_up: bool,
    last_success: Time,
    last_start: Time,
    due: Time,
}

/// A time that may be unknown, in half the space of an [`Option`].
#[derive(Clone, Copy, Debug, PartialEq)]
struct Time(i64);

impl From<Option<Timestamp>> for Time {
    fn from(time: Option<Timestamp>) -> Self {
        Self(time.map_or(i64::MIN, |time| time.0))
    }
}

impl Time {
    /// Returns the time in seconds since the Unix epoch.
    fn seconds(self) -> Option<f64> {
        (self.0 != i64::MIN).then(|| self.0 as f64 / 1e3)
    }
}

impl GroupSample {
    /// Returns the metrics of a group with this status. Without a valid spec, it is not known when
    /// its items are due.
    pub fn new(
        snapshot: &GroupSnapshot,
        valid: Option<&ValidatedGroup>,
        status: &OaatGroupStatus,
    ) -> Self {
        let mut schedules = ScheduleTimes::new(snapshot.now);
        let created = snapshot.group.metadata.creation_timestamp.as_ref();
        let created = created.map(|time| Timestamp(time.0.as_millisecond()));
        let (mut names, mut items) = (String::new(), Vec::new());
        let (mut due_items, mut next_start) = (0, None::<Timestamp>);
        let none = ItemStatus::default();
        for name in &snapshot.items {
            let item = status.items.get(name).unwrap_or(&none);
            names.push_str(name);
            let due = valid.map(|valid| valid.rules(name)).and_then(|rules| {
                let since = item.last_success.or(created)?;
                let never = item.last_success.is_none();
                let due = || schedules.due(&rules.recurrence, since, never);
                (!rules.suspended).then(due).flatten()
            });
            due_items +=
                usize::from(status.items.contains_key(name) && item.state == ItemState::Ready);
            next_start = [next_start, item.next].into_iter().flatten().min();
            items.push(ItemSample {
                name_end: u32::try_from(names.len()).unwrap_or(u32::MAX),
                failures: item.failures.unwrap_or(0),
                last_duration: last_duration(item),
                given_up: item.state == ItemState::GivenUp,
                last_success: item.last_success.into(),
                last_start: item.last_started.into(),
                due: due.into(),
            });
        }
        let state = status.state.clone().unwrap_or_default();
        let waits = [states::IDLE, states::WAITING].contains(&&*state);
        Self {
            running_since: status.current.as_ref().map(|current| current.claimed),
            state,
            due_items,
            next_start: next_start.filter(|_| waits),
            names,
            items: items.into(),
        }
    }

    fn items(&self) -> impl Iterator<Item = (&str, &ItemSample)> {
        let mut start = 0;
        self.items.iter().map(move |item| {
            let end = item.name_end as usize;
            let name = self.names.get(start..end).unwrap_or_default();
            start = end;
            (name, item)
        })
    }
}

/// Returns how long the last finished run of an item took, in seconds, or NaN.
fn last_duration(item: &ItemStatus) -> f32 {
    match (item.last_started, item.finished()) {
        (Some(started), Some(finished)) if finished >= started => {
            finished.since(started).as_secs_f32()
        }
        // A run is in progress. The durations are those of successful runs.
        _ => item
            .durations
            .first()
            .map_or(f32::NAN, |seconds| *seconds as f32),
    }
}

/// The metrics of all groups that this replica reconciles. Cheap to clone.
#[derive(Clone, Default)]
pub struct GroupMetrics {
    groups: Arc<Mutex<HashMap<GroupRef, GroupSample>>>,
    /// Whether the metrics of items are omitted.
    without_items: bool,
}

impl fmt::Debug for GroupMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "metrics of {} groups", self.groups().len())
    }
}

impl GroupMetrics {
    /// Creates an empty set, with or without the metrics of items.
    pub fn new(with_items: bool) -> Self {
        Self {
            groups: Arc::default(),
            without_items: !with_items,
        }
    }

    fn groups(&self) -> MutexGuard<'_, HashMap<GroupRef, GroupSample>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the metrics of a group.
    pub fn record(&self, group: &GroupRef, mut sample: GroupSample) {
        if self.without_items {
            sample.names = String::new();
            sample.items = Box::default();
        }
        self.groups().insert(group.clone(), sample);
    }

    /// Removes the metrics of a group.
    pub fn remove(&self, group: &GroupRef) {
        self.groups().remove(group);
    }
}

/// Writes the series of a metric.
struct Series<'a>(MetricEncoder<'a>);

impl Series<'_> {
    fn write<const N: usize>(&mut self, labels: [(&str, &str); N], value: f64) -> fmt::Result {
        let gauge = ConstGauge::new(value);
        gauge.encode(self.0.encode_family(&labels)?)
    }
}

impl Collector for GroupMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let groups = self.groups();
        let mut metric = |name: &str,
                          help: &str,
                          unit: Option<&Unit>,
                          write: &dyn Fn(
            &mut Series,
            [(&str, &str); 2],
            &GroupSample,
        ) -> fmt::Result| {
            let encoder = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
            let mut series = Series(encoder);
            for (group, sample) in groups.iter() {
                let namespace = group.namespace.as_deref().unwrap_or_default();
                write(
                    &mut series,
                    [("namespace", namespace), ("group", &group.name)],
                    sample,
                )?;
            }
            Ok(())
        };
        metric(
            "group_state",
            "1 for the state of the group",
            None,
            &|series, [namespace, group], sample| {
                series.write([namespace, group, ("state", &sample.state)], 1.0)
            },
        )?;
        metric(
            "group_due_items",
            "The number of items that could run now",
            None,
            &|series, labels, sample| series.write(labels, sample.due_items as f64),
        )?;
        for (name, help, time) in GROUP_TIMES {
            metric(
                name,
                help,
                Some(&Unit::Seconds),
                &|series, labels, sample| match Time::from(time(sample)).seconds() {
                    Some(seconds) => series.write(labels, seconds),
                    None => Ok(()),
                },
            )?;
        }
        for (name, help, unit, value) in ITEM_VALUES {
            metric(
                name,
                help,
                unit.as_ref(),
                &|series, [namespace, group], sample| {
                    for (name, item) in sample.items() {
                        if let Some(value) = value(item) {
                            series.write([namespace, group, ("item", name)], value)?;
                        }
                    }
                    Ok(())
                },
            )?;
        }
        Ok(())
    }
}

/// The name, the help text, and the value of a time of groups.
type GroupTime = (
    &'static str,
    &'static str,
    fn(&GroupSample) -> Option<Timestamp>,
);
const GROUP_TIMES: [GroupTime; 2] = [
    (
        "group_running_since_timestamp",
        "When the run in progress started, if there is one",
        |sample| sample.running_since,
    ),
    (
        "group_next_start_timestamp",
        "When an item may start next, if the group is Idle or Waiting",
        |sample| sample.next_start,
    ),
];

/// The name, the help text, the unit, and the value of a metric of items.
type ItemValue = (
    &'static str,
    &'static str,
    Option<Unit>,
    fn(&ItemSample) -> Option<f64>,
);
const ITEM_VALUES: [ItemValue; 6] = [
    (
        "item_last_success_timestamp",
        "When the item last succeeded",
        Some(Unit::Seconds),
        |item| item.last_success.seconds(),
    ),
    (
        "item_last_start_timestamp",
        "When the item last started",
        Some(Unit::Seconds),
        |item| item.last_start.seconds(),
    ),
    (
        "item_due_timestamp",
        "When the item becomes due, or since when it has been due",
        Some(Unit::Seconds),
        |item| item.due.seconds(),
    ),
    (
        "item_last_duration",
        "How long the last run of the item took",
        Some(Unit::Seconds),
        |item| Some(f64::from(item.last_duration)).filter(|value| !value.is_nan()),
    ),
    (
        "item_consecutive_failures",
        "The number of failures of the item since its last success",
        None,
        |item| Some(f64::from(item.failures)),
    ),
    (
        "item_given_up",
        "1 if the item has failed maxFailures times in a row",
        None,
        |item| item.given_up.then_some(1.0),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::plan::tests::fixture;
    use kube::runtime::reflector::ObjectRef;
    use oaat_api::validate::validate;
    use serde_json::{Value, json};

    /// Returns the series of a group with these items, fields of the spec, and status, without help.
    fn series(with_items: bool, items: &[&str], spec: Value, status: Value) -> Vec<String> {
        let mut snapshot = fixture(items);
        let mut merged = serde_json::to_value(&snapshot.group.spec).unwrap();
        for (field, value) in spec.as_object().unwrap() {
            merged[field] = value.clone();
        }
        snapshot.group.spec = serde_json::from_value(merged).unwrap();
        let created = json!({ "creationTimestamp": "1970-01-10T00:00:00Z" });
        snapshot.group.metadata = serde_json::from_value(created).unwrap();
        let status: OaatGroupStatus = serde_json::from_value(status).unwrap();
        let valid = validate(&snapshot.group.spec).unwrap();
        let metrics = Metrics::new(with_items);
        let group = ObjectRef::new("g").within("n");
        let sample = GroupSample::new(&snapshot, Some(&valid), &status);
        metrics.groups.record(&group, sample);
        let text = metrics.text();
        metrics.groups.remove(&group);
        assert!(!metrics.text().contains("group=\"g\""));
        let lines = text.lines().filter(|line| line.contains("group=\"g\""));
        lines
            .map(|line| line.replace("namespace=\"n\",group=\"g\"", ""))
            .collect()
    }

    #[test]
    fn items_have_times_failures_and_durations() {
        let status = json!({
            "state": "Waiting",
            "items": {
                "a": {
                    "state": "Fresh", "lastSuccess": "1970-01-11T00:00:10Z",
                    "lastStarted": "1970-01-11T00:00:00Z", "next": "1970-01-11T01:00:10Z",
                },
                "b \"quoted\"": {
                    "state": "GivenUp", "failures": 3, "lastStarted": "1970-01-11T00:01:00Z",
                    "lastFailure": "1970-01-11T00:01:02.500Z",
                },
                "gone": { "state": "Fresh", "lastSuccess": "1970-01-11T00:00:10Z" },
            },
        });
        let items = ["a", "b \"quoted\"", "new"];
        let series = series(true, &items, json!({ "frequency": "1h" }), status);
        // 1970-01-11 is day 10: 864000 seconds. The group was created a day earlier.
        for line in [
            r#"oaat_group_state{,state="Waiting"} 1.0"#,
            "oaat_group_due_items{} 0.0",
            "oaat_group_next_start_timestamp_seconds{} 867610.0",
            r#"oaat_item_last_success_timestamp_seconds{,item="a"} 864010.0"#,
            r#"oaat_item_last_start_timestamp_seconds{,item="a"} 864000.0"#,
            r#"oaat_item_due_timestamp_seconds{,item="a"} 867610.0"#,
            r#"oaat_item_due_timestamp_seconds{,item="new"} 777600.0"#,
            r#"oaat_item_last_duration_seconds{,item="a"} 10.0"#,
            r#"oaat_item_last_duration_seconds{,item="b \"quoted\""} 2.5"#,
            r#"oaat_item_consecutive_failures{,item="a"} 0.0"#,
            r#"oaat_item_consecutive_failures{,item="b \"quoted\""} 3.0"#,
            r#"oaat_item_given_up{,item="b \"quoted\""} 1.0"#,
        ] {
            assert!(
                series.iter().any(|found| found == line),
                "{line} in {series:#?}"
            );
        }
        for absent in [
            "item=\"gone\"",
            "given_up{,item=\"a\"",
            "duration_seconds{,item=\"new\"",
            "running",
        ] {
            assert!(
                !series.iter().any(|found| found.contains(absent)),
                "{absent}"
            );
        }
    }

    #[test]
    fn items_are_due_at_the_first_time_of_their_schedule_after_a_success() {
        let due = |spec: Value, item: Value| {
            let status = json!({ "items": { "a": item } });
            let series = series(true, &["a"], spec, status);
            let due = series
                .into_iter()
                .find(|line| line.contains("_due_timestamp"));
            due.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        };
        // The snapshot is from day 11, 13:46:40.
        let nightly = json!({ "schedule": { "cron": "0 3 * * *" } });
        let day = |day: f64, hour: f64| Some((day * 24.0 + hour) * 3600.0);
        let success = |time: &str| json!({ "lastSuccess": time });
        let late = success("1970-01-10T03:10:00Z");
        assert_eq!(due(nightly.clone(), late), day(10.0, 3.0));
        let today = success("1970-01-12T03:10:00Z");
        assert_eq!(due(nightly.clone(), today), day(12.0, 3.0));
        assert_eq!(due(nightly, json!({})), day(9.0, 3.0));
        let once = json!({ "eachOnce": true });
        assert_eq!(due(once.clone(), json!({})), day(9.0, 0.0));
        assert_eq!(due(once, success("1970-01-10T03:10:00Z")), None);
        let suspended = json!({ "itemOptions": { "a": { "suspend": true } } });
        assert_eq!(due(suspended, json!({})), None);
    }

    #[test]
    fn running_group_shows_when_its_run_started_and_items_can_be_left_out() {
        let status = json!({
            "state": "Running",
            "current": {
                "run": 1, "item": "a", "podName": "p", "podUid": "u",
                "claimed": "1970-01-11T00:00:00Z",
            },
            "items": { "a": { "state": "Running" }, "b": { "state": "Ready" } },
        });
        let series = series(false, &["a", "b"], json!({}), status);
        let expected = [
            r#"oaat_group_state{,state="Running"} 1.0"#,
            "oaat_group_due_items{} 1.0",
            "oaat_group_running_since_timestamp_seconds{} 864000.0",
        ];
        assert_eq!(series, expected);
    }
}
