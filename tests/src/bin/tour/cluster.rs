//! The control plane, the node, and the commands that a user runs.

use crate::eventually;
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use oaat_tests::real_node::RealNode;
use oaat_tests::{ControlPlane, Options, chart};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

/// The release, its namespace, and the name of its Deployment.
const RELEASE: &str = "oaat-operator";

/// The address of the Service `kubernetes`, the first one of the API server's range.
const SERVICE: &str = "10.0.0.1";

pub struct Cluster {
    pub plane: ControlPlane,
    /// A folder that containers mount.
    pub shared: PathBuf,
    home: PathBuf,
    _node: RealNode,
}

impl Cluster {
    /// Starts everything, and loads the operator's image into containerd.
    pub async fn start(folder: &Path, image: &Path) -> Result<Self> {
        let plane = ControlPlane::start(Options {
            node_lifecycle: true,
            deployments: true,
            // The name of the node cannot be resolved.
            api_server_flags: vec!["--kubelet-preferred-address-types=InternalIP".into()],
            progress: |line| println!("{line}"),
            ..Options::default()
        })
        .await?;
        let node = RealNode::start(&plane, folder).await?;
        node.import_image(image)?;
        forward_api_server(&plane).await?;
        let shared = node.shared_folder("backups")?;
        Ok(Self {
            plane,
            shared,
            home: folder.join("home"),
            _node: node,
        })
    }

    /// Installs the chart with two replicas and waits until both are ready.
    pub async fn install_chart(&self) -> Result<()> {
        let chart = chart::folder();
        let shown = "helm upgrade --install oaat-operator charts/oaat-operator -n oaat-operator \
                     --create-namespace --wait";
        println!("$ {shown}");
        let kubeconfig = self.plane.admin_kubeconfig().to_string_lossy().into_owned();
        let (home, chart) = (self.home.clone(), chart.to_string_lossy().into_owned());
        let installed = tokio::task::spawn_blocking(move || {
            let args = [
                "--kubeconfig",
                &kubeconfig,
                "upgrade",
                "--install",
                RELEASE,
                &chart,
                "--namespace",
                RELEASE,
                "--create-namespace",
                "--wait",
            ];
            chart::run(&chart::tools()?.helm, &home, &args)
        })
        .await?;
        if let Err(error) = installed {
            let pods = ["--namespace", RELEASE, "describe", "pods"];
            let pods = self.plane.kubectl(&pods).await.unwrap_or_default();
            return Err(error.context(pods));
        }
        Ok(())
    }

    /// Returns the addresses of the operator's metrics.
    pub async fn operator_addresses(&self) -> Result<Vec<String>> {
        let pods: Api<Pod> = Api::namespaced(self.plane.admin(), RELEASE);
        eventually("the addresses of the operator's pods", async || {
            let pods = pods.list(&ListParams::default()).await?.items;
            let addresses = pods.into_iter().map(|pod| pod.status?.pod_ip);
            let addresses: Option<Vec<_>> = addresses.collect();
            let addresses = addresses.filter(|addresses| !addresses.is_empty());
            Ok(addresses.map(|all| all.iter().map(|ip| format!("{ip}:8080")).collect()))
        })
        .await
    }

    /// Applies objects.
    pub async fn apply(&self, yaml: &str) -> Result<String> {
        println!("$ kubectl apply -f backup.yaml");
        let admin = self.plane.admin_kubeconfig();
        let args = ["apply", "-f", "-"];
        self.plane.kubectl_as(admin, &args, yaml).await
    }

    /// Returns the path of the plugin.
    pub fn plugin() -> Result<PathBuf> {
        let mut program = std::env::current_exe()?;
        program.set_file_name("kubectl-oaat");
        ensure!(program.is_file(), "{} is missing", program.display());
        Ok(program)
    }

    /// Runs a command of the plugin, and shows the command and its output.
    pub async fn oaat(&self, args: &[&str]) -> Result<String> {
        println!("\n$ kubectl oaat {}", args.join(" "));
        let output = Command::new(Self::plugin()?)
            .args(args)
            .env("KUBECONFIG", self.plane.admin_kubeconfig())
            .output()
            .await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        print!("{text}{errors}");
        ensure!(output.status.success(), "the command failed");
        Ok(text)
    }
}

/// Makes the API server available to pods at the address of its Service, as kube-proxy does on
/// other nodes.
async fn forward_api_server(plane: &ControlPlane) -> Result<()> {
    let address = format!("{SERVICE}/32");
    let added = Command::new("ip")
        .args(["address", "add", &address, "dev", "lo"])
        .status()
        .await
        .context("failed to start ip")?;
    ensure!(added.success(), "failed to add the address of the Service");
    let url = plane.api_server_url();
    let target = url.trim_start_matches("https://");
    let target: SocketAddr = target.parse().with_context(|| url.clone())?;
    let listener = TcpListener::bind((SERVICE, 443)).await?;
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut server = TcpStream::connect(target).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    Ok(())
}
