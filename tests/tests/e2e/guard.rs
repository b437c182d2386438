//! What manifests/03 (the guard) denies and allows the operator's service account, and the scope of
//! the rights in the namespaced manifest. All other tests run under the guard as well.

use crate::fixture::{Fixture, PATIENCE, condition, item};
use crate::helpers::{GATE, GROUP_LABEL, history, latest, text};
use anyhow::{Context, Result, bail, ensure};
use json_patch::merge;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use oaat_api::OaatTypeSpec;
use oaat_operator::pod::{self, PodParams, names};
use oaat_tests::{ControlPlane, Options, operator};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Instant;
use tokio::time::sleep;

/// The operator's namespace and its service account.
const OPERATOR: &str = "oaat-operator";

/// Grants the operator all permissions on the core API in a namespace, so that requests are denied
/// by the guard and not by RBAC.
async fn grant_everything(fixture: &Fixture) -> Result<()> {
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": { "name": "too-much" },
        "rules": [{ "apiGroups": [""], "resources": ["*"], "verbs": ["*"] }],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": { "name": "too-much" },
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "too-much",
        },
        "subjects": [{ "kind": "ServiceAccount", "name": OPERATOR, "namespace": OPERATOR }],
    });
    fixture.apply(&role.to_string()).await?;
    fixture.apply(&binding.to_string()).await?;
    Ok(())
}

/// Returns a candidate as the operator creates it, with an additional gate.
fn candidate(namespace: &str, uid: &str, nonce: &str) -> Result<Value> {
    let spec: OaatTypeSpec = serde_json::from_value(json!({
        "type": "pod",
        "podspec": {
            "container": { "name": "main", "image": "any", "command": ["true"] },
            "schedulingGates": [{ "name": "example.com/other" }],
        },
    }))?;
    pod::build(
        &spec,
        &PodParams {
            namespace,
            group: "group",
            group_uid: uid,
            item: "a",
            env: &[],
            run: 1,
            timeout: std::time::Duration::ZERO,
            nonce,
        },
    )
    .context("the pod is too large")
}

/// Returns a pod that lists items. Other tests check that the operator can create such pods.
fn lister(uid: &str, source: &str) -> Value {
    json!({
        "metadata": {
            "name": names::lister_name("group", source),
            "labels": { names::MANAGED_BY: names::OPERATOR, names::LISTER: "group" },
            "annotations": { names::LISTER: "group", names::DEFINITION: "any" },
            "ownerReferences": names::owner("group", uid),
        },
        "spec": {
            "activeDeadlineSeconds": 60,
            "restartPolicy": "Never",
            "containers": [{ "name": "main", "image": "any", "command": ["true"] }],
        },
    })
}

/// Returns the result of a JSON merge patch (RFC 7386).
fn merged(mut target: Value, patch: &Value) -> Value {
    merge(&mut target, patch);
    target
}

/// Sends a request. Returns the API server's message if it is rejected.
pub async fn refusal(
    client: &Client,
    method: &str,
    path: &str,
    body: &Value,
) -> Result<Option<String>> {
    let kind = match method {
        "PATCH" => "application/strategic-merge-patch+json",
        _ => "application/json",
    };
    let body = if body.is_null() {
        Vec::new()
    } else {
        serde_json::to_vec(body)?
    };
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", kind)
        .body(body)?;
    match client.request::<Value>(request).await {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) => Ok(Some(status.message)),
        Err(other) => bail!("{method} {path}: {other}"),
    }
}

/// Sends requests that the guard must deny with a message that contains `words`.
async fn ensure_denied(client: &Client, cases: &[(&str, &str, String, Value, &str)]) -> Result<()> {
    for (what, method, path, body, words) in cases {
        let answer = refusal(client, method, path, body).await?;
        let message = answer.with_context(|| format!("{what}: is allowed"))?;
        ensure!(
            message.contains("'oaat-operator-guard")
                && message.contains("' denied request: oaat-operator may")
                && message.contains(words),
            "{what}: {message}"
        );
    }
    Ok(())
}

