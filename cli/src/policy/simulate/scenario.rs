//! Scenarios: the items of a group, how long their runs take, and when they fail.

use super::fields::{Count, MAX_ITEMS, Period, Probability, RunDuration, Timestamp};
use anyhow::Result;
use oaat_api::CronSchedule;
use oaat_api::windows::Window;
use policy_cases::yaml::{BoundedDuration, Frequency, Name, PositiveDuration, Settings};
use policy_cases::{FieldPath, ReadError};
use policy_host::{Duration, Instant, ItemSettings};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

const HOUR: u64 = 3_600_000;

/// A scenario with absolute times and with all defaults applied.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// The start, inclusive.
    pub start: Instant,
    /// The end, exclusive.
    pub end: Instant,
    /// The seed of all random numbers.
    pub seed: u64,
    /// The minimum time between two starts of an item.
    pub retry_floor: Duration,
    /// The settings of the policy, a JSON object.
    pub settings: String,
    /// The items in the order of the list.
    pub items: Vec<Item>,
    /// What happened before the start.
    pub past: Past,
    /// The windows in which nothing starts.
    pub windows: Vec<Window>,
    /// The indices of the items that a user requested to run at the start, in this order.
    pub requested: Vec<usize>,
}

/// What happened in a group before the start of a simulation. Empty for a new group.
#[derive(Clone, Debug, Default)]
pub(crate) struct Past {
    /// The state of the policy.
    pub state: String,
    /// The latest runs, newest first.
    pub runs: Vec<policy_host::Run>,
    /// The namespace and the name of the group, for the policy.
    pub group: Option<(String, String)>,
}

/// What happened to an item before the start of a simulation. Empty for a new item.
#[derive(Clone, Debug, Default)]
pub(crate) struct ItemPast {
    pub last_started: Option<Instant>,
    pub last_duration: Option<Duration>,
    /// How long the longest of its last successful runs took.
    pub longest_success: Option<Duration>,
    pub last_success: Option<Instant>,
    pub last_failure: Option<Instant>,
    pub failures: u32,
    pub runs: u32,
}

/// An item and the behavior of its runs.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub name: String,
    pub frequency: Option<Duration>,
    pub cool_off: Duration,
    /// The settings of the item, a JSON object.
    pub settings: Option<String>,
    /// How long its runs take.
    pub run_duration: RunDuration,
    /// The probability that a run fails.
    pub fails: Probability,
    /// Periods in which all runs that start fail: from (inclusive), to (exclusive).
    pub fails_between: Vec<(Instant, Instant)>,
    /// The time at which the item is added to the list.
    pub joins: Instant,
    /// What happened to the item before the start.
    pub past: ItemPast,
    /// When the item is due, instead of `frequency`.
    pub schedule: Option<Arc<CronSchedule>>,
    /// Whether the operator holds the item throughout the simulation.
    pub held: bool,
}

impl Item {
    /// Returns when the item is due again after a success. `None` if it is not due again.
    pub fn due_after(&self, success: Instant) -> Option<Instant> {
        match &self.schedule {
            Some(schedule) => {
                let next = schedule.next_match_after(oaat_api::Timestamp(success));
                next.map(|at| at.0)
            }
            None => Some(success.saturating_add_unsigned(self.frequency?)),
        }
    }

    /// Returns when the item is first due in the simulation. An item that is held is never due.
    pub fn first_due(&self) -> Instant {
        if self.held {
            return Instant::MAX;
        }
        match self.past.last_success {
            Some(success) => self.due_after(success).unwrap_or(Instant::MAX),
            None => self.joins,
        }
    }
}

impl Scenario {
    /// Reads a scenario from a file.
    pub fn read(file: &Path) -> Result<Self> {
        let name = file.display().to_string();
        let text = crate::input::read_text(file)?;
        Self::parse(&text).map_err(|error| crate::policy::read_error::in_file(&name, &error))
    }

