//! What must hold in every history. The oracle sees every write as the server applies it, and
//! the truth about every container; it believes no status.

mod claims;
mod results;

use crate::event::Request;
use crate::violation::{Kind, Violation};
use crate::world::{Truth, World};
use oaat_api::Timestamp;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What is remembered to be checked.
#[derive(Default)]
pub struct Oracle {
    /// The first thing that was wrong.
    pub violation: Option<Violation>,
    /// The only kind that is of interest, where a rule is switched off.
    only: Option<Kind>,
    /// The least time between two starts of an item, in milliseconds.
    pub floor: i64,
    /// Runs recorded.
    pub runs: u64,
    /// Pods of which the status has said that the operator ends them.
    pub stopping: BTreeSet<String>,
    /// Those of them that a window ends.
    pub windowed: BTreeSet<String>,
    /// Pods whose run was recorded.
    recorded: BTreeSet<String>,
    /// Pods whose run may stay unrecorded: somebody wiped the status that spoke of it.
    excused: BTreeSet<String>,
    /// The highest number of a run, by the group's uid.
    numbers: BTreeMap<String, i64>,
    /// When each item was last started, by the clock of who started it.
    starts: BTreeMap<String, i64>,
    /// When each replica last listed the pods.
    lists: BTreeMap<usize, u64>,
}

/// Something that is wrong.
type Wrong = Result<(), (Kind, String)>;

fn wrong(kind: Kind, words: String) -> Wrong {
    Err((kind, words))
}

/// A write of the status, as the server applies it.
struct Write<'a> {
    request: &'a Request,
    before: &'a Value,
    after: &'a Value,
    /// Records that it adds to the history, newest first.
    new: Vec<&'a Value>,
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// A time, in milliseconds.
pub fn instant(value: &Value) -> Option<i64> {
    let time: Timestamp = serde_json::from_value(value.clone()).ok()?;
    Some(time.0)
}

impl Oracle {
    /// One who knows nothing yet, and to whom only this kind is of interest.
    pub fn new(only: Option<Kind>) -> Self {
        Self {
            only,
            ..Self::default()
        }
    }

    /// Something is wrong.
    pub fn violated(&mut self, kind: Kind, words: String) {
        if self.only.is_none_or(|only| only == kind) {
            self.violation.get_or_insert(Violation { kind, words });
        }
    }

    /// A replica's list was taken.
    pub fn listed(&mut self, replica: usize, now: u64) {
        self.lists.insert(replica, now);
    }

    /// Somebody wiped the status by hand.
    pub fn wiped(&mut self, group: &str, truth: &BTreeMap<String, Truth>) {
        self.numbers.remove(group);
        self.starts.clear();
        self.excused.extend(truth.keys().cloned());
    }

    /// A replica's write of the status was applied.
    pub fn written(world: &mut World, request: &Request, before: &Value, after: &Value) {
        let known = before["history"].as_array().map_or(&[][..], Vec::as_slice);
        let history = after["history"].as_array().map_or(&[][..], Vec::as_slice);
        let new = history.iter().take_while(|run| Some(*run) != known.first());
        let write = Write {
            request,
            before,
            after,
            new: new.collect(),
        };
        if !after["current"]["stopping"].is_null() {
            let uid = text(&after["current"], "podUid").to_owned();
            if after["current"]["stopping"]["reason"] == "Blackout" {
                world.oracle.windowed.insert(uid.clone());
            }
            world.oracle.stopping.insert(uid);
        }
        let checks = [
            world.records(&write),
            world.moves(&write),
            world.claims(&write),
            world.kept(&write),
            write.counts(),
        ];
        for (kind, words) in checks.into_iter().filter_map(Result::err) {
            world.oracle.violated(kind, words);
        }
    }

    /// Whether every run that was is on record, but for the one in progress.
    pub fn complete(&mut self, truth: &BTreeMap<String, Truth>, group: &str, current: &str) {
        let lost = truth.iter().find(|(uid, truth)| {
            truth.opened
                && !truth.lister
                && truth.group.as_deref() == Some(group)
                && *uid != current
                && !self.recorded.contains(*uid)
                && !self.excused.contains(*uid)
        });
        if let Some((uid, truth)) = lost {
            let words = format!("the run of pod {} ({uid}) was lost", truth.name);
            self.violated(Kind::Lost, words);
        }
    }
}
