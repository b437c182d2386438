//! Keeps policies that take long to decide from holding up the groups beside theirs.
//!
//! Every evaluation is bounded, and yet some dozens of groups whose policies use all they may
//! would keep every core busy. So:
//!
//! - a policy of a group's own is given [`SHORT`] to decide in. Whoever needs more, or took more
//!   than 20 ms of a core, belongs to the slow for a hundred times what it took: policies that
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
/// What a decision may take at most, by the host's own limits.
const LONGEST: Duration = Duration::from_secs(1);
/// A turn is gone when nobody has come for so long.
const NO_SHOW: Duration = Duration::from_secs(10);
/// Between the turns of two that have yet to show themselves.
const NEXT: Duration = Duration::from_millis(2);

/// Namespace and name of a group.
pub type Group = (String, String);

/// The lane. Cheap to clone.
#[derive(Clone, Default)]
pub struct Lane(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Groups with a policy of their own that has shown itself: which it was, and how.
    known: HashMap<Group, (String, Known)>,
    slow: Gate,
    new: Gate,
}

#[derive(Clone, Copy)]
enum Known {
    Quick,
    /// What it took, if it was seen to come to its end.
    Slow {
        until: Instant,
        took: Option<Duration>,
    },
}

#[derive(Default)]
struct Gate {
    /// Until when at the latest whoever is in will be out.
    busy_until: Option<Instant>,
    shut_until: Option<Instant>,
    /// When those that were sent away are to come again.
    turns: HashMap<Group, Instant>,
    /// Up to when turns are given out.
    given: Option<Instant>,
}

impl Gate {
    /// Lets a group in whose turn it is, or says how long to wait. Turns are `length` apart; who is
    /// in is out again after `longest`.
    fn enter(
        &mut self,
        group: &Group,
        length: Duration,
        longest: Duration,
        now: Instant,
    ) -> Result<(), Duration> {
        self.turns.retain(|_, turn| *turn + NO_SHOW > now);
        let opens = [self.busy_until, self.shut_until, Some(now)];
        let opens = opens.into_iter().flatten().max().unwrap_or(now);
        let mine = self.turns.get(group).copied();
        let before = |other: &&Instant| mine.is_none_or(|mine| **other < mine);
        let before = self.turns.values().filter(before).count();
        if opens > now || before > 0 {
            let turn = match mine {
                // It has come too early.
                Some(mine) if mine > now && mine >= opens => mine,
                // Others took longer than was thought: those that were before it still are.
                Some(_) => opens + length.saturating_mul(u32::try_from(before).unwrap_or(u32::MAX)),
                None => self.given.map_or(opens, |given| given.max(opens)),
            };
            // One whose turn is now comes again when that of the one before it is over.
            let turn = turn.max(now + NEXT);
            self.given = self.given.max(Some(turn + length));
            self.turns.insert(group.clone(), turn);
            return Err(turn - now);
        }
        self.turns.remove(group);
        self.busy_until = Some(now + longest);
        Ok(())
    }
}

/// Leave to ask the policy of a group. The gate is open again when it is dropped.
pub struct Leave {
    lane: Lane,
    group: Group,
    digest: String,
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

    /// What is known of a group's policy.
    fn known(&self, group: &Group, digest: &str, now: Instant) -> Option<Known> {
        let (of, known) = self.known.get(group)?;
        match known {
            _ if of != digest => None,
            Known::Slow { until, .. } if *until <= now => Some(Known::Quick),
            known => Some(*known),
        }
    }
}

impl Lane {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a group's policy, the one of this digest, is known to decide at once.
    pub fn quick(&self, group: &Group, digest: &str, now: Instant) -> bool {
        let known = self.state().known(group, digest, now);
        matches!(known, Some(Known::Quick))
    }

    /// Asks for leave to ask the policy of a group that names one of its own.
    ///
    /// # Errors
    /// How long to wait before asking for leave again.
    pub fn enter(&self, group: &Group, digest: &str, now: Instant) -> Result<Leave, Duration> {
        let mut state = self.state();
        let known = state.known(group, digest, now);
        if !matches!(known, Some(Known::Slow { .. })) {
            // It was another policy that was slow, or that is over.
            state.slow.turns.remove(group);
        }
        let gate = match known {
            Some(Known::Quick) => None,
            None => {
                state.new.enter(group, NEXT, SHORT + LONG, now)?;
                Some(Which::New)
            }
            Some(Known::Slow { until, took }) => {
                let took = took.unwrap_or(LONGEST);
                let entered = state.slow.enter(group, took * 2, LONGEST + LONG, now);
                // After that it is not one of the slow any more.
                entered.map_err(|wait| wait.min(until - now))?;
                Some(Which::Slow)
            }
        };
        Ok(Leave {
            lane: self.clone(),
            group: group.clone(),
            digest: digest.to_owned(),
            gate,
        })
    }

    /// Forgets a group that is gone.
    pub fn forget(&self, group: &Group) {
        self.keep(|other| other != group);
    }

