//! kubectl, as users of the operator run it.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::ControlPlane;
use crate::process::Supervised;

impl ControlPlane {
    /// The kubectl that belongs to the control plane.
    pub fn kubectl_program(&self) -> &Path {
        &self.servers.tools.kubectl
    }

    /// Runs kubectl as admin and returns its output.
    ///
    /// # Errors
    /// Returns an error if kubectl fails. The error contains its stderr.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.kubectl_as(self.admin_kubeconfig(), args, "").await
    }

    /// Applies the text of manifests as admin.
    ///
    /// # Errors
    /// Returns an error if kubectl fails. The error contains its stderr.
    pub async fn apply(&self, manifests: &str) -> Result<String> {
        let args = ["apply", "-f", "-"];
        self.kubectl_as(self.admin_kubeconfig(), &args, manifests)
            .await
    }

    /// Runs kubectl with the given kubeconfig and input.
    ///
    /// # Errors
    /// Returns an error if kubectl fails. The error contains its stderr.
    pub async fn kubectl_as(
        &self,
        kubeconfig: &Path,
        args: &[&str],
        stdin: &str,
    ) -> Result<String> {
        // Files, because pipes would have to be read and written concurrently. The files have no
        // name, so that no cleanup is needed.
        let mut input = self.nameless_file()?;
        input.write_all(stdin.as_bytes())?;
        input.rewind()?;
        let mut stdout = self.nameless_file()?;
        let mut stderr = self.nameless_file()?;
        let mut command = Command::new(self.kubectl_program());
        command
            .arg("--kubeconfig")
            .arg(kubeconfig)
            // A separate cache, because a cache of another API server may not match.
            .arg("--cache-dir")
            .arg(self.folder().join("kubectl-cache"))
            .args(args)
            .stdin(input)
            .stdout(stdout.try_clone()?)
            .stderr(stderr.try_clone()?);
        // Supervised, because it writes to a folder that is removed when this process ends.
        let kubectl = Supervised::spawn_as_is(&mut command).context("cannot start kubectl")?;
        let status = kubectl.wait().await;
        if !status.success() {
            let said = content(&mut stderr)?;
            bail!("kubectl {}: {}", args.join(" "), said.trim());
        }
        content(&mut stdout)
    }

    fn nameless_file(&self) -> Result<File> {
        tempfile::tempfile_in(self.folder()).context("cannot create a temporary file")
    }
}

fn content(file: &mut File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
