//! Pods: how they are built from a type and an item, and what they show about a run.

mod build;
pub mod names;
mod outcome;
mod view;

pub use build::{
    GATE_REMOVED, PodParams, TOO_LARGE, build, dry_run_pod, normalized_pod_spec, overridden_env,
};
pub use outcome::{RunOutcome, completion, ended_at, judge};
pub use view::{
    ContainerKind, ContainerState, ContainerView, Delay, Deletion, Disruption, Phase, PodView,
    TriggerState,
};
