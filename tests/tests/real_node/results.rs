//! How runs end, and what is recorded.

use anyhow::{Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::Skip;
use crate::fixture::{Fixture, history, item, millis, only_run, text};

/// Exit codes 0 and 5 in one group: each is recorded once, with the times of the container.
pub async fn exit_codes_and_finish_times_are_recorded(fixture: Fixture) -> Result<()> {
    fixture
        .work(
            "sleep 1; echo first; echo last; [ $OAAT_ITEM = good ] || exit 5",
            json!({}),
        )
        .await?;
    fixture.group(&["good", "bad"], json!({})).await?;
    fixture.until_runs("good", 1).await?;
    let group = fixture.until_runs("bad", 1).await?;
    let (good, bad) = (item(&group, "good"), item(&group, "bad"));
    ensure!(
        good["lastExitCode"].is_null() && good["failures"].is_null(),
        "{group:#}"
    );
    ensure!(
        bad["lastExitCode"] == 5 && bad["failures"] == 1,
        "{group:#}"
    );
    ensure!(bad["lastSuccess"].is_null(), "{group:#}");
    for run in history(&group) {
        let pod = fixture.pods().get(&text(&run["pod"])).await?;
        ensure!(has_its_time(&run, &pod), "{run:#}, {pod:#?}");
        let expected = match text(&run["item"]).as_str() {
            "good" => ("Succeeded", "Completed"),
            _ => ("Failed", "Error"),
        };
        let found = (text(&run["result"]), text(&run["reason"]));
        ensure!((found.0.as_str(), found.1.as_str()) == expected, "{run:#}");
        let shows_log = text(&run["message"]).ends_with("exited with code 5: first / last");
        ensure!(shows_log == (run["item"] == "bad"), "{run:#}");
    }
    ensure!(history(&group).len() == 2, "{group:#}");
    fixture.witness.opened()?;
    Ok(())
}

/// If one of several containers fails, the item fails, and the message names the container.
pub async fn failed_container_is_named(fixture: Fixture) -> Result<()> {
    let containers = json!([
        fixture.container("first", "sleep 1"),
        fixture.container("second", "sleep 2; exit 7"),
        fixture.container("third", "sleep 3"),
    ]);
    let more = json!({ "container": null, "containers": containers });
    fixture.work("", more).await?;
    fixture.group(&["a"], json!({})).await?;
    let group = fixture.until_runs("a", 1).await?;
    let run = only_run(&group)?;
    ensure!(run["exitCode"] == 7, "{run:#}");
    ensure!(
        text(&run["message"]).contains("container second"),
        "{run:#}"
    );
    let pod = fixture.pods().get(&text(&run["pod"])).await?;
    // The last container determines the end of the run.
    ensure!(has_its_time(&run, &pod), "{run:#}, {pod:#?}");
    Ok(())
}

/// Init containers run one after the other before the other containers. One that fails ends the
/// run.
pub async fn init_containers_run_first_and_may_fail(fixture: Fixture) -> Result<()> {
    let write = |what: &str| format!("echo {what} $OAAT_ITEM >> /shared/journal");
    let gate = format!("{}; [ $OAAT_ITEM = good ] || exit 3", write("second"));
    let init = json!([
        fixture.container("prepare", &write("first")),
        fixture.container("check", &gate),
    ]);
    fixture
        .work(&write("main"), json!({ "initContainers": init }))
        .await?;
    fixture.group(&["good"], json!({})).await?;
    let group = fixture.until_runs("good", 1).await?;
    ensure!(item(&group, "good")["lastSuccess"].is_string(), "{group:#}");
    ensure!(fixture.journal() == ["first good", "second good", "main good"]);

    fixture.patch_group(json!({ "oaatItems": ["bad"] })).await?;
    let group = fixture.until_runs("bad", 1).await?;
    let run = history(&group).into_iter().next().unwrap_or_default();
    ensure!(run["exitCode"] == 3, "{run:#}");
    ensure!(text(&run["message"]).contains("container check"), "{run:#}");
    ensure!(fixture.journal()[3..] == ["first bad", "second bad"]);
    fixture.witness.opened()?;
    Ok(())
}

/// A sidecar (an init container that keeps running) is stopped when the other containers have
/// ended, and does not prevent the success.
pub async fn sidecar_does_not_delay_the_end(fixture: Fixture) -> Result<()> {
    let mut sidecar = fixture.container("sidecar", "while true; do sleep 1; done");
    sidecar["restartPolicy"] = json!("Always");
    let more = json!({ "initContainers": [sidecar], "terminationGracePeriodSeconds": 2 });
    fixture.work("sleep 1", more).await?;
    fixture.group(&["a"], json!({})).await?;
    let group = fixture.until_runs("a", 1).await?;
    ensure!(
        text(&only_run(&group)?["result"]) == "Succeeded",
        "{group:#}"
    );
    Ok(())
}

/// An ordinary container that never ends, such as an injected sidecar, does not delay the end of a run
/// whose type names the container that decides.
pub async fn completion_containers_end_a_run_while_another_container_runs(
    fixture: Fixture,
) -> Result<()> {
    let containers = json!([
        fixture.container("main", "sleep 1; echo no disk >&2; exit 3"),
        fixture.container("sidecar", "while true; do sleep 1; done"),
    ]);
    let more = json!({
        "container": null, "containers": containers, "terminationGracePeriodSeconds": 2,
    });
    fixture.work("", more).await?;
    let named = r#"{"spec": {"completionContainers": ["main"]}}"#;
    let patch = [
        "patch",
        "oaattype",
        "work",
        "--type=merge",
        "--patch",
        named,
    ];
    fixture.kubectl(&patch).await?;
    fixture
        .group(&["a"], json!({ "failureCoolOff": "1h" }))
        .await?;
    let group = fixture.until_runs("a", 1).await?;
    let run = only_run(&group)?;
    ensure!(text(&run["result"]) == "Failed", "{run:#}");
    ensure!(run["exitCode"] == 3, "{run:#}");
    ensure!(text(&run["message"]).contains("no disk"), "{run:#}");
    ensure!(item(&group, "a")["failures"] == 1, "{group:#}");
    Ok(())
}

/// A missing program is reported with the message of the runtime.
pub async fn missing_program_fails_with_the_message_of_the_runtime(fixture: Fixture) -> Result<()> {
    let mut container = fixture.container("main", "");
    container["command"] = json!(["no-such-program"]);
    fixture.work("", json!({ "container": container })).await?;
    fixture.group(&["a"], json!({})).await?;
    let group = fixture.until_runs("a", 1).await?;
    let run = only_run(&group)?;
    ensure!(text(&run["result"]) == "Failed", "{run:#}");
    ensure!(text(&run["message"]).contains("no-such-program"), "{run:#}");
    Ok(())
}

/// A container that exceeds its memory limit.
pub async fn memory_limit_is_named(fixture: Fixture) -> Result<()> {
    let mut container = fixture.container("main", "sleep 1; tail -c 200m /dev/zero");
    container["resources"] = json!({ "limits": { "memory": "32Mi" } });
    fixture.work("", json!({ "container": container })).await?;
    fixture.group(&["a"], json!({})).await?;
    let group = fixture.until_runs("a", 1).await?;
    let run = only_run(&group)?;
    if text(&run["result"]) == "Succeeded" {
        bail!(Skip("the cgroups of this machine do not limit memory"));
    }
    ensure!(text(&run["reason"]) == "OOMKilled", "{run:#}");
    ensure!(run["exitCode"] == 137, "{run:#}");
    ensure!(item(&group, "a")["failures"] == 1, "{group:#}");
    Ok(())
}

/// `activeDeadlineSeconds` ends a run that takes too long. It is one failure with that reason.
pub async fn active_deadline_ends_a_run(fixture: Fixture) -> Result<()> {
    let more = json!({ "activeDeadlineSeconds": 3, "terminationGracePeriodSeconds": 1 });
    fixture
        .work("trap 'exit 0' TERM; while true; do sleep 0.1; done", more)
        .await?;
    fixture.group(&["a"], json!({})).await?;
    let group = fixture.until_runs("a", 1).await?;
    let run = only_run(&group)?;
    ensure!(text(&run["reason"]) == "DeadlineExceeded", "{run:#}");
    ensure!(text(&run["result"]) == "Failed", "{run:#}");
    let lasted = millis(&run["finished"]) - millis(&run["started"]);
    ensure!(lasted >= 2000, "{lasted} ms: {run:#}");
    Ok(())
}

/// A run that ends while the operator is down is recorded once, with its true time.
pub async fn unobserved_end_is_recorded_once(mut fixture: Fixture) -> Result<()> {
    fixture
        .work(crate::fixture::WAIT_AT_BARRIER, json!({}))
        .await?;
    fixture.group(&["a"], json!({})).await?;
    let name = fixture.until_running().await?;
    fixture.kill_operator().await;
    fixture.release_barrier()?;
    let pod = fixture
        .until_pod(&name, "ends", |pod| {
            crate::fixture::phase(pod) == "Succeeded"
        })
        .await?;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    fixture.start_operator().await?;
    let group = fixture.until_runs("a", 1).await?;
    let run = only_run(&group)?;
    ensure!(text(&run["result"]) == "Succeeded", "{run:#}");
    ensure!(has_its_time(&run, &pod), "{run:#}, {pod:#?}");
    Ok(())
}

/// A container prints the list of items, which is read from its log through the kubelet. It is not
/// a run, and one that does not end is deleted.
pub async fn item_list_is_read_from_a_container_log(fixture: Fixture) -> Result<()> {
    fixture.work("true", json!({})).await?;
    let source = |script: &str, timeout: &str| {
        let container = fixture.container("list", script);
        let mut podspec = json!({ "container": container });
        podspec["volumes"] = json!([{ "name": "shared", "hostPath": { "path": fixture.folder } }]);
        let list = json!({ "podspec": podspec, "refresh": "10s", "timeout": timeout });
        json!([{ "name": "list", "container": list }])
    };
    let list = source("echo '# mine'; echo a; echo /b; echo noise >&2", "2m");
    fixture.group(&[], json!({ "itemsFrom": list })).await?;
    fixture.until_runs("a", 1).await?;
    let group = fixture.until_runs("/b", 1).await?;
    let listed = &group["status"]["itemSources"][0]["items"];
    // Standard error is included, in no defined order.
    ensure!(listed.as_array().is_some_and(|l| l.len() == 3), "{group:#}");
    fixture.until_runs("noise", 1).await?;
    ensure!(
        history(&group)
            .iter()
            .all(|run| text(&run["pod"]).contains("group-")),
        "{group:#}"
    );

    let endless = source("sleep 600", "3s");
    fixture.patch_group(json!({ "itemsFrom": endless })).await?;
    let group = fixture
        .until("the timeout is reported", |g| {
            let problem = text(&g["status"]["itemSources"][0]["problem"]);
            problem.contains("did not finish within 3s") || problem.contains("DeadlineExceeded")
        })
        .await?;
    ensure!(item(&group, "a")["missingSince"].is_null(), "{group:#}");
    fixture.witness.opened()?;
    Ok(())
}

/// Returns whether the recorded end of a run is the end of its pod's last container, in whole
/// seconds, and not before its start.
fn has_its_time(run: &Value, pod: &Pod) -> bool {
    let started = millis(&run["started"]);
    let ended = finished(pod).map(|ended| ended.max(started));
    ended == Some(millis(&run["finished"]))
}

/// Returns when the last container of a pod ended, in milliseconds since 1970.
fn finished(pod: &Pod) -> Option<i64> {
    let pod: Value = serde_json::to_value(pod).ok()?;
    let statuses = pod["status"]["containerStatuses"].as_array()?;
    statuses
        .iter()
        .map(|status| millis(&status["state"]["terminated"]["finishedAt"]))
        .max()
}
