//! Ways to write requests and decisions down in few words.

use crate::{Choice, Decision, Duration, Instant, Item, Request, Standing, Verdict};

impl Decision {
    /// Start the item with this index in the request.
    pub fn run(index: usize) -> Self {
        // A request has at most 2,000 items, so the index fits.
        Self::new(Choice::Run(index as u32))
    }

    /// Start nothing; ask again at `until` at the latest.
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

    /// The index of the item to start, if one is to be started.
    pub fn chosen(&self) -> Option<usize> {
        match self.choice {
            Choice::Run(index) => Some(index as usize),
            Choice::Wait(_) => None,
        }
    }

    /// With a line for the group's status.
    pub fn with_note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// With one verdict for each item of the request.
    pub fn with_verdicts(mut self, verdicts: Vec<Verdict>) -> Self {
        self.verdicts = verdicts;
        self
    }

    /// With a state to be handed back in later requests.
    pub fn with_state(mut self, state: impl Into<String>) -> Self {
        self.state = Some(state.into());
        self
    }
}

impl Verdict {
    /// A verdict without a note.
    pub fn new(standing: Standing, until: Option<Instant>) -> Self {
        Self {
            standing,
            until,
            note: None,
        }
    }
}

impl Request {
    /// A request at a time, with no items yet and seed 0.
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

    /// With one more item.
    pub fn with(mut self, item: Item) -> Self {
        self.items.push(item);
        self
    }

    /// With another seed.
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }
}

impl Item {
    /// An item that never ran, that one success satisfies for ever, without a
    /// cool-off.
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

    /// Must succeed this often.
    pub fn every(mut self, frequency: Duration) -> Self {
        self.frequency = Some(frequency);
        self
    }

    /// Rests this long after a failure.
    pub fn resting(mut self, cool_off: Duration) -> Self {
        self.cool_off = cool_off;
        self
    }

    /// Succeeded at this time.
    pub fn succeeded(mut self, at: Instant) -> Self {
        self.last_success = Some(at);
        self.runs += 1;
        self
    }

    /// Failed at this time, once more than before.
    pub fn failed(mut self, at: Instant) -> Self {
        self.last_failure = Some(at);
        self.failures += 1;
        self.runs += 1;
        self
    }

    /// Held by the operator.
    pub fn held(mut self) -> Self {
        self.startable = false;
        self
    }
}
