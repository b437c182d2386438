//! The groups as one watch delivers them, for all open pages.

use crate::cluster::{Access, ClusterError, GroupRead, PAGE, Session, read_groups, watch_failure};
use crate::terminal::{escape_control, report};
use crate::views::GroupRow;
use futures::TryStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use oaat_api::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};

/// How long to wait before a lost watch starts again.
const RECONNECT: Duration = Duration::from_secs(1);
/// How often the groups are read if one of them breaks the watch.
const POLL: Duration = Duration::from_secs(5);
/// How often the rows are computed again, because items become due.
const REFRESH: Duration = Duration::from_secs(15);
/// How often the connection is checked. A watch does not notice that its connection is dead.
const CHECK: Duration = Duration::from_secs(10);

/// The namespace and the name of a group.
pub(super) type Key = (String, String);

/// Whether the groups are current.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "state", content = "problem")]
pub(super) enum Connection {
    Connecting,
    Connected,
    /// The groups may be outdated, for this reason.
    Lost(String),
}

/// What has changed since a revision.
#[derive(Debug, Serialize)]
pub(super) struct Changes {
    pub connection: Connection,
    /// The groups that were created or changed.
    pub groups: Vec<GroupRow>,
    /// The groups that were deleted.
    pub gone: Vec<Key>,
}

struct Entry {
    /// The revision of the latest change.
    revision: u64,
    /// The group and its row, unless it was deleted. A deleted group remains as a key, so that each
    /// page removes it.
    group: Option<(Arc<GroupRead>, GroupRow)>,
}

struct State {
    groups: BTreeMap<Key, Entry>,
    connection: Connection,
    revision: u64,
}

/// The current groups. Each change has a revision.
pub(super) struct LiveGroups {
    state: Mutex<State>,
    revision: watch::Sender<u64>,
}

impl LiveGroups {
    pub fn new() -> Self {
        Self {
            state: Mutex::new(State {
                groups: BTreeMap::new(),
                connection: Connection::Connecting,
                revision: 1,
            }),
            revision: watch::Sender::new(1),
        }
    }

