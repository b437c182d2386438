//! `kubectl oaat status`.

use super::Scope;
use super::output::{Format, print_as};
use crate::cluster::{
    Access, ClusterError, GroupRead, PAGE, Session, WatchRetries, read_group, read_groups,
};
use crate::terminal::write;
use crate::views::{Detail, GroupView, UnreadableGroup, detail, summary};
use clap::Args;
use futures::TryStreamExt;
use kube::api::DynamicObject;
use kube::runtime::watcher::{self, Event, watcher};
use oaat_api::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;
use tokio::time::Instant;

/// Clears the terminal, and moves the cursor to its top.
const CLEAR: &[u8] = b"\x1b[H\x1b[2J\x1b[3J";
/// How long changes are collected before they are shown.
const COLLECT: Duration = Duration::from_millis(300);
/// How often the times are updated on a terminal.
const REFRESH: Duration = Duration::from_secs(5);

/// Arguments of `status`.
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// The group. The default is all groups of the namespace.
    #[arg(conflicts_with = "all_namespaces")]
    group: Option<String>,
    #[command(flatten)]
    scope: Scope,
    /// The format of the output. The default is a table.
    #[arg(short, long)]
    output: Option<Format>,
    /// Show changes until you press Ctrl-C.
    #[arg(short, long)]
    watch: bool,
}

/// What `-o json` and `-o yaml` print.
#[derive(Serialize)]
struct Document<'a> {
    groups: &'a [GroupView],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    unreadable: &'a [UnreadableGroup],
}

pub(super) async fn run(args: &StatusArgs) -> Result<(), ClusterError> {
    let session = args.scope.session().await?;
    if args.watch {
        return watch(args, &session).await;
    }
    if let Some(name) = &args.group {
        let group = read_group(&session, name).await?;
        let namespace = group.metadata.namespace.clone().unwrap_or_default();
        return show(
            args,
            &[GroupRead {
                namespace,
                name: name.clone(),
                group: Ok(group),
            }],
            &session,
        );
    }
    let groups = read_groups(&session, args.scope.namespace(&session)).await?;
    show(args, &groups, &session)
}

/// Prints groups once.
fn show(args: &StatusArgs, groups: &[GroupRead], session: &Session) -> Result<(), ClusterError> {
    let now = Timestamp::now();
    let mut views = Vec::new();
    let mut unreadable = Vec::new();
    for read in groups {
        match &read.group {
            Ok(group) => views.push(GroupView::of(group, now)),
            Err(problem) => unreadable.push(UnreadableGroup {
                namespace: read.namespace.clone(),
                name: read.name.clone(),
                problem: problem.clone(),
            }),
        }
    }
    let document = Document {
        groups: &views,
        unreadable: &unreadable,
    };
    print_as(args.output, &document, |wide| {
        match (&args.group, views.as_slice()) {
            (Some(_), [view]) => {
                let detailed = if wide { Detail::Wide } else { Detail::Normal };
                detail(view, detailed, now)
            }
            (_, []) if unreadable.is_empty() => {
                let namespace = args.scope.namespace(session);
                let place = namespace.map(|name| format!(" in namespace {name}"));
                format!("No groups found{}.\n", place.unwrap_or_default())
            }
            _ => summary(&views, &unreadable, args.scope.all_namespaces, wide, now),
        }
    })
}

