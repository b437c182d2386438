//! The annotation `oaat.kawaja.net/run-now`, by which people ask for items to be run now. Pure.
//!
//! It belongs to the user and is never changed here. A request is known by its token, and the
//! status keeps the latest one with the time at which it was first seen: an item that it names is
//! to be started for as long as it was last started before that time. So nothing has to be kept of
//! single items, and who takes the annotation away takes back what has not been started.

use oaat_api::text::{MESSAGE, NAME, clean, is_unprintable, list};
use oaat_api::{OaatGroup, OaatGroupStatus, RunNow, Timestamp};
use serde::Deserialize;
use std::time::Duration;

/// The annotation's name.
pub const ANNOTATION: &str = "oaat.kawaja.net/run-now";
/// The maximum length of the annotation's value in bytes. It is parsed several times in a
/// reconcile.
const LONGEST: usize = 32 << 10;
/// The maximum length of a token in characters.
const LONGEST_TOKEN: usize = 128;
/// What a right value looks like.
const RIGHT: &str =
    r#"{"token": "any new text", "items": ["a", "b"]}, or "items": "*" for all of them"#;

/// What the annotation says.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    token: String,
    items: Wanted,
}

#[derive(Deserialize, Debug, PartialEq, Eq)]
#[serde(untagged)]
enum Wanted {
    Named(Vec<String>),
    Word(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    token: Option<String>,
    items: Option<Wanted>,
}

fn read(text: &str) -> Result<Request, String> {
    let wrong =
        |what: &str| format!("the annotation {ANNOTATION} {what}; it is written like {RIGHT}");
    if text.len() > LONGEST {
        let what = format!(
            "has {} bytes; it must have at most {LONGEST}: name fewer items",
            text.len()
        );
        return Err(wrong(&what));
    }
    let Written { token, items } = serde_json::from_str(text).map_err(|error| {
        let error = clean(&error.to_string(), 200);
        wrong(&format!("cannot be read as JSON of that kind ({error})"))
    })?;
    let token = token.filter(|token| !token.is_empty());
    let token = token.ok_or_else(|| wrong("has no token"))?;
    if token.chars().count() > LONGEST_TOKEN || token.contains(is_unprintable) {
        let what = format!(
            "has a token that is longer than {LONGEST_TOKEN} characters or contains control or invisible \
             characters"
        );
        return Err(wrong(&what));
    }
    match items {
        None => Err(wrong("has no items")),
        Some(Wanted::Named(names)) if names.is_empty() => Err(wrong("has an empty list of items")),
        Some(Wanted::Word(word)) if word != "*" => {
            Err(wrong("has items that are neither a list nor \"*\""))
        }
        Some(items) => Ok(Request { token, items }),
    }
}

fn asked(group: &OaatGroup) -> Option<Result<Request, String>> {
    let annotations = group.metadata.annotations.as_ref()?;
    annotations.get(ANNOTATION).map(|text| read(text))
}

/// What is new about a request, for an event.
#[derive(Debug, PartialEq, Eq)]
pub enum RunNowUpdate {
    /// There is a new one, for these items in words.
    Accepted(String),
    /// Something is wrong with it.
    Wrong(String),
}

/// Records what the annotation requests. `listed` are the items in effect.
pub fn process(
    group: &OaatGroup,
    listed: &[String],
    status: &mut OaatGroupStatus,
    now: Timestamp,
) -> Option<RunNowUpdate> {
    let Some(request) = asked(group) else {
        // The token stays, so that a request that is put back is not taken for a new one.
        if let Some(noted) = &mut status.run_now {
            noted.problem = None;
            noted.done = true;
        }
        return None;
    };
    let before = status.run_now.clone().unwrap_or_default();
    let mut noted = before.clone();
    let mut accepted = None;
    let readable = request.is_ok();
    let problem = match request {
        // As it is written, so that it is compared with what was.
        Err(problem) => Some(clean(&problem, MESSAGE)),
        Ok(Request { token, items }) => {
            if before.token.as_ref() != Some(&token) {
                accepted = Some(match &items {
                    Wanted::Named(names) => list(names, ", ", NAME),
                    Wanted::Word(_) => "all items".to_owned(),
                });
                noted.token = Some(token);
                noted.done = false;
                // A replica whose clock is ahead may have started one of them later than now.
                let wanted: Vec<_> = match &items {
                    Wanted::Named(names) => {
                        names.iter().filter_map(|n| status.items.get(n)).collect()
                    }
                    Wanted::Word(_) => status.items.values().collect(),
                };
                let starts = wanted.iter().filter_map(|item| item.last_started);
                let latest = starts.max().map(|at| at.plus(Duration::from_millis(1)));
                noted.time = Some(latest.map_or(now, |latest| latest.max(now)));
            }
            match items {
                Wanted::Word(_) => None,
                Wanted::Named(names) => unknown(&names, listed),
            }
        }
    };
    let wrong = problem.clone().filter(|_| problem != before.problem);
    noted.problem = problem;
    if noted != RunNow::default() {
        status.run_now = Some(noted);
    }
    // Once all have been started it is done with, whatever items come later.
    let done =
        readable && pending(group, listed, status).is_empty() && all_known(group, listed, status);
    if let Some(noted) = &mut status.run_now {
        noted.done |= done;
    }
    match (wrong, accepted) {
        (Some(wrong), _) => Some(RunNowUpdate::Wrong(wrong)),
        (None, Some(items)) => Some(RunNowUpdate::Accepted(items)),
        (None, None) => None,
    }
}

/// Whether no item that is meant may yet come from a list that has not been read, or not as it
/// is by now.
fn all_known(group: &OaatGroup, listed: &[String], status: &OaatGroupStatus) -> bool {
    let read = |name: &String| {
        let sources = status.item_sources.iter();
        sources
            .filter(|source| source.time.is_some())
            .any(|source| source.name == *name)
    };
    let sources = &group.spec.items_from;
    match asked(group) {
        _ if sources.is_empty() => true,
        Some(Ok(Request {
            items: Wanted::Named(names),
            ..
        })) => unknown(&names, listed).is_none(),
        _ => sources.iter().all(|source| read(&source.name)),
    }
}

fn unknown(names: &[String], listed: &[String]) -> Option<String> {
    let listed: std::collections::HashSet<&String> = listed.iter().collect();
    let mut unknown = names
        .iter()
        .filter(|name| !listed.contains(name))
        .peekable();
    unknown.peek()?;
    let unknown = list(unknown, ", ", NAME);
    let words = format!("the annotation {ANNOTATION} names unknown items: {unknown}");
    Some(clean(&words, MESSAGE))
}

/// The items that are asked for and have not been started since, in the order in which they are
/// named: each is in the group's list, and there once.
pub fn pending(group: &OaatGroup, listed: &[String], status: &OaatGroupStatus) -> Vec<String> {
    let (Some(Ok(request)), Some(noted)) = (asked(group), &status.run_now) else {
        return Vec::new();
    };
    let heeded = !noted.done && noted.token == Some(request.token);
    let Some(since) = noted.time.filter(|_| heeded) else {
        return Vec::new();
    };
    let names = match request.items {
        Wanted::Named(names) => names,
        Wanted::Word(_) => listed.to_vec(),
    };
    let mut seen = std::collections::HashSet::new();
    let open = |name: &String| {
        let item = status.items.get(name);
        let item = item.filter(|item| item.missing_since.is_none());
        item.is_some_and(|item| item.last_started.is_none_or(|at| at < since))
    };
    names
        .into_iter()
        .filter(|name| open(name) && seen.insert(name.clone()))
        .collect()
}

/// The same in words; `None` where there are none.
pub fn waiting(group: &OaatGroup, listed: &[String], status: &OaatGroupStatus) -> Option<String> {
    let pending = pending(group, listed, status);
    (!pending.is_empty()).then(|| list(&pending, ", ", NAME))
}

#[cfg(test)]
mod tests {
    use super::*;
    use oaat_api::ItemStatus;
    use serde_json::json;

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

