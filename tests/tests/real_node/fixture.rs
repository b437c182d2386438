//! The shared control plane and node. Each case has its own namespace, operator, and folder, which
//! its containers mount.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use json_patch::merge;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use oaat_tests::real_node::RealNode;
use oaat_tests::{ControlPlane, Operator, OperatorOptions, Options, operator};
use serde_json::{Value, json};
use tokio::time::sleep;

use oaat_tests::witness::Witness;

/// The timeout of each step. The machine may be slow.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// The equipment that all cases share.
pub struct Shared {
    pub node: RealNode,
    pub plane: ControlPlane,
    kubeconfig: PathBuf,
    binary: PathBuf,
}

impl Shared {
    pub async fn start(folder: &Path) -> Result<Self> {
        let binary = operator::binary(false)?;
        let options = Options {
            node_lifecycle: true,
            // For `kubectl logs`: the name of the node cannot be resolved.
            api_server_flags: vec!["--kubelet-preferred-address-types=InternalIP".into()],
            ..Options::default()
        };
        let (plane, kubeconfig) = operator::installed(options).await?;
        Ok(Self {
            node: RealNode::start(&plane, folder).await?,
            plane,
            kubeconfig,
            binary,
        })
    }
}

/// A namespace with an operator that watches only this namespace, and with a witness of its pods.
pub struct Fixture {
    pub shared: Arc<Shared>,
    pub namespace: String,
    pub client: Client,
    pub witness: Witness,
    /// The folder that containers mount as `/shared`. It also contains the operators' logs.
    pub folder: PathBuf,
    options: OperatorOptions,
    /// The operators, oldest first.
    operators: VecDeque<Operator>,
}

impl Fixture {
    pub async fn new(shared: Arc<Shared>, name: &str) -> Result<Self> {
        let namespace: String = name.replace('_', "-").chars().take(60).collect();
        let namespace = namespace.trim_end_matches('-').to_owned();
        shared.plane.namespace(&namespace).await?;
        let client = shared.plane.admin();
        let folder = shared.node.shared_folder(name)?;
        let mut fixture = Self {
            witness: Witness::start(Api::namespaced(client.clone(), &namespace)).await?,
            options: OperatorOptions {
                binary: shared.binary.clone(),
                kubeconfig: shared.kubeconfig.clone(),
                namespaces: vec![namespace.clone()],
                leader_elect: false,
                retry_floor: "300ms".into(),
                log_dir: folder.clone(),
                more: Vec::new(),
            },
            operators: VecDeque::new(),
            folder,
            namespace,
            client,
            shared,
        };
        fixture.start_operator().await?;
        Ok(fixture)
    }

    pub async fn start_operator(&mut self) -> Result<()> {
        self.operators
            .push_back(Operator::start(&self.options).await?);
        Ok(())
    }

    /// Kills the oldest operator with SIGKILL.
    pub async fn kill_operator(&mut self) {
        if let Some(operator) = self.operators.pop_front() {
            operator.kill().await;
        }
    }

