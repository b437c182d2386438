//! The operator's image, written without a container daemon: one layer with one static binary, in
//! the archive format of `docker save`.

use crate::{cargo, target, tools};
use anyhow::{Context, Result, bail};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;

/// The image name in manifests/02.
const NAME: &str = concat!("localhost/oaat-operator:", env!("CARGO_PKG_VERSION"));
/// The user, as in the Dockerfile. It is numeric, because `runAsNonRoot` requires that.
const USER: &str = "65532:65532";

/// Builds the static binary and writes the archive.
pub fn write(output: &Path) -> Result<()> {
    let (arch, triple) = match std::env::consts::ARCH {
        "x86_64" => ("amd64", "x86_64-unknown-linux-musl"),
        "aarch64" => ("arm64", "aarch64-unknown-linux-musl"),
        other => bail!("cannot build an image on {other}; use x86_64 or aarch64"),
    };
    tools::rust_target(triple)?;
    let mut build = cargo();
    build.args([
        "build",
        "--profile",
        "image",
        "--package",
        "oaat-operator",
        "--bin",
        "oaat-operator",
    ]);
    build.args(["--target", triple]);
    // The C code of dependencies needs no C library, so the system's compiler is sufficient.
    let compiler = format!("CC_{}", triple.replace('-', "_"));
    if std::env::var_os(&compiler).is_none() {
        build.env(compiler, "cc");
    }
    if !build.status().context("failed to start cargo")?.success() {
        bail!("failed to build the static binary; see the cargo output above");
    }
    let binary = target().join(triple).join("image/oaat-operator");
    let program = fs::read(&binary).with_context(|| binary.display().to_string())?;

    let mut layer = tar::Builder::new(Vec::new());
    append(&mut layer, "oaat-operator", &program, 0o755)?;
    let layer = layer.into_inner()?;
    let config = serde_json::to_vec(&json!({
        "architecture": arch,
        "os": "linux",
        "config": { "User": USER, "Entrypoint": ["/oaat-operator"], "Cmd": ["run"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", hex(&layer))] },
    }))?;
    let (config_name, layer_name) = (
        format!("{}.json", hex(&config)),
        format!("{}.tar", hex(&layer)),
    );
    let manifest = serde_json::to_vec(&json!([{
        "Config": config_name, "RepoTags": [NAME], "Layers": [layer_name],
    }]))?;

    let mut archive = tar::Builder::new(Vec::new());
    append(&mut archive, &layer_name, &layer, 0o644)?;
    append(&mut archive, &config_name, &config, 0o644)?;
    append(&mut archive, "manifest.json", &manifest, 0o644)?;
    if let Some(folder) = output.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(output, archive.into_inner()?).with_context(|| output.display().to_string())?;
    println!(
        "wrote {} ({NAME}, {arch}, binary {:.1} MB)",
        output.display(),
        program.len() as f64 / 1e6
    );
    Ok(())
}

/// Appends a file without properties of this machine, so that the same source results in the same
/// image.
fn append(archive: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8], mode: u32) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    Ok(archive.append_data(&mut header, name, bytes)?)
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