/// Prints groups whenever they change.
async fn watch(args: &StatusArgs, session: &Session) -> Result<(), ClusterError> {
    let namespace = args.scope.namespace(session);
    // Reports a missing group or permission. A list with a field selector is only empty.
    match &args.group {
        Some(name) => drop(read_group(session, name).await?),
        None => drop(read_groups(session, namespace).await?),
    }
    let mut config = watcher::Config::default().page_size(PAGE);
    if let Some(name) = &args.group {
        config = config.fields(&format!("metadata.name={name}"));
    }
    let mut events = std::pin::pin!(watcher(session.groups(namespace), config.clone()));
    let mut groups = Groups::new();
    let mut retries = WatchRetries::default();
    let is_terminal = std::io::stdout().is_terminal();
    let mut redraw_at: Option<Instant> = None;
    loop {
        // Only a terminal is redrawn without a change.
        let redraw = redraw_at.unwrap_or_else(|| Instant::now() + Duration::MAX / 4);
        let event = tokio::select! {
            event = events.try_next() => event,
            () = tokio::time::sleep_until(redraw) => {
                redraw_groups(args, &groups, session, is_terminal)?;
                redraw_at = is_terminal.then(|| Instant::now() + REFRESH);
                continue;
            }
        };
        match event {
            Ok(Some(event)) => {
                if !apply(&mut groups, event) {
                    continue;
                }
            }
            Ok(None) => return Ok(()),
            Err(error) if is_undecodable(&error) => {
                let before = std::mem::replace(&mut groups, read_all(args, session).await?);
                if is_terminal || versions(&before) != versions(&groups) {
                    redraw_groups(args, &groups, session, is_terminal)?;
                }
                tokio::time::sleep(REFRESH).await;
                // The same watch would return the same event again.
                events.set(watcher(session.groups(namespace), config.clone()));
                continue;
            }
            Err(error) => {
                let access = Access::groups("watch", namespace);
                retries.failed(error, access, session).await?;
                continue;
            }
        }
        retries.recovered();
        let soon = Instant::now() + COLLECT;
        redraw_at = Some(redraw_at.map_or(soon, |at| at.min(soon)));
    }
}

/// Groups by their namespaces and names.
type Groups = BTreeMap<(String, String), GroupRead>;

fn key(read: &GroupRead) -> (String, String) {
    (read.namespace.clone(), read.name.clone())
}

/// Applies an event to the groups. Returns whether they are complete and may have changed.
fn apply(groups: &mut Groups, event: Event<DynamicObject>) -> bool {
    match event {
        Event::Init => groups.clear(),
        Event::InitApply(object) => {
            let read = GroupRead::of(object);
            groups.insert(key(&read), read);
        }
        Event::InitDone => return true,
        Event::Apply(object) => {
            let read = GroupRead::of(object);
            groups.insert(key(&read), read);
            return true;
        }
        Event::Delete(object) => {
            groups.remove(&key(&GroupRead::of(object)));
            return true;
        }
    }
    false
}

/// Returns whether a watch failed because a group is nested too deeply.
fn is_undecodable(error: &watcher::Error) -> bool {
    matches!(
        error,
        watcher::Error::InitialListFailed(kube::Error::SerdeError(_))
            | watcher::Error::WatchFailed(kube::Error::SerdeError(_))
    )
}

/// Returns the version of each group, or why it cannot be decoded.
fn versions(groups: &Groups) -> Vec<(&str, &str, Option<&str>)> {
    let groups = groups.values().map(|read| {
        let version = match &read.group {
            Ok(group) => group.metadata.resource_version.as_deref(),
            Err(problem) => Some(problem.as_str()),
        };
        (read.namespace.as_str(), read.name.as_str(), version)
    });
    groups.collect()
}

/// Reads the groups without a watch.
async fn read_all(args: &StatusArgs, session: &Session) -> Result<Groups, ClusterError> {
    let mut read = read_groups(session, args.scope.namespace(session)).await?;
    read.retain(|read| args.group.as_ref().is_none_or(|name| read.name == *name));
    Ok(read.into_iter().map(|read| (key(&read), read)).collect())
}

fn redraw_groups(
    args: &StatusArgs,
    groups: &Groups,
    session: &Session,
    is_terminal: bool,
) -> Result<(), ClusterError> {
    if is_terminal {
        write(CLEAR)?;
    }
    let current: Vec<GroupRead> = groups.values().cloned().collect();
    show(args, &current, session)
}
