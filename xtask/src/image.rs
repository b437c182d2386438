//! The operator's image, written without a container daemon: one layer with one static binary.

use crate::archive::{DATA, Files, PROGRAM, gzip, hex};
use crate::cross::{self, Arch, Compiler};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// The image name in the chart and the manifests, without a tag.
pub(crate) const NAME: &str = "localhost/oaat-operator";
/// The tag.
pub(crate) const TAG: &str = env!("CARGO_PKG_VERSION");
/// The user, as in the Dockerfile. It is numeric, because `runAsNonRoot` requires that.
const USER: &str = "65532:65532";

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Builds the static binary of this machine's architecture and writes the archive.
pub(crate) fn write(output: &Path) -> Result<()> {
    let arch = Arch::of_this_machine()?;
    cross::build(&[arch], &["oaat-operator"], Compiler::System)?;
    let program = cross::read(arch, "oaat-operator")?;
    if let Some(folder) = output.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(output, docker_archive(arch, &program, NAME)?)
        .with_context(|| output.display().to_string())?;
    println!(
        "wrote {} ({NAME}:{TAG}, {}, binary {:.1} MB)",
        output.display(),
        arch.name(),
        program.len() as f64 / 1e6
    );
    Ok(())
}

/// Returns an archive in the format of `docker save`, with one architecture.
pub(crate) fn docker_archive(arch: Arch, program: &[u8], name: &str) -> Result<Vec<u8>> {
    let layer = layer(program)?;
    let config = config(arch, &layer)?;
    let config_name = format!("{}.json", hex(&config));
    let layer_name = format!("{}.tar", hex(&layer));
    let manifest = json!([{
        "Config": config_name, "RepoTags": [format!("{name}:{TAG}")], "Layers": [layer_name],
    }]);
    let mut files = Files::default();
    files.add(layer_name, DATA, layer);
    files.add(config_name, DATA, config);
    files.add("manifest.json", DATA, serde_json::to_vec(&manifest)?);
    files.tar()
}

/// Returns an archive of an OCI image layout for several architectures, and the digest of the image.
/// The digest is the same in a registry.
pub(crate) fn oci_archive(programs: &[(Arch, &[u8])], name: &str) -> Result<(Vec<u8>, String)> {
    let mut layout = Layout::default();
    let mut manifests = Vec::new();
    for (arch, program) in programs {
        let layer = layer(program)?;
        let config = layout.add(CONFIG, config(*arch, &layer)?);
        let layer = layout.add(LAYER, gzip(&layer)?);
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer],
        });
        let mut manifest = layout.add(MANIFEST, serde_json::to_vec(&manifest)?);
        manifest["platform"] = json!({ "architecture": arch.name(), "os": "linux" });
        manifests.push(manifest);
    }
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
    let mut image = layout.add(INDEX, serde_json::to_vec(&index)?);
    let digest = image["digest"].as_str().unwrap_or_default().to_owned();
    // The names for containerd and for other programs.
    image["annotations"] = json!({
        "io.containerd.image.name": format!("{name}:{TAG}"),
        "org.opencontainers.image.ref.name": TAG,
    });
    let images = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [image] });
    let version = json!({ "imageLayoutVersion": "1.0.0" });
    let mut files = layout.0;
    files.add("index.json", DATA, serde_json::to_vec(&images)?);
    files.add("oci-layout", DATA, serde_json::to_vec(&version)?);
    Ok((files.tar()?, digest))
}

/// The files of an OCI image layout.
#[derive(Default)]
struct Layout(Files);

impl Layout {
    /// Adds a blob and returns its descriptor.
    fn add(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let digest = hex(&bytes);
        let descriptor = json!({
            "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len(),
        });
        self.0.add(format!("blobs/sha256/{digest}"), DATA, bytes);
        descriptor
    }
}

/// Returns the layer with the program, as an archive.
fn layer(program: &[u8]) -> Result<Vec<u8>> {
    let mut files = Files::default();
    files.add("oaat-operator", PROGRAM, program.to_vec());
    files.tar()
}

/// Returns the configuration of the image with this layer.
fn config(arch: Arch, layer: &[u8]) -> Result<Vec<u8>> {
    Ok(serde_json::to_vec(&json!({
        "architecture": arch.name(),
        "os": "linux",
        "config": { "User": USER, "Entrypoint": ["/oaat-operator"], "Cmd": ["run"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", hex(layer))] },
    }))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Follows the digests from the name of an image to its programs, as a container runtime does.
    #[test]
    fn oci_archive_leads_from_the_name_to_the_program_of_each_architecture() {
        let programs = [(Arch::Amd64, &b"one"[..]), (Arch::Arm64, &b"two"[..])];
        let (archive, digest) = oci_archive(&programs, "registry/name").expect("it is written");
        let mut files = Files::from_tar_gz(&gzip(&archive).expect("it is written"))
            .expect("the archive is valid");
        let mut read = |name: &str| files.get_mut(name).map(std::mem::take).expect("it exists");
        let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).expect("it is JSON");
        let images = json(&read("index.json"));
        let image = &images["manifests"][0];
        let name = &image["annotations"]["io.containerd.image.name"];
        assert_eq!(name, &json!(format!("registry/name:{TAG}")));
        assert_eq!(image["digest"], digest);
        let mut blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().expect("it has a digest");
            let bytes = read(&format!("blobs/{}", digest.replacen(':', "/", 1)));
            assert_eq!(descriptor["size"], bytes.len());
            assert_eq!(digest, format!("sha256:{}", hex(&bytes)));
            bytes
        };
        let index = json(&blob(image));
        for (position, (arch, program)) in programs.iter().enumerate() {
            let descriptor = &index["manifests"][position];
            assert_eq!(descriptor["platform"]["architecture"], arch.name());
            let manifest = json(&blob(descriptor));
            let config = json(&blob(&manifest["config"]));
            assert_eq!(config["architecture"], arch.name());
            assert_eq!(config["config"]["User"], USER);
            let mut layer =
                Files::from_tar_gz(&blob(&manifest["layers"][0])).expect("the layer is valid");
            let content = layer.get_mut("oaat-operator").expect("it has the program");
            assert_eq!(content, program);
            let tar = self::layer(program).expect("it is written");
            let diff_id = format!("sha256:{}", hex(&tar));
            assert_eq!(config["rootfs"]["diff_ids"], json!([diff_id]));
        }
    }
}
