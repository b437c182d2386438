//! One history: replicas, a cluster and a node under faults, from a seed to a verdict.

use crate::chance::Chance;
use crate::event::{Event, Request};
use crate::mischief;
use crate::node::{self, Manner};
use crate::oracle::instant;
use crate::replica::{self, Looked, Replica};
use crate::setting::{Faults, Kill, Setting, Verdict};
use crate::violation::Kind;
use crate::world::{Change, Group, World};
use oaat_api::{OaatGroupSpec, OaatTypeSpec};
use oaat_operator::cluster::TypeRead;
use oaat_operator::pod::PodView;
use oaat_operator::run_now;
use policy_host::Policy;
use serde_json::json;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

/// Everything of one history.
pub struct History<'a> {
    default: &'a Policy,
    /// Chance.
    pub chance: Chance,
    /// The cluster.
    pub world: World,
    /// The operator.
    pub replicas: Vec<Replica>,
    /// The faults that there are.
    pub faults: Faults,
    /// A write at which its replica is killed.
    pub kill: Option<Kill>,
    /// Writes that set out so far.
    pub writes: u64,
    /// Whether one of them is elected.
    pub election: bool,
    /// The group's spec, to create it again.
    pub spec: OaatGroupSpec,
    type_: TypeRead,
    floor: Duration,
    manner: Manner,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: std::collections::HashMap<u64, Event>,
    sequence: u64,
    quiet: Option<u64>,
    looks: u64,
    told: Option<Vec<String>>,
}

/// Virtual time after which everything must have run, once there are no faults.
const PATIENCE: u64 = 2 * 60 * 60 * 1000;
/// More looks than this are a loop.
const LOOKS: u64 = 20_000;

impl<'a> History<'a> {
    /// Runs a history.
    pub fn run(setting: &Setting, default: &'a Policy) -> Verdict {
        replica::begin();
        let mut history = Self::new(setting, default);
        history.play();
        let told = history.told.take().unwrap_or_default();
        Verdict {
            violation: history.world.oracle.violation,
            runs: history.world.oracle.runs,
            looks: history.looks,
            writes: history.writes,
            faults: history.chance.injected,
            told,
        }
    }

    fn new(setting: &Setting, default: &'a Policy) -> Self {
        let mut chance = Chance::new(setting.seed, &setting.without);
        chance.calm = setting.faults == Faults::None;
        let names = ["a", "b", "c", "d"];
        let items = &names[..chance.number(1..5) as usize];
        let mut spec: OaatGroupSpec = serde_json::from_value(json!({
            "oaatType": "t",
            "oaatItems": items,
            "frequency": chance.one_of(&["10s", "1m", "3m"]),
            "failureCoolOff": chance.one_of(&["0s", "5s", "1m"]),
            "startTimeout": chance.one_of(&["0s", "2s", "30s", "15m"]),
            "podRetention": chance.one_of(&["0s", "10s", "12h"]),
            "podHistoryLimit": chance.one_of(&[0, 1, 3, 10]),
        }))
        .unwrap_or_else(|error| panic!("the spec of a history: {error}"));
        if setting.faults == Faults::Lists {
            let container = json!({
                "podspec": { "container": { "name": "main", "image": "busybox" } },
                "refresh": "10s", "timeout": "20s",
            });
            let source = json!({ "name": "disks", "container": container });
            spec.items_from.extend(serde_json::from_value(source));
        }
        let type_: OaatTypeSpec = serde_json::from_value(json!({
            "type": "pod",
            "podspec": { "container": { "name": "main", "image": "busybox" } },
        }))
        .unwrap_or_else(|error| panic!("the type of a history: {error}"));
        let type_ = TypeRead::Valid(Arc::new(type_));
        let count = chance.number(1..4) as usize;
        // One is elected; or none is, and all act; or all believe that they are.
        let (election, leads) = chance.one_of(&[(true, false), (false, false), (false, true)]);
        let replicas = (0..count)
            .map(|i| Replica::new(i as u64, leads || (election && i == 0), 0))
            .collect();
        let manner = Manner {
            longest: chance.one_of(&[50, 2_000, 40_000]),
            failing: chance.one_of(&[0, 200, 600]),
        };
        let floor = Duration::from_secs(chance.one_of(&[0, 1, 10]));
        let mut history = Self {
            default,
            world: World::new(setting.mutation),
            replicas,
            faults: setting.faults,
            kill: setting.kill,
            writes: 0,
            election,
            spec,
            type_,
            floor,
            manner,
            queue: BinaryHeap::new(),
            events: std::collections::HashMap::new(),
            sequence: 0,
            quiet: None,
            looks: 0,
            told: setting.told.then(Vec::new),
            chance,
        };
        for replica in 0..count {
            history.at(0, Event::Type(replica));
        }
        history.world.oracle.floor = floor.as_millis() as i64;
        history.world.create_group(history.spec.clone());
        let length = history.chance.number(10_000..60_000);
        history.at(length, Event::Calm);
        history.at(500, Event::Mischief);
        history.at(1000, Event::Collect);
        history
    }

