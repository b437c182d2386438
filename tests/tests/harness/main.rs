//! Tests of the test harness: the control plane is real, and the node behaves as documented.
//!
//! This is also the shortest example of how to use both. All tests share one control plane; each
//! has its own namespace and node.

mod fixture;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use oaat_tests::{ControlPlane, Mode, Node, NodeOptions, Options};
use serde_json::{Value, json};
use tokio::time::timeout;

use fixture::{Fixture, OVER, PATIENCE, RUNNING, exit_code, phase, state, waiting};

#[tokio::test]
async fn pod_runs_and_its_result_is_reported() -> Result<()> {
    let fixture = Fixture::new("runs", Mode::Processes).await?;
    let mut lines = fixture.node.lines();
    let begun = Instant::now();
    fixture.pod("five", "echo hello; exit 5", json!({})).await?;
    let pod = fixture.until("five", OVER).await?;
    eprintln!("create to end of a pod: {:?}", begun.elapsed());
    let ended = state(&pod).terminated.context("terminated")?;
    assert_eq!(phase(&pod), "Failed");
    assert_eq!(
        (ended.exit_code, ended.reason.as_deref()),
        (5, Some("Error"))
    );
    assert!(ended.started_at.is_some() && ended.finished_at.is_some());
    assert_eq!(fixture.log("five")?, "hello\n");
    assert_eq!(lines.recv().await?.line, "hello");

    // Two pairs, because `$$` is one `$` to Kubernetes, as in a Makefile.
    fixture.pod("killed", "kill -9 $$$$", json!({})).await?;
    assert_eq!(exit_code(&fixture.until("killed", OVER).await?), Some(137));

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
async fn gated_pod_is_not_bound_until_its_gate_is_removed() -> Result<()> {
    let fixture = Fixture::new("gated", Mode::Processes).await?;
    let gates = json!({"schedulingGates": [{"name": "example.net/gate"}]});
    fixture.pod("gated", "true", gates).await?;
    // A pod that was created later has run, so the node has processed the gated one.
    fixture.pod("free", "true", json!({})).await?;
    fixture.until("free", OVER).await?;
    let pod = fixture.pods.get("gated").await?;
    assert_eq!(phase(&pod), "Pending");
    assert_eq!(pod.spec.and_then(|spec| spec.node_name), None);

    // The API server rejects a binding even from a scheduler that ignores the gate.
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "gated"},
        "target": {"kind": "Node", "name": fixture.node.name()}});
    let refused = fixture
        .pods
        .create_subresource::<_, Value>("binding", "gated", &PostParams::default(), &binding)
        .await;
    assert!(refused.is_err(), "{refused:?}");

    let open = Patch::Merge(json!({"spec": {"schedulingGates": null}}));
    fixture
        .pods
        .patch("gated", &PatchParams::default(), &open)
        .await?;
    let pod = fixture.until("gated", OVER).await?;
    assert_eq!(phase(&pod), "Succeeded");
    Ok(())
}

#[tokio::test]
async fn init_containers_run_and_environment_variables_expand() -> Result<()> {
    let fixture = Fixture::new("environment", Mode::Processes).await?;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {
        "name": "s", "namespace": "environment"}, "stringData": {"key": "hidden"}});
    fixture.plane.apply(&secret.to_string()).await?;
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
    fixture.pod("echo", "", containers).await?;
    let pod = fixture.until("echo", OVER).await?;
    assert_eq!(phase(&pod), "Succeeded");
    assert_eq!(fixture.log("echo")?, "1 12 hidden echo $(A) $(NONE)\n");

    let failing = json!({"initContainers": [
        {"name": "first", "image": "any", "command": ["sh", "-c", "exit 3"]},
    ]});
    fixture.pod("init-fails", "true", failing).await?;
    let pod = fixture.until("init-fails", OVER).await?;
    assert_eq!(
        (phase(&pod), waiting(&pod).as_str()),
        ("Failed", "PodInitializing")
    );
    Ok(())
}

#[tokio::test]
async fn deletion_has_a_grace_period() -> Result<()> {
    let fixture = Fixture::new("deletion", Mode::Processes).await?;
    // Prints that it received SIGTERM, and exits by itself.
    let script = "trap 'echo asked; exit 0' TERM; echo up; while :; do sleep 0.05; done";
    fixture.pod("polite", script, json!({})).await?;
    fixture.until("polite", RUNNING).await?;
    while fixture.log("polite")?.is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    fixture
        .pods
        .delete("polite", &DeleteParams::default())
        .await?;
    fixture.until_gone("polite").await?;
    assert!(fixture.log("polite")?.ends_with("asked\n"));

    // Ignores SIGTERM, and is killed after its grace period.
    let script = "trap '' TERM; while :; do sleep 0.05; done";
    fixture.pod("stubborn", script, json!({})).await?;
    fixture.until("stubborn", RUNNING).await?;
    let begun = Instant::now();
    let grace = DeleteParams::default().grace_period(1);
    fixture.pods.delete("stubborn", &grace).await?;
    fixture.until_gone("stubborn").await?;
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert!(fixture.node.runs().iter().all(|run| run.ended.is_some()));
    Ok(())
}

