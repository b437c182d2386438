//! From a group as written to a group as meant, or all that is wrong with it.
//!
//! The API server checks most of this at admission. It is checked here again because
//! an object may be older than the rule, and because a rule of the schema is a
//! pattern where this is the parser itself.

use crate::api::{
    BlackoutWindow, ItemOptions, ItemsFrom, ItemsHttp, OaatGroup, OaatGroupSpec, OaatTypeSpec,
};
use crate::items::{self, SourceRules};
use crate::text::{self, clean};
use crate::windows::{self, Window};
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

/// A spec, understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Valid {
    /// How long a pod may take to start; `None`: for ever.
    pub start_timeout: Option<Duration>,
    /// How long finished pods are kept.
    pub pod_retention: Duration,
    /// How many finished pods are kept.
    pub pod_history_limit: usize,
    /// When nothing is started.
    pub windows: Vec<Window>,
    /// How each source of items is read, in the order of the spec.
    pub sources: Vec<SourceRules>,
    /// What holds for all items that have nothing of their own.
    pub each: ItemRules,
    /// What holds for single items.
    pub items: BTreeMap<String, ItemRules>,
}

/// What holds for an item.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ItemRules {
    /// How often it must succeed; `None`: once.
    pub frequency: Option<Duration>,
    /// How long it rests after a failure.
    pub cool_off: Duration,
    /// It is not to be started.
    pub suspended: bool,
}

impl Valid {
    /// What holds for an item.
    pub fn rules(&self, item: &str) -> ItemRules {
        self.items.get(item).copied().unwrap_or(self.each)
    }
}

/// The annotation by which groups were paused before there was `spec.suspend`.
pub const PAUSED: &str = "pause_new_jobs";

/// Why nothing new is to be started, where the user wants it so.
pub fn suspended(group: &OaatGroup) -> Option<&'static str> {
    if group.spec.suspend {
        return Some("spec.suspend is true; nothing new is started until it is false");
    }
    let paused = group.metadata.annotations.as_ref()?.get(PAUSED)?;
    let no = ["", "no", "false", "off", "0"];
    // Only the beginning of a long text matters.
    let paused = clean(paused, 16);
    (!no.iter().any(|no| no.eq_ignore_ascii_case(&paused))).then_some(
        "the annotation pause_new_jobs is set; nothing new is started until it is taken away (spec.suspend does the same)",
    )
}

/// Longest duration: a hundred years, so that every time that follows from it can be
/// written down.
const LONGEST: Duration = Duration::from_secs(100 * 31_557_600);
/// The maximum length of a duration in bytes, as in the schema.
const LONGEST_TEXT: usize = 64;
/// Most items of a group.
pub const MAX_ITEMS: usize = 2000;
/// The maximum bytes of all item names of a group in total, so that its status fits into an object.
/// [`crate::text`] explains the sum.
pub const MAX_BYTES: usize = 120_000;
/// Longest item in characters.
pub const MAX_ITEM: usize = 300;
/// Most problems that are told.
const MOST: usize = 10;

/// Understands a spec, or says in one sentence each what is wrong with it.
///
/// # Errors
/// All problems, not only the first.
pub fn validate(spec: &OaatGroupSpec) -> Result<Valid, Vec<String>> {
    let mut problems = Vec::new();
    let minutes = |n: u64| Duration::from_secs(60 * n);
    let mut duration = |field: &str, given: &Option<String>, default: Duration, zero: bool| {
        understood(field, given, default, zero).unwrap_or_else(|problem| {
            problems.push(problem);
            default
        })
    };
    let frequency = duration("frequency", &spec.frequency, minutes(60), false);
    let each = ItemRules {
        frequency: Some(frequency).filter(|_| !spec.each_once),
        cool_off: duration(
            "failureCoolOff",
            &spec.failure_cool_off,
            Duration::ZERO,
            true,
        ),
        suspended: false,
    };
    let start_timeout = duration("startTimeout", &spec.start_timeout, minutes(15), true);
    let pod_retention = duration("podRetention", &spec.pod_retention, minutes(12 * 60), true);
    let items = item_options(&spec.item_options, each, &mut problems);
    let windows = blackout_windows(&spec.blackout_windows, &mut problems);
    names(&spec.oaat_items, &mut problems);
    let sources = items_from(&spec.items_from, &mut problems);
    let limit = spec.pod_history_limit.unwrap_or(100);
    let pod_history_limit = usize::try_from(limit).unwrap_or_else(|_| {
        problems.push(format!("podHistoryLimit is {limit}; it must be 0 or more"));
        100
    });
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Valid {
        start_timeout: Some(start_timeout).filter(|timeout| !timeout.is_zero()),
        pod_retention,
        pod_history_limit,
        windows,
        sources,
        each,
        items,
    })
}

