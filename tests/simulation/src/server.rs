//! What the API server does with a request, as far as the cycle sees it.

use crate::cluster::{Answer, Reply, Verb};
use crate::event::Request;
use crate::mutation::Mutation;
use crate::oracle::Oracle;
use crate::violation::Kind;
use crate::world::{World, uid};
use k8s_openapi::api::core::v1::Pod;
use oaat_api::OaatGroupStatus;
use oaat_operator::cluster::{ClusterError, GroupRead};
use oaat_operator::pod::PodView;
use serde::Deserialize;
use serde_json::{Value, json};

impl World {
    /// Does what a replica asks for.
    pub fn apply(&mut self, request: &Request) -> Reply {
        match &*request.verb {
            Verb::Group => Ok(Answer::Group(self.read())),
            Verb::Pods { .. } => {
                self.oracle.listed(request.replica, self.now);
                Ok(Answer::Pods(self.labelled().cloned().collect()))
            }
            Verb::Pod(name) => Ok(Answer::Pod(self.pods.get(name).cloned().map(Box::new))),
            Verb::Output(name) => self.output(name),
            Verb::NamespaceEnds => Ok(Answer::Ends(self.namespace_ends.is_some())),
            Verb::WriteStatus { version, status } => self.write(request, version, status),
            Verb::CreatePod(pod) => self.create(pod),
            Verb::OpenGate { name, uid: uid_ } => {
                let same = self.pods.get(name).is_some_and(|pod| uid(pod) == uid_);
                if !same {
                    return Err(ClusterError::NotFound);
                }
                self.open(uid_);
                Ok(Answer::Done)
            }
            Verb::DeletePod { name, uid, version } => {
                self.delete_by_operator(name, uid, version.as_deref());
                Ok(Answer::Done)
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

    fn output(&self, name: &str) -> Reply {
        let pod = self.pods.get(name).ok_or(ClusterError::NotFound)?;
        let truth = self.truth.get(uid(pod));
        let printed = truth.and_then(|truth| truth.printed.clone());
        printed
            .map(Answer::Output)
            .ok_or_else(|| ClusterError::Unavailable("its container has not started".into()))
    }

    fn create(&mut self, pod: &Pod) -> Reply {
        if self.namespace_ends.is_some() {
            return Err(ClusterError::NamespaceEnds);
        }
        let name = pod.metadata.name.clone().unwrap_or_default();
        if self.pods.contains_key(&name) {
            return Err(ClusterError::Conflict("already exists".into()));
        }
        Ok(Answer::Created(Box::new(self.put_pod(pod.clone(), false))))
    }

    fn delete_by_operator(&mut self, name: &str, uid_: &str, version: Option<&str>) {
        let Some(pod) = self.pods.get(name).filter(|pod| uid(pod) == uid_) else {
            return;
        };
        if version.is_some() && version != pod.metadata.resource_version.as_deref() {
            return;
        }
        if let Some((kind, why)) = self.has_a_right_to_stay(&PodView::from(pod)) {
            let words = format!("the operator deleted pod {name}, {why}");
            self.oracle.violated(kind, words);
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

    /// Why the operator must not delete a pod, if it must not. One that was never opened never
    /// ran: its claim is void, and nothing is counted.
    fn has_a_right_to_stay(&self, pod: &PodView) -> Option<(Kind, &'static str)> {
        let truth = self
            .truth
            .get(&pod.uid)
            .filter(|truth| truth.opened && !truth.lister)?;
        let group = self.group.as_ref()?;
        let current = &group.status["current"];
        let is_current = current["podUid"] == pod.uid;
        // Somebody may have wiped the status between what it said and the deletion.
        let stopping = match is_current {
            true => !current["stopping"].is_null(),
            false => self.oracle.stopping.contains(&pod.uid),
        };
        match (pod.terminal(), is_current) {
            (true, true) if !stopping => Some((Kind::ResultDeleted, "whose run is not on record")),
            (true, _) => None,
            (false, _) if stopping && self.oracle.windowed.contains(&pod.uid) => None,
            (false, _) if stopping && pod.started() => {
                Some((Kind::RunDeleted, "which had started in time after all"))
            }
            (false, _) if stopping || truth.group != group.object.metadata.uid => None,
            (false, true) => Some((Kind::RunDeleted, "whose run is in progress")),
            (false, false) => Some((Kind::RunDeleted, "which ran")),
        }
    }

    fn write(&mut self, request: &Request, version: &str, patch: &Value) -> Reply {
        let Some(group) = &mut self.group else {
            return Err(ClusterError::NotFound);
        };
        let current = group.object.metadata.resource_version.as_deref();
        // As on a real server: a patch that names no version goes upon any.
        if !version.is_empty() && current != Some(version) {
            return Err(ClusterError::Conflict(
                "the object has been modified".into(),
            ));
        }
        let before = group.status.clone();
        merge(&mut group.status, patch);
        let after = group.status.clone();
        let version = self.touch_group(None);
        Oracle::written(self, request, &before, &after);
        Ok(Answer::Written(version.to_string()))
    }
}

/// A JSON merge patch (RFC 7386).
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
