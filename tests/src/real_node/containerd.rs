//! containerd, with all its files in one folder, and the network of the pods.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::{eventually, find, images};
use crate::process::{Supervised, ended_early};

/// The folders of CNI plugins: Debian's, and the usual one.
const PLUGINS: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];

/// The socket of containerd. Inside the namespaces, `/run` is private; a path in the folder might
/// be too long for a socket.
pub(super) const SOCKET: &str = "/run/oaat-containerd.sock";

/// Starts containerd and waits until it responds.
pub(super) async fn start(folder: &Path) -> Result<Supervised> {
    let network = folder.join("cni");
    fs::create_dir_all(&network)?;
    fs::write(
        network.join("10-pods.conflist"),
        serde_json::to_vec_pretty(&json!({
            "cniVersion": "0.4.0",
            "name": "pods",
            "plugins": [{
                "type": "ptp",
                "ipam": {
                    "type": "host-local",
                    "dataDir": folder.join("cni-addresses"),
                    "ranges": [[{ "subnet": "198.51.100.0/24" }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                },
            }],
        }))?,
    )?;
    let config = folder.join("containerd.toml");
    fs::write(&config, configuration(folder, &network)?)?;

    let log = folder.join("containerd.log");
    let mut command = Command::new(find("containerd")?);
    command.arg("--config").arg(&config);
    let containerd = Supervised::spawn(command, &log)?;
    eventually("containerd", async || {
        if let Some(status) = containerd.exit_status() {
            bail!(ended_early("containerd", status, &log));
        }
        let answer = ctr()?.arg("version").output()?;
        Ok(answer.status.success().then_some(()))
    })
    .await?;
    Ok(containerd)
}

/// Imports the images of an archive into a running containerd.
pub(super) fn import_images(archive: &Path) -> Result<()> {
    let imported = ctr()?
        .args([
            "-n",
            "k8s.io",
            "images",
            "import",
            "--snapshotter",
            "native",
        ])
        .arg(archive)
        .output()?;
    if !imported.status.success() {
        let said = String::from_utf8_lossy(&imported.stderr);
        bail!("containerd failed to import the images: {}", said.trim());
    }
    Ok(())
}

fn configuration(folder: &Path, network: &Path) -> Result<String> {
    let plugins = PLUGINS
        .into_iter()
        .find(|folder| Path::new(folder).join("ptp").exists())
        .context("the CNI plugins are missing")?;
    let pause = images::PAUSE;
    let [root, state] = [folder.join("containerd"), folder.join("state")];
    Ok(format!(
        r#"version = 2
root = {root:?}
state = {state:?}
[grpc]
address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
# Allows to run where only the machine's owner may lower it.
restrict_oom_score_adj = true
disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".containerd]
# Copies files, which is slow and works on every filesystem.
snapshotter = "native"
default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = {network:?}
"#
    ))
}

fn ctr() -> Result<Command> {
    let mut command = Command::new(find("ctr")?);
    command.arg("--address").arg(SOCKET);
    Ok(command)
}
