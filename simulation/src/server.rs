//! What the API server does with a request, as far as the cycle sees it.

use crate::cluster::{Answer, Reply, Verb};
use crate::mutation::Mutation;
use crate::oracle::Oracle;
use crate::world::{Change, World, gates, uid};
use k8s_openapi::api::core::v1::Pod;
use oaat_operator::cluster::{ClusterError, GroupRead};
use oaat_operator::pod::PodView;
use serde_json::{Value, json};

impl World {
    /// Does what a replica asks for. `listed` is what a list showed when its cycle began.
    pub fn apply(&mut self, replica: usize, verb: &Verb, listed: &[Pod]) -> Reply {
        match verb {
            Verb::Group => Ok(Answer::Group(self.read())),
            Verb::Pods { .. } => Ok(Answer::Pods(self.list(replica, listed))),
            Verb::Pod(name) => Ok(Answer::Pod(self.get(name))),
            Verb::NamespaceEnds => Ok(Answer::Ends(false)),
            Verb::WriteStatus { version, status } => self.write(replica, version, status),
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
        match serde_json::from_value(group.status.clone()) {
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

    fn list(&mut self, replica: usize, listed: &[Pod]) -> Vec<Pod> {
        self.oracle.listed(replica, self.now);
        if self.mutation == Some(Mutation::OpenAnyGated) {
            for pod in self.labelled() {
                self.open(uid(&pod));
            }
        }
        let mut pods = match self.mutation {
            Some(Mutation::NoList) => Vec::new(),
            Some(Mutation::ListBeforeRead) => listed.to_vec(),
            _ => self.labelled(),
        };
        pods.iter_mut().for_each(|pod| self.shown(pod));
        pods
    }

    fn get(&self, name: &str) -> Option<Box<Pod>> {
        if self.mutation == Some(Mutation::AbsenceFromList) {
            return None;
        }
        let mut pod = self.pods.get(name)?.clone();
        self.shown(&mut pod);
        Some(Box::new(pod))
    }

    /// A pod as a cycle takes it.
    fn shown(&self, pod: &mut Pod) {
        let going = pod.metadata.deletion_timestamp.is_some();
        if going && self.mutation == Some(Mutation::TerminatingIsTerminal) {
            let status = pod.status.get_or_insert_default();
            status.phase = Some("Failed".into());
            status.container_statuses = None;
        }
    }

    fn create(&mut self, pod: &Pod) -> Reply {
        let name = pod.metadata.name.clone().unwrap_or_default();
        if self.pods.contains_key(&name) {
            return Err(ClusterError::Conflict("already exists".into()));
        }
        let mut made = pod.clone();
        let given = gates(&mut made).cloned();
        if self.mutation == Some(Mutation::NoGate)
            && let Some(gates) = gates(&mut made)
        {
            gates.clear();
        }
        let mut made = self.put_pod(made, false);
        if let Some(spec) = &mut made.spec {
            spec.scheduling_gates = given;
        }
        Ok(Answer::Created(Box::new(made)))
    }

    fn delete_by_operator(&mut self, name: &str, uid_: &str, version: Option<&str>) {
        let Some(pod) = self.pods.get(name).filter(|pod| uid(pod) == uid_) else {
            return;
        };
        if version.is_some() && version != pod.metadata.resource_version.as_deref() {
            return;
        }
        let over = PodView::from(pod).terminal();
        // One that has not been opened never ran: that claim is void, and nothing is counted.
        let opened = self.truth.get(uid_).is_some_and(|truth| truth.opened);
        if let Some(group) = &self.group
            && opened
            && group.status["current"]["podUid"] == uid_
            && group.status["current"]["stopping"].is_null()
        {
            let state = if over { "unrecorded" } else { "legitimate" };
            self.oracle
                .violated(format!("the operator deleted the {state} run's pod {name}"));
        }
        if self.mutation == Some(Mutation::ForceDelete) {
            self.remove_pod(uid_);
        } else {
            self.delete(uid_);
        }
    }

    fn write(&mut self, replica: usize, version: &str, patch: &Value) -> Reply {
        if self.mutation == Some(Mutation::OpenBeforeClaim)
            && let Some(uid) = patch["current"]["podUid"].as_str()
        {
            self.open(uid);
        }
        let Some(group) = &mut self.group else {
            return Err(ClusterError::NotFound);
        };
        let same = group.object.metadata.resource_version.as_deref() == Some(version);
        if !same && self.mutation != Some(Mutation::ClaimWithoutVersion) {
            return Err(ClusterError::Conflict(
                "the object has been modified".into(),
            ));
        }
        let mut patch = patch.clone();
        if self.mutation == Some(Mutation::KeepOldPodUid)
            && group.status["current"].is_object()
            && let Some(current) = patch["current"].as_object_mut()
        {
            current.remove("podUid");
        }
        let before = group.status.clone();
        merge(&mut group.status, &patch);
        let after = group.status.clone();
        self.touch_group(Change::Status);
        Oracle::written(self, replica, &before, &after);
        let group = self.group.as_ref();
        let version = group.and_then(|group| group.object.metadata.resource_version.clone());
        Ok(Answer::Written(version.unwrap_or_default()))
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