/// Sends requests in this order, all of which must be allowed.
async fn ensure_allowed(client: &Client, cases: &[(&str, &str, String, Value)]) -> Result<()> {
    for (what, method, path, body) in cases {
        let answer = refusal(client, method, path, body).await?;
        ensure!(answer.is_none(), "{what}: {answer:?}");
    }
    Ok(())
}

/// Creates a namespace with a group and no operator, and a client with the operator's token and too
/// many permissions. Also returns the group's UID and the API path of the pods.
async fn prepared(name: &str) -> Result<(Fixture, Client, String, String)> {
    let fixture = Fixture::without_operator(name).await?;
    fixture.group(&["a"], json!({})).await?;
    grant_everything(&fixture).await?;
    let group = fixture.api("OaatGroup").get("group").await?;
    let uid = group.uid().context("the group has no uid")?;
    let plane = fixture.plane;
    let client = plane.client_for_service_account(OPERATOR, OPERATOR).await?;
    let start = Instant::now();
    let status = format!("/api/v1/namespaces/{name}/pods/none/status");
    // The authorizer receives a new role after a short delay.
    while let Some(words) = refusal(&client, "GET", &status, &Value::Null).await? {
        if !words.contains("cannot get resource") {
            break;
        }
        ensure!(start.elapsed() < PATIENCE, "{words}");
        sleep(std::time::Duration::from_millis(50)).await;
    }
    let pods = format!("/api/v1/namespaces/{name}/pods");
    Ok((fixture, client, uid, pods))
}

