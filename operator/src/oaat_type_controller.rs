//! Checks types: would the API server accept a pod like this? A dry run tells, with
//! unknown fields refused.

use crate::api_request::with_timeout;
use crate::bounded_read::Undecodable;
use crate::cluster::ClusterError;
use crate::events::{self, EventSink};
use crate::kube_cluster::{KubeCluster, WatchedType};
use crate::pod::{GATE_REMOVED, PodView, names, overridden_env, trial};
use crate::watched::Watched;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::{Api, Client, ResourceExt};
use oaat_api::text;
use oaat_api::validate::{summary, validate_type};
use oaat_api::{OaatType, OaatTypeSpec, Timestamp, condition, set_condition};
use serde_json::json;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// How long until a type that the API server refuses is tried requeue_at: what it lacks
/// (a priority class, say) may come to be.
const AGAIN: Duration = Duration::from_secs(300);

/// What the check of a type works with.
pub struct OaatTypeReconciler {
    /// The API.
    pub client: Client,
    /// For the dry run.
    pub cluster: KubeCluster,
    /// For events on types.
    pub events: EventSink,
    /// The generation of each type, by uid, that was tried last, and when. Whatever a
    /// server says, a type is not tried again at once because of what was written about it.
    pub tried: Mutex<HashMap<String, (Option<i64>, Instant)>>,
}

/// The API server would not admit a pod now, for a reason that may pass.
const NOT_NOW: &str = "NotAllowedNow";

impl OaatTypeReconciler {
    /// How long until this generation may be tried again, if it was tried not long ago.
    fn tried_just_now(&self, uid: &str, generation: Option<i64>) -> Option<Duration> {
        let tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, at) = tried.get(uid).filter(|(tried, _)| *tried == generation)?;
        // A little early is not too early: the timer is the one that this asks for.
        let left = AGAIN.saturating_sub(at.elapsed());
        (left > Duration::from_secs(1)).then_some(left)
    }

    fn tried(&self, uid: String, generation: Option<i64>) {
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        tried.retain(|_, (_, at)| at.elapsed() < AGAIN);
        tried.insert(uid, (generation, Instant::now()));
    }
}

/// Checks one type if that has not been done for its generation.
///
/// # Errors
/// When the API server does not answer.
pub async fn check(
    type_: Arc<WatchedType>,
    checker: Arc<OaatTypeReconciler>,
) -> Result<Action, ClusterError> {
    let (namespace, name) = (type_.namespace().unwrap_or_default(), type_.name_any());
    let cluster = checker.cluster.for_reconcile();
    let mut conditions = Vec::new();
    let (meta, (valid, reason, message)) = match cluster.reader().object(&namespace, &name).await {
        Err(ClusterError::NotFound) => return Ok(Action::await_change()),
        Err(error) => return Err(error),
        Ok(Err(Undecodable { error, metadata })) => {
            warn!(namespace, type = name, error, "the type cannot be decoded");
            let words = format!("this operator cannot read the object: {error}");
            (metadata, (false, "Undecodable", words))
        }
        Ok(Ok(OaatType {
            metadata: meta,
            spec,
            status,
        })) => {
            conditions = status.unwrap_or_default().conditions;
            let told = condition(&conditions, "Valid")
                .filter(|c| c.observed_generation == meta.generation);
            let settled = told.is_some_and(|c| c.status == "True" && c.reason != NOT_NOW);
            if settled || meta.deletion_timestamp.is_some() {
                return Ok(Action::await_change());
            }
            let uid = meta.uid.clone().unwrap_or_default();
            if let (Some(_), Some(wait)) = (told, checker.tried_just_now(&uid, meta.generation)) {
                return Ok(Action::requeue(wait));
            }
            let verdict = verdict(&spec, &cluster, &namespace).await?;
            checker.tried(uid, meta.generation);
            (meta, verdict)
        }
    };
    let message = text::clean(&message, text::CONDITION);
    let before = conditions.clone();
    let now = Timestamp::now();
    set_condition(
        &mut conditions,
        now,
        meta.generation,
        ("Valid", valid, reason, message.clone()),
    );
    if conditions != before {
        write(&checker.client, &meta, &namespace, &name, &conditions).await?;
        info!(namespace, type = name, valid, reason, message, "type checked");
        if !valid || reason == "EnvironmentOverridden" {
            let reference = events::reference("OaatType", &namespace, &name, meta.uid.as_deref());
            checker
                .events
                .send(reference, events::warning(reason, message));
        }
    }
    Ok(if valid && reason != NOT_NOW {
        Action::await_change()
    } else {
        Action::requeue(AGAIN)
    })
}

async fn verdict(
    spec: &OaatTypeSpec,
    cluster: &KubeCluster,
    namespace: &str,
) -> Result<(bool, &'static str, String), ClusterError> {
    let problems = validate_type(spec);
    if !problems.is_empty() {
        return Ok((false, "SpecInvalid", summary(&problems)));
    }
    match cluster.post_pod(namespace, &trial(spec), true).await {
        Ok(pod) if !PodView::from(&pod).gated => Ok((false, "GateRemoved", GATE_REMOVED.into())),
        Ok(_) => Ok(match overridden_env(spec).as_slice() {
            [] => (
                true,
                "Accepted",
                "the API server accepts a pod of this type".into(),
            ),
            containers => (
                true,
                "EnvironmentOverridden",
                format!(
                    "container {} sets OAAT_ITEM itself; the operator's value, the item's name, replaces it",
                    text::list(containers, ", ", text::NAME)
                ),
            ),
        }),
        // A quota or a policy of the cluster, which may be another one by the time that
        // an item runs.
        Err(ClusterError::Rejected { code: 403, message }) => Ok((
            true,
            NOT_NOW,
            format!("the API server would not admit a pod of this type now: {message}"),
        )),
        Err(ClusterError::NamespaceEnds) => {
            Ok((true, "Accepted", "the namespace is being deleted".into()))
        }
        Err(ClusterError::Rejected { message, .. }) => Ok((
            false,
            "PodRefused",
            format!("the API server refuses a pod of this type: {message}"),
        )),
        Err(other) => Err(other),
    }
}

async fn write(
    client: &Client,
    meta: &ObjectMeta,
    namespace: &str,
    name: &str,
    conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition],
) -> Result<(), ClusterError> {
    let api: Api<Watched<OaatType>> = Api::namespaced(client.clone(), namespace);
    let patch = json!({
        "metadata": { "resourceVersion": meta.resource_version },
        "status": { "observedGeneration": meta.generation, "conditions": conditions },
    });
    let params = PatchParams {
        field_manager: Some(names::OPERATOR.into()),
        ..PatchParams::default()
    };
    match with_timeout(api.patch_status(name, &params, &Patch::Merge(&patch))).await {
        // Changed or gone meanwhile; the watch brings the new one.
        Ok(_) | Err(ClusterError::NotFound | ClusterError::Conflict(_)) => Ok(()),
        Err(other) => Err(other),
    }
}
