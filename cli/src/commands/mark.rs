//! `kubectl oaat mark`.

use super::suspend::user;
use crate::cluster::{
    Access, ClusterArgs, ClusterError, Session, find_item, patch_params, read_group,
};
use crate::terminal::print;
use clap::{Args, ValueEnum};
use kube::api::Patch;
use oaat_api::text;
use oaat_api::{ItemStatus, Mark, OaatGroup, Timestamp};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// The number of attempts to write the status. Only writes by others cause conflicts.
const ATTEMPTS: u32 = 10;
/// The pause before another attempt, multiplied by their number.
const PAUSE: Duration = Duration::from_millis(50);
/// The status of a response to a write that is based on an outdated read.
const CONFLICT: u16 = 409;

/// Arguments of `mark`.
#[derive(Args, Debug)]
pub struct MarkArgs {
    /// The item.
    item: String,
    /// The result.
    result: MarkedResult,
    /// When the item succeeded: a time such as 2026-01-31T12:00:00Z, or how long ago, such as 2h. The
    /// default is now, or the item's last success if that is later.
    #[arg(long, value_parser = parse_time)]
    at: Option<Timestamp>,
    /// The group of the item. Required if several groups of the namespace have the item.
    #[arg(short, long)]
    group: Option<String>,
    /// Allow a time before the item's last success.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// The results that an item can be marked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum MarkedResult {
    /// The item succeeded.
    Succeeded,
}

/// Parses a time, or how long ago it was.
fn parse_time(text: &str) -> Result<Timestamp, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(Timestamp::now().minus(ago));
    }
    serde_json::from_value(json!(text)).map_err(|_| {
        "neither an RFC 3339 time nor a duration; use for example 2026-01-31T12:00:00Z or 2h"
            .to_owned()
    })
}

pub(super) async fn run(args: &MarkArgs) -> Result<(), ClusterError> {
    let MarkedResult::Succeeded = args.result;
    let now = Timestamp::now();
    if let Some(at) = args.at.filter(|at| *at > now) {
        let problem = format!("--at: {at} is in the future; use the time of the success");
        return Err(ClusterError::Usage(problem));
    }
    let session = Session::new(&args.cluster).await?;
    let mut group = find_item(&session, &args.item, args.group.as_deref()).await?;
    let name = group.metadata.name.clone().unwrap_or_default();
    let by = text::name(&user(&session).await?);
    let mark = Mark { time: now, by };
    for attempt in 1..=ATTEMPTS {
        let at = args
            .at
            .unwrap_or_else(|| now_or_later(&group, &args.item, now));
        // A proxy may have repeated the write of the last attempt. Then the repetition conflicts.
        if is_marked(&group, &args.item, &mark) || write(&session, &group, args, at, &mark).await? {
            return Ok(print(&format!(
                "{} of oaatgroup.kawaja.net/{name} marked as succeeded at {at}\n",
                text::name(&args.item)
            ))?);
        }
        tokio::time::sleep(PAUSE * attempt).await;
        group = read_group(&session, &name).await?;
    }
    Err(ClusterError::Conflict(name))
}

/// Writes the item's status, unless the group has changed since it was read. Returns whether it was
/// written.
///
/// The group is the lock: the operator's claim of a run also fails if the group has changed.
async fn write(
    session: &Session,
    group: &OaatGroup,
    args: &MarkArgs,
    at: Timestamp,
    mark: &Mark,
) -> Result<bool, ClusterError> {
    let name = group.metadata.name.as_deref().unwrap_or_default();
    let item = status_change(group, &args.item, at, mark, args.force)?;
    let change = json!({
        "metadata": { "resourceVersion": group.metadata.resource_version },
        "status": { "items": { &args.item: item } },
    });
    let namespace = Some(session.namespace.as_str());
    let api = session.groups(namespace);
    let (params, change) = (patch_params(), Patch::Merge(&change));
    let patch = async {
        match api.patch_status(name, &params, &change).await {
            Err(kube::Error::Api(status)) if status.code == CONFLICT => Ok(false),
            patched => patched.map(|_| true),
        }
    };
    let access = Access::new("patch", "kawaja.net", "oaatgroups/status", namespace);
    match session.request(access, patch).await {
        Err(error) if error.may_have_taken_effect() => {
            let after = read_group(session, name).await;
            let is_marked = after.is_ok_and(|group| is_marked(&group, &args.item, mark));
            if is_marked { Ok(true) } else { Err(error) }
        }
        outcome => outcome,
    }
}

/// Returns the time of a success that is not before the last one, which may be later than now: it may
/// have been recorded since, or by a clock that is ahead.
fn now_or_later(group: &OaatGroup, item: &str, now: Timestamp) -> Timestamp {
    let item = group.status.as_ref().and_then(|s| s.items.get(item));
    let last = item.and_then(|item| item.last_success);
    last.map_or(now, |last| last.max(now))
}

