//! kubelet and kube-scheduler.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use control_plane::NodeTools;
use serde_json::json;

use super::{NAME, containerd, enclosure};
use crate::ControlPlane;
use crate::process::Supervised;

/// The kubelet's program, configuration, and log, for a restart.
pub(super) struct Kubelet {
    program: PathBuf,
    kubeconfig: PathBuf,
    folder: PathBuf,
    config: PathBuf,
}

impl Kubelet {
    pub(super) fn prepare(tools: &NodeTools, plane: &ControlPlane, folder: &Path) -> Result<Self> {
        let cgroup = enclosure::make_cgroup(folder)?;
        let config = folder.join("kubelet.json");
        let names = folder.join("resolv.conf");
        fs::write(&names, "")?;
        let configuration = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "containerRuntimeEndpoint": format!("unix://{}", containerd::SOCKET),
            "podLogsDir": folder.join("pod-logs"),
            "resolvConf": names,
            // No one else is inside the enclosure, and the API server requests logs.
            "authentication": { "anonymous": { "enabled": true }, "webhook": { "enabled": false } },
            "authorization": { "mode": "AlwaysAllow" },
            // Any cgroup version is accepted.
            "failCgroupV1": false,
            "failSwapOn": false,
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": cgroup,
            "enforceNodeAllocatable": [],
            "oomScoreAdj": 0,
            "makeIPTablesUtilChains": false,
            // The tests must not depend on a full disk or a busy machine.
            "evictionHard": {
                "memory.available": "1Mi", "nodefs.available": "1Mi", "nodefs.inodesFree": "1",
                "imagefs.available": "1Mi", "imagefs.inodesFree": "1",
            },
            "imageGCHighThresholdPercent": 100,
            // Short, so that tests need not wait.
            "volumeStatsAggPeriod": "2s",
            "nodeStatusUpdateFrequency": "2s",
            "nodeStatusReportFrequency": "10s",
            "nodeLeaseDurationSeconds": 8,
        });
        fs::write(&config, serde_json::to_vec_pretty(&configuration)?)
            .with_context(|| format!("cannot write {}", config.display()))?;
        Ok(Self {
            program: tools.kubelet.clone(),
            kubeconfig: plane.admin_kubeconfig().to_owned(),
            folder: folder.to_owned(),
            config,
        })
    }

    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("kubelet.log")
    }

    pub(super) fn start(&self) -> Result<Supervised> {
        let mut command = Command::new(&self.program);
        command
            .arg("--config")
            .arg(&self.config)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .arg("--root-dir")
            .arg(self.folder.join("kubelet"))
            .arg("--cert-dir")
            .arg(self.folder.join("kubelet-certificates"))
            .arg(format!("--hostname-override={NAME}"))
            .arg(format!("--node-ip={}", enclosure::ADDRESS));
        Supervised::spawn(command, &self.log())
    }
}

/// Starts kube-scheduler. It is ready when it has bound a pod.
pub(super) fn scheduler(
    tools: &NodeTools,
    plane: &ControlPlane,
    folder: &Path,
) -> Result<Supervised> {
    let mut command = Command::new(&tools.kube_scheduler);
    command
        .arg("--kubeconfig")
        .arg(plane.admin_kubeconfig())
        .arg("--leader-elect=false");
    Supervised::spawn(command, &folder.join("kube-scheduler.log"))
}
