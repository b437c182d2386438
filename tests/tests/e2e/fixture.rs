//! The shared control plane of this test binary, and fixtures in it: each has a namespace with its
//! own node and operator.

use anyhow::{Context, Result, anyhow};
use json_patch::merge;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams};
use kube::core::GroupVersionKind;
use kube::runtime::wait::await_condition;
use kube::{Api, Client, Resource};
use oaat_tests::{
    ControlPlane, Mode, Node, NodeOptions, Operator, OperatorOptions, Options, operator,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::time::{sleep, timeout};

/// The timeout of each step. Most steps take milliseconds, but the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(300);

struct Installed {
    plane: ControlPlane,
    kubeconfig: PathBuf,
    binary: PathBuf,
}

async fn installed() -> Result<&'static Installed> {
    static INSTALLED: OnceCell<Installed> = OnceCell::const_new();
    INSTALLED
        .get_or_try_init(async || {
            let release = !cfg!(debug_assertions);
            let binary = tokio::task::spawn_blocking(move || operator::binary(release)).await??;
            let (plane, kubeconfig) = operator::installed(Options::default()).await?;
            Ok(Installed {
                plane,
                kubeconfig,
                binary,
            })
        })
        .await
}

/// Returns the shared control plane, the kubeconfig with the operator's rights, and its binary.
pub async fn shared() -> Result<(&'static ControlPlane, &'static Path, &'static Path)> {
    let shared = installed().await?;
    Ok((&shared.plane, &shared.kubeconfig, &shared.binary))
}

/// A namespace with its own node, and with operators that watch only this namespace.
pub struct Fixture {
    pub plane: &'static ControlPlane,
    pub namespace: String,
    pub node: Node,
    pub client: Client,
    pub options: OperatorOptions,
    /// The timeout of a wait for an object.
    pub patience: Duration,
    /// Additional environment variables of the operators.
    pub environment: Vec<(&'static str, String)>,
    operators: Vec<Operator>,
}

impl Fixture {
    /// Creates a namespace with one operator that has a short retry floor.
    pub async fn new(name: &str) -> Result<Self> {
        let mut fixture = Self::without_operator(name).await?;
        fixture.start_operator().await?;
        Ok(fixture)
    }

    /// Creates a namespace without an operator.
    pub async fn without_operator(name: &str) -> Result<Self> {
        Self::with_node(name, NodeOptions::default()).await
    }

    /// Creates a namespace without an operator whose node has these labels, entry points, and
    /// programs.
    pub async fn with_node(name: &str, node: NodeOptions) -> Result<Self> {
        let shared = installed().await?;
        let (plane, binary) = (&shared.plane, &shared.binary);
        Self::on(plane, &shared.kubeconfig, binary, name, node).await
    }

    /// Creates a namespace with one operator on a separate control plane, which the test may stop
    /// and start.
    pub async fn with_own_plane(name: &str) -> Result<Self> {
        let shared = installed().await?;
        let (plane, kubeconfig) = operator::installed(Options::default()).await?;
        // It is killed with the test binary, as the shared one is.
        let plane = Box::leak(Box::new(plane));
        let mut fixture = Self::on(
            plane,
            &kubeconfig,
            &shared.binary,
            name,
            NodeOptions::default(),
        )
        .await?;
        fixture.start_operator().await?;
        Ok(fixture)
    }

    /// Creates a namespace without an operator on another control plane.
    pub async fn on_plane(
        plane: &'static ControlPlane,
        kubeconfig: &Path,
        name: &str,
    ) -> Result<Self> {
        let shared = installed().await?;
        Self::on(
            plane,
            kubeconfig,
            &shared.binary,
            name,
            NodeOptions::default(),
        )
        .await
    }

    async fn on(
        plane: &'static ControlPlane,
        kubeconfig: &Path,
        binary: &Path,
        name: &str,
        mut node: NodeOptions,
    ) -> Result<Self> {
        plane.namespace(name).await?;
        let client = plane.admin();
        node.name = format!("node-{name}");
        node.namespace = Some(name.to_owned());
        node.mode = Mode::Processes;
        let image = operator::IMAGE.to_owned();
        node.entry_points.insert(image, binary.to_owned());
        Ok(Self {
            plane,
            node: Node::start(client.clone(), node).await?,
            namespace: name.to_owned(),
            client,
            options: OperatorOptions {
                binary: binary.to_owned(),
                kubeconfig: kubeconfig.to_owned(),
                namespaces: vec![name.to_owned()],
                leader_elect: false,
                retry_floor: "300ms".into(),
                log_dir: plane.folder().to_owned(),
                more: Vec::new(),
            },
            patience: PATIENCE,
            environment: Vec::new(),
            operators: Vec::new(),
        })
    }

