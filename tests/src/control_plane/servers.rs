//! The command lines of the three servers.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use control_plane::Tools;

use super::Options;
use super::credentials::Credentials;
use crate::process::Supervised;

/// The configuration that all three servers share.
pub(super) struct Servers {
    pub(super) tools: Tools,
    pub(super) folder: PathBuf,
    pub(super) credentials: Credentials,
    pub(super) admin_kubeconfig: PathBuf,
    pub(super) etcd_port: u16,
    etcd_peer_port: u16,
    pub(super) api_port: u16,
    api_server_flags: Vec<String>,
    node_lifecycle: bool,
    deployments: bool,
}

/// The controllers that a working namespace requires, and the garbage collector.
///
/// The tests do not use the other controllers. Most have no Deployments, and manage nodes and
/// finished pods themselves.
const CONTROLLERS: &str = "garbage-collector-controller,namespace-controller,\
    serviceaccount-controller,root-ca-certificate-publisher-controller,\
    resourcequota-controller,clusterrole-aggregation-controller";

/// The controllers for nodes, and for pods on lost nodes.
const NODE_CONTROLLERS: &str =
    ",node-lifecycle-controller,taint-eviction-controller,pod-garbage-collector-controller";

/// The controllers that create the pods of Deployments.
const DEPLOYMENT_CONTROLLERS: &str = ",deployment-controller,replicaset-controller";

impl Servers {
    pub(super) fn prepare(tools: Tools, folder: &Path, options: &Options) -> Result<Self> {
        let credentials = Credentials::create(folder)?;
        let [etcd_port, etcd_peer_port, api_port] = free_ports()?;
        let servers = Self {
            tools,
            folder: folder.to_owned(),
            admin_kubeconfig: folder.join("admin.kubeconfig"),
            credentials,
            etcd_port,
            etcd_peer_port,
            api_port,
            api_server_flags: options.api_server_flags.clone(),
            node_lifecycle: options.node_lifecycle,
            deployments: options.deployments,
        };
        servers.credentials.write_kubeconfig(
            &servers.admin_kubeconfig,
            &servers.api_url(),
            "admin",
            &servers.credentials.admin_token,
            "default",
        )?;
        Ok(servers)
    }

    pub(super) fn api_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.api_port)
    }

    pub(super) fn log(&self, server: &str) -> PathBuf {
        self.folder.join(format!("{server}.log"))
    }

    pub(super) fn etcd(&self) -> Result<Supervised> {
        let client = format!("http://127.0.0.1:{}", self.etcd_port);
        let peer = format!("http://127.0.0.1:{}", self.etcd_peer_port);
        let mut command = Command::new(&self.tools.etcd);
        command
            .arg(format!("--data-dir={}", self.folder.join("etcd").display()))
            .arg(format!("--listen-client-urls={client}"))
            .arg(format!("--advertise-client-urls={client}"))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .arg(format!("--initial-cluster=default={peer}"))
            // The data is discarded after the test, so it need not be synced to disk.
            .arg("--unsafe-no-fsync")
            .arg("--log-level=warn");
        Supervised::spawn(command, &self.log("etcd"))
    }

    pub(super) fn api_server(&self) -> Result<Supervised> {
        let credentials = &self.credentials;
        let mut command = Command::new(&self.tools.kube_apiserver);
        command
            .arg(format!(
                "--etcd-servers=http://127.0.0.1:{}",
                self.etcd_port
            ))
            .args(["--bind-address=127.0.0.1", "--profiling=false"])
            .arg(format!("--secure-port={}", self.api_port))
            .arg(flag("--cert-dir", &self.folder))
            .arg(flag("--tls-cert-file", &credentials.server_certificate))
            .arg(flag("--tls-private-key-file", &credentials.server_key))
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg(flag(
                "--service-account-key-file",
                &credentials.service_account_public_key,
            ))
            .arg(flag(
                "--service-account-signing-key-file",
                &credentials.service_account_key,
            ))
            .arg("--service-cluster-ip-range=10.0.0.0/24")
            .arg("--authorization-mode=RBAC")
            .arg(flag("--token-auth-file", &credentials.tokens))
            .args(&self.api_server_flags);
        Supervised::spawn(command, &self.log("kube-apiserver"))
    }

    pub(super) fn controller_manager(&self) -> Result<Supervised> {
        let mut controllers = CONTROLLERS.to_owned();
        let program = self.tools.kube_controller_manager.as_ref();
        let mut command = Command::new(program.context("kube-controller-manager is missing")?);
        if self.node_lifecycle {
            controllers.push_str(NODE_CONTROLLERS);
            // With the defaults, a test of a lost node would take several minutes.
            command.args([
                "--node-monitor-period=1s",
                "--node-monitor-grace-period=20s",
            ]);
        }
        if self.deployments {
            controllers.push_str(DEPLOYMENT_CONTROLLERS);
        }
        command
            .arg(flag("--kubeconfig", &self.admin_kubeconfig))
            .arg(flag("--root-ca-file", &self.credentials.ca))
            .arg(format!("--controllers={controllers}"))
            // No test sends it requests, and there is only one replica.
            .args(["--secure-port=0", "--leader-elect=false"])
            // Tests create and delete many objects within seconds.
            .args(["--kube-api-qps=500", "--kube-api-burst=1000"]);
        Supervised::spawn(command, &self.log("kube-controller-manager"))
    }
}

fn flag(name: &str, file: &Path) -> String {
    format!("{name}={}", file.display())
}

/// Returns distinct free ports. Another process may take one before it is used, so the caller has
/// to retry.
fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut held = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("failed to find a free port")?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}
