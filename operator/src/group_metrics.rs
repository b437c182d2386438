//! Metrics of groups and items: what their latest reconcile knew.

use crate::group_ref::GroupRef;
use crate::plan::ScheduleTimes;
use crate::snapshot::GroupSnapshot;
use oaat_api::reasons::{complete, items_ready, policy_ready, ready, states};
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
    conditions: Box<[ConditionSample]>,
    /// When the group completed, if it is complete.
    completed: Option<Timestamp>,
    /// When the run in progress started.
    run_start: Option<Timestamp>,
    /// The number of items in the state Ready.
    ready_items: usize,
    /// When an item may start next, if no item is running and nothing else prevents a start.
    next_start: Option<Timestamp>,
    /// The number of items without metrics.
    omitted_items: usize,
    /// The names of the items, one after the other: there may be hundreds of thousands of items.
    names: String,
    items: Box<[ItemSample]>,
}

/// The conditions with metrics: those that alerts are about.
const CONDITIONS: [&str; 3] = [ready::TYPE, items_ready::TYPE, policy_ready::TYPE];

#[derive(Clone, Debug, PartialEq)]
struct ConditionSample {
    /// One of [`CONDITIONS`].
    type_: &'static str,
    status: String,
    reason: String,
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
        let (mut ready_items, mut next_start) = (0, None::<Timestamp>);
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
            ready_items +=
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
        let conditions = status.conditions.iter().filter_map(|condition| {
            let type_ = CONDITIONS.into_iter().find(|t| *t == condition.type_)?;
            Some(ConditionSample {
                type_,
                status: condition.status.clone(),
                reason: condition.reason.clone(),
            })
        });
        let completed = status
            .conditions
            .iter()
            .find(|c| c.type_ == complete::TYPE && c.status == "True")
            .map(|c| Timestamp(c.last_transition_time.0.as_millisecond()));
        let waits = [states::IDLE, states::WAITING].contains(&&*state);
        Self {
            run_start: status.current.as_ref().map(|current| current.claimed),
            state,
            conditions: conditions.collect(),
            completed,
            ready_items,
            next_start: next_start.filter(|_| waits),
            omitted_items: 0,
            names,
            items: items.into(),
        }
    }

    /// Returns the metrics of the group itself.
    fn without_items(self) -> Self {
        Self {
            omitted_items: self.omitted_items + self.items.len(),
            names: String::new(),
            items: Box::default(),
            ..self
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
    // While a run is in progress, the duration of the last successful run is shown.
    let of_success = || item.durations.first().map(|seconds| *seconds as f32);
    let last = item.last_duration().map(|duration| duration.as_secs_f32());
    last.or_else(of_success).unwrap_or(f32::NAN)
}

/// The maximum number of items with metrics. Each has up to six series.
const MAX_ITEMS: usize = 100_000;

/// The metrics of all groups that this replica reconciles. Cheap to clone.
#[derive(Clone, Default)]
pub struct GroupMetrics {
    state: Arc<Mutex<State>>,
    /// Whether the metrics of items are omitted.
    without_items: bool,
}

#[derive(Default)]
struct State {
    groups: HashMap<GroupRef, Arc<Entry>>,
    /// The number of items with metrics, by namespace.
    items: HashMap<String, usize>,
}

struct Entry {
    group: GroupRef,
    sample: GroupSample,
}

impl State {
    fn remove(&mut self, group: &GroupRef) {
        if let Some(removed) = self.groups.remove(group) {
            self.update_item_count(group, |items| items - removed.sample.items.len());
        }
    }

    fn insert(&mut self, group: &GroupRef, sample: GroupSample) {
        self.remove(group);
        self.update_item_count(group, |items| items + sample.items.len());
        let group = group.clone();
        let entry = Entry {
            group: group.clone(),
            sample,
        };
        self.groups.insert(group, Arc::new(entry));
    }

    fn update_item_count(&mut self, group: &GroupRef, change: impl FnOnce(usize) -> usize) {
        let namespace = group.namespace.clone().unwrap_or_default();
        let items = change(self.items.get(&namespace).copied().unwrap_or(0));
        if items == 0 {
            self.items.remove(&namespace);
        } else {
            self.items.insert(namespace, items);
        }
    }

    /// Omits the items of groups until at most `max` items have metrics. The namespace with the most
    /// items loses metrics first, those of the latest group before others.
    fn limit(&mut self, max: usize, latest: &GroupRef) {
        while self.items.values().sum::<usize>() > max {
            let largest = self.items.iter().max_by_key(|(_, items)| **items);
            let has_items = |entry: &&Arc<Entry>| {
                let namespace = entry.group.namespace.as_ref();
                namespace == largest.map(|(namespace, _)| namespace)
                    && !entry.sample.items.is_empty()
            };
            let latest = self.groups.get(latest).filter(has_items);
            let Some(entry) = latest.or_else(|| self.groups.values().find(has_items)) else {
                return;
            };
            let (group, sample) = (entry.group.clone(), entry.sample.clone());
            self.insert(&group, sample.without_items());
        }
    }
}

impl fmt::Debug for GroupMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "metrics of {} groups", self.state().groups.len())
    }
}

