//! Pods: how they are built from a type and an item, and what they show about a run.

mod build;
pub mod names;
mod outcome;
mod view;

pub use build::{GATE_REMOVED, PodRequest, TOO_LARGE, build, overridden_env, plain, trial};
pub use outcome::{Finished, ended_at, outcome};
pub use view::{ContainerState, ContainerView, Deletion, Phase, PodView};
