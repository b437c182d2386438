//! Keeps policies that take long to decide from holding up the groups beside theirs.
//!
//! Every evaluation is bounded, and yet some dozens of groups whose policies use all they may
//! would keep every core busy. So:
//!
//! - a policy of a group's own is given [`SHORT`] to decide in. Whoever needs more, or took more
//!   than [`LONG`] of a core, belongs to the slow for a hundred times what it took: policies that
//!   are quick and slow by turns have a hundredth of a core each outside the lane;
//! - the slow have all the time that the policy's own limits allow, but decide one at a time, and
//!   after each the gate stays shut for as long as it took: they have half a core together;
//! - groups whose policy has yet to show itself decide one at a time as well, and do not wait
//!   behind the slow.
//!
//! Who has to wait is told when to come again, each a little after the other, so that waiting
//! costs a look or two and no polling. Nothing but the question to the policy waits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a decision may take outside the lane of the slow, by the clock. The default policy takes
/// about a millisecond for 2,000 items.
pub const SHORT: Duration = Duration::from_millis(40);
/// More than this, in time of a core, is long.
const LONG: Duration = Duration::from_millis(20);
/// For how many times what it took a policy belongs to the slow.
const SLOW_FOR: u32 = 100;
/// Longest time for which a gate stays shut after a decision.
const SHUT: Duration = Duration::from_secs(2);
/// Between the turns of two that have yet to show themselves.
const NEXT: Duration = Duration::from_millis(2);

/// Namespace and name of a group.
pub type Group = (String, String);

/// The lane. Cheap to clone.
#[derive(Clone, Default)]
pub struct Lane(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Groups with a policy of their own that has shown itself.
    known: HashMap<Group, Known>,
    slow: Gate,
    new: Gate,
}

enum Known {
    Quick,
    Slow { until: Instant, took: Duration },
}

#[derive(Default)]
struct Gate {
    busy: bool,
    shut_until: Option<Instant>,
    /// When those that were sent away may come again.
    turns: HashMap<Group, Instant>,
    /// Up to when turns are given out.
    given: Option<Instant>,
}

impl Gate {
    /// Lets a group in whose turn it is, or says how long to wait.
    fn enter(&mut self, group: &Group, length: Duration, now: Instant) -> Result<(), Duration> {
        let free = self.given.is_none_or(|given| given <= now);
        let turn = self.turns.get(group).copied();
        let turn = match turn {
            Some(turn) => turn,
            None if free => now,
            None => self.given.unwrap_or(now),
        };
        if !self.turns.contains_key(group) {
            self.given = Some(turn + length);
        }
        let opens = match self.shut_until {
            Some(until) if until > now => until,
            _ if self.busy => now + LONG,
            _ => now,
        };
        let come = turn.max(opens);
        if come > now {
            // Whoever was there first keeps the better turn, however often it comes too early.
            self.turns.insert(group.clone(), turn);
            return Err(come - now);
        }
        self.turns.remove(group);
        self.busy = true;
        Ok(())
    }
}

/// Leave to ask the policy of a group. The gate is open again when it is dropped.
pub struct Leave {
    lane: Lane,
    group: Group,
    gate: Option<Which>,
}

#[derive(Clone, Copy, PartialEq)]
enum Which {
    Slow,
    New,
}

impl State {
    fn gate(&mut self, which: Which) -> &mut Gate {
        match which {
            Which::Slow => &mut self.slow,
            Which::New => &mut self.new,
        }
    }

    /// The gate that a group has to pass, and how long its turn is.
    fn gate_of(&self, group: &Group, now: Instant) -> Option<(Which, Duration)> {
        match self.known.get(group) {
            None => Some((Which::New, NEXT)),
            Some(Known::Slow { until, took }) if *until > now => Some((Which::Slow, *took * 2)),
            Some(_) => None,
        }
    }
}

impl Lane {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the policy of this group is known to decide at once.
    pub fn quick(&self, group: &Group, now: Instant) -> bool {
        self.state().gate_of(group, now).is_none()
    }

    /// Asks for leave to ask the policy of a group that names one of its own.
    ///
    /// # Errors
    /// How long to wait before asking for leave again.
    pub fn enter(&self, group: &Group, now: Instant) -> Result<Leave, Duration> {
        let mut state = self.state();
        let gate = state.gate_of(group, now);
        if let Some((which, length)) = gate {
            state.gate(which).enter(group, length, now)?;
        }
        Ok(Leave {
            lane: self.clone(),
            group: group.clone(),
            gate: gate.map(|(which, _)| which),
        })
    }

    /// Forgets a group that is gone.
    pub fn forget(&self, group: &Group) {
        let mut state = self.state();
        state.known.remove(group);
        state.slow.turns.remove(group);
        state.new.turns.remove(group);
    }
}

impl Leave {
    /// How long the policy may take, if less than its own limits allow. Who needs more is to be
    /// reported to [`Leave::took`], and asked again when it has leave again.
    pub fn within(&self) -> Option<Duration> {
        (self.gate != Some(Which::Slow)).then_some(SHORT)
    }

