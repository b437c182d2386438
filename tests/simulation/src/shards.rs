//! Replicas with `--shard`, in virtual time and with the operator's own functions. They start, stop,
//! crash, and pause, and the number of shards changes while they roll out.
//!
//! Leases are acquired and renewed as in the operator's `lease.rs`. The API server never fails here:
//! a replica that cannot reach it loses its lease, like one that is paused.

use crate::mutation::{Mutation, without};
use crate::randomness::Randomness;
use crate::violation::{Violation, ViolationKind};
use k8s_openapi::api::coordination::v1::LeaseSpec;
use oaat_operator::lease::{DURATION, RENEW_DEADLINE, RETRY, STANDBY_INTERVAL};
use oaat_operator::shard::{ObservedLeases, Shard, serving_shard};
use oaat_operator::shard_leases::{INTERVAL, OBSERVATION_PERIOD};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const GROUPS: usize = 12;
const STEP: Duration = Duration::from_millis(250);
/// The time with faults, and the time without faults after it.
const FAULTS: Duration = Duration::from_secs(300);
const QUIET: Duration = Duration::from_secs(150);
/// The maximum time without a replica that serves a group. A step may pass until a replica acts.
const MAX_UNSERVED: Duration = DURATION.saturating_add(STEP).saturating_add(STEP);

/// The leases in the API server, by name.
type Leases = BTreeMap<String, LeaseSpec>;

struct Replica {
    shard: Shard,
    identity: String,
    started: Instant,
    observed: ObservedLeases,
    next_read: Instant,
    /// The last renewal, while the replica holds its lease.
    renewed: Option<Instant>,
    next_attempt: Instant,
    /// The lease of another holder, and when this replica first read it.
    other: Option<(LeaseSpec, Instant)>,
    paused_until: Instant,
    /// The live shards when `serves` was computed.
    live: BTreeSet<u8>,
    serves: Vec<usize>,
}

/// Whether a replica continues to run.
#[derive(PartialEq)]
enum Fate {
    Runs,
    Exits,
}

impl Replica {
    fn new(shard: Shard, identity: String, now: Instant) -> Self {
        Self {
            shard,
            identity,
            started: now,
            observed: ObservedLeases::new(shard),
            next_read: now,
            renewed: None,
            next_attempt: now + OBSERVATION_PERIOD,
            other: None,
            paused_until: now,
            live: BTreeSet::new(),
            serves: Vec::new(),
        }
    }

    fn lease(&self) -> String {
        self.shard.lease_name("lease")
    }

    fn is_serving(&self, group: usize, now: Instant) -> bool {
        self.renewed.is_some() && self.paused_until <= now && self.serves.contains(&group)
    }

    /// Does what is due.
    fn step(&mut self, leases: &mut Leases, now: Instant) -> Fate {
        if now < self.paused_until {
            return Fate::Runs;
        }
        if now >= self.next_read {
            self.next_read = now + INTERVAL;
            let read = self.shard.all().map(|shard| shard.lease_name("lease"));
            let read = read.map(|name| leases.get(&name).cloned()).collect();
            self.observed.record(read, now);
        }
        if now >= self.next_attempt && self.attempt(leases, now) == Fate::Exits {
            return Fate::Exits;
        }
        let live = self.observed.live(now);
        if live != self.live {
            let groups = 0..GROUPS;
            let own = Some(self.shard.index());
            self.serves = groups
                .filter(|group| serving_shard(&group.to_string(), &live) == own)
                .collect();
            self.live = live;
        }
        Fate::Runs
    }

    /// Acquires or renews the lease if possible. Exits if the lease is lost.
    fn attempt(&mut self, leases: &mut Leases, now: Instant) -> Fate {
        let lease = leases.entry(self.lease()).or_default();
        let holder = lease.holder_identity.clone().unwrap_or_default();
        if let Some(renewed) = self.renewed
            && (now >= renewed + RENEW_DEADLINE || holder != self.identity)
        {
            return Fate::Exits;
        }
        if !holder.is_empty() && holder != self.identity {
            let since = match &self.other {
                Some((seen, since)) if seen == lease => *since,
                _ => now,
            };
            self.other = Some((lease.clone(), since));
            if now < since + DURATION {
                self.next_attempt = now + STANDBY_INTERVAL;
                return Fate::Runs;
            }
        }
        *lease = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            // Any value that changes with each renewal.
            lease_transitions: Some(lease.lease_transitions.unwrap_or(0) + 1),
            ..LeaseSpec::default()
        };
        self.renewed = Some(now);
        self.next_attempt = now + RETRY;
        Fate::Runs
    }

    /// Releases the lease as a replica does that is stopped.
    fn release(&self, leases: &mut Leases) {
        if let Some(lease) = leases.get_mut(&self.lease())
            && lease.holder_identity.as_ref() == Some(&self.identity)
        {
            lease.holder_identity = None;
        }
    }
}

/// All replicas, and what is going to happen to them.
struct Simulation {
    random: Randomness,
    now: Instant,
    /// The number of shards of replicas that start from now on.
    count: usize,
    leases: Leases,
    replicas: Vec<Replica>,
    /// The replicas that start later.
    starts: Vec<(Instant, Shard)>,
    /// The old replicas that a rollout stops later.
    stops: Vec<(Instant, String)>,
    created: u32,
    last_fault: Instant,
    /// For each group, when a replica last served it.
    served: Vec<Instant>,
}

