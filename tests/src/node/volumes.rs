//! The volumes of a pod. Each is a folder of the node. There are no mounts: instead, the node
//! replaces the mount paths in commands, arguments, and variables with the paths of the folders.

use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, Volume, VolumeMount};
use kube::api::ResourceExt;

use super::environment::Sources;
use super::shared::Shared;

/// The mount paths of a container, longest first, each with the folder of its volume.
pub(super) struct Mounts(Vec<(String, String)>);

impl Mounts {
    /// Prepares the volumes of a container.
    ///
    /// # Errors
    /// Returns the message of a kubelet that does not start such a container.
    pub(super) async fn prepare(
        shared: &Shared,
        pod: &Pod,
        container: &Container,
    ) -> Result<Self, String> {
        let volumes = pod
            .spec
            .iter()
            .flat_map(|spec| spec.volumes.iter().flatten());
        let volumes: Vec<&Volume> = volumes.collect();
        let mut mounts = Vec::new();
        for mount in container.volume_mounts.iter().flatten() {
            let volume = volumes.iter().find(|volume| volume.name == mount.name);
            let Some(folder) = volume.and_then(|volume| folder(shared, pod, volume)) else {
                continue;
            };
            let path = folder.join(mount.sub_path.as_deref().unwrap_or_default());
            fs::create_dir_all(&path).map_err(|error| error.to_string())?;
            if let Some(volume) = volume {
                write_files(shared, pod, volume, &folder).await?;
            }
            mounts.push((mount_path(mount), path.display().to_string()));
        }
        mounts.sort_by_key(|(mount, _)| std::cmp::Reverse(mount.len()));
        Ok(Self(mounts))
    }

    /// Replaces the mount paths in a text.
    pub(super) fn replace(&self, text: &str) -> String {
        let mut result = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(next) = rest.chars().next() {
            let inside = result.ends_with(|c: char| c.is_alphanumeric() || "/._-".contains(c));
            let found = self.0.iter().find_map(|(mount, folder)| {
                let after = rest.strip_prefix(mount.as_str())?;
                let ends = !after.starts_with(|c: char| c.is_alphanumeric() || "._-".contains(c));
                (ends && !inside).then_some((folder, after))
            });
            if let Some((folder, after)) = found {
                result.push_str(folder);
                rest = after;
            } else {
                result.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
        result
    }
}

fn mount_path(mount: &VolumeMount) -> String {
    mount.mount_path.trim_end_matches('/').to_owned()
}

/// Returns the folder of a volume; `None` for kinds of volumes that this node does not have.
fn folder(shared: &Shared, pod: &Pod, volume: &Volume) -> Option<PathBuf> {
    let namespace = pod.namespace().unwrap_or_default();
    if let Some(claim) = &volume.persistent_volume_claim {
        return Some(shared.volumes().join(namespace).join(&claim.claim_name));
    }
    if let Some(path) = &volume.host_path {
        let path = path.path.trim_start_matches('/');
        return Some(shared.volumes().join("host").join(path));
    }
    let is_of_pod =
        volume.empty_dir.is_some() || volume.config_map.is_some() || volume.secret.is_some();
    is_of_pod.then(|| shared.scratch(pod).join("volumes").join(&volume.name))
}

/// Writes the keys of a ConfigMap or a Secret as files.
async fn write_files(
    shared: &Shared,
    pod: &Pod,
    volume: &Volume,
    folder: &Path,
) -> Result<(), String> {
    let sources = Sources::new(&shared.client, pod);
    let values = if let Some(source) = &volume.config_map {
        sources.config_map(&source.name, source.optional).await?
    } else if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        sources.secret(name, source.optional).await?
    } else {
        None
    };
    for (key, value) in values.unwrap_or_default() {
        fs::write(folder.join(key), value).map_err(|error| error.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_paths_are_replaced_as_whole_paths() {
        let mounts = [("/data/cache", "/2"), ("/data", "/1")];
        let mounts = Mounts(mounts.map(|(m, f)| (m.to_owned(), f.to_owned())).into());
        for (text, expected) in [
            ("cat /data/a > \"/data\"", "cat /1/a > \"/1\""),
            ("ls /data/cache/b /database", "ls /2/b /database"),
            ("ls /srv/data --to=/data", "ls /srv/data --to=/1"),
            ("é/data", "é/data"),
        ] {
            assert_eq!(mounts.replace(text), expected, "{text}");
        }
    }
}
