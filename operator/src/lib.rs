//! oaat-operator: runs the items of a group one at a time in pods, in the order that
//! a WebAssembly policy decides.
//!
//! One cycle of one group reads from top to bottom in [`cycle`]: [`observe`],
//! [`oaat_api::validate`], [`decide`], [`act`], [`record`]. `validate`, `decide`, `record` and
//! [`pod`] are pure; `observe` and `act` reach the cluster through the verbs of
//! [`cluster`], which [`kube_cluster`] implements. [`controller`] turns watch events
//! into cycles, and [`run`] puts the process together.

pub mod api_request;
pub mod apply;
pub mod bounded_read;
pub mod client;
pub mod cluster;
pub mod config_maps;
pub mod controller;
pub mod decision_log;
pub mod events;
pub mod fair_limiter;
pub mod fetch_items;
pub mod group_ref;
pub mod item_sources;
pub mod kube_cluster;
pub mod last_seen_pods;
pub mod lease;
pub mod legacy;
pub mod log_writer;
pub mod metrics;
pub mod mutation;
pub mod oaat_type_controller;
pub mod plan;
pub mod pod;
pub mod policies;
pub mod policy_limiter;
pub mod reconciler;
pub mod references;
pub mod run;
pub mod run_history;
pub mod run_now;
pub mod server;
pub mod snapshot;
pub mod triggers;
pub mod watched;