    /// Returns a receiver of the latest revision.
    pub fn revisions(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Returns the latest revision, and what has changed since an earlier one; 0 for everything.
    pub fn changes_since(&self, seen: u64) -> (u64, Changes) {
        let state = self.lock();
        let mut changes = Changes {
            connection: state.connection.clone(),
            groups: Vec::new(),
            gone: Vec::new(),
        };
        for (key, entry) in state.groups.iter().filter(|(_, e)| e.revision > seen) {
            match &entry.group {
                Some((_, row)) => changes.groups.push(row.clone()),
                None if seen > 0 => changes.gone.push(key.clone()),
                None => {}
            }
        }
        (state.revision, changes)
    }

    /// Returns a group.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<GroupRead>> {
        let key = (namespace.to_owned(), name.to_owned());
        let state = self.lock();
        let (group, _) = state.groups.get(&key)?.group.as_ref()?;
        Some(group.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and notifies the pages if `change` returns true.
    fn change(&self, change: impl FnOnce(&mut State, u64) -> bool) {
        let mut state = self.lock();
        let revision = state.revision + 1;
        if change(&mut state, revision) {
            state.revision = revision;
            self.revision.send_replace(revision);
        }
    }

    fn set_connection(&self, connection: Connection) {
        self.change(|state, _| {
            let is_new = state.connection != connection;
            state.connection = connection;
            is_new
        });
    }

    fn apply(&self, read: GroupRead, now: Timestamp) {
        self.change(|state, revision| {
            insert(state, read, revision, now);
            true
        });
    }

    fn delete(&self, key: Key) {
        self.change(|state, revision| {
            let group = None;
            state.groups.insert(key, Entry { revision, group });
            true
        });
    }

    /// Replaces all groups by those of a new list.
    fn replace(&self, groups: BTreeMap<Key, GroupRead>, now: Timestamp) {
        self.change(|state, revision| {
            for (key, entry) in &mut state.groups {
                if entry.group.is_some() && !groups.contains_key(key) {
                    entry.group = None;
                    entry.revision = revision;
                }
            }
            for (key, read) in groups {
                let earlier = state.groups.get(&key).and_then(|e| e.group.as_ref());
                if !earlier.is_some_and(|(earlier, _)| is_same(earlier, &read)) {
                    insert(state, read, revision, now);
                }
            }
            state.connection = Connection::Connected;
            true
        });
    }

    /// Computes all rows again.
    fn refresh(&self, now: Timestamp) {
        self.change(|state, revision| {
            let mut is_changed = false;
            for entry in state.groups.values_mut() {
                let Some((group, row)) = &mut entry.group else {
                    continue;
                };
                let new = GroupRow::of(group, now);
                if new != *row {
                    *row = new;
                    entry.revision = revision;
                    is_changed = true;
                }
            }
            is_changed
        });
    }
}

fn insert(state: &mut State, read: GroupRead, revision: u64, now: Timestamp) {
    let key = key(&read);
    let row = GroupRow::of(&read, now);
    let group = Some((Arc::new(read), row));
    state.groups.insert(key, Entry { revision, group });
}

/// Returns whether two reads returned the same object.
fn is_same(one: &GroupRead, other: &GroupRead) -> bool {
    let version = |read: &GroupRead| {
        let group = read.group.as_ref().ok()?;
        group.metadata.resource_version.clone()
    };
    version(one).is_some_and(|one| version(other) == Some(one))
}

fn key(read: &GroupRead) -> Key {
    (read.namespace.clone(), read.name.clone())
}

fn by_key(groups: Vec<GroupRead>) -> BTreeMap<Key, GroupRead> {
    groups.into_iter().map(|read| (key(&read), read)).collect()
}

/// Keeps the groups current, and starts again whenever the watch is lost.
pub(super) async fn follow(live: &LiveGroups, session: &Session, namespace: Option<&str>) {
    let mut is_reported = false;
    loop {
        let mut lost = tokio::select! {
            lost = watch_groups(live, session, namespace, &mut is_reported) => lost,
            lost = until_unreachable(session) => Some(lost),
        };
        // A group that is nested too deeply. It must not hide the others.
        if matches!(lost, Some(ClusterError::Rejected { code: None, .. })) {
            match read_groups(session, namespace).await {
                Ok(groups) => {
                    live.replace(by_key(groups), Timestamp::now());
                    sleep(POLL).await;
                    continue;
                }
                Err(cause) => lost = Some(cause),
            }
        }
        if let Some(cause) = lost {
            if !is_reported {
                is_reported = true;
                report(&escape_control(&format!("warning: {cause}; trying again")));
            }
            live.set_connection(Connection::Lost(cause.to_string()));
        }
        sleep(RECONNECT).await;
    }
}

/// Watches the groups until that fails. Returns `None` if a new list is sufficient.
async fn watch_groups(
    live: &LiveGroups,
    session: &Session,
    namespace: Option<&str>,
    is_reported: &mut bool,
) -> Option<ClusterError> {
    let config = watcher::Config::default().page_size(PAGE);
    let mut events = std::pin::pin!(watcher(session.groups(namespace), config));
    let mut listed = BTreeMap::new();
    let mut refresh = interval(REFRESH);
    refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let event = tokio::select! {
            event = events.try_next() => event,
            _ = refresh.tick() => {
                live.refresh(Timestamp::now());
                continue;
            }
        };
        match event {
            Ok(Some(Event::Init)) => listed.clear(),
            Ok(Some(Event::InitApply(object))) => {
                let read = GroupRead::of(object);
                listed.insert(key(&read), read);
            }
            Ok(Some(Event::InitDone)) => {
                live.replace(std::mem::take(&mut listed), Timestamp::now());
                *is_reported = false;
            }
            Ok(Some(Event::Apply(object))) => live.apply(GroupRead::of(object), Timestamp::now()),
            Ok(Some(Event::Delete(object))) => live.delete(key(&GroupRead::of(object))),
            Ok(None) => return None,
            Err(error) => {
                let access = Access::groups("watch", namespace);
                return watch_failure(error, access, session).map(|(cause, _)| cause);
            }
        }
    }
}

/// Returns when the API server no longer responds.
async fn until_unreachable(session: &Session) -> ClusterError {
    loop {
        sleep(CHECK).await;
        let access = Access::new("get", "", "version", None);
        let version = session.client.apiserver_version();
        let answer = session.request(access, version).await;
        // Another error of the API server is a response.
        if let Err(lost @ (ClusterError::Timeout(_) | ClusterError::Unreachable { .. })) = answer {
            return lost;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::test_groups::{NOW, backup};

    fn read(name: &str, version: &str) -> GroupRead {
        let mut group = backup();
        group.metadata.name = Some(name.into());
        group.metadata.resource_version = Some(version.into());
        GroupRead {
            namespace: "media".into(),
            name: name.into(),
            group: Ok(group),
        }
    }

    fn list(reads: &[(&str, &str)]) -> BTreeMap<Key, GroupRead> {
        let reads = reads.iter().map(|(name, version)| read(name, version));
        by_key(reads.collect())
    }

    /// Returns the latest revision, and the names of the groups that changed and that are gone.
    fn changes(live: &LiveGroups, seen: u64) -> (u64, Vec<String>, Vec<String>) {
        let (revision, changes) = live.changes_since(seen);
        let groups = changes.groups.into_iter().map(|row| row.name).collect();
        let gone = changes.gone.into_iter().map(|(_, name)| name).collect();
        (revision, groups, gone)
    }

    #[test]
    fn pages_receive_only_what_has_changed() {
        let live = LiveGroups::new();
        let none: Vec<String> = Vec::new();
        live.replace(list(&[("a", "1"), ("b", "1"), ("c", "1")]), NOW);
        let (first, groups, _) = changes(&live, 0);
        assert_eq!(groups, ["a", "b", "c"]);
        live.apply(read("b", "2"), NOW);
        live.delete(("media".into(), "c".into()));
        let (second, groups, gone) = changes(&live, first);
        assert_eq!((groups, gone), (vec!["b".to_owned()], vec!["c".to_owned()]));
        assert_eq!(changes(&live, 0).2, none, "a new page never saw it");
        // The same list again, and one item that has become due since.
        live.replace(list(&[("a", "1"), ("b", "2")]), NOW);
        let (third, groups, gone) = changes(&live, second);
        assert_eq!((groups, gone), (none.clone(), none.clone()));
        live.refresh(NOW);
        assert_eq!(changes(&live, third), (third, none.clone(), none.clone()));
        live.refresh(NOW.plus(Duration::from_secs(3600)));
        assert_eq!(changes(&live, third).1, ["a", "b"]);
        live.set_connection(Connection::Lost("no".into()));
        let (_, lost) = live.changes_since(third);
        assert_eq!(lost.connection, Connection::Lost("no".into()));
        assert!(live.get("media", "a").is_some());
        assert!(live.get("media", "c").is_none());
    }
}
