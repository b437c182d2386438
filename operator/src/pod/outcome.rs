//! Determines how a run ended from the state of its pod.

use crate::mutation::broken;
use crate::pod::{ContainerKind, ContainerState, ContainerView, Disruption, Phase, PodView};
use oaat_api::reasons::runs as reasons;
use oaat_api::reasons::stopping::BLACKOUT;
use oaat_api::{RunResult, Stopping, Timestamp};

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RunOutcome {
    /// The result.
    pub result: RunResult,
    /// The reason, in CamelCase.
    pub reason: String,
    /// The details, for users.
    pub message: Option<String>,
    /// The exit code that determined the result, if a container exited.
    pub exit_code: Option<i32>,
    /// When the run ended, between the creation of the pod and now.
    pub finished: Timestamp,
}

/// Returns how the run of a pod ended. `pod` is the terminal pod, or its last known state before it
/// disappeared, or `None` if no state is known. `deleted_while_running` is true if its deletion was
/// observed before its end. `stopping` is what the operator wrote before it stopped the run itself.
pub fn judge(
    pod: Option<&PodView>,
    deleted_while_running: bool,
    stopping: Option<&Stopping>,
    now: Timestamp,
) -> RunOutcome {
    if let Some(stopping) = stopping
        && let Some(exit_code) = stopping.exit_code
    {
        return completed(stopping, exit_code);
    }
    let by_window = stopping.is_some_and(|stopping| stopping.reason == BLACKOUT);
    // The stop was written, but its deletion was delayed for so long that the pod started and ended
    // by itself.
    let ended_by_itself = |pod: &PodView| {
        // The pod may also have succeeded just before the deletion, unknown to the operator.
        let in_time = by_window && pod.phase == Phase::Succeeded && !deleted_before_the_end(pod);
        let undisturbed = pod.deletion.is_none() || in_time;
        pod.is_terminal() && pod.started() && undisturbed && !deleted_while_running
    };
    let stopping = stopping.filter(|_| !pod.is_some_and(ended_by_itself));
    let observed = pod.map_or(now, |pod| ended_at(pod, now));
    let finished = match stopping {
        // The run did not end before the stop. It may never have started.
        Some(stopping) => pod
            .map_or(stopping.since, |_| observed.max(stopping.since))
            .min(now),
        None => observed,
    };
    let ended = |result, reason: &str, message: Option<String>, exit_code| RunOutcome {
        result,
        reason: reason.to_owned(),
        message,
        exit_code,
        finished,
    };
    if let Some(stopping) = stopping {
        let message = Some(stopping.message.clone());
        let result = if stopping.reason == BLACKOUT {
            RunResult::Stopped
        } else {
            RunResult::Failed
        };
        return ended(result, &stopping.reason, message, None);
    }
    if let Some(disruption) = pod.and_then(|pod| disruption(pod, deleted_while_running)) {
        let message = Some(format!("stopped by a disruption: {disruption}"));
        return ended(RunResult::Stopped, &disruption.reason, message, None);
    }
    let Some(pod) = pod.filter(|pod| pod.is_terminal()) else {
        let message = "the pod was deleted, or its node was lost, before its result was known; the \
                       run may have succeeded";
        let message = Some(message.to_owned());
        return ended(RunResult::Failed, reasons::POD_DISAPPEARED, message, None);
    };
    let failed = failed_container(pod);
    let exit_code = failed.as_ref().map(|failed| failed.exit_code);
    if deleted_while_running || deleted_before_the_end(pod) {
        return ended(
            RunResult::Failed,
            reasons::POD_DELETED,
            Some("the pod was deleted while it was running".to_owned()),
            exit_code,
        );
    }
    if pod.phase == Phase::Succeeded {
        let code = pod.containers.first().map(|_| 0);
        return ended(RunResult::Succeeded, reasons::COMPLETED, None, code);
    }
    let (reason, message) = failure(pod, failed);
    ended(RunResult::Failed, reason, message, exit_code)
}

