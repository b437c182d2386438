//! The replicas' processes: when they run, stand still, are killed, lead, and what their
//! watches make of what they see.

use crate::chance::Fault;
use crate::event::Event;
use crate::history::History;
use crate::replica::Replica;
use crate::world::Change;

impl History<'_> {
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
            self.tell(|| format!("replica {next} leads"));
            let wait = self.chance.number(0..15_000);
            self.wake(next, wait);
        }
    }

    /// A replica stops for a while, and goes on as if nothing had happened. If another leads
    /// by then, it takes this one a moment to find out, and then its process ends.
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

    /// A replica that led before it stood still no longer does, and is about to find out.
    pub(crate) fn deposed(&mut self, replica: usize) {
        let others = self.replicas.iter().enumerate();
        let other = others
            .filter(|(i, _)| *i != replica)
            .any(|(_, r)| r.alive && r.leads);
        if self.election && self.replicas[replica].leads && other {
            let (wait, life) = (self.chance.number(0..5_000), self.replicas[replica].life);
            self.at(wait, Event::Deposed(replica, life));
        }
    }

    pub(crate) fn restart(&mut self, replica: usize) {
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

    pub(crate) fn sees(&mut self, replica: usize, life: u64, change: &Change) {
        let rule = self.world.mutation;
        let this = &mut self.replicas[replica];
        if !this.alive || this.life != life || this.deaf {
            return;
        }
        let wait = match change {
            Change::Group => Some(1),
            // By an operator as a rule, by hand rarely. The answer to its own write may come to
            // a replica a moment after the event.
            Change::Status(version) => {
                return self.at(500, Event::Edited(replica, life, *version));
            }
            Change::Pod(pod) | Change::PodGone(pod) if self.world.lister(&pod.uid) => Some(1),
            Change::Pod(pod) => this.sees(pod, false, rule),
            Change::PodGone(pod) => this.sees(pod, true, rule),
            Change::Opened(_) | Change::Going(..) => None,
        };
        if let Some(wait) = wait {
            self.at(wait, Event::Wake(replica, life));
        }
    }
}
