//! The harness itself: is the control plane real, and does the node behave?
//!
//! It is also the shortest way to see how the two are used. All tests share one
//! control plane; each has a namespace and a node of its own.

mod place;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use oaat_tests::{ControlPlane, Mode, Node, NodeOptions, Options};
use serde_json::{Value, json};
use tokio::time::timeout;

use place::{OVER, PATIENCE, Place, RUNNING, exit_code, phase, state, waiting};

#[tokio::test]
async fn a_pod_runs_and_its_result_is_reported() -> Result<()> {
    let place = Place::new("runs", Mode::Processes).await?;
    let mut lines = place.node.lines();
    let begun = Instant::now();
    place.pod("five", "echo hello; exit 5", json!({})).await?;
    let pod = place.until("five", OVER).await?;
    eprintln!("create to end of a pod: {:?}", begun.elapsed());
    let ended = state(&pod).terminated.context("terminated")?;
    assert_eq!(phase(&pod), "Failed");
    assert_eq!(
        (ended.exit_code, ended.reason.as_deref()),
        (5, Some("Error"))
    );
    assert!(ended.started_at.is_some() && ended.finished_at.is_some());
    assert_eq!(place.log("five")?, "hello\n");
    assert_eq!(lines.recv().await?.line, "hello");

    // Twice two: to Kubernetes, as in a Makefile, `$$` is one `$`.
    place.pod("killed", "kill -9 $$$$", json!({})).await?;
    assert_eq!(exit_code(&place.until("killed", OVER).await?), Some(137));

    let conditions = pod.status.and_then(|status| status.conditions);
    let conditions = conditions.context("conditions")?;
    let ready = conditions.iter().find(|one| one.type_ == "Ready");
    let ready = ready.context("a Ready condition")?;
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_deref()),
        ("False", Some("PodFailed"))
    );
    assert!(
        conditions
            .iter()
            .any(|one| one.type_ == "PodScheduled" && one.status == "True")
    );
    Ok(())
}

#[tokio::test]
async fn a_gated_pod_is_not_bound_until_the_gate_goes() -> Result<()> {
    let place = Place::new("gated", Mode::Processes).await?;
    let gates = json!({"schedulingGates": [{"name": "example.net/gate"}]});
    place.pod("gated", "true", gates).await?;
    // Another pod, created later, has run: so the node has seen the gated one.
    place.pod("free", "true", json!({})).await?;
    place.until("free", OVER).await?;
    let pod = place.pods.get("gated").await?;
    assert_eq!(phase(&pod), "Pending");
    assert_eq!(pod.spec.and_then(|spec| spec.node_name), None);

    // Not even a scheduler that ignores the gate gets past the API server.
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "gated"},
        "target": {"kind": "Node", "name": place.node.name()}});
    let refused = place
        .pods
        .create_subresource::<_, Value>("binding", "gated", &PostParams::default(), &binding)
        .await;
    assert!(refused.is_err(), "{refused:?}");

    let open = Patch::Merge(json!({"spec": {"schedulingGates": null}}));
    place
        .pods
        .patch("gated", &PatchParams::default(), &open)
        .await?;
    let pod = place.until("gated", OVER).await?;
    assert_eq!(phase(&pod), "Succeeded");
    Ok(())
}

#[tokio::test]
async fn init_containers_environment_and_expansion() -> Result<()> {
    let place = Place::new("environment", Mode::Processes).await?;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {
        "name": "s", "namespace": "environment"}, "stringData": {"key": "hidden"}});
    place.plane.apply(&secret.to_string()).await?;
    let containers = json!({
        "initContainers": [{"name": "first", "image": "any", "command": ["sh", "-c", "exit 0"]}],
        "containers": [{
            "name": "main", "image": "any", "command": ["echo"],
            "args": ["$(A) $(B) $(S) $(POD) $$(A) $(NONE)"],
            "env": [
                {"name": "A", "value": "1"},
                {"name": "B", "value": "$(A)2"},
                {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "key"}}},
                {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            ],
        }],
    });
    place.pod("echo", "", containers).await?;
    let pod = place.until("echo", OVER).await?;
    assert_eq!(phase(&pod), "Succeeded");
    assert_eq!(place.log("echo")?, "1 12 hidden echo $(A) $(NONE)\n");

    let failing = json!({"initContainers": [
        {"name": "first", "image": "any", "command": ["sh", "-c", "exit 3"]},
    ]});
    place.pod("init-fails", "true", failing).await?;
    let pod = place.until("init-fails", OVER).await?;
    assert_eq!(
        (phase(&pod), waiting(&pod).as_str()),
        ("Failed", "PodInitializing")
    );
    Ok(())
}

