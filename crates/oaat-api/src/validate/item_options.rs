//! Validates the rules for items: the defaults of a group, and `itemOptions`.

use super::duration::duration;
use super::errors::Errors;
use super::recurrence::{FREQUENCY_AND_SCHEDULE, Recurrence, Schedules};
use crate::field_error::FieldError;
use crate::text;
use crate::{ItemOptions, Variable};
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

/// The rules for an item.
#[derive(Clone, Debug, PartialEq)]
pub struct ItemRules {
    /// When the item must succeed.
    pub recurrence: Recurrence,
    /// The cool-off period after a failure.
    pub cool_off: Duration,
    /// How long a run may take; zero means unlimited.
    pub run_timeout: Duration,
    /// The number of failures in a row after which the item gives up.
    pub max_failures: Option<i32>,
    /// Whether the item is suspended.
    pub suspended: bool,
}

/// Returns the maximum number of failures in a field, or the default.
pub(super) fn max_failures(
    field: &str,
    given: Option<i32>,
    default: Option<i32>,
    errors: &mut Errors,
) -> Option<i32> {
    if let Some(invalid) = given.filter(|max| *max < 1) {
        errors.add(FieldError::out_of_range(
            field,
            &invalid.to_string(),
            "1 or more",
        ));
    }
    given.or(default)
}

/// Validates `itemOptions`. Returns the rules that differ from the defaults.
pub(super) fn item_options(
    options: &BTreeMap<String, ItemOptions>,
    defaults: &ItemRules,
    mut schedules: Schedules,
    errors: &mut Errors,
) -> BTreeMap<String, ItemRules> {
    let mut rules = BTreeMap::new();
    for (name, options) in options {
        let path = format!("itemOptions[{:?}]", text::name(name));
        if options.frequency.is_some() && options.schedule.is_some() {
            let field = format!("{path}.schedule");
            errors.add(FieldError::conflict(field, FREQUENCY_AND_SCHEDULE));
        }
        let mut or_default = |field: &str, given: &Option<String>, default, zero| {
            let field = format!("{path}.{field}");
            errors.or(default, duration(&field, given, default, zero))
        };
        let frequency = options.frequency.as_ref().map(|_| {
            let field = &options.frequency;
            or_default("frequency", field, Duration::from_secs(3600), false)
        });
        let (cool_off, run_timeout) = (
            or_default(
                "failureCoolOff",
                &options.failure_cool_off,
                defaults.cool_off,
                true,
            ),
            or_default(
                "runTimeout",
                &options.run_timeout,
                defaults.run_timeout,
                true,
            ),
        );
        let recurrence = match (&defaults.recurrence, frequency, &options.schedule) {
            (Recurrence::Once, ..) => Recurrence::Once,
            (_, Some(frequency), _) => Recurrence::Frequency(frequency),
            (default, None, Some(schedule)) => {
                let parsed = schedules.recurrence(&format!("{path}.schedule"), schedule);
                errors.or(default.clone(), parsed)
            }
            (default, None, None) => default.clone(),
        };
        let field = format!("{path}.maxFailures");
        let own = ItemRules {
            recurrence,
            cool_off,
            run_timeout,
            max_failures: max_failures(&field, options.max_failures, defaults.max_failures, errors),
            suspended: options.suspend,
        };
        if own != *defaults {
            rules.insert(name.clone(), own);
        }
        environment(&path, &options.env, errors);
    }
    rules
}

/// Validates the environment variables of an item.
fn environment(path: &str, variables: &[Variable], errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (index, variable) in variables.iter().enumerate() {
        let field = format!("{path}.env[{index}].name");
        let name = &variable.name;
        if name == "OAAT_ITEM" {
            let fix = "use another name, for example LEVEL";
            errors.add(FieldError::invalid(field, name, "set by the operator", fix));
        } else if name.is_empty() || name.contains(['=', '\0']) {
            let (why, fix) = (
                "not the name of an environment variable",
                "use for example LEVEL",
            );
            errors.add(FieldError::invalid(field, name, why, fix));
        } else if !seen.insert(name) {
            errors.add(FieldError::duplicate(field, name));
        }
    }
}
