//! The demo with a custom policy. The policy decides from a ConfigMap, is replaced by the built-in
//! policy while the group runs, and is restored. After that, the ConfigMap is updated whenever the
//! policy's file changes.

use crate::place::Place;
use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tokio::process::Command;

/// The name of the ConfigMap.
const NAME: &str = "demo-policy";

/// The policy in the ConfigMap, and the next step.
pub struct Swap {
    /// The binary of `kubectl-oaat`.
    kubectl_oaat: PathBuf,
    file: PathBuf,
    modified: Option<SystemTime>,
    /// The sha256 of the custom policy.
    custom: String,
    /// The sha256 of the built-in policy.
    built_in: String,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Custom,
    BuiltIn,
    Restored,
    Done,
}

impl Swap {
    /// Puts the policy into its ConfigMap.
    pub async fn begin(kubectl_oaat: PathBuf, file: &Path, place: &Place) -> Result<Self> {
        let built_in = digest(&pack(&kubectl_oaat, Path::new("default")).await?)?;
        let mut swap = Self {
            kubectl_oaat,
            file: file.to_owned(),
            modified: modified(file),
            custom: String::new(),
            built_in,
            step: Step::Custom,
        };
        swap.custom = swap.put(place, file).await?;
        if swap.custom == swap.built_in {
            bail!(
                "--policy {}: this is the built-in policy; use another one",
                file.display()
            );
        }
        println!("{}\n", description(file, &swap.custom));
        Ok(swap)
    }

    /// Returns the group of the quick start with this policy and a higher frequency.
    pub fn group(yaml: &str) -> Result<String> {
        let often = yaml.replace("frequency: 5m", "frequency: 10s");
        anyhow::ensure!(
            often != yaml,
            "the quick start's frequency has changed; update the demo"
        );
        println!(
            "It also has a policy and a higher frequency:\n  -  frequency: 5m\n  +  frequency: 10s\n  +  policy:\n  \
             +    configMap:\n  +      name: {NAME}\n"
        );
        Ok(format!(
            "{}\n  policy:\n    configMap:\n      name: {NAME}\n",
            often.trim_end()
        ))
    }

    /// Returns whether both policies have decided and the custom one is restored.
    pub fn done(&self) -> bool {
        self.step == Step::Done
    }

    /// Takes the next step once the policy in the ConfigMap has selected a run.
    pub async fn advance(&mut self, place: &Place, group: &Value) -> Result<()> {
        let decided = &group["status"]["lastDecision"];
        let by = decided["digest"].as_str().unwrap_or_default();
        let run = &group["status"]["run"];
        match self.step {
            Step::Custom if by == self.custom => {
                println!(
                    "    {} selected run {run}; replacing this policy with the built-in one",
                    self.file.display()
                );
                self.put(place, Path::new("default")).await?;
                self.step = Step::BuiltIn;
            }
            Step::BuiltIn if by == self.built_in => {
                println!(
                    "    the built-in policy selected run {run}; restoring {}",
                    self.file.display()
                );
                self.custom = self.put(place, &self.file.clone()).await?;
                self.step = Step::Restored;
            }
            Step::Restored if by == self.custom => {
                println!(
                    "    {} again selected run {run}; if you change the file, the demo loads the new policy",
                    self.file.display()
                );
                self.step = Step::Done;
            }
            Step::Done if modified(&self.file) != self.modified => {
                self.modified = modified(&self.file);
                // A file that is being written may be incomplete. It is packed again after the next
                // change.
                match self.put(place, &self.file.clone()).await {
                    Ok(digest) => {
                        println!(
                            "    {} has changed; the ConfigMap now has sha256 {digest}",
                            self.file.display()
                        );
                        self.custom = digest;
                    }
                    Err(error) => println!("    {error:#}"),
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Applies the ConfigMap with a policy, as its author would. Returns the policy's sha256.
    async fn put(&self, place: &Place, file: &Path) -> Result<String> {
        let map = pack(&self.kubectl_oaat, file).await?;
        let api: Api<ConfigMap> = Api::namespaced(place.client()?, place.namespace());
        let params = PatchParams::apply("demo").force();
        api.patch(NAME, &params, &Patch::Apply(&map)).await?;
        digest(&map)
    }
}

/// Describes the content of the ConfigMap.
fn description(file: &Path, digest: &str) -> String {
    format!("ConfigMap {NAME} has {} (sha256 {digest})", file.display())
}

fn modified(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file).ok()?.modified().ok()
}

async fn pack(kubectl_oaat: &Path, file: &Path) -> Result<ConfigMap> {
    let packed = Command::new(kubectl_oaat)
        .args(["policy", "pack", "--name", NAME])
        .arg(file)
        .output()
        .await?;
    if !packed.status.success() {
        bail!("{}", String::from_utf8_lossy(&packed.stderr).trim());
    }
    Ok(serde_norway::from_slice(&packed.stdout)?)
}

fn digest(map: &ConfigMap) -> Result<String> {
    let annotations = map.metadata.annotations.as_ref();
    let digest = annotations.and_then(|a| a.get("oaat.kawaja.net/policy-sha256"));
    digest.cloned().context("policy pack wrote no sha256")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_map_is_described_in_one_line() {
        assert_eq!(
            description(Path::new("my.wasm"), "3f2a"),
            "ConfigMap demo-policy has my.wasm (sha256 3f2a)"
        );
    }
}
