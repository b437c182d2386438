//! Constructors and builder methods for requests and decisions.

use crate::{Choice, Decision, Duration, Instant, Item, Outcome, Request, Run, Standing, Verdict};

impl Decision {
    /// Creates a decision to start the item with this index in the request.
    pub fn run(index: usize) -> Self {
        // A request has at most 2,000 items, so the index fits.
        Self::new(Choice::Run(index as u32))
    }

    /// Creates a decision to start no item. The operator asks the policy again at `until` at the
    /// latest.
    pub fn wait(until: Option<Instant>) -> Self {
        Self::new(Choice::Wait(until))
    }

    fn new(choice: Choice) -> Self {
        Self {
            choice,
            note: None,
            verdicts: Vec::new(),
            state: None,
        }
    }

    /// Returns the index of the item to start; `None` for a wait.
    pub fn chosen(&self) -> Option<usize> {
        match self.choice {
            Choice::Run(index) => Some(index as usize),
            Choice::Wait(_) => None,
        }
    }

    /// Sets the note, a line for the group's status.
    pub fn with_note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// Sets the verdicts, one for each item of the request.
    pub fn with_verdicts(mut self, verdicts: Vec<Verdict>) -> Self {
        self.verdicts = verdicts;
        self
    }

    /// Sets the state, which later requests contain.
    pub fn with_state(mut self, state: impl Into<String>) -> Self {
        self.state = Some(state.into());
        self
    }
}

impl Verdict {
    /// Creates a verdict without a note.
    pub fn new(standing: Standing, until: Option<Instant>) -> Self {
        Self {
            standing,
            until,
            note: None,
        }
    }

    /// Sets the note, a line with details.
    pub fn with_note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }
}

impl Request {
    /// Creates a request at a time, without items and with seed 0.
    pub fn at(now: Instant) -> Self {
        Self {
            namespace: "default".into(),
            group: "group".into(),
            now,
            seed: 0,
            settings: "{}".into(),
            state: String::new(),
            items: Vec::new(),
            recent: Vec::new(),
            extra: "{}".into(),
        }
    }

    /// Adds an item.
    pub fn with(mut self, item: Item) -> Self {
        self.items.push(item);
        self
    }

    /// Sets the seed.
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets the settings of the policy, a JSON object.
    pub fn with_settings(mut self, settings: impl Into<String>) -> Self {
        self.settings = settings.into();
        self
    }

    /// Sets the state that an earlier decision returned.
    pub fn with_state(mut self, state: impl Into<String>) -> Self {
        self.state = state.into();
        self
    }

    /// Adds a recent run. Add the newest run first.
    pub fn with_recent(mut self, run: Run) -> Self {
        self.recent.push(run);
        self
    }
}

impl Run {
    /// Creates a run of the item with this index that succeeded.
    pub fn succeeded(item: usize, started: Instant, finished: Instant) -> Self {
        Self::new(item, started, finished, Outcome::Succeeded, Some(0))
    }

    /// Creates a run of the item with this index that failed. The exit code is `None` if no container
    /// exited.
    pub fn failed(
        item: usize,
        started: Instant,
        finished: Instant,
        exit_code: Option<i32>,
    ) -> Self {
        Self::new(item, started, finished, Outcome::Failed, exit_code)
    }

    /// Creates a run of the item with this index that the operator stopped.
    pub fn stopped(item: usize, started: Instant, finished: Instant) -> Self {
        Self::new(item, started, finished, Outcome::Stopped, None)
    }

    fn new(
        item: usize,
        started: Instant,
        finished: Instant,
        outcome: Outcome,
        exit_code: Option<i32>,
    ) -> Self {
        Self {
            // A request has at most 2,000 items, so the index fits.
            item: item as u32,
            started,
            finished,
            outcome,
            exit_code,
        }
    }
}

impl Item {
    /// Creates an item that never ran, needs to succeed only once, and has no cool-off.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            frequency: None,
            cool_off: 0,
            settings: None,
            startable: true,
            last_success: None,
            last_failure: None,
            failures: 0,
            runs: 0,
            last_duration: None,
        }
    }

    /// Sets the frequency.
    pub fn every(mut self, frequency: Duration) -> Self {
        self.frequency = Some(frequency);
        self
    }

    /// Sets the cool-off after a failure.
    pub fn with_cool_off(mut self, cool_off: Duration) -> Self {
        self.cool_off = cool_off;
        self
    }

    /// Adds a run that succeeded at this time, and resets the consecutive failures.
    pub fn succeeded(mut self, at: Instant) -> Self {
        self.last_success = Some(at);
        self.failures = 0;
        self.runs += 1;
        self
    }

    /// Adds a run that failed at this time, and increments the consecutive failures.
    pub fn failed(mut self, at: Instant) -> Self {
        self.last_failure = Some(at);
        self.failures += 1;
        self.runs += 1;
        self
    }

    /// Sets the number of consecutive failures. Increases the number of runs if it is lower.
    pub fn with_failures(mut self, failures: u32) -> Self {
        self.failures = failures;
        self.runs = self.runs.max(failures);
        self
    }

    /// Sets how long the latest run took.
    pub fn took(mut self, duration: Duration) -> Self {
        self.last_duration = Some(duration);
        self
    }

    /// Sets the settings of the item, a JSON object.
    pub fn with_settings(mut self, settings: impl Into<String>) -> Self {
        self.settings = Some(settings.into());
        self
    }

    /// Marks the item as held by the operator.
    pub fn held(mut self) -> Self {
        self.startable = false;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builders_keep_the_history_consistent() {
        let item = Item::named("a").failed(1).failed(2).succeeded(3).took(5);
        assert_eq!((item.failures, item.runs), (0, 3));
        assert_eq!((item.last_failure, item.last_duration), (Some(2), Some(5)));
        let item = Item::named("a").failed(1).with_failures(4);
        assert_eq!((item.failures, item.runs), (4, 4));
        let request = Request::at(9)
            .with(item.with_settings(r#"{"a":1}"#))
            .with_settings(r#"{"b":2}"#)
            .with_state("s")
            .with_recent(Run::stopped(0, 7, 8))
            .with_recent(Run::failed(0, 5, 6, None))
            .with_recent(Run::succeeded(0, 3, 4));
        assert_eq!(request.items[0].settings.as_deref(), Some(r#"{"a":1}"#));
        assert_eq!((&*request.settings, &*request.state), (r#"{"b":2}"#, "s"));
        let recent: Vec<_> = request.recent.iter().map(|run| run.exit_code).collect();
        assert_eq!(recent, [None, None, Some(0)]);
    }
}
