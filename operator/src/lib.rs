//! oaat-operator: runs the items of a group one at a time in pods, in the order that
//! a WebAssembly policy decides.
//!
//! One cycle of one group reads from top to bottom in [`cycle`]: [`observe`],
//! [`oaat_api::validate`], [`decide`], [`act`], [`record`]. `validate`, `decide`, `record` and
//! [`pod`] are pure; `observe` and `act` reach the cluster through the verbs of
//! [`cluster`], which [`kube_cluster`] implements. [`controller`] turns watch events
//! into cycles, and [`run`] puts the process together.

pub mod act;
pub mod bounded_read;
pub mod client;
pub mod cluster;
pub mod config_maps;
pub mod controller;
pub mod cycle;
pub mod decide;
pub mod events;
pub mod fair_limiter;
pub mod fetch_items;
pub mod items;
pub mod kube_cluster;
pub mod lease;
pub mod legacy;
pub mod log_writer;
pub mod metrics;
pub mod mutation;
pub mod observe;
pub mod pod;
pub mod policies;
pub mod policy_limiter;
pub mod record;
pub mod recorder;
pub mod run;
pub mod run_now;
pub mod server;
pub mod sightings;
pub mod triggers;
pub mod types;
pub mod uses;
pub mod watched;
