//! Converts hand-written requests to requests of the contract.

use crate::field_path::{FieldPath, Step};
use crate::similar::Similar;
use crate::time::When;
use crate::yaml::{BoundedDuration, Frequency, Name, ScalarOrMap, Settings};
use policy_host::text;
use policy_host::{Duration, Instant, Item, ItemSettings, Outcome, Request, Run};
use serde::{Deserialize, Deserializer};

/// The default time of a decision: 2026-01-01T12:00:00Z. It is fixed, so that results do not change
/// from day to day.
const NOW: Instant = 1_767_268_800_000;
/// The default frequency.
const FREQUENCY: Option<Duration> = Some(3_600_000);
/// The maximum number of items and recent runs in a request of the operator.
const MAX_ITEMS: usize = 2000;
const MAX_RECENT: usize = 20;

/// A request to a policy.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "Request"))]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[serde(expecting = "a mapping such as {items: [photos]}")]
pub(crate) struct RawRequest {
    /// The absolute time of the decision. The default is 2026-01-01T12:00:00Z.
    now: Option<When>,
    /// The seed, 0 by default. Not allowed in a file of cases; use `seeds` there.
    pub seed: Option<u64>,
    /// The frequency of items without their own. The default is 1h.
    frequency: Option<Frequency>,
    /// The cool-off after a failure of items without their own. The default is 0s.
    cool_off: Option<BoundedDuration>,
    /// The settings of the group. The default is `{}`.
    settings: Option<Settings>,
    /// The state that the policy returned last. Empty by default.
    state: Option<String>,
    /// The namespace of the group. The default is `default`.
    namespace: Option<String>,
    /// The name of the group. The default is `group`.
    group: Option<String>,
    /// The items, in the order of the list: 1 to 2,000. Required.
    pub items: Option<Vec<RawItem>>,
    /// The latest runs of the group, newest first: at most 20.
    recent: Option<Vec<RawRun>>,
}

#[derive(Debug, Clone)]
pub(crate) struct RawItem(ItemMap);

/// An item of the group.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "Item"))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct ItemMap {
    /// The name of the item.
    name: Name,
    /// How often it must succeed. The default is the `frequency` of the request.
    frequency: Option<Frequency>,
    /// The cool-off after a failure. The default is the `coolOff` of the request.
    cool_off: Option<BoundedDuration>,
    /// The settings of the item. None by default.
    settings: Option<Settings>,
    /// Whether the operator holds the item, so that the policy cannot choose it.
    #[serde(default)]
    held: bool,
    /// The time of its last success. None by default.
    last_success: Option<When>,
    /// The time of its last failure. None by default.
    last_failure: Option<When>,
    /// The number of failures since its last success. The default is 1 if it failed since then.
    failures: Option<u32>,
    /// The number of its runs. The default is the smallest number that fits the other fields.
    runs: Option<u32>,
    /// How long its last run took. None by default.
    last_duration: Option<BoundedDuration>,
}

/// A finished run.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "Run"))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[serde(expecting = "a mapping such as {item: photos, finished: now, outcome: failed}")]
struct RawRun {
    /// The name of an item of the request.
    item: Name,
    /// The start. The default is the end.
    started: Option<When>,
    /// The end.
    finished: When,
    /// The outcome.
    outcome: RawOutcome,
    /// The exit code. The default is 0 after a success, and none otherwise.
    exit_code: Option<i32>,
}

/// The outcome of a run.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "Outcome", inline))]
#[serde(rename_all = "camelCase")]
enum RawOutcome {
    Succeeded,
    Failed,
    Stopped,
}

impl<'de> Deserialize<'de> for RawItem {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize_either(deserializer)
    }
}

impl From<ItemMap> for RawItem {
    fn from(item: ItemMap) -> Self {
        Self(item)
    }
}