/// Returns the outcome that was recorded when all completion containers had ended.
fn completed(stopping: &Stopping, exit_code: i32) -> RunOutcome {
    let succeeded = exit_code == 0;
    RunOutcome {
        result: if succeeded {
            RunResult::Succeeded
        } else {
            RunResult::Failed
        },
        reason: stopping.reason.clone(),
        message: Some(stopping.message.clone()).filter(|_| !succeeded),
        exit_code: Some(exit_code),
        finished: stopping.since,
    }
}

/// Returns how a run ended whose result the `named` containers decide, if all of them have ended by
/// themselves.
pub fn completion(pod: &PodView, named: &[String], now: Timestamp) -> Option<RunOutcome> {
    // The kubelet ended the containers, and the pod's reason explains their exit codes.
    let ended_by_kubelet = pod.reason.as_ref().is_some_and(|reason| !reason.is_empty());
    let containers = pod.containers.iter();
    let containers =
        containers.filter(|c| c.kind == ContainerKind::Main && named.contains(&c.name));
    let containers: Vec<_> = containers.cloned().collect();
    let exit_code = |c: &ContainerView| match c.state {
        ContainerState::Terminated { exit_code, .. } => Some(exit_code),
        _ => None,
    };
    let exit_codes: Option<Vec<_>> = containers.iter().map(exit_code).collect();
    let exit_codes = exit_codes.filter(|codes| !codes.is_empty() && !ended_by_kubelet)?;
    let only_named = PodView {
        phase: if exit_codes.iter().all(|code| *code == 0) {
            Phase::Succeeded
        } else {
            Phase::Failed
        },
        containers,
        ephemeral_running: false,
        ..pod.clone()
    };
    if deleted_before_the_end(&only_named) {
        return None;
    }
    // What happens to the rest of the pod no longer matters.
    let ended = PodView {
        deletion: None,
        disruption: None,
        ..only_named
    };
    Some(judge(Some(&ended), false, None, now))
}

/// Returns the disruption that ended a pod, if one did.
///
/// An eviction by the kubelet and an exceeded deadline are failures, not disruptions. The kubelet
/// evicts a pod if its node is short of memory or disk, or if the pod exceeds a limit.
fn disruption(pod: &PodView, deleted_while_running: bool) -> Option<&Disruption> {
    if broken!(DisruptionsFail) {
        return None;
    }
    let disruption = pod.disruption.as_ref()?;
    let own_reason = pod.reason.as_deref().unwrap_or_default();
    if matches!(own_reason, "Evicted" | "DeadlineExceeded") {
        return None;
    }
    // The order was observed, so clocks do not matter.
    if deleted_while_running {
        return Some(disruption);
    }
    // A pod may be disrupted after it ended by itself.
    let ended_before = pod.is_terminal()
        && own_reason.is_empty()
        && containers_finished(pod).is_some_and(|finished| finished < disruption.since);
    let succeeded = pod.phase == Phase::Succeeded && !deleted_before_the_end(pod);
    (!ended_before && !succeeded).then_some(disruption)
}

/// Returns the reason and the message of a failed pod.
fn failure<'a>(pod: &'a PodView, failed: Option<FailedContainer<'a>>) -> (&'a str, Option<String>) {
    match (&pod.reason, failed) {
        // The reason of the pod, such as Evicted, DeadlineExceeded, or NodeLost, is more specific
        // than the exit codes that it causes.
        (Some(reason), failed) if !reason.is_empty() => {
            let printed = failed
                .filter(|failed| !failed.message.is_empty())
                .map(|failed| format!("container {}: {}", failed.name, failed.message));
            let messages = pod.message.clone().into_iter().chain(printed);
            let message = messages.reduce(|message, printed| format!("{message}; {printed}"));
            (reason.as_str(), message)
        }
        (_, Some(failed)) => {
            let mut message = format!(
                "container {} exited with code {}",
                failed.name, failed.exit_code
            );
            if !failed.message.is_empty() {
                message.push_str(&format!(": {}", failed.message));
            }
            let reason = if failed.reason.is_empty() {
                reasons::ERROR
            } else {
                failed.reason
            };
            (reason, Some(message))
        }
        (_, None) => {
            let message = pod.message.clone();
            let message = message.unwrap_or_else(|| "the pod failed".into());
            (reasons::POD_FAILED, Some(message))
        }
    }
}

