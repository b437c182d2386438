//! One history: replicas, a cluster and a node under faults, from a seed to a verdict.

use crate::chance::{Chance, Fault};
use crate::cluster::{Reply, Verb};
use crate::mischief;
use crate::mutation::Mutation;
use crate::node::{self, Manner, Step};
use crate::replica::{self, Looked, Replica};
use crate::world::{Change, World};
use oaat_operator::api::{OaatGroupSpec, OaatGroupStatus, OaatTypeSpec};
use oaat_operator::cluster::{ClusterError, TypeRead};
use oaat_operator::pod::PodView;
use policy_host::Policy;
use serde_json::json;
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

/// How a history is made.
#[derive(Clone, Debug, Default)]
pub struct Setting {
    /// The seed.
    pub seed: u64,
    /// A rule switched off.
    pub mutation: Option<Mutation>,
    /// Faults that are left out.
    pub without: BTreeSet<u64>,
    /// Whether to tell what happens.
    pub told: bool,
}

/// What came of a history.
#[derive(Debug, Default)]
pub struct Verdict {
    /// What was wrong, if something was.
    pub violation: Option<String>,
    /// Runs recorded.
    pub runs: u64,
    /// Looks at the group.
    pub looks: u64,
    /// The faults, by their numbers.
    pub faults: Vec<u64>,
    /// What happened, if it was to be told.
    pub told: Vec<String>,
}

/// What happens at a moment.
#[derive(Clone, Debug)]
pub enum Event {
    /// A replica is to look at the group.
    Wake(usize, u64),
    /// A request reaches the server; the answer comes back so much later, or never.
    Arrives(usize, u64, u64, Box<Verb>, Option<u64>),
    /// An answer reaches a replica.
    Answers(usize, u64, u64, Box<Reply>),
    /// A watch event reaches a replica.
    Sees(usize, u64, Box<Change>),
    /// A step of the node.
    Node(String, Step),
    /// Something may go wrong.
    Mischief,
    /// The garbage collector looks around.
    Collect,
    /// A replica is started again.
    Restart(usize),
    /// A stopped replica goes on.
    Resume(usize, u64),
    /// A replica's watch is taken up again.
    Relist(usize, u64),
    /// The group is created again.
    Recreate,
    /// The type is there again, for a replica.
    Type(usize),
    /// The faults end.
    Calm,
    /// What was under way when the faults ended has come to an end.
    Quiet,
}

