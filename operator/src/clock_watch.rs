//! Detects jumps of the wall clock: someone or NTP set it, or the host was suspended.
//!
//! Schedules follow the wall clock. The delays of the queue follow the monotonic clock, which does
//! not advance while the host is suspended. After a jump, they end at the wrong time.

use humantime::format_duration;
use std::time::{Duration, Instant, SystemTime};
use tokio::time::sleep;
use tracing::info;

/// The time between two checks. What is due starts within a minute after a jump.
pub const INTERVAL: Duration = Duration::from_secs(20);
/// The difference between the clocks from which they count as jumped.
const TOLERANCE: Duration = Duration::from_secs(10);

/// The time on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct ClockReading {
    wall: SystemTime,
    monotonic: Instant,
}

impl ClockReading {
    /// Reads the clocks.
    pub fn now() -> Self {
        Self {
            wall: SystemTime::now(),
            monotonic: Instant::now(),
        }
    }

    /// Returns how far the wall clock has jumped since `earlier`, if it has.
    fn jump_since(self, earlier: Self) -> Option<Jump> {
        let elapsed = self.monotonic.saturating_duration_since(earlier.monotonic);
        let jump = match self.wall.duration_since(earlier.wall + elapsed) {
            Ok(by) => Jump::Forward(by),
            Err(error) => Jump::Backward(error.duration()),
        };
        let (Jump::Forward(by) | Jump::Backward(by)) = jump;
        (by > TOLERANCE).then_some(jump)
    }
}

/// A jump of the wall clock relative to the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Jump {
    Forward(Duration),
    Backward(Duration),
}

/// Checks the clocks at this interval, and calls `jumped` after each jump. Never returns.
pub async fn watch(
    interval: Duration,
    mut read: impl FnMut() -> ClockReading,
    mut jumped: impl FnMut(),
) {
    let mut reference = read();
    loop {
        sleep(interval).await;
        let now = read();
        // Without a jump, the reference stays. Small differences then add up.
        let Some(jump) = now.jump_since(reference) else {
            continue;
        };
        reference = now;
        let (direction, by) = match jump {
            Jump::Forward(by) => ("forward", by),
            Jump::Backward(by) => ("backward", by),
        };
        let by = format_duration(Duration::from_secs(by.as_secs()));
        info!("the wall clock jumped {direction} by {by}; reconciling all groups");
        jumped();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};

    const HOUR: Duration = Duration::from_secs(3600);

    impl ClockReading {
        /// Returns the reading after this time has passed on the clocks.
        fn after(self, wall: Duration, monotonic: Duration) -> Self {
            Self {
                wall: self.wall + wall,
                monotonic: self.monotonic + monotonic,
            }
        }
    }

    #[test]
    fn only_differences_above_the_tolerance_are_jumps() {
        let start = ClockReading::now();
        let seconds = Duration::from_secs;
        let cases = [
            (seconds(20), seconds(20), None),
            (seconds(30), seconds(20), None),
            (seconds(20), seconds(30), None),
            (seconds(31), seconds(20), Some(Jump::Forward(seconds(11)))),
            (seconds(20), seconds(31), Some(Jump::Backward(seconds(11)))),
            // The host was suspended.
            (HOUR + seconds(9), seconds(9), Some(Jump::Forward(HOUR))),
        ];
        for (wall, monotonic, expected) in cases {
            let now = start.after(wall, monotonic);
            assert_eq!(now.jump_since(start), expected, "{wall:?} {monotonic:?}");
        }
    }

    #[test]
    fn clock_that_was_set_back_before_the_start_is_a_jump() {
        let start = ClockReading::now();
        let now = ClockReading {
            wall: start.wall - HOUR,
            monotonic: start.monotonic + INTERVAL,
        };
        assert_eq!(now.jump_since(start), Some(Jump::Backward(HOUR + INTERVAL)));
    }

    /// Returns the numbers of the checks that reported a jump. The wall clock advances by these
    /// times between the checks, and the monotonic clock by the interval.
    async fn reported(wall: &[Duration]) -> Vec<usize> {
        let (check, mut now) = (Cell::new(0_usize), ClockReading::now());
        let reported = RefCell::new(Vec::new());
        let (done, mut is_done) = tokio::sync::mpsc::unbounded_channel();
        let read = || {
            let before = check.replace(check.get() + 1).checked_sub(1);
            match before.map(|index| wall.get(index)) {
                None => {}
                Some(Some(wall)) => now = now.after(*wall, INTERVAL),
                Some(None) => {
                    let _ = done.send(());
                }
            }
            now
        };
        let jumped = || reported.borrow_mut().push(check.get() - 1);
        tokio::select! {
            () = watch(Duration::from_millis(1), read, jumped) => {}
            _ = is_done.recv() => {}
        }
        reported.into_inner()
    }

    #[tokio::test]
    async fn each_jump_is_reported_once() {
        let checks = [INTERVAL, INTERVAL + HOUR, INTERVAL, INTERVAL, HOUR];
        assert_eq!(reported(&checks).await, [2, 5]);
        assert!(reported(&[INTERVAL; 5]).await.is_empty());
    }

    #[tokio::test]
    async fn small_differences_add_up() {
        let drifting = [INTERVAL + Duration::from_secs(4); 6];
        assert_eq!(reported(&drifting).await, [3, 6]);
    }
}
