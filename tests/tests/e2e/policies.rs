//! Policies in ConfigMaps: how they are loaded and replaced, and what happens if they are invalid.

mod built_in;
mod first_policy;
mod kept;
mod problems;
mod replay;
mod serving;
mod shadow;
mod shipping;

use crate::fixture::{Fixture, condition};
use anyhow::Result;
use built_in_policies::DEFAULT_POLICY;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams};
use oaat_tests::operator;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Returns the documented algorithm under another digest. A custom section changes nothing else.
fn variant(name: &str) -> Vec<u8> {
    let mut wasm = DEFAULT_POLICY.to_vec();
    let name = name.as_bytes();
    let length = u8::try_from(name.len()).expect("a short name");
    wasm.extend([0, length + 1, length]);
    wasm.extend(name);
    wasm
}

/// Returns the target folder for policies.
fn built() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let target = test
        .ancestors()
        .nth(3)
        .map(|folder| folder.join("policies"));
    Ok(target.unwrap_or_default())
}

/// Builds the policy of a crate in this repository.
async fn component(krate: &str) -> Result<Vec<u8>> {
    let (folder, built) = (operator::root().join(krate), built()?);
    let build = move || policy_build::build(&folder, &built);
    Ok(tokio::task::spawn_blocking(build).await??)
}

/// Returns the digest as the operator shows it.
fn digest(wasm: &[u8]) -> String {
    let bytes = Sha256::digest(wasm);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Fixture {
    /// Writes a policy to the ConfigMap `mine`.
    async fn policy(&self, wasm: &[u8]) -> Result<()> {
        self.config_map("mine", "policy.wasm", wasm).await
    }

    /// Writes a component to the only key of a ConfigMap.
    pub async fn config_map(&self, name: &str, key: &str, wasm: &[u8]) -> Result<()> {
        let map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.into()),
                ..ObjectMeta::default()
            },
            binary_data: Some(BTreeMap::from([(key.into(), ByteString(wasm.to_vec()))])),
            ..ConfigMap::default()
        };
        let params = PatchParams::apply("test").force();
        self.maps()
            .patch(name, &params, &Patch::Apply(&map))
            .await?;
        Ok(())
    }

    fn maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Waits until the condition `PolicyReady` has this status and reason, and returns its message.
    async fn until_policy(&self, status: &str, reason: &str) -> Result<String> {
        let group = self
            .until(&format!("PolicyReady is {status}, {reason}"), |group| {
                let (s, r, _) = condition(group, "PolicyReady");
                (s.as_str(), r.as_str()) == (status, reason)
            })
            .await?;
        Ok(condition(&group, "PolicyReady").2)
    }

    /// Waits until the policy with this digest has decided a run.
    async fn until_decided_by(&self, digest: &str) -> Result<Value> {
        self.until(&format!("a run is decided by {digest}"), |group| {
            group["status"]["lastDecision"]["digest"] == digest
        })
        .await
    }
}

/// Creates a fixture whose items succeed at once and are always due.
async fn busy(name: &str, policy: Value) -> Result<Fixture> {
    let fixture = Fixture::new(name).await?;
    fixture.work("exit 0", json!({})).await?;
    let spec = json!({ "frequency": "100ms", "policy": policy });
    fixture.group(&["a", "b"], spec).await?;
    Ok(fixture)
}

fn merged(mut one: Value, other: Value) -> Value {
    for (key, value) in other.as_object().into_iter().flatten() {
        one[key] = value.clone();
    }
    one
}
