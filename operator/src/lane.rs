//! Keeps policies that take long to decide from holding up the groups beside theirs.
//!
//! Every evaluation is bounded, and yet some dozens of groups whose policies use all they may
//! would keep every core busy. So a group whose policy took long at its last decision, or has
//! yet to show how long it takes, is looked at only while no other such group is, and after
//! each such look the gate stays shut for as long as the policy took: those that took long have
//! half a core at most, and so have newcomers that do.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Longer than this is long. The default policy takes about a millisecond for 2,000 items.
const LONG: Duration = Duration::from_millis(20);
/// Longest time for which the lane stays shut after a look.
const SHUT: Duration = Duration::from_secs(2);

/// The lane for groups of type `K`. Cheap to clone.
#[derive(Clone)]
pub struct Lane<K>(Arc<Mutex<State<K>>>);

struct State<K> {
    /// Groups with a policy of their own, and whether it decided quickly the last time.
    quick: HashMap<K, bool>,
    /// For those whose policy took long, and for those that have yet to show themselves: these
    /// are not to wait behind the others.
    gates: [Gate; 2],
}

#[derive(Default)]
struct Gate {
    busy: bool,
    shut_until: Option<Instant>,
}

/// Number of the gate of those that took long.
const SLOW: usize = 0;
/// Number of the gate of the others.
const NEW: usize = 1;

impl<K> Default for Lane<K> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State {
            quick: HashMap::new(),
            gates: Default::default(),
        })))
    }
}

/// Leave to look at a group. The lane is free again when it is dropped.
pub struct Leave<K: Eq + Hash + Clone> {
    lane: Lane<K>,
    group: K,
    own_policy: bool,
    gate: Option<usize>,
}

impl<K: Eq + Hash + Clone> Lane<K> {
    fn state(&self) -> std::sync::MutexGuard<'_, State<K>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a group may be looked at now; if not, how long to wait before asking again.
    /// `own_policy`: it names one, and so does not go by the default policy.
    ///
    /// # Errors
    /// How long to wait.
    pub fn enter(&self, group: &K, own_policy: bool, now: Instant) -> Result<Leave<K>, Duration> {
        let mut state = self.state();
        let gate = match state.quick.get(group) {
            _ if !own_policy => None,
            Some(true) => None,
            Some(false) => Some(SLOW),
            None => Some(NEW),
        };
        if let Some(gate) = gate {
            let gate = &mut state.gates[gate];
            let shut = gate.shut_until;
            let left = shut.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
            if !left.is_zero() {
                return Err(left + LONG);
            }
            if gate.busy {
                return Err(LONG);
            }
            gate.busy = true;
        }
        Ok(Leave {
            lane: self.clone(),
            group: group.clone(),
            own_policy,
            gate,
        })
    }

    /// Forgets a group that is gone.
    pub fn forget(&self, group: &K) {
        self.state().quick.remove(group);
    }
}

impl<K: Eq + Hash + Clone> Leave<K> {
    /// Remembers how long the group's policy took to decide.
    pub fn took(&self, time: Duration, now: Instant) {
        if !self.own_policy {
            return;
        }
        let mut state = self.lane.state();
        let quick = time < LONG;
        state.quick.insert(self.group.clone(), quick);
        if !quick {
            let gate = self.gate.unwrap_or(SLOW);
            state.gates[gate].shut_until = Some(now + time.min(SHUT));
        }
    }
}

impl<K: Eq + Hash + Clone> Drop for Leave<K> {
    fn drop(&mut self) {
        if let Some(gate) = self.gate {
            self.lane.state().gates[gate].busy = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: bool = true;

    #[test]
    fn groups_of_the_default_policy_never_wait() {
        let (lane, now) = (Lane::default(), Instant::now());
        let slow = lane.enter(&"slow", OWN, now);
        assert!(slow.is_ok());
        if let Ok(leave) = &slow {
            leave.took(Duration::from_secs(1), now);
        }
        assert!(lane.enter(&"default", false, now).is_ok());
    }

    #[test]
    fn one_that_has_yet_to_show_itself_goes_alone() {
        let (lane, now) = (Lane::default(), Instant::now());
        let first = lane.enter(&"a", OWN, now);
        assert!(first.is_ok());
        assert!(lane.enter(&"b", OWN, now).is_err());
        drop(first);
        assert!(lane.enter(&"b", OWN, now).is_ok());
    }

    #[test]
    fn one_that_was_quick_waits_for_nobody_until_it_is_slow() {
        let (lane, now) = (Lane::default(), Instant::now());
        if let Ok(leave) = lane.enter(&"quick", OWN, now) {
            leave.took(Duration::from_micros(50), now);
        }
        let other = lane.enter(&"other", OWN, now);
        let quick = lane.enter(&"quick", OWN, now);
        assert!(other.is_ok() && quick.is_ok());
        if let Ok(leave) = quick {
            leave.took(LONG, now);
        }
        assert!(lane.enter(&"quick", OWN, now).is_err());
    }

    #[test]
    fn a_newcomer_does_not_wait_for_those_that_took_long() {
        let (lane, now) = (Lane::default(), Instant::now());
        let later = now + Duration::from_secs(10);
        if let Ok(leave) = lane.enter(&"slow", OWN, now) {
            leave.took(Duration::from_secs(1), now);
        }
        let slow = lane.enter(&"slow", OWN, later);
        assert!(slow.is_ok());
        assert!(lane.enter(&"slow", OWN, later).is_err());
        assert!(lane.enter(&"new", OWN, later).is_ok());
        lane.forget(&"slow");
    }

    #[test]
    fn after_a_long_decision_the_lane_is_shut_for_as_long() {
        let (lane, now) = (Lane::default(), Instant::now());
        let took = Duration::from_secs(1);
        if let Ok(leave) = lane.enter(&"slow", OWN, now) {
            leave.took(took, now);
        }
        assert!(lane.enter(&"other", OWN, now + took / 2).is_err());
        assert!(lane.enter(&"other", OWN, now + took).is_ok());
    }
}