    /// Where each item was last started so many milliseconds before now.
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
    fn a_request_is_heeded_once_and_until_each_item_has_been_started() {
        let group = group(Some(
            r#"{"token": "1", "items": ["c", "b, with a comma", "c"]}"#,
        ));
        let mut status = status([None, Some(5), None]);
        let news = process(&group, &mut status, NOW);
        assert_eq!(
            news,
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
    fn a_new_token_is_a_new_request_and_an_annotation_taken_away_none() {
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
        // Put back, it is not a new one.
        assert_eq!(process(&all("2"), &mut status, Timestamp(NOW.0 + 9)), None);
        assert_eq!(status.run_now.unwrap().time, Some(NOW));
    }

    #[test]
    fn what_was_done_or_taken_back_stays_so() {
        let all = group(Some(r#"{"token": "1", "items": "*"}"#));
        let mut status = status([Some(5); 3]);
        process(&all, &mut status, NOW);
        for item in status.items.values_mut() {
            item.last_started = Some(NOW);
        }
        process(&all, &mut status, Timestamp(NOW.0 + 1));
        // An item that comes later was not meant.
        status.items.get_mut("a").unwrap().last_started = None;
        process(&all, &mut status, Timestamp(NOW.0 + 2));
        assert_eq!(pending(&all, &status), [""; 0]);
        let again = group(Some(r#"{"token": "2", "items": "*"}"#));
        process(&again, &mut status, Timestamp(NOW.0 + 3));
        assert_eq!(pending(&again, &status).len(), 3);
        process(&group(None), &mut status, Timestamp(NOW.0 + 4));
        process(&again, &mut status, Timestamp(NOW.0 + 5));
        assert_eq!(pending(&again, &status), [""; 0]);
    }

    #[test]
    fn what_was_started_by_a_clock_that_is_ahead_was_started_before() {
        let group = group(Some(r#"{"token": "1", "items": ["a"]}"#));
        let mut status = status([Some(-600_000), None, None]);
        process(&group, &mut status, NOW);
        assert_eq!(pending(&group, &status), ["a"]);
    }

    #[test]
    fn what_is_wrong_is_told_once_and_takes_nothing_back() {
        let mut status = status([None; 3]);
        let good = group(Some(r#"{"token": "1", "items": ["a"]}"#));
        process(&good, &mut status, NOW);
        for (text, words) in [
            ("a", vec!["cannot be read", r#""items": "*""#]),
            ("{}", vec!["has no token"]),
            (r#"{"token": "", "items": 1}"#, vec!["cannot be read"]),
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
            (&"[".repeat(30_000), vec!["cannot be read"]),
            (
                &format!(r#"{{"token": "2", "items": {}1"#, r#"[{"a":"#.repeat(5_000)),
                vec!["cannot be read"],
            ),
        ] {
            let bad = group(Some(text));
            match process(&bad, &mut status, NOW) {
                Some(RunNowUpdate::Wrong(wrong)) => {
                    assert!(
                        words.iter().all(|word| wrong.contains(word)),
                        "{text}: {wrong}"
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
            Some(RunNowUpdate::Wrong(_))
        ));
        process(&good, &mut status, NOW);
        assert_eq!(status.run_now.as_ref().unwrap().problem, None);
        let names = (0..3000)
            .map(|n| format!("\u{202e}{n}"))
            .collect::<Vec<_>>();
        let many = json!({ "token": "3", "items": names }).to_string();
        match process(&group(Some(&many)), &mut status, NOW) {
            Some(RunNowUpdate::Wrong(wrong)) => {
                assert!(
                    wrong.ends_with("unknown items: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, and 2990 more")
                );
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn names_that_are_no_items_are_named_and_the_others_run() {
        let some = group(Some(r#"{"token": "1", "items": ["nobody", "c"]}"#));
        let mut status = status([None; 3]);
        match process(&some, &mut status, NOW) {
            Some(RunNowUpdate::Wrong(wrong)) => assert!(wrong.ends_with(": nobody"), "{wrong}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(pending(&some, &status), ["c"]);
    }
}
