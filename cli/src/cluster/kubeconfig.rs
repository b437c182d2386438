//! Reads the kubeconfig. Checks the sizes of the files first, because kube reads them without a limit.

use crate::input::{self, MAX_TEXT};
use kube::config::{Kubeconfig, KubeconfigError};
use std::fs::Metadata;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

/// Reads and merges the kubeconfig: `file`, or else the files in $KUBECONFIG, or else ~/.kube/config.
pub(super) fn read(file: Option<&Path>) -> Result<Kubeconfig, KubeconfigError> {
    let files = match file {
        Some(file) => vec![file.to_owned()],
        None => default_files().ok_or(KubeconfigError::FindPath)?,
    };
    files
        .iter()
        .try_fold(Kubeconfig::default(), |merged, file| {
            let config = read_file(file)?;
            check_referenced_files(&config)
                .map_err(|error| KubeconfigError::ReadConfig(error, file.clone()))?;
            merged.merge(config)
        })
}

fn check_referenced_files(config: &Kubeconfig) -> Result<(), Error> {
    for file in referenced_files(config) {
        // kube reports a missing file if it needs it.
        let Ok(metadata) = std::fs::metadata(file) else {
            continue;
        };
        let checked = if metadata.is_file() {
            check_size(&metadata)
        } else {
            Err(Error::other("not a regular file; use a regular file"))
        };
        checked.map_err(|error| Error::other(format!("it names {file}: {error}")))?;
    }
    Ok(())
}

fn default_files() -> Option<Vec<PathBuf>> {
    let listed = std::env::var_os("KUBECONFIG").unwrap_or_default();
    let files = std::env::split_paths(&listed).filter(|file| !file.as_os_str().is_empty());
    let files: Vec<_> = files.collect();
    if files.is_empty() {
        Some(vec![std::env::home_dir()?.join(".kube/config")])
    } else {
        Some(files)
    }
}

fn read_file(file: &Path) -> Result<Kubeconfig, KubeconfigError> {
    let failed = |error| KubeconfigError::ReadConfig(error, file.to_owned());
    match std::fs::metadata(file) {
        // The shell creates a pipe for `--kubeconfig <(command)`. Its size is unknown.
        Ok(metadata) if !metadata.is_file() => {
            let text = input::read_text(file);
            let text =
                text.map_err(|error| failed(Error::other(error.root_cause().to_string())))?;
            Kubeconfig::from_yaml(&text)
        }
        Ok(metadata) => {
            check_size(&metadata).map_err(failed)?;
            Kubeconfig::read_from(file)
        }
        Err(error) => Err(failed(error)),
    }
}

fn check_size(metadata: &Metadata) -> Result<(), Error> {
    if metadata.len() <= MAX_TEXT {
        return Ok(());
    }
    let problem = format!(
        "the file is larger than {} MiB; use a smaller file",
        MAX_TEXT >> 20
    );
    Err(Error::new(ErrorKind::FileTooLarge, problem))
}

/// Returns the certificate, key, and token files that the kubeconfig names.
fn referenced_files(kubeconfig: &Kubeconfig) -> impl Iterator<Item = &str> {
    let clusters = kubeconfig.clusters.iter();
    let clusters = clusters.filter_map(|named| named.cluster.as_ref());
    let users = kubeconfig.auth_infos.iter();
    let users = users.filter_map(|named| named.auth_info.as_ref());
    let files = clusters.map(|cluster| &cluster.certificate_authority);
    let files = files.chain(
        users.flat_map(|user| [&user.client_certificate, &user.client_key, &user.token_file]),
    );
    files.filter_map(|file| file.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn large_files_are_rejected_before_they_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str| std::fs::write(path(name), text).unwrap();
        // A sparse file uses no space.
        let large = File::create(path("large")).unwrap();
        large.set_len(MAX_TEXT + 1).unwrap();
        write("small", "certificate");
        for (authority, expected) in [
            ("small", Ok(())),
            ("absent", Ok(())),
            ("large", Err("the file is larger than 16 MiB")),
            ("/dev/zero", Err("not a regular file")),
        ] {
            write(
                "config",
                &format!(
                    "clusters: [{{name: c, cluster: {{server: 'https://a', certificate-authority: \
                     {authority}}}}}]"
                ),
            );
            let read = super::read(Some(&path("config"))).map(drop);
            let error = read.map_err(|error| error.to_string());
            match expected {
                Ok(()) => assert_eq!(error, Ok(())),
                Err(words) => {
                    let error = error.unwrap_err();
                    assert!(
                        error.contains(words) && error.contains(authority),
                        "{error}"
                    );
                }
            }
        }
        for (file, words) in [
            (path("large"), "the file is larger than 16 MiB"),
            ("/dev/zero".into(), "the input is larger than 16 MiB"),
            (path("absent"), "No such file"),
        ] {
            let error = super::read(Some(&file)).map(drop).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