#[tokio::test]
async fn guard_denies_pods_that_the_operator_does_not_create() -> Result<()> {
    let (fixture, client, uid, pods) = prepared("guard-create").await?;
    let good = candidate(&fixture.namespace, &uid, "0000000000")?;
    let owner = |change: Value| {
        let owner = merged(names::owner("group", &uid)[0].clone(), &change);
        json!({ "metadata": { "ownerReferences": [owner] } })
    };
    let two = json!([
        names::owner("group", &uid)[0],
        { "apiVersion": "v1", "kind": "ConfigMap", "name": "any", "uid": uid },
    ]);
    let owned = "single owner is an OaatGroup";
    let named = "name the OaatGroup that owns them";
    let gated = "only with the scheduling gate oaat.kawaja.net/claim";
    let group = |value: Value| json!({ "metadata": { "labels": { GROUP_LABEL: value } } });
    let changes = [
        (
            "no gates",
            json!({ "spec": { "schedulingGates": null } }),
            gated,
        ),
        (
            "the gate of another controller",
            json!({ "spec": { "schedulingGates": [{ "name": "example.com/other" }] } }),
            gated,
        ),
        (
            "no owner",
            json!({ "metadata": { "ownerReferences": null } }),
            owned,
        ),
        (
            "two owners",
            json!({ "metadata": { "ownerReferences": two } }),
            owned,
        ),
        (
            "owned by an OaatType",
            owner(json!({ "kind": "OaatType" })),
            owned,
        ),
        (
            "owned by a ReplicaSet",
            owner(json!({ "kind": "ReplicaSet", "apiVersion": "apps/v1" })),
            owned,
        ),
        (
            "an OaatGroup of another API group",
            owner(json!({ "apiVersion": "example.com/v1" })),
            owned,
        ),
        (
            "not controlled",
            owner(json!({ "controller": null })),
            owned,
        ),
        ("no label", group(Value::Null), named),
        ("the label of another group", group(json!("other")), named),
        (
            "no annotation",
            json!({ "metadata": { "annotations": { GROUP_LABEL: null } } }),
            named,
        ),
        (
            "the annotation of another group",
            json!({ "metadata": { "annotations": { GROUP_LABEL: "other" } } }),
            named,
        ),
    ];
    let mut cases = Vec::new();
    for (what, change, words) in changes {
        let pod = merged(good.clone(), &change);
        cases.push((what, "POST", pods.clone(), pod, words));
    }
    let listing = "only under their fixed name, with spec.activeDeadlineSeconds";
    let list = lister(&uid, "source");
    let changes = [
        (
            "a lister without a deadline",
            json!({ "spec": { "activeDeadlineSeconds": null } }),
            listing,
        ),
        (
            "a lister that restarts",
            json!({ "spec": { "restartPolicy": "Always" } }),
            listing,
        ),
        (
            "a lister with another name",
            json!({ "metadata": { "name": "group-items-source" } }),
            listing,
        ),
        (
            "a lister that counts as a run",
            group(json!("group")),
            listing,
        ),
        (
            "a lister of an unknown source",
            json!({ "metadata": { "annotations": { names::DEFINITION: null } } }),
            listing,
        ),
        (
            "a lister of another group",
            json!({ "metadata": { "annotations": { names::LISTER: "other" } } }),
            named,
        ),
        (
            "a lister without an owner",
            json!({ "metadata": { "ownerReferences": null } }),
            owned,
        ),
    ];
    for (what, change, words) in changes {
        let pod = merged(list.clone(), &change);
        cases.push((what, "POST", pods.clone(), pod, words));
    }
    let system = merged(
        good.clone(),
        &json!({ "metadata": { "namespace": "kube-system" } }),
    );
    cases.push((
        "a namespace of Kubernetes",
        "POST",
        "/api/v1/namespaces/kube-system/pods".into(),
        system,
        "in namespaces whose name starts with kube-",
    ));
    ensure_denied(&client, &cases).await?;

    let plain = json!({
        "metadata": { "name": "oaat-trial" },
        "spec": { "containers": [{ "name": "main", "image": "any" }] },
    });
    let long = "g".repeat(100);
    let label = json!({ "metadata": {
        "name": "long",
        "labels": { GROUP_LABEL: names::group_label(&long) },
        "annotations": { GROUP_LABEL: long },
        "ownerReferences": names::owner(&long, &uid),
    } });
    let allowed = [
        ("a candidate", "POST", pods.clone(), good.clone()),
        (
            "of a group with a long name",
            "POST",
            pods.clone(),
            merged(good, &label),
        ),
        ("a lister", "POST", pods.clone(), list),
        (
            "of a source without a plain name",
            "POST",
            pods.clone(),
            lister(&uid, "ä"),
        ),
        (
            "a trial",
            "POST",
            format!("{pods}?dryRun=All"),
            plain.clone(),
        ),
    ];
    ensure_allowed(&client, &allowed).await?;
    // The guard does not apply to other users.
    let pod: Pod = serde_json::from_value(plain)?;
    fixture.pods().create(&PostParams::default(), &pod).await?;
    Ok(())
}

