//! References to groups.

use crate::watched::Watched;
use kube::runtime::reflector::ObjectRef;
use oaat_api::OaatGroup;
use std::collections::HashSet;

/// A group as the watch stores it.
pub type WatchedGroup = Watched<OaatGroup>;
/// A reference to a group.
pub type GroupRef = ObjectRef<WatchedGroup>;

/// Returns the known groups that no longer exist.
pub fn gone<'a>(
    known: impl Iterator<Item = &'a GroupRef>,
    existing: &HashSet<GroupRef>,
) -> Vec<GroupRef> {
    known
        .filter(|group| !existing.contains(group))
        .cloned()
        .collect()
}
