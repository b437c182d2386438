//! Validates the specs of groups and types.
//!
//! The API server checks most of this at admission. The operator checks it again because an object
//! may be older than the rule, and because some schema rules only approximate the parser used here.

mod http;

pub use crate::field_error::{FieldError, FieldProblem};
pub use http::{POD_START, certificates, errors as http_errors};

use crate::text::{self, clean};
use crate::windows::{self, Window};
use crate::{
    BlackoutWindow, CronSchedule, ItemOptions, ItemsContainer, ItemsFrom, ItemsHttp, OaatGroup,
    OaatGroupSpec, OaatTypeSpec, PolicySpec, Schedule,
};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
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

/// When an item must succeed.
#[derive(Clone, Debug, PartialEq)]
pub enum Recurrence {
    /// Once.
    Once,
    /// This often.
    Frequency(Duration),
    /// After each time of a schedule.
    Schedule(Arc<CronSchedule>),
}

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

/// The rules for reading a source of items.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SourceRules {
    /// The time from one attempt to the next.
    pub refresh: Duration,
    /// How long its pod may take from creation to completion.
    pub timeout: Duration,
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

/// The maximum duration: 100 years, so that every time derived from one can be represented.
const MAX_DURATION: Duration = Duration::from_secs(100 * 31_557_600);
/// The maximum length of a duration in bytes, as in the schema.
const MAX_DURATION_TEXT: usize = 64;
/// The maximum number of items of a group.
pub const MAX_ITEMS: usize = 2000;
/// The maximum length of all item names of a group together, in bytes, so that its status fits into
/// an object. See [`crate::text`] for the calculation.
pub const MAX_BYTES: usize = 120_000;
/// The maximum length of an item name in characters.
pub const MAX_ITEM: usize = 300;
/// The maximum number of errors that are collected.
const MAX_ERRORS: usize = 10;
/// The maximum number of different OaatTypes in `itemOptions`. Each is read in every reconcile.
pub const MAX_ITEM_TYPES: usize = 20;
/// The minimum refresh interval of a source.
const MIN_REFRESH: Duration = Duration::from_secs(10);
/// The maximum timeout of a response from a web server.
const MAX_RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// Collects at most [`MAX_ERRORS`] errors.
#[derive(Default)]
struct Errors(Vec<FieldError>);

impl Errors {
    fn add(&mut self, error: FieldError) {
        if self.0.len() < MAX_ERRORS {
            self.0.push(error);
        }
    }

    /// Returns the value. On an error, records it and returns the default.
    fn or<T>(&mut self, default: T, value: Result<T, FieldError>) -> T {
        value.unwrap_or_else(|error| {
            self.add(error);
            default
        })
    }
}

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

fn below(path: &str, errors: Vec<FieldError>) -> Vec<FieldError> {
    errors.into_iter().map(|error| error.below(path)).collect()
}

/// Parses a duration of a field, or returns the default. `zero` allows 0.
fn duration(
    field: &str,
    given: &Option<String>,
    default: Duration,
    zero: bool,
) -> Result<Duration, FieldError> {
    let Some(text) = given else {
        return Ok(default);
    };
    let too_long =
        || FieldError::out_of_range(field, &clean(text, MAX_DURATION_TEXT), "at most 100years");
    if has_too_many_digits(text) {
        return Err(too_long());
    }
    match humantime::parse_duration(text.trim()) {
        Ok(parsed) if parsed > MAX_DURATION => Err(too_long()),
        Ok(parsed) if parsed >= Duration::from_millis(1) || (zero && parsed.is_zero()) => {
            Ok(parsed)
        }
        Ok(_) => Err(FieldError::out_of_range(
            field,
            text,
            "at least 1ms, such as 5m",
        )),
        Err(error) => Err(FieldError::invalid(
            field,
            text,
            format!("not a duration ({error})"),
            "use for example 5m, 1h 30m, or 2days",
        )),
    }
}

