//! How a run ended, from what is left of its pod.

use crate::mutation::broken;
use crate::plan::BLACKOUT;
use crate::pod::{ContainerState, Phase, PodView};
use oaat_api::text;
use oaat_api::{RunResult, Stopping, Timestamp};

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Finished {
    /// The result.
    pub result: RunResult,
    /// A CamelCase token.
    pub reason: String,
    /// The same in words.
    pub message: Option<String>,
    /// The exit code that decided, where a container exited.
    pub exit_code: Option<i32>,
    /// When it ended, between the pod's creation and now.
    pub finished: Timestamp,
}

/// How the run of a pod ended. `pod` is the pod once it is terminal, or as it was
/// last seen before it disappeared, or nothing when nobody saw it. `deleted_alive`: it was
/// seen being deleted before it had ended. `stopping` is what the operator wrote before it
/// ended the run itself.
pub fn outcome(
    pod: Option<&PodView>,
    deleted_while_running: bool,
    stopping: Option<&Stopping>,
    now: Timestamp,
) -> Finished {
    // Written, and then interrupted for so long that the pod started and ended by itself.
    let by_window = stopping.is_some_and(|stopping| stopping.reason == BLACKOUT);
    let by_itself = |pod: &PodView| {
        // Or it had just succeeded when it was to be ended, and nobody had heard of that yet.
        let in_time = by_window && pod.phase == Phase::Succeeded && !deleted_before_the_end(pod);
        let untouched = pod.deletion.is_none() || in_time;
        pod.terminal() && pod.started() && untouched && !deleted_while_running
    };
    let stopping = stopping.filter(|_| !pod.is_some_and(by_itself));
    let seen = pod.map_or(now, |pod| ended_at(pod, now));
    let finished = match stopping {
        // It was given up then, and may never have begun.
        Some(stopping) => pod
            .map_or(stopping.since, |_| seen.max(stopping.since))
            .min(now),
        None => seen,
    };
    let ended = |result, reason: &str, message: Option<String>, exit_code| Finished {
        result,
        reason: reason.to_owned(),
        message,
        exit_code,
        finished,
    };
    if let Some(stopping) = stopping {
        let message = Some(stopping.message.clone());
        let result = match stopping.reason.as_str() {
            BLACKOUT => RunResult::Stopped,
            _ => RunResult::Failed,
        };
        return ended(result, &stopping.reason, message, None);
    }
    // What the cluster said when it asked for the end.
    let by_whom = match pod.and_then(|pod| pod.disruption.as_ref()) {
        Some(disruption) => format!(" ({disruption})"),
        None => String::new(),
    };
    let Some(pod) = pod.filter(|pod| pod.terminal()) else {
        return ended(
            RunResult::Failed,
            "PodDisappeared",
            Some(format!(
                "the pod was deleted, or its node was lost, before it ended{by_whom}"
            )),
            None,
        );
    };
    let worst = worst(pod);
    let exit_code = worst.as_ref().map(|worst| worst.exit_code);
    if deleted_while_running || deleted_before_the_end(pod) {
        return ended(
            RunResult::Failed,
            "PodDeleted",
            Some(format!("the pod was deleted while it ran{by_whom}")),
            exit_code,
        );
    }
    if pod.phase == Phase::Succeeded {
        let code = pod.containers.first().map(|_| 0);
        return ended(RunResult::Succeeded, "Completed", None, code);
    }
    match (&pod.reason, worst) {
        // Evicted, DeadlineExceeded, NodeLost, …: the pod's own reason says more than
        // the exit codes that follow from it.
        (Some(reason), _) if !reason.is_empty() => {
            ended(RunResult::Failed, reason, pod.message.clone(), exit_code)
        }
        (_, Some(worst)) => {
            let mut message = format!(
                "container {} exited with code {}",
                worst.name, worst.exit_code
            );
            let said = worst.said.lines().next().unwrap_or_default();
            match text::clean(said, text::TERMINATION_MESSAGE) {
                said if said.is_empty() => {}
                said => message.push_str(&format!(": {said}")),
            }
            let reason = if worst.reason.is_empty() {
                "Error"
            } else {
                worst.reason
            };
            ended(RunResult::Failed, reason, Some(message), exit_code)
        }
        (_, None) => ended(
            RunResult::Failed,
            "PodFailed",
            Some(
                pod.message
                    .clone()
                    .unwrap_or_else(|| "the pod failed".into()),
            ),
            None,
        ),
    }
}

/// The end of the container whose exit code decided.
struct Worst<'a> {
    name: &'a str,
    exit_code: i32,
    reason: &'a str,
    said: &'a str,
}

