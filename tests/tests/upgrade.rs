//! An upgrade from the previous release and back, while runs go on: no two runs overlap, each result
//! is recorded once, and no field is lost. `cargo xtask upgrade` builds the previous release and runs
//! this test. Without the previous release, the test does nothing.

use anyhow::{Context, Result, anyhow, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::ResourceExt;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use oaat_tests::operator::{self, root};
use oaat_tests::witness::{Opened, Witness, overlaps};
use oaat_tests::{ControlPlane, Mode, Node, NodeOptions, Operator, OperatorOptions, Options};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::time::sleep;

/// The timeout of each wait.
const PATIENCE: Duration = Duration::from_secs(180);
/// The namespace of all groups.
const NAMESPACE: &str = "upgrade";
/// The service account in manifests/02, and its namespace.
const ACCOUNT: &str = "oaat-operator";
/// The number of runs of the group `steady` after which an operator counts as working.
const RUNS: i64 = 8;

/// The fields of a status that change or end with what they describe.
const VOLATILE: [&str; 10] = [
    "conditions",
    "current",
    "currentlyRunning",
    "lastDecision",
    "message",
    "next",
    "pod",
    "rejected",
    "runNow",
    "state",
];

/// A release: its operator and its manifests.
#[derive(Clone)]
struct Release {
    name: &'static str,
    binary: PathBuf,
    manifests: PathBuf,
}

/// How one operator replaces another.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Handover {
    /// The old operator exits. A run ends before the new operator starts.
    Stop,
    /// The old operator is killed.
    Kill,
    /// The new operator starts before the old one exits.
    Overlap,
}

/// The control plane with the groups.
struct Cluster {
    // In this order, so that the processes end before their folders are removed.
    operators: Vec<Operator>,
    node: Node,
    witness: Witness,
    kubeconfig: PathBuf,
    /// The file with the name of an item releases its run.
    barriers: TempDir,
    plane: ControlPlane,
}

