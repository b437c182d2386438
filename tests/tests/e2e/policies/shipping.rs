//! The commands in the guide and the reference that ship a policy, exactly as printed.

use super::{component, digest};
use crate::fixture::{Fixture, PATIENCE};
use anyhow::{Context, Result, bail};
use oaat_tests::{operator::root, readme::blocks};
use serde_json::{Value, json};
use std::process::Stdio;
use tokio::time::timeout;

/// Returns the console commands of a text, without their prompts.
fn commands(text: &str) -> Vec<String> {
    let blocks = blocks(text, "console").join("");
    let lines = blocks.lines().filter_map(|line| line.strip_prefix("$ "));
    lines.map(str::to_owned).collect()
}

/// Returns the only command that contains these words.
fn command(text: &str, words: &str) -> Result<String> {
    let mut found = commands(text).into_iter().filter(|c| c.contains(words));
    found
        .next()
        .with_context(|| format!("no command contains {words:?}"))
}

fn guide() -> Result<String> {
    Ok(std::fs::read_to_string(root().join("docs/policies.md"))?)
}

impl Fixture {
    /// Runs a command in a shell in the repository's folder, with this operator's binary and this
    /// cluster's kubectl.
    pub async fn type_in(&self, command: &str) -> Result<String> {
        let binary = self.options.binary.parent().context("no folder")?;
        // With the namespace in the kubeconfig, the plugin needs no flags.
        let kubeconfig = self
            .plane
            .folder()
            .join(format!("{}.kubeconfig", self.namespace));
        std::fs::copy(self.plane.admin_kubeconfig(), &kubeconfig)?;
        let kubectl = format!(
            "export KUBECONFIG='{}'
             kubectl() {{
               if [ \"$1\" = oaat ]; then shift; kubectl-oaat \"$@\"
               else '{}' --cache-dir '{}' \"$@\"; fi
             }}
             kubectl config set-context --current --namespace='{}' > /dev/null",
            kubeconfig.display(),
            self.plane.kubectl_program().display(),
            self.plane.folder().join("kubectl-cache").display(),
            self.namespace,
        );
        // Already built with the features of the whole workspace.
        let command = command.replace("cargo run -p kubectl-oaat --", "kubectl-oaat");
        let script = format!(
            "export PATH='{}':\"$PATH\"\n{kubectl}\n{command}",
            binary.display()
        );
        let output = tokio::process::Command::new("bash")
            .args(["-euo", "pipefail", "-c", &script])
            .current_dir(root())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = timeout(PATIENCE, output).await;
        let output = output.with_context(|| format!("{command}\ndid not end"))??;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        if !output.status.success() {
            bail!("{command}\nexited with {}:\n{text}", output.status);
        }
        Ok(text)
    }
}

#[tokio::test]
async fn guide_ships_a_policy_replays_a_decision_and_clears_its_state() -> Result<()> {
    let guide = guide()?;
    let mut fixture = Fixture::without_operator("guide-shipping").await?;
    fixture.options.more = ["--log-decisions", "full"].map(Into::into).to_vec();
    fixture.start_operator().await?;
    let wasm = component("policies/fair").await?;
    let file = fixture.plane.folder().join("guide-my_policy.wasm");
    std::fs::write(&file, &wasm)?;
    let file = file.display().to_string();
    let ship = command(&guide, "policy pack")?;
    assert!(ship.contains("kubectl apply --server-side"), "{ship}");
    let ship = ship.replace("../my-policy/target/my_policy.wasm", &file);
    fixture.type_in(&ship).await?;

    // The guide also contains the part for the group.
    let section = guide
        .split_once("\n## Shipping\n")
        .context("no Shipping")?
        .1;
    let spec = blocks(section, "yaml").into_iter().next();
    let spec: Value = serde_norway::from_str(&spec.context("no YAML")?)?;
    fixture.work("exit 0", json!({})).await?;
    fixture.group(&["a", "b"], spec["spec"].clone()).await?;
    let group = fixture.until_decided_by(&digest(&wasm)).await?;

    let request = group["status"]["lastDecision"]["request"].as_str();
    let replay = command(&guide, "policy replay")?
        .replace(
            "operator.log",
            &fixture.operator().log_file().display().to_string(),
        )
        .replace("my_policy.wasm", &file)
        .replace("3f2a…", request.context("no request")?);
    let said = fixture.type_in(&replay).await?;
    assert!(said.contains("1 agree, 0 differ"), "{said}");

    let state = |group: &Value| group["status"]["policyState"].clone();
    fixture
        .until("both have run, and the policy has a state", |group| {
            group["status"]["run"] == 2
                && group["status"]["current"].is_null()
                && state(group).is_string()
        })
        .await?;
    let clear = command(&guide, "policyState")?.replace(" NAME ", " group ");
    fixture.type_in(&clear).await?;
    fixture
        .until("the state is cleared", |group| state(group).is_null())
        .await?;
    Ok(())
}

#[tokio::test]
async fn reference_ships_the_policy_of_the_example() -> Result<()> {
    let reference = std::fs::read_to_string(root().join("docs/reference.md"))?;
    let fixture = Fixture::new("reference-policy").await?;
    for words in [
        "policy build policies/backoff",
        "policy pack policies/backoff",
    ] {
        fixture.type_in(&command(&reference, words)?).await?;
    }
    let example = root().join("manifests/examples/own-policy.yaml");
    let said = std::fs::read_to_string(&example)?;
    for words in [
        "policy build policies/backoff",
        "policy pack policies/backoff",
    ] {
        assert!(
            said.contains(words),
            "the example has another command: {words}"
        );
    }
    fixture
        .kubectl(&["apply", "-f", &example.display().to_string()])
        .await?;
    let wasm = std::fs::read(root().join("policies/backoff/target/policy_backoff.wasm"))?;
    let group = fixture
        .until_object(
            "OaatGroup",
            "fetch",
            "the policy of the example is in use",
            |group| group["status"]["lastDecision"]["digest"] == digest(&wasm),
        )
        .await?;
    assert_eq!(
        group["status"]["policy"]["source"],
        "ConfigMap backoff, key policy.wasm"
    );
    Ok(())
}