#[tokio::test]
async fn guard_denies_all_pod_changes_except_the_removal_of_its_gate() -> Result<()> {
    let (fixture, client, uid, pods) = prepared("guard-change").await?;
    let pod = candidate(&fixture.namespace, &uid, "0000000000")?;
    let created = serde_json::from_value(pod.clone())?;
    let created = fixture
        .pods()
        .create(&PostParams::default(), &created)
        .await?;
    let pod = format!("{pods}/{}", created.name_any());
    let of = |subresource: &str| format!("{pod}/{subresource}");
    let open = json!({ "spec": { "schedulingGates": [{ "name": GATE, "$patch": "delete" }] } });
    let with = |more: Value| merged(open.clone(), &more);
    let metadata = "may not change a pod's metadata";
    let spec = "only spec.schedulingGates in a pod's spec";
    let gate = "remove only the scheduling gate oaat.kawaja.net/claim";
    let subresources = "may not write to subresources of pods";
    let node = json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{ "matchFields": [
            { "key": "metadata.name", "operator": "In", "values": ["n"] },
        ] }],
    } } });
    let object = serde_json::to_value(&created)?;
    let mut tolerations = object["spec"]["tolerations"].clone();
    let list = tolerations.as_array_mut().context("no tolerations")?;
    list.push(json!({ "operator": "Exists" }));
    let changes = [
        (
            "a label",
            json!({ "metadata": { "labels": { "x": "y" } } }),
            metadata,
        ),
        (
            "the group's label",
            json!({ "metadata": { "labels": { GROUP_LABEL: null } } }),
            metadata,
        ),
        (
            "an annotation",
            json!({ "metadata": { "annotations": { "x": "y" } } }),
            metadata,
        ),
        (
            "a finalizer",
            json!({ "metadata": { "finalizers": ["example.com/stay"] } }),
            metadata,
        ),
        (
            "no owner",
            json!({ "metadata": { "ownerReferences": [{ "uid": uid, "$patch": "delete" }] } }),
            metadata,
        ),
        (
            "the gate and a label",
            with(json!({ "metadata": { "labels": { "x": "y" } } })),
            metadata,
        ),
        (
            "an image",
            json!({ "spec": { "containers": [{ "name": "main", "image": "other" }] } }),
            spec,
        ),
        (
            "the gate and an image",
            with(json!({ "spec": { "containers": [{ "name": "main", "image": "other" }] } })),
            spec,
        ),
        (
            "a toleration",
            json!({ "spec": { "tolerations": tolerations } }),
            spec,
        ),
        (
            "a deadline",
            json!({ "spec": { "activeDeadlineSeconds": 1 } }),
            spec,
        ),
        (
            "a node selector",
            json!({ "spec": { "nodeSelector": { "a": "b" } } }),
            spec,
        ),
        ("a node", json!({ "spec": { "affinity": node } }), spec),
        (
            "the gate of another controller",
            json!({ "spec": { "schedulingGates": [
                { "name": "example.com/other", "$patch": "delete" },
            ] } }),
            gate,
        ),
        (
            "both gates",
            json!({ "spec": { "schedulingGates": [{ "$patch": "replace" }] } }),
            gate,
        ),
    ];
    let mut cases = Vec::new();
    for (what, change, words) in changes {
        cases.push((what, "PATCH", pod.clone(), change, words));
    }
    // A whole object.
    let change = json!({ "metadata": { "labels": { "x": "y" } } });
    let object = merged(object, &change);
    cases.push(("an update", "PUT", pod.clone(), object, metadata));
    let ephemeral = json!({ "spec": { "ephemeralContainers": [{ "name": "e", "image": "any" }] } });
    let name = created.name_any();
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": name },
    });
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": { "name": name },
        "target": { "apiVersion": "v1", "kind": "Node", "name": "n" },
    });
    let succeeded = json!({ "status": { "phase": "Succeeded" } });
    let exec = of("exec?command=true&container=main");
    let attach = of("attach?container=main");
    for (what, method, path, body) in [
        (
            "an ephemeral container",
            "PATCH",
            of("ephemeralcontainers"),
            ephemeral,
        ),
        ("an eviction", "POST", of("eviction"), eviction),
        ("a binding", "POST", of("binding"), binding),
        ("a status", "PATCH", of("status"), succeeded),
        ("a command in a container", "POST", exec, Value::Null),
        ("an attached console", "POST", attach, Value::Null),
    ] {
        cases.push((what, method, path, body, subresources));
    }
    ensure_denied(&client, &cases).await?;

    // The API server allows no one to add a gate.
    let add = with(json!({ "spec": { "schedulingGates": [{ "name": "example.com/new" }] } }));
    let answer = refusal(&client, "PATCH", &pod, &add).await?;
    ensure!(answer.is_some_and(|words| words.contains("schedulingGates")));

    let uid = json!({ "metadata": { "uid": created.uid() } });
    let with_uid = with(uid);
    let allowed = [
        ("its own gate", "PATCH", pod.clone(), with_uid.clone()),
        ("once more", "PATCH", pod.clone(), with_uid),
        ("its own pod", "DELETE", pod.clone(), Value::Null),
    ];
    ensure_allowed(&client, &allowed).await
}