    /// Forgets the groups that are not to be kept.
    pub fn keep(&self, kept: impl Fn(&Group) -> bool) {
        let mut state = self.state();
        state.known.retain(|group, _| kept(group));
        state.slow.turns.retain(|group, _| kept(group));
        state.new.turns.retain(|group, _| kept(group));
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
        let long = if cut_short { time.max(LONG) } else { time };
        let mut state = self.lane.state();
        let known = if long >= LONG {
            let gate = state.gate(self.gate.unwrap_or(Which::Slow));
            gate.shut_until = gate.shut_until.max(Some(now + long.min(SHUT)));
            Known::Slow {
                until: now + long * SLOW_FOR,
                took: (!cut_short).then_some(time),
            }
        } else if self.gate != Some(Which::Slow) {
            Known::Quick
        } else {
            // The slow have to sit their time out.
            return;
        };
        let known = (self.digest.clone(), known);
        state.known.insert(self.group.clone(), known);
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        if let Some(which) = self.gate {
            self.lane.state().gate(which).busy_until = None;
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
        let leave = lane.enter(&group(name), "d", now);
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
        let first = lane.enter(&group("a"), "d", now);
        assert!(first.is_ok());
        assert!(lane.enter(&group("b"), "d", now).is_err());
        drop(first);
        assert!(lane.enter(&group("b"), "d", now + NEXT).is_ok());
    }

    #[test]
    fn who_has_to_wait_is_told_a_turn_of_its_own_and_keeps_it() {
        let (lane, now) = (Lane::default(), Instant::now());
        let first = lane.enter(&group("first"), "d", now);
        let names: Vec<_> = (0..1000).map(|i| format!("group-{i}")).collect();
        let waits: Vec<_> = names
            .iter()
            .map(|name| lane.enter(&group(name), "d", now).err().unwrap_or_default())
            .collect();
        assert!(waits.iter().all(|wait| !wait.is_zero()));
        assert!(waits[999] < SHORT * 2 + NEXT * 1002, "{:?}", waits[999]);
        drop(first);
        // Coming early changes nothing; coming when told lets each in at once.
        assert!(lane.enter(&group(&names[500]), "d", now + NEXT).is_err());
        for (name, wait) in names.iter().zip(&waits) {
            show(&lane, name, QUICK, now + *wait);
        }
    }

    #[test]
    fn one_that_was_quick_waits_for_nobody_until_it_is_slow() {
        let (lane, now) = (Lane::default(), Instant::now());
        show(&lane, "quick", QUICK, now);
        assert!(lane.quick(&group("quick"), "d", now));
        let other = lane.enter(&group("other"), "d", now + NEXT);
        let quick = lane.enter(&group("quick"), "d", now + NEXT);
        assert!(other.is_ok() && quick.is_ok());
        if let Ok(leave) = quick {
            assert_eq!(leave.within(), Some(SHORT));
            leave.took(LONG, false, now);
        }
        assert!(!lane.quick(&group("quick"), "d", now));
        assert!(lane.enter(&group("quick"), "d", now).is_err());
    }

    #[test]
    fn one_that_was_cut_short_gets_all_its_time_in_the_lane() {
        let (lane, now) = (Lane::default(), Instant::now());
        if let Ok(leave) = lane.enter(&group("slow"), "d", now) {
            leave.took(QUICK, true, now);
        }
        let leave = lane.enter(&group("slow"), "d", now + LONG);
        assert!(leave.is_ok_and(|leave| leave.within().is_none()));
    }

    #[test]
    fn another_policy_of_the_same_group_has_yet_to_show_itself() {
        let (lane, now) = (Lane::default(), Instant::now());
        show(&lane, "mended", SECOND, now);
        show(&lane, "mended", SECOND, now);
        assert!(lane.enter(&group("mended"), "d", now).is_err());
        let leave = lane.enter(&group("mended"), "another", now + SHUT);
        assert!(leave.is_ok_and(|leave| leave.within() == Some(SHORT)));
        assert!(lane.state().slow.turns.is_empty());
    }

    #[test]
    fn who_was_preempted_once_waits_no_longer_than_it_counts_as_slow() {
        let (lane, mut now) = (Lane::default(), Instant::now());
        for number in 0..20 {
            now += SECOND * 3;
            show(&lane, &format!("hostile-{number}"), SECOND, now);
        }
        now += SECOND * 3;
        let mut inside = Vec::new();
        for number in 0..20 {
            inside.extend(lane.enter(&group(&format!("hostile-{number}")), "d", now));
        }
        if let Ok(leave) = lane.enter(&group("honest"), "d", now) {
            leave.took(QUICK, true, now);
        }
        let wait = lane.enter(&group("honest"), "d", now).err();
        assert!(wait.is_some_and(|wait| wait <= LONG * SLOW_FOR), "{wait:?}");
    }

    #[test]
    fn being_quick_once_does_not_make_up_for_having_been_slow() {
        let (lane, now) = (Lane::default(), Instant::now());
        show(&lane, "alternating", SECOND, now);
        for turn in 1..50 {
            let then = now + SECOND * 2 * turn;
            assert!(!lane.quick(&group("alternating"), "d", then));
            show(&lane, "alternating", QUICK, then);
        }
        let sat_out = now + SECOND * (SLOW_FOR + 1);
        assert!(lane.quick(&group("alternating"), "d", sat_out));
    }

    #[test]
    fn a_newcomer_does_not_wait_for_those_that_took_long() {
        let (lane, now) = (Lane::default(), Instant::now());
        show(&lane, "slow", SECOND, now);
        let later = now + SECOND * 10;
        let slow = lane.enter(&group("slow"), "d", later);
        assert!(slow.is_ok());
        assert!(lane.enter(&group("slow"), "d", later).is_err());
        assert!(lane.enter(&group("new"), "d", later).is_ok());
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
        let (start, mut used, mut looks) = (now + SECOND * 3, Duration::ZERO, 0);
        now = start;
        let mut come: HashMap<&Group, Instant> = names.iter().map(|name| (name, now)).collect();
        while now < start + SECOND * 60 {
            let Some((name, at)) = names.iter().map(|n| (n, come[n])).min_by_key(|c| c.1) else {
                break;
            };
            now = now.max(at);
            looks += 1;
            match lane.enter(name, "d", now) {
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
        assert!(looks <= 100, "{looks} looks for 30 decisions");
    }
}
