//! Images created from the machine's static busybox. A node without a network cannot pull images.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest, Sha256};

/// The image that pods refer to as `busybox`.
const BUSYBOX: &str = "docker.io/library/busybox:latest";
/// The image of the container that holds a pod's namespaces.
pub(super) const PAUSE: &str = "localhost/pause:latest";

/// Writes an archive with all images into a folder.
pub(super) fn write(folder: &Path) -> Result<PathBuf> {
    let program = super::find("busybox")?;
    let listed = Command::new(&program)
        .arg("--list")
        .output()
        .context("cannot start busybox")?;
    let mut layer = tar::Builder::new(Vec::new());
    for (name, mode) in [("bin/", 0o755), ("etc/", 0o755), ("tmp/", 0o1777)] {
        let mut header = header(tar::EntryType::Directory, mode);
        layer.append_data(&mut header, name, std::io::empty())?;
    }
    append(&mut layer, "etc/passwd", b"root:x:0:0::/:/bin/sh\n", 0o644)?;
    append(&mut layer, "bin/busybox", &fs::read(&program)?, 0o755)?;
    for applet in String::from_utf8_lossy(&listed.stdout).lines() {
        if applet != "busybox" {
            let mut header = header(tar::EntryType::Symlink, 0o777);
            layer.append_link(&mut header, format!("bin/{applet}"), "busybox")?;
        }
    }
    let layer = layer.into_inner()?;

    let mut archive = tar::Builder::new(Vec::new());
    let layer_name = format!("{}.tar", hex(&layer));
    append(&mut archive, &layer_name, &layer, 0o644)?;
    let mut manifest = Vec::new();
    for (name, command) in [(BUSYBOX, vec!["sh"]), (PAUSE, vec!["sleep", "2147483647"])] {
        let config = serde_json::to_vec(&json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "config": { "Env": ["PATH=/bin"], "Cmd": command },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", hex(&layer))] },
        }))?;
        let config_name = format!("{}.json", hex(&config));
        append(&mut archive, &config_name, &config, 0o644)?;
        manifest.push(json!({
            "Config": config_name, "RepoTags": [name], "Layers": [layer_name],
        }));
    }
    append(
        &mut archive,
        "manifest.json",
        &serde_json::to_vec(&manifest)?,
        0o644,
    )?;
    let file = folder.join("images.tar");
    fs::write(&file, archive.into_inner()?)
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

fn append(archive: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8], mode: u32) -> Result<()> {
    let mut header = header(tar::EntryType::Regular, mode);
    header.set_size(bytes.len() as u64);
    Ok(archive.append_data(&mut header, name, bytes)?)
}

fn header(kind: tar::EntryType, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(0);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
