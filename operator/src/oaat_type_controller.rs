//! Checks OaatTypes with a dry run: whether the API server accepts a pod of the type. Unknown
//! fields are rejected.

use crate::api_request::with_timeout;
use crate::bounded_read::Undecodable;
use crate::cluster::ClusterError;
use crate::events::{self, EventSink};
use crate::kube_cluster::{KubeCluster, WatchedType};
use crate::pod::{GATE_REMOVED, PodView, dry_run_pod, names, overridden_env};
use crate::shard_leases::Served;
use crate::watched::Watched;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::{Api, Client, ResourceExt};
use oaat_api::reasons::valid as reasons;
use oaat_api::text;
use oaat_api::validate::{summary, validate_type};
use oaat_api::{OaatType, OaatTypeSpec, Timestamp, condition, set_condition};
use serde_json::json;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// The delay before a rejected type is checked again: what it lacks, for example a priority class,
/// may exist by then.
const RECHECK_DELAY: Duration = Duration::from_secs(300);

/// The state that checks of types share.
pub struct OaatTypeReconciler {
    /// The client for writes of the status.
    pub client: Client,
    /// The cluster for reads and dry runs.
    pub cluster: KubeCluster,
    /// The types that this replica checks.
    pub served: Served,
    /// Publishes events on types.
    pub events: EventSink,
    /// The last dry run of each type, by uid: the generation and the time. It prevents a write of
    /// the status from immediately triggering another dry run, regardless of the response.
    pub tried: Mutex<HashMap<String, (Option<i64>, Instant)>>,
}

/// The result of a check, for the condition `Valid`.
struct CheckResult {
    valid: bool,
    reason: &'static str,
    message: String,
}

impl CheckResult {
    fn new(valid: bool, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            valid,
            reason,
            message: message.into(),
        }
    }
}

impl OaatTypeReconciler {
    /// Returns the remaining delay before this generation may be checked again.
    fn remaining_delay(&self, uid: &str, generation: Option<i64>) -> Option<Duration> {
        let tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, at) = tried.get(uid).filter(|(tried, _)| *tried == generation)?;
        // The timer of the requeue may fire slightly early.
        let remaining = RECHECK_DELAY.saturating_sub(at.elapsed());
        (remaining > Duration::from_secs(1)).then_some(remaining)
    }

    fn record_dry_run(&self, uid: String, generation: Option<i64>) {
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        tried.retain(|_, (_, at)| at.elapsed() < RECHECK_DELAY);
        tried.insert(uid, (generation, Instant::now()));
    }
}