/// A duration as it is meant.
fn understood(
    field: &str,
    given: &Option<String>,
    default: Duration,
    zero: bool,
) -> Result<Duration, String> {
    let Some(text) = given else {
        return Ok(default);
    };
    let longest = || {
        let text = clean(text, LONGEST_TEXT);
        format!("{field} is {text:?}; it must be at most 100years")
    };
    if too_long(text) {
        return Err(longest());
    }
    match humantime::parse_duration(text.trim()) {
        Ok(parsed) if parsed > LONGEST => Err(longest()),
        Ok(parsed) if parsed >= Duration::from_millis(1) || (zero && parsed.is_zero()) => {
            Ok(parsed)
        }
        Ok(_) => Err(format!(
            "{field} is {text:?}; it must be at least 1ms, such as 5m"
        )),
        Err(error) => Err(format!(
            "{field} is {text:?}, which is no duration ({error}); write it like 5m, 1h 30m or 2days"
        )),
    }
}

fn blackout_windows(given: &[BlackoutWindow], problems: &mut Vec<String>) -> Vec<Window> {
    let mut windows = Vec::new();
    for (index, window) in given.iter().enumerate() {
        let field = format!("blackoutWindows[{index}]");
        let duration = Some(window.duration.clone());
        let read = understood(
            &format!("{field}.duration"),
            &duration,
            Duration::ZERO,
            false,
        )
        .and_then(|duration| {
            if duration > windows::LONGEST {
                return Err(format!(
                    "{field}.duration is {:?}; it must be at most a year",
                    window.duration
                ));
            }
            Window::read(window, duration).map_err(|problem| format!("{field}.{problem}"))
        });
        match read {
            Ok(window) => windows.push(window),
            Err(problem) if problems.len() < MOST => problems.push(problem),
            Err(_) => {}
        }
    }
    windows
}

/// Shortest time between two readings of a source.
const SHORTEST_REFRESH: Duration = Duration::from_secs(10);
/// Longest time that a web server may take.
const LONGEST_ANSWER: Duration = Duration::from_secs(60);

fn items_from(given: &[ItemsFrom], problems: &mut Vec<String>) -> Vec<SourceRules> {
    let mut rules = Vec::new();
    for (index, source) in given.iter().enumerate() {
        match source_rules(source) {
            Ok(understood) => rules.push(understood),
            Err(wrong) if problems.len() < MOST => {
                problems.extend(wrong.iter().map(|w| format!("itemsFrom[{index}].{w}")));
            }
            Err(_) => {}
        }
        if given[..index].iter().any(|other| other.name == source.name) {
            problems.push(format!(
                "itemsFrom[{index}].name ({:?}) is there twice; each source has a name of its own",
                source.name
            ));
        }
    }
    rules
}

/// How a source of items is read.
///
/// # Errors
/// All that is wrong with it; each names the field first.
pub fn source_rules(source: &ItemsFrom) -> Result<SourceRules, Vec<String>> {
    let mut problems = Vec::new();
    let kinds = [
        source.config_map.is_some(),
        source.container.is_some(),
        source.http.is_some(),
    ];
    if kinds.iter().filter(|there| **there).count() != 1 {
        return Err(vec![format!(
            "name ({:?}) has {} of configMap, container and http; it must have exactly one",
            source.name,
            kinds.iter().filter(|there| **there).count()
        )]);
    }
    let none = (&None, &None);
    let (kind, (refresh, timeout)) = match (&source.container, &source.http) {
        (Some(container), _) => {
            let wrong = items::problems(container);
            problems.extend(wrong.iter().map(|w| format!("container.podspec: {w}")));
            ("container", (&container.refresh, &container.timeout))
        }
        (_, Some(http)) => {
            problems.extend(items::http_problems(http));
            ("http", (&http.refresh, &None))
        }
        _ => ("configMap", none),
    };
    let mut duration = |field: &str, given: &Option<String>, usual: u64| {
        let usual = Duration::from_secs(usual);
        let field = format!("{kind}.{field}");
        understood(&field, given, usual, false).unwrap_or_else(|problem| {
            problems.push(problem);
            usual
        })
    };
    let mut rules = SourceRules {
        refresh: duration("refresh", refresh, 600),
        timeout: duration("timeout", timeout, 300),
    };
    if let Some(given) = refresh
        && rules.refresh < SHORTEST_REFRESH
    {
        problems.push(format!(
            "{kind}.refresh is {given:?}; it must be at least 10s"
        ));
    }
    if let Some(http) = &source.http {
        match answer_timeout(http) {
            Ok(timeout) => rules.timeout = timeout + items::POD_START,
            Err(problem) => problems.push(problem),
        }
    }
    match problems.as_slice() {
        [] => Ok(rules),
        _ => Err(problems),
    }
}