#[tokio::test]
async fn guard_denies_the_deletion_of_foreign_pods() -> Result<()> {
    let (fixture, client, uid, pods) = prepared("guard-delete").await?;
    let with = |name: &str, more: Value| merged(json!({ "name": name }), &more);
    // The owner exists, because otherwise the garbage collector removes the pod.
    fixture.kubectl(&["create", "configmap", "other"]).await?;
    let maps: Api<ConfigMap> = Api::namespaced(fixture.client.clone(), &fixture.namespace);
    let other = json!([{
        "apiVersion": "v1", "kind": "ConfigMap", "name": "other",
        "uid": maps.get("other").await?.uid(), "controller": true,
    }]);
    let original = json!({ "app": "oaat-operator", "parent-name": "group" });
    for metadata in [
        with("plain", json!({})),
        with("of-another", json!({ "ownerReferences": other })),
        // Labels of the original operator, without an owner.
        with("looks-old", json!({ "labels": original })),
        with(
            "owned",
            json!({ "ownerReferences": names::owner("group", &uid) }),
        ),
        with("labelled", json!({ "labels": { GROUP_LABEL: "group" } })),
        with("lists", json!({ "labels": { names::LISTER: "group" } })),
    ] {
        fixture.pod_by_hand(metadata, "true", true).await?;
    }
    let of = |name: &str| format!("{pods}/{name}");
    let words = "delete only pods of an OaatGroup";
    let denied = [
        ("any pod", "DELETE", of("plain"), Value::Null, words),
        (
            "a pod of another owner",
            "DELETE",
            of("of-another"),
            Value::Null,
            words,
        ),
        ("looks old", "DELETE", of("looks-old"), Value::Null, words),
    ];
    ensure_denied(&client, &denied).await?;
    let allowed =
        ["owned", "labelled", "lists"].map(|name| (name, "DELETE", of(name), Value::Null));
    ensure_allowed(&client, &allowed).await
}

#[tokio::test]
async fn guard_denies_writes_to_config_maps_other_than_copies_of_policies() -> Result<()> {
    let (fixture, client, ..) = prepared("guard-maps").await?;
    let maps = |namespace: &str| format!("/api/v1/namespaces/{namespace}/configmaps");
    let (own, other) = (maps(OPERATOR), maps(&fixture.namespace));
    let copy = |name: &str, more: Value| {
        let labels = json!({ "oaat.kawaja.net/kept-policy": "true" });
        let copy = json!({
            "metadata": { "name": name, "labels": labels }, "immutable": true,
            "binaryData": { "policy.wasm.gz": "H4s=" },
        });
        merged(copy, &more)
    };
    let good = copy("oaat-policy-guard", json!({}));
    let by_hand = json!({ "metadata": { "name": "oaat-policy-by-hand" } });
    let admin = fixture.plane.admin();
    for (path, map) in [(&own, &by_hand), (&other, &good)] {
        let answer = refusal(&admin, "POST", path, map).await?;
        ensure!(answer.is_none(), "{path}: {answer:?}");
    }
    let named = "whose names start with oaat-policy-";
    let labelled = "only immutable ConfigMaps with the label oaat.kawaja.net/kept-policy";
    let unlabelled = json!({ "metadata": { "labels": null } });
    let mutable = json!({ "immutable": false });
    let create = |path: &str, map: Value, words| ("create", "POST", path.to_owned(), map, words);
    let denied = [
        create(&own, copy("other", json!({})), named),
        create(&other, copy("oaat-policy-more", json!({})), named),
        create(&own, copy("oaat-policy-more", unlabelled.clone()), labelled),
        create(&own, copy("oaat-policy-more", mutable), labelled),
        (
            "delete one in another namespace",
            "DELETE",
            format!("{other}/oaat-policy-guard"),
            Value::Null,
            named,
        ),
        (
            "delete one of a user",
            "DELETE",
            format!("{own}/oaat-policy-by-hand"),
            Value::Null,
            labelled,
        ),
        (
            "change one of a user",
            "PATCH",
            format!("{own}/oaat-policy-by-hand"),
            copy("oaat-policy-by-hand", json!({})),
            labelled,
        ),
    ];
    ensure_denied(&client, &denied).await?;
    let path = format!("{own}/oaat-policy-guard");
    let renewed = json!({ "metadata": { "annotations": { "oaat.kawaja.net/last-used": "now" } } });
    let allowed = [("create", "POST", own.clone(), good)];
    ensure_allowed(&client, &allowed).await?;
    let unlabel = [("unlabel", "PATCH", path.clone(), unlabelled, labelled)];
    ensure_denied(&client, &unlabel).await?;
    let allowed = [
        ("renew", "PATCH", path.clone(), renewed),
        ("delete", "DELETE", path, Value::Null),
    ];
    ensure_allowed(&client, &allowed).await
}

