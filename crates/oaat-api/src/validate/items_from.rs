//! Validates `itemsFrom`.

use super::duration::duration;
use super::errors::Errors;
use super::http::{POD_START, errors as http_errors};
use super::oaat_type::type_errors;
use crate::field_error::FieldError;
use crate::text;
use crate::{ItemsContainer, ItemsFrom, ItemsHttp, OaatTypeSpec};
use std::time::Duration;

/// The rules for reading a source of items.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SourceRules {
    /// The time from one attempt to the next.
    pub refresh: Duration,
    /// How long its pod may take from creation to completion.
    pub timeout: Duration,
}

/// The minimum refresh interval of a source.
const MIN_REFRESH: Duration = Duration::from_secs(10);

/// The maximum timeout of a response from a web server.
const MAX_RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) fn items_from(given: &[ItemsFrom], errors: &mut Errors) -> Vec<SourceRules> {
    let mut rules = Vec::new();
    for (index, source) in given.iter().enumerate() {
        let path = format!("itemsFrom[{index}]");
        match source_rules(source) {
            Ok(source) => rules.push(source),
            Err(invalid) => invalid
                .into_iter()
                .for_each(|error| errors.add(error.below(&path))),
        }
        if given[..index].iter().any(|other| other.name == source.name) {
            errors.add(FieldError::duplicate(format!("{path}.name"), &source.name));
        }
    }
    rules
}

/// Validates a source of items and returns its rules.
///
/// # Errors
/// Returns the invalid fields. Their paths are relative to the source.
fn source_rules(source: &ItemsFrom) -> Result<SourceRules, Vec<FieldError>> {
    let mut errors = Errors::default();
    let kinds = [
        source.config_map.is_some(),
        source.container.is_some(),
        source.http.is_some(),
    ];
    let kinds = kinds.iter().filter(|set| **set).count();
    if kinds != 1 {
        let why = format!(
            "{:?} has {kinds} of configMap, container, and http; set exactly one of them",
            text::name(&source.name)
        );
        return Err(vec![FieldError::conflict("name", why)]);
    }
    let none = (&None, &None);
    let (kind, (refresh, timeout)) = match (&source.container, &source.http) {
        (Some(container), _) => {
            for error in pod_errors(container) {
                errors.add(error.below("container"));
            }
            ("container", (&container.refresh, &container.timeout))
        }
        (_, Some(http)) => {
            for error in http_errors(http) {
                errors.add(error.below("http"));
            }
            ("http", (&http.refresh, &None))
        }
        _ => ("configMap", none),
    };
    let mut or_default = |field: &str, given: &Option<String>, default: u64| {
        let default = Duration::from_secs(default);
        let field = format!("{kind}.{field}");
        errors.or(default, duration(&field, given, default, false))
    };
    let mut rules = SourceRules {
        refresh: or_default("refresh", refresh, 600),
        timeout: or_default("timeout", timeout, 300),
    };
    if let Some(given) = refresh
        && rules.refresh < MIN_REFRESH
    {
        let field = format!("{kind}.refresh");
        errors.add(FieldError::out_of_range(field, given, "at least 10s"));
    }
    if let Some(http) = &source.http {
        let timeout = answer_timeout(http).map(|timeout| timeout + POD_START);
        rules.timeout = errors.or(rules.timeout, timeout);
    }
    if errors.0.is_empty() {
        Ok(rules)
    } else {
        Err(errors.0)
    }
}

/// Returns the timeout of a response from a web server.
///
/// # Errors
/// Returns an error if `http.timeout` is not a duration of 1ms to 1m.
pub fn answer_timeout(http: &ItemsHttp) -> Result<Duration, FieldError> {
    let timeout = duration(
        "http.timeout",
        &http.timeout,
        Duration::from_secs(30),
        false,
    )?;
    match &http.timeout {
        Some(given) if timeout > MAX_RESPONSE_TIMEOUT => Err(FieldError::out_of_range(
            "http.timeout",
            given,
            "at most 1m",
        )),
        _ => Ok(timeout),
    }
}

/// Returns the type of a pod that prints a list of items.
pub fn type_of(container: &ItemsContainer) -> OaatTypeSpec {
    OaatTypeSpec {
        type_: "pod".into(),
        podspec: Some(container.podspec.clone()),
        pod_metadata: None,
        completion_containers: Vec::new(),
    }
}

/// Validates the pod of a source of items, as far as possible without an API server. Paths are
/// relative to `container`.
fn pod_errors(container: &ItemsContainer) -> Vec<FieldError> {
    type_errors(&type_of(container))
}