fn is_marked(group: &OaatGroup, item: &str, mark: &Mark) -> bool {
    let item = group.status.as_ref().and_then(|s| s.items.get(item));
    item.is_some_and(|item| item.marked.as_ref() == Some(mark))
}

/// Returns the merge patch of the item's status that marks it as succeeded.
fn status_change(
    group: &OaatGroup,
    name: &str,
    at: Timestamp,
    mark: &Mark,
    force: bool,
) -> Result<Map<String, Value>, ClusterError> {
    let shown = text::name(name);
    let status = group.status.as_ref();
    let current = status.and_then(|status| status.current.as_ref());
    if current.is_some_and(|current| current.item == name) {
        return Err(ClusterError::Usage(format!(
            "{shown} is running; wait until the run ends, and mark it then if you still need to"
        )));
    }
    let item = status.and_then(|status| status.items.get(name));
    let before = item.cloned().unwrap_or_default();
    if let Some(last) = before.last_success.filter(|last| at < *last && !force) {
        return Err(ClusterError::Usage(format!(
            "--at: {shown} succeeded at {last}, after {at}; use --force to make its last success \
             earlier"
        )));
    }
    let mut after = before.clone();
    after.mark_succeeded(at, mark.clone());
    merge_patch(&before, &after)
}

/// Returns the merge patch between two statuses of an item. It keeps fields that this program does not
/// know.
fn merge_patch(
    before: &ItemStatus,
    after: &ItemStatus,
) -> Result<Map<String, Value>, ClusterError> {
    let fields = |item: &ItemStatus| match serde_json::to_value(item) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Ok(Map::new()),
        Err(error) => Err(std::io::Error::from(error)),
    };
    let (before, after) = (fields(before)?, fields(after)?);
    let removed = before.into_iter().map(|(field, _)| (field, Value::Null));
    Ok(removed.chain(after).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::test_groups::{NOW, backup, time};

    fn change(item: &str, at: &str, force: bool) -> Result<Value, String> {
        let mark = Mark {
            time: NOW,
            by: "alice".to_owned(),
        };
        let change = status_change(&backup(), item, time(at), &mark, force);
        change.map(Value::Object).map_err(|error| error.to_string())
    }

    #[test]
    fn mark_resets_the_failures_and_keeps_the_rest() {
        let expected = json!({
            "state": "Ready", "lastSuccess": "2026-03-02T11:00:00Z",
            "marked": { "time": "2026-03-02T12:00:00Z", "by": "alice" },
            "lastFailure": null, "failures": null, "lastExitCode": null, "message": null, "next": null,
        });
        assert_eq!(
            change("broken", "2026-03-02T11:00:00Z", false),
            Ok(expected)
        );
        let expected = json!({
            "state": "Ready", "lastSuccess": "2026-03-02T11:00:00Z",
            "marked": { "time": "2026-03-02T12:00:00Z", "by": "alice" },
        });
        assert_eq!(change("new", "2026-03-02T11:00:00Z", false), Ok(expected));
    }

    #[test]
    fn running_item_and_earlier_time_are_rejected() {
        for (item, at, force, expected) in [
            (
                "photos",
                "2026-03-02T11:59:00Z",
                true,
                Some("photos is running"),
            ),
            (
                "mail",
                "2026-03-02T11:00:00Z",
                false,
                Some("--at: mail succeeded at 2026-03-02T11:30:00Z, after 2026-03-02T11:00:00Z"),
            ),
            ("mail", "2026-03-02T11:00:00Z", true, None),
            ("mail", "2026-03-02T11:30:00Z", false, None),
        ] {
            let problem = change(item, at, force).err();
            match (&problem, expected) {
                (Some(problem), Some(words)) => assert!(problem.starts_with(words), "{problem}"),
                (None, None) => {}
                _ => panic!("{item} {at}: {problem:?}"),
            }
        }
    }

    #[test]
    fn time_without_at_is_not_before_the_last_success() {
        let group = backup();
        for (item, now, expected) in [
            ("mail", "2026-03-02T11:29:59Z", "2026-03-02T11:30:00Z"),
            ("mail", "2026-03-02T11:31:00Z", "2026-03-02T11:31:00Z"),
            ("new", "2026-03-02T11:29:59Z", "2026-03-02T11:29:59Z"),
        ] {
            let at = now_or_later(&group, item, time(now));
            assert_eq!(at, time(expected), "{item} {now}");
            let mark = Mark::default();
            status_change(&group, item, at, &mark, false).unwrap();
        }
    }

    #[test]
    fn time_is_absolute_or_a_duration_ago() {
        assert_eq!(parse_time("2026-03-02T13:00:00+01:00"), Ok(NOW));
        let ago = Timestamp::now().since(parse_time("2h").unwrap());
        assert_eq!(ago.as_secs() / 60, 120);
        assert!(parse_time("yesterday").is_err());
    }
}
