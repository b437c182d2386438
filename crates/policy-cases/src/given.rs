//! From what a person writes down to the request that a policy is asked.

use crate::place::{Place, Step};
use crate::time::When;
use crate::yaml::{Frequency, Name, Settings, Short, Span};
use policy_host::{Duration, Instant, Item, ItemSettings, Outcome, Request, Run};
use serde::{Deserialize, Deserializer};

/// The time of a decision where none is given: 2026-01-01T12:00:00Z. Always the same,
/// so that a case answers tomorrow as it does today.
const NOW: Instant = 1_767_268_800_000;
/// The frequency where none is given.
const FREQUENCY: Option<Duration> = Some(3_600_000);
/// What the operator sends at most.
const MOST_ITEMS: usize = 2000;
const MOST_RECENT: usize = 20;

/// A request as people write it: whatever is left out has a default.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Given {
    now: Option<When>,
    pub seed: Option<u64>,
    frequency: Option<Frequency>,
    cool_off: Option<Span>,
    settings: Option<Settings>,
    state: Option<String>,
    namespace: Option<String>,
    group: Option<String>,
    pub items: Option<Vec<GivenItem>>,
    recent: Option<Vec<GivenRun>>,
}

#[derive(Debug, Clone)]
pub(crate) struct GivenItem(LongItem);

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct LongItem {
    name: Name,
    frequency: Option<Frequency>,
    cool_off: Option<Span>,
    settings: Option<Settings>,
    #[serde(default)]
    held: bool,
    last_success: Option<When>,
    last_failure: Option<When>,
    failures: Option<u32>,
    runs: Option<u32>,
    last_duration: Option<Span>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct GivenRun {
    item: Name,
    started: Option<When>,
    finished: When,
    outcome: GivenOutcome,
    exit_code: Option<i32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum GivenOutcome {
    Succeeded,
    Failed,
    Stopped,
}

impl<'de> Deserialize<'de> for GivenItem {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::either(deserializer)
    }
}

impl From<LongItem> for GivenItem {
    fn from(item: LongItem) -> Self {
        Self(item)
    }
}

impl Short<'_> for GivenItem {
    const EXPECTING: &'static str = "an item: its name, or a mapping with a name; a name that YAML takes for a number, a bool or null goes in quotes, \"1\"";
    type Long = LongItem;

    fn short(text: &str) -> Result<Self, String> {
        Ok(Self(LongItem {
            name: Name::new(text)?,
            frequency: None,
            cool_off: None,
            settings: None,
            held: false,
            last_success: None,
            last_failure: None,
            failures: None,
            runs: None,
            last_duration: None,
        }))
    }
}

/// Something that does not fit, at a place below the request.
#[derive(Debug, PartialEq)]
pub(crate) struct Problem {
    /// The path from the request to it.
    pub steps: Vec<Step>,
    pub message: String,
}

impl Problem {
    fn new(steps: impl IntoIterator<Item = Step>, message: impl Into<String>) -> Self {
        Self {
            steps: steps.into_iter().collect(),
            message: message.into(),
        }
    }
}

impl Given {
    /// This, with every field that it leaves out taken from `below`.
    pub fn over(self, below: &Given) -> Given {
        let below = below.clone();
        Given {
            now: self.now.or(below.now),
            seed: self.seed.or(below.seed),
            frequency: self.frequency.or(below.frequency),
            cool_off: self.cool_off.or(below.cool_off),
            settings: self.settings.or(below.settings),
            state: self.state.or(below.state),
            namespace: self.namespace.or(below.namespace),
            group: self.group.or(below.group),
            items: self.items.or(below.items),
            recent: self.recent.or(below.recent),
        }
    }

    /// Where a problem of this stands: at `place`, or in `below` if the field comes from
    /// there.
    pub fn place(&self, steps: Vec<Step>, place: &Place, below: &Place) -> Place {
        let own = match steps.first() {
            Some(Step::Field(name)) => match name.as_str() {
                "now" => self.now.is_some(),
                "seed" => self.seed.is_some(),
                "recent" => self.recent.is_some(),
                // Where there are no items at all, the case is to have them.
                "items" => self.items.is_some() || steps.len() == 1,
                _ => true,
            },
            _ => true,
        };
        let mut place = if own { place.clone() } else { below.clone() };
        place.0.extend(steps);
        place
    }

