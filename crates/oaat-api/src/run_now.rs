//! The annotation `oaat.kawaja.net/run-now`, with which users request that items run now. Pure.
//!
//! The annotation belongs to the user, and the operator never changes it. A token identifies a
//! request. The status contains the latest token and the time at which the operator first saw it.
//! The request's items that last started before that time are pending, so no per-item state is
//! necessary. Removing the annotation cancels the items that have not started.

use crate::text::{MESSAGE, NAME, clean, is_unprintable, list};
use crate::{OaatGroup, OaatGroupStatus, RunNow, Timestamp};
use serde::Deserialize;
use std::time::Duration;

/// The name of the annotation.
pub const ANNOTATION: &str = "oaat.kawaja.net/run-now";
/// The maximum length of the annotation's value in bytes. It is parsed several times in a
/// reconcile.
const MAX_LENGTH: usize = 32 << 10;
/// The maximum length of a token in characters.
pub(crate) const MAX_TOKEN_LENGTH: usize = 128;
/// Examples of valid values.
const EXAMPLES: &str =
    r#"{"token": "any new text", "items": ["a", "b"]}, or "items": "*" for all items"#;

/// A valid request.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    token: String,
    items: RequestedItems,
}

#[derive(Deserialize, Debug, PartialEq, Eq)]
#[serde(untagged)]
enum RequestedItems {
    Names(Vec<String>),
    /// A request contains only the word `*`, which means all items.
    Word(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Annotation {
    token: Option<String>,
    items: Option<RequestedItems>,
}

fn parse(text: &str) -> Result<Request, String> {
    let invalid = |problem: &str| format!("the annotation {ANNOTATION} {problem}; use {EXAMPLES}");
    if text.len() > MAX_LENGTH {
        let problem = format!(
            "has {} bytes, but the maximum is {MAX_LENGTH} (list fewer items)",
            text.len()
        );
        return Err(invalid(&problem));
    }
    let Annotation { token, items } = serde_json::from_str(text).map_err(|error| {
        let error = clean(&error.to_string(), 200);
        invalid(&format!("is not a valid request ({error})"))
    })?;
    let token = token.filter(|token| !token.is_empty());
    let token = token.ok_or_else(|| invalid("has no token"))?;
    if token.chars().count() > MAX_TOKEN_LENGTH || token.contains(is_unprintable) {
        let problem = format!(
            "has a token that is longer than {MAX_TOKEN_LENGTH} characters or contains control or \
             invisible characters"
        );
        return Err(invalid(&problem));
    }
    match items {
        None => Err(invalid("has no items")),
        Some(RequestedItems::Names(names)) if names.is_empty() => {
            Err(invalid("has an empty list of items"))
        }
        Some(RequestedItems::Word(word)) if word != "*" => {
            Err(invalid("has items that are neither a list nor \"*\""))
        }
        Some(items) => Ok(Request { token, items }),
    }
}

/// Returns the request in the group's annotation, or the problem with it.
fn annotation(group: &OaatGroup) -> Option<Result<Request, String>> {
    let annotations = group.metadata.annotations.as_ref()?;
    annotations.get(ANNOTATION).map(|text| parse(text))
}

/// A change of the request, for an event.
#[derive(Debug, PartialEq, Eq)]
pub enum RunNowUpdate {
    /// A new request. Contains the names of its items, for a message.
    Accepted(String),
    /// A new problem with the annotation.
    Invalid(String),
}

/// Updates `status.runNow` from the annotation. `listed` contains the items in effect. Returns what
/// has changed.
pub fn process(
    group: &OaatGroup,
    listed: &[String],
    status: &mut OaatGroupStatus,
    now: Timestamp,
) -> Option<RunNowUpdate> {
    let Some(request) = annotation(group) else {
        // The token is kept, so that the same request is not processed again if it is restored.
        if let Some(run_now) = &mut status.run_now {
            run_now.problem = None;
            run_now.done = true;
        }
        return None;
    };
    let before = status.run_now.clone().unwrap_or_default();
    let mut run_now = before.clone();
    let mut accepted = None;
    let is_valid = request.is_ok();
    let problem = match request {
        // Cleaned as in the status, so that the two can be compared.
        Err(problem) => Some(clean(&problem, MESSAGE)),
        Ok(Request { token, items }) => {
            if before.token.as_ref() != Some(&token) {
                accepted = Some(match &items {
                    RequestedItems::Names(names) => list(names, ", ", NAME),
                    RequestedItems::Word(_) => "all items".to_owned(),
                });
                run_now.token = Some(token);
                run_now.done = false;
                // A replica whose clock is ahead may have started an item later than now.
                let requested: Vec<_> = match &items {
                    RequestedItems::Names(names) => {
                        names.iter().filter_map(|n| status.items.get(n)).collect()
                    }
                    RequestedItems::Word(_) => status.items.values().collect(),
                };
                let starts = requested.iter().filter_map(|item| item.last_started);
                let latest = starts.max().map(|at| at.plus(Duration::from_millis(1)));
                run_now.time = Some(latest.map_or(now, |latest| latest.max(now)));
            }
            match items {
                RequestedItems::Word(_) => None,
                RequestedItems::Names(names) => unknown(&names, listed),
            }
        }
    };
    let new_problem = problem.clone().filter(|_| problem != before.problem);
    run_now.problem = problem;
    if run_now != RunNow::default() {
        status.run_now = Some(run_now);
    }
    // Once all items have started, the request is done, even if items are added later.
    let done =
        is_valid && pending(group, listed, status).is_empty() && all_known(group, listed, status);
    if let Some(run_now) = &mut status.run_now {
        run_now.done |= done;
    }
    match (new_problem, accepted) {
        (Some(problem), _) => Some(RunNowUpdate::Invalid(problem)),
        (None, Some(items)) => Some(RunNowUpdate::Accepted(items)),
        (None, None) => None,
    }
}

/// Returns whether all requested items are known, because none of them may come from a list that
/// has not been read yet or has changed since.
fn all_known(group: &OaatGroup, listed: &[String], status: &OaatGroupStatus) -> bool {
    match annotation(group) {
        _ if group.spec.items_from.is_empty() => true,
        Some(Ok(Request {
            items: RequestedItems::Names(names),
            ..
        })) => unknown(&names, listed).is_none(),
        _ => all_sources_read(group, status),
    }
}

/// Returns whether each source of items has been read.
fn all_sources_read(group: &OaatGroup, status: &OaatGroupStatus) -> bool {
    let read = |name: &String| {
        let sources = status.item_sources.iter();
        sources
            .filter(|source| source.time.is_some())
            .any(|source| source.name == *name)
    };
    group.spec.items_from.iter().all(|from| read(&from.name))
}

/// Returns a message with the requested items that are not in effect, if there are any.
fn unknown(names: &[String], listed: &[String]) -> Option<String> {
    let listed: std::collections::HashSet<&String> = listed.iter().collect();
    let mut unknown = names
        .iter()
        .filter(|name| !listed.contains(name))
        .peekable();
    unknown.peek()?;
    let unknown = list(unknown, ", ", NAME);
    let message = format!("the annotation {ANNOTATION} lists unknown items: {unknown}");
    Some(clean(&message, MESSAGE))
}

/// Returns the requested items that have not started since the request, in the order of the request
/// and without duplicates. All of them are in effect.
pub fn pending(group: &OaatGroup, listed: &[String], status: &OaatGroupStatus) -> Vec<String> {
    let (Some(Ok(request)), Some(run_now)) = (annotation(group), &status.run_now) else {
        return Vec::new();
    };
    let active = !run_now.done && run_now.token == Some(request.token);
    let Some(since) = run_now.time.filter(|_| active) else {
        return Vec::new();
    };
    let names = match request.items {
        RequestedItems::Names(names) => names,
        RequestedItems::Word(_) => listed.to_vec(),
    };
    let mut seen = std::collections::HashSet::new();
    let is_pending = |name: &String| {
        let item = status.items.get(name);
        let item = item.filter(|item| item.missing_since.is_none());
        item.is_some_and(|item| item.last_started.is_none_or(|at| at < since))
    };
    names
        .into_iter()
        .filter(|name| is_pending(name) && seen.insert(name.clone()))
        .collect()
}

/// Returns the value of the annotation that requests `names` with a new token, after the items of the
/// group's current request that have not started. Without them, the new token would cancel these
/// items. `listed` contains the items in effect.
///
/// If that request is for all items and a source has not been read yet, the value is also for all
/// items, because the names of some of them are unknown. Items that have started run again.
///
/// Write the value only if the group has not changed since it was read, because an item that starts
/// in between would run twice.
///
/// # Errors
/// Returns the length of the value in bytes if it is longer than the annotation may be.
pub fn extend(
    group: &OaatGroup,
    listed: &[String],
    token: &str,
    names: &[String],
) -> Result<String, TooLong> {
    let earlier = unstarted(group, listed);
    let mut seen = std::collections::HashSet::new();
    let items: Vec<&String> = earlier
        .iter()
        .chain(names)
        .filter(|name| seen.insert(*name))
        .collect();
    let items = if requests_unknown_items(group) {
        serde_json::json!("*")
    } else {
        serde_json::json!(items)
    };
    let value = serde_json::json!({ "token": token, "items": items }).to_string();
    if value.len() > MAX_LENGTH {
        return Err(TooLong {
            bytes: value.len(),
            earlier: earlier.len(),
        });
    }
    Ok(value)
}

/// Returns whether the current request of a group is for all items, and a source that may list more of
/// them has not been read yet.
fn requests_unknown_items(group: &OaatGroup) -> bool {
    let Some(Ok(Request {
        token,
        items: RequestedItems::Word(_),
    })) = annotation(group)
    else {
        return false;
    };
    let status = group.status.clone().unwrap_or_default();
    let run_now = status.run_now.clone().unwrap_or_default();
    let done = run_now.done && run_now.token == Some(token);
    !done && !all_sources_read(group, &status)
}

/// A request that does not fit into the annotation.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLong {
    /// The length of the value in bytes.
    pub bytes: usize,
    /// The number of items of the earlier request that have not started.
    pub earlier: usize,
}

impl std::fmt::Display for TooLong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "the request has {} bytes, but the maximum is {MAX_LENGTH}",
            self.bytes
        )?;
        match self.earlier {
            0 => f.write_str("; request fewer items"),
            earlier => write!(
                f,
                "; {earlier} items of an earlier request have not started yet, so wait or request \
                 fewer items"
            ),
        }
    }
}

