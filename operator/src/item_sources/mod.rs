//! Items that are listed elsewhere: read from ConfigMaps and from the output of pods, and added to
//! those of the spec. The last good list is stored in the group's status, so it stays in effect if
//! its source fails, and across restarts.

mod config_map;
mod container;
pub(crate) mod http;
mod merge;
mod parse;
mod read;

pub use config_map::ConfigMapLists;
pub use merge::{SourceLists, held, put_in_force, retry};
pub use parse::{MAX_TEXT, at_path, list};
pub use read::read_item_sources;

use oaat_api::{ItemsFrom, Timestamp};

/// What is new of a source.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum SourceUpdate {
    /// Nothing.
    #[default]
    Nothing,
    /// It is being read, with words about that.
    Busy(String),
    /// What is there now, of a source that is followed as it changes, and since when it is there.
    Followed(Timestamp, Result<Vec<String>, String>),
    /// What came of reading it, and when.
    Read(Timestamp, Result<Vec<String>, String>),
}

/// What a look at a source found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceReading {
    /// Its name in the spec.
    pub name: String,
    /// Where its list comes from, in words.
    pub source: String,
    /// What tells its definition from another.
    pub definition: String,
    /// What is new.
    pub news: SourceUpdate,
    /// Name of the pod that prints the list.
    pub pod: Option<String>,
    /// Uid of the pod that the news are about.
    pub pod_uid: Option<String>,
    /// When to look again.
    pub requeue_at: Option<Timestamp>,
}

/// Where a source's list comes from, in words.
fn words(source: &ItemsFrom) -> String {
    match (&source.config_map, &source.http) {
        (Some(map), _) => format!("ConfigMap {}, key {}", map.name, map.key),
        // What comes after a question mark may be no business of everybody.
        (_, Some(http)) => http.url.split('?').next().unwrap_or_default().to_owned(),
        _ => "what a container prints".to_owned(),
    }
}