/// The first container that ended with another code than 0. Init containers come last: one
/// that failed leaves no other to fail, and one that goes along as a sidecar is stopped with
/// a code of no interest.
fn worst(pod: &PodView) -> Option<Worst<'_>> {
    let (init, main): (Vec<_>, Vec<_>) = pod.containers.iter().partition(|c| c.init);
    main.into_iter().chain(init).find_map(|c| match &c.state {
        ContainerState::Terminated {
            exit_code,
            reason,
            message,
            ..
        } if *exit_code != 0 => Some(Worst {
            name: &c.name,
            exit_code: *exit_code,
            reason,
            said: message,
        }),
        _ => None,
    })
}

/// The containers' last finish time.
fn containers_finished(pod: &PodView) -> Option<Timestamp> {
    let finished = |c: &crate::pod::ContainerView| match c.state {
        ContainerState::Terminated { finished, .. } => finished,
        _ => None,
    };
    pod.containers.iter().filter_map(finished).max()
}

/// Whether the deletion came first. Both times have whole seconds: within one second
/// the deletion counts as first, since to run an item again is the smaller harm. So it
/// does where the node's clock is so far off that a comparison means nothing.
fn deleted_before_the_end(pod: &PodView) -> bool {
    let Some(deletion) = pod.deletion else {
        return false;
    };
    let first = |finished| deletion.requested() <= finished || finished < pod.created;
    containers_finished(pod).is_none_or(first)
}

