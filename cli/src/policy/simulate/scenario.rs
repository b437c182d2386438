//! A scenario: the items of a group, how long their runs take, and when they fail.

use super::fields::{Checked, Frequency, Moment, Name, Positive, Share, Span, Spell, Took};
use anyhow::{Context, Result};
use policy_host::{Duration, Instant, ItemSettings};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::path::Path;

/// The items that a group may have.
const MAX_ITEMS: usize = 2_000;
const HOUR: u64 = 3_600_000;

/// A scenario, ready to be lived through: all instants absolute, all defaults filled in.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// When it begins.
    pub start: Instant,
    /// When it ends: the first instant that is no part of it.
    pub end: Instant,
    /// What all chance comes from.
    pub seed: u64,
    /// The least time between two starts of an item.
    pub retry_floor: Duration,
    /// The policy's settings, as a JSON object.
    pub settings: String,
    /// The items in the order of the list.
    pub items: Vec<Item>,
}

/// An item, and what becomes of its runs.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub name: String,
    pub frequency: Option<Duration>,
    pub cool_off: Duration,
    /// A JSON object.
    pub settings: Option<String>,
    pub took: Took,
    pub fails: Share,
    /// From (included) and to (excluded): all runs that start in between fail.
    pub fails_between: Vec<(Instant, Instant)>,
    /// From when on it is on the list.
    pub joins: Instant,
}

impl Scenario {
    /// Reads a file.
    pub fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| format!("{}", file.display()))?;
        Self::parse(&text).with_context(|| format!("{}", file.display()))
    }

    /// Reads YAML (and so JSON too).
    pub fn parse(text: &str) -> Result<Self> {
        let file: File = serde_norway::from_str(text)?;
        let start = file.start.map_or(1_767_225_600_000, |moment| moment.0);
        let at = |after: u64| start.saturating_add_unsigned(after);
        let items = file.items.0.iter().flat_map(|entry| {
            let item = Item {
                name: entry.name.0.clone(),
                frequency: entry
                    .frequency
                    .or(file.frequency)
                    .map_or(Some(HOUR), |f| f.0),
                cool_off: entry.cool_off.or(file.cool_off).map_or(0, |span| span.0),
                settings: entry.settings.as_ref().map(json),
                took: entry.duration,
                fails: entry.fails,
                fails_between: entry
                    .fails_between
                    .iter()
                    .map(|spell| (at(spell.from), at(spell.to)))
                    .collect(),
                joins: at(entry.joins.map_or(0, |span| span.0)),
            };
            entry.names().map(move |name| Item {
                name,
                ..item.clone()
            })
        });
        Ok(Self {
            start,
            end: at(file.length.0),
            seed: file.seed.unwrap_or(1),
            retry_floor: file.retry_floor.map_or(10_000, |span| span.0),
            settings: json(&file.settings),
            items: items.collect(),
        })
    }

    /// The settings of single items, as the policy's `validate` takes them.
    pub fn item_settings(&self) -> Vec<ItemSettings> {
        let with = |item: &Item| {
            item.settings.clone().map(|settings| ItemSettings {
                name: item.name.clone(),
                settings,
            })
        };
        self.items.iter().filter_map(with).collect()
    }
}

fn json(settings: &Map<String, Value>) -> String {
    Value::Object(settings.clone()).to_string()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    start: Option<Moment>,
    length: Positive,
    seed: Option<u64>,
    frequency: Option<Frequency>,
    cool_off: Option<Span>,
    retry_floor: Option<Span>,
    #[serde(default)]
    settings: Map<String, Value>,
    items: Entries,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    name: Name,
    duration: Took,
    #[serde(default)]
    fails: Share,
    frequency: Option<Frequency>,
    cool_off: Option<Span>,
    settings: Option<Map<String, Value>>,
    #[serde(default)]
    fails_between: Vec<Spell>,
    joins: Option<Span>,
    count: Option<NonZeroU32>,
}

impl Entry {
    fn names(&self) -> Box<dyn Iterator<Item = String> + '_> {
        let name = &self.name.0;
        match self.count {
            None => Box::new(std::iter::once(name.clone())),
            Some(count) => Box::new((1..=count.get()).map(move |n| format!("{name}-{n}"))),
        }
    }
}

struct Entries(Vec<Entry>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_seq(Checked {
            expecting: "a list of items",
            check: entries,
            plain: PhantomData,
        })
    }
}

fn entries(entries: Vec<Entry>) -> Result<Entries, String> {
    let count: usize = entries
        .iter()
        .map(|entry| entry.count.map_or(1, |count| count.get() as usize))
        .sum();
    if !(1..=MAX_ITEMS).contains(&count) {
        return Err(format!(
            "there are {count} items; a group has 1 to {MAX_ITEMS}"
        ));
    }
    let mut seen = HashSet::new();
    for (index, entry) in entries.iter().enumerate() {
        if let Some(twice) = entry.names().find(|name| !seen.insert(name.clone())) {
            return Err(format!(
                "entry {index} makes an item {twice:?}, which is there already; an item may be listed once"
            ));
        }
    }
    Ok(Entries(entries))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::ChaCha8Rng;

    fn refusal(text: &str) -> String {
        match Scenario::parse(text) {
            Ok(_) => panic!("accepted: {text}"),
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn defaults_are_those_of_a_group() {
        let s = Scenario::parse("{length: 1h, items: [{name: a, duration: 1m}]}").unwrap();
        assert_eq!((s.start, s.end), (1_767_225_600_000, 1_767_229_200_000));
        assert_eq!((s.seed, s.retry_floor), (1, 10_000));
        assert_eq!(s.settings, "{}");
        let item = &s.items[0];
        assert_eq!((item.frequency, item.cool_off), (Some(HOUR), 0));
        assert_eq!((item.settings.clone(), item.joins), (None, s.start));
    }

    #[test]
    fn an_entry_goes_before_the_group() {
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
            assert!((60_000..=120_000).contains(&s.items[0].took.draw(&mut random)));
            assert!(s.items[0].fails.draw(&mut random) && !b.fails.draw(&mut random));
        }
    }

    #[test]
    fn refusals_say_where_what_and_what_would_be_right() {
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
                vec!["items[0].coolOff", "\"5\"", "30s", "line 5"],
            ),
            (item("wieght: 5"), vec!["items[0]", "wieght", "line 5"]),
            (item("count: 0"), vec!["items[0].count", "line 5"]),
            (item("count: 3000"), vec!["items", "3000", "2000"]),
            (item("settings: 3"), vec!["items[0].settings", "line 5"]),
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
                vec!["items", "entry 1", "\"a\"", "once"],
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
                vec!["items[1]", "duration", "line 6"],
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
            ("items: []".into(), vec!["items"]),
        ] {
            let said = refusal(&text);
            for word in words {
                assert!(said.contains(word), "{word:?} is missing in: {said}");
            }
        }
    }
}
