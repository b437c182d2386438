//! An exhaustive model of the protocol that keeps two runs of a group from ever overlapping.
//!
//! The checker walks through every order in which the requests of several operator replicas,
//! the events of the cluster, the doings of people, and faults can come, and looks at every
//! state that results. See `README.md` for what is modelled and what is not.

mod canonical;
mod environment;
mod fault;
mod mutation;
mod properties;
mod replica;
mod report;
mod server;
mod settle;
mod state;
mod words;

pub use environment::Action;
pub use fault::{Budget, Fault};
pub use mutation::Mutation;
pub use properties::{AT_MOST_ONE, RECOVERS, violations};
pub use replica::Choice;
pub use report::Report;
pub use state::*;
pub use words::{sentence, story};

use stateright::{Model, Property};

/// A configuration of the model.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    /// Replicas of the operator, all of which act.
    pub replicas: usize,
    /// Items of the group.
    pub items: u8,
    /// Runs.
    pub runs: u8,
    /// What may go wrong.
    pub budget: Budget,
    /// Runs are ended because a window opens, in place of pods that do not start in time: whether or
    /// not they have started.
    pub windows: bool,
    /// The rule that is broken.
    pub mutation: Option<Mutation>,
    /// Whether states that differ in nothing that matters are left apart.
    pub whole: bool,
}

impl Default for Protocol {
    fn default() -> Self {
        Self {
            replicas: 2,
            items: 2,
            runs: 3,
            budget: Budget {
                crashes: 2,
                unanswered: 1,
                tampering: 1,
                refusals: 1,
                timeouts: 0,
            },
            windows: false,
            mutation: None,
            whole: false,
        }
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.canonical(State::new(self.budget))]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.possible(state, actions);
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let after = self.canonical(self.happen(before, action));
        // What changes nothing leads nowhere.
        (after != *before).then_some(after)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::properties()
    }
}