/// When the run of a pod ended. Node clocks may be off by any amount, so the result is brought between the
/// pod's creation and now.
pub fn ended_at(pod: &PodView, now: Timestamp) -> Timestamp {
    // Of a pod that was not seen to end, Ready changed when it began, not when it ended.
    let over = pod.terminal();
    let said = containers_finished(pod)
        .filter(|_| over)
        .or(pod.ready_changed.filter(|_| over))
        .or(pod.deletion.map(|deletion| deletion.requested()))
        .unwrap_or(if over { pod.created } else { now });
    if broken!(TimesBelieved) {
        return said;
    }
    said.max(pod.created).min(now.max(pod.created))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::{ContainerView, Deletion};
    use std::time::Duration;

    const CREATED: Timestamp = Timestamp(1_000_000);
    const NOW: Timestamp = Timestamp(2_000_000);

    fn exited(name: &str, exit_code: i32, finished: i64) -> ContainerView {
        ContainerView {
            name: name.into(),
            init: false,
            state: ContainerState::Terminated {
                exit_code,
                reason: if exit_code == 0 { "Completed" } else { "Error" }.into(),
                message: String::new(),
                finished: Some(Timestamp(finished)),
            },
        }
    }

    fn pod(phase: Phase, containers: Vec<ContainerView>) -> PodView {
        PodView {
            created: CREATED,
            phase,
            containers,
            ..PodView::default()
        }
    }

    fn of(pod: &PodView) -> Finished {
        outcome(Some(pod), false, None, NOW)
    }

    fn deleted(mut pod: PodView, requested: i64) -> PodView {
        let grace = Duration::from_secs(30);
        let deadline = Timestamp(requested).plus(grace);
        pod.deletion = Some(Deletion { deadline, grace });
        pod
    }

    #[test]
    fn exit_0_succeeded_at_the_containers_finish() {
        let got = of(&pod(
            Phase::Succeeded,
            vec![exited("a", 0, 1_500_000), exited("b", 0, 1_600_000)],
        ));
        assert_eq!(got.result, RunResult::Succeeded);
        assert_eq!(got.exit_code, Some(0));
        assert_eq!(got.finished, Timestamp(1_600_000));
    }

    #[test]
    fn the_failing_container_is_named() {
        let got = of(&pod(
            Phase::Failed,
            vec![exited("a", 0, 1_500_000), exited("b", 5, 1_400_000)],
        ));
        assert_eq!((got.result, got.exit_code), (RunResult::Failed, Some(5)));
        assert!(
            got.message
                .is_some_and(|m| m.contains("container b") && m.contains('5'))
        );
    }

    #[test]
    fn what_the_kubelet_says_of_the_end_is_told() {
        let mut ended = exited("a", 128, 1_500_000);
        if let ContainerState::Terminated { message, .. } = &mut ended.state {
            *message = "exec: \"restic\": not found\nmore".into();
        }
        let got = of(&pod(Phase::Failed, vec![ended]));
        let words = got.message.unwrap_or_default();
        assert_eq!(
            words,
            "container a exited with code 128: exec: \"restic\": not found"
        );
    }

    #[test]
    fn an_evicted_pod_has_no_containers_and_is_one_failure() {
        let mut evicted = pod(Phase::Failed, vec![]);
        evicted.reason = Some("Evicted".into());
        evicted.message = Some("low on memory".into());
        let got = of(&evicted);
        assert_eq!(
            (got.result, got.reason.as_str()),
            (RunResult::Failed, "Evicted")
        );
        assert_eq!(got.message.as_deref(), Some("low on memory"));
        assert_eq!(got.finished, CREATED);
        evicted.ready_changed = Some(Timestamp(1_700_000));
        assert_eq!(of(&evicted).finished, Timestamp(1_700_000));
    }

    #[test]
    fn a_deletion_before_the_end_is_a_failure_whatever_the_exit_code() {
        let ended = || pod(Phase::Succeeded, vec![exited("a", 0, 1_500_000)]);
        for (requested, reason) in [
            (1_400_000, "PodDeleted"),
            (1_500_000, "PodDeleted"),
            (1_501_000, "Completed"),
        ] {
            assert_eq!(
                of(&deleted(ended(), requested)).reason,
                reason,
                "{requested}"
            );
        }
    }

    #[test]
    fn a_deletion_that_was_seen_first_counts_whatever_the_clocks_say() {
        let ended = deleted(
            pod(Phase::Succeeded, vec![exited("a", 0, 1_400_000)]),
            1_500_000,
        );
        assert_eq!(of(&ended).reason, "Completed");
        assert_eq!(outcome(Some(&ended), true, None, NOW).reason, "PodDeleted");
        // A finish before the pod was created says that the node's clock is wrong.
        let skewed = deleted(pod(Phase::Succeeded, vec![exited("a", 0, 0)]), 1_500_000);
        assert_eq!(of(&skewed).reason, "PodDeleted");
    }

    #[test]
    fn a_deletion_by_the_cluster_names_who_asked_for_it() {
        let api: k8s_openapi::api::core::v1::Pod = serde_json::from_value(serde_json::json!({
            "status": { "phase": "Running", "conditions": [{
                "type": "DisruptionTarget", "status": "True",
                "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting",
            }] },
        }))
        .expect("it is a pod");
        let running = PodView::from(&api);
        let words = "(EvictionByEvictionAPI: Eviction API: evicting)";
        for (end, reason) in [
            (running.clone(), "PodDisappeared"),
            (
                PodView {
                    phase: Phase::Failed,
                    containers: vec![exited("a", 143, 1_500_000)],
                    ..deleted(running, 1_400_000)
                },
                "PodDeleted",
            ),
        ] {
            let got = of(&end);
            assert_eq!(got.reason, reason);
            assert!(got.message.is_some_and(|m| m.ends_with(words)));
        }
    }

    #[test]
    fn a_pod_nobody_saw_end_has_disappeared() {
        let gone = outcome(None, false, None, NOW);
        assert_eq!(
            (gone.reason.as_str(), gone.finished),
            ("PodDisappeared", NOW)
        );
        let running = pod(Phase::Running, vec![]);
        assert_eq!(of(&running).reason, "PodDisappeared");
    }

    #[test]
    fn what_the_operator_wrote_before_it_stopped_a_run_is_the_reason() {
        let stopping = Stopping {
            reason: "StartTimeout".into(),
            message: "not started within 15m".into(),
            since: Timestamp(1_900_000),
        };
        let got = outcome(None, false, Some(&stopping), NOW);
        assert_eq!(
            got.finished, stopping.since,
            "the cool-off begins when it was given up"
        );
        assert_eq!(
            (got.result, got.reason.as_str()),
            (RunResult::Failed, "StartTimeout")
        );
    }

    #[test]
    fn a_skewed_clock_stays_between_creation_and_now() {
        for (said, expected) in [
            (0, CREATED),
            (i64::MAX, NOW),
            (1_500_000, Timestamp(1_500_000)),
        ] {
            let got = of(&pod(Phase::Succeeded, vec![exited("a", 0, said)]));
            assert_eq!(got.finished, expected);
        }
        // The API server's clock is ahead of ours.
        let early = outcome(
            Some(&pod(Phase::Succeeded, vec![])),
            false,
            None,
            Timestamp(0),
        );
        assert_eq!(early.finished, CREATED);
    }

    #[test]
    fn a_failed_phase_with_a_running_container_is_not_over() {
        let running = ContainerView {
            name: "a".into(),
            init: false,
            state: ContainerState::Running,
        };
        assert!(!pod(Phase::Failed, vec![running]).terminal());
        assert!(pod(Phase::Failed, vec![]).terminal());
        assert!(!deleted(pod(Phase::Running, vec![]), 1_100_000).terminal());
    }
}