    /// Returns the newest operator.
    pub fn operator(&self) -> Result<&Operator> {
        self.operators.back().context("no operator runs")
    }

    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        let mut all = vec!["--namespace", &self.namespace];
        all.extend(args);
        self.shared.plane.kubectl(&all).await
    }

    pub async fn apply(&self, yaml: &str) -> Result<String> {
        let plane = &self.shared.plane;
        let args = ["--namespace", &self.namespace, "apply", "-f", "-"];
        plane
            .kubectl_as(plane.admin_kubeconfig(), &args, yaml)
            .await
    }

    /// Creates an OaatType `work` whose container `main` runs a shell script with `/shared`
    /// mounted. `more` is merged into its podspec.
    pub async fn work(&self, script: &str, more: Value) -> Result<()> {
        let mut podspec = json!({
            "container": self.container("main", script),
            "volumes": [{ "name": "shared", "hostPath": { "path": self.folder } }],
        });
        merge(&mut podspec, &more);
        let spec = json!({ "type": "pod", "podspec": podspec });
        self.apply(&object("OaatType", "work", &spec)).await?;
        Ok(())
    }

    /// Returns a container that runs a shell script with `/shared` mounted.
    pub fn container(&self, name: &str, script: &str) -> Value {
        json!({
            "name": name, "image": "busybox", "imagePullPolicy": "IfNotPresent",
            "command": ["sh", "-c", script],
            "volumeMounts": [{ "name": "shared", "mountPath": "/shared" }],
        })
    }

    /// Creates an OaatGroup `group` of type `work`. `more` is merged into its spec.
    pub async fn group(&self, items: &[&str], more: Value) -> Result<()> {
        let mut spec = json!({ "oaatType": "work", "oaatItems": items, "failureCoolOff": "1h" });
        merge(&mut spec, &more);
        self.apply(&object("OaatGroup", "group", &spec)).await?;
        Ok(())
    }

    /// Patches the spec of the group.
    pub async fn patch_group(&self, spec: Value) -> Result<()> {
        let patch = json!({ "spec": spec });
        self.api("OaatGroup")
            .patch("group", &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
        Ok(())
    }

    pub fn api(&self, kind: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("kawaja.net", "v1", kind));
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub async fn delete_pod(&self, name: &str) -> Result<()> {
        self.pods().delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Reads the group.
    pub async fn read(&self, name: &str) -> Result<Value> {
        Ok(serde_json::to_value(
            self.api("OaatGroup").get(name).await?,
        )?)
    }

    /// Waits until the OaatGroup `group` fulfills `what`, and returns it.
    pub async fn until(&self, words: &str, what: impl Fn(&Value) -> bool) -> Result<Value> {
        self.until_group("group", words, what).await
    }

    /// Waits until an OaatGroup fulfills `what`, and returns it.
    pub async fn until_group(
        &self,
        name: &str,
        words: &str,
        what: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let start = Instant::now();
        loop {
            let group = self.read(name).await?;
            if what(&group) {
                return Ok(group);
            }
            if start.elapsed() > PATIENCE {
                let pods = self.kubectl(&["describe", "pods"]).await?;
                let log = self.operators.back().map(|o| o.last_log(30));
                bail!(
                    "{words}: did not come about; the group's status is {:#}\n{pods}\n{}",
                    group["status"],
                    log.unwrap_or_default()
                );
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until the container of the current run runs, and returns the name of its pod.
    pub async fn until_running(&self) -> Result<String> {
        let group = self
            .until("a run is in progress", |g| {
                g["status"]["current"]["podName"].is_string()
            })
            .await?;
        let name = text(&group["status"]["current"]["podName"]);
        self.until_pod(&name, "runs", |pod| phase(pod) == "Running")
            .await?;
        Ok(name)
    }

    /// Waits until a pod fulfills `what`, and returns it.
    pub async fn until_pod(
        &self,
        name: &str,
        words: &str,
        what: impl Fn(&Pod) -> bool,
    ) -> Result<Pod> {
        let start = Instant::now();
        loop {
            let pod = self.pods().get_opt(name).await?;
            let pod = pod.with_context(|| format!("pod {name} is gone"))?;
            if what(&pod) {
                return Ok(pod);
            }
            if start.elapsed() > PATIENCE {
                let pod = serde_json::to_string(&pod)?;
                bail!("pod {name}: timed out waiting until {words}: {pod}");
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until `runs` runs of an item are recorded, and returns the group.
    pub async fn until_runs(&self, item: &str, runs: i64) -> Result<Value> {
        let words = format!("{item} has {runs} runs");
        self.until(&words, |g| {
            g["status"]["items"][item]["runs"].as_i64() >= Some(runs)
        })
        .await
    }

    /// Releases all containers that wait at the barrier.
    pub fn release_barrier(&self) -> Result<()> {
        std::fs::write(self.folder.join("open"), "").context("failed to release the barrier")
    }

    /// Returns the lines that containers have written, in order.
    pub fn journal(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.join("journal")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

/// A shell command that waits until the test releases the barrier.
pub const WAIT_AT_BARRIER: &str = "while [ ! -e /shared/open ]; do sleep 0.1; done";

/// Shell functions with which a container records when it starts and ends.
pub const JOURNAL: &str = "start() { echo start $HOSTNAME >> /shared/journal; }; \
    end() { echo end $HOSTNAME >> /shared/journal; }";

/// Returns the pods that wrote the journal, in order. Fails unless each ended before the next
/// started.
pub fn alternating(journal: &[String]) -> Result<Vec<String>> {
    let mut pods = Vec::new();
    for pair in journal.chunks(2) {
        match pair {
            [start, end] if start.strip_prefix("start ") == end.strip_prefix("end ") => {
                pods.push(start.trim_start_matches("start ").to_owned());
            }
            _ => bail!("containers ran at the same time, or one did not end: {journal:#?}"),
        }
    }
    Ok(pods)
}

fn object(kind: &str, name: &str, spec: &Value) -> String {
    json!({
        "apiVersion": "kawaja.net/v1", "kind": kind, "metadata": { "name": name }, "spec": spec,
    })
    .to_string()
}

/// Returns the status of an item of a group.
pub fn item<'a>(group: &'a Value, name: &str) -> &'a Value {
    &group["status"]["items"][name]
}

/// Returns the history of a group, newest run first.
pub fn history(group: &Value) -> Vec<Value> {
    let history = group["status"]["history"].as_array();
    history.cloned().unwrap_or_default()
}

/// Returns the only run of a group.
pub fn only_run(group: &Value) -> Result<Value> {
    match history(group).as_slice() {
        [run] => Ok(run.clone()),
        runs => bail!("expected one recorded run: {runs:#?}"),
    }
}

/// Returns a JSON string, or an empty string.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Parses a time of a status into milliseconds since 1970.
pub fn millis(time: &Value) -> i64 {
    text(time)
        .parse::<k8s_openapi::jiff::Timestamp>()
        .map_or(0, |time| time.as_millisecond())
}

/// Returns the phase of a pod.
pub fn phase(pod: &Pod) -> &str {
    let status = pod.status.as_ref();
    status.and_then(|s| s.phase.as_deref()).unwrap_or_default()
}