impl ScalarOrMap<'_> for RawItem {
    const EXPECTING: &'static str = "an item: its name, or a mapping with a name; put a name that looks like a number, a boolean, or null in quotes: \"1\"";
    type Map = ItemMap;

    fn from_scalar(text: &str) -> Result<Self, String> {
        Ok(Self(ItemMap {
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

/// An invalid value in a request.
#[derive(Debug, PartialEq)]
pub(crate) struct RequestError {
    /// The path of the value, relative to the request.
    pub steps: Vec<Step>,
    pub message: String,
}

impl RequestError {
    fn new(steps: impl IntoIterator<Item = Step>, message: impl Into<String>) -> Self {
        Self {
            steps: steps.into_iter().collect(),
            message: message.into(),
        }
    }
}

impl RawRequest {
    /// Takes absent fields from `defaults`.
    pub fn with_defaults(self, defaults: &Self) -> Self {
        let defaults = defaults.clone();
        Self {
            now: self.now.or(defaults.now),
            seed: self.seed.or(defaults.seed),
            frequency: self.frequency.or(defaults.frequency),
            cool_off: self.cool_off.or(defaults.cool_off),
            settings: self.settings.or(defaults.settings),
            state: self.state.or(defaults.state),
            namespace: self.namespace.or(defaults.namespace),
            group: self.group.or(defaults.group),
            items: self.items.or(defaults.items),
            recent: self.recent.or(defaults.recent),
        }
    }

    /// Returns the path of a value: below `own_path`, or below `default_path` if this request does
    /// not set the field.
    pub fn locate(
        &self,
        steps: Vec<Step>,
        own_path: &FieldPath,
        default_path: &FieldPath,
    ) -> FieldPath {
        let is_own = match steps.first() {
            Some(Step::Field(name)) => match name.as_str() {
                "now" => self.now.is_some(),
                "seed" => self.seed.is_some(),
                "recent" => self.recent.is_some(),
                // If neither sets items, the case should set them.
                "items" => self.items.is_some() || steps.len() == 1,
                _ => true,
            },
            _ => true,
        };
        let mut path = if is_own { own_path } else { default_path }.clone();
        path.0.extend(steps);
        path
    }

    /// Returns the request with all defaults. Rejects requests that the operator would not send.
    pub fn request(&self) -> Result<Request, RequestError> {
        let now = match self.now {
            None => NOW,
            Some(When::At(now)) => now,
            Some(_) => {
                return Err(RequestError::new(
                    ["now".into()],
                    "a relative time is not allowed here, because other times are relative to `now`; use for example 2026-01-01T12:00:00Z",
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

    fn items(&self, now: Instant) -> Result<Vec<Item>, RequestError> {
        let given = self.items.as_deref().unwrap_or_default();
        if !(1..=MAX_ITEMS).contains(&given.len()) {
            let message = format!(
                "the list has {} items; use 1 to {MAX_ITEMS} items",
                given.len()
            );
            return Err(RequestError::new(["items".into()], message));
        }
        let frequency = self.frequency.map_or(FREQUENCY, |frequency| frequency.0);
        let cool_off = self.cool_off.map_or(0, |length| length.0);
        let mut items: Vec<Item> = Vec::with_capacity(given.len());
        for (index, RawItem(item)) in given.iter().enumerate() {
            if items.iter().any(|earlier| earlier.name == item.name.0) {
                let message = format!(
                    "{:?} is the name of another item; use a unique name",
                    item.name.0
                );
                return Err(RequestError::new(["items".into(), index.into()], message));
            }
            items.push(item.item(now, frequency, cool_off));
        }
        Ok(items)
    }

    fn recent(&self, now: Instant, items: &[Item]) -> Result<Vec<Run>, RequestError> {
        let given = self.recent.as_deref().unwrap_or_default();
        if given.len() > MAX_RECENT {
            let message = format!(
                "the list has {} runs; use at most {MAX_RECENT} runs",
                given.len()
            );
            return Err(RequestError::new(["recent".into()], message));
        }
        let run = |(index, run): (usize, &RawRun)| {
            let at = |field: &str| ["recent".into(), index.into(), field.into()];
            let item = index_of(items, &run.item.0)
                .map_err(|message| RequestError::new(at("item"), message))?;
            let finished = run.finished.at(now);
            let started = run.started.map_or(finished, |started| started.at(now));
            if started > finished {
                return Err(RequestError::new(
                    at("started"),
                    "later than `finished`; use an earlier time",
                ));
            }
            let (outcome, exit_code) = match run.outcome {
                RawOutcome::Succeeded => (Outcome::Succeeded, Some(0)),
                RawOutcome::Failed => (Outcome::Failed, None),
                RawOutcome::Stopped => (Outcome::Stopped, None),
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

impl ItemMap {
    fn item(&self, now: Instant, frequency: Option<Duration>, cool_off: Duration) -> Item {
        let last_success = self.last_success.map(|at| at.at(now));
        let last_failure = self.last_failure.map(|at| at.at(now));
        // `None` is less than any time.
        let failing = last_failure.is_some() && last_failure >= last_success;
        let failures = self.failures.unwrap_or(u32::from(failing));
        let known_runs = u32::from(last_success.is_some()) + u32::from(last_failure.is_some());
        Item {
            name: self.name.0.clone(),
            frequency: self.frequency.map_or(frequency, |own| own.0),
            cool_off: self.cool_off.map_or(cool_off, |own| own.0),
            settings: self.settings.as_ref().map(|settings| settings.0.clone()),
            startable: !self.held,
            last_success,
            last_failure,
            failures,
            runs: self.runs.unwrap_or(known_runs.max(failures)),
            last_duration: self.last_duration.map(|length| length.0),
        }
    }
}

/// Returns the index of the item with this name.
pub(crate) fn index_of(items: &[Item], name: &str) -> Result<usize, String> {
    items
        .iter()
        .position(|item| item.name == name)
        .ok_or_else(|| {
            let names = || items.iter().map(|item| item.name.as_str());
            let similar = Similar::to(name, names());
            let fix = if similar.is_empty() {
                let names = text::list(names(), ", ", text::QUOTE);
                format!("; the items are {names}")
            } else {
                similar.to_string()
            };
            format!("{name:?} is not an item{fix}")
        })
}

/// Returns the per-item settings in the form that `validate` of a policy takes.
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
