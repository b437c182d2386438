//! Tests the requests of a plan, their order, and how each response affects the rest. The cluster
//! is a fake with scripted responses. The end-to-end tests use a real one.

use super::*;
use crate::cluster::Freshness;
use crate::plan::{ShadowStatus, plan_group};
use crate::pod::names;
use crate::policy_source::{PolicyRead, PolicySource};
use crate::snapshot::CurrentPod;
use crate::snapshot::SourceUpdate;
use crate::snapshot::TypeRead;
use k8s_openapi::api::core::v1::Pod;
use oaat_api::reasons::shadow_agrees;
use oaat_api::validate::validate;
use oaat_api::{ConditionStatus, ItemsKey, OaatGroup, OaatGroupSpec, condition};
use std::sync::Mutex;
use std::time::Duration;

/// A cluster with fixed answers, which records the requests.
pub(crate) struct FakeCluster {
    create: Result<bool, ClusterError>,
    write: Result<(), ClusterError>,
    second_write: Result<(), ClusterError>,
    open: Result<(), ClusterError>,
    /// The group's resource version when it is read again.
    version: &'static str,
    requests: Mutex<Vec<String>>,
    /// The status of the group.
    pub(crate) status: Option<OaatGroupStatus>,
    pub(crate) pods: Vec<Pod>,
}

/// Returns a cluster in which every request succeeds.
pub(crate) fn fake_cluster() -> FakeCluster {
    FakeCluster {
        create: Ok(true),
        write: Ok(()),
        second_write: Ok(()),
        open: Ok(()),
        version: "1",
        requests: Mutex::default(),
        status: None,
        pods: Vec::new(),
    }
}

