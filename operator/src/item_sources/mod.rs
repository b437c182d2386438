//! The lists of `spec.itemsFrom`: read from ConfigMaps and from the output of pods, and merged with
//! the items of the spec. The last good list is stored in the group's status, so it stays in effect
//! if its source fails, and across restarts.

mod config_map;
mod container;
pub(crate) mod http;
mod merge;
mod parse;
mod read;

pub use config_map::ConfigMapLists;
pub use merge::{hold_missing, update_items};
pub use parse::{MAX_TEXT, at_path, list};
pub use read::read_item_sources;

use crate::snapshot::SourceUpdate;
use oaat_api::{ItemsFrom, Timestamp};

/// The state of a source after one reconcile.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceReading {
    /// The name of the source in the spec.
    pub name: String,
    /// A description of where the list comes from, for messages.
    pub source: String,
    /// The hash of the source's definition.
    pub definition: String,
    /// The new information.
    pub update: SourceUpdate,
    /// The name of the pod that prints the list.
    pub pod: Option<String>,
    /// The uid of the pod that `update` is about.
    pub pod_uid: Option<String>,
    /// When to reconcile again.
    pub requeue_at: Option<Timestamp>,
}

/// Describes where a source's list comes from.
fn describe(source: &ItemsFrom) -> String {
    match (&source.config_map, &source.http) {
        (Some(map), _) => format!("ConfigMap {}, key {}", map.name, map.key),
        // The query may contain credentials.
        (_, Some(http)) => http.url.split('?').next().unwrap_or_default().to_owned(),
        _ => "the output of a container".to_owned(),
    }
}
