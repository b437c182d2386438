//! A control plane of real programs, started for a test and gone with it.

mod credentials;
mod kubectl;
mod servers;
mod start;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use tempfile::TempDir;

use crate::process::Supervised;
use servers::Servers;

/// How long anything of the control plane may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// What may differ from one control plane to the next.
#[derive(Clone, Debug)]
pub struct Options {
    /// Manifests that are applied before the controller manager starts.
    ///
    /// CRDs belong here. The garbage collector learns of resources that are
    /// added later as well, but looks for them only every 30 seconds.
    pub manifests: Vec<PathBuf>,
    /// Whether kube-controller-manager runs. Without it, the namespace `default` gets its service
    /// account from [`ControlPlane::start`], pods cannot be created in other namespaces, and
    /// nothing is garbage collected.
    pub controllers: bool,
    /// Whether the controllers for nodes run as well: they taint a node that does not
    /// answer, and in the end delete its pods. A node that is played sends no heartbeats.
    pub node_lifecycle: bool,
    /// Further flags for the API server.
    pub api_server_flags: Vec<String>,
    /// Receives a line for each step when the programs have to be built first.
    pub progress: fn(&str),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            manifests: Vec::new(),
            controllers: true,
            node_lifecycle: false,
            api_server_flags: Vec::new(),
            progress: |line| eprintln!("control plane: {line}"),
        }
    }
}

/// etcd, API server and controller manager, each a real one.
///
/// Dropping it kills them and removes their folder; if the process ends without
/// dropping it, that happens all the same. It may be kept in a `static` and be
/// used from several async runtimes, as the tests of one binary do.
pub struct ControlPlane {
    // In this order: programs are killed before their folder goes.
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
    /// Where the API server listens.
    pub fn api_server_url(&self) -> String {
        self.servers.api_url()
    }

    /// The folder with everything the control plane writes, logs included.
    pub fn folder(&self) -> &Path {
        &self.servers.folder
    }

    /// A kubeconfig for someone who may do anything (group `system:masters`).
    pub fn admin_kubeconfig(&self) -> &Path {
        &self.servers.admin_kubeconfig
    }

    /// A client who may do anything, and who never repeats a request by itself.
    ///
    /// It is a new one each time, because a client is tied to the async runtime
    /// that it was made in, and every test has its own.
    pub fn admin(&self) -> Client {
        Client::try_from(self.admin.clone()).expect("the same configuration has worked before")
    }

    /// A client with the rights of a service account, by a token of its own.
    ///
    /// # Errors
    /// If there is no such service account.
    pub async fn client_for_service_account(&self, namespace: &str, name: &str) -> Result<Client> {
        let file = self.kubeconfig_for_service_account(namespace, name).await?;
        Ok(Client::try_from(load(&file).await?)?)
    }

    /// Writes a kubeconfig with a token of a service account, good for a day.
    /// Its default namespace is that of the account.
    ///
    /// # Errors
    /// If there is no such service account.
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
            .with_context(|| format!("no token for service account {namespace}/{name}"))?;
        let token = answer.status.context("the API server sent no token")?.token;
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

    /// Creates a namespace and waits until pods can be created in it, that is
    /// until its default service account exists.
    ///
    /// # Errors
    /// If the namespace exists, or the service account does not come.
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

    /// The port of etcd, which speaks HTTP without TLS, with JSON below `/v3/`.
    pub fn etcd_port(&self) -> u16 {
        self.servers.etcd_port
    }

    /// Kills the API server, as a crash would. etcd keeps the data.
    pub async fn stop_api_server(&self) {
        stop(&self.api_server).await;
    }

    /// Starts the API server again, on the same port, and waits until it is ready.
    ///
    /// # Errors
    /// If it does not become ready.
    pub async fn start_api_server(&self) -> Result<()> {
        let server = self.servers.api_server()?;
        let ready = start::api_server_ready(&self.servers, &self.admin(), &server).await;
        *lock(&self.api_server) = Some(server);
        ready
    }

    /// Kills the API server and starts it again.
    ///
    /// # Errors
    /// If it does not become ready again.
    pub async fn restart_api_server(&self) -> Result<()> {
        self.stop_api_server().await;
        self.start_api_server().await
    }

    /// Kills etcd, as a crash would, and starts it again on its data. Until it answers, the API
    /// server answers with errors; this waits until that is over.
    ///
    /// # Errors
    /// If they do not become ready again.
    pub async fn restart_etcd(&self) -> Result<()> {
        stop(&self.etcd).await;
        *lock(&self.etcd) = Some(self.servers.etcd()?);
        start::answers(&self.admin()).await
    }

    /// Kills the controller manager: no garbage collection until it is back.
    pub async fn stop_controllers(&self) {
        stop(&self.controller_manager).await;
    }

    /// Starts the controller manager. It looks around by itself, so this does
    /// not wait for anything.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_controllers(&self) -> Result<()> {
        *lock(&self.controller_manager) = Some(self.servers.controller_manager()?);
        Ok(())
    }
}

async fn stop(server: &Mutex<Option<Supervised>>) {
    // A statement of its own: the lock must not be held across the wait.
    let running = lock(server).take();
    if let Some(running) = running {
        running.kill().await;
    }
}

fn lock(server: &Mutex<Option<Supervised>>) -> MutexGuard<'_, Option<Supervised>> {
    server.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A client configuration from a kubeconfig, without retries.
async fn load(kubeconfig: &Path) -> Result<Config> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let mut config =
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    // A test must see every error, and a fault test must see each only once.
    config.default_retry = false;
    Ok(config)
}

/// Repeats a look until it finds something; the condition is cheap and local.
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
            bail!("{what}: nothing within {} s", PATIENCE.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
