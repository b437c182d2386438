//! Many groups that are always due, in the operator's own work queue and in virtual time. A history
//! has one group, so it cannot show that each group gets its turns.

use crate::mutation::{Mutation, breaks, without};
use crate::randomness::Randomness;
use crate::violation::{Violation, ViolationKind};
use kube::runtime::reflector::ObjectRef;
use oaat_operator::work_queue::{Next, Place, Requeue, WorkQueue};
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::time::{Duration, Instant};

/// The number of completed turns of a simulation.
const TURNS: u64 = 5_000;
/// The maximum difference between the numbers of turns of two groups. Turns differ in length, so a
/// small difference is fair.
const MAX_BEHIND: u64 = 3;

/// Simulates 150 to 299 groups that are always due, with `rule` switched off. Returns the first
/// violation, if there is one.
pub fn simulate(seed: u64, rule: Option<Mutation>) -> Option<Violation> {
    without(rule, || {
        let mut random = Randomness::new(seed, &BTreeSet::new());
        let groups: Vec<_> = (0..random.draw(150..300))
            .map(|number| ObjectRef::new(&number.to_string()).within("n"))
            .collect();
        let mut turns = vec![0_u64; groups.len()];
        let (mut queue, mut running, mut now) =
            (WorkQueue::default(), BinaryHeap::new(), Instant::now());
        for group in &groups {
            queue.add(group.clone(), Place::Last, now);
        }
        for number in 0..TURNS {
            while let Next::Reconcile(group) = queue.next(now) {
                let index: usize = group.name.parse().ok()?;
                turns[index] += 1;
                let took = Duration::from_millis(random.draw(5..20));
                running.push(Reverse((now + took, number, index)));
            }
            let (most, least) = (turns.iter().max()?, turns.iter().min()?);
            if most - least > MAX_BEHIND {
                let details = format!("one group had {least} turns, and another had {most}");
                let kind = breaks(Mutation::NewestDueFirst);
                return Some(Violation { kind, details });
            }
            let Some(Reverse((end, _, index))) = running.pop() else {
                let details = "the queue returned no group".to_owned();
                let kind = ViolationKind::Stuck;
                return Some(Violation { kind, details });
            };
            now = end;
            if random.per_1000(500) {
                queue.add(groups[index].clone(), Place::Last, now);
            }
            queue.done(groups[index].clone(), Requeue::After(Duration::ZERO), now);
        }
        None
    })
}
