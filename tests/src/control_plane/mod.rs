//! A control plane of real programs, which is started for a test and removed after it.

mod credentials;
mod kubectl;
mod servers;
mod start;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use tempfile::TempDir;

use crate::process::{Supervised, lock, stop};
use servers::Servers;

/// The timeout for each operation of the control plane.
const PATIENCE: Duration = Duration::from_secs(180);

/// The options of a control plane.
#[derive(Clone, Debug)]
pub struct Options {
    /// Manifests that are applied before the controller manager starts.
    ///
    /// Put CRDs here. The garbage collector also discovers resources that are added later, but only
    /// every 30 seconds.
    pub manifests: Vec<PathBuf>,
    /// Whether kube-controller-manager runs. Without it, the namespace `default` gets its service
    /// account from [`ControlPlane::start`], pods cannot be created in other namespaces, and
    /// nothing is garbage collected.
    pub controllers: bool,
    /// Whether the node controllers run. They taint a node that does not respond, and eventually
    /// delete its pods. An emulated node sends no heartbeats.
    pub node_lifecycle: bool,
    /// Whether the controllers of Deployments run.
    pub deployments: bool,
    /// Further flags for the API server.
    pub api_server_flags: Vec<String>,
    /// Receives a line for each step of the build if programs are missing.
    pub progress: fn(&str),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            manifests: Vec::new(),
            controllers: true,
            node_lifecycle: false,
            deployments: false,
            api_server_flags: Vec::new(),
            progress: |line| eprintln!("control plane: {line}"),
        }
    }
}

/// A real etcd, API server, and controller manager.
///
/// Dropping it kills the servers and removes their folder. This also happens if the process ends
/// without dropping it. It can be stored in a `static` and used from several async runtimes, as in
/// the tests of one binary.
pub struct ControlPlane {
    // In this order, so that the programs are killed before their folder is removed.
    controller_manager: Mutex<Option<Supervised>>,
    api_server: Mutex<Option<Supervised>>,
    etcd: Mutex<Option<Supervised>>,
    servers: Servers,
    admin: Config,
    _folder: TempDir,
}

impl fmt::Debug for ControlPlane {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ControlPlane")
            .field("url", &self.api_server_url())
            .finish_non_exhaustive()
    }
}

impl ControlPlane {
    /// Returns the URL of the API server.
    pub fn api_server_url(&self) -> String {
        self.servers.api_url()
    }

    /// Returns the folder with all files of the control plane, including logs.
    pub fn folder(&self) -> &Path {
        &self.servers.folder
    }

    /// Returns the path of a kubeconfig with full access (group `system:masters`).
    pub fn admin_kubeconfig(&self) -> &Path {
        &self.servers.admin_kubeconfig
    }

    /// Returns a new client with full access that never retries a request.
    ///
    /// Clients are not shared, because a client belongs to the async runtime that created it, and
    /// every test has a separate runtime.
    pub fn admin(&self) -> Client {
        Client::try_from(self.admin.clone()).expect("the configuration is valid")
    }

    /// Returns a client with a new token of a service account.
    ///
    /// # Errors
    /// Returns an error if the service account does not exist.
    pub async fn client_for_service_account(&self, namespace: &str, name: &str) -> Result<Client> {
        let file = self.kubeconfig_for_service_account(namespace, name).await?;
        Ok(Client::try_from(load(&file).await?)?)
    }

    /// Writes a kubeconfig with a token of a service account, which is valid for a day. Its default
    /// namespace is that of the service account.
    ///
    /// # Errors
    /// Returns an error if the service account does not exist.
    pub async fn kubeconfig_for_service_account(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<PathBuf> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin(), namespace);
        let request = TokenRequest {
            spec: TokenRequestSpec {
                expiration_seconds: Some(24 * 60 * 60),
                ..Default::default()
            },
            ..Default::default()
        };
        let answer: TokenRequest = accounts
            .create_subresource("token", name, &PostParams::default(), &request)
            .await
            .with_context(|| {
                format!("failed to create a token for service account {namespace}/{name}")
            })?;
        let token = answer.status.context("the response has no token")?.token;
        let file = self.folder().join(format!("{namespace}-{name}.kubeconfig"));
        self.servers.credentials.write_kubeconfig(
            &file,
            &self.api_server_url(),
            name,
            &token,
            namespace,
        )?;
        Ok(file)
    }

    /// Creates a namespace and waits until its default service account exists, so that pods can be
    /// created.
    ///
    /// # Errors
    /// Returns an error if the namespace already exists, or if the service account is not created.
    pub async fn namespace(&self, name: &str) -> Result<()> {
        let client = self.admin();
        let namespace = Namespace {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..Default::default()
            },
            ..Default::default()
        };
        Api::<Namespace>::all(client.clone())
            .create(&PostParams::default(), &namespace)
            .await
            .with_context(|| format!("cannot create namespace {name}"))?;
        start::default_service_account(&client, name).await
    }

    /// Returns the port of etcd, which serves HTTP without TLS, with a JSON API under `/v3/`.
    pub fn etcd_port(&self) -> u16 {
        self.servers.etcd_port
    }

    /// Kills the API server, like a crash. etcd keeps the data.
    pub async fn stop_api_server(&self) {
        stop(&self.api_server).await;
    }

    /// Starts the API server again, on the same port, and waits until it is ready.
    ///
    /// # Errors
    /// Returns an error if it does not become ready.
    pub async fn start_api_server(&self) -> Result<()> {
        let server = self.servers.api_server()?;
        let ready = start::api_server_ready(&self.servers, &self.admin(), &server).await;
        *lock(&self.api_server) = Some(server);
        ready
    }

    /// Kills the API server and starts it again.
    ///
    /// # Errors
    /// Returns an error if it does not become ready again.
    pub async fn restart_api_server(&self) -> Result<()> {
        self.stop_api_server().await;
        self.start_api_server().await
    }

    /// Kills etcd, like a crash, and starts it again with its data. Waits until the API server no
    /// longer returns errors.
    ///
    /// # Errors
    /// Returns an error if they do not become ready again.
    pub async fn restart_etcd(&self) -> Result<()> {
        stop(&self.etcd).await;
        *lock(&self.etcd) = Some(self.servers.etcd()?);
        start::answers(&self.admin()).await
    }

    /// Kills the controller manager. Nothing is garbage collected until it is started again.
    pub async fn stop_controllers(&self) {
        stop(&self.controller_manager).await;
    }

    /// Starts the controller manager, and does not wait until it is ready.
    ///
    /// # Errors
    /// Returns an error if it cannot be started.
    pub fn start_controllers(&self) -> Result<()> {
        *lock(&self.controller_manager) = Some(self.servers.controller_manager()?);
        Ok(())
    }
}

/// Returns a client configuration from a kubeconfig, without retries.
async fn load(kubeconfig: &Path) -> Result<Config> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let mut config =
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    // A retry would hide errors from tests.
    config.default_retry = false;
    Ok(config)
}

/// Repeats a cheap check until it returns a value.
async fn eventually<T, F: Future<Output = Result<Option<T>>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if start.elapsed() > PATIENCE {
            bail!("{what} is not ready after {} s", PATIENCE.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
