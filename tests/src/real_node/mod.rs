//! A real node: kubelet, kube-scheduler, containerd, runc, and a network, as root on Linux.
//!
//! Unlike in [`crate::node`], pods run in containers from images, and the kubelet reports their
//! status. It requires an enclosure ([`enter`]) and the programs that `cargo xtask real-node`
//! checks for.

mod containerd;
mod enclosure;
mod images;
mod kubelet;

use std::env;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1 as core;
use kube::Api;

pub use enclosure::{enter, inside};

use crate::ControlPlane;
use crate::process::{Signal, Supervised, ended_early, lock, stop, tail};
use kubelet::Kubelet;

/// The name of the node.
pub const NAME: &str = "real-node";

/// The timeout for the start of each part of the node.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running node.
pub struct RealNode {
    agent: Mutex<Option<Supervised>>,
    kubelet: Kubelet,
    folder: PathBuf,
    _scheduler: Supervised,
    runtime: Mutex<Option<Supervised>>,
}

impl RealNode {
    /// Starts all parts and waits until the node accepts pods. All files are written to `folder`.
    ///
    /// # Errors
    /// Returns an error with the end of its log if a part does not start.
    pub async fn start(plane: &ControlPlane, folder: &Path) -> Result<Self> {
        let tools = control_plane::locate_node()
            .context("kubelet and kube-scheduler are missing: cargo xtask real-node builds them")?;
        let containerd = containerd::start(folder).await?;
        containerd::import_images(&images::write(folder)?)?;
        let kubelet = Kubelet::prepare(&tools, plane, folder)?;
        let node = Self {
            agent: Mutex::new(Some(kubelet.start()?)),
            _scheduler: kubelet::scheduler(&tools, plane, folder)?,
            runtime: Mutex::new(Some(containerd)),
            folder: folder.to_owned(),
            kubelet,
        };
        node.until_ready(plane).await?;
        Ok(node)
    }

    /// Imports the images of an archive, as `docker save` writes it.
    ///
    /// # Errors
    /// Returns an error if containerd rejects the archive.
    pub fn import_image(&self, archive: &Path) -> Result<()> {
        containerd::import_images(archive)
    }

    /// Waits until the node is ready and accepts pods.
    ///
    /// # Errors
    /// Returns an error with the end of the kubelet's log on a timeout.
    pub async fn until_ready(&self, plane: &ControlPlane) -> Result<()> {
        let nodes: Api<core::Node> = Api::all(plane.admin());
        eventually("the node", async || {
            if let Some(status) = lock(&self.agent).as_ref().and_then(Supervised::exit_status) {
                bail!(ended_early("kubelet", status, &self.kubelet.log()));
            }
            let node = nodes.get_opt(NAME).await?;
            Ok(node.filter(takes_pods).map(drop))
        })
        .await
        .with_context(|| format!("kubelet said:\n{}", tail(&self.kubelet.log(), 20)))
    }

    /// Creates a folder that containers mount by `hostPath`.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be created.
    pub fn shared_folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join("shared").join(name);
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(folder)
    }

    /// Pauses or resumes the kubelet. Containers continue.
    pub fn freeze(&self, frozen: bool) {
        let signal = if frozen {
            Signal::Stop
        } else {
            Signal::Continue
        };
        if let Some(agent) = lock(&self.agent).as_ref() {
            agent.signal(signal);
        }
    }

    /// Kills the kubelet, like a crash. Containers continue.
    pub async fn kill_kubelet(&self) {
        stop(&self.agent).await;
    }

    /// Starts the kubelet after [`Self::kill_kubelet`].
    ///
    /// # Errors
    /// Returns an error if it cannot be started.
    pub fn start_kubelet(&self) -> Result<()> {
        *lock(&self.agent) = Some(self.kubelet.start()?);
        Ok(())
    }

    /// Kills containerd, like a crash. Containers continue.
    pub async fn kill_runtime(&self) {
        stop(&self.runtime).await;
    }

    /// Starts containerd after [`Self::kill_runtime`].
    ///
    /// # Errors
    /// Returns an error if it does not start.
    pub async fn start_runtime(&self) -> Result<()> {
        let started = containerd::start(&self.folder).await?;
        *lock(&self.runtime) = Some(started);
        Ok(())
    }
}

/// Returns whether a node is ready and has no taint.
fn takes_pods(node: &core::Node) -> bool {
    let tainted = node
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.as_ref())
        .is_some_and(|taints| !taints.is_empty());
    let conditions = node
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten());
    !tainted
        && conditions
            .into_iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Returns the path of a program. Programs of services are not in every `PATH`.
fn find(program: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
        .with_context(|| format!("the program {program} is missing"))
}

/// Repeats a check until it returns a value.
async fn eventually<T, F: Future<Output = Result<Option<T>>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if start.elapsed() > PATIENCE {
            bail!("{what} is not ready after {} s", PATIENCE.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