/// Returns one shard for each index.
fn shards(count: u64) -> Vec<Shard> {
    let first: Option<Shard> = format!("0/{count}").parse().ok();
    first.into_iter().flat_map(Shard::all).collect()
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let now = Instant::now();
        let mut simulation = Self {
            random: Randomness::new(seed, &BTreeSet::new()),
            now,
            count: 0,
            leases: Leases::new(),
            replicas: Vec::new(),
            starts: Vec::new(),
            stops: Vec::new(),
            created: 0,
            last_fault: now,
            served: vec![now; GROUPS],
        };
        simulation.start_all(10);
        simulation
    }

    fn within(&mut self, seconds: u64) -> Instant {
        self.now + Duration::from_millis(self.random.draw(0..seconds * 1000))
    }

    /// Draws the number of shards, and starts a replica of each.
    fn start_all(&mut self, seconds: u64) {
        let shards = shards(self.random.draw(1..6));
        self.count = shards.len();
        for shard in shards {
            self.start_within(seconds, shard);
        }
    }

    /// Starts a replica, unless it is one of an earlier number of shards.
    fn start_within(&mut self, seconds: u64, shard: Shard) {
        if shard.all().count() != self.count {
            return;
        }
        let start = self.within(seconds);
        self.starts.push((start, shard));
    }

    /// Injects a fault: a crash, a graceful stop, a pause, or a new number of shards.
    fn inject(&mut self) {
        let Some(last) = self.replicas.len().checked_sub(1) else {
            return;
        };
        let index = self.random.draw(0..last as u64 + 1) as usize;
        match self.random.draw(0..7) {
            0..2 => {
                let replica = self.replicas.remove(index);
                self.start_within(60, replica.shard);
            }
            2 => {
                let replica = self.replicas.remove(index);
                replica.release(&mut self.leases);
                self.start_within(60, replica.shard);
            }
            3..5 => self.replicas[index].paused_until = self.within(30),
            _ => return self.roll_out(),
        }
        self.last_fault = self.now;
    }

    /// Replaces all replicas by those of another number of shards, in any order.
    fn roll_out(&mut self) {
        self.starts.clear();
        self.start_all(60);
        let old: Vec<_> = self.replicas.iter().map(|r| r.identity.clone()).collect();
        for identity in old {
            let stop = self.within(60);
            self.stops.push((stop, identity));
        }
    }

    /// Starts and stops the replicas whose time has come.
    fn roll(&mut self) {
        let now = self.now;
        for (_, shard) in self.starts.extract_if(.., |(start, _)| *start <= now) {
            self.created += 1;
            let identity = format!("replica-{}", self.created);
            self.replicas.push(Replica::new(shard, identity, now));
        }
        for (_, identity) in self.stops.extract_if(.., |(stop, _)| *stop <= now) {
            let stopped = |r: &mut Replica| r.identity == identity;
            for replica in self.replicas.extract_if(.., stopped) {
                replica.release(&mut self.leases);
                self.last_fault = now;
            }
        }
    }

    fn step(&mut self) -> Option<Violation> {
        self.now += STEP;
        let now = self.now;
        self.roll();
        let leases = &mut self.leases;
        let exited = |r: &mut Replica| r.step(leases, now) == Fate::Exits;
        let exited: Vec<_> = self.replicas.extract_if(.., exited).collect();
        for replica in exited {
            self.last_fault = now;
            self.start_within(10, replica.shard);
        }
        for (group, served) in self.served.iter_mut().enumerate() {
            if self.replicas.iter().any(|r| r.is_serving(group, now)) {
                *served = now;
            }
        }
        self.check()
    }

    /// Returns a violation if no replica has served a group for longer than a lease, although there
    /// was no fault and at least one replica has held its lease for as long.
    fn check(&self) -> Option<Violation> {
        let active = self.replicas.iter();
        let active = active.filter(|r| r.renewed.is_some() && r.paused_until <= self.now);
        let oldest = active.map(|r| r.started.max(r.paused_until)).min()?;
        let group = (0..GROUPS).find(|group| {
            let since = self.served[*group].max(self.last_fault).max(oldest);
            self.now - since > MAX_UNSERVED
        })?;
        let details = format!("no replica serves group {group}: {}", self.state());
        let kind = ViolationKind::Unserved;
        Some(Violation { kind, details })
    }

    /// Returns a violation if two replicas serve a group, or none.
    fn check_quiet(&self) -> Option<Violation> {
        let serving = |group| {
            let replicas = self.replicas.iter();
            replicas.filter(|r| r.is_serving(group, self.now)).count()
        };
        let group = (0..GROUPS).find(|group| serving(*group) != 1)?;
        let count = serving(group);
        let details = format!("{count} replicas serve group {group}: {}", self.state());
        let kind = if count == 0 {
            ViolationKind::Unserved
        } else {
            ViolationKind::ServedTwice
        };
        Some(Violation { kind, details })
    }

    fn state(&self) -> String {
        let replicas = self.replicas.iter().map(|replica| {
            let Replica { shard, live, .. } = replica;
            let holds = replica.renewed.is_some();
            format!("{shard} holds its lease: {holds}, live shards: {live:?}")
        });
        replicas.collect::<Vec<_>>().join("; ")
    }
}

/// Simulates replicas with faults, and then without, with `rule` switched off. Returns the first
/// violation, if there is one.
pub fn simulate(seed: u64, rule: Option<Mutation>) -> Option<Violation> {
    without(rule, || {
        let mut simulation = Simulation::new(seed);
        let start = simulation.now;
        let mut next_fault = simulation.within(60);
        while simulation.now < start + FAULTS {
            if simulation.now >= next_fault {
                simulation.inject();
                next_fault = simulation.within(60);
            }
            if let Some(violation) = simulation.step() {
                return Some(violation);
            }
        }
        // A rollout completes within this time as well.
        let quiet = simulation.now + QUIET;
        while simulation.now < quiet {
            if let Some(violation) = simulation.step() {
                return Some(violation);
            }
        }
        simulation.check_quiet()
    })
}
