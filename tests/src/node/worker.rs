//! The kubelet: runs one pod from its binding to its end.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, ResourceExt};
use serde_json::json;

use super::Mode;
use super::container::{self, Process};
use super::shared::Shared;
use super::signals::{Signals, Stop};
use super::status::{Report, State, Verdict, containers};

/// The pause between attempts, if an object that a container refers to is missing.
const RETRY: Duration = Duration::from_millis(500);

/// The pod is gone from the API, so nothing can be reported.
struct Gone;

/// Runs a pod until its end, and reports its status.
pub(super) async fn run(shared: Arc<Shared>, mut signals: Signals) {
    let mut worker = Worker::new(shared, signals.pod());
    if !worker.was_running_before() {
        worker.shared.forget_log(&worker.pod);
    }
    let stop = if worker.was_running_before() {
        worker.lose().await.err().map(|Gone| Stop::Gone)
    } else {
        tokio::select! {
            // A pod that was deleted before it was processed must not start.
            biased;
            stop = signals.stop() => Some(stop),
            lived = worker.live() => lived.err().map(|Gone| Stop::Gone),
        }
    };
    if let Some(stop) = stop {
        worker.terminate(stop, &mut signals).await;
    }
    if let Some(pod) = worker.shared.pod_over(&worker.pod) {
        delete_now(&worker.shared, &pod).await;
    }
}

/// Completes the deletion of a pod, as a kubelet does.
pub(super) async fn delete_now(shared: &Shared, pod: &Pod) {
    let pods: Api<Pod> =
        Api::namespaced(shared.client.clone(), &pod.namespace().unwrap_or_default());
    let name = pod.name_any();
    let now = DeleteParams::default()
        .grace_period(0)
        .preconditions(Preconditions {
            uid: pod.uid(),
            resource_version: None,
        });
    shared
        .insist("delete", || async { pods.delete(&name, &now).await })
        .await;
}

struct Worker {
    shared: Arc<Shared>,
    pod: Arc<Pod>,
    pods: Api<Pod>,
    report: Report,
    /// The processes of running containers; init containers first.
    processes: Vec<Option<Process>>,
}

impl Worker {
    fn new(shared: Arc<Shared>, pod: Arc<Pod>) -> Self {
        let pods = Api::namespaced(shared.client.clone(), &pod.namespace().unwrap_or_default());
        let report = Report::new(&pod, shared.now());
        let count = report.init.len() + report.main.len();
        Self {
            shared,
            pod,
            pods,
            report,
            processes: std::iter::repeat_with(|| None).take(count).collect(),
        }
    }

    /// Reports Pending, runs the containers, and reports the end.
    async fn live(&mut self) -> Result<(), Gone> {
        if let Mode::Instant { exit_code } = self.shared.mode {
            return self.live_instantly(exit_code).await;
        }
        self.write().await?;
        self.wait_while_held().await;
        for index in 0..self.report.init.len() {
            while let Some(pause) = self.start(index).await {
                self.write().await?;
                tokio::time::sleep(pause).await;
            }
            if self.processes[index].is_some() {
                self.write().await?;
                self.next_end().await;
            }
            if self.report.init[index].code() != Some(0) {
                return self.conclude().await;
            }
        }
        self.run_main_containers().await?;
        self.conclude().await
    }

    async fn run_main_containers(&mut self) -> Result<(), Gone> {
        let first = self.report.init.len();
        let mut missing: Vec<usize> = (first..self.processes.len()).collect();
        loop {
            let mut pause = Duration::MAX;
            for index in std::mem::take(&mut missing) {
                if let Some(again) = self.start(index).await {
                    missing.push(index);
                    pause = pause.min(again);
                }
            }
            if self.report.main.iter().all(|state| state.code().is_some()) {
                return Ok(());
            }
            self.write().await?;
            tokio::select! {
                // Never completes if nothing runs; then a container is missing.
                () = self.next_end() => {}
                () = tokio::time::sleep(pause), if !missing.is_empty() => {}
            }
        }
    }

    async fn live_instantly(&mut self, code: i32) -> Result<(), Gone> {
        if self.shared.is_held() {
            self.write().await?;
            self.wait_while_held().await;
        }
        let now = self.shared.now();
        self.shared.run_started(&self.pod);
        self.report.init.fill(State::ended(now, now, 0));
        self.report.main.fill(State::ended(now, now, code));
        self.conclude().await
    }

