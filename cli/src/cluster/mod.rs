//! The connection to a cluster, with the user's own permissions, and errors that say what to do.

mod error;
mod groups;
mod kubeconfig;
mod lost_watch;
mod response_limit;
mod session;

pub(crate) use error::{Access, ClusterError};
pub(crate) use groups::{
    GroupRead, NamedMeta, decoded, find_item, items_in_effect, list_names, read_group, read_groups,
};
pub(crate) use lost_watch::{WatchRetries, watch_failure};
pub(crate) use response_limit::PAGE;
pub use session::ClusterArgs;
pub(crate) use session::{Session, patch_params};