#[tokio::test]
async fn deadlines_evictions_and_failed_starts_are_reported() -> Result<()> {
    let fixture = Fixture::new("faults", Mode::Processes).await?;
    let deadline = json!({"activeDeadlineSeconds": 1});
    fixture.pod("late", "sleep 60", deadline).await?;
    fixture.pod("evicted", "sleep 60", json!({})).await?;
    let image =
        json!({"containers": [{"name": "main", "image": "missing/it", "command": ["true"]}]});
    fixture.pod("no-image", "", image).await?;
    let program =
        json!({"containers": [{"name": "main", "image": "any", "command": ["/no/such"]}]});
    fixture.pod("no-program", "", program).await?;
    let elsewhere = json!({"nodeSelector": {"kubernetes.io/hostname": "elsewhere"}});
    fixture.pod("unfit", "true", elsewhere).await?;

    fixture.until("evicted", RUNNING).await?;
    fixture.node.evict("faults", "evicted").await?;
    let status = fixture
        .pods
        .get("evicted")
        .await?
        .status
        .context("a status")?;
    assert_eq!(status.reason.as_deref(), Some("Evicted"));
    assert_eq!(status.container_statuses.unwrap_or_default(), []);

    let pod = fixture.until("no-program", OVER).await?;
    assert_eq!(exit_code(&pod), Some(128));
    let pod = fixture
        .until("no-image", |pod| waiting(pod) == "ImagePullBackOff")
        .await?;
    assert_eq!(phase(&pod), "Pending");
    fixture
        .pods
        .delete("no-image", &DeleteParams::default())
        .await?;
    fixture.until_gone("no-image").await?;

    fixture
        .until("unfit", |pod| {
            let status = pod.status.as_ref();
            let conditions = status.and_then(|status| status.conditions.as_ref());
            let mut conditions = conditions.into_iter().flatten();
            conditions.any(|one| one.reason.as_deref() == Some("Unschedulable"))
        })
        .await?;

    let pod = fixture.until("late", OVER).await?;
    let status = pod.status.context("a status")?;
    assert_eq!(status.reason.as_deref(), Some("DeadlineExceeded"));
    Ok(())
}

#[tokio::test]
async fn node_can_hold_pods_and_have_a_wrong_clock() -> Result<()> {
    let fixture = Fixture::new("hold", Mode::Instant { exit_code: 0 }).await?;
    fixture.node.hold(true);
    fixture.node.set_clock_skew(-3600);
    fixture.pod("held", "true", json!({})).await?;
    fixture
        .until("held", |pod| waiting(pod) == "ContainerCreating")
        .await?;
    fixture.node.hold(false);
    let pod = fixture.until("held", OVER).await?;
    let ended = state(&pod).terminated.context("terminated")?;
    let finished = ended.finished_at.context("finished")?.0;
    let created = pod.metadata.creation_timestamp.context("created")?.0;
    assert!(finished.as_second() < created.as_second() - 3500);
    Ok(())
}

#[tokio::test]
async fn service_account_has_only_the_rights_of_its_role() -> Result<()> {
    let fixture = Fixture::new("rbac", Mode::Instant { exit_code: 0 }).await?;
    let client = fixture
        .plane
        .client_for_service_account("rbac", "default")
        .await?;
    let pods: Api<Pod> = Api::default_namespaced(client);
    let Err(kube::Error::Api(status)) = pods.list(&ListParams::default()).await else {
        anyhow::bail!("the default service account may list pods");
    };
    assert!(status.is_forbidden(), "{status:?}");

    fixture
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
    // The authorizer receives the role by a watch.
    let begun = Instant::now();
    while let Err(error) = pods.list(&ListParams::default()).await {
        ensure!(begun.elapsed() < PATIENCE, "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

#[tokio::test]
async fn owned_objects_are_deleted_with_their_owner() -> Result<()> {
    let fixture = Fixture::new("owned", Mode::Processes).await?;
    let widget = json!({"apiVersion": "example.net/v1", "kind": "Widget", "metadata": {
        "name": "owner", "namespace": "owned"}});
    fixture.plane.apply(&widget.to_string()).await?;
    let uid = [
        "get",
        "widget",
        "owner",
        "-n",
        "owned",
        "-o",
        "jsonpath={.metadata.uid}",
    ];
    let uid = fixture.plane.kubectl(&uid).await?;
    fixture.pod("owned", "sleep 60", json!({})).await?;
    let owned = Patch::Merge(json!({"metadata": {"ownerReferences": [{
        "apiVersion": "example.net/v1", "kind": "Widget", "name": "owner", "uid": uid,
    }]}}));
    fixture
        .pods
        .patch("owned", &PatchParams::default(), &owned)
        .await?;
    fixture.until("owned", RUNNING).await?;
    let begun = Instant::now();
    let delete = ["delete", "widget", "owner", "-n", "owned"];
    fixture.plane.kubectl(&delete).await?;
    fixture.until_gone("owned").await?;
    eprintln!("collected after {:?}", begun.elapsed());
    Ok(())
}

#[tokio::test]
async fn node_survives_a_crash_of_the_api_server() -> Result<()> {
    // A separate control plane, because the other tests need theirs.
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
    // The container ends while the API server is down. If the node lost the response to its report
    // that the container runs, it repeats that report first, and records the end later.
    let ended = async {
        while node.runs().iter().any(|run| run.ended.is_none()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let _ = timeout(Duration::from_secs(5), ended).await;
    plane.start_api_server().await?;
    let over = await_condition(pods.clone(), "p", |pod: Option<&Pod>| pod.is_some_and(OVER));
    let pod = timeout(PATIENCE, over).await??.context("the pod")?;
    assert_eq!(exit_code(&pod), Some(7));

    // The same with the controllers, without which a namespace cannot be used.
    plane.stop_controllers().await;
    plane.start_controllers()?;
    plane.namespace("later").await?;

    let folder = plane.folder().to_owned();
    drop(plane);
    assert!(!folder.exists());
    Ok(())
}
