//! Starts the servers in order, and waits until each is ready.

use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context, Result, bail};
use control_plane::ControllerManager;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::servers::Servers;
use super::{ControlPlane, Options, eventually, load};
use crate::process::{Supervised, ended_early};
use crate::watchdog;

/// The maximum number of attempts, because another process may take a free port first.
const ATTEMPTS: u32 = 3;

impl ControlPlane {
    /// Starts a control plane and waits until pods can be created in the namespace `default`.
    /// Builds the programs if they are missing.
    ///
    /// # Errors
    /// Returns an error if a program cannot be found or built, or if it does not start. The error
    /// contains the end of its log.
    pub async fn start(options: Options) -> Result<Self> {
        let progress = options.progress;
        // The build may take minutes and would block the runtime.
        let controller_manager = if options.controllers {
            ControllerManager::Required
        } else {
            ControllerManager::NotRequired
        };
        let tools = tokio::task::spawn_blocking(move || {
            control_plane::ensure(controller_manager, &|line| progress(line))
        })
        .await??;
        let mut attempt = 1;
        loop {
            let folder = folder()?;
            let servers = Servers::prepare(tools.clone(), folder.path(), &options)?;
            match run(servers, folder, &options).await {
                Err(error)
                    if attempt < ATTEMPTS
                        && format!("{error:#}").contains("address already in use") =>
                {
                    attempt += 1;
                }
                done => return done,
            }
        }
    }
}

async fn run(servers: Servers, folder: TempDir, options: &Options) -> Result<ControlPlane> {
    let etcd = servers.etcd()?;
    eventually("etcd", async || {
        running(&etcd, "etcd", &servers)?;
        let port = ("127.0.0.1", servers.etcd_port);
        Ok(TcpStream::connect(port).await.ok())
    })
    .await?;

    let api_server = servers.api_server()?;
    let admin = load(&servers.admin_kubeconfig).await?;
    let client = Client::try_from(admin.clone())?;
    api_server_ready(&servers, &client, &api_server).await?;

    let plane = ControlPlane {
        controller_manager: Mutex::new(None),
        api_server: Mutex::new(Some(api_server)),
        etcd: Mutex::new(Some(etcd)),
        servers,
        admin,
        _folder: folder,
    };
    for manifest in &options.manifests {
        plane
            .kubectl(&["apply", "-f", &manifest.to_string_lossy()])
            .await?;
    }
    if !options.manifests.is_empty() {
        // The garbage collector must discover them at its start.
        crds_established(&client).await?;
    }
    if options.controllers {
        plane.start_controllers()?;
        default_service_account(&client, "default").await?;
    } else {
        let accounts: Api<ServiceAccount> = Api::namespaced(client, "default");
        let mut account = ServiceAccount::default();
        account.metadata.name = Some("default".into());
        accounts.create(&PostParams::default(), &account).await?;
    }
    Ok(plane)
}

/// Waits until every CRD is served. (`kubectl wait` fails for a CRD without conditions.)
async fn crds_established(client: &Client) -> Result<()> {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    eventually("CRDs", async || {
        let crds = crds.list(&ListParams::default()).await?;
        let established = crds.iter().all(|crd| {
            let conditions = crd
                .status
                .iter()
                .flat_map(|s| s.conditions.iter().flatten());
            conditions
                .into_iter()
                .any(|c| c.type_ == "Established" && c.status == "True")
        });
        Ok(established.then_some(()))
    })
    .await
}

/// Waits until the API server can read from etcd.
pub(super) async fn answers(client: &Client) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    eventually("etcd", async || Ok(namespaces.get("default").await.ok())).await?;
    Ok(())
}

/// Waits until the API server reports that it is ready.
pub(super) async fn api_server_ready(
    servers: &Servers,
    client: &Client,
    server: &Supervised,
) -> Result<()> {
    eventually("kube-apiserver", async || {
        running(server, "kube-apiserver", servers)?;
        let ask = http::Request::get("/readyz").body(Vec::new())?;
        // Before it is ready, the server refuses connections or responds with 500.
        Ok(client.request_text(ask).await.ok())
    })
    .await
    .map(drop)
}

/// Waits for the service account that the API server requires before it admits pods.
pub(super) async fn default_service_account(client: &Client, namespace: &str) -> Result<()> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    eventually("the default service account", async || {
        Ok(accounts.get_opt("default").await?)
    })
    .await
    .with_context(|| format!("namespace {namespace}"))
    .map(drop)
}

fn running(server: &Supervised, name: &str, servers: &Servers) -> Result<()> {
    match server.exit_status() {
        None => Ok(()),
        Some(status) => bail!(ended_early(name, status, &servers.log(name))),
    }
}

/// Creates the folder, in memory if possible, because this makes etcd faster.
fn folder() -> Result<TempDir> {
    let memory = Path::new("/dev/shm");
    let mut builder = tempfile::Builder::new();
    builder.prefix("control-plane-");
    let folder = match memory.is_dir() {
        true => builder.tempdir_in(memory).or_else(|_| builder.tempdir()),
        false => builder.tempdir(),
    }
    .context("cannot create a temporary folder")?;
    watchdog::folder(folder.path()).context("cannot start the watchdog")?;
    Ok(folder)
}