/// Returns the items of the group's current request that may still start because of it, in the order
/// of the request and without duplicates. Unlike [`pending`], considers a request that the operator
/// has not seen yet, and items that are not in effect now but may be listed later.
pub fn unstarted(group: &OaatGroup, listed: &[String]) -> Vec<String> {
    let Some(Ok(request)) = annotation(group) else {
        return Vec::new();
    };
    let status = group.status.clone().unwrap_or_default();
    let run_now = status.run_now.clone().unwrap_or_default();
    let is_new = processed_token(group) != Some(request.token.as_str());
    if run_now.done && !is_new {
        return Vec::new();
    }
    match request.items {
        RequestedItems::Word(_) if is_new => listed.to_vec(),
        RequestedItems::Word(_) => pending(group, listed, &status),
        RequestedItems::Names(names) => {
            let has_started = |name: &String| {
                let started = status.items.get(name).and_then(|item| item.last_started);
                !is_new && started.is_some() && started >= run_now.time
            };
            let mut seen = std::collections::HashSet::new();
            let mut names = names;
            names.retain(|name| !has_started(name) && seen.insert(name.clone()));
            names
        }
    }
}

/// Returns whether the current request of a group, or the latest one that the operator has processed,
/// has this token.
pub fn has_token(group: &OaatGroup, token: &str) -> bool {
    let is_current =
        annotation(group).is_some_and(|request| request.is_ok_and(|r| r.token == token));
    is_current || processed_token(group) == Some(token)
}

