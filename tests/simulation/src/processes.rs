//! The replicas' processes: when they run, pause, are killed, and lead, and how they react to watch
//! events.

use crate::event::Event;
use crate::history::History;
use crate::randomness::Fault;
use crate::replica::Replica;
use crate::simulated_cluster::Change;

impl History<'_> {
    /// Schedules a reconcile of a replica after `later` milliseconds.
    pub fn wake(&mut self, replica: usize, later: u64) {
        let life = self.replicas[replica].life;
        self.schedule(later, Event::Wake(replica, life));
    }

    /// Kills a replica's process and restarts it after `down` milliseconds.
    pub fn crash(&mut self, replica: usize, down: u64) {
        let killed = &mut self.replicas[replica];
        killed.alive = false;
        killed.leads &= !self.election;
        self.trace(|| format!("replica {replica} is killed"));
        self.schedule(down, Event::Restart(replica));
        self.elect();
    }

    /// Another replica acquires the lease if there is no holder.
    pub(crate) fn elect(&mut self) {
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
            self.trace(|| format!("replica {next} leads"));
            let wait = self.random.draw(0..15_000);
            self.wake(next, wait);
        }
    }

    /// Pauses a replica. It then continues as if nothing had happened. If another replica leads by
    /// then, this one notices after a moment, and its process ends.
    pub fn pause(&mut self, replica: usize, mut fault: Fault) {
        let duration = fault.draw(100..60_000);
        let target = &mut self.replicas[replica];
        if !target.alive || target.paused {
            return;
        }
        target.paused = true;
        let life = target.life;
        self.trace(|| format!("replica {replica} is paused"));
        self.schedule(duration, Event::Resume(replica, life));
        self.elect();
    }

    /// Schedules the end of a replica that led before it was paused, if another replica leads.
    pub(crate) fn lose_lease(&mut self, replica: usize) {
        let others = self.replicas.iter().enumerate();
        let other_leads = others
            .filter(|(i, _)| *i != replica)
            .any(|(_, r)| r.alive && r.leads);
        if self.election && self.replicas[replica].leads && other_leads {
            let (wait, life) = (self.random.draw(0..5_000), self.replicas[replica].life);
            self.schedule(wait, Event::LeaseLost(replica, life));
        }
    }

    pub(crate) fn restart(&mut self, replica: usize) {
        let target = &self.replicas[replica];
        if target.alive {
            return;
        }
        let (life, clock) = (target.life + 10, target.clock);
        let leads = !self.election && self.replicas.iter().any(|r| r.leads);
        self.trace(|| format!("replica {replica} is started"));
        self.replicas[replica] = Replica::new(life, leads, clock);
        self.schedule(0, Event::RestoreType(replica));
        self.elect();
    }

    pub(crate) fn receive_watch_event(&mut self, replica: usize, life: u64, change: &Change) {
        let rule = self.cluster.mutation;
        let version = self.cluster.group_version();
        let target = &mut self.replicas[replica];
        if !target.alive || target.life != life || target.watch_down {
            return;
        }
        if let Change::Status(version) = change {
            target.client.requests().watched_version = Some(version.to_string());
        } else if matches!(change, Change::Group) {
            target.client.requests().watched_version = version;
        }
        let wait = match change {
            Change::Group => Some(1),
            // Usually written by an operator, rarely by hand. A replica may receive the response to
            // its own write a moment after the event.
            Change::Status(version) => {
                return self.schedule(500, Event::StatusChanged(replica, life, *version));
            }
            Change::Pod(pod) | Change::PodGone(pod) if self.cluster.lister(&pod.uid) => Some(1),
            Change::Pod(pod) => target.observe_pod(pod, false, rule),
            Change::PodGone(pod) => target.observe_pod(pod, true, rule),
            Change::Opened(_) | Change::Terminating(..) => None,
        };
        if let Some(wait) = wait {
            self.schedule(wait, Event::Wake(replica, life));
        }
    }
}
