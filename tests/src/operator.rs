//! The operator as a separate process, with the rights that manifests/02 gives it and no others,
//! under the guard of manifests/03.

use crate::process::{Signal, Supervised, tail};
use crate::{ControlPlane, Options};
use anyhow::{Context, Result, bail};
use flate2::read::GzDecoder;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde::Deserialize;
use std::fs;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The timeout for the operator's start, which usually takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(180);

/// The operator's namespace and service account in manifests/02.
const NAME: &str = "oaat-operator";

/// Returns the root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the path of the CRDs.
pub fn crds() -> PathBuf {
    root().join("manifests/01-oaat-operator-crd.yaml")
}

/// Returns the operator's binary, built if it is out of date. The environment variable
/// OAAT_OPERATOR_BINARY names another one.
///
/// # Errors
/// Returns an error if it does not build; cargo's own messages are on stderr.
pub fn binary(release: bool) -> Result<PathBuf> {
    match std::env::var_os("OAAT_OPERATOR_BINARY") {
        Some(binary) => Ok(binary.into()),
        None => built("oaat-operator", release),
    }
}

/// Returns the binary of the command line, built if it is out of date.
///
/// # Errors
/// Returns an error if it does not build; cargo's own messages are on stderr.
pub fn command_line() -> Result<PathBuf> {
    built("kubectl-oaat", false)
}

/// Returns a release build of the command line, built if it is out of date.
///
/// # Errors
/// Returns an error if it does not build; cargo's own messages are on stderr.
pub fn released_command_line() -> Result<PathBuf> {
    built("kubectl-oaat", true)
}

/// Returns the binary of `cargo xtask`, built if it is out of date.
///
/// # Errors
/// Returns an error if it does not build; cargo's own messages are on stderr.
pub fn xtask() -> Result<PathBuf> {
    built("xtask", false)
}

fn built(name: &str, release: bool) -> Result<PathBuf> {
    let mut command = ::control_plane::cargo();
    command
        .current_dir(root())
        // The whole workspace, so that dependencies have the same features and are not built again.
        .args(["build", "--quiet", "--workspace", "--bin", name])
        .args(["--message-format", "json-render-diagnostics"]);
    if release {
        command.arg("--release");
    }
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("failed to start cargo")?;
    if !output.status.success() {
        bail!("failed to build {name}; see the cargo output above");
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| Some(PathBuf::from(message["executable"].as_str()?)))
        .find(|path| path.ends_with(name))
        .with_context(|| format!("cargo did not print the path of {name}"))
}

/// Starts a control plane with the CRDs, RBAC, and guard of manifests/. Returns the kubeconfig of
/// the operator's service account.
///
/// # Errors
/// Returns an error if the control plane does not start or rejects the manifests.
pub async fn installed(mut options: Options) -> Result<(ControlPlane, PathBuf)> {
    options.manifests.push(crds());
    let plane = ControlPlane::start(options).await?;
    let kubeconfig = install(&plane).await?;
    Ok((plane, kubeconfig))
}

/// Applies manifests/02 and the guard. Returns the kubeconfig of the operator's service account.
///
/// # Errors
/// Returns an error if the control plane rejects them.
pub async fn install(plane: &ControlPlane) -> Result<PathBuf> {
    apply(plane, "02-oaat-operator-deployment.yaml").await?;
    guard(plane, "default").await?;
    plane.kubeconfig_for_service_account(NAME, NAME).await
}

/// Applies one of the manifests.
///
/// # Errors
/// Returns an error if the control plane rejects it.
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
/// Returns an error if the control plane rejects the manifest or does not enforce it.
pub async fn guard(plane: &ControlPlane, namespace: &str) -> Result<()> {
    apply(plane, "03-oaat-operator-guard.yaml").await?;
    guard_enforced(plane, namespace).await
}

