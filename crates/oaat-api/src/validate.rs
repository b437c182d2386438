//! Validates the specs of groups and types.
//!
//! The API server checks most of this at admission. The operator checks it again because an object
//! may be older than the rule, and because some schema rules only approximate the parser used here.

mod http;

pub use http::{POD_START, certificates, errors as http_errors};

use crate::text::{self, clean};
use crate::windows::{self, Window};
use crate::{
    BlackoutWindow, ItemOptions, ItemsContainer, ItemsFrom, ItemsHttp, OaatGroup, OaatGroupSpec,
    OaatTypeSpec,
};
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::time::Duration;

/// An invalid field of a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Path of the field, such as `spec.itemsFrom[0].http.url`.
    pub field: String,
    /// What is wrong with the field.
    pub problem: FieldProblem,
}

/// What is wrong with a field, and how to fix it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldProblem {
    /// A required field is missing.
    Missing {
        /// What to add: an imperative without a period.
        fix: &'static str,
    },
    /// The value cannot be parsed.
    Invalid {
        /// The value, cleaned and truncated.
        value: String,
        /// The reason: completes "is …".
        why: String,
        /// What to use instead: an imperative without a period.
        fix: String,
    },
    /// The value is outside its range.
    OutOfRange {
        /// The value, cleaned and truncated.
        value: String,
        /// The range: completes "must be …".
        range: String,
    },
    /// A list or text is too long.
    TooLong {
        /// Its size, with the unit.
        size: String,
        /// The maximum, and how to stay below it.
        most: String,
    },
    /// An entry occurs twice.
    Duplicate {
        /// The entry, cleaned and truncated.
        value: String,
    },
    /// Mutually exclusive fields are set, or none of them is.
    Conflict {
        /// What is wrong, as a clause.
        why: String,
    },
}

impl FieldError {
    fn new(field: impl Into<String>, problem: FieldProblem) -> Self {
        let field = field.into();
        Self { field, problem }
    }

    pub(crate) fn invalid(
        field: impl Into<String>,
        value: &str,
        why: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        let value = text::name(value);
        let (why, fix) = (why.into(), fix.into());
        Self::new(field, FieldProblem::Invalid { value, why, fix })
    }

    fn out_of_range(field: impl Into<String>, value: &str, range: impl Into<String>) -> Self {
        let value = text::name(value);
        let range = range.into();
        Self::new(field, FieldProblem::OutOfRange { value, range })
    }

    fn conflict(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(field, FieldProblem::Conflict { why: why.into() })
    }

    fn duplicate(field: impl Into<String>, value: &str) -> Self {
        let value = text::name(value);
        Self::new(field, FieldProblem::Duplicate { value })
    }

    /// Prepends a path to the path of the field.
    fn below(mut self, path: &str) -> Self {
        self.field = format!("{path}.{}", self.field);
        self
    }
}

impl fmt::Display for FieldProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { fix } => write!(f, "is missing; {fix}"),
            Self::Invalid { value, why, fix } => write!(f, "{value:?} is {why}; {fix}"),
            Self::OutOfRange { value, range } => {
                write!(f, "invalid value {value:?}: must be {range}")
            }
            Self::TooLong { size, most } => write!(f, "has {size}; the maximum is {most}"),
            Self::Duplicate { value } => write!(f, "{value:?} is listed twice; remove one of them"),
            Self::Conflict { why } => f.write_str(why),
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)
    }
}

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

/// The rules for an item.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ItemRules {
    /// How often the item must succeed; `None` if once is enough.
    pub frequency: Option<Duration>,
    /// The cool-off period after a failure.
    pub cool_off: Duration,
    /// How long a run may take; zero means unlimited.
    pub run_timeout: Duration,
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
    pub fn rules(&self, item: &str) -> ItemRules {
        self.items.get(item).copied().unwrap_or(self.defaults)
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
    let defaults = ItemRules {
        frequency: Some(frequency).filter(|_| !spec.each_once),
        cool_off,
        run_timeout,
        suspended: false,
    };
    let items = item_options(&spec.item_options, defaults, &mut errors);
    let windows = blackout_windows(&spec.blackout_windows, &mut errors);
    item_names(&spec.oaat_items, &mut errors);
    let sources = items_from(&spec.items_from, &mut errors);
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

fn item_options(
    options: &BTreeMap<String, ItemOptions>,
    defaults: ItemRules,
    errors: &mut Errors,
) -> BTreeMap<String, ItemRules> {
    let mut rules = BTreeMap::new();
    for (name, options) in options {
        let path = format!("itemOptions[{:?}]", text::name(name));
        let mut or_default = |field: &str, given: &Option<String>, default, zero| {
            let field = format!("{path}.{field}");
            errors.or(default, duration(&field, given, default, zero))
        };
        let own = ItemRules {
            frequency: defaults
                .frequency
                .map(|default| or_default("frequency", &options.frequency, default, false)),
            cool_off: or_default(
                "failureCoolOff",
                &options.failure_cool_off,
                defaults.cool_off,
                true,
            ),
            run_timeout: or_default(
                "runTimeout",
                &options.run_timeout,
                defaults.run_timeout,
                true,
            ),
            suspended: options.suspend,
        };
        if own != defaults {
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

#[cfg(test)]
mod tests {
    use super::*;
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
                    frequency: Some(Duration::from_secs(3600)),
                    cool_off: Duration::ZERO,
                    run_timeout: Duration::ZERO,
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
                valid.map(|v| v.defaults.frequency),
                Ok(Some(Duration::from_secs(seconds))),
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
            frequency: Some(Duration::from_secs(frequency)),
            cool_off: Duration::from_secs(60),
            run_timeout: Duration::from_secs(hours * 3600),
            suspended,
        };
        let valid = validate(&spec(options.clone())).unwrap_or_else(|e| panic!("{e:?}"));
        assert_eq!(valid.rules("a"), rules(300, 6, false));
        assert_eq!(valid.rules("b"), rules(7200, 0, true));
        assert_eq!(valid.rules("c"), rules(7200, 6, false));
        assert_eq!(valid.items.len(), 2);
        let mut once = options;
        once["eachOnce"] = json!(true);
        let valid = validate(&spec(once)).unwrap_or_else(|e| panic!("{e:?}"));
        assert_eq!(valid.rules("a").frequency, None);
        assert_eq!(valid.defaults.frequency, None);
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