/// Returns the time that a web server may take to answer.
///
/// # Errors
/// What is wrong with `http.timeout`.
pub fn answer_timeout(http: &ItemsHttp) -> Result<Duration, String> {
    let usual = Duration::from_secs(30);
    let timeout = understood("http.timeout", &http.timeout, usual, false)?;
    match &http.timeout {
        Some(given) if timeout > LONGEST_ANSWER => {
            Err(format!("http.timeout is {given:?}; it must be at most 1m"))
        }
        _ => Ok(timeout),
    }
}

fn item_options(
    options: &BTreeMap<String, ItemOptions>,
    each: ItemRules,
    problems: &mut Vec<String>,
) -> BTreeMap<String, ItemRules> {
    let mut rules = BTreeMap::new();
    for (name, options) in options {
        let mut duration = |field: &str, given: &Option<String>, default: Duration, zero: bool| {
            understood(field, given, default, zero).unwrap_or_else(|problem| {
                if problems.len() < MOST {
                    problems.push(format!("itemOptions[{:?}].{problem}", text::name(name)));
                }
                default
            })
        };
        let own = ItemRules {
            frequency: each
                .frequency
                .map(|each| duration("frequency", &options.frequency, each, false)),
            cool_off: duration(
                "failureCoolOff",
                &options.failure_cool_off,
                each.cool_off,
                true,
            ),
            suspended: options.suspend,
        };
        if own != each {
            rules.insert(name.clone(), own);
        }
        let mut seen = HashSet::new();
        for (index, variable) in options.env.iter().enumerate() {
            let twice = !seen.insert(&variable.name);
            let wrong = match variable.name.as_str() {
                "OAAT_ITEM" => "is set by the operator",
                "" => "has no name",
                name if name.contains(['=', '\0']) => "has a name that cannot be",
                _ if twice => "is there twice",
                _ => continue,
            };
            if problems.len() < MOST {
                problems.push(format!(
                    "itemOptions[{:?}].env[{index}] ({:?}) {wrong}",
                    text::name(name),
                    text::name(&variable.name)
                ));
            }
        }
    }
    rules
}

/// Whether a duration is written with more digits than any sensible one has. The parser panics
/// where a sum comes to the last second that it can count, which takes more than this.
fn too_long(text: &str) -> bool {
    let digits = text.split(|c: char| !c.is_ascii_digit()).map(str::len);
    text.len() > LONGEST_TEXT || digits.max().is_some_and(|digits| digits > 11)
}

fn names(items: &[String], problems: &mut Vec<String>) {
    if items.len() > MAX_ITEMS {
        problems.push(format!(
            "oaatItems has {} items; at most {MAX_ITEMS} are possible",
            items.len()
        ));
    }
    let bytes: usize = items.iter().map(String::len).sum();
    if bytes > MAX_BYTES {
        problems.push(format!(
            "the names in oaatItems have {bytes} bytes together; at most {MAX_BYTES} are possible, so that \
             the status has room for each of them: use shorter names, or several groups"
        ));
    }
    let mut seen = HashSet::new();
    for (index, item) in items.iter().enumerate() {
        let length = item.chars().count();
        if length == 0 || length > MAX_ITEM {
            problems.push(format!(
                "oaatItems[{index}] has {length} characters; an item has 1 to {MAX_ITEM}"
            ));
        } else if item.chars().any(char::is_control) {
            problems.push(format!(
                "oaatItems[{index}] ({:?}) has a control character in it",
                text::name(item)
            ));
        } else if !seen.insert(item) {
            problems.push(format!(
                "oaatItems[{index}] ({:?}) is there twice; an item may be listed once",
                text::name(item)
            ));
        }
        if problems.len() >= MOST {
            return;
        }
    }
}

