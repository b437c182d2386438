//! An exhaustive model of the protocol that never lets two runs of a group overlap.
//!
//! The checker explores every possible order of the requests of several operator replicas, the
//! events of the cluster, the actions of users, and faults, and checks every state. See `README.md`
//! for what the model contains and omits.

mod canonical;
mod description;
mod environment;
mod fault;
mod mutation;
mod plan;
mod properties;
mod replica;
mod report;
mod server;
mod state;

pub use description::{describe_action, describe_path};
pub use environment::Action;
pub use fault::{Budget, Fault};
pub use mutation::Mutation;
pub use properties::{AT_MOST_ONE, RECOVERS, violations};
pub use replica::Choice;
pub use report::Report;
pub use state::*;

use stateright::{Model, Property};

/// A configuration of the model.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    /// The number of operator replicas, all of which act.
    pub replicas: usize,
    /// The number of items of the group.
    pub items: u8,
    /// The number of runs.
    pub runs: u8,
    /// The faults that may occur.
    pub budget: Budget,
    /// Whether timeouts are blackouts or ended completion containers, which end runs, started or not,
    /// instead of pods that do not start in time.
    pub windows: bool,
    /// The rule that is switched off.
    pub mutation: Option<Mutation>,
    /// Whether to keep equivalent states apart.
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
        self.possible_actions(state, actions);
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let after = self.canonical(self.apply_action(before, action));
        // An action that changes nothing leads nowhere.
        (after != *before).then_some(after)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::properties()
    }
}