impl FakeCluster {
    fn log(&self, request: String) {
        self.requests.lock().unwrap().push(request);
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Cluster for FakeCluster {
    async fn group(&self, _: &str, _: &str) -> Result<crate::cluster::GroupRead, ClusterError> {
        self.log("read".into());
        let mut group = snapshot().group;
        group.metadata.resource_version = Some(self.version.into());
        group.status.clone_from(&self.status);
        Ok(GroupRead::Found(Box::new(group)))
    }
    fn take_written_group(&self, _: &str, _: &str) -> Option<OaatGroup> {
        None
    }
    async fn pods(&self, _: &str, _: &str, _: bool) -> Result<Vec<PodView>, ClusterError> {
        Ok(self.pods.iter().map(PodView::from).collect())
    }
    async fn pod(&self, _: &str, _: &str) -> Result<Option<Pod>, ClusterError> {
        Ok(None)
    }
    async fn is_namespace_terminating(&self, _: &str) -> Result<bool, ClusterError> {
        Ok(false)
    }
    async fn oaat_type(&self, _: &str, _: &str, _: Freshness) -> Result<TypeRead, ClusterError> {
        Ok(TypeRead::Missing)
    }
    async fn policy(&self, _: &PolicySource) -> Result<PolicyRead, ClusterError> {
        Ok(PolicyRead::Loading(Timestamp(0)))
    }
    async fn items(&self, _: &str, _: &ItemsKey, _: bool) -> SourceUpdate {
        SourceUpdate::Nothing
    }
    async fn output(&self, _: &str, _: &str, _: &str) -> Result<String, ClusterError> {
        Err(ClusterError::NotFound)
    }
    async fn write_status(
        &self,
        _: &str,
        _: &str,
        version: &str,
        status: Value,
    ) -> Result<String, ClusterError> {
        let current = match &status["current"] {
            Value::Null => "none".to_owned(),
            current => current["podUid"].as_str().unwrap_or_default().to_owned(),
        };
        let stopping = match &status["current"]["stopping"]["reason"] {
            Value::String(reason) => format!(", stopping for {reason}"),
            _ => String::new(),
        };
        let first = !self.requests().iter().any(|r| r.starts_with("write"));
        self.log(format!("write at {version}, current {current}{stopping}"));
        let answer = if first {
            &self.write
        } else {
            &self.second_write
        };
        answer.clone().map(|()| "2".to_owned())
    }
    async fn create_pod(&self, _: &str, _: &Value) -> Result<Pod, ClusterError> {
        self.log("create".into());
        let gated = self.create.clone()?;
        let gates = json!(if gated {
            vec![json!({ "name": names::GATE })]
        } else {
            vec![]
        });
        let pod = json!({
            "metadata": { "name": "p", "uid": "u" },
            "spec": { "containers": [], "schedulingGates": gates },
        });
        Ok(serde_json::from_value(pod).unwrap())
    }
    async fn open_gate(&self, _: &str, name: &str, uid: &str) -> Result<(), ClusterError> {
        self.log(format!("open {name} {uid}"));
        self.open.clone()
    }
    async fn delete_pod(
        &self,
        _: &str,
        name: &str,
        uid: &str,
        _: Option<&str>,
    ) -> Result<(), ClusterError> {
        self.log(format!("delete {name} {uid}"));
        Ok(())
    }
}

/// Returns a snapshot of a group without a run, at resource version 1.
fn snapshot() -> GroupSnapshot {
    let spec: OaatGroupSpec =
        serde_json::from_value(json!({ "oaatType": "t", "oaatItems": ["a"] })).unwrap();
    let mut group = OaatGroup::new("g", spec);
    group.metadata.resource_version = Some("1".into());
    group.status = Some(OaatGroupStatus::default());
    GroupSnapshot {
        now: Timestamp(1_000_000),
        items: group.spec.oaat_items.clone(),
        group,
        listing: crate::snapshot::SourceLists::default(),
        uid: "us".into(),
        pods: Vec::new(),
        current: CurrentPod::None,
        deleted_while_running: false,
        terminating: false,
        type_: TypeRead::Valid(std::sync::Arc::new(type_())),
        item_types: std::collections::BTreeMap::new(),
        leads: true,
        retry_floor: Duration::from_secs(10),
    }
}

fn type_() -> OaatTypeSpec {
    serde_json::from_value(json!({ "type": "pod", "podspec": { "container": { "name": "c" } } }))
        .unwrap()
}

/// Returns a plan that records the end of one run and starts another.
fn plan_with_start(snapshot: &GroupSnapshot) -> Plan {
    let mut plan = plan_group(snapshot, &validate(&snapshot.group.spec));
    plan.events.push(PendingEvent {
        warning: false,
        reason: "Succeeded",
        action: None,
        message: "the previous run".into(),
        pod: None,
    });
    plan.start = Some(Start {
        item: "a".into(),
        run: 1,
        timeout: Duration::ZERO,
    });
    plan
}

async fn apply(
    cluster: &FakeCluster,
    snapshot: &GroupSnapshot,
    plan: Plan,
) -> (Result<ApplyResult, ClusterError>, Applied) {
    apply_with_shadow(cluster, snapshot, plan, ShadowCondition::Absent).await
}

async fn apply_with_shadow(
    cluster: &FakeCluster,
    snapshot: &GroupSnapshot,
    plan: Plan,
    shadow: ShadowCondition,
) -> (Result<ApplyResult, ClusterError>, Applied) {
    let applier = Applier {
        cluster,
        snapshot,
        namespace: "n",
        name: "g",
        status_without_start: plan.status.clone(),
        shadow,
        nonce: "0123456789".into(),
    };
    let mut applied = Applied::default();
    let end = applier.apply(plan, Some(&type_()), &mut applied).await;
    (end, applied)
}

/// Returns the condition `ShadowAgrees` with this reason.
fn shadow(reason: &'static str, message: &str) -> ShadowCondition {
    ShadowCondition::Is(ShadowStatus {
        status: ConditionStatus::False,
        reason,
        message: message.into(),
    })
}

#[tokio::test]
async fn shadow_condition_is_written_only_for_a_new_reason_or_with_another_change() {
    let before = shadow(shadow_agrees::DIFFERS, "1 differed");
    let mut snapshot = snapshot();
    let mut status = plan_group(&snapshot, &validate(&snapshot.group.spec)).status;
    plan::update_progress(&snapshot, &mut status);
    plan::set_shadow_condition(&snapshot, &mut status, &before);
    snapshot.group.status = Some(status);
    let problem = shadow(shadow_agrees::NOT_USABLE, "no ConfigMap");
    for (after, changed, written) in [
        (before.clone(), false, None),
        (ShadowCondition::Unchanged, false, None),
        (shadow(shadow_agrees::DIFFERS, "2 differed"), false, None),
        (
            shadow(shadow_agrees::DIFFERS, "2 differed"),
            true,
            Some("2 differed"),
        ),
        (
            shadow(shadow_agrees::FAILED, "1 failed"),
            false,
            Some("1 failed"),
        ),
        (problem, false, Some("no ConfigMap")),
        (ShadowCondition::Absent, false, Some("")),
        (ShadowCondition::Unchanged, true, Some("1 differed")),
    ] {
        let cluster = fake_cluster();
        let mut plan = plan_group(&snapshot, &validate(&snapshot.group.spec));
        if changed {
            plan.status.message = Some("changed".into());
        }
        let (end, applied) = apply_with_shadow(&cluster, &snapshot, plan, after.clone()).await;
        assert_eq!(end, Ok(ApplyResult::Completed));
        let message = applied.status.map(|status| {
            let shown = condition(&status.conditions, shadow_agrees::TYPE);
            shown.map_or_else(String::new, |shown| shown.message.clone())
        });
        assert_eq!(message.as_deref(), written, "{after:?}, {changed}");
    }
}

#[test]
fn events_report_whether_the_shadow_can_be_used() {
    let snapshot = snapshot();
    let event = |before: Option<&ShadowCondition>, after: &ShadowCondition| {
        let mut status = OaatGroupStatus::default();
        if let Some(before) = before {
            plan::set_shadow_condition(&snapshot, &mut status, before);
        }
        plan::shadow_event(&status.conditions, after).map(|event| event.reason)
    };
    let [loading, problem, usable, differs] = [
        shadow_agrees::LOADING,
        shadow_agrees::NOT_USABLE,
        shadow_agrees::NOT_COMPARED,
        shadow_agrees::DIFFERS,
    ]
    .map(|reason| shadow(reason, ""));
    for (before, after, expected) in [
        (None, &loading, None),
        (None, &usable, Some(events::SHADOW_LOADED)),
        (Some(&loading), &differs, Some(events::SHADOW_LOADED)),
        (Some(&loading), &problem, Some(events::SHADOW_NOT_USABLE)),
        (Some(&problem), &problem, None),
        (Some(&problem), &usable, Some(events::SHADOW_LOADED)),
        (Some(&usable), &differs, None),
        (Some(&differs), &problem, Some(events::SHADOW_NOT_USABLE)),
        (Some(&differs), &ShadowCondition::Absent, None),
        (Some(&differs), &ShadowCondition::Unchanged, None),
    ] {
        assert_eq!(event(before, after), expected, "{before:?}, {after:?}");
    }
}

fn reasons(applied: &Applied) -> Vec<&'static str> {
    applied.events.iter().map(|event| event.reason).collect()
}

#[tokio::test]
async fn start_creates_claims_and_opens_in_this_order() {
    let (cluster, snapshot) = (fake_cluster(), snapshot());
    let (end, applied) = apply(&cluster, &snapshot, plan_with_start(&snapshot)).await;
    assert_eq!(end, Ok(ApplyResult::Completed));
    assert_eq!(
        cluster.requests(),
        ["create", "write at 1, current u", "open p u"]
    );
    assert_eq!(reasons(&applied), ["Succeeded", "Started"]);
    assert!(applied.started);
}

#[tokio::test]
async fn failed_claim_deletes_its_candidate_and_opens_nothing() {
    let cluster = FakeCluster {
        write: Err(ClusterError::Conflict("changed".into())),
        ..fake_cluster()
    };
    let snapshot = snapshot();
    let (end, applied) = apply(&cluster, &snapshot, plan_with_start(&snapshot)).await;
    assert_eq!(end, Ok(ApplyResult::Conflict));
    assert_eq!(
        cluster.requests(),
        ["create", "write at 1, current u", "delete p u"]
    );
    assert!(applied.events.is_empty());
}

#[tokio::test]
async fn claim_of_unknown_outcome_is_left_to_the_next_reconcile() {
    let cluster = FakeCluster {
        write: Err(ClusterError::Unavailable("timeout".into())),
        ..fake_cluster()
    };
    let snapshot = snapshot();
    let (end, _) = apply(&cluster, &snapshot, plan_with_start(&snapshot)).await;
    assert!(end.is_err());
    assert_eq!(cluster.requests(), ["create", "write at 1, current u"]);
}

#[tokio::test]
async fn candidate_without_gate_is_claimed_as_stopping_and_never_opened() {
    let cluster = FakeCluster {
        create: Ok(false),
        ..fake_cluster()
    };
    let snapshot = snapshot();
    let (end, _) = apply(&cluster, &snapshot, plan_with_start(&snapshot)).await;
    assert_eq!(end, Ok(ApplyResult::Completed));
    assert_eq!(
        cluster.requests(),
        [
            "create",
            "write at 1, current u, stopping for GateRemoved",
            "delete p u"
        ]
    );
}

#[tokio::test]
async fn void_claim_emits_its_event_only_after_the_write() {
    let cluster = FakeCluster {
        open: Err(ClusterError::NotFound),
        second_write: Err(ClusterError::Conflict("resumed by another".into())),
        ..fake_cluster()
    };
    let snapshot = snapshot();
    let (end, applied) = apply(&cluster, &snapshot, plan_with_start(&snapshot)).await;
    assert_eq!(end, Ok(ApplyResult::Completed));
    assert_eq!(reasons(&applied), ["Succeeded"]);
    assert_eq!(applied.requeue_at, Some(snapshot.now));
}

#[tokio::test]
async fn unavailable_create_still_records_the_previous_run() {
    let cluster = FakeCluster {
        create: Err(ClusterError::Unavailable("webhook".into())),
        ..fake_cluster()
    };
    let snapshot = snapshot();
    let (end, applied) = apply(&cluster, &snapshot, plan_with_start(&snapshot)).await;
    assert!(end.is_err());
    assert_eq!(cluster.requests(), ["create", "write at 1, current none"]);
    assert_eq!(reasons(&applied), ["Succeeded"]);
}

#[tokio::test]
async fn rejected_create_is_recorded_in_the_same_write() {
    let cluster = FakeCluster {
        create: Err(ClusterError::Rejected {
            code: 403,
            message: "exceeded quota".into(),
        }),
        ..fake_cluster()
    };
    let snapshot = snapshot();
    let (end, applied) = apply(&cluster, &snapshot, plan_with_start(&snapshot)).await;
    assert_eq!(end, Ok(ApplyResult::Completed));
    assert_eq!(cluster.requests(), ["create", "write at 1, current none"]);
    assert_eq!(reasons(&applied), ["Succeeded", "CreateRejected"]);
    assert!(applied.requeue_at.is_some());
}

#[tokio::test]
async fn deleted_claimed_pod_makes_the_claim_void() {
    let cluster = FakeCluster {
        open: Err(ClusterError::NotFound),
        ..fake_cluster()
    };
    let snapshot = snapshot();
    let (end, applied) = apply(&cluster, &snapshot, plan_with_start(&snapshot)).await;
    assert_eq!(end, Ok(ApplyResult::Completed));
    let requests = cluster.requests();
    assert_eq!(requests[2..], ["open p u", "write at 2, current none"]);
    assert_eq!(reasons(&applied), ["Succeeded", "ClaimVoid"]);
    assert!(!applied.started);
    assert_eq!(applied.requeue_at, Some(snapshot.now));
}

/// Returns a pod of the group that may run and is not current.
fn stale_pod() -> PodView {
    PodView {
        name: "s".into(),
        uid: "s".into(),
        owner: Some("us".into()),
        ..PodView::default()
    }
}

#[tokio::test]
async fn stale_pod_is_deleted_only_if_the_group_is_unchanged() {
    let mut snapshot = snapshot();
    snapshot.group.status = Some(OaatGroupStatus {
        current: Some(CurrentRun {
            run: 1,
            item: "a".into(),
            pod_name: "p".into(),
            pod_uid: "p".into(),
            claimed: Timestamp(0),
            stopping: None,
            resumed: None,
            other_gates: None,
        }),
        ..OaatGroupStatus::default()
    });
    snapshot.current = CurrentPod::Present(PodView {
        uid: "p".into(),
        ..stale_pod()
    });
    snapshot.pods.push(stale_pod());
    for (version, end, deleted) in [
        ("1", ApplyResult::Completed, true),
        ("2", ApplyResult::Conflict, false),
    ] {
        let cluster = FakeCluster {
            version,
            ..fake_cluster()
        };
        let plan = plan_group(&snapshot, &validate(&snapshot.group.spec));
        assert_eq!(plan.stale_pods.len(), 1);
        let (got, _) = apply(&cluster, &snapshot, plan).await;
        assert_eq!(got, Ok(end));
        let requests = cluster.requests();
        assert_eq!(
            requests.contains(&"delete s s".to_owned()),
            deleted,
            "{requests:?}"
        );
    }
}

#[tokio::test]
async fn finished_pod_is_deleted_only_after_its_result_is_recorded() {
    let mut snapshot = snapshot();
    snapshot.group.spec.pod_history_limit = Some(0);
    snapshot.pods.push(PodView {
        phase: crate::pod::Phase::Succeeded,
        ..stale_pod()
    });
    // The status after the previous reconcile: nothing is left to write.
    snapshot.group.status = Some(plan_group(&snapshot, &validate(&snapshot.group.spec)).status);
    for (version, end, deleted) in [
        ("1", ApplyResult::Completed, true),
        ("2", ApplyResult::Conflict, false),
    ] {
        let cluster = FakeCluster {
            version,
            ..fake_cluster()
        };
        let plan = plan_group(&snapshot, &validate(&snapshot.group.spec));
        let (got, _) = apply(&cluster, &snapshot, plan).await;
        assert_eq!(got, Ok(end));
        assert_eq!(
            cluster.requests().contains(&"delete s s".to_owned()),
            deleted
        );
    }
}

#[tokio::test]
async fn opening_for_the_claimer_is_announced_first() {
    let mut snapshot = snapshot();
    snapshot.group.status = Some(OaatGroupStatus {
        current: Some(CurrentRun {
            run: 1,
            item: "a".into(),
            pod_name: "s".into(),
            pod_uid: "s".into(),
            claimed: snapshot.now,
            stopping: None,
            resumed: None,
            other_gates: None,
        }),
        ..OaatGroupStatus::default()
    });
    let gated = PodView {
        gated: true,
        ..stale_pod()
    };
    snapshot.pods.push(gated.clone());
    snapshot.current = CurrentPod::Present(gated);
    let plan = |snapshot: &GroupSnapshot| plan_group(snapshot, &validate(&snapshot.group.spec));

    let first = fake_cluster();
    let (end, applied) = apply(&first, &snapshot, plan(&snapshot)).await;
    assert_eq!(end, Ok(ApplyResult::Completed));
    assert_eq!(first.requests(), ["write at 1, current s", "open s s"]);
    assert_eq!(reasons(&applied), ["Started"]);

    let overtaken = FakeCluster {
        write: Err(ClusterError::Conflict("changed".into())),
        ..fake_cluster()
    };
    let (end, _) = apply(&overtaken, &snapshot, plan(&snapshot)).await;
    assert_eq!(end, Ok(ApplyResult::Conflict));
    assert_eq!(overtaken.requests(), ["write at 1, current s"]);

    // It was announced before, and then the opening was interrupted.
    snapshot.group.status = Some(plan(&snapshot).status);
    let retry = fake_cluster();
    let (end, _) = apply(&retry, &snapshot, plan(&snapshot)).await;
    assert_eq!(end, Ok(ApplyResult::Completed));
    assert_eq!(retry.requests(), ["open s s"]);
}