    /// Parses a scenario from YAML or JSON.
    pub fn parse(text: &str) -> Result<Self, ReadError> {
        let file: File = policy_cases::parse_yaml(text)?;
        let items = validate_items(&file.items, text)?;
        let Some(length) = file.length else {
            let length = FieldPath::default().child("length");
            return Err(length.error(text, "the field is missing; add for example length: 7days"));
        };
        let start = file.start.map_or(1_767_225_600_000, |start| start.0);
        let at = |after: u64| start.saturating_add_unsigned(after);
        let items = items.into_iter().flat_map(|(entry, run_duration)| {
            let item = Item {
                name: entry.name.0.clone(),
                frequency: entry
                    .frequency
                    .or(file.frequency)
                    .map_or(Some(HOUR), |f| f.0),
                cool_off: entry
                    .cool_off
                    .or(file.cool_off)
                    .map_or(0, |duration| duration.0),
                settings: entry.settings.as_ref().map(|settings| settings.0.clone()),
                run_duration,
                fails: entry.fails,
                fails_between: entry
                    .fails_between
                    .iter()
                    .map(|period| (at(period.from), at(period.to)))
                    .collect(),
                joins: at(entry.joins.map_or(0, |duration| duration.0)),
                past: ItemPast::default(),
                schedule: None,
                held: false,
            };
            entry.names().map(move |name| Item {
                name,
                ..item.clone()
            })
        });
        Ok(Self {
            start,
            end: at(length.0),
            seed: file.seed.unwrap_or(1),
            retry_floor: file.retry_floor.map_or(10_000, |duration| duration.0),
            settings: file.settings.map_or_else(|| "{}".to_owned(), |s| s.0),
            items: items.collect(),
            past: Past::default(),
            windows: Vec::new(),
            requested: Vec::new(),
        })
    }

    /// Returns the share of the scenario that has elapsed at a time, from 0 to 1.
    pub fn elapsed_share(&self, now: Instant) -> f64 {
        let elapsed = now.saturating_sub(self.start) as f64;
        let length = self.end.saturating_sub(self.start) as f64;
        elapsed / length
    }

    /// Returns the per-item settings in the form that `validate` of a policy takes.
    pub fn item_settings(&self) -> Vec<ItemSettings> {
        let settings_of = |item: &Item| {
            item.settings.clone().map(|settings| ItemSettings {
                name: item.name.clone(),
                settings,
            })
        };
        self.items.iter().filter_map(settings_of).collect()
    }
}

/// A group and the behavior of its runs, for a simulation.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[serde(expecting = "a mapping such as {length: 1w, items: [{name: photos, duration: 20m}]}")]
#[schemars(rename = "Scenario")]
pub(crate) struct File {
    /// The start. The default is 2026-01-01T00:00:00Z.
    start: Option<Timestamp>,
    /// How long to simulate. Required.
    length: Option<PositiveDuration>,
    /// The seed of all random numbers. The default is 1.
    seed: Option<u64>,
    /// The frequency of items without their own. The default is 1h.
    frequency: Option<Frequency>,
    /// The cool-off after a failure of items without their own. The default is 0s.
    cool_off: Option<BoundedDuration>,
    /// The minimum time between two starts of an item. The default is 10s.
    retry_floor: Option<BoundedDuration>,
    /// The settings of the group. The default is `{}`.
    settings: Option<Settings>,
    /// The items, in the order of the list: 1 to 2,000. Required.
    items: Vec<Entry>,
}

/// An item and the behavior of its runs.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[serde(expecting = "a mapping such as {name: photos, duration: 20m}")]
#[schemars(rename = "ScenarioItem")]
struct Entry {
    /// The name of the item.
    name: Name,
    /// How long its runs take. Required.
    duration: Option<RunDuration>,
    /// The probability that a run fails.
    #[serde(default)]
    fails: Probability,
    /// How often it must succeed. The default is the `frequency` of the scenario.
    frequency: Option<Frequency>,
    /// The cool-off after a failure. The default is the `coolOff` of the scenario.
    cool_off: Option<BoundedDuration>,
    /// The settings of the item. None by default.
    settings: Option<Settings>,
    /// Periods in which all runs fail that start in them.
    #[serde(default)]
    fails_between: Vec<Period>,
    /// When the item is added to the list, from the start. The default is 0s.
    joins: Option<BoundedDuration>,
    /// The number of items of this kind. Their names are `NAME-1`, `NAME-2`, and so on. By default,
    /// there is one, and its name is unchanged.
    count: Option<Count>,
}