/// Everything of one history.
pub struct History<'a> {
    default: &'a Policy,
    /// Chance.
    pub chance: Chance,
    /// The cluster.
    pub world: World,
    /// The operator.
    pub replicas: Vec<Replica>,
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
            faults: history.chance.injected,
            told,
        }
    }

    fn new(setting: &Setting, default: &'a Policy) -> Self {
        let mut chance = Chance::new(setting.seed, &setting.without);
        let names = ["a", "b", "c", "d"];
        let items = &names[..chance.number(1..5) as usize];
        let spec: OaatGroupSpec = serde_json::from_value(json!({
            "oaatType": "t",
            "oaatItems": items,
            "frequency": chance.one_of(&["10s", "1m", "3m"]),
            "failureCoolOff": chance.one_of(&["0s", "5s", "1m"]),
            "startTimeout": chance.one_of(&["0s", "2s", "30s", "15m"]),
            "podRetention": chance.one_of(&["0s", "10s", "12h"]),
            "podHistoryLimit": chance.one_of(&[0, 1, 3, 10]),
        }))
        .unwrap_or_else(|error| panic!("the spec of a history: {error}"));
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
        let mut history = Self {
            default,
            world: World::new(setting.mutation),
            replicas,
            election,
            spec,
            type_,
            floor: Duration::from_secs(chance.one_of(&[0, 1, 10])),
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
            if self.world.oracle.violation.is_some() {
                return;
            }
            let Some(quiet) = self.quiet else { continue };
            if std::mem::take(&mut self.world.written) && self.everything_ran(quiet) {
                return self.end();
            }
            if time > quiet + PATIENCE {
                let status = self.world.group.as_ref().map(|group| group.status.clone());
                let words = format!("nothing moves: {}", status.unwrap_or_default());
                return self.world.oracle.violated(words);
            }
        }
        self.world
            .oracle
            .violated("nothing is left to happen".into());
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
                    self.world.oracle.violated("looks without end".into());
                }
                if self.world.mutation == Some(Mutation::ListBeforeRead) {
                    self.replicas[replica].listed = self.world.labelled();
                }
                self.go_on(replica);
            }
            Event::Arrives(replica, life, call, verb, back) => {
                self.arrives(replica, life, call, &verb, back);
            }
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
            Event::Node(uid, step) => {
                self.tell(|| format!("node: {step:?} {uid}"));
                let (world, chance) = (&mut self.world, &mut self.chance);
                for (wait, uid, step) in node::take(world, &uid, step, self.manner, chance) {
                    self.at(wait, Event::Node(uid, step));
                }
            }
            Event::Mischief => {
                if let Some(fault) = self.chance.fault(80) {
                    mischief::happens(self, fault);
                }
                if !self.chance.calm {
                    let wait = self.chance.number(50..1000);
                    self.at(wait, Event::Mischief);
                }
            }
            Event::Collect => {
                mischief::collect(&mut self.world);
                self.at(1000, Event::Collect);
            }
            Event::Restart(replica) => self.restart(replica),
            Event::Resume(replica, life) => {
                let this = &mut self.replicas[replica];
                if this.life == life && this.alive && this.paused {
                    this.paused = false;
                    self.tell(|| format!("replica {replica} goes on"));
                    self.wake(replica, 1);
                }
            }
            Event::Relist(replica, life) => {
                if self.replicas[replica].life == life {
                    self.replicas[replica].relist();
                    self.wake(replica, 1);
                }
            }
            Event::Recreate => {
                if self.world.group.is_none() {
                    self.tell(|| "the group is created again".into());
                    self.world.create_group(self.spec.clone());
                }
            }
            Event::Type(replica) => {
                self.replicas[replica].wire.mailbox().type_ = Some(self.type_.clone());
                self.wake(replica, 1);
            }
            Event::Calm => self.calm(),
            Event::Quiet => {
                mischief::tidy(&mut self.world);
                self.at(5_000, Event::Recreate);
                self.quiet = Some(self.world.now);
                self.tell(|| "quiet".into());
            }
        }
    }

    /// A replica is to look at the group.
    pub fn wake(&mut self, replica: usize, later: u64) {
        let life = self.replicas[replica].life;
        self.at(later, Event::Wake(replica, life));
    }

    /// A replica's process ends, and is started again later.
    pub fn crash(&mut self, replica: usize, down: u64) {
        let this = &mut self.replicas[replica];
        this.alive = false;
        this.leads &= !self.election;
        self.tell(|| format!("replica {replica} is killed"));
        self.at(down, Event::Restart(replica));
        self.elect();
    }

    /// Another replica takes the lease that nobody holds.
    fn elect(&mut self) {
        if !self.election
            || self
                .replicas
                .iter()
                .any(|r| r.alive && !r.paused && r.leads)
        {
            return;
        }
        if let Some(next) =
            (0..self.replicas.len()).find(|i| self.replicas[*i].alive && !self.replicas[*i].paused)
        {
            self.replicas[next].leads = true;
            self.tell(|| format!("replica {next} leads"));
            let wait = self.chance.number(0..15_000);
            self.wake(next, wait);
        }
    }

    /// A replica stops for a while; it goes on as if nothing had happened, and is then killed
    /// if another leads by then.
    pub fn pause(&mut self, replica: usize, mut fault: Fault) {
        let long = fault.within(100..60_000);
        let this = &mut self.replicas[replica];
        if !this.alive || this.paused {
            return;
        }
        this.paused = true;
        let life = this.life;
        self.tell(|| format!("replica {replica} stands still"));
        self.at(long, Event::Resume(replica, life));
        self.elect();
    }

    fn restart(&mut self, replica: usize) {
        let this = &self.replicas[replica];
        if this.alive {
            return;
        }
        let (life, clock) = (this.life + 10, this.clock);
        let leads = !self.election && self.replicas.iter().any(|r| r.leads);
        self.tell(|| format!("replica {replica} is started"));
        self.replicas[replica] = Replica::new(life, leads, clock);
        self.at(0, Event::Type(replica));
        self.elect();
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
        self.at(5_000, Event::Recreate);
        // Longer than the latest request, and than the node hangs.
        self.at(65_000, Event::Quiet);
    }

    /// A replica goes on, and its new requests set out.
    fn go_on(&mut self, replica: usize) {
        let now = self.world.now;
        let looked = self.replicas[replica].go_on(now, &mut self.chance);
        let this = &self.replicas[replica];
        let (life, made) = (this.life, std::mem::take(&mut this.wire.mailbox().made));
        for (call, verb) in made {
            self.sets_out(replica, life, call, verb);
        }
        if let Looked::Over(Some(wait)) = looked {
            self.at(wait, Event::Wake(replica, life));
        }
    }

    /// Decides what becomes of a request.
    fn sets_out(&mut self, replica: usize, life: u64, call: u64, verb: Verb) {
        let there = self.chance.number(1..10);
        let back = self.chance.number(1..10);
        let Some(mut fault) = self.chance.fault(25) else {
            return self.at(
                there,
                Event::Arrives(replica, life, call, Box::new(verb), Some(back)),
            );
        };
        let number = fault.number;
        let broken = |words: &str| Box::new(Err(ClusterError::Unavailable(words.into())));
        let kind = fault.within(0..7);
        self.tell(|| {
            format!(
                "fault {number} (kind {kind}) on {} of {replica}",
                name(&verb)
            )
        });
        let verb = Box::new(verb);
        match kind {
            // Slow there, or slow back.
            0 => {
                let (there, back) = (fault.within(1..15_000), fault.within(1..15_000));
                let event = Event::Arrives(replica, life, call, verb, Some(back));
                self.at(there, event);
            }
            // Never arrives.
            1 => {
                let after = fault.within(1..15_000);
                self.at(after, Event::Answers(replica, life, call, broken("lost")));
            }
            // Arrives after its sender has given up.
            2 => {
                let after = fault.within(1..15_000);
                let there = after + fault.within(0..60_000);
                self.at(
                    after,
                    Event::Answers(replica, life, call, broken("too late")),
                );
                self.at(there, Event::Arrives(replica, life, call, verb, None));
            }
            // The answer is lost.
            3 => {
                let after = there + fault.within(0..15_000);
                self.at(there, Event::Arrives(replica, life, call, verb, None));
                self.at(
                    after,
                    Event::Answers(replica, life, call, broken("no answer")),
                );
            }
            // Arrives twice.
            4 => {
                let twice = there + fault.within(0..20_000);
                let again = Event::Arrives(replica, life, call, verb.clone(), None);
                self.at(there, Event::Arrives(replica, life, call, verb, Some(back)));
                self.at(twice, again);
            }
            // The server is busy, or at fault.
            5 => self.at(
                there + back,
                Event::Answers(replica, life, call, broken("429 or 500")),
            ),
            // The server refuses.
            _ => {
                let refusal = match *verb {
                    Verb::CreatePod(_) => ClusterError::Rejected {
                        code: 403,
                        message: "exceeded quota".into(),
                    },
                    Verb::WriteStatus { .. } => ClusterError::Conflict("somebody else".into()),
                    _ => ClusterError::Unavailable("503".into()),
                };
                let reply = Box::new(Err(refusal));
                self.at(there + back, Event::Answers(replica, life, call, reply));
            }
        }
    }

    fn arrives(&mut self, replica: usize, life: u64, call: u64, verb: &Verb, back: Option<u64>) {
        let this = &mut self.replicas[replica];
        let second = self.world.mutation == Some(Mutation::NoSecondRead) && this.life == life;
        let known = match verb {
            Verb::Group if second => this.first_read.clone(),
            Verb::WriteStatus { .. } => {
                this.first_read = None;
                None
            }
            _ => None,
        };
        let reply = match known {
            Some(group) => Ok(crate::cluster::Answer::Group(group)),
            None => self.world.apply(replica, verb, &this.listed),
        };
        if let Ok(crate::cluster::Answer::Group(group)) = &reply {
            self.replicas[replica].first_read = Some(group.clone());
        }
        self.tell(|| {
            let outcome = match &reply {
                Ok(_) => String::new(),
                Err(error) => format!(": {error}"),
            };
            format!("{} of {replica}{outcome}", name(verb))
        });
        if let Some(back) = back {
            self.at(back, Event::Answers(replica, life, call, Box::new(reply)));
        }
    }

    /// Hands on what has happened to those who watch.
    fn spread(&mut self) {
        for change in std::mem::take(&mut self.world.changes) {
            for (wait, uid, step) in node::hears(&change, &mut self.chance) {
                self.at(wait, Event::Node(uid, step));
            }
            if let Change::Opened(_) | Change::Going(..) = change {
                continue;
            }
            for replica in 0..self.replicas.len() {
                let wait = match self.chance.fault(10) {
                    Some(mut fault) => fault.within(0..5_000),
                    None => self.chance.number(1..20),
                };
                let life = self.replicas[replica].life;
                self.at(wait, Event::Sees(replica, life, Box::new(change.clone())));
            }
        }
    }

    fn sees(&mut self, replica: usize, life: u64, change: &Change) {
        let this = &mut self.replicas[replica];
        if !this.alive || this.life != life || this.deaf {
            return;
        }
        let wait = match change {
            Change::Group => Some(1),
            // The operator's own writes, as a rule, which it knows as such.
            Change::Status => None,
            Change::Pod(pod) => this.sees(pod, false),
            Change::PodGone(pod) => this.sees(pod, true),
            Change::Opened(_) | Change::Going(..) => None,
        };
        if let Some(wait) = wait {
            self.at(wait, Event::Wake(replica, life));
        }
    }

    /// Whether each item has succeeded since then.
    fn everything_ran(&self, since: u64) -> bool {
        let Some(group) = &self.world.group else {
            return false;
        };
        let status: OaatGroupStatus =
            serde_json::from_value(group.status.clone()).unwrap_or_default();
        group.object.spec.oaat_items.iter().all(|item| {
            let last = status.items.get(item).and_then(|item| item.last_success);
            last.is_some_and(|last| last.0 > crate::world::wall(since))
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
            self.world.oracle.violated(words);
        }
    }
}

/// A request in a few words.
fn name(verb: &Verb) -> String {
    match verb {
        Verb::Group => "read group".into(),
        Verb::Pods { .. } => "list pods".into(),
        Verb::Pod(name) => format!("read pod {name}"),
        Verb::NamespaceEnds => "read namespace".into(),
        Verb::WriteStatus { version, status } => match &status["current"] {
            serde_json::Value::Null if status.get("current").is_some() => {
                format!("write at {version}: no run in progress")
            }
            serde_json::Value::Null => format!("write at {version}"),
            current => format!(
                "write at {version}: run {} in {}",
                current["run"], current["podUid"]
            ),
        },
        Verb::CreatePod(pod) => {
            format!(
                "create {}",
                pod.metadata.name.as_deref().unwrap_or_default()
            )
        }
        Verb::OpenGate { uid, .. } => format!("open {uid}"),
        Verb::DeletePod { uid, .. } => format!("delete {uid}"),
    }
}