    /// The request, with defaults filled in, if it is one that the operator could send.
    pub fn request(&self) -> Result<Request, Problem> {
        let now = match self.now {
            None => NOW,
            Some(When::At(now)) => now,
            Some(_) => {
                return Err(Problem::new(
                    ["now".into()],
                    "this is what other times are counted from, so it must not be relative; write a time such as 2026-01-01T12:00:00Z",
                ));
            }
        };
        let items = self.items(now)?;
        let recent = self.recent(now, &items)?;
        let or = |text: &Option<String>, default: &str| text.as_deref().unwrap_or(default).into();
        Ok(Request {
            namespace: or(&self.namespace, "default"),
            group: or(&self.group, "group"),
            now,
            seed: self.seed.unwrap_or(0),
            settings: or(&self.settings.as_ref().map(|s| s.0.clone()), "{}"),
            state: or(&self.state, ""),
            items,
            recent,
            extra: "{}".into(),
        })
    }

    fn items(&self, now: Instant) -> Result<Vec<Item>, Problem> {
        let given = self.items.as_deref().unwrap_or_default();
        if !(1..=MOST_ITEMS).contains(&given.len()) {
            let message = format!(
                "there are {} items; a request has 1 to {MOST_ITEMS}",
                given.len()
            );
            return Err(Problem::new(["items".into()], message));
        }
        let frequency = self.frequency.map_or(FREQUENCY, |frequency| frequency.0);
        let cool_off = self.cool_off.map_or(0, |length| length.0);
        let mut items: Vec<Item> = Vec::with_capacity(given.len());
        for (index, GivenItem(item)) in given.iter().enumerate() {
            if items.iter().any(|earlier| earlier.name == item.name.0) {
                let message = format!(
                    "the name {:?} is given twice; names of items are unique",
                    item.name.0
                );
                return Err(Problem::new(["items".into(), index.into()], message));
            }
            items.push(item.item(now, frequency, cool_off));
        }
        Ok(items)
    }

    fn recent(&self, now: Instant, items: &[Item]) -> Result<Vec<Run>, Problem> {
        let given = self.recent.as_deref().unwrap_or_default();
        if given.len() > MOST_RECENT {
            let message = format!(
                "there are {} runs; the operator shows the latest {MOST_RECENT} at most",
                given.len()
            );
            return Err(Problem::new(["recent".into()], message));
        }
        let run = |(index, run): (usize, &GivenRun)| {
            let at = |field: &str| ["recent".into(), index.into(), field.into()];
            let item = index_of(items, &run.item.0)
                .map_err(|message| Problem::new(at("item"), message))?;
            let finished = run.finished.at(now);
            let started = run.started.map_or(finished, |started| started.at(now));
            if started > finished {
                return Err(Problem::new(
                    at("started"),
                    "this is later than `finished`; a run starts before it finishes",
                ));
            }
            let (outcome, exit_code) = match run.outcome {
                GivenOutcome::Succeeded => (Outcome::Succeeded, Some(0)),
                GivenOutcome::Failed => (Outcome::Failed, None),
                GivenOutcome::Stopped => (Outcome::Stopped, None),
            };
            Ok(Run {
                item: item as u32,
                started,
                finished,
                outcome,
                exit_code: run.exit_code.or(exit_code),
            })
        };
        given.iter().enumerate().map(run).collect()
    }
}

impl LongItem {
    fn item(&self, now: Instant, frequency: Option<Duration>, cool_off: Duration) -> Item {
        let last_success = self.last_success.map(|at| at.at(now));
        let last_failure = self.last_failure.map(|at| at.at(now));
        // None is less than any time.
        let failing = last_failure.is_some() && last_failure >= last_success;
        let failures = self.failures.unwrap_or(u32::from(failing));
        let seen = u32::from(last_success.is_some()) + u32::from(last_failure.is_some());
        Item {
            name: self.name.0.clone(),
            frequency: self.frequency.map_or(frequency, |own| own.0),
            cool_off: self.cool_off.map_or(cool_off, |own| own.0),
            settings: self.settings.as_ref().map(|settings| settings.0.clone()),
            startable: !self.held,
            last_success,
            last_failure,
            failures,
            runs: self.runs.unwrap_or(seen.max(failures)),
            last_duration: self.last_duration.map(|length| length.0),
        }
    }
}

/// The index of the item with this name.
pub(crate) fn index_of(items: &[Item], name: &str) -> Result<usize, String> {
    items
        .iter()
        .position(|item| item.name == name)
        .ok_or_else(|| {
            let names: Vec<_> = items.iter().map(|item| item.name.as_str()).collect();
            format!(
                "there is no item {name:?}; the items are {}",
                names.join(", ")
            )
        })
}

/// The settings of items that a policy is to check before it is asked for a decision.
pub fn item_settings(items: &[Item]) -> Vec<ItemSettings> {
    let own = |item: &Item| {
        Some(ItemSettings {
            name: item.name.clone(),
            settings: item.settings.clone()?,
        })
    };
    items.iter().filter_map(own).collect()
}

#[cfg(test)]
mod tests;