/// Returns whether the operator has processed the current request. If so, the status is newer than the
/// request. Also returns true if the annotation is absent or invalid.
pub fn is_processed(group: &OaatGroup) -> bool {
    let request = annotation(group).and_then(Result::ok);
    request.is_none_or(|request| processed_token(group) == Some(request.token.as_str()))
}

/// Returns the token of the latest request that the operator has processed.
fn processed_token(group: &OaatGroup) -> Option<&str> {
    group.status.as_ref()?.run_now.as_ref()?.token.as_deref()
}

/// Returns the names of the [`pending`] items for a message, or `None` if there are none.
pub fn waiting(group: &OaatGroup, listed: &[String], status: &OaatGroupStatus) -> Option<String> {
    let pending = pending(group, listed, status);
    (!pending.is_empty()).then(|| list(&pending, ", ", NAME))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ItemStatus;
    use serde_json::{Value, json};

    const NOW: Timestamp = Timestamp(1_000_000);

    fn process(
        group: &OaatGroup,
        status: &mut OaatGroupStatus,
        now: Timestamp,
    ) -> Option<RunNowUpdate> {
        super::process(group, &group.spec.oaat_items, status, now)
    }

    fn pending(group: &OaatGroup, status: &OaatGroupStatus) -> Vec<String> {
        super::pending(group, &group.spec.oaat_items, status)
    }

    fn waiting(group: &OaatGroup, status: &OaatGroupStatus) -> Option<String> {
        super::waiting(group, &group.spec.oaat_items, status)
    }

    fn group(annotation: Option<&str>) -> OaatGroup {
        let mut group: OaatGroup = serde_json::from_value(json!({
            "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
            "metadata": { "name": "g" },
            "spec": { "oaatType": "t", "oaatItems": ["a", "b, with a comma", "c"] },
        }))
        .unwrap();
        group.metadata.annotations =
            annotation.map(|text| [(ANNOTATION.to_owned(), text.to_owned())].into());
        group
    }

    /// Returns the status of three items that last started this number of milliseconds ago.
    fn status(started: [Option<i64>; 3]) -> OaatGroupStatus {
        let names = ["a", "b, with a comma", "c"].map(str::to_owned);
        let item = |ago: Option<i64>| ItemStatus {
            last_started: ago.map(|ago| Timestamp(NOW.0 - ago)),
            ..ItemStatus::default()
        };
        OaatGroupStatus {
            items: names.into_iter().zip(started.map(item)).collect(),
            ..OaatGroupStatus::default()
        }
    }

    #[test]
    fn request_is_processed_once_and_is_pending_until_each_item_has_started() {
        let group = group(Some(
            r#"{"token": "1", "items": ["c", "b, with a comma", "c"]}"#,
        ));
        let mut status = status([None, Some(5), None]);
        let update = process(&group, &mut status, NOW);
        assert_eq!(
            update,
            Some(RunNowUpdate::Accepted("c, b, with a comma, c".into()))
        );
        assert_eq!(process(&group, &mut status, Timestamp(NOW.0 + 9)), None);
        assert_eq!(pending(&group, &status), ["c", "b, with a comma"]);
        status.items.get_mut("c").unwrap().last_started = Some(NOW);
        assert_eq!(pending(&group, &status), ["b, with a comma"]);
        assert_eq!(waiting(&group, &status).as_deref(), Some("b, with a comma"));
        let second = status.items.get_mut("b, with a comma").unwrap();
        second.last_started = Some(Timestamp(NOW.0 + 1));
        assert_eq!(pending(&group, &status), [""; 0]);
    }

    #[test]
    fn new_token_is_a_new_request_and_removing_the_annotation_cancels_it() {
        let all = |token: &str| group(Some(&format!(r#"{{"token": "{token}", "items": "*"}}"#)));
        let mut status = status([Some(5); 3]);
        assert_eq!(
            process(&all("1"), &mut status, Timestamp(NOW.0 - 9)),
            Some(RunNowUpdate::Accepted("all items".into()))
        );
        assert!(process(&all("2"), &mut status, NOW).is_some());
        assert_eq!(pending(&all("2"), &status), ["a", "b, with a comma", "c"]);
        assert_eq!(process(&group(None), &mut status, NOW), None);
        assert_eq!(pending(&group(None), &status), [""; 0]);
        // Restoring the annotation is not a new request.
        assert_eq!(process(&all("2"), &mut status, Timestamp(NOW.0 + 9)), None);
        assert_eq!(status.run_now.unwrap().time, Some(NOW));
    }

    #[test]
    fn extending_a_request_for_all_items_keeps_those_of_unread_sources() {
        let all = r#"{"token": "1", "items": "*"}"#;
        let extended = |group: &OaatGroup| {
            let value = extend(group, &group.spec.oaat_items, "new", &["a".to_owned()]);
            serde_json::from_str::<Value>(&value.unwrap()).unwrap()["items"].clone()
        };
        let mut group = group(Some(all));
        let source = json!([{ "name": "s", "configMap": { "name": "c", "key": "k" } }]);
        group.spec.items_from = serde_json::from_value(source).unwrap();
        // The operator has seen neither the group nor the request.
        assert_eq!(extended(&group), "*");
        let mut status = status([None; 3]);
        process(&group, &mut status, NOW);
        group.status = Some(status);
        assert_eq!(extended(&group), "*");
        let read = json!([{ "name": "s", "time": "2026-03-02T12:00:00Z", "items": [] }]);
        let status = group.status.as_mut().unwrap();
        status.item_sources = serde_json::from_value(read).unwrap();
        assert_eq!(extended(&group), json!(["a", "b, with a comma", "c"]));
    }

    #[test]
    fn token_is_found_in_the_annotation_and_in_the_status() {
        let mut group = group(Some(r#"{"token": "1", "items": "*"}"#));
        let mut status = status([None; 3]);
        process(&group, &mut status, NOW);
        group.status = Some(status);
        // Another user has extended the request.
        let next = r#"{"token": "2", "items": "*"}"#.to_owned();
        group.metadata.annotations = Some([(ANNOTATION.to_owned(), next)].into());
        let found = ["1", "2", "3"].map(|token| has_token(&group, token));
        assert_eq!(found, [true, true, false]);
    }

    #[test]
    fn request_is_processed_when_the_status_has_its_token() {
        let mut group = group(Some(r#"{"token": "1", "items": "*"}"#));
        assert!(!is_processed(&group));
        let mut status = status([None; 3]);
        process(&group, &mut status, NOW);
        group.status = Some(status);
        assert!(is_processed(&group));
        for (request, expected) in [
            (r#"{"token": "2", "items": "*"}"#, false),
            ("no request", true),
        ] {
            group.metadata.annotations = Some([(ANNOTATION.to_owned(), request.to_owned())].into());
            assert_eq!(is_processed(&group), expected, "{request}");
        }
    }

    #[test]
    fn done_or_cancelled_request_stays_done() {
        let all = group(Some(r#"{"token": "1", "items": "*"}"#));
        let mut status = status([Some(5); 3]);
        process(&all, &mut status, NOW);
        for item in status.items.values_mut() {
            item.last_started = Some(NOW);
        }
        process(&all, &mut status, Timestamp(NOW.0 + 1));
        // An item that is added later is not part of the request.
        status.items.get_mut("a").unwrap().last_started = None;
        process(&all, &mut status, Timestamp(NOW.0 + 2));
        assert_eq!(pending(&all, &status), [""; 0]);
        let next = group(Some(r#"{"token": "2", "items": "*"}"#));
        process(&next, &mut status, Timestamp(NOW.0 + 3));
        assert_eq!(pending(&next, &status).len(), 3);
        process(&group(None), &mut status, Timestamp(NOW.0 + 4));
        process(&next, &mut status, Timestamp(NOW.0 + 5));
        assert_eq!(pending(&next, &status), [""; 0]);
    }

    #[test]
    fn item_started_by_a_clock_that_is_ahead_is_pending() {
        let group = group(Some(r#"{"token": "1", "items": ["a"]}"#));
        let mut status = status([Some(-600_000), None, None]);
        process(&group, &mut status, NOW);
        assert_eq!(pending(&group, &status), ["a"]);
    }

    #[test]
    fn problem_is_reported_once_and_cancels_nothing() {
        let mut status = status([None; 3]);
        let good = group(Some(r#"{"token": "1", "items": ["a"]}"#));
        process(&good, &mut status, NOW);
        for (text, expected) in [
            ("a", vec!["is not a valid request", r#""items": "*""#]),
            ("{}", vec!["has no token"]),
            (
                r#"{"token": "", "items": 1}"#,
                vec!["is not a valid request"],
            ),
            (r#"{"token": "2"}"#, vec!["has no items"]),
            (r#"{"token": "2", "items": []}"#, vec!["empty list"]),
            (r#"{"token": "2", "items": "a"}"#, vec!["neither a list"]),
            (r#"{"token": "2", "items": ["a"], "when": 1}"#, vec!["when"]),
            (
                "{\"token\": \"a\u{202e}b\", \"items\": \"*\"}",
                vec!["invisible"],
            ),
            (
                &format!(
                    r#"{{"token": "2", "items": [{}"a"]}}"#,
                    r#""a","#.repeat(9000)
                ),
                vec!["36030 bytes", "fewer"],
            ),
            (&"[".repeat(30_000), vec!["is not a valid request"]),
            (
                &format!(r#"{{"token": "2", "items": {}1"#, r#"[{"a":"#.repeat(5_000)),
                vec!["is not a valid request"],
            ),
        ] {
            let bad = group(Some(text));
            match process(&bad, &mut status, NOW) {
                Some(RunNowUpdate::Invalid(problem)) => {
                    assert!(
                        expected.iter().all(|word| problem.contains(word)),
                        "{text}: {problem}"
                    );
                }
                other => panic!("{text}: {other:?}"),
            }
            assert_eq!(process(&bad, &mut status, NOW), None, "{text}");
            assert_eq!(status.run_now.as_ref().unwrap().token.as_deref(), Some("1"));
        }
        let long = format!(r#"{{"token": "{}", "items": "*"}}"#, "x".repeat(129));
        assert!(matches!(
            process(&group(Some(&long)), &mut status, NOW),
            Some(RunNowUpdate::Invalid(_))
        ));
        process(&good, &mut status, NOW);
        assert_eq!(status.run_now.as_ref().unwrap().problem, None);
        let names = (0..3000)
            .map(|n| format!("\u{202e}{n}"))
            .collect::<Vec<_>>();
        let many = json!({ "token": "3", "items": names }).to_string();
        match process(&group(Some(&many)), &mut status, NOW) {
            Some(RunNowUpdate::Invalid(problem)) => {
                assert!(
                    problem.ends_with("unknown items: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, and 2990 more")
                );
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn unknown_items_are_reported_and_the_others_are_pending() {
        let some = group(Some(r#"{"token": "1", "items": ["nobody", "c"]}"#));
        let mut status = status([None; 3]);
        match process(&some, &mut status, NOW) {
            Some(RunNowUpdate::Invalid(problem)) => {
                assert!(problem.ends_with(": nobody"), "{problem}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(pending(&some, &status), ["c"]);
    }
    #[test]
    fn extending_a_request_keeps_the_items_that_have_not_started() {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let request = |items: Value| json!({ "token": "new", "items": items }).to_string();
        let processed = |text: &str, started: [Option<i64>; 3]| {
            let mut group = group(Some(text));
            let mut status = status([None; 3]);
            process(&group, &mut status, NOW);
            for (item, after) in status.items.values_mut().zip(started) {
                item.last_started = after.map(|after| Timestamp(NOW.0 + after));
            }
            group.status = Some(status);
            group
        };
        let all = r#"{"token": "1", "items": "*"}"#;
        let two = r#"{"token": "1", "items": ["c", "a", "new"]}"#;
        for (group, asked, expected) in [
            (group(None), &["a"][..], json!(["a"])),
            (group(Some("invalid")), &["a"], json!(["a"])),
            // The operator has not seen the earlier request yet.
            (group(Some(two)), &["b"], json!(["c", "a", "new", "b"])),
            (
                group(Some(all)),
                &["c"],
                json!(["a", "b, with a comma", "c"]),
            ),
            (
                processed(two, [Some(1), None, None]),
                &["a"],
                json!(["c", "new", "a"]),
            ),
            (
                processed(all, [Some(1), None, Some(1)]),
                &["c"],
                json!(["b, with a comma", "c"]),
            ),
            (processed(all, [Some(1); 3]), &["c", "c"], json!(["c"])),
        ] {
            let listed = &group.spec.oaat_items;
            let extended = extend(&group, listed, "new", &names(asked));
            assert_eq!(extended, Ok(request(expected)), "{asked:?}");
        }
        // An item that its source does not list for a moment stays requested.
        let mut missing = processed(two, [Some(1), None, None]);
        for name in ["a", "c"] {
            let items = &mut missing.status.as_mut().unwrap().items;
            items.get_mut(name).unwrap().missing_since = Some(NOW);
        }
        let extended = extend(&missing, &missing.spec.oaat_items, "new", &names(&["b"]));
        assert_eq!(extended, Ok(request(json!(["c", "new", "b"]))));
        let long = names(&[&"x".repeat(MAX_LENGTH)]);
        let error = extend(&group(Some(two)), &[], "new", &long).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the request has 32810 bytes, but the maximum is 32768; 3 items of an earlier request \
             have not started yet, so wait or request fewer items"
        );
    }
}