    /// Starts another operator with the options of this fixture.
    pub async fn start_operator(&mut self) -> Result<()> {
        let environment = self.environment.iter();
        let environment: Vec<_> = environment
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let operator = Operator::start_as(&self.options, &environment).await?;
        self.operators.push(operator);
        Ok(())
    }

    /// Makes operators that start from now on elect a leader, by a lease in this namespace.
    pub async fn elect(&mut self) -> Result<Api<Lease>> {
        operator::lease_in(self.plane, &self.namespace).await?;
        self.options.leader_elect = true;
        self.environment = vec![("POD_NAMESPACE", self.namespace.clone())];
        Ok(Api::namespaced(self.client.clone(), &self.namespace))
    }

    /// Returns the latest operator.
    pub fn operator(&self) -> &Operator {
        self.operators.last().expect("the fixture has no operator")
    }

    /// Removes the latest operator, to stop or kill it.
    pub fn take_operator(&mut self) -> Operator {
        self.operators.pop().expect("the fixture has no operator")
    }

    /// Removes the first operator.
    pub fn take_first_operator(&mut self) -> Operator {
        self.operators.remove(0)
    }

    /// Runs kubectl in this namespace.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        let mut all = vec!["--namespace", &self.namespace];
        all.extend(args);
        self.plane.kubectl(&all).await
    }

    /// Runs `kubectl apply` in this namespace. The error is the output of kubectl.
    pub async fn apply(&self, yaml: &str) -> Result<String> {
        let args = ["--namespace", &self.namespace, "apply", "-f", "-"];
        self.plane
            .kubectl_as(self.plane.admin_kubeconfig(), &args, yaml)
            .await
    }

    /// Creates an OaatType `work` whose only container runs a shell script (`$OAAT_ITEM` is the
    /// item). `more` is merged into its spec.
    pub async fn work(&self, script: &str, more: Value) -> Result<()> {
        let mut spec = json!({
            "type": "pod",
            "podspec": { "container": {
                "name": "main", "image": "any", "command": ["sh", "-c", script],
            } },
        });
        merge(&mut spec, &more);
        let object = json!({
            "apiVersion": "kawaja.net/v1", "kind": "OaatType",
            "metadata": { "name": "work" }, "spec": spec,
        });
        self.apply(&object.to_string()).await?;
        Ok(())
    }

    /// Creates an OaatGroup `group` of type `work` with these items. `more` is merged into its
    /// spec.
    pub async fn group(&self, items: &[&str], more: Value) -> Result<()> {
        let mut spec = json!({ "oaatType": "work", "oaatItems": items });
        merge(&mut spec, &more);
        let object = json!({
            "apiVersion": "kawaja.net/v1", "kind": "OaatGroup",
            "metadata": { "name": "group" }, "spec": spec,
        });
        self.apply(&object.to_string()).await?;
        Ok(())
    }

    /// Returns the API of one of the operator's kinds.
    pub fn api(&self, kind: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("kawaja.net", "v1", kind));
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    /// Returns the API of pods in this namespace.
    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Returns all pods of this namespace, oldest first.
    pub async fn list_pods(&self) -> Result<Vec<Pod>> {
        let mut pods = self.pods().list(&ListParams::default()).await?.items;
        pods.sort_by_key(|pod| pod.metadata.creation_timestamp.clone().map(|t| t.0));
        Ok(pods)
    }

    /// Reads an OaatGroup.
    pub async fn read(&self, name: &str) -> Result<Value> {
        let group = self.api("OaatGroup").get(name).await?;
        Ok(serde_json::to_value(group)?)
    }

    /// Waits until the OaatGroup `group` fulfills `what`, and returns it.
    pub async fn until(&self, words: &str, what: impl Fn(&Value) -> bool + Send) -> Result<Value> {
        self.until_object("OaatGroup", "group", words, what).await
    }

    /// Waits until an object fulfills `what`, and returns it.
    pub async fn until_object(
        &self,
        kind: &str,
        name: &str,
        words: &str,
        what: impl Fn(&Value) -> bool + Send,
    ) -> Result<Value> {
        let json = |object: &DynamicObject| serde_json::to_value(object).unwrap_or_default();
        let found = await_with_retries(self.api(kind), name, |object: Option<&DynamicObject>| {
            object.is_some_and(|object| what(&json(object)))
        });
        match timeout(self.patience, found).await {
            Ok(found) => Ok(found.as_ref().map(json).unwrap_or_default()),
            Err(_) => {
                let now = self.api(kind).get_opt(name).await?.as_ref().map(json);
                let log = self
                    .operators
                    .last()
                    .map(|operator| operator.last_log(100))
                    .unwrap_or_default();
                Err(anyhow!(
                    "timed out waiting until {words}; {kind} {name} is {now:#?}\n{log}"
                ))
            }
        }
    }