impl Entry {
    fn names(&self) -> Box<dyn Iterator<Item = String> + '_> {
        let name = &self.name.0;
        match self.count {
            None => Box::new(std::iter::once(name.clone())),
            Some(Count(count)) => Box::new((1..=count).map(move |n| format!("{name}-{n}"))),
        }
    }
}

/// Checks the rules that the types do not enforce. Returns the entries with the duration of their runs.
fn validate_items<'a>(
    entries: &'a [Entry],
    text: &str,
) -> Result<Vec<(&'a Entry, RunDuration)>, ReadError> {
    let items = FieldPath::default().child("items");
    let counts = entries
        .iter()
        .map(|entry| entry.count.map_or(1, |Count(count)| count as usize));
    let count: usize = counts.sum();
    if !(1..=MAX_ITEMS).contains(&count) {
        let message = format!(
            "the list has {count} items; use 1 to {MAX_ITEMS} items, for example \
             items: [{{name: a, duration: 20m}}]"
        );
        return Err(items.error(text, &message));
    }
    let mut seen = HashSet::new();
    let mut valid = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let path = items.child(index);
        if let Some(duplicate) = entry.names().find(|name| !seen.insert(name.clone())) {
            let message = format!("{duplicate:?} is the name of another item; use a unique name");
            return Err(path.child("name").error(text, &message));
        }
        let Some(duration) = entry.duration else {
            let message = "the field is missing; add for example duration: 20m";
            return Err(path.child("duration").error(text, message));
        };
        valid.push((entry, duration));
    }
    Ok(valid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::ChaCha8Rng;

    fn parse_error(text: &str) -> String {
        match Scenario::parse(text) {
            Ok(_) => panic!("accepted: {text}"),
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn scenario_has_the_defaults_of_a_group() {
        let s = Scenario::parse("{length: 1h, items: [{name: a, duration: 1m}]}").unwrap();
        assert_eq!((s.start, s.end), (1_767_225_600_000, 1_767_229_200_000));
        assert_eq!((s.seed, s.retry_floor), (1, 10_000));
        assert_eq!(s.settings, "{}");
        let item = &s.items[0];
        assert_eq!((item.frequency, item.cool_off), (Some(HOUR), 0));
        assert_eq!((item.settings.clone(), item.joins), (None, s.start));
    }

    #[test]
    fn values_of_an_entry_override_those_of_the_group() {
        let s = Scenario::parse(
            "start: 2026-02-01T00:00:00+01:00
length: 2days
frequency: 1d
coolOff: 10m
settings: {base: 1}
items:
  - {name: a, duration: {min: 1m, max: 2m}, fails: 1}
  - name: b
    duration: 5s
    count: 2
    frequency: once
    coolOff: 0s
    settings: {weight: 2}
    joins: 1h
    failsBetween: [{from: 0s, to: 1h}]
",
        )
        .unwrap();
        assert_eq!(s.settings, r#"{"base":1}"#);
        let names: Vec<_> = s.items.iter().map(|item| item.name.as_str()).collect();
        assert_eq!(names, ["a", "b-1", "b-2"]);
        assert_eq!(s.items[0].frequency, Some(24 * HOUR));
        let b = &s.items[2];
        assert_eq!((b.frequency, b.cool_off), (None, 0));
        assert_eq!(b.joins, s.start + HOUR as i64);
        assert_eq!(b.fails_between, [(s.start, b.joins)]);
        assert_eq!(s.item_settings().len(), 2);
        let mut random = ChaCha8Rng::seed_from_u64(0);
        for _ in 0..100 {
            assert!((60_000..=120_000).contains(&s.items[0].run_duration.draw(&mut random)));
            assert!(s.items[0].fails.draw(&mut random) && !b.fails.draw(&mut random));
        }
    }

    #[test]
    fn parse_errors_name_the_path_the_value_and_the_fix() {
        let item = |more: &str| format!("length: 1h\nitems:\n- name: a\n  duration: 1m\n  {more}");
        for (text, words) in [
            (
                item("fails: 1.5"),
                vec!["items[0].fails", "1.5", "0 to 1", "line 5"],
            ),
            (item("fails: -1"), vec!["items[0].fails", "-1"]),
            (
                item("frequency: often"),
                vec!["items[0].frequency", "often", "30s", "line 5"],
            ),
            (item("frequency: 0s"), vec!["items[0].frequency", "1ms"]),
            (
                item("coolOff: 5"),
                vec!["items[0].coolOff", "integer `5`", "30s", "line 5"],
            ),
            (item("wieght: 5"), vec!["items[0]", "wieght", "line 5"]),
            (
                item("cooloff: 5m"),
                vec!["items[0]", "line 5", "; did you mean coolOff?"],
            ),
            (
                "lenght: 1h\nitems: []".into(),
                vec!["line 1", "; did you mean length?"],
            ),
            (
                item("settings: {a: [1, .inf]}"),
                vec!["line 5", "items[0].settings.a[1]: settings are JSON"],
            ),
            (
                item("count: 0"),
                vec!["items[0].count", "`0`", "1 to 2000", "line 5"],
            ),
            (
                item("count: 3000"),
                vec!["items[0].count", "3000", "1 to 2000", "line 5"],
            ),
            (
                item("count: 2000\n- {name: b, duration: 1m}"),
                vec!["line 3", "items", "2001", "2000"],
            ),
            (item("settings: 3"), vec!["items[0].settings", "line 5"]),
            (
                "[]".into(),
                vec!["expected a mapping such as {length: 1w, items:"],
            ),
            (
                "{length: 1h, items: [a]}".into(),
                vec!["items[0]", "expected a mapping such as {name: photos,"],
            ),
            (
                item("failsBetween: [{from: 2h, to: 1h}]"),
                vec!["items[0].failsBetween[0]", "earlier", "line 5"],
            ),
            (
                item("\n- {name: b, duration: {min: 2m, max: 1m}}"),
                vec!["items[1].duration", "min", "line 6"],
            ),
            (
                item("\n- {name: b, duration: {min: 2m, max: x}}"),
                vec!["items[1].duration.max", "\"x\"", "line 6"],
            ),
            (
                item("\n- {name: a, duration: 1m}"),
                vec!["line 6, column 10: items[1].name", "\"a\"", "unique"],
            ),
            (
                item("\n- {name: \"\", duration: 1m}"),
                vec!["items[1].name", "1 to 300"],
            ),
            (
                item("\n- {name: \"a\\n\", duration: 1m}"),
                vec!["items[1].name", "control"],
            ),
            (
                item("\n- {name: b}"),
                vec!["line 6, column 3: items[1].duration", "duration: 20m"],
            ),
            (
                "length: 1h\nitems: []".into(),
                vec!["items", "0 items", "2000"],
            ),
            ("length: 0s\nitems: []".into(), vec!["length", "0s"]),
            (
                "length: 101years\nitems: []".into(),
                vec!["length", "100years"],
            ),
            (
                "length: 1h\nstart: today\nitems: []".into(),
                vec!["start", "today", "2026", "line 2"],
            ),
            (
                "items: []".into(),
                vec!["items", "0 items", "duration: 20m"],
            ),
            (
                "items: [{name: a, duration: 1m}]".into(),
                vec!["length", "missing", "length: 7days"],
            ),
            (String::new(), vec!["items", "duration: 20m"]),
        ] {
            let error = parse_error(&text);
            for word in words {
                assert!(error.contains(word), "{word:?} is missing in: {error}");
            }
        }
    }
}