/// What is wrong with a type, as far as that can be told without an API server.
pub fn validate_type(spec: &OaatTypeSpec) -> Vec<String> {
    let mut problems = Vec::new();
    if spec.type_ != "pod" {
        let type_ = text::name(&spec.type_);
        problems.push(format!("type is {type_:?}; it must be pod"));
    }
    let Some(pod) = &spec.podspec else {
        problems.push("podspec is missing: say what to run".into());
        return problems;
    };
    let listed = pod.get("containers").and_then(|list| list.as_array());
    match (pod.get("container"), listed) {
        (None, None) => problems.push("podspec needs a container".into()),
        (None, Some(list)) if list.is_empty() => problems.push("podspec needs a container".into()),
        (Some(_), Some(_)) => {
            problems.push("podspec has both container and containers; keep one of them".into())
        }
        _ => {}
    }
    if let Some(policy) = pod.get("restartPolicy")
        && policy != "Never"
    {
        let policy = text::name(&policy.to_string());
        problems.push(format!(
            "restartPolicy is {policy}; it must be Never or left out"
        ));
    }
    problems
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
    fn what_is_left_out_has_its_default() {
        let valid = validate(&spec(json!({})));
        assert_eq!(
            valid,
            Ok(Valid {
                start_timeout: Some(Duration::from_secs(900)),
                pod_retention: Duration::from_secs(43200),
                pod_history_limit: 100,
                windows: Vec::new(),
                sources: Vec::new(),
                each: ItemRules {
                    frequency: Some(Duration::from_secs(3600)),
                    cool_off: Duration::ZERO,
                    suspended: false,
                },
                items: BTreeMap::new(),
            })
        );
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, seconds) in [
            ("5m", 300),
            ("1h 30m", 5400),
            ("2days", 172_800),
            (" 90s ", 90),
        ] {
            let valid = validate(&spec(json!({"frequency": text})));
            assert_eq!(
                valid.map(|v| v.each.frequency),
                Ok(Some(Duration::from_secs(seconds))),
                "{text}"
            );
        }
        let never = validate(&spec(json!({"startTimeout": "0s"})));
        assert_eq!(never.map(|v| v.start_timeout), Ok(None));
    }

    #[test]
    fn every_problem_names_the_field_and_what_was_given() {
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
                vec!["blackoutWindows[0].duration", "2y", "at most a year"],
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
                vec![r#"itemOptions["a"].env[1]"#, "there twice"],
            ),
            (
                json!({"oaatItems": ["a", "b", "a"]}),
                vec!["oaatItems[2]", "twice"],
            ),
            (json!({"oaatItems": [""]}), vec!["oaatItems[0]", "1 to 300"]),
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
            let problems = validate(&spec(more.clone()))
                .err()
                .unwrap_or_default()
                .join("; ");
            for word in words {
                assert!(problems.contains(word), "{more}: {problems}");
            }
        }
    }

    #[test]
    fn what_an_item_has_of_its_own_goes_before_the_groups() {
        let options = json!({
            "frequency": "2h", "failureCoolOff": "1m",
            "itemOptions": { "a": { "frequency": "5m" }, "b": { "suspend": true }, "c": {} },
        });
        let rules = |frequency: u64, suspended: bool| ItemRules {
            frequency: Some(Duration::from_secs(frequency)),
            cool_off: Duration::from_secs(60),
            suspended,
        };
        let valid = validate(&spec(options.clone())).unwrap_or_else(|e| panic!("{e:?}"));
        assert_eq!(valid.rules("a"), rules(300, false));
        assert_eq!(valid.rules("b"), rules(7200, true));
        assert_eq!(valid.rules("c"), rules(7200, false));
        assert_eq!(valid.items.len(), 2);
        let mut once = options;
        once["eachOnce"] = json!(true);
        let valid = validate(&spec(once)).unwrap_or_else(|e| panic!("{e:?}"));
        assert_eq!(valid.rules("a").frequency, None);
        assert_eq!(valid.each.frequency, None);
    }

    #[test]
    fn a_group_is_suspended_by_its_spec_or_as_it_used_to_be() {
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
    fn all_problems_are_told_at_once() {
        let problems = validate(&spec(json!({"frequency": "x", "podRetention": "y"})));
        assert_eq!(problems.map_err(|p| p.len()), Err(2));
    }
}
