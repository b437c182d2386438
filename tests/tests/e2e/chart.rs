//! The chart, installed and upgraded by Helm on a real API server. A ServiceMonitor and a
//! PrometheusRule need CRDs of the Prometheus operator, so they are only rendered
//! (`charts/oaat-operator/tests`).

use crate::fixture::{Fixture, PATIENCE, item};
use crate::guard::refusal;
use crate::helpers::text;
use anyhow::{Context, Result, ensure};
use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use oaat_tests::{ControlPlane, Options, chart, operator};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// The release, its namespace, and its service account.
const NAME: &str = "oaat-operator";

/// The field that the older CRD lacks.
const FIELD: &str =
    "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/maxFailures";

/// The kinds of objects in a release for some namespaces.
const NAMESPACED: [&str; 5] = [
    "Deployment",
    "PodDisruptionBudget",
    "Role",
    "RoleBinding",
    "ServiceAccount",
];

/// The other kinds, except for ServiceMonitor and PrometheusRule.
const OTHERS: [&str; 8] = [
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "FlowSchema",
    "NetworkPolicy",
    "Service",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
];

/// Returns the kinds of rendered objects.
fn kinds(rendered: &str) -> Result<Vec<String>> {
    let objects = chart::documents(rendered)?;
    let kinds: BTreeSet<_> = objects.iter().map(|object| text(&object["kind"])).collect();
    Ok(kinds.into_iter().collect())
}

/// Runs Helm as admin.
async fn helm(plane: &'static ControlPlane, args: &[&str]) -> Result<String> {
    let kubeconfig = plane.admin_kubeconfig().to_string_lossy();
    let mut all = vec!["--kubeconfig", &*kubeconfig, "--namespace", NAME];
    all.extend(args);
    let all: Vec<_> = all.into_iter().map(str::to_owned).collect();
    let home = plane.folder().join("helm");
    tokio::task::spawn_blocking(move || {
        let all: Vec<_> = all.iter().map(String::as_str).collect();
        chart::run(&chart::tools()?.helm, &home, &all)
    })
    .await?
}

/// Copies a folder.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Writes an older version of the chart, whose CRD of groups lacks a field.
fn older_chart(folder: &Path) -> Result<()> {
    copy(&chart::folder(), folder)?;
    let version = fs::read_to_string(folder.join("Chart.yaml"))?;
    let older = version.replace(env!("CARGO_PKG_VERSION"), "0.0.1");
    ensure!(older != version, "{version}");
    fs::write(folder.join("Chart.yaml"), older)?;
    let crds = folder.join("files/crds.yaml");
    let mut removed = 0;
    let mut older = String::new();
    for mut crd in chart::documents(&fs::read_to_string(&crds)?)? {
        let (parent, field) = FIELD.rsplit_once('/').context("no field")?;
        let fields = crd.pointer_mut(parent).and_then(Value::as_object_mut);
        removed += usize::from(fields.is_some_and(|f| f.remove(field).is_some()));
        older += &format!("---\n{}", serde_norway::to_string(&crd)?);
    }
    ensure!(removed == 1, "{removed} fields were removed");
    fs::write(crds, older)?;
    Ok(())
}

/// Returns the CRD of groups.
async fn crd(client: &Client) -> Result<Option<Value>> {
    let kind = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::from_gvk(&kind));
    let crd = api.get_opt("oaatgroups.kawaja.net").await?;
    Ok(crd.map(serde_json::to_value).transpose()?)
}

/// Makes operators of the fixture run as the installed Deployment does: with its service account and
/// its namespaces. Checks that its pods meet the Pod Security level `restricted`.
async fn run_as_installed(fixture: &mut Fixture) -> Result<()> {
    let plane = fixture.plane;
    let args = ["--namespace", NAME, "get", "deployment", NAME, "-o", "json"];
    let deployment: Value = serde_json::from_str(&plane.kubectl(&args).await?)?;
    let pod = &deployment["spec"]["template"]["spec"];
    // No controller creates the pods of the Deployment here.
    let level = "pod-security.kubernetes.io/enforce=restricted";
    let label = ["label", "--overwrite", "namespace", NAME, level];
    plane.kubectl(&label).await?;
    let trial = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "trial", "namespace": NAME }, "spec": pod,
    });
    let create = ["create", "--dry-run=server", "-f", "-"];
    let admin = plane.admin_kubeconfig();
    plane.kubectl_as(admin, &create, &trial.to_string()).await?;
    let account = text(&pod["serviceAccountName"]);
    fixture.options.kubeconfig = plane.kubeconfig_for_service_account(NAME, &account).await?;
    fixture.options.leader_elect = true;
    fixture.options.namespaces.clear();
    fixture.environment = vec![("POD_NAMESPACE", NAME.into())];
    let env = pod["containers"][0]["env"].as_array();
    for variable in env.context("no environment")? {
        if variable["name"] == "OAAT_NAMESPACES" {
            let namespaces = text(&variable["value"]);
            fixture.environment.push(("OAAT_NAMESPACES", namespaces));
        }
    }
    Ok(())
}

