//! The operator as a separate process, with the rights that manifests/02 gives it and no others,
//! under the guard of manifests/03.

use crate::process::{Signal, Supervised, tail};
use crate::{ControlPlane, Options};
use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde::Deserialize;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long the operator may take to come up. It takes milliseconds as a rule.
const PATIENCE: Duration = Duration::from_secs(60);

/// The operator's namespace and its service account, as shipped.
const NAME: &str = "oaat-operator";

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The CRDs, as shipped.
pub fn crds() -> PathBuf {
    root().join("manifests/01-oaat-operator-crd.yaml")
}

/// Returns the operator's binary, built if it is out of date. The environment variable
/// OAAT_OPERATOR_BINARY names another one.
///
/// # Errors
/// When it does not build; cargo's own messages are on stderr.
pub fn binary(release: bool) -> Result<PathBuf> {
    match std::env::var_os("OAAT_OPERATOR_BINARY") {
        Some(binary) => Ok(binary.into()),
        None => built("oaat-operator", release),
    }
}

/// Returns the binary of the command line, built if it is out of date.
///
/// # Errors
/// When it does not build; cargo's own messages are on stderr.
pub fn command_line() -> Result<PathBuf> {
    built("kubectl-oaat", false)
}

fn built(name: &str, release: bool) -> Result<PathBuf> {
    let mut command = ::control_plane::cargo();
    command
        .current_dir(root())
        // The whole workspace: with a part of it, dependencies would have other features
        // and be built again.
        .args(["build", "--quiet", "--workspace", "--bin", name])
        .args(["--message-format", "json-render-diagnostics"]);
    if release {
        command.arg("--release");
    }
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("cargo cannot be started")?;
    if !output.status.success() {
        bail!("{name} does not build; cargo's messages above say why");
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| Some(PathBuf::from(message["executable"].as_str()?)))
        .find(|path| path.ends_with(name))
        .with_context(|| format!("cargo built {name} and does not report where it is"))
}

/// Starts a control plane with the shipped CRDs, RBAC, and guard, and gives the kubeconfig of the
/// operator's service account.
///
/// # Errors
/// When the control plane does not come up or refuses the manifests.
pub async fn installed(mut options: Options) -> Result<(ControlPlane, PathBuf)> {
    options.manifests.push(crds());
    let plane = ControlPlane::start(options).await?;
    let kubeconfig = install(&plane).await?;
    Ok((plane, kubeconfig))
}

/// Applies manifests/02 and the guard, and gives the kubeconfig of the operator's service account.
///
/// # Errors
/// When the control plane refuses them.
pub async fn install(plane: &ControlPlane) -> Result<PathBuf> {
    apply(plane, "02-oaat-operator-deployment.yaml").await?;
    guard(plane, "default").await?;
    plane.kubeconfig_for_service_account(NAME, NAME).await
}

/// Applies one of the shipped manifests.
///
/// # Errors
/// When the control plane refuses it.
pub async fn apply(plane: &ControlPlane, manifest: &str) -> Result<()> {
    let file = root().join("manifests").join(manifest);
    plane
        .kubectl(&["apply", "-f", &file.to_string_lossy()])
        .await?;
    Ok(())
}