fn main() -> ExitCode {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let (Some(binary), Some(manifests)) = (
        variable("OAAT_PREVIOUS_OPERATOR"),
        variable("OAAT_PREVIOUS_MANIFESTS"),
    ) else {
        println!("the upgrade is not tested here; cargo xtask upgrade tests it");
        return ExitCode::SUCCESS;
    };
    let previous = Release {
        name: "the previous release",
        binary,
        manifests,
    };
    match upgrade(&previous) {
        Ok(runs) => {
            println!("{runs} runs, each recorded once");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("upgrade: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Upgrades and goes back several times. Returns the number of runs.
#[tokio::main]
async fn upgrade(previous: &Release) -> Result<usize> {
    let start = Instant::now();
    let step = |what: &str| println!("[{:>4} s] {what}", start.elapsed().as_secs());
    let binary = tokio::task::spawn_blocking(|| operator::binary(false)).await??;
    let current = &Release {
        name: "this release",
        binary,
        manifests: root().join("manifests"),
    };

    step("starting a control plane with the manifests of the previous release");
    let mut cluster = Cluster::start(previous).await?;
    cluster.create().await?;
    cluster.start_operator(previous).await?;
    cluster.until_working().await?;

    // From here on, the CRDs are those of this release, as if the user went back without them.
    cluster.apply_manifest(current, "01").await?;
    step("upgrading");
    cluster.request("requested", "first").await?;
    let upgraded = cluster.replace(current, Handover::Stop, "long-1").await;
    upgraded.context("after the upgrade")?;
    cluster.create_with_new_fields().await?;
    // So that the status of this item has all fields of this release.
    cluster.run_now("quiet", "c", 2).await?;
    let upgraded = cluster.settled("quiet").await?;

    step("going back while both operators run");
    let back = cluster.replace(previous, Handover::Overlap, "long-2").await;
    back.context("after going back")?;
    cluster.run_now("quiet", "a", 2).await?;
    let back = cluster.settled("quiet").await?;
    ensure_kept(&upgraded, &back, "a").context("after going back")?;

    step("upgrading after a kill");
    cluster.request("requested", "second").await?;
    cluster.replace(current, Handover::Kill, "long-3").await?;
    cluster.run_now("quiet", "b", 2).await?;
    let again = cluster.settled("quiet").await?;
    ensure_kept(&back, &again, "b").context("after the second upgrade")?;

    step("going back after a kill");
    cluster.replace(previous, Handover::Kill, "long-4").await?;
    step("upgrading while both operators run");
    cluster
        .replace(current, Handover::Overlap, "long-5")
        .await?;

    step("comparing the runs with their results");
    cluster.account().await
}

impl Cluster {
    /// Starts a control plane with the manifests of a release.
    async fn start(release: &Release) -> Result<Self> {
        let options = Options {
            manifests: vec![release.manifest("01")?],
            ..Options::default()
        };
        let plane = ControlPlane::start(options).await?;
        for manifest in ["02-oaat-operator-deployment", "03"] {
            let file = release.manifest(manifest)?;
            plane
                .kubectl(&["apply", "-f", &file.to_string_lossy()])
                .await?;
        }
        let kubeconfig = plane
            .kubeconfig_for_service_account(ACCOUNT, ACCOUNT)
            .await?;
        plane.namespace(NAMESPACE).await?;
        let client = plane.admin();
        let witness = Witness::start(Api::namespaced(client.clone(), NAMESPACE)).await?;
        let node = NodeOptions {
            name: "node-upgrade".into(),
            mode: Mode::Processes,
            namespace: Some(NAMESPACE.into()),
            ..NodeOptions::default()
        };
        Ok(Self {
            operators: Vec::new(),
            node: Node::start(client, node).await?,
            witness,
            kubeconfig,
            barriers: tempfile::tempdir()?,
            plane,
        })
    }

    /// Applies a manifest of a release.
    async fn apply_manifest(&self, release: &Release, name: &str) -> Result<()> {
        let file = release.manifest(name)?;
        self.plane
            .kubectl(&["apply", "-f", &file.to_string_lossy()])
            .await?;
        Ok(())
    }

    /// Creates the types and the groups.
    async fn create(&self) -> Result<()> {
        let wait = format!(
            "while [ ! -e {}/$OAAT_ITEM ]; do sleep 0.1; done",
            self.barriers.path().display()
        );
        self.type_("work", "sleep 0.2; [ $OAAT_ITEM != bad ]")
            .await?;
        self.type_("wait", &wait).await?;

        let steady = json!({
            "oaatType": "work", "oaatItems": ["one", "two", "three", "bad"],
            "frequency": "1s", "failureCoolOff": "1s", "runTimeout": "1h", "podHistoryLimit": 500,
            "itemOptions": { "two": { "runTimeout": "30m", "env": [{ "name": "A", "value": "1" }] } },
        });
        self.group("steady", steady).await?;
        let items: Vec<_> = (0..40).map(|number| format!("once-{number}")).collect();
        let once = json!({ "oaatType": "work", "oaatItems": items, "eachOnce": true });
        self.group("once", once).await?;
        let long = json!({ "oaatType": "wait", "oaatItems": [], "frequency": "24h" });
        self.group("long", long).await?;
        for name in ["requested", "quiet"] {
            let spec = json!({
                "oaatType": "work", "oaatItems": ["a", "b", "c"],
                "frequency": "24h", "runTimeout": "1h",
            });
            self.group(name, spec).await?;
        }
        Ok(())
    }

    /// Creates a group with fields that the previous release does not have, and waits until its
    /// item has given up.
    async fn create_with_new_fields(&self) -> Result<()> {
        let spec = json!({
            "oaatType": "work", "oaatItems": ["bad"], "frequency": "24h", "maxFailures": 2,
        });
        self.group("limited", spec).await?;
        self.until("limited", "its item has given up", |group| {
            count(group, "bad", "runs") == 2 && group["status"]["current"].is_null()
        })
        .await?;
        Ok(())
    }

    async fn type_(&self, name: &str, script: &str) -> Result<()> {
        let container = json!({ "name": "main", "image": "any", "command": ["sh", "-c", script] });
        let spec = json!({ "type": "pod", "podspec": { "container": container } });
        self.create_object("OaatType", name, spec).await
    }

    async fn group(&self, name: &str, spec: Value) -> Result<()> {
        self.create_object("OaatGroup", name, spec).await
    }

    async fn create_object(&self, kind: &str, name: &str, spec: Value) -> Result<()> {
        let object = json!({
            "apiVersion": "kawaja.net/v1", "kind": kind, "spec": spec,
            "metadata": { "name": name, "namespace": NAMESPACE },
        });
        self.plane.apply(&object.to_string()).await?;
        Ok(())
    }

    fn api(&self) -> Api<DynamicObject> {
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("kawaja.net", "v1", "OaatGroup"));
        Api::namespaced_with(self.plane.admin(), NAMESPACE, &kind)
    }

    async fn read(&self, name: &str) -> Result<Value> {
        Ok(serde_json::to_value(self.api().get(name).await?)?)
    }

    /// Returns the specs of all groups, by name.
    async fn specs(&self) -> Result<BTreeMap<String, Value>> {
        let groups = self.api().list(&ListParams::default()).await?;
        let specs = groups.items.into_iter();
        Ok(specs
            .map(|group| (group.name_any(), group.data["spec"].clone()))
            .collect())
    }

    async fn patch(&self, name: &str, patch: Value) -> Result<()> {
        self.api()
            .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
        Ok(())
    }

    /// Waits until a group fulfills a condition, and returns the group.
    async fn until(&self, name: &str, words: &str, what: impl Fn(&Value) -> bool) -> Result<Value> {
        let start = Instant::now();
        loop {
            let group = self.read(name).await?;
            if what(&group) {
                return Ok(group);
            }
            let logs: Vec<_> = self.operators.iter().map(|o| o.last_log(60)).collect();
            ensure!(
                start.elapsed() < PATIENCE,
                "timed out waiting until {words}; OaatGroup {name} is {:#}\n{}",
                group["status"],
                logs.join("\n")
            );
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until the group has nothing to do, and returns it.
    async fn settled(&self, name: &str) -> Result<Value> {
        self.until(name, "it has settled", |group| {
            group["status"]["current"].is_null()
                && group["status"]["observedGeneration"] == group["metadata"]["generation"]
                && names(&group["spec"]["oaatItems"])
                    .iter()
                    .all(|item| count(group, item, "runs") > 0)
        })
        .await
    }

    /// Waits until the operators have run items of the group `steady`.
    async fn until_working(&self) -> Result<()> {
        let runs = |group: &Value| group["status"]["run"].as_i64().unwrap_or_default();
        let before = runs(&self.read("steady").await?);
        self.until("steady", "more items have run", |group| {
            runs(group) >= before + RUNS
        })
        .await?;
        Ok(())
    }

    /// Requests all items of a group to run now, and waits until the operator has accepted that.
    async fn request(&self, name: &str, token: &str) -> Result<()> {
        self.settled(name).await?;
        self.until(name, "earlier requests are done", |group| {
            let request = &group["status"]["runNow"];
            request.is_null() || request["done"] == true
        })
        .await?;
        self.annotate(name, token, json!("*")).await
    }

    async fn annotate(&self, name: &str, token: &str, items: Value) -> Result<()> {
        let request = json!({ "token": token, "items": items }).to_string();
        let annotations = json!({ "oaat.kawaja.net/run-now": request });
        self.patch(name, json!({ "metadata": { "annotations": annotations } }))
            .await?;
        self.until(name, "the request is accepted", |group| {
            group["status"]["runNow"]["token"] == token
        })
        .await?;
        Ok(())
    }

    /// Runs an item now, and waits until this number of runs is recorded.
    async fn run_now(&self, name: &str, item: &str, runs: i64) -> Result<()> {
        let token = format!("{item}-{runs}");
        self.annotate(name, &token, json!([item])).await?;
        self.until(name, "the item has run", |group| {
            count(group, item, "runs") == runs
        })
        .await?;
        Ok(())
    }

    async fn start_operator(&mut self, release: &Release) -> Result<()> {
        let options = OperatorOptions {
            binary: release.binary.clone(),
            kubeconfig: self.kubeconfig.clone(),
            namespaces: vec![NAMESPACE.into()],
            leader_elect: false,
            retry_floor: "300ms".into(),
            log_dir: self.plane.folder().to_owned(),
            more: Vec::new(),
        };
        let operator = Operator::start(&options).await;
        self.operators
            .push(operator.with_context(|| format!("the operator of {}", release.name))?);
        Ok(())
    }

    /// Replaces the operator by that of a release, while an item of the group `long` runs. Checks
    /// that its result is recorded once, and that no spec has changed.
    async fn replace(&mut self, release: &Release, how: Handover, item: &str) -> Result<()> {
        let mut items = names(&self.read("long").await?["spec"]["oaatItems"]);
        items.push(item.to_owned());
        self.patch("long", json!({ "spec": { "oaatItems": items } }))
            .await?;
        let group = self
            .until("long", "the item runs", |group| {
                group["status"]["current"]["item"] == item
            })
            .await?;
        let pod = group["status"]["current"]["podName"].as_str();
        let pod = pod.context("no pod")?.to_owned();
        self.until_phase(&pod, &["Running"]).await?;
        let before = self.specs().await?;

        // The CRDs of this release stay: those of the previous release would remove new fields.
        for manifest in ["02-oaat-operator-deployment", "03"] {
            self.apply_manifest(release, manifest).await?;
        }
        if how == Handover::Overlap {
            self.start_operator(release).await?;
            self.until_working().await?;
        }
        let old = self.operators.remove(0);
        match how {
            Handover::Kill => old.kill().await,
            Handover::Stop | Handover::Overlap => old.stop().await,
        };
        if how == Handover::Stop {
            self.release_run(item)?;
            self.until_phase(&pod, &["Succeeded"]).await?;
        }
        if self.operators.is_empty() {
            self.start_operator(release).await?;
        }
        self.release_run(item)?;
        let group = self
            .until("long", "the result is recorded", |group| {
                count(group, item, "runs") > 0 && group["status"]["current"].is_null()
            })
            .await?;
        ensure!(
            count(&group, item, "runs") == 1
                && count(&group, item, "failures") == 0
                && group["status"]["items"][item]["lastSuccess"].is_string(),
            "{group:#}"
        );
        self.until_working().await?;
        let after = self.specs().await?;
        ensure!(before == after, "{before:#?} became {after:#?}");
        let wrong = self.witness.wrong();
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    }

    /// Releases the run of an item.
    fn release_run(&self, item: &str) -> Result<()> {
        Ok(std::fs::write(self.barriers.path().join(item), "")?)
    }

    async fn until_phase(&self, name: &str, phases: &[&str]) -> Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.plane.admin(), NAMESPACE);
        let start = Instant::now();
        loop {
            let status = pods.get(name).await?.status;
            let phase = status.and_then(|status| status.phase).unwrap_or_default();
            if phases.contains(&phase.as_str()) {
                return Ok(());
            }
            ensure!(start.elapsed() < PATIENCE, "pod {name} is {phase}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until nothing is left to do, and compares the pods that ran with the recorded results.
    /// Returns the number of runs.
    async fn account(&self) -> Result<usize> {
        let rest = json!({ "spec": { "frequency": "24h", "failureCoolOff": "24h" } });
        self.patch("steady", rest).await?;
        self.until("once", "all items have succeeded", |group| {
            let conditions = group["status"]["conditions"].as_array();
            let mut conditions = conditions.into_iter().flatten();
            conditions.any(|c| c["type"] == "Complete" && c["status"] == "True")
        })
        .await?;
        self.until("requested", "all requests are done", |group| {
            group["status"]["runNow"]["done"] == true
        })
        .await?;
        let mut groups = Vec::new();
        for name in self.specs().await?.into_keys() {
            groups.push((name.clone(), self.settled(&name).await?));
        }
        let opened = self.witness.runs()?;
        let wrong = overlaps(&self.node.runs(), &opened);
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        ensure!(
            self.node.runs().len() == opened.len(),
            "{} pods ran, but {} were released",
            self.node.runs().len(),
            opened.len()
        );
        for (name, group) in &groups {
            let pods: Vec<_> = opened.iter().filter(|pod| pod.group == *name).collect();
            check(name, group, &pods).with_context(|| format!("{name}: {:#}", group["status"]))?;
        }
        Ok(opened.len())
    }
}

impl Release {
    /// Returns the path of the manifest whose name begins with this text.
    fn manifest(&self, name: &str) -> Result<PathBuf> {
        let begins = |path: &Path| {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            file.starts_with(name)
        };
        let files = std::fs::read_dir(&self.manifests)
            .with_context(|| self.manifests.display().to_string())?;
        let mut files = files.filter_map(|entry| Some(entry.ok()?.path()));
        files
            .find(|path| begins(path))
            .ok_or_else(|| anyhow!("{} has no manifest {name}", self.manifests.display()))
    }
}

/// Returns the texts in a JSON list.
fn names(list: &Value) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(|name| Some(name.as_str()?.to_owned()))
        .collect()
}

/// Returns a number in the status of an item.
fn count(group: &Value, item: &str, key: &str) -> i64 {
    group["status"]["items"][item][key]
        .as_i64()
        .unwrap_or_default()
}

/// Checks that each run of a group is recorded once, with the correct result.
fn check(name: &str, group: &Value, pods: &[&Opened]) -> Result<()> {
    let items = names(&group["spec"]["oaatItems"]);
    let recorded: i64 = items.iter().map(|item| count(group, item, "runs")).sum();
    ensure!(
        recorded == i64::try_from(pods.len())?,
        "{recorded} runs are recorded, but {} pods were released",
        pods.len()
    );
    let numbers: BTreeSet<_> = pods.iter().filter_map(|pod| pod.run).collect();
    ensure!(
        numbers.len() == pods.len(),
        "two pods have the same run number"
    );
    let failed = pods.iter().filter(|pod| pod.phase == "Failed").count();
    ensure!(
        count(group, "bad", "runs") == i64::try_from(failed)?
            && count(group, "bad", "failures") == i64::try_from(failed)?,
        "{failed} pods failed"
    );
    let expected = match name {
        "once" | "long" => Some(1),
        // Each item runs by itself once, and is requested twice.
        "requested" => Some(3),
        _ => None,
    };
    for item in items.iter().filter(|item| *item != "bad") {
        ensure!(count(group, item, "failures") == 0, "{item} never failed");
        let runs = count(group, item, "runs");
        ensure!(
            expected.is_none_or(|expected| expected == runs),
            "{item} ran {runs} times"
        );
    }
    Ok(())
}

/// Checks that another release kept all fields of a status. Only `ran` has run since.
fn ensure_kept(before: &Value, after: &Value, ran: &str) -> Result<()> {
    let (before, after) = (&before["status"], &after["status"]);
    let mut lost = lost("status", before, after);
    for (item, old) in before["items"].as_object().into_iter().flatten() {
        let new = &after["items"][item];
        for (key, value) in old.as_object().into_iter().flatten() {
            if item != ran && !VOLATILE.contains(&key.as_str()) && new[key] != *value {
                lost.push(format!("status.items.{item}.{key} = {value}"));
            }
        }
    }
    let runs = after["history"].as_array().into_iter().flatten();
    let runs: BTreeMap<_, _> = runs.map(|run| (run["run"].as_i64(), run)).collect();
    for run in before["history"].as_array().into_iter().flatten() {
        if runs.get(&run["run"].as_i64()) != Some(&run) {
            lost.push(format!("status.history: {run}"));
        }
    }
    ensure!(
        lost.is_empty(),
        "these are lost or changed: {lost:#?}\nbefore: {before:#}\nafter: {after:#}"
    );
    Ok(())
}

/// Returns the fields of an object that another one does not have.
fn lost(path: &str, before: &Value, after: &Value) -> Vec<String> {
    let fields = before.as_object().into_iter().flatten();
    let kept = fields.filter(|(key, value)| !value.is_null() && !VOLATILE.contains(&key.as_str()));
    kept.flat_map(|(key, value)| {
        let path = format!("{path}.{key}");
        match after.get(key) {
            Some(after) => lost(&path, value, after),
            None => vec![path],
        }
    })
    .collect()
}
