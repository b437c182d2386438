//! How the API server handles a request of the reconcile loop.

use crate::event::Request;
use crate::mutation::Mutation;
use crate::oracle::Oracle;
use crate::replica_client::{RequestResult, Response, Verb};
use crate::simulated_cluster::{SimulatedCluster, uid};
use crate::violation::ViolationKind;
use k8s_openapi::api::core::v1::Pod;
use oaat_api::OaatGroupStatus;
use oaat_operator::cluster::{ClusterError, GroupRead};
use oaat_operator::pod::PodView;
use serde::Deserialize;
use serde_json::{Value, json};

impl SimulatedCluster {
    /// Handles a request of a replica.
    pub fn apply(&mut self, request: &Request) -> RequestResult {
        match &*request.verb {
            Verb::Group => Ok(Response::Group(self.read())),
            Verb::Pods { .. } => {
                self.oracle.pods_listed(request.replica, self.now);
                Ok(Response::Pods(self.labelled().cloned().collect()))
            }
            Verb::Pod(name) => Ok(Response::Pod(self.pods.get(name).cloned().map(Box::new))),
            Verb::Output(name) => self.output(name),
            Verb::NamespaceTerminating => Ok(Response::Ends(self.namespace_ends.is_some())),
            Verb::WriteStatus { version, status } => self.write(request, version, status),
            Verb::CreatePod(pod) => self.create(pod),
            Verb::OpenGate { name, uid: uid_ } => {
                let same = self.pods.get(name).is_some_and(|pod| uid(pod) == uid_);
                if !same {
                    return Err(ClusterError::NotFound);
                }
                self.open(uid_);
                Ok(Response::Done)
            }
            Verb::DeletePod { name, uid, version } => {
                self.delete_by_operator(name, uid, version.as_deref());
                Ok(Response::Done)
            }
        }
    }

    fn read(&self) -> GroupRead {
        let Some(group) = &self.group else {
            return GroupRead::Gone;
        };
        let mut object = group.object.clone();
        match OaatGroupStatus::deserialize(&group.status) {
            Ok(status) => {
                object.status = Some(status);
                GroupRead::Found(Box::new(object))
            }
            Err(error) => GroupRead::Undecodable {
                error: error.to_string(),
                generation: object.metadata.generation,
                resource_version: object.metadata.resource_version.unwrap_or_default(),
            },
        }
    }

    fn output(&self, name: &str) -> RequestResult {
        let pod = self.pods.get(name).ok_or(ClusterError::NotFound)?;
        let truth = self.truth.get(uid(pod));
        let printed = truth.and_then(|truth| truth.printed.clone());
        printed
            .map(Response::Output)
            .ok_or_else(|| ClusterError::Unavailable("its container has not started".into()))
    }

    fn create(&mut self, pod: &Pod) -> RequestResult {
        if self.namespace_ends.is_some() {
            return Err(ClusterError::NamespaceTerminating);
        }
        let name = pod.metadata.name.clone().unwrap_or_default();
        if self.pods.contains_key(&name) {
            return Err(ClusterError::Conflict("already exists".into()));
        }
        Ok(Response::Created(Box::new(
            self.put_pod(pod.clone(), false),
        )))
    }

    fn delete_by_operator(&mut self, name: &str, uid_: &str, version: Option<&str>) {
        let Some(pod) = self.pods.get(name).filter(|pod| uid(pod) == uid_) else {
            return;
        };
        if version.is_some() && version != pod.metadata.resource_version.as_deref() {
            return;
        }
        if let Some((kind, why)) = self.why_deletion_is_wrong(&PodView::from(pod)) {
            let details = format!("the operator deleted pod {name}, {why}");
            self.oracle.report(kind, details);
        }
        if let Some(truth) = self.truth.get_mut(uid_) {
            truth.removed |= !truth.opened && !truth.claimed;
        }
        if self.mutation == Some(Mutation::ForceDelete) {
            self.remove_pod(uid_);
        } else {
            self.delete(uid_);
        }
    }

    /// Returns why the operator must not delete a pod, if that is so. A pod that was never opened
    /// never ran: its claim is void, and nothing is counted.
    fn why_deletion_is_wrong(&self, pod: &PodView) -> Option<(ViolationKind, &'static str)> {
        let truth = self
            .truth
            .get(&pod.uid)
            .filter(|truth| truth.opened && !truth.lister)?;
        let group = self.group.as_ref()?;
        let current = &group.status["current"];
        let is_current = current["podUid"] == pod.uid;
        // A user may have edited the status between the announcement and the deletion.
        let stopping = if is_current {
            !current["stopping"].is_null()
        } else {
            self.oracle.stopping.contains(&pod.uid)
        };
        match (pod.is_terminal(), is_current) {
            (true, true) if !stopping => {
                Some((ViolationKind::ResultDeleted, "whose run is not recorded"))
            }
            (true, _) => None,
            // The pod was deleted before it was bound, and this request completes the deletion.
            (false, _) if pod.deletion_is_incomplete() => None,
            (false, _) if stopping && self.oracle.stopped_by_window.contains(&pod.uid) => None,
            (false, _) if stopping && truth.sidecar && truth.ended.is_some() => None,
            (false, _) if stopping && pod.started() => Some((
                ViolationKind::RunDeleted,
                "which had started in time after all",
            )),
            (false, _) if stopping || truth.group != group.object.metadata.uid => None,
            (false, true) => Some((ViolationKind::RunDeleted, "whose run is current")),
            (false, false) => Some((ViolationKind::RunDeleted, "which ran")),
        }
    }

    fn write(&mut self, request: &Request, version: &str, patch: &Value) -> RequestResult {
        let Some(group) = &mut self.group else {
            return Err(ClusterError::NotFound);
        };
        let current = group.object.metadata.resource_version.as_deref();
        // As on a real server, a patch without a resource version applies to any version.
        if !version.is_empty() && current != Some(version) {
            return Err(ClusterError::Conflict(
                "the object has been modified".into(),
            ));
        }
        let before = group.status.clone();
        merge(&mut group.status, patch);
        let after = group.status.clone();
        let version = self.touch_group(None);
        Oracle::check_write(self, request, &before, &after);
        let version = version.to_string();
        let group = match self.read() {
            GroupRead::Found(group) => Some(group),
            _ => None,
        };
        Ok(Response::Written(version, group))
    }
}

/// Applies a JSON merge patch (RFC 7386).
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Value::Object(target) = target else {
        return;
    };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}