/// Checks a type if this replica serves it and its generation has not been checked yet.
///
/// # Errors
/// Returns an error if a request to the API server fails.
pub async fn check(
    type_: Arc<WatchedType>,
    reconciler: Arc<OaatTypeReconciler>,
) -> Result<Action, ClusterError> {
    if !reconciler.served.contains(type_.metadata.uid.as_deref()) {
        return Ok(Action::await_change());
    }
    let (namespace, name) = (type_.namespace().unwrap_or_default(), type_.name_any());
    let cluster = reconciler.cluster.for_reconcile();
    let mut conditions = Vec::new();
    let (meta, result) = match cluster.reader().object(&namespace, &name).await {
        Err(ClusterError::NotFound) => return Ok(Action::await_change()),
        Err(error) => return Err(error),
        Ok(Err(Undecodable { error, metadata })) => {
            warn!(namespace, type = name, error, "the type cannot be decoded");
            let message = format!("this version of the operator cannot decode the object: {error}");
            let result = CheckResult::new(false, reasons::UNDECODABLE, message);
            (metadata, result)
        }
        Ok(Ok(OaatType {
            metadata: meta,
            spec,
            status,
        })) => {
            conditions = status.unwrap_or_default().conditions;
            let checked = condition(&conditions, reasons::TYPE)
                .filter(|c| c.observed_generation == meta.generation);
            let accepted = checked
                .is_some_and(|c| c.status == "True" && c.reason != reasons::TEMPORARILY_DENIED);
            if accepted || meta.deletion_timestamp.is_some() {
                return Ok(Action::await_change());
            }
            let uid = meta.uid.clone().unwrap_or_default();
            let delay = reconciler.remaining_delay(&uid, meta.generation);
            if let (Some(_), Some(delay)) = (checked, delay) {
                return Ok(Action::requeue(delay));
            }
            let result = dry_run(&spec, &cluster, &namespace).await?;
            reconciler.record_dry_run(uid, meta.generation);
            (meta, result)
        }
    };
    let CheckResult { valid, reason, .. } = result;
    let message = text::clean(&result.message, text::CONDITION);
    let before = conditions.clone();
    let now = Timestamp::now();
    set_condition(
        &mut conditions,
        now,
        meta.generation,
        (reasons::TYPE, valid, reason, message.clone()),
    );
    if conditions != before {
        write(&reconciler.client, &meta, &namespace, &name, &conditions).await?;
        info!(namespace, type = name, valid, reason, message, "checked a type");
        if !valid || reason == reasons::ENVIRONMENT_OVERRIDDEN {
            let reference = events::reference("OaatType", &namespace, &name, meta.uid.as_deref());
            reconciler
                .events
                .send(reference, events::warning(reason, message));
        }
    }
    Ok(if valid && reason != reasons::TEMPORARILY_DENIED {
        Action::await_change()
    } else {
        Action::requeue(RECHECK_DELAY)
    })
}

/// Validates a type and creates a pod of it in a dry run.
async fn dry_run(
    spec: &OaatTypeSpec,
    cluster: &KubeCluster,
    namespace: &str,
) -> Result<CheckResult, ClusterError> {
    let errors = validate_type(spec);
    if !errors.is_empty() {
        let message = summary(&errors);
        return Ok(CheckResult::new(false, reasons::SPEC_INVALID, message));
    }
    let pod = match cluster.post_pod(namespace, &dry_run_pod(spec), true).await {
        Ok(pod) => pod,
        // A quota or a policy of the cluster, which may have changed by the time an item runs.
        Err(
            ClusterError::Rejected { code: 403, message }
            | ClusterError::QuotaExceeded { message, .. },
        ) => {
            let message =
                format!("the API server does not currently allow a pod of this type: {message}");
            return Ok(CheckResult::new(true, reasons::TEMPORARILY_DENIED, message));
        }
        Err(ClusterError::NamespaceTerminating) => {
            let message = "the namespace is being deleted";
            return Ok(CheckResult::new(true, reasons::ACCEPTED, message));
        }
        Err(ClusterError::Rejected { message, .. }) => {
            let message = format!("the API server rejects a pod of this type: {message}");
            return Ok(CheckResult::new(false, reasons::POD_REJECTED, message));
        }
        Err(other) => return Err(other),
    };
    if !PodView::from(&pod).gated {
        return Ok(CheckResult::new(false, reasons::GATE_REMOVED, GATE_REMOVED));
    }
    let containers = overridden_env(spec);
    if containers.is_empty() {
        let message = "the API server accepts a pod of this type";
        return Ok(CheckResult::new(true, reasons::ACCEPTED, message));
    }
    let message = format!(
        "container {} sets OAAT_ITEM; the operator replaces its value with the name of the item",
        text::list(&containers, ", ", text::NAME)
    );
    Ok(CheckResult::new(
        true,
        reasons::ENVIRONMENT_OVERRIDDEN,
        message,
    ))
}

/// Writes the conditions of a type if it has not changed.
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
        // The type changed or was deleted in the meantime; its watch event triggers another check.
        Ok(_) | Err(ClusterError::NotFound | ClusterError::Conflict(_)) => Ok(()),
        Err(other) => Err(other),
    }
}