    /// Remembers how much of a core's time the policy took to decide; `cut_short` where it did not
    /// come to an end within [`Leave::within`].
    pub fn took(&self, time: Duration, cut_short: bool, now: Instant) {
        let took = if cut_short { time.max(LONG) } else { time };
        let mut state = self.lane.state();
        if took >= LONG {
            let until = now + took * SLOW_FOR;
            let known = Known::Slow { until, took };
            state.known.insert(self.group.clone(), known);
            let gate = state.gate(self.gate.unwrap_or(Which::Slow));
            gate.shut_until = gate.shut_until.max(Some(now + took.min(SHUT)));
        } else if self.gate != Some(Which::Slow) {
            // The slow have to sit their time out.
            state.known.insert(self.group.clone(), Known::Quick);
        }
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        if let Some(which) = self.gate {
            self.lane.state().gate(which).busy = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str) -> Group {
        ("n".into(), name.into())
    }

    /// Shows this group's policy to take so long.
    fn show(lane: &Lane, name: &str, took: Duration, now: Instant) {
        let leave = lane.enter(&group(name), now);
        assert!(leave.is_ok(), "{name}");
        if let Ok(leave) = leave {
            leave.took(took, false, now);
        }
    }

    const QUICK: Duration = Duration::from_micros(50);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn one_that_has_yet_to_show_itself_goes_alone() {
        let (lane, now) = (Lane::default(), Instant::now());
        let first = lane.enter(&group("a"), now);
        assert!(first.is_ok());
        assert!(lane.enter(&group("b"), now).is_err());
        drop(first);
        assert!(lane.enter(&group("b"), now + NEXT).is_ok());
    }

    #[test]
    fn who_has_to_wait_is_told_a_turn_of_its_own_and_keeps_it() {
        let (lane, now) = (Lane::default(), Instant::now());
        let first = lane.enter(&group("first"), now);
        let names: Vec<_> = (0..1000).map(|i| format!("group-{i}")).collect();
        let waits: Vec<_> = names
            .iter()
            .map(|name| lane.enter(&group(name), now).err().unwrap_or_default())
            .collect();
        assert!(waits.iter().all(|wait| !wait.is_zero()));
        assert!(waits[999] < NEXT * 1002, "{:?}", waits[999]);
        drop(first);
        // Coming early changes nothing; coming when told lets each in at once.
        assert!(lane.enter(&group(&names[500]), now + NEXT).is_err());
        for (name, wait) in names.iter().zip(&waits) {
            show(&lane, name, QUICK, now + *wait + LONG);
        }
    }

    #[test]
    fn one_that_was_quick_waits_for_nobody_until_it_is_slow() {
        let (lane, now) = (Lane::default(), Instant::now());
        show(&lane, "quick", QUICK, now);
        assert!(lane.quick(&group("quick"), now));
        let other = lane.enter(&group("other"), now + NEXT);
        let quick = lane.enter(&group("quick"), now + NEXT);
        assert!(other.is_ok() && quick.is_ok());
        if let Ok(leave) = quick {
            assert_eq!(leave.within(), Some(SHORT));
            leave.took(LONG, false, now);
        }
        assert!(!lane.quick(&group("quick"), now));
        assert!(lane.enter(&group("quick"), now).is_err());
    }

    #[test]
    fn one_that_was_cut_short_gets_all_its_time_in_the_lane() {
        let (lane, now) = (Lane::default(), Instant::now());
        if let Ok(leave) = lane.enter(&group("slow"), now) {
            leave.took(QUICK, true, now);
        }
        let leave = lane.enter(&group("slow"), now + LONG);
        assert!(leave.is_ok_and(|leave| leave.within().is_none()));
    }

    #[test]
    fn being_quick_once_does_not_make_up_for_having_been_slow() {
        let (lane, now) = (Lane::default(), Instant::now());
        show(&lane, "alternating", SECOND, now);
        for turn in 1..50 {
            let then = now + SECOND * 2 * turn;
            assert!(!lane.quick(&group("alternating"), then));
            show(&lane, "alternating", QUICK, then);
        }
        let sat_out = now + SECOND * (SLOW_FOR + 1);
        assert!(lane.quick(&group("alternating"), sat_out));
    }

    #[test]
    fn a_newcomer_does_not_wait_for_those_that_took_long() {
        let (lane, now) = (Lane::default(), Instant::now());
        show(&lane, "slow", SECOND, now);
        let later = now + SECOND * 10;
        let slow = lane.enter(&group("slow"), later);
        assert!(slow.is_ok());
        assert!(lane.enter(&group("slow"), later).is_err());
        assert!(lane.enter(&group("new"), later).is_ok());
        lane.forget(&group("slow"));
        drop(slow);
        assert!(lane.state().slow.turns.is_empty());
    }

    #[test]
    fn the_slow_together_have_half_a_core() {
        let (lane, mut now) = (Lane::default(), Instant::now());
        let names = ["a", "b", "c", "d", "e"].map(group);
        for name in &names {
            now += SECOND * 3;
            show(&lane, &name.1, SECOND, now);
        }
        let (start, mut used) = (now + SECOND * 3, Duration::ZERO);
        now = start;
        let mut come: HashMap<&Group, Instant> = names.iter().map(|name| (name, now)).collect();
        while now < start + SECOND * 60 {
            let Some((name, at)) = names.iter().map(|n| (n, come[n])).min_by_key(|c| c.1) else {
                break;
            };
            now = now.max(at);
            match lane.enter(name, now) {
                Ok(leave) => {
                    now += SECOND;
                    used += SECOND;
                    leave.took(SECOND, false, now);
                    come.insert(name, now);
                }
                Err(wait) => {
                    come.insert(name, now + wait);
                }
            }
        }
        assert!(used >= SECOND * 25, "{used:?}");
        assert!(used <= SECOND * 31, "{used:?}");
    }
}