    /// Waits until a pod fulfills `what`, and returns it.
    pub async fn until_pod(
        &self,
        name: &str,
        words: &str,
        what: impl Fn(&Pod) -> bool + Send,
    ) -> Result<Pod> {
        let found = await_with_retries(self.pods(), name, |pod: Option<&Pod>| {
            pod.is_some_and(&what)
        });
        timeout(PATIENCE, found)
            .await
            .with_context(|| format!("pod {name}: timed out waiting until {words}"))?
            .with_context(|| format!("pod {name} is gone"))
    }

    /// Waits until the condition `Valid` is true for the current generation of a type.
    pub async fn until_type_is_valid(&self, name: &str) -> Result<()> {
        self.until_object("OaatType", name, "the type is valid", |t| {
            let is_current = t["status"]["observedGeneration"] == t["metadata"]["generation"];
            is_current && condition(t, "Valid").0 == "True"
        })
        .await?;
        Ok(())
    }

    /// Waits until the pod is gone.
    pub async fn until_pod_gone(&self, name: &str) -> Result<()> {
        let gone = await_with_retries(self.pods(), name, |pod: Option<&Pod>| pod.is_none());
        timeout(PATIENCE, gone)
            .await
            .with_context(|| format!("pod {name} was not removed"))?;
        Ok(())
    }

    /// Deletes a pod as `kubectl delete` does, without waiting.
    pub async fn delete_pod(&self, name: &str) -> Result<()> {
        self.pods().delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Returns the reasons and notes of the events on an object, oldest first.
    pub async fn events(&self, name: &str) -> Result<Vec<(String, String)>> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut events = api.list(&ListParams::default()).await?.items;
        events.retain(|event| {
            event
                .regarding
                .as_ref()
                .is_some_and(|about| about.name.as_deref() == Some(name))
        });
        events.sort_by_key(|event| event.event_time.clone().map(|t| t.0));
        Ok(events
            .into_iter()
            .map(|event| {
                (
                    event.reason.unwrap_or_default(),
                    event.note.unwrap_or_default(),
                )
            })
            .collect())
    }

    /// Waits for an event with this reason on an object, and returns its note.
    pub async fn until_event(&self, name: &str, reason: &str) -> Result<String> {
        let start = std::time::Instant::now();
        loop {
            let events = self.events(name).await?;
            if let Some((_, note)) = events.iter().find(|(r, _)| r == reason) {
                return Ok(note.clone());
            }
            if start.elapsed() > PATIENCE {
                return Err(anyhow!(
                    "no event {reason} on {name}; there are {events:#?}"
                ));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Waits until an object meets a condition, and returns it. `is_met` receives `None` if the object does
/// not exist. Retries failed watches: an API server that has just started may respond with 429.
async fn await_with_retries<K>(
    api: Api<K>,
    name: &str,
    is_met: impl Fn(Option<&K>) -> bool,
) -> Option<K>
where
    K: Clone + Debug + Send + DeserializeOwned + Resource + 'static,
{
    loop {
        match await_condition(api.clone(), name, &is_met).await {
            Ok(found) => return found,
            Err(_) => sleep(Duration::from_millis(200)).await,
        }
    }
}

/// Prints a line even if the test passes. The test runner discards the output of `println!` in such
/// tests.
pub fn say(words: &str) {
    // An unread output does not fail the test.
    let _ = writeln!(std::io::stdout(), "{words}");
}

/// Returns the status of an item of a group.
pub fn item<'a>(group: &'a Value, name: &str) -> &'a Value {
    &group["status"]["items"][name]
}

/// Returns a condition of an object as (status, reason, message).
pub fn condition(object: &Value, type_: &str) -> (String, String, String) {
    let conditions = object["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let found = conditions
        .into_iter()
        .find(|c| c["type"] == type_)
        .unwrap_or_default();
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"), text("message"))
}

/// Parses a time of a status into milliseconds since 1970.
pub fn millis(time: &Value) -> i64 {
    let text = time.as_str().unwrap_or_default();
    text.parse::<k8s_openapi::jiff::Timestamp>()
        .map_or(0, |time| time.as_millisecond())
}