/// Waits until the API server enforces the guard. The operator needs the right to create pods in
/// `namespace`.
///
/// # Errors
/// Returns an error if the API server does not enforce it.
pub async fn guard_enforced(plane: &ControlPlane, namespace: &str) -> Result<()> {
    let operator = plane.client_for_service_account(NAME, NAME).await?;
    let operator: Api<Pod> = Api::namespaced(operator, namespace);
    let admin: Api<Pod> = Api::namespaced(plane.admin(), namespace);
    // The pod has a gate, so it does not run even if it is created.
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
            // The API server may not have the operator's RBAC yet.
            Err(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Grants the operator the Lease permissions of manifests/02 in another namespace, so that
/// elections of several tests are independent. POD_NAMESPACE selects the namespace.
///
/// # Errors
/// Returns an error if the manifest has no such Role, or if the API server rejects it.
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

/// The name of the operator's image. An emulated node runs the operator's binary instead of it.
pub const IMAGE: &str = "oaat-operator:test";

/// The options of an operator.
#[derive(Clone, Debug)]
pub struct OperatorOptions {
    /// The path of the binary.
    pub binary: PathBuf,
    /// The kubeconfig of the operator.
    pub kubeconfig: PathBuf,
    /// The namespaces that it watches; all if empty.
    pub namespaces: Vec<String>,
    /// Whether it takes part in leader election.
    pub leader_elect: bool,
    /// The minimum time between two starts of an item.
    pub retry_floor: String,
    /// The directory of its log.
    pub log_dir: PathBuf,
    /// Further arguments.
    pub more: Vec<String>,
}

/// A running operator. Dropping it kills the process.
#[derive(Debug)]
pub struct Operator {
    process: Supervised,
    address: SocketAddr,
    log: PathBuf,
}

impl Operator {
    /// Starts an operator and waits until it serves its health endpoint, which it does before any
    /// other action.
    ///
    /// # Errors
    /// Returns an error if it exits or does not respond. The error contains the end of its log.
    pub async fn start(options: &OperatorOptions) -> Result<Self> {
        Self::start_as(options, &[]).await
    }

    /// Starts an operator with further environment variables, such as the pod's name and uid.
    ///
    /// # Errors
    /// Returns an error under the conditions of [`Operator::start`].
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
            .env_remove("OAAT_GROUP_SELECTOR")
            .env_remove("OAAT_SHARD")
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

    /// Returns the address of its health and metrics endpoints.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns its process.
    pub fn process(&self) -> &Supervised {
        &self.process
    }

    /// Returns its complete log.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Returns the path of its log file.
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// Returns the last lines of its log.
    pub fn last_log(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }

    /// Sends SIGKILL and waits for its end.
    pub async fn kill(self) -> ExitStatus {
        self.process.kill().await
    }

    /// Sends SIGTERM and waits for its end.
    pub async fn stop(self) -> ExitStatus {
        self.process.signal(Signal::Term);
        self.process.wait().await
    }

    /// Returns the status code and body of a path.
    ///
    /// # Errors
    /// Returns an error if the operator does not respond.
    pub async fn page(&self, path: &str) -> Result<(u16, String)> {
        let (head, body) = self.response(path).await?;
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let mut text = String::new();
        if head.contains("content-encoding: gzip") {
            GzDecoder::new(&*body).read_to_string(&mut text)?;
        } else {
            text = String::from_utf8(body)?;
        }
        Ok((code.context("no HTTP status")?, text))
    }

    /// Returns the headers and the body of a response, which is compressed if the operator
    /// compresses it.
    ///
    /// # Errors
    /// Returns an error if the operator does not respond.
    pub async fn response(&self, path: &str) -> Result<(String, Vec<u8>)> {
        let mut stream = TcpStream::connect(self.address).await?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: operator\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        let body = answer.split_off(end.context("no HTTP answer")? + 4);
        Ok((String::from_utf8(answer)?, body))
    }

    /// Returns the sum of all samples of a metric whose labels contain all of `labels`.
    ///
    /// # Errors
    /// Returns an error if the operator does not respond.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> Result<f64> {
        let (_, text) = self.page("/metrics").await?;
        Ok(text
            .lines()
            .filter(|line| line.starts_with(name) && labels.iter().all(|l| line.contains(l)))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            // The sum of no values would be -0.
            .fold(0.0, |sum, value| sum + value))
    }
}

/// Returns the address in the log; `None` if it is not logged yet.
fn address(log: &Path) -> Option<SocketAddr> {
    let text = fs::read_to_string(log).ok()?;
    let line = text
        .lines()
        .find(|line| line.contains("serving health and metrics"))?;
    let (_, rest) = line.split_once("address=")?;
    rest.split_whitespace().next()?.parse().ok()
}