/// The container whose exit code determined the result.
struct FailedContainer<'a> {
    name: &'a str,
    exit_code: i32,
    reason: &'a str,
    message: &'a str,
}

/// Returns the first container that ended with an exit code other than 0. Init containers come
/// last: if one fails, no other container runs, and the exit code of a sidecar that was stopped
/// does not matter.
fn failed_container(pod: &PodView) -> Option<FailedContainer<'_>> {
    let is_main = |c: &&ContainerView| c.kind == ContainerKind::Main;
    let (main, init): (Vec<_>, Vec<_>) = pod.containers.iter().partition(is_main);
    main.into_iter().chain(init).find_map(|c| match &c.state {
        ContainerState::Terminated {
            exit_code,
            reason,
            message,
            ..
        } if *exit_code != 0 => Some(FailedContainer {
            name: &c.name,
            exit_code: *exit_code,
            reason,
            message,
        }),
        _ => None,
    })
}

/// Returns when the last container ended.
fn containers_finished(pod: &PodView) -> Option<Timestamp> {
    let finished = |c: &ContainerView| match c.state {
        ContainerState::Terminated { finished, .. } => finished,
        _ => None,
    };
    pod.containers.iter().filter_map(finished).max()
}

/// Returns whether the deletion was requested before the containers ended. Both times have a
/// resolution of one second. Within the same second, the deletion counts as first, because running
/// an item again does less harm. The same applies if the clock of the node is so wrong that a
/// comparison is meaningless.
fn deleted_before_the_end(pod: &PodView) -> bool {
    let Some(deletion) = pod.deletion else {
        return false;
    };
    let deleted_first = |finished| deletion.requested() <= finished || finished < pod.created;
    containers_finished(pod).is_none_or(deleted_first)
}

