//! Injects faults into processes, clocks, and watches. The faults that users cause are in
//! `user_interference.rs`.

use crate::event::Event;
use crate::faults::FaultKind;
use crate::history::History;
use crate::randomness::Fault;
use crate::simulated_cluster::{SimulatedCluster, time};
use crate::user_interference as user;
use k8s_openapi::api::core::v1::PodCondition;
use oaat_operator::pod::PodView;
use oaat_operator::snapshot::TypeRead;

/// Injects one fault. Kept seeds depend on the order of the draws.
pub fn inject(history: &mut History<'_>, mut fault: Fault) {
    let replica = fault.draw(0..history.replicas.len() as u64) as usize;
    let number = fault.number;
    let kind = history.faults.draw_fault_kind(&mut fault);
    history.trace(|| format!("fault {number}: {kind:?}"));
    match kind {
        FaultKind::EditStatus | FaultKind::DeleteGroup | FaultKind::DeleteNamespace
            if has_hidden_pod(history) => {}
        FaultKind::KillReplica => {
            let down = fault.draw(0..20_000);
            if history.replicas[replica].alive {
                history.crash(replica, down);
            }
        }
        FaultKind::PauseReplica => history.pause(replica, fault),
        FaultKind::SkewReplicaClock => history.replicas[replica].clock = draw_skew(&mut fault),
        FaultKind::SkewNodeClock => history.cluster.node_clock = draw_skew(&mut fault),
        FaultKind::JumpReplicaClock => history.replicas[replica].clock = draw_jump(&mut fault),
        FaultKind::JumpNodeClock => history.cluster.node_clock = draw_jump(&mut fault),
        FaultKind::InterruptDeletion => history.cluster.interrupt_deletion = true,
        FaultKind::WatchDown => {
            let life = history.replicas[replica].life;
            history.replicas[replica].watch_down = true;
            let down = fault.draw(0..30_000);
            history.schedule(down, Event::Relist(replica, life));
        }
        FaultKind::TypeMissing => {
            history.replicas[replica].client.requests().type_ = Some(TypeRead::Missing);
            let down = fault.draw(0..10_000);
            history.schedule(down, Event::RestoreType(replica));
        }
        FaultKind::KillAllReplicas => {
            let down = fault.draw(0..20_000);
            for replica in 0..history.replicas.len() {
                if history.replicas[replica].alive {
                    history.crash(replica, down);
                }
            }
        }
        FaultKind::DeletePod => user::delete_pod(history, &mut fault),
        FaultKind::EditStatus => user::edit_status(&mut history.cluster, &mut fault),
        FaultKind::DeleteGroup => user::delete_group(history, &mut fault),
        FaultKind::CreateForeignPod => user::create_foreign_pod(history, &mut fault),
        FaultKind::EditSpec => user::edit_spec(history, &mut fault),
        FaultKind::RemovePodLabel => user::remove_pod_label(&mut history.cluster),
        FaultKind::DeleteNamespace => user::delete_namespace(history),
        FaultKind::SuspendGroup => user::suspend_group(history, &mut fault),
        FaultKind::SuspendItem => user::suspend_item(history, &mut fault),
        FaultKind::RunNow => user::request_run_now(&mut history.cluster, &mut fault),
        FaultKind::OpenBlackoutWindow => user::open_blackout_window(history, &mut fault),
        FaultKind::DisruptPod => disrupt_pod(&mut history.cluster),
        FaultKind::ChangeItemList => user::change_item_list(&mut history.cluster, &mut fault),
    }
}

/// Evicts the current pod: announces the disruption, and then deletes the pod.
fn disrupt_pod(cluster: &mut SimulatedCluster) {
    let Some(uid) = cluster.current().map(ToOwned::to_owned) else {
        return;
    };
    let now = cluster.now;
    let Some(truth) = cluster.truth.get_mut(&uid) else {
        return;
    };
    if !truth.bound || truth.ended.is_some() || truth.deleted_while_running.is_some() {
        return;
    }
    truth.disrupted = Some(now);
    cluster.change_pod(&uid, |pod| {
        let status = pod.status.get_or_insert_default();
        status
            .conditions
            .get_or_insert_default()
            .push(PodCondition {
                type_: "DisruptionTarget".into(),
                status: "True".into(),
                reason: Some("EvictionByEvictionAPI".into()),
                last_transition_time: Some(time(now)),
                ..PodCondition::default()
            });
    });
    cluster.delete(&uid);
}

/// Returns whether a pod without labels may still run. If the group then forgets that pod, nothing
/// can find it again. `docs/guarantees.md` says so, and the simulation omits it.
fn has_hidden_pod(history: &History<'_>) -> bool {
    let mut pods = history.cluster.pods.values();
    pods.any(|pod| pod.metadata.labels.is_none() && !PodView::from(pod).is_terminal())
}

/// Draws an error of a clock in milliseconds, up to ten minutes, as on a machine without time
/// synchronization.
fn draw_skew(fault: &mut Fault) -> i64 {
    fault.draw(0..1_200_000) as i64 - 600_000
}

/// Draws an error of a clock in milliseconds, up to ten years, as after the battery of a clock has
/// failed. Half of the draws return to the correct time.
fn draw_jump(fault: &mut Fault) -> i64 {
    const YEAR: u64 = 365 * 86_400_000;
    match fault.draw(0..4) {
        0 => -((fault.draw(1..11) * YEAR) as i64),
        1 => (fault.draw(1..11) * YEAR) as i64,
        _ => 0,
    }
}