/// Applies manifests/03 and waits until the API server enforces it. The operator needs the right to
/// create pods in `namespace`.
///
/// # Errors
/// When the control plane refuses the manifest or does not enforce it.
pub async fn guard(plane: &ControlPlane, namespace: &str) -> Result<()> {
    apply(plane, "03-oaat-operator-guard.yaml").await?;
    let operator = plane.client_for_service_account(NAME, NAME).await?;
    let operator: Api<Pod> = Api::namespaced(operator, namespace);
    let admin: Api<Pod> = Api::namespaced(plane.admin(), namespace);
    // It has a gate, so it does not run even if it is created.
    let probe: Pod = serde_json::from_value(serde_json::json!({
        "metadata": { "name": "guard-probe" },
        "spec": {
            "containers": [{ "name": "main", "image": "any" }],
            "schedulingGates": [{ "name": "example.com/never" }],
        },
    }))?;
    let start = Instant::now();
    loop {
        let answer = operator.create(&PostParams::default(), &probe).await;
        match answer {
            Err(kube::Error::Api(status)) if status.message.contains("oaat-operator-guard") => {
                return Ok(());
            }
            _ if start.elapsed() > PATIENCE => {
                bail!("the guard is not enforced; the operator's pod was answered with {answer:?}");
            }
            Ok(_) => drop(
                admin
                    .delete("guard-probe", &DeleteParams::default())
                    .await?,
            ),
            // The API server may not know the operator's rights yet.
            Err(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Lets operators elect a leader in another namespace than the shipped one, by the same rights, so
/// that elections of several tests are no business of each other: POD_NAMESPACE says where.
///
/// # Errors
/// When the manifest or the API server does not agree.
pub async fn lease_in(plane: &ControlPlane, namespace: &str) -> Result<()> {
    let manifest = root().join("manifests/02-oaat-operator-deployment.yaml");
    for document in serde_norway::Deserializer::from_str(&fs::read_to_string(manifest)?) {
        let mut object = serde_json::Value::deserialize(document)?;
        if matches!(object["kind"].as_str(), Some("Role" | "RoleBinding")) {
            object["metadata"]["namespace"] = namespace.into();
            plane.apply(&object.to_string()).await?;
        }
    }
    Ok(())
}

/// The name of the operator's image, for nodes that run its binary for it.
pub const IMAGE: &str = "oaat-operator:test";

/// How an operator is started.
#[derive(Clone, Debug)]
pub struct OperatorOptions {
    /// Its binary.
    pub binary: PathBuf,
    /// Who it is.
    pub kubeconfig: PathBuf,
    /// Namespaces it watches; all when empty.
    pub namespaces: Vec<String>,
    /// Whether it takes part in the election.
    pub leader_elect: bool,
    /// The least time between two starts of an item.
    pub retry_floor: String,
    /// Where its log goes.
    pub log_dir: PathBuf,
    /// More arguments.
    pub more: Vec<String>,
}

/// A running operator; killed when dropped.
#[derive(Debug)]
pub struct Operator {
    process: Supervised,
    address: SocketAddr,
    log: PathBuf,
}

impl Operator {
    /// Starts one and waits until it serves its health endpoint (which it does before
    /// it acts).
    ///
    /// # Errors
    /// When it ends or does not answer; with the end of its log.
    pub async fn start(options: &OperatorOptions) -> Result<Self> {
        Self::start_as(options, &[]).await
    }

    /// The same, with more in its environment: what tells a pod who it is.
    ///
    /// # Errors
    /// As for [`Operator::start`].
    pub async fn start_as(options: &OperatorOptions, more: &[(&str, &str)]) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let log = options.log_dir.join(format!("operator-{number}.log"));
        let mut command = Command::new(&options.binary);
        command
            .arg("run")
            .args(["--listen", "127.0.0.1:0"])
            .args([
                "--leader-elect",
                if options.leader_elect {
                    "true"
                } else {
                    "false"
                },
            ])
            .args(["--retry-floor", &options.retry_floor])
            .args(&options.more)
            .env("KUBECONFIG", &options.kubeconfig)
            .env_remove("OAAT_NAMESPACES")
            .env("OAAT_IMAGE", IMAGE)
            .env("NO_COLOR", "1")
            .envs(more.iter().copied());
        if !options.namespaces.is_empty() {
            command.args(["--namespaces", &options.namespaces.join(",")]);
        }
        let process = Supervised::spawn(command, &log)?;
        let start = Instant::now();
        loop {
            if let Some(address) = address(&log) {
                return Ok(Self {
                    process,
                    address,
                    log,
                });
            }
            if !process.is_running() || start.elapsed() > PATIENCE {
                bail!("the operator did not start:\n{}", tail(&log, 30));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Where it serves health and metrics.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub fn process(&self) -> &Supervised {
        &self.process
    }

    /// All it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The file that it logs to.
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// The last lines of its log.
    pub fn last_log(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }

    /// SIGKILL, and waits for its end.
    pub async fn kill(self) -> ExitStatus {
        self.process.kill().await
    }

    /// SIGTERM, and waits for its end.
    pub async fn stop(self) -> ExitStatus {
        self.process.signal(Signal::Term);
        self.process.wait().await
    }

    /// Status code and body of one of its pages.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn page(&self, path: &str) -> Result<(u16, String)> {
        let mut stream = TcpStream::connect(self.address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
        let body = answer
            .split_once("\r\n\r\n")
            .map(|(_, body)| body.to_owned());
        Ok((code.context("no HTTP answer")?, body.unwrap_or_default()))
    }

    /// The sum of all samples of a metric whose labels contain all of `labels`.
    ///
    /// # Errors
    /// When the operator does not answer.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> Result<f64> {
        let (_, text) = self.page("/metrics").await?;
        Ok(text
            .lines()
            .filter(|line| line.starts_with(name) && labels.iter().all(|l| line.contains(l)))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum())
    }
}

/// The address in the log, once it is there.
fn address(log: &Path) -> Option<SocketAddr> {
    let text = fs::read_to_string(log).ok()?;
    let line = text
        .lines()
        .find(|line| line.contains("serving health and metrics"))?;
    let (_, rest) = line.split_once("address=")?;
    rest.split_whitespace().next()?.parse().ok()
}
