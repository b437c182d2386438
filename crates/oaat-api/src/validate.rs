//! Validates the specs of groups and types.
//!
//! The API server checks most of this at admission. The operator checks it again because an object
//! may be older than the rule, and because some schema rules only approximate the parser used here.

mod duration;
mod errors;
mod http;
mod item_options;
mod items_from;
mod oaat_type;
mod recurrence;
#[cfg(test)]
mod tests;

pub use crate::field_error::{FieldError, FieldProblem};
pub use http::{POD_START, certificates, errors as http_errors};
pub use item_options::ItemRules;
pub use items_from::{SourceRules, answer_timeout, type_of};
pub use oaat_type::validate_type;
pub use recurrence::Recurrence;

use crate::text::{self, clean};
use crate::windows::{self, Window};
use crate::{BlackoutWindow, OaatGroup, OaatGroupSpec, PolicySpec};
use duration::duration;
use errors::{Errors, MAX_ERRORS, below};
use item_options::{item_options, max_failures};
use items_from::items_from;
use recurrence::{FREQUENCY_AND_SCHEDULE, Schedules};
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

/// Joins errors for the message of a condition. Lists at most ten.
pub fn summary(errors: &[FieldError]) -> String {
    text::list(errors.iter().map(ToString::to_string), "; ", text::PROBLEM)
}

/// A validated spec of a group, with defaults applied.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidatedGroup {
    /// How long a pod may take to start; `None` if there is no limit.
    pub start_timeout: Option<Duration>,
    /// How long finished pods are kept.
    pub pod_retention: Duration,
    /// The maximum number of finished pods that are kept.
    pub pod_history_limit: usize,
    /// The windows in which no item starts.
    pub windows: Vec<Window>,
    /// The rules for each source of items, in the order of the spec.
    pub sources: Vec<SourceRules>,
    /// The rules for items without per-item options.
    pub defaults: ItemRules,
    /// The rules for items whose options differ from the defaults.
    pub items: BTreeMap<String, ItemRules>,
}

impl ValidatedGroup {
    /// Returns the rules for an item.
    pub fn rules(&self, item: &str) -> &ItemRules {
        self.items.get(item).unwrap_or(&self.defaults)
    }
}

/// The annotation that paused a group before `spec.suspend` existed.
pub const PAUSED: &str = "pause_new_jobs";

/// Returns the reason if the user suspended the group.
pub fn suspended(group: &OaatGroup) -> Option<&'static str> {
    if group.spec.suspend {
        return Some("spec.suspend is true; no item starts until it is false");
    }
    let paused = group.metadata.annotations.as_ref()?.get(PAUSED)?;
    let off = ["", "no", "false", "off", "0"];
    // Only the beginning of a long value matters.
    let paused = clean(paused, 16);
    (!off.iter().any(|off| off.eq_ignore_ascii_case(&paused))).then_some(
        "the annotation pause_new_jobs is set; no item starts until it is removed (spec.suspend does the same)",
    )
}

/// The maximum number of items of a group.
pub const MAX_ITEMS: usize = 2000;
/// The maximum length of all item names of a group together, in bytes, so that its status fits into
/// an object. See [`crate::text`] for the calculation.
pub const MAX_BYTES: usize = 120_000;
/// The maximum length of an item name in characters.
pub const MAX_ITEM: usize = 300;
/// The maximum number of different OaatTypes in `itemOptions`. Each is read in every reconcile.
pub const MAX_ITEM_TYPES: usize = 20;