    /// Tries to start a container. Returns the pause before the next attempt, if it is needed.
    async fn start(&mut self, index: usize) -> Option<Duration> {
        let (init, main) = containers(&self.pod);
        let container = init.iter().chain(main).nth(index)?;
        match container::start(&self.shared, &self.pod, container).await {
            Ok(process) => {
                self.shared.run_started(&self.pod);
                *self.state(index) = process.running();
                self.processes[index] = Some(process);
                None
            }
            Err(State::Waiting {
                reason: "ErrImagePull",
                message,
            }) => {
                // Reports the error first, and then that the container waits for the next attempt.
                let seen = matches!(
                    self.state(index),
                    State::Waiting {
                        reason: "ErrImagePull" | "ImagePullBackOff",
                        ..
                    }
                );
                let reason = if seen {
                    "ImagePullBackOff"
                } else {
                    "ErrImagePull"
                };
                *self.state(index) = State::Waiting { reason, message };
                Some(RETRY)
            }
            Err(state @ State::Waiting { .. }) => {
                *self.state(index) = state;
                Some(RETRY)
            }
            Err(state) => {
                *self.state(index) = state;
                None
            }
        }
    }

    /// Waits until a running container has ended.
    async fn next_end(&mut self) {
        let shared = &self.shared;
        let mut ends: FuturesUnordered<_> = self
            .processes
            .iter_mut()
            .enumerate()
            .filter_map(|(index, process)| process.as_mut().map(|process| (index, process)))
            .map(async |(index, process)| (index, process.ended(shared).await))
            .collect();
        let Some((index, state)) = ends.next().await else {
            return std::future::pending().await;
        };
        drop(ends);
        self.processes[index] = None;
        *self.state(index) = state;
    }

    fn state(&mut self, index: usize) -> &mut State {
        let init = self.report.init.len();
        match index.checked_sub(init) {
            Some(index) => &mut self.report.main[index],
            None => &mut self.report.init[index],
        }
    }

    /// Ends a pod before its containers end by themselves.
    async fn terminate(&mut self, stop: Stop, signals: &mut Signals) {
        match stop {
            Stop::Gone | Stop::Evicted => self.kill().await,
            Stop::Deleted | Stop::Deadline => self.stop_gracefully(&stop, signals).await,
        }
        self.report.verdict = match stop {
            Stop::Gone => return,
            Stop::Deleted => None,
            Stop::Deadline => Some(Verdict {
                reason: "DeadlineExceeded",
                message: "Pod was active on the node longer than the specified deadline".to_owned(),
                forget_containers: false,
            }),
            Stop::Evicted => Some(Verdict {
                reason: "Evicted",
                message: "The node was low on resource: memory.".to_owned(),
                forget_containers: true,
            }),
        };
        // Containers that have not started will not start.
        if self.report.is_initialized() {
            for state in &mut self.report.main {
                if state.code().is_none() {
                    *state = State::lost();
                }
            }
        }
        // A pod that is gone needs no report.
        let _ = self.conclude().await;
    }

    async fn stop_gracefully(&mut self, stop: &Stop, signals: &mut Signals) {
        for process in self.processes.iter().flatten() {
            process.supervised().signal_group(crate::Signal::Term);
        }
        let kill = signals.grace_over(stop);
        let mut kill = std::pin::pin!(kill);
        while self.processes.iter().any(Option::is_some) {
            tokio::select! {
                () = self.next_end() => {}
                () = &mut kill => return self.kill().await,
            }
        }
    }

    async fn kill(&mut self) {
        for process in self.processes.iter().flatten() {
            process.supervised().signal_group(crate::Signal::Kill);
        }
        while self.processes.iter().any(Option::is_some) {
            self.next_end().await;
        }
    }

    /// Returns whether the pod ran under an earlier process of this node. Its processes ended with
    /// that node, and such a pod is not started twice.
    fn was_running_before(&self) -> bool {
        let phase = self
            .pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        phase == Some("Running")
    }

    async fn lose(&mut self) -> Result<(), Gone> {
        self.report.init.fill(State::lost());
        self.report.main.fill(State::lost());
        self.conclude().await
    }

    async fn conclude(&mut self) -> Result<(), Gone> {
        self.shared.run_ended(&self.pod);
        self.report.over = true;
        self.write().await
    }

    async fn write(&mut self) -> Result<(), Gone> {
        let status = self.report.render(&self.pod, self.shared.now());
        let name = self.pod.name_any();
        // The UID makes this fail for another pod of the same name.
        let patch = Patch::Strategic(json!({
            "metadata": {"uid": self.pod.uid()}, "status": status,
        }));
        let params = PatchParams::default();
        let write = || async { self.pods.patch_status(&name, &params, &patch).await };
        match self.shared.insist("status", write).await {
            Some(_) => Ok(()),
            None => Err(Gone),
        }
    }

    async fn wait_while_held(&self) {
        let mut held = self.shared.held.subscribe();
        // The sender exists as long as the node.
        let _ = held.wait_for(|held| !held).await;
    }
}