#[tokio::test]
async fn deletion_has_grace() -> Result<()> {
    let place = Place::new("deletion", Mode::Processes).await?;
    // Says that it was asked, and ends by itself.
    let script = "trap 'echo asked; exit 0' TERM; echo up; while :; do sleep 0.05; done";
    place.pod("polite", script, json!({})).await?;
    place.until("polite", RUNNING).await?;
    while place.log("polite")?.is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    place
        .pods
        .delete("polite", &DeleteParams::default())
        .await?;
    place.until_gone("polite").await?;
    assert!(place.log("polite")?.ends_with("asked\n"));

    // Does not listen, and is killed after its grace.
    let script = "trap '' TERM; while :; do sleep 0.05; done";
    place.pod("stubborn", script, json!({})).await?;
    place.until("stubborn", RUNNING).await?;
    let begun = Instant::now();
    let grace = DeleteParams::default().grace_period(1);
    place.pods.delete("stubborn", &grace).await?;
    place.until_gone("stubborn").await?;
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert!(place.node.runs().iter().all(|run| run.ended.is_some()));
    Ok(())
}

#[tokio::test]
async fn deadlines_evictions_and_containers_that_cannot_start() -> Result<()> {
    let place = Place::new("faults", Mode::Processes).await?;
    let deadline = json!({"activeDeadlineSeconds": 1});
    place.pod("late", "sleep 60", deadline).await?;
    place.pod("evicted", "sleep 60", json!({})).await?;
    let image =
        json!({"containers": [{"name": "main", "image": "missing/it", "command": ["true"]}]});
    place.pod("no-image", "", image).await?;
    let program =
        json!({"containers": [{"name": "main", "image": "any", "command": ["/no/such"]}]});
    place.pod("no-program", "", program).await?;
    let elsewhere = json!({"nodeSelector": {"kubernetes.io/hostname": "elsewhere"}});
    place.pod("unfit", "true", elsewhere).await?;

    place.until("evicted", RUNNING).await?;
    place.node.evict("faults", "evicted").await?;
    let status = place
        .pods
        .get("evicted")
        .await?
        .status
        .context("a status")?;
    assert_eq!(status.reason.as_deref(), Some("Evicted"));
    assert_eq!(status.container_statuses.unwrap_or_default(), []);

    let pod = place.until("no-program", OVER).await?;
    assert_eq!(exit_code(&pod), Some(128));
    let pod = place
        .until("no-image", |pod| waiting(pod) == "ImagePullBackOff")
        .await?;
    assert_eq!(phase(&pod), "Pending");
    place
        .pods
        .delete("no-image", &DeleteParams::default())
        .await?;
    place.until_gone("no-image").await?;

    place
        .until("unfit", |pod| {
            let status = pod.status.as_ref();
            let conditions = status.and_then(|status| status.conditions.as_ref());
            let mut conditions = conditions.into_iter().flatten();
            conditions.any(|one| one.reason.as_deref() == Some("Unschedulable"))
        })
        .await?;

    let pod = place.until("late", OVER).await?;
    let status = pod.status.context("a status")?;
    assert_eq!(status.reason.as_deref(), Some("DeadlineExceeded"));
    Ok(())
}

#[tokio::test]
async fn holding_and_a_clock_that_is_wrong() -> Result<()> {
    let place = Place::new("hold", Mode::Instant { exit_code: 0 }).await?;
    place.node.hold(true);
    place.node.set_clock_skew(-3600);
    place.pod("held", "true", json!({})).await?;
    place
        .until("held", |pod| waiting(pod) == "ContainerCreating")
        .await?;
    place.node.hold(false);
    let pod = place.until("held", OVER).await?;
    let ended = state(&pod).terminated.context("terminated")?;
    let finished = ended.finished_at.context("finished")?.0;
    let created = pod.metadata.creation_timestamp.context("created")?.0;
    assert!(finished.as_second() < created.as_second() - 3500);
    Ok(())
}

