//! The cluster of the demo: a local control plane with an emulated node, or an existing cluster.

use anyhow::{Context, Result, bail};
use kube::api::{ApiResource, DynamicObject};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::{Api, Client, Config};
use oaat_tests::node::LogLine;
use oaat_tests::{ControlPlane, Node, NodeOptions, Options, operator};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::broadcast::Receiver;

/// The cluster of the demo.
pub enum Place {
    /// A local control plane and node, removed after the demo.
    Own {
        plane: Box<ControlPlane>,
        kubeconfig: PathBuf,
        node: Node,
    },
    /// An existing cluster of the user.
    Existing {
        context: String,
        config: Box<Config>,
        kubeconfig: PathBuf,
        _folder: TempDir,
    },
}

impl Place {
    /// Starts a local control plane and a node.
    pub async fn own() -> Result<Self> {
        println!(
            "starting etcd and kube-apiserver (without kube-controller-manager, so that the pods of \
             a deleted group remain) …"
        );
        let options = Options {
            controllers: false,
            progress: |line| println!("  {line}"),
            ..Options::default()
        };
        let (plane, kubeconfig) = operator::installed(options).await?;
        println!("  ready at {}", plane.api_server_url());
        println!(
            "starting a node (it runs each pod's command as a local process, and pulls no images)"
        );
        let node = Node::start(
            plane.admin(),
            NodeOptions {
                name: "demo-node".into(),
                ..NodeOptions::default()
            },
        )
        .await?;
        Ok(Self::Own {
            plane: Box::new(plane),
            kubeconfig,
            node,
        })
    }

    /// Uses the cluster of a context. Applies the CRDs and the operator's RBAC, but not its
    /// Deployment, because the demo runs the operator as a local process.
    pub async fn existing(context: &str) -> Result<Self> {
        let options = KubeConfigOptions {
            context: Some(context.to_owned()),
            ..KubeConfigOptions::default()
        };
        let user = Kubeconfig::read().context("failed to read the kubeconfig")?;
        let mut config = Config::from_custom_kubeconfig(user.clone(), &options)
            .await
            .with_context(|| format!("failed to use the kubeconfig context {context:?}"))?;
        config.default_retry = false;
        config.default_namespace = "default".into();
        let folder = tempfile::tempdir()?;
        let kubeconfig = folder.path().join("operator.kubeconfig");
        let place = Self::Existing {
            context: context.to_owned(),
            config: Box::new(config),
            kubeconfig: kubeconfig.clone(),
            _folder: folder,
        };
        print!(
            "{}",
            place
                .kubectl(&["apply", "-f", &operator::crds().to_string_lossy()], "")
                .await?
        );
        let manifest = std::fs::read_to_string(
            operator::root().join("manifests/02-oaat-operator-deployment.yaml"),
        )?;
        let rights: Vec<_> = manifest
            .split("\n---\n")
            .filter(|doc| !doc.contains("kind: Deployment"))
            .collect();
        print!(
            "{}",
            place
                .kubectl(&["apply", "-f", "-"], &rights.join("\n---\n"))
                .await?
        );
        let token = [
            "--namespace",
            "oaat-operator",
            "create",
            "token",
            "oaat-operator",
            "--duration",
            "24h",
        ];
        let token = place.kubectl(&token, "").await?.trim().to_owned();
        write_kubeconfig(&user, context, &token, &kubeconfig)?;
        Ok(place)
    }

    /// Returns a client with the permissions of the user.
    pub fn client(&self) -> Result<Client> {
        Ok(match self {
            Self::Own { plane, .. } => plane.admin(),
            Self::Existing { config, .. } => Client::try_from(config.as_ref().clone())?,
        })
    }

    /// The namespace of the quick start's objects.
    pub fn namespace(&self) -> &'static str {
        "default"
    }

    /// Returns the kubeconfig of the operator.
    pub fn operator_kubeconfig(&self) -> &Path {
        match self {
            Self::Own { kubeconfig, .. } | Self::Existing { kubeconfig, .. } => kubeconfig,
        }
    }

    /// Returns the output of the pods, if the node is local.
    pub fn lines(&self) -> Option<Receiver<LogLine>> {
        match self {
            Self::Own { node, .. } => Some(node.lines()),
            Self::Existing { .. } => None,
        }
    }

    /// Returns the commands that show the group.
    pub fn kubectl_commands(&self) -> String {
        match self {
            Self::Own { plane, .. } => format!(
                "export KUBECONFIG={}\n  {} get oaatgroup -w",
                plane.admin_kubeconfig().display(),
                plane.kubectl_program().display()
            ),
            Self::Existing { context, .. } => format!(
                "kubectl --context {context} get oaatgroup -w\n  kubectl --context {context} logs -f --prefix -l oaat.kawaja.net/group=testsimple-oaat"
            ),
        }
    }

    /// Applies YAML as the user would.
    pub async fn apply(&self, yaml: &str) -> Result<String> {
        match self {
            Self::Own { plane, .. } => plane.apply(yaml).await,
            Self::Existing { .. } => {
                self.kubectl(&["--namespace", self.namespace(), "apply", "-f", "-"], yaml)
                    .await
            }
        }
    }

    /// Returns an OaatGroup.
    pub async fn group(&self, name: &str) -> Result<Value> {
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("kawaja.net", "v1", "OaatGroup"));
        let api: Api<DynamicObject> = Api::namespaced_with(self.client()?, self.namespace(), &kind);
        Ok(serde_json::to_value(api.get(name).await?)?)
    }

    async fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String> {
        let Self::Existing { context, .. } = self else {
            bail!("--context requires an existing cluster");
        };
        let mut child = Command::new("kubectl")
            .args(["--context", context])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("failed to start kubectl; --context needs it on the PATH")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).await?;
        }
        let output = child.wait_with_output().await?;
        anyhow::ensure!(
            output.status.success(),
            "kubectl {} failed",
            arguments.join(" ")
        );
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// Writes a kubeconfig for the user's cluster with the operator's token.
fn write_kubeconfig(user: &Kubeconfig, context: &str, token: &str, file: &Path) -> Result<()> {
    let user = serde_json::to_value(user)?;
    let named = |list: &str, name: &Value| {
        let all = user[list].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|entry| &entry["name"] == name)
    };
    let found =
        named("contexts", &json!(context)).context("the kubeconfig no longer has the context")?;
    let cluster = named("clusters", &found["context"]["cluster"])
        .context("the cluster of the context is not in the kubeconfig")?;
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "operator",
        "clusters": [{ "name": "cluster", "cluster": cluster["cluster"] }],
        "users": [{ "name": "operator", "user": { "token": token } }],
        "contexts": [{ "name": "operator", "context": {
            "cluster": "cluster", "user": "operator", "namespace": "oaat-operator" } }],
    });
    std::fs::write(file, config.to_string())?;
    Ok(())
}