/// Starts the operator, and waits until it has run an item.
async fn run_an_item(fixture: &mut Fixture) -> Result<()> {
    fixture.start_operator().await?;
    fixture.work("true", json!({})).await?;
    fixture.group(&["a"], json!({ "maxFailures": 1 })).await?;
    fixture
        .until("the item has succeeded", |g| {
            item(g, "a")["lastSuccess"].is_string()
        })
        .await?;
    fixture.until_event("group", "Succeeded").await?;
    let log = fixture.operator().log();
    ensure!(!log.contains("is forbidden"), "{log}");
    Ok(())
}

/// Sends what the chart renders to the API server, which rejects unknown and duplicate fields, and
/// returns it.
async fn validate_strictly(plane: &'static ControlPlane, values: &[&str]) -> Result<String> {
    let chart = chart::folder();
    let chart = chart.to_string_lossy();
    let mut args = vec!["template", NAME, &*chart];
    for value in values {
        args.extend(["--set", value]);
    }
    let rendered = helm(plane, &args).await?;
    let args = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "--dry-run=server",
        "--validate=strict",
        "-f",
        "-",
    ];
    let admin = plane.admin_kubeconfig();
    plane.kubectl_as(admin, &args, &rendered).await?;
    Ok(rendered)
}

#[tokio::test]
async fn chart_upgrades_its_crds_and_runs_groups() -> Result<()> {
    let plane = Box::leak(Box::new(ControlPlane::start(Options::default()).await?));
    let folder = tempfile::tempdir()?;
    let older = folder.path().join(NAME);
    older_chart(&older)?;
    let older = older.to_string_lossy().into_owned();
    let install = ["upgrade", "--install", NAME, &*older, "--create-namespace"];
    helm(plane, &install).await?;
    let admin = plane.admin();
    let before = crd(&admin).await?.context("the CRD is not installed")?;
    ensure!(
        before.pointer(FIELD).is_none(),
        "the older CRD is not older"
    );
    ensure!(before["metadata"]["labels"]["helm.sh/chart"] == "oaat-operator-0.0.1");

    let current = chart::folder().to_string_lossy().into_owned();
    let enabled = [
        "guard.enabled=true",
        "metrics.service.enabled=true",
        "networkPolicy.enabled=true",
        "priorityAndFairness.enabled=true",
    ];
    let all = enabled.join(",");
    helm(plane, &["upgrade", NAME, &current, "--set", &all]).await?;
    let after = crd(&admin).await?.context("the CRD is gone")?;
    ensure!(after.pointer(FIELD).is_some(), "the CRD was not upgraded");
    ensure!(after["metadata"]["uid"] == before["metadata"]["uid"]);
    let wait = [
        "wait",
        "--for=condition=Established",
        "crd",
        "--all",
        "--timeout=300s",
    ];
    plane.kubectl(&wait).await?;

    let mut fixture = Fixture::on_plane(plane, plane.admin_kubeconfig(), "chart").await?;
    run_as_installed(&mut fixture).await?;
    operator::guard_enforced(plane, "chart").await?;
    run_an_item(&mut fixture).await?;

    let rendered = validate_strictly(plane, &enabled).await?;
    let mut all: Vec<_> = [&NAMESPACED[..], &OTHERS].concat();
    all.sort_unstable();
    ensure!(kinds(&rendered)? == all, "{:?}", kinds(&rendered)?);
    validate_strictly(plane, &["shards=3", "namespaces={chart}"]).await?;

    // The way back keeps the newer CRDs.
    let reuse = "--reset-then-reuse-values";
    let back = [
        "upgrade",
        NAME,
        &older,
        reuse,
        "--set",
        "crds.install=false",
    ];
    helm(plane, &back).await?;
    let kept = crd(&admin).await?.context("the CRD was deleted")?;
    ensure!(kept.pointer(FIELD).is_some(), "the CRD is older");
    let again = [
        "upgrade",
        NAME,
        &current,
        reuse,
        "--set",
        "crds.install=true,shards=3",
    ];
    helm(plane, &again).await?;
    let manifest = helm(plane, &["get", "manifest", NAME]).await?;
    let mut sharded = kinds(&manifest)?;
    sharded.retain(|kind| kind != "StatefulSet");
    all.retain(|kind| *kind != "Deployment");
    ensure!(sharded == all, "{sharded:?}");
    let workloads = [
        "--namespace",
        NAME,
        "get",
        "deployments,statefulsets",
        "-o",
        "name",
    ];
    let workloads = plane.kubectl(&workloads).await?;
    ensure!(
        workloads.trim() == "statefulset.apps/oaat-operator",
        "{workloads}"
    );

    helm(plane, &["uninstall", NAME]).await?;
    ensure!(crd(&admin).await?.is_some(), "the CRD was deleted");
    let group = fixture.read("group").await?;
    ensure!(item(&group, "a")["lastSuccess"].is_string(), "{group:#}");
    let roles = [
        "get",
        "clusterroles",
        "--selector",
        "app.kubernetes.io/instance=oaat-operator",
    ];
    let roles = plane.kubectl(&roles).await?;
    ensure!(roles.is_empty(), "{roles}");
    Ok(())
}