#[tokio::test]
async fn guard_messages_are_shown_in_the_group() -> Result<()> {
    let fixture = Fixture::new("kube-guarded").await?;
    fixture.work("true", json!({})).await?;
    fixture
        .group(&["a"], json!({ "failureCoolOff": "1h" }))
        .await?;
    let group = fixture
        .until("a pod is rejected", |g| !history(g).is_empty())
        .await?;
    let run = latest(&group)?;
    let words = "oaat-operator may not create pods in namespaces whose name starts with kube-";
    assert_eq!(run["reason"], "CreateRejected", "{group:#}");
    assert!(text(&run["message"]).contains(words), "{group:#}");
    assert!(
        text(&item(&group, "a")["message"]).contains(words),
        "{group:#}"
    );
    assert!(
        text(&group["status"]["message"]).contains(words),
        "{group:#}"
    );
    assert_eq!(condition(&group, "Ready").1, "CreateRejected", "{group:#}");
    assert_eq!(fixture.list_pods().await?, []);
    Ok(())
}

/// Returns the documents of a manifest.
pub fn documents(manifest: &str) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(operator::root().join("manifests").join(manifest))?;
    serde_norway::Deserializer::from_str(&text)
        .map(|document| Ok(Value::deserialize(document)?))
        .collect()
}

#[test]
fn namespaced_manifest_has_the_same_rules_and_no_cluster_role() -> Result<()> {
    let mut expected = Vec::new();
    for mut object in documents("02-oaat-operator-deployment.yaml")? {
        let kind = text(&object["kind"]);
        if kind.starts_with("ClusterRole") {
            if object["metadata"]["name"] != OPERATOR {
                continue;
            }
            object["kind"] = json!(kind.trim_start_matches("Cluster"));
            object["metadata"]["namespace"] = json!("team-a");
            if kind == "ClusterRoleBinding" {
                object["roleRef"]["kind"] = json!("Role");
            }
        }
        if kind == "Deployment" {
            let env = &mut object["spec"]["template"]["spec"]["containers"][0]["env"];
            let env = env.as_array_mut().context("no environment")?;
            env.insert(0, json!({ "name": "OAAT_NAMESPACES", "value": "team-a" }));
        }
        expected.push(object);
    }
    // Each manifest is sorted by kind, and both have other kinds.
    let sorted = |mut objects: Vec<Value>| {
        objects.sort_by_key(|object| {
            let namespace = text(&object["metadata"]["namespace"]);
            (text(&object["kind"]), namespace)
        });
        objects
    };
    assert_eq!(
        sorted(documents("02-oaat-operator-namespaced.yaml")?),
        sorted(expected)
    );
    Ok(())
}

