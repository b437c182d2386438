//! Reads the kubeconfig. Checks the sizes of the files first, because kube reads them without a limit.

use crate::input::{self, MAX_TEXT};
use kube::config::{Kubeconfig, KubeconfigError};
use std::fs::Metadata;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

/// Reads and merges the kubeconfig: `file`, or else the files in $KUBECONFIG, or else ~/.kube/config.
/// `context` is the context to use instead of the current one.
pub(super) fn read(
    file: Option<&Path>,
    context: Option<&str>,
) -> Result<Kubeconfig, KubeconfigError> {
    let files = match file {
        Some(file) => vec![file.to_owned()],
        None => default_files().ok_or(KubeconfigError::FindPath)?,
    };
    let merged = files
        .iter()
        .try_fold(Kubeconfig::default(), |merged, file| {
            merged.merge(read_file(file)?)
        })?;
    check_referenced_files(&merged, context).map_err(|error| {
        let files = std::env::join_paths(&files).unwrap_or_default();
        KubeconfigError::ReadConfig(error, files.into())
    })?;
    Ok(merged)
}

fn check_referenced_files(config: &Kubeconfig, context: Option<&str>) -> Result<(), Error> {
    for file in referenced_files(config, context) {
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

/// Returns the files that kube reads for a context, or for the current one: those with certificates,
/// keys, and tokens that are not in the kubeconfig itself.
fn referenced_files<'k>(
    kubeconfig: &'k Kubeconfig,
    context: Option<&str>,
) -> impl Iterator<Item = &'k str> {
    let name = context.or(kubeconfig.current_context.as_deref());
    let mut contexts = kubeconfig.contexts.iter();
    let context = contexts.find(|context| Some(context.name.as_str()) == name);
    let context = context.and_then(|context| context.context.as_ref());
    let cluster = context.and_then(|context| {
        let mut clusters = kubeconfig.clusters.iter();
        let cluster = clusters.find(|cluster| cluster.name == context.cluster)?;
        cluster.cluster.as_ref()
    });
    let user = context.and_then(|context| {
        let mut users = kubeconfig.auth_infos.iter();
        let user = users.find(|user| Some(&user.name) == context.user.as_ref())?;
        user.auth_info.as_ref()
    });
    let authority = cluster
        .filter(|cluster| cluster.certificate_authority_data.is_none())
        .and_then(|cluster| cluster.certificate_authority.as_deref());
    let certificate = user
        .filter(|user| user.client_certificate_data.is_none())
        .and_then(|user| user.client_certificate.as_deref());
    let key = user
        .filter(|user| user.client_key_data.is_none())
        .and_then(|user| user.client_key.as_deref());
    let token = user
        .filter(|user| user.token.is_none())
        .and_then(|user| user.token_file.as_deref());
    [authority, certificate, key, token].into_iter().flatten()
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
            let cluster = format!("server: 'https://a', certificate-authority: {authority}");
            write(
                "config",
                &format!(
                    "current-context: c\ncontexts: [{{name: c, context: {{cluster: c}}}}]\n\
                     clusters: [{{name: c, cluster: {{{cluster}}}}}]"
                ),
            );
            let read = super::read(Some(&path("config")), None).map(drop);
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
            let error = super::read(Some(&file), None).map(drop);
            let error = error.unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn files_that_the_context_does_not_use_are_not_checked() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config");
        // In a file with an absolute path, an empty name is the folder.
        let text = "current-context: used
contexts:
- {name: used, context: {cluster: used, user: used}}
- {name: unused, context: {cluster: unused, user: unused}}
clusters:
- {name: used, cluster: {certificate-authority-data: YQ==, certificate-authority: ''}}
- {name: unused, cluster: {certificate-authority: /dev/null}}
users:
- {name: used, user: {token: t, tokenFile: ''}}
- {name: unused, user: {client-key: /dev/zero}}
";
        std::fs::write(&file, text).unwrap();
        for (context, error) in [
            (None, None),
            (Some("used"), None),
            (
                Some("unused"),
                Some("it names /dev/null: not a regular file"),
            ),
        ] {
            let read = super::read(Some(&file), context).map(drop);
            let read = read.map_err(|error| error.to_string());
            match error {
                None => assert_eq!(read, Ok(())),
                Some(words) => assert!(read.as_ref().is_err_and(|e| e.contains(words)), "{read:?}"),
            }
        }
    }
}