impl GroupMetrics {
    /// Creates an empty set, with or without the metrics of items.
    pub fn new(with_items: bool) -> Self {
        Self {
            state: Arc::default(),
            without_items: !with_items,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the metrics of a group.
    pub fn record(&self, group: &GroupRef, mut sample: GroupSample) {
        if self.without_items {
            sample = sample.without_items();
        }
        let mut state = self.state();
        state.insert(group, sample);
        state.limit(MAX_ITEMS, group);
    }

    /// Removes the metrics of a group.
    pub fn remove(&self, group: &GroupRef) {
        self.state().remove(group);
    }
}

impl Collector for GroupMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        // Reconciles must not wait until everything is encoded.
        let groups: Vec<Arc<Entry>> = self.state().groups.values().cloned().collect();
        for metric in GROUP_METRICS {
            let mut series = metric.series(&mut encoder)?;
            for entry in &groups {
                let [namespace, group] = labels(&entry.group);
                let state = ("state", &*entry.sample.state);
                match (metric.value)(&entry.sample) {
                    None => {}
                    Some(value) if metric.name == STATE => {
                        write(&mut series, [namespace, group, state], value)?;
                    }
                    Some(value) => write(&mut series, [namespace, group], value)?,
                }
            }
        }
        let help = "The status and the reason of a condition of the group; always 1";
        let gauge = MetricType::Gauge;
        let mut series = encoder.encode_descriptor("group_condition", help, None, gauge)?;
        for entry in &groups {
            let [namespace, group] = labels(&entry.group);
            for condition in &entry.sample.conditions {
                let type_ = ("type", condition.type_);
                let status = ("status", &*condition.status);
                let reason = ("reason", &*condition.reason);
                write(&mut series, [namespace, group, type_, status, reason], 1.0)?;
            }
        }
        for metric in ITEM_METRICS {
            let mut series = metric.series(&mut encoder)?;
            for entry in &groups {
                let [namespace, group] = labels(&entry.group);
                for (name, item) in entry.sample.items() {
                    if let Some(value) = (metric.value)(item) {
                        write(&mut series, [namespace, group, ("item", name)], value)?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn labels(group: &GroupRef) -> [(&str, &str); 2] {
    let namespace = group.namespace.as_deref().unwrap_or_default();
    [("namespace", namespace), ("group", &group.name)]
}

/// Writes one series of a metric.
fn write<const N: usize>(
    metric: &mut MetricEncoder<'_>,
    labels: [(&str, &str); N],
    value: f64,
) -> fmt::Result {
    ConstGauge::new(value).encode(metric.encode_family(&labels)?)
}

/// A gauge, and its value for a `T`. Without a value, there is no series.
struct Metric<T> {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    value: fn(&T) -> Option<f64>,
}

impl<T> Metric<T> {
    fn series<'a>(
        &'a self,
        encoder: &'a mut DescriptorEncoder<'_>,
    ) -> Result<MetricEncoder<'a>, fmt::Error> {
        encoder.encode_descriptor(self.name, self.help, self.unit.as_ref(), MetricType::Gauge)
    }
}

/// The metric with the state of the group in a label.
const STATE: &str = "group_state";

const GROUP_METRICS: [Metric<GroupSample>; 6] = [
    Metric {
        name: STATE,
        help: "The state of the group, in the label state; always 1",
        unit: None,
        value: |_| Some(1.0),
    },
    Metric {
        name: "group_ready_items",
        help: "The number of items in the state Ready",
        unit: None,
        value: |group| Some(group.ready_items as f64),
    },
    Metric {
        name: "group_omitted_items",
        help: "The number of items without metrics",
        unit: None,
        value: |group| Some(group.omitted_items as f64).filter(|items| *items > 0.0),
    },
    Metric {
        name: "group_complete_timestamp",
        help: "When the group completed, if it is complete",
        unit: Some(Unit::Seconds),
        value: |group| Time::from(group.completed).seconds(),
    },
    Metric {
        name: "group_run_start_timestamp",
        help: "When the run in progress started, if there is one",
        unit: Some(Unit::Seconds),
        value: |group| Time::from(group.run_start).seconds(),
    },
    Metric {
        name: "group_next_start_timestamp",
        help: "When an item may start next, if the group is Idle or Waiting",
        unit: Some(Unit::Seconds),
        value: |group| Time::from(group.next_start).seconds(),
    },
];

const ITEM_METRICS: [Metric<ItemSample>; 6] = [
    Metric {
        name: "item_last_success_timestamp",
        help: "When the item last succeeded",
        unit: Some(Unit::Seconds),
        value: |item| item.last_success.seconds(),
    },
    Metric {
        name: "item_last_start_timestamp",
        help: "When the item last started",
        unit: Some(Unit::Seconds),
        value: |item| item.last_start.seconds(),
    },
    Metric {
        name: "item_due_timestamp",
        help: "When the item becomes due, or since when it has been due",
        unit: Some(Unit::Seconds),
        value: |item| item.due.seconds(),
    },
    Metric {
        name: "item_last_run_duration",
        help: "How long the last run of the item took",
        unit: Some(Unit::Seconds),
        value: |item| Some(f64::from(item.last_duration)).filter(|value| !value.is_nan()),
    },
    Metric {
        name: "item_consecutive_failures",
        help: "The number of failures of the item since its last success",
        unit: None,
        value: |item| Some(f64::from(item.failures)),
    },
    Metric {
        name: "item_given_up",
        help: "1 if the item has failed maxFailures times in a row",
        unit: None,
        value: |item| item.given_up.then_some(1.0),
    },
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
            "oaat_group_ready_items{} 0.0",
            "oaat_group_next_start_timestamp_seconds{} 867610.0",
            r#"oaat_item_last_success_timestamp_seconds{,item="a"} 864010.0"#,
            r#"oaat_item_last_start_timestamp_seconds{,item="a"} 864000.0"#,
            r#"oaat_item_due_timestamp_seconds{,item="a"} 867610.0"#,
            r#"oaat_item_due_timestamp_seconds{,item="new"} 777600.0"#,
            r#"oaat_item_last_run_duration_seconds{,item="a"} 10.0"#,
            r#"oaat_item_last_run_duration_seconds{,item="b \"quoted\""} 2.5"#,
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
        assert_eq!(
            due(nightly, json!({})),
            day(9.0, 0.0),
            "since its group was created"
        );
        let once = json!({ "eachOnce": true });
        assert_eq!(due(once.clone(), json!({})), day(9.0, 0.0));
        assert_eq!(due(once, success("1970-01-10T03:10:00Z")), None);
        let suspended = json!({ "itemOptions": { "a": { "suspend": true } } });
        assert_eq!(due(suspended, json!({})), None);
    }

    #[test]
    fn group_shows_its_conditions_and_when_it_completed() {
        let condition = |type_: &str, status: &str, reason: &str| {
            json!({
                "type": type_, "status": status, "reason": reason, "message": "",
                "lastTransitionTime": "1970-01-11T00:00:00Z",
            })
        };
        let status = |complete: &str| {
            json!({ "state": "Complete", "conditions": [
                condition("Ready", "True", "Complete"),
                condition("Running", "False", "NotRunning"),
                condition("Complete", complete, "AllSucceeded"),
            ] })
        };
        let complete = series(false, &[], json!({}), status("True"));
        let expected = [
            r#"oaat_group_state{,state="Complete"} 1.0"#,
            "oaat_group_ready_items{} 0.0",
            "oaat_group_complete_timestamp_seconds{} 864000.0",
            r#"oaat_group_condition{,type="Ready",status="True",reason="Complete"} 1.0"#,
        ];
        assert_eq!(complete, expected);
        let incomplete = series(false, &[], json!({}), status("False"));
        assert!(
            !incomplete
                .iter()
                .any(|line| line.contains("complete_timestamp"))
        );
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
            "oaat_group_ready_items{} 1.0",
            "oaat_group_omitted_items{} 2.0",
            "oaat_group_run_start_timestamp_seconds{} 864000.0",
        ];
        assert_eq!(series, expected);
    }

    #[test]
    fn namespace_with_the_most_items_loses_metrics_first() {
        let mut state = State::default();
        let mut record = |namespace: &str, name: &str, items: &[&str]| {
            let group = ObjectRef::new(name).within(namespace);
            let status = OaatGroupStatus::default();
            state.insert(&group, GroupSample::new(&fixture(items), None, &status));
            state.limit(5, &group);
            let count = |namespace| state.items.get(namespace).copied().unwrap_or(0);
            (count("large"), count("small"))
        };
        record("large", "one", &["a", "b"]);
        record("large", "two", &["a", "b"]);
        assert_eq!(record("small", "one", &["a"]), (4, 1));
        // The latest group of the largest namespace gets none.
        assert_eq!(record("large", "three", &["a", "b"]), (4, 1));
        // Another namespace replaces a group of the largest one.
        assert_eq!(record("small", "two", &["a", "b"]), (2, 3));
    }
}
