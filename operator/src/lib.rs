//! oaat-operator: runs the items of a group one at a time in pods, in an order that a WebAssembly
//! policy decides.
//!
//! [`reconciler`] drives one reconcile of one group: [`read_snapshot`], [`oaat_api::validate`],
//! [`item_sources`], [`plan`], [`apply`]. `validate`, `plan`, [`run_history`], and [`pod`] are
//! pure. `read_snapshot`, `item_sources`, and `apply` access the cluster through the trait of
//! [`cluster`], which [`kube_cluster`] implements. [`controller`] turns watch events into
//! reconciles, in the order of [`work_queue`], and [`run`] starts and stops the process. [`shard`]
//! distributes the groups over several replicas.

pub mod api_request;
pub mod apply;
pub mod bounded_read;
pub mod client;
pub mod clock_watch;
pub mod cluster;
pub mod config_maps;
pub mod controller;
pub mod controller_context;
pub mod decision_log;
pub mod events;
pub mod fair_limiter;
pub mod fetch_items;
pub mod group_metrics;
pub mod group_ref;
pub mod initial_plan;
pub mod item_sources;
pub mod kube_cluster;
pub mod last_seen_pods;
pub mod lease;
pub mod legacy;
pub mod legacy_pods;
pub mod listed_cluster;
pub mod log_writer;
pub mod metrics;
pub mod mutation;
pub mod oaat_type_controller;
pub mod object_cache;
pub mod plan;
pub mod pod;
pub mod policies;
pub mod policy_limiter;
pub mod policy_metrics;
pub mod policy_selection;
pub mod policy_source;
pub mod read_snapshot;
pub mod reconciler;
pub mod references;
pub mod run;
pub mod run_history;
pub mod server;
pub mod shadow;
pub mod shard;
pub mod shard_leases;
pub mod snapshot;
pub mod triggers;
pub mod watched;
pub mod work_queue;

pub use oaat_api::run_now;