#[test]
fn guard_names_the_shipped_service_account() -> Result<()> {
    let guard = documents("03-oaat-operator-guard.yaml")?;
    let expressions: Vec<_> = guard
        .iter()
        .filter(|object| object["kind"] == "ValidatingAdmissionPolicy")
        .map(|policy| text(&policy["spec"]["matchConditions"][0]["expression"]))
        .collect();
    ensure!(expressions.len() == 2, "{expressions:?}");
    for manifest in [
        "02-oaat-operator-deployment.yaml",
        "02-oaat-operator-namespaced.yaml",
    ] {
        let all = documents(manifest)?;
        let accounts: Vec<_> = all
            .iter()
            .filter(|o| o["kind"] == "ServiceAccount")
            .collect();
        ensure!(accounts.len() == 1, "{manifest}");
        let metadata = &accounts[0]["metadata"];
        let (namespace, name) = (text(&metadata["namespace"]), text(&metadata["name"]));
        let user = format!("\"system:serviceaccount:{namespace}:{name}\"");
        ensure!(
            expressions
                .iter()
                .all(|expression| expression.ends_with(&user)),
            "{manifest}: {expressions:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn namespaced_manifest_runs_groups_and_grants_nothing_elsewhere() -> Result<()> {
    let options = Options {
        manifests: vec![operator::crds()],
        ..Options::default()
    };
    let plane = Box::leak(Box::new(ControlPlane::start(options).await?));
    let mut fixture = Fixture::on_plane(plane, plane.admin_kubeconfig(), "team-a").await?;
    plane.namespace("team-b").await?;
    operator::apply(plane, "02-oaat-operator-namespaced.yaml").await?;
    operator::guard(plane, "team-a").await?;
    fixture.options.kubeconfig = plane
        .kubeconfig_for_service_account(OPERATOR, OPERATOR)
        .await?;
    fixture.options.leader_elect = true;
    fixture.environment = vec![("POD_NAMESPACE", OPERATOR.into())];
    fixture.start_operator().await?;
    fixture.work("true", json!({})).await?;
    let list =
        json!({ "itemsFrom": [{ "name": "l", "configMap": { "name": "list", "key": "k" } }] });
    fixture
        .kubectl(&["create", "configmap", "list", "--from-literal=k=b"])
        .await?;
    fixture.group(&["a"], list).await?;
    let group = fixture
        .until("both items have succeeded", |g| {
            ["a", "b"]
                .iter()
                .all(|i| item(g, i)["lastSuccess"].is_string())
        })
        .await?;
    ensure!(condition(&group, "Ready").0 == "True", "{group:#}");
    fixture.until_event("group", "Succeeded").await?;

    let client = plane.client_for_service_account(OPERATOR, OPERATOR).await?;
    for path in [
        "/api/v1/namespaces/team-b",
        "/api/v1/namespaces",
        "/api/v1/pods",
        "/api/v1/namespaces/team-b/pods",
        "/api/v1/namespaces/team-b/configmaps/kube-root-ca.crt",
        "/api/v1/namespaces/team-a/secrets",
        "/api/v1/namespaces/oaat-operator/pods",
        "/apis/kawaja.net/v1/oaatgroups",
        "/apis/kawaja.net/v1/namespaces/team-b/oaatgroups",
    ] {
        let answer = refusal(&client, "GET", path, &Value::Null).await?;
        ensure!(
            answer
                .as_ref()
                .is_some_and(|words| words.contains("is forbidden: User")),
            "{path}: {answer:?}"
        );
    }
    let pod = candidate("team-b", "any", "0000000000")?;
    let answer = refusal(&client, "POST", "/api/v1/namespaces/team-b/pods", &pod).await?;
    ensure!(answer.is_some_and(|words| words.contains("cannot create resource \"pods\"")));
    let team: Api<Pod> = Api::namespaced(plane.admin(), "team-b");
    ensure!(team.list(&Default::default()).await?.items.is_empty());
    // The same Role allows it to check whether its own namespace is being deleted.
    let answer = refusal(&client, "GET", "/api/v1/namespaces/team-a", &Value::Null).await?;
    ensure!(answer.is_none(), "{answer:?}");
    Ok(())
}
