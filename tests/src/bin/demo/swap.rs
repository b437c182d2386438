//! The demo with a policy of one's own: it decides from a ConfigMap, gives way to the built-in
//! one there while the group goes on, and comes back. After that, whenever its file changes,
//! so does the ConfigMap.

use crate::place::Place;
use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tokio::process::Command;

/// Name of the ConfigMap.
const NAME: &str = "demo-policy";

/// Which policy is in the ConfigMap, and which comes next.
pub struct Swap {
    binary: PathBuf,
    file: PathBuf,
    changed: Option<SystemTime>,
    mine: String,
    built_in: String,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    First,
    BuiltIn,
    Back,
    Done,
}

impl Swap {
    /// Puts the policy into its ConfigMap.
    pub async fn begin(binary: &Path, file: &Path, place: &Place) -> Result<Self> {
        let mut swap = Self {
            binary: binary.to_owned(),
            file: file.to_owned(),
            changed: modified(file),
            mine: String::new(),
            built_in: swap_digest(&pack(binary, Path::new("default")).await?)?,
            step: Step::First,
        };
        swap.mine = swap.put(place, file).await?;
        if swap.mine == swap.built_in {
            bail!(
                "{} is the built-in policy itself; name another",
                file.display()
            );
        }
        println!("{}\n", shipped(file, &swap.mine));
        Ok(swap)
    }

    /// The group of the quick start with this policy, and due more often.
    pub fn group(yaml: &str) -> Result<String> {
        let often = yaml.replace("frequency: 5m", "frequency: 10s");
        anyhow::ensure!(
            often != yaml,
            "the quick start's frequency has changed; so must the demo"
        );
        println!(
            "and with a policy, and due more often:\n  -  frequency: 5m\n  +  frequency: 10s\n  +  policy:\n  \
             +    configMap:\n  +      name: {NAME}\n"
        );
        Ok(format!(
            "{}\n  policy:\n    configMap:\n      name: {NAME}\n",
            often.trim_end()
        ))
    }

    /// Whether both have decided and the first is back.
    pub fn done(&self) -> bool {
        self.step == Step::Done
    }

    /// Takes the next step once the policy that is there has decided about a run.
    pub async fn look(&mut self, place: &Place, group: &Value) -> Result<()> {
        let decided = &group["status"]["lastDecision"];
        let by = decided["digest"].as_str().unwrap_or_default();
        let run = &group["status"]["run"];
        match self.step {
            Step::First if by == self.mine => {
                println!(
                    "    run {run} was decided by {}; now the built-in policy goes into the ConfigMap",
                    self.file.display()
                );
                self.put(place, Path::new("default")).await?;
                self.step = Step::BuiltIn;
            }
            Step::BuiltIn if by == self.built_in => {
                println!(
                    "    run {run} was decided by the built-in policy; now {} goes back",
                    self.file.display()
                );
                self.mine = self.put(place, &self.file.clone()).await?;
                self.step = Step::Back;
            }
            Step::Back if by == self.mine => {
                println!(
                    "    run {run} was decided by {} again; change that file, and the next decision is the new policy's",
                    self.file.display()
                );
                self.step = Step::Done;
            }
            Step::Done if modified(&self.file) != self.changed => {
                self.changed = modified(&self.file);
                // A file that is being written is no component yet; its next change is.
                match self.put(place, &self.file.clone()).await {
                    Ok(digest) => {
                        println!(
                            "    {} has changed: sha256 {digest} is in the ConfigMap",
                            self.file.display()
                        );
                        self.mine = digest;
                    }
                    Err(error) => println!("    {error:#}"),
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Ships a policy as its author would: packed by the operator's binary, applied by the
    /// server. Gives its sha256.
    async fn put(&self, place: &Place, file: &Path) -> Result<String> {
        let map = pack(&self.binary, file).await?;
        let api: Api<ConfigMap> = Api::namespaced(place.client()?, place.namespace());
        let params = PatchParams::apply("demo").force();
        api.patch(NAME, &params, &Patch::Apply(&map)).await?;
        swap_digest(&map)
    }
}

/// What is in the ConfigMap now.
fn shipped(file: &Path, digest: &str) -> String {
    format!("ConfigMap {NAME} has {} (sha256 {digest})", file.display())
}

fn modified(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file).ok()?.modified().ok()
}

async fn pack(binary: &Path, file: &Path) -> Result<ConfigMap> {
    let packed = Command::new(binary)
        .args(["policy", "pack", "--name", NAME])
        .arg(file)
        .output()
        .await?;
    if !packed.status.success() {
        bail!("{}", String::from_utf8_lossy(&packed.stderr).trim());
    }
    Ok(serde_norway::from_slice(&packed.stdout)?)
}

fn swap_digest(map: &ConfigMap) -> Result<String> {
    let annotations = map.metadata.annotations.as_ref();
    let digest = annotations.and_then(|a| a.get("oaat.kawaja.net/policy-sha256"));
    digest.cloned().context("policy pack named no sha256")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_config_map_is_one_plain_line() {
        assert_eq!(
            shipped(Path::new("my.wasm"), "3f2a"),
            "ConfigMap demo-policy has my.wasm (sha256 3f2a)"
        );
    }
}