    /// Something happens so many milliseconds from now.
    pub fn at(&mut self, later: u64, event: Event) {
        self.sequence += 1;
        let key = (self.world.now + later, self.sequence);
        self.queue.push(Reverse(key));
        self.events.insert(self.sequence, event);
    }

    /// Tells what happens, if it is to be told.
    pub fn tell(&mut self, words: impl FnOnce() -> String) {
        let now = self.world.now;
        if let Some(told) = &mut self.told {
            told.push(format!("{:>9.3} s  {}", now as f64 / 1000.0, words()));
        }
    }

    fn play(&mut self) {
        while let Some(Reverse((time, sequence))) = self.queue.pop() {
            let Some(event) = self.events.remove(&sequence) else {
                continue;
            };
            self.world.now = time;
            self.happens(event);
            self.spread();
            if self.world.oracle.violation.is_some() || self.looks > LOOKS {
                return;
            }
            let Some(quiet) = self.quiet else { continue };
            if std::mem::take(&mut self.world.written) && self.everything_ran(quiet) {
                return self.end();
            }
            if time > quiet + PATIENCE {
                let status = self.world.group.as_ref().map(|group| group.status.clone());
                let words = format!("nothing moves: {}", status.unwrap_or_default());
                return self.world.oracle.violated(Kind::Stuck, words);
            }
        }
        let words = "nothing is left to happen".to_owned();
        self.world.oracle.violated(Kind::Stuck, words);
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Wake(replica, life) => {
                let this = &mut self.replicas[replica];
                let acts = this.alive && !this.paused && (!self.election || this.leads);
                if !acts || this.life != life || !this.wake(self.default, self.floor) {
                    return;
                }
                self.looks += 1;
                if self.looks > LOOKS {
                    let words = "looks without end".to_owned();
                    self.world.oracle.violated(Kind::Stuck, words);
                }
                self.go_on(replica);
            }
            Event::Arrives(request, back) => self.arrives(&request, back),
            Event::Answers(replica, life, call, reply) => {
                let this = &mut self.replicas[replica];
                if !this.alive || this.life != life {
                    return;
                }
                if this.paused {
                    return self.at(100, Event::Answers(replica, life, call, reply));
                }
                this.wire.mailbox().answer(call, *reply);
                self.go_on(replica);
            }
            Event::Sees(replica, life, change) => self.sees(replica, life, &change),
            Event::Edited(replica, life, version) => {
                let this = &self.replicas[replica];
                if this.life == life && this.wrote < version {
                    self.wake(replica, 0);
                }
            }
            Event::Node(uid, step) => {
                self.tell(|| format!("node: {step:?} {uid}"));
                let (world, chance) = (&mut self.world, &mut self.chance);
                for (wait, uid, step) in node::take(world, &uid, step, self.manner, chance) {
                    self.at(wait, Event::Node(uid, step));
                }
            }
            Event::Mischief => {
                if let Some(fault) = self.chance.fault(self.faults.beside()) {
                    mischief::happens(self, fault);
                }
                if !self.chance.calm {
                    let wait = self.chance.number(50..1000);
                    self.at(wait, Event::Mischief);
                }
            }
            Event::Collect => {
                mischief::collect(self);
                self.at(1000, Event::Collect);
            }
            Event::Restart(replica) => self.restart(replica),
            Event::Resume(replica, life) => {
                let this = &mut self.replicas[replica];
                if this.life == life && this.alive && this.paused {
                    this.paused = false;
                    self.tell(|| format!("replica {replica} goes on"));
                    self.wake(replica, 1);
                    self.deposed(replica);
                }
            }
            Event::Deposed(replica, life) => {
                let this = &self.replicas[replica];
                if this.life == life && this.alive {
                    self.crash(replica, 1_000);
                }
            }
            Event::Relist(replica, life) => {
                if self.replicas[replica].life == life {
                    self.replicas[replica].relist();
                    self.wake(replica, 1);
                }
            }
            Event::Recreate => {
                if self.world.namespace_ends.is_some() {
                    self.at(1_000, Event::Recreate);
                } else if self.world.group.is_none() {
                    self.tell(|| "the group is created again".into());
                    self.world.create_group(self.spec.clone());
                }
            }
            Event::Type(replica) => {
                self.replicas[replica].wire.mailbox().type_ = Some(self.type_.clone());
                self.wake(replica, 1);
            }
            Event::Resumed => mischief::resume(&mut self.world),
            Event::Calm => self.calm(),
            Event::Quiet => {
                mischief::tidy(&mut self.world);
                self.at(5_000, Event::Recreate);
                self.quiet = Some(self.world.now);
                self.tell(|| "quiet".into());
            }
        }
    }

    fn calm(&mut self) {
        self.tell(|| "the faults end".into());
        self.chance.calm = true;
        self.world.node_clock = 0;
        for replica in 0..self.replicas.len() {
            self.restart(replica);
            self.replicas[replica].clock = 0;
            let life = self.replicas[replica].life;
            self.at(0, Event::Resume(replica, life));
            self.at(1, Event::Relist(replica, life));
            self.at(1, Event::Type(replica));
        }
        self.manner.failing = 0;
        if self.faults == Faults::Wishes {
            self.at(1, Event::Resumed);
        }
        self.at(5_000, Event::Recreate);
        // Longer than the latest request, and than the node hangs.
        self.at(65_000, Event::Quiet);
    }

    /// A replica goes on, and its new requests set out.
    fn go_on(&mut self, replica: usize) {
        let now = self.world.now;
        let rule = self.world.mutation;
        let looked = self.replicas[replica].go_on(now, rule, &mut self.chance);
        let this = &self.replicas[replica];
        let (life, made) = (this.life, std::mem::take(&mut this.wire.mailbox().made));
        let clock = this.clocks;
        for (call, verb) in made {
            // A request before this one may have been the end of its sender.
            if !self.replicas[replica].alive {
                return;
            }
            self.sets_out(Request {
                replica,
                life,
                call,
                verb: Box::new(verb),
                clock,
                fatal: None,
            });
        }
        if let Looked::Over(Some(wait)) = looked {
            self.at(wait, Event::Wake(replica, life));
        }
    }

    /// Hands on what has happened to those who watch.
    fn spread(&mut self) {
        for change in std::mem::take(&mut self.world.changes)
            .into_iter()
            .map(Arc::new)
        {
            for (wait, uid, step) in node::hears(&change, &mut self.chance) {
                self.at(wait, Event::Node(uid, step));
            }
            if let Change::Opened(_) | Change::Going(..) = *change {
                continue;
            }
            for replica in 0..self.replicas.len() {
                let wait = match self.chance.fault(10) {
                    Some(mut fault) => fault.within(0..5_000),
                    None => self.chance.number(1..20),
                };
                let life = self.replicas[replica].life;
                self.at(wait, Event::Sees(replica, life, change.clone()));
            }
        }
    }

    /// Whether each item has succeeded since then.
    fn everything_ran(&self, since: u64) -> bool {
        let Some(group) = &self.world.group else {
            return false;
        };
        let items = &group.status["items"];
        if self.faults == Faults::Wishes && self.plan_requested_item() {
            return false;
        }
        let listed = match self.faults {
            Faults::Lists => self.world.listed.as_slice(),
            _ => &[],
        };
        group
            .object
            .spec
            .oaat_items
            .iter()
            .chain(listed)
            .all(|item| {
                let last = items
                    .get(item)
                    .and_then(|item| instant(&item["lastSuccess"]));
                last.is_some_and(|last| last > crate::world::wall(since))
            })
    }

    /// Whether somebody asked for an item to be run now, and it has not been started since.
    fn plan_requested_item(&self) -> bool {
        let status = |group: &Group| serde_json::from_value(group.status.clone()).ok();
        self.world.group.as_ref().is_some_and(|group| {
            let status = status(group).unwrap_or_default();
            !run_now::pending(&group.object, &group.object.spec.oaat_items, &status).is_empty()
        })
    }

    fn end(&mut self) {
        let current = self.world.current().unwrap_or_default().to_owned();
        let group = self.world.group_uid().unwrap_or_default();
        self.world
            .oracle
            .complete(&self.world.truth, &group, &current);
        let now = self.world.now;
        let left = self.world.pods.values().map(PodView::from).find(|pod| {
            let age = now.saturating_sub(self.world.truth[&pod.uid].created);
            pod.gated && pod.uid != current && age > 60_000
        });
        if let Some(left) = left {
            let words = format!("candidate {} was left over", left.name);
            self.world.oracle.violated(Kind::LeftOver, words);
        }
    }
}
