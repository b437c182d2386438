//! How a history is made, and what came of it.

use crate::chance::Fault;
use crate::mutation::Mutation;
use crate::violation::Violation;
use std::collections::BTreeSet;

/// The faults that there are. A seed keeps its meaning only with the faults that it was drawn
/// among: when kinds are added, they make a new set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Faults {
    /// None at all.
    None,
    /// The first: requests slow, lost, late, unanswered, doubled, in vain, refused; replicas
    /// killed and stopped, clocks, watches, people.
    First,
    /// And those that came later: replicas killed just before and just after a request took
    /// effect, the second answer to a doubled request, namespaces deleted.
    #[default]
    Second,
    /// And that of a doubled request to open a gate it is the second answer that is heard. One
    /// case of that is beyond what is promised: see `docs/guarantees.md`.
    Repeated,
    /// Few kinds, but often: requests that are slow, replicas killed around them, people who delete
    /// pods, wipe the status, and replace the group. For what goes wrong only where several of
    /// these meet.
    Meddling,
    /// As the second, and people who suspend the group or an item for a while, black it out, and ask
    /// for items to be run now.
    Wishes,
    /// As the second, and some of the items come from a list that a pod prints, which changes.
    Lists,
}

impl Faults {
    /// How many requests out of 1,000 go wrong.
    pub fn on_the_way(self) -> u64 {
        match self {
            Self::Meddling => 150,
            _ => 25,
        }
    }

    /// How often out of 1,000 times something else goes wrong.
    pub fn beside(self) -> u64 {
        match self {
            Self::Meddling => 400,
            _ => 80,
        }
    }

    /// A kind of what may become of a request.
    pub fn of_request(self, fault: &mut Fault) -> u64 {
        match self {
            Self::None | Self::First => fault.within(0..7),
            Self::Second | Self::Repeated | Self::Wishes | Self::Lists => fault.within(0..10),
            Self::Meddling => [0, 0, 0, 9][fault.within(0..4) as usize],
        }
    }

    /// A kind of mischief.
    pub fn of_mischief(self, fault: &mut Fault) -> u64 {
        match self {
            Self::None | Self::First => fault.within(0..18),
            Self::Second | Self::Repeated => fault.within(0..20),
            // 19 is the last of the others.
            Self::Wishes => [fault.within(0..20), 20, 21, 22, 23][fault.within(0..5) as usize],
            Self::Lists => [fault.within(0..20), 24, 24][fault.within(0..3) as usize],
            Self::Meddling => [9, 9, 12, 13][fault.within(0..4) as usize],
        }
    }
}

/// At which write the replica that makes it is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kill {
    /// Just as the n-th write of the history sets out: it never arrives.
    Before(u64),
    /// Just after the n-th write took effect: its answer is never read.
    After(u64),
}

/// How a history is made.
#[derive(Clone, Debug, Default)]
pub struct Setting {
    /// The seed.
    pub seed: u64,
    /// The faults that there are.
    pub faults: Faults,
    /// A write at which its replica is killed, beside all other faults.
    pub kill: Option<Kill>,
    /// A rule switched off. Then only what is to come of that counts as a violation.
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
    pub violation: Option<Violation>,
    /// Runs recorded.
    pub runs: u64,
    /// Looks at the group.
    pub looks: u64,
    /// Writes that set out.
    pub writes: u64,
    /// The faults, by their numbers.
    pub faults: Vec<u64>,
    /// What happened, if it was to be told.
    pub told: Vec<String>,
}
