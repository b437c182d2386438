//! The pods of the initial list.

use crate::pod::{PodView, names};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use std::collections::HashMap;

/// The maximum size in bytes of the pods of the initial list that are kept.
const MAX_LISTED_PODS: usize = 24 << 20;

/// The pods of the initial list.
#[derive(Default)]
pub struct ListedPods {
    /// The pods by namespace and label of their group.
    pods: HashMap<(String, String), Vec<PodView>>,
    /// The approximate size in bytes.
    size: usize,
}

impl ListedPods {
    /// Adds a pod, unless the pods take too much memory.
    pub(super) fn add(&mut self, pod: &Pod, view: &PodView) {
        if self.size > MAX_LISTED_PODS {
            self.pods.clear();
            return;
        }
        self.size += size_of::<PodView>() + format!("{view:?}").len();
        let label = pod.labels().get(names::GROUP).cloned();
        let key = (
            pod.namespace().unwrap_or_default(),
            label.unwrap_or_default(),
        );
        self.pods.entry(key).or_default().push(view.clone());
    }

    /// Removes the pods of a group, and returns them; `None` if they are not known.
    pub fn take(&mut self, namespace: &str, group: &str) -> Option<Vec<PodView>> {
        let key = (namespace.to_owned(), names::group_label(group));
        let complete = self.size <= MAX_LISTED_PODS;
        complete.then(|| self.pods.remove(&key).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn too_many_listed_pods_are_not_kept() {
        let pod: Pod = serde_json::from_value(json!({ "metadata": {
            "namespace": "n", "labels": { names::GROUP: "g" },
        } }))
        .unwrap();
        let view = PodView {
            message: Some("x".repeat(MAX_LISTED_PODS / 4)),
            ..PodView::default()
        };
        let mut pods = ListedPods::default();
        for _ in 0..3 {
            pods.add(&pod, &view);
        }
        assert!(pods.size < MAX_LISTED_PODS);
        for _ in 0..3 {
            pods.add(&pod, &view);
        }
        assert!(pods.pods.is_empty() && pods.take("n", "g").is_none());
    }
}