#[tokio::test]
async fn a_service_account_may_only_what_rbac_allows() -> Result<()> {
    let place = Place::new("rbac", Mode::Instant { exit_code: 0 }).await?;
    let client = place
        .plane
        .client_for_service_account("rbac", "default")
        .await?;
    let pods: Api<Pod> = Api::default_namespaced(client);
    let Err(kube::Error::Api(status)) = pods.list(&ListParams::default()).await else {
        anyhow::bail!("the default service account may list pods");
    };
    assert!(status.is_forbidden(), "{status:?}");

    place
        .plane
        .kubectl(&[
            "create",
            "rolebinding",
            "view",
            "--clusterrole=view",
            "-n",
            "rbac",
            "--serviceaccount=rbac:default",
        ])
        .await?;
    // The authorizer hears of it by a watch.
    let begun = Instant::now();
    while let Err(error) = pods.list(&ListParams::default()).await {
        ensure!(begun.elapsed() < PATIENCE, "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

#[tokio::test]
async fn what_is_owned_goes_with_its_owner() -> Result<()> {
    let place = Place::new("owned", Mode::Processes).await?;
    let widget = json!({"apiVersion": "example.net/v1", "kind": "Widget", "metadata": {
        "name": "owner", "namespace": "owned"}});
    place.plane.apply(&widget.to_string()).await?;
    let uid = [
        "get",
        "widget",
        "owner",
        "-n",
        "owned",
        "-o",
        "jsonpath={.metadata.uid}",
    ];
    let uid = place.plane.kubectl(&uid).await?;
    place.pod("owned", "sleep 60", json!({})).await?;
    let owned = Patch::Merge(json!({"metadata": {"ownerReferences": [{
        "apiVersion": "example.net/v1", "kind": "Widget", "name": "owner", "uid": uid,
    }]}}));
    place
        .pods
        .patch("owned", &PatchParams::default(), &owned)
        .await?;
    place.until("owned", RUNNING).await?;
    let begun = Instant::now();
    let delete = ["delete", "widget", "owner", "-n", "owned"];
    place.plane.kubectl(&delete).await?;
    place.until_gone("owned").await?;
    eprintln!("collected after {:?}", begun.elapsed());
    Ok(())
}

#[tokio::test]
async fn the_node_outlives_an_api_server_that_crashes() -> Result<()> {
    // Its own: the others would not like it.
    let plane = ControlPlane::start(Options::default()).await?;
    let client = plane.admin();
    let node = Node::start(client.clone(), NodeOptions::default()).await?;
    let pods: Api<Pod> = Api::default_namespaced(client);
    let pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {
        "restartPolicy": "Never",
        "containers": [{"name": "main", "image": "any", "command": ["sh", "-c", "sleep 1; exit 7"]}],
    }}))?;
    pods.create(&PostParams::default(), &pod).await?;
    let running = await_condition(pods.clone(), "p", |pod: Option<&Pod>| {
        pod.is_some_and(RUNNING)
    });
    timeout(PATIENCE, running).await??;

    plane.stop_api_server().await;
    assert!(pods.get("p").await.is_err());
    // The container ends while there is nobody to tell.
    while node.runs().iter().any(|run| run.ended.is_none()) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    plane.start_api_server().await?;
    let over = await_condition(pods.clone(), "p", |pod: Option<&Pod>| pod.is_some_and(OVER));
    let pod = timeout(PATIENCE, over).await??.context("the pod")?;
    assert_eq!(exit_code(&pod), Some(7));

    // The same with the controllers: a namespace needs them to be of use.
    plane.stop_controllers().await;
    plane.start_controllers()?;
    plane.namespace("later").await?;

    let folder = plane.folder().to_owned();
    drop(plane);
    assert!(!folder.exists());
    Ok(())
}