/// Validates the spec of a group.
///
/// # Errors
/// Returns up to ten errors, not only the first.
pub fn validate(spec: &OaatGroupSpec) -> Result<ValidatedGroup, Vec<FieldError>> {
    let mut errors = Errors::default();
    let minutes = |n: u64| Duration::from_secs(60 * n);
    let mut or_default = |field: &str, given: &Option<String>, default: Duration, zero: bool| {
        errors.or(default, duration(field, given, default, zero))
    };
    let frequency = or_default("frequency", &spec.frequency, minutes(60), false);
    let cool_off = or_default("failureCoolOff", &spec.failure_cool_off, minutes(0), true);
    let start_timeout = or_default("startTimeout", &spec.start_timeout, minutes(15), true);
    let run_timeout = or_default("runTimeout", &spec.run_timeout, Duration::ZERO, true);
    let pod_retention = or_default("podRetention", &spec.pod_retention, minutes(12 * 60), true);
    let mut schedules = Schedules::default();
    let recurrence = match &spec.schedule {
        _ if spec.each_once => Recurrence::Once,
        Some(schedule) => {
            if spec.frequency.is_some() {
                errors.add(FieldError::conflict("schedule", FREQUENCY_AND_SCHEDULE));
            }
            let default = Recurrence::Frequency(frequency);
            errors.or(default, schedules.recurrence("schedule", schedule))
        }
        None => Recurrence::Frequency(frequency),
    };
    let defaults = ItemRules {
        recurrence,
        cool_off,
        run_timeout,
        max_failures: max_failures("maxFailures", spec.max_failures, None, &mut errors),
        suspended: false,
    };
    let items = item_options(&spec.item_options, &defaults, schedules, &mut errors);
    let item_types = spec.item_types().len();
    if item_types > MAX_ITEM_TYPES {
        let size = format!("{item_types} different values of oaatType");
        let most = format!("{MAX_ITEM_TYPES}; use several groups");
        let problem = FieldProblem::TooLong { size, most };
        errors.add(FieldError::new("itemOptions", problem));
    }
    let windows = blackout_windows(&spec.blackout_windows, &mut errors);
    item_names(&spec.oaat_items, &mut errors);
    let sources = items_from(&spec.items_from, &mut errors);
    if let Some(policy) = &spec.policy {
        policy_sources(policy, &mut errors);
    }
    let limit = spec.pod_history_limit.unwrap_or(100);
    let pod_history_limit = usize::try_from(limit)
        .map_err(|_| FieldError::out_of_range("podHistoryLimit", &limit.to_string(), "0 or more"));
    let pod_history_limit = errors.or(100, pod_history_limit);
    if !errors.0.is_empty() {
        return Err(below("spec", errors.0));
    }
    Ok(ValidatedGroup {
        start_timeout: Some(start_timeout).filter(|timeout| !timeout.is_zero()),
        pod_retention,
        pod_history_limit,
        windows,
        sources,
        defaults,
        items,
    })
}

fn blackout_windows(given: &[BlackoutWindow], errors: &mut Errors) -> Vec<Window> {
    let mut windows = Vec::new();
    for (index, window) in given.iter().enumerate() {
        let open = Some(window.duration.clone());
        let read = duration("duration", &open, Duration::ZERO, false).and_then(|open| {
            if open > windows::MAX_DURATION {
                let range = "at most one year";
                return Err(FieldError::out_of_range(
                    "duration",
                    &window.duration,
                    range,
                ));
            }
            Window::read(window, open)
        });
        match read {
            Ok(window) => windows.push(window),
            Err(error) => errors.add(error.below(&format!("blackoutWindows[{index}]"))),
        }
    }
    windows
}

/// Checks that the policy and its shadow each have one source.
fn policy_sources(policy: &PolicySpec, errors: &mut Errors) {
    let mut check = |field: &str, config_map: bool, built_in: bool| {
        if config_map == built_in {
            let count = if built_in { "both" } else { "neither" };
            let why = format!("has {count} of configMap and builtIn; set exactly one of them");
            errors.add(FieldError::conflict(field, why));
        }
    };
    check(
        "policy",
        policy.config_map.is_some(),
        policy.built_in.is_some(),
    );
    if let Some(shadow) = &policy.shadow {
        check(
            "policy.shadow",
            shadow.config_map.is_some(),
            shadow.built_in.is_some(),
        );
    }
}

fn item_names(items: &[String], errors: &mut Errors) {
    let mut too_long = |size: String, most: String| {
        let problem = FieldProblem::TooLong { size, most };
        errors.add(FieldError::new("oaatItems", problem));
    };
    if items.len() > MAX_ITEMS {
        too_long(format!("{} items", items.len()), MAX_ITEMS.to_string());
    }
    let bytes: usize = items.iter().map(String::len).sum();
    if bytes > MAX_BYTES {
        let most = format!("{MAX_BYTES}; use shorter names, or several groups");
        too_long(format!("{bytes} bytes in all names together"), most);
    }
    let mut seen = HashSet::new();
    for (index, item) in items.iter().enumerate() {
        let field = || format!("oaatItems[{index}]");
        let length = item.chars().count();
        if length == 0 || length > MAX_ITEM {
            let range = format!("1 to {MAX_ITEM} characters long, but has {length}");
            errors.add(FieldError::out_of_range(field(), item, range));
        } else if item.chars().any(char::is_control) {
            let (why, fix) = (
                "not a name, because it contains a control character",
                "use one line of plain text",
            );
            errors.add(FieldError::invalid(field(), item, why, fix));
        } else if !seen.insert(item) {
            errors.add(FieldError::duplicate(field(), item));
        }
        if errors.0.len() >= MAX_ERRORS {
            return;
        }
    }
}