/// Returns whether a duration has more digits than any useful one. The parser panics if the sum
/// overflows, which takes more digits than this.
fn has_too_many_digits(text: &str) -> bool {
    let digits = text.split(|c: char| !c.is_ascii_digit()).map(str::len);
    text.len() > MAX_DURATION_TEXT || digits.max().is_some_and(|digits| digits > 11)
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

fn items_from(given: &[ItemsFrom], errors: &mut Errors) -> Vec<SourceRules> {
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

/// The error if options contain a frequency and a schedule.
const FREQUENCY_AND_SCHEDULE: &str = "cannot be combined with frequency; remove one of them";
/// The maximum number of different schedules of a group. They are parsed for every reconcile.
const MAX_SCHEDULES: usize = 100;

/// The parsed schedules of a group. Items with the same schedule share it.
#[derive(Default)]
struct Schedules(BTreeMap<(String, Option<String>), Result<Arc<CronSchedule>, FieldError>>);

impl Schedules {
    /// Parses the schedule in a field.
    fn recurrence(&mut self, field: &str, schedule: &Schedule) -> Result<Recurrence, FieldError> {
        let key = (schedule.cron.clone(), schedule.time_zone.clone());
        if self.0.len() >= MAX_SCHEDULES && !self.0.contains_key(&key) {
            let size = format!("one of more than {MAX_SCHEDULES} different schedules of the group");
            let most = format!("{MAX_SCHEDULES}; use several groups");
            let problem = FieldProblem::TooLong { size, most };
            return Err(FieldError::new(field, problem));
        }
        // Invalid schedules count as well, because finding that out takes as long.
        let parsed = self.0.entry(key).or_insert_with(|| {
            let zone = schedule.time_zone.as_deref();
            CronSchedule::parse("cron", &schedule.cron, zone).map(Arc::new)
        });
        let parsed = parsed.clone().map_err(|error| error.below(field))?;
        Ok(Recurrence::Schedule(parsed))
    }
}

/// Returns the maximum number of failures in a field, or the default.
fn max_failures(
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

fn item_options(
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
        let mut seen = HashSet::new();
        for (index, variable) in options.env.iter().enumerate() {
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
    rules
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

/// Validates a type, as far as possible without an API server.
pub fn validate_type(spec: &OaatTypeSpec) -> Vec<FieldError> {
    below("spec", type_errors(spec))
}

fn type_errors(spec: &OaatTypeSpec) -> Vec<FieldError> {
    const CONTAINER: FieldProblem = FieldProblem::Missing {
        fix: "add for example container: {name: main, image: busybox, command: [\"true\"]}",
    };
    let mut errors = Vec::new();
    if spec.type_ != "pod" {
        errors.push(FieldError::out_of_range("type", &spec.type_, "\"pod\""));
    }
    let Some(pod) = &spec.podspec else {
        let fix = "add for example podspec: {container: {name: main, image: busybox, command: [\"true\"]}}";
        errors.push(FieldError::new("podspec", FieldProblem::Missing { fix }));
        return errors;
    };
    let listed = pod.get("containers").and_then(|list| list.as_array());
    match (pod.get("container"), listed) {
        (None, None) => errors.push(FieldError::new("podspec.container", CONTAINER)),
        (None, Some(list)) if list.is_empty() => {
            errors.push(FieldError::new("podspec.container", CONTAINER));
        }
        (Some(_), Some(_)) => {
            let why = "has both container and containers; remove one of them";
            errors.push(FieldError::conflict("podspec", why));
        }
        _ => {}
    }
    completion_containers(&spec.completion_containers, pod, &mut errors);
    if let Some(policy) = pod.get("restartPolicy")
        && policy != "Never"
    {
        let policy = policy
            .as_str()
            .map_or_else(|| policy.to_string(), Into::into);
        let range = "Never or omitted";
        errors.push(FieldError::out_of_range(
            "podspec.restartPolicy",
            &policy,
            range,
        ));
    }
    errors
}

/// Validates `completionContainers`, which must name containers of the pod: without all of them, a
/// run would never end.
fn completion_containers(named: &[String], pod: &Map<String, Value>, errors: &mut Vec<FieldError>) {
    let listed = pod.get("containers").and_then(Value::as_array);
    let containers = listed.into_iter().flatten().chain(pod.get("container"));
    let names: Vec<_> = containers.filter_map(|c| c["name"].as_str()).collect();
    for (index, name) in named.iter().enumerate().take(MAX_ERRORS) {
        let field = format!("completionContainers[{index}]");
        if named[..index].contains(name) {
            errors.push(FieldError::duplicate(field, name));
        } else if !names.contains(&name.as_str()) {
            let fix = format!("use one of {}", text::list(&names, ", ", text::NAME));
            let why = "not a container of the podspec";
            errors.push(FieldError::invalid(field, name, why, fix));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;
    use serde_json::json;

    fn spec(more: serde_json::Value) -> OaatGroupSpec {
        let mut whole = json!({"oaatType": "t", "oaatItems": ["a"]});
        if let (Some(whole), Some(more)) = (whole.as_object_mut(), more.as_object()) {
            whole.extend(more.clone());
        }
        serde_json::from_value(whole).unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn omitted_fields_have_their_defaults() {
        let valid = validate(&spec(json!({})));
        assert_eq!(
            valid,
            Ok(ValidatedGroup {
                start_timeout: Some(Duration::from_secs(900)),
                pod_retention: Duration::from_secs(43200),
                pod_history_limit: 100,
                windows: Vec::new(),
                sources: Vec::new(),
                defaults: ItemRules {
                    recurrence: Recurrence::Frequency(Duration::from_secs(3600)),
                    cool_off: Duration::ZERO,
                    run_timeout: Duration::ZERO,
                    max_failures: None,
                    suspended: false,
                },
                items: BTreeMap::new(),
            })
        );
    }

    #[test]
    fn durations_are_parsed() {
        for (text, seconds) in [
            ("5m", 300),
            ("1h 30m", 5400),
            ("2days", 172_800),
            (" 90s ", 90),
        ] {
            let valid = validate(&spec(json!({"frequency": text})));
            assert_eq!(
                valid.map(|v| v.defaults.recurrence),
                Ok(Recurrence::Frequency(Duration::from_secs(seconds))),
                "{text}"
            );
        }
        let never = validate(&spec(json!({"startTimeout": "0s"})));
        assert_eq!(never.map(|v| v.start_timeout), Ok(None));
    }

    #[test]
    fn errors_name_the_field_and_the_value() {
        let cases = [
            (
                json!({"frequency": "banana"}),
                vec!["frequency", "banana", "5m"],
            ),
            (json!({"frequency": "0s"}), vec!["frequency", "0s"]),
            (
                json!({"frequency": "100000y"}),
                vec!["frequency", "100000y", "at most 100years"],
            ),
            (
                json!({"frequency": "99999999999999999999y"}),
                vec!["frequency", "999"],
            ),
            (
                json!({"podRetention": "18446744073709551615s 1000ms"}),
                vec!["podRetention", "at most 100years"],
            ),
            (
                json!({"failureCoolOff": "-5m"}),
                vec!["failureCoolOff", "-5m"],
            ),
            (
                json!({"podHistoryLimit": -1}),
                vec!["podHistoryLimit", "-1"],
            ),
            (
                json!({"blackoutWindows": [{"schedule": "0 0 * * *", "duration": "never"}]}),
                vec!["blackoutWindows[0].duration", "never", "5m"],
            ),
            (
                json!({"blackoutWindows": [{"schedule": "0 0 * * *", "duration": "2y"}]}),
                vec!["blackoutWindows[0].duration", "2y", "at most one year"],
            ),
            (
                json!({"blackoutWindows": [{"schedule": "0 25 * * *", "duration": "1h"}]}),
                vec!["blackoutWindows[0].schedule", "0 25 * * *", "five fields"],
            ),
            (
                json!({"itemOptions": {"a": {"frequency": "soon"}}}),
                vec![r#"itemOptions["a"].frequency"#, "soon", "5m"],
            ),
            (
                json!({"schedule": {"cron": "0 25 * * *"}}),
                vec!["spec.schedule.cron", "0 25 * * *", "five fields"],
            ),
            (
                json!({"schedule": {"cron": "0 2 * * *"}, "frequency": "1h"}),
                vec!["spec.schedule: cannot be combined with frequency"],
            ),
            (
                json!({"itemOptions": {"a": {"schedule": {"cron": "0 2 * * *", "timeZone": "X"}}}}),
                vec![r#"itemOptions["a"].schedule.timeZone"#, "Europe/Berlin"],
            ),
            (
                json!({"itemOptions": (0..101).map(|n| {
                    let cron = format!("{} {} * * *", n % 60, n / 60);
                    (n.to_string(), json!({"schedule": {"cron": cron}}))
                }).collect::<serde_json::Map<_, _>>()}),
                vec!["100", "several groups"],
            ),
            (
                json!({"itemOptions": (0..200).map(|n| {
                    let cron = format!("{} {} 31 2 *", n % 60, n / 60);
                    (n.to_string(), json!({"schedule": {"cron": cron}}))
                }).collect::<serde_json::Map<_, _>>()}),
                vec!["never occurs"],
            ),
            (
                json!({"maxFailures": 0}),
                vec!["spec.maxFailures", "1 or more"],
            ),
            (
                json!({"itemOptions": {"a": {"env": [{"name": "OAAT_ITEM"}]}}}),
                vec![r#"itemOptions["a"].env[0]"#, "set by the operator"],
            ),
            (
                json!({"itemOptions": {"a": {"env": [{"name": "X"}, {"name": "X"}]}}}),
                vec![r#"itemOptions["a"].env[1]"#, "twice"],
            ),
            (
                json!({"oaatItems": ["a", "b", "a"]}),
                vec!["oaatItems[2]", "twice"],
            ),
            (
                json!({"oaatItems": [""]}),
                vec!["oaatItems[0]", "1 to 300 characters"],
            ),
            (
                json!({"oaatItems": ["a\nb"]}),
                vec!["oaatItems[0]", "control"],
            ),
            (json!({"oaatItems": vec!["x"; 2001]}), vec!["2001", "2000"]),
            (
                json!({"oaatItems": (0..1200).map(|i| format!("{i:0300}")).collect::<Vec<_>>()}),
                vec!["360000 bytes", "120000"],
            ),
        ];
        for (more, words) in cases {
            let problems = summary(&validate(&spec(more.clone())).err().unwrap_or_default());
            for word in words {
                assert!(problems.contains(word), "{more}: {problems}");
            }
        }
    }

    #[test]
    fn item_options_override_the_group() {
        let options = json!({
            "frequency": "2h", "failureCoolOff": "1m", "runTimeout": "6h",
            "itemOptions": {
                "a": { "frequency": "5m" }, "b": { "suspend": true, "runTimeout": "0s" }, "c": {},
            },
        });
        let rules = |frequency: u64, hours: u64, suspended: bool| ItemRules {
            recurrence: Recurrence::Frequency(Duration::from_secs(frequency)),
            cool_off: Duration::from_secs(60),
            run_timeout: Duration::from_secs(hours * 3600),
            max_failures: None,
            suspended,
        };
        let valid = validate(&spec(options.clone())).unwrap_or_else(|e| panic!("{e:?}"));
        assert_eq!(valid.rules("a"), &rules(300, 6, false));
        assert_eq!(valid.rules("b"), &rules(7200, 0, true));
        assert_eq!(valid.rules("c"), &rules(7200, 6, false));
        assert_eq!(valid.items.len(), 2);
        let mut once = options;
        once["eachOnce"] = json!(true);
        let valid = validate(&spec(once)).unwrap_or_else(|e| panic!("{e:?}"));
        assert_eq!(valid.rules("a").recurrence, Recurrence::Once);
        assert_eq!(valid.defaults.recurrence, Recurrence::Once);
    }

    #[test]
    fn item_option_takes_precedence_over_frequency_and_schedule_of_the_group() {
        let daily = json!({ "cron": "0 2 * * *", "timeZone": "Europe/Berlin" });
        let valid = validate(&spec(json!({
            "schedule": daily, "maxFailures": 3,
            "itemOptions": {
                "a": { "schedule": daily },
                "b": { "frequency": "5m", "maxFailures": 1 },
                "c": { "schedule": { "cron": "0 3 * * *" } },
            },
        })));
        let valid = valid.unwrap_or_else(|e| panic!("{e:?}"));
        assert_eq!(valid.rules("a"), &valid.defaults);
        let five_minutes = Recurrence::Frequency(Duration::from_secs(300));
        assert_eq!(valid.rules("b").recurrence, five_minutes);
        assert_eq!(valid.rules("b").max_failures, Some(1));
        let Recurrence::Schedule(schedule) = &valid.rules("c").recurrence else {
            panic!("{valid:?}");
        };
        let two = Timestamp(2 * 3_600_000);
        assert_eq!(
            schedule.next_match_after(two),
            Some(Timestamp(3 * 3_600_000))
        );
        assert_eq!(valid.rules("c").max_failures, Some(3));
    }

    #[test]
    fn completion_containers_are_containers_of_the_pod() {
        let spec = |named: &[&str]| -> OaatTypeSpec {
            let containers = json!([{ "name": "main" }, { "name": "proxy" }]);
            serde_json::from_value(json!({
                "type": "pod", "podspec": { "containers": containers },
                "completionContainers": named,
            }))
            .unwrap()
        };
        assert_eq!(validate_type(&spec(&["main"])), []);
        let problems = summary(&validate_type(&spec(&["main", "mian", "main"])));
        assert_eq!(
            problems,
            "spec.completionContainers[1]: \"mian\" is not a container of the podspec; use one of \
             main, proxy; spec.completionContainers[2]: \"main\" is listed twice; remove one of them"
        );
    }

    #[test]
    fn suspend_is_read_from_the_spec_and_the_annotation() {
        let group = |spec: serde_json::Value, annotation: Option<&str>| {
            let mut group = OaatGroup::new("g", self::spec(spec));
            group.metadata.annotations =
                annotation.map(|value| [(PAUSED.to_owned(), value.to_owned())].into());
            suspended(&group).is_some()
        };
        assert!(group(json!({"suspend": true}), None));
        assert!(!group(json!({"suspend": false}), None));
        for (value, paused) in [("yes", true), ("true", true), ("No", false), ("", false)] {
            assert_eq!(group(json!({}), Some(value)), paused, "{value}");
        }
    }

    #[test]
    fn errors_are_reported_together() {
        let problems = validate(&spec(json!({"frequency": "x", "podRetention": "y"})));
        assert_eq!(problems.map_err(|p| p.len()), Err(2));
    }
}