/// Returns when the run of a pod ended. The clock of a node may be wrong by any amount, so the
/// result is limited to the time between the creation of the pod and now.
pub fn ended_at(pod: &PodView, now: Timestamp) -> Timestamp {
    // If the end of the pod is unknown, `Ready` changed when the pod started, not when it ended.
    let terminal = pod.is_terminal();
    let reported = containers_finished(pod)
        .filter(|_| terminal)
        .or(pod.ready_changed.filter(|_| terminal))
        .or(pod.deletion.map(|deletion| deletion.requested()))
        .unwrap_or(if terminal { pod.created } else { now });
    if broken!(TimesBelieved) {
        return reported;
    }
    reported.max(pod.created).min(now.max(pod.created))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::Deletion;
    use std::time::Duration;

    const CREATED: Timestamp = Timestamp(1_000_000);
    const NOW: Timestamp = Timestamp(2_000_000);

    fn exited(name: &str, exit_code: i32, finished: i64) -> ContainerView {
        ContainerView {
            name: name.into(),
            kind: ContainerKind::Main,
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

    fn of(pod: &PodView) -> RunOutcome {
        judge(Some(pod), false, None, NOW)
    }

    fn deleted(mut pod: PodView, requested: i64) -> PodView {
        let grace = Duration::from_secs(30);
        let deadline = Timestamp(requested).plus(grace);
        pod.deletion = Some(Deletion { deadline, grace });
        pod
    }

    #[test]
    fn succeeded_pod_finished_with_its_last_container() {
        let got = of(&pod(
            Phase::Succeeded,
            vec![exited("a", 0, 1_500_000), exited("b", 0, 1_600_000)],
        ));
        assert_eq!(got.result, RunResult::Succeeded);
        assert_eq!(got.exit_code, Some(0));
        assert_eq!(got.finished, Timestamp(1_600_000));
    }

    #[test]
    fn failed_container_is_named_in_the_message() {
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
    fn termination_message_is_part_of_the_message() {
        let mut ended = exited("a", 128, 1_500_000);
        if let ContainerState::Terminated { message, .. } = &mut ended.state {
            *message = "exec: \"restic\": not found".into();
        }
        let got = of(&pod(Phase::Failed, vec![ended]));
        let message = got.message.unwrap_or_default();
        assert_eq!(
            message,
            "container a exited with code 128: exec: \"restic\": not found"
        );
    }

    #[test]
    fn evicted_pod_without_containers_is_one_failure() {
        let mut evicted = pod(Phase::Failed, vec![]);
        evicted.reason = Some("Evicted".into());
        evicted.message = Some("low on memory".into());
        let got = of(&evicted);
        assert_eq!(
            (got.result, got.reason.as_str()),
            (RunResult::Failed, "Evicted")
        );
        assert_eq!(got.message.as_deref(), Some("low on memory"));
        let mut printed = exited("a", 137, 1_500_000);
        if let ContainerState::Terminated { message, .. } = &mut printed.state {
            *message = "80%".into();
        }
        let message = of(&PodView {
            containers: vec![printed],
            ..evicted.clone()
        })
        .message;
        assert_eq!(message.as_deref(), Some("low on memory; container a: 80%"));
        assert_eq!(got.finished, CREATED);
        evicted.ready_changed = Some(Timestamp(1_700_000));
        assert_eq!(of(&evicted).finished, Timestamp(1_700_000));
    }

    #[test]
    fn deletion_before_the_end_is_a_failure_for_every_exit_code() {
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
    fn deletion_that_was_observed_first_takes_precedence_over_clocks() {
        let ended = deleted(
            pod(Phase::Succeeded, vec![exited("a", 0, 1_400_000)]),
            1_500_000,
        );
        assert_eq!(of(&ended).reason, "Completed");
        assert_eq!(judge(Some(&ended), true, None, NOW).reason, "PodDeleted");
        // A container that ended before the pod was created shows that the node's clock is wrong.
        let skewed = deleted(pod(Phase::Succeeded, vec![exited("a", 0, 0)]), 1_500_000);
        assert_eq!(of(&skewed).reason, "PodDeleted");
    }

    fn disrupted(pod: PodView, since: i64) -> PodView {
        let disruption = Disruption {
            reason: "EvictionByEvictionAPI".into(),
            message: "Eviction API: evicting".into(),
            since: Timestamp(since),
        };
        PodView {
            disruption: Some(disruption),
            ..pod
        }
    }

    #[test]
    fn disrupted_run_is_stopped_and_neither_success_nor_failure() {
        let running = disrupted(pod(Phase::Running, vec![]), 1_400_000);
        let killed = PodView {
            containers: vec![exited("a", 143, 1_500_000)],
            phase: Phase::Failed,
            ..running.clone()
        };
        let ended_late = PodView {
            phase: Phase::Succeeded,
            containers: vec![exited("a", 0, 1_500_000)],
            ..running.clone()
        };
        let shut_down = PodView {
            reason: Some("Terminated".into()),
            message: Some("Pod was terminated in response to imminent node shutdown.".into()),
            // The kubelet announces its own disruption when the containers have ended already.
            ..disrupted(killed.clone(), 1_600_000)
        };
        for end in [
            running.clone(),
            killed.clone(),
            deleted(killed.clone(), 1_400_000),
            deleted(ended_late.clone(), 1_400_000),
            shut_down,
        ] {
            let got = of(&end);
            assert_eq!(got.result, RunResult::Stopped, "{end:?}");
            assert_eq!(got.reason, "EvictionByEvictionAPI");
            let message = got.message.unwrap_or_default();
            assert!(message.ends_with("EvictionByEvictionAPI: Eviction API: evicting"));
        }
        let failed_before = disrupted(killed.clone(), 1_501_000);
        let own_use = PodView {
            reason: Some("Evicted".into()),
            ..killed.clone()
        };
        let too_long = PodView {
            reason: Some("DeadlineExceeded".into()),
            ..killed
        };
        for end in [failed_before, own_use, too_long] {
            assert_eq!(of(&end).result, RunResult::Failed, "{end:?}");
        }
        let late = deleted(ended_late, 1_501_000);
        assert_eq!(of(&late).result, RunResult::Succeeded);
        // The clock of the node is behind, but the deletion was seen first.
        assert_eq!(
            judge(Some(&late), true, None, NOW).result,
            RunResult::Stopped
        );
    }

    #[test]
    fn completion_containers_determine_the_result() {
        let named = ["main".to_owned()];
        let sidecar = ContainerView {
            name: "sidecar".into(),
            kind: ContainerKind::Main,
            state: ContainerState::Running,
        };
        for (exit_code, result) in [(0, RunResult::Succeeded), (3, RunResult::Failed)] {
            let main = exited("main", exit_code, 1_500_000);
            let running = pod(Phase::Running, vec![main, sidecar.clone()]);
            let got = completion(&running, &named, NOW).expect("main has ended");
            assert_eq!((got.result, got.exit_code), (result, Some(exit_code)));
            let stopping = Stopping {
                reason: got.reason.clone(),
                message: got.message.clone().unwrap_or_default(),
                since: got.finished,
                exit_code: got.exit_code,
            };
            // However the rest of the pod ends.
            for rest in [None, Some(&running)] {
                assert_eq!(judge(rest, true, Some(&stopping), NOW), got);
            }
        }
        let completion = |pod: &PodView| completion(pod, &named, NOW);
        let not_ended = pod(Phase::Running, vec![sidecar.clone()]);
        assert_eq!(completion(&not_ended), None);
        let ended = pod(Phase::Running, vec![exited("main", 0, 1_500_000), sidecar]);
        // Deleted before or after the end of the named container.
        assert_eq!(completion(&deleted(ended.clone(), 1_400_000)), None);
        let after = completion(&deleted(ended.clone(), 1_501_000));
        assert_eq!(after.map(|o| o.result), Some(RunResult::Succeeded));
        let cut_off = PodView {
            phase: Phase::Failed,
            reason: Some("DeadlineExceeded".into()),
            ..ended
        };
        assert_eq!(completion(&cut_off), None);
    }

    #[test]
    fn pod_without_a_known_end_has_disappeared() {
        let gone = judge(None, false, None, NOW);
        assert_eq!(
            (gone.reason.as_str(), gone.finished),
            ("PodDisappeared", NOW)
        );
        let running = pod(Phase::Running, vec![]);
        assert_eq!(of(&running).reason, "PodDisappeared");
    }

    #[test]
    fn stopping_reason_is_the_reason_of_the_run() {
        let stopping = Stopping {
            reason: "StartTimeout".into(),
            message: "not started within 15m".into(),
            since: Timestamp(1_900_000),
            exit_code: None,
        };
        let got = judge(None, false, Some(&stopping), NOW);
        assert_eq!(
            got.finished, stopping.since,
            "the cool-off begins with the stop"
        );
        assert_eq!(
            (got.result, got.reason.as_str()),
            (RunResult::Failed, "StartTimeout")
        );
    }

    #[test]
    fn finish_time_is_limited_to_creation_and_now() {
        for (reported, expected) in [
            (0, CREATED),
            (i64::MAX, NOW),
            (1_500_000, Timestamp(1_500_000)),
        ] {
            let got = of(&pod(Phase::Succeeded, vec![exited("a", 0, reported)]));
            assert_eq!(got.finished, expected);
        }
        // The clock of the API server is ahead of the operator's.
        let early = judge(
            Some(&pod(Phase::Succeeded, vec![])),
            false,
            None,
            Timestamp(0),
        );
        assert_eq!(early.finished, CREATED);
    }

    #[test]
    fn failed_phase_with_a_running_container_is_not_terminal() {
        let running = ContainerView {
            name: "a".into(),
            kind: ContainerKind::Main,
            state: ContainerState::Running,
        };
        assert!(!pod(Phase::Failed, vec![running]).is_terminal());
        assert!(pod(Phase::Failed, vec![]).is_terminal());
        assert!(!deleted(pod(Phase::Running, vec![]), 1_100_000).is_terminal());
    }
}