#[tokio::test]
async fn namespaced_chart_replaces_the_manifests_with_roles() -> Result<()> {
    let options = Options {
        manifests: vec![operator::crds()],
        ..Options::default()
    };
    let plane = Box::leak(Box::new(ControlPlane::start(options).await?));
    let mut fixture = Fixture::on_plane(plane, plane.admin_kubeconfig(), "team-a").await?;
    plane.namespace("team-b").await?;
    fixture.group(&["a"], json!({ "maxFailures": 1 })).await?;
    let uid = fixture.read("group").await?["metadata"]["uid"].clone();
    operator::apply(plane, "02-oaat-operator-deployment.yaml").await?;
    let manifest = operator::root().join("manifests/02-oaat-operator-deployment.yaml");
    let delete = ["delete", "-f", &manifest.to_string_lossy()];
    plane.kubectl(&delete).await?;

    let chart = chart::folder().to_string_lossy().into_owned();
    let set = ["--set", "namespaces={team-a}"];
    let install = [&["install", NAME, &chart, "--create-namespace"], &set[..]].concat();
    let refused = helm(plane, &install).await.err();
    let refused = refused.context("Helm took the CRDs over")?.to_string();
    let words = "CustomResourceDefinition \"oaattypes.kawaja.net\" in namespace \"\" exists and cannot \
                 be imported into the current release";
    ensure!(refused.contains(words), "{refused}");
    helm(plane, &[&install[..], &["--take-ownership"]].concat()).await?;
    let set = ["--set", "namespaces={team-a},crds.install=false"];
    helm(plane, &[&["upgrade", NAME, &chart], &set[..]].concat()).await?;
    let admin = plane.admin();
    ensure!(crd(&admin).await?.is_some(), "the CRD was deleted");
    ensure!(kinds(&helm(plane, &["get", "manifest", NAME]).await?)? == NAMESPACED);

    run_as_installed(&mut fixture).await?;
    run_an_item(&mut fixture).await?;
    let client = plane.client_for_service_account(NAME, NAME).await?;
    for path in [
        "/api/v1/pods",
        "/api/v1/namespaces/team-b/pods",
        "/apis/kawaja.net/v1/oaatgroups",
    ] {
        let answer = refusal(&client, "GET", path, &Value::Null).await?;
        ensure!(
            answer.is_some_and(|words| words.contains("is forbidden")),
            "{path}"
        );
    }

    let group = fixture.read("group").await?;
    ensure!(group["metadata"]["uid"] == uid, "the group was replaced");

    fixture.take_operator().stop().await;
    let set = ["--set", "crds.keep=false"];
    helm(plane, &[&["upgrade", NAME, &chart], &set[..]].concat()).await?;
    helm(plane, &["uninstall", NAME]).await?;
    let start = Instant::now();
    while crd(&admin).await?.is_some() {
        ensure!(start.elapsed() < PATIENCE, "the CRD was not deleted");
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}
