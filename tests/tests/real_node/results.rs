//! How runs end, and what is recorded of it.

use anyhow::{Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::Skip;
use crate::place::{Place, history, item, millis, only_run, text};

/// Exit 0 and exit 5 in one group: each recorded once, with the container's own times.
pub async fn exit_codes_and_finish_times_are_recorded(place: Place) -> Result<()> {
    place
        .work("sleep 1; [ $OAAT_ITEM = good ] || exit 5", json!({}))
        .await?;
    place.group(&["good", "bad"], json!({})).await?;
    place.until_runs("good", 1).await?;
    let group = place.until_runs("bad", 1).await?;
    let (good, bad) = (item(&group, "good"), item(&group, "bad"));
    ensure!(
        good["lastExitCode"] == 0 && good["failures"] == 0,
        "{group:#}"
    );
    ensure!(
        bad["lastExitCode"] == 5 && bad["failures"] == 1,
        "{group:#}"
    );
    ensure!(bad["lastSuccess"].is_null(), "{group:#}");
    for run in history(&group) {
        let pod = place.pods().get(&text(&run["pod"])).await?;
        ensure!(has_its_time(&run, &pod), "{run:#}, {pod:#?}");
        let expected = match text(&run["item"]).as_str() {
            "good" => ("Succeeded", "Completed"),
            _ => ("Failed", "Error"),
        };
        let found = (text(&run["result"]), text(&run["reason"]));
        ensure!((found.0.as_str(), found.1.as_str()) == expected, "{run:#}");
    }
    ensure!(history(&group).len() == 2, "{group:#}");
    place.witness.opened()?;
    Ok(())
}

/// One of several containers fails: so has the item, and the message names the container.
pub async fn the_container_that_fails_is_named(place: Place) -> Result<()> {
    let containers = json!([
        place.container("first", "sleep 1"),
        place.container("second", "sleep 2; exit 7"),
        place.container("third", "sleep 3"),
    ]);
    let more = json!({ "container": null, "containers": containers });
    place.work("", more).await?;
    place.group(&["a"], json!({})).await?;
    let group = place.until_runs("a", 1).await?;
    let run = only_run(&group)?;
    ensure!(run["exitCode"] == 7, "{run:#}");
    ensure!(
        text(&run["message"]).contains("container second"),
        "{run:#}"
    );
    let pod = place.pods().get(&text(&run["pod"])).await?;
    // The last one to end decides when the run was over.
    ensure!(has_its_time(&run, &pod), "{run:#}, {pod:#?}");
    Ok(())
}

/// Init containers run one after the other before the rest; one that fails ends the run.
pub async fn init_containers_run_first_and_may_fail(place: Place) -> Result<()> {
    let write = |what: &str| format!("echo {what} $OAAT_ITEM >> /shared/journal");
    let gate = format!("{}; [ $OAAT_ITEM = good ] || exit 3", write("second"));
    let init = json!([
        place.container("prepare", &write("first")),
        place.container("check", &gate),
    ]);
    place
        .work(&write("main"), json!({ "initContainers": init }))
        .await?;
    place.group(&["good"], json!({})).await?;
    let group = place.until_runs("good", 1).await?;
    ensure!(item(&group, "good")["lastSuccess"].is_string(), "{group:#}");
    ensure!(place.journal() == ["first good", "second good", "main good"]);

    place.patch_group(json!({ "oaatItems": ["bad"] })).await?;
    let group = place.until_runs("bad", 1).await?;
    let run = history(&group).into_iter().next().unwrap_or_default();
    ensure!(run["exitCode"] == 3, "{run:#}");
    ensure!(text(&run["message"]).contains("container check"), "{run:#}");
    ensure!(place.journal()[3..] == ["first bad", "second bad"]);
    place.witness.opened()?;
    Ok(())
}

/// A sidecar (an init container that goes along) is stopped when the rest has ended, and does
/// not spoil the success.
pub async fn a_sidecar_does_not_hold_up_the_end(place: Place) -> Result<()> {
    let mut sidecar = place.container("sidecar", "while true; do sleep 1; done");
    sidecar["restartPolicy"] = json!("Always");
    let more = json!({ "initContainers": [sidecar], "terminationGracePeriodSeconds": 2 });
    place.work("sleep 1", more).await?;
    place.group(&["a"], json!({})).await?;
    let group = place.until_runs("a", 1).await?;
    ensure!(
        text(&only_run(&group)?["result"]) == "Succeeded",
        "{group:#}"
    );
    Ok(())
}

/// A program that does not exist: the runtime's words are told.
pub async fn a_program_that_is_missing_fails_with_the_runtimes_words(place: Place) -> Result<()> {
    let mut container = place.container("main", "");
    container["command"] = json!(["no-such-program"]);
    place.work("", json!({ "container": container })).await?;
    place.group(&["a"], json!({})).await?;
    let group = place.until_runs("a", 1).await?;
    let run = only_run(&group)?;
    ensure!(text(&run["result"]) == "Failed", "{run:#}");
    ensure!(text(&run["message"]).contains("no-such-program"), "{run:#}");
    Ok(())
}

/// A container that takes more memory than its limit.
pub async fn the_memory_limit_is_named(place: Place) -> Result<()> {
    let mut container = place.container("main", "sleep 1; tail -c 200m /dev/zero");
    container["resources"] = json!({ "limits": { "memory": "32Mi" } });
    place.work("", json!({ "container": container })).await?;
    place.group(&["a"], json!({})).await?;
    let group = place.until_runs("a", 1).await?;
    let run = only_run(&group)?;
    if text(&run["result"]) == "Succeeded" {
        bail!(Skip("the cgroups of this machine do not limit memory"));
    }
    ensure!(text(&run["reason"]) == "OOMKilled", "{run:#}");
    ensure!(run["exitCode"] == 137, "{run:#}");
    ensure!(item(&group, "a")["failures"] == 1, "{group:#}");
    Ok(())
}

/// activeDeadlineSeconds ends a run that takes too long: one failure with that reason.
pub async fn the_active_deadline_ends_a_run(place: Place) -> Result<()> {
    let more = json!({ "activeDeadlineSeconds": 3, "terminationGracePeriodSeconds": 1 });
    place
        .work("trap 'exit 0' TERM; while true; do sleep 0.1; done", more)
        .await?;
    place.group(&["a"], json!({})).await?;
    let group = place.until_runs("a", 1).await?;
    let run = only_run(&group)?;
    ensure!(text(&run["reason"]) == "DeadlineExceeded", "{run:#}");
    ensure!(text(&run["result"]) == "Failed", "{run:#}");
    let lasted = millis(&run["finished"]) - millis(&run["started"]);
    ensure!(lasted >= 2000, "{lasted} ms: {run:#}");
    Ok(())
}

/// A run that ends while no operator is there is recorded once, with its true time.
pub async fn an_end_that_nobody_saw_is_recorded_once(mut place: Place) -> Result<()> {
    place.work(crate::place::AT_THE_DOOR, json!({})).await?;
    place.group(&["a"], json!({})).await?;
    let name = place.until_running().await?;
    place.kill_operator().await;
    place.open_door()?;
    let pod = place
        .until_pod(&name, "ends", |pod| crate::place::phase(pod) == "Succeeded")
        .await?;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    place.start_operator().await?;
    let group = place.until_runs("a", 1).await?;
    let run = only_run(&group)?;
    ensure!(text(&run["result"]) == "Succeeded", "{run:#}");
    ensure!(has_its_time(&run, &pod), "{run:#}, {pod:#?}");
    Ok(())
}

/// A container prints the list of items, which is read from its log by way of the kubelet; it is
/// no run, and one that does not end is ended.
pub async fn a_list_of_items_is_read_from_a_containers_log(place: Place) -> Result<()> {
    place.work("true", json!({})).await?;
    let source = |script: &str, timeout: &str| {
        let container = place.container("list", script);
        let mut podspec = json!({ "container": container });
        podspec["volumes"] = json!([{ "name": "shared", "hostPath": { "path": place.folder } }]);
        let list = json!({ "podspec": podspec, "refresh": "10s", "timeout": timeout });
        json!([{ "name": "list", "container": list }])
    };
    let list = source("echo '# mine'; echo a; echo /b; echo noise >&2", "2m");
    place.group(&[], json!({ "itemsFrom": list })).await?;
    place.until_runs("a", 1).await?;
    let group = place.until_runs("/b", 1).await?;
    let listed = &group["status"]["itemSources"][0]["items"];
    // Standard error comes along, and in no certain order.
    ensure!(listed.as_array().is_some_and(|l| l.len() == 3), "{group:#}");
    place.until_runs("noise", 1).await?;
    ensure!(
        history(&group)
            .iter()
            .all(|run| text(&run["pod"]).contains("group-")),
        "{group:#}"
    );

    let endless = source("sleep 600", "3s");
    place.patch_group(json!({ "itemsFrom": endless })).await?;
    let group = place
        .until("it says that it took too long", |g| {
            let problem = text(&g["status"]["itemSources"][0]["problem"]);
            problem.contains("did not finish within 3s") || problem.contains("DeadlineExceeded")
        })
        .await?;
    ensure!(item(&group, "a")["missingSince"].is_null(), "{group:#}");
    place.witness.opened()?;
    Ok(())
}

/// Whether a run is recorded as finished when its pod's last container ended. That is told in
/// whole seconds, and no run ends before it was started.
fn has_its_time(run: &Value, pod: &Pod) -> bool {
    let started = millis(&run["started"]);
    let ended = finished(pod).map(|ended| ended.max(started));
    ended == Some(millis(&run["finished"]))
}

/// When the last container of a pod ended, in milliseconds since 1970.
fn finished(pod: &Pod) -> Option<i64> {
    let pod: Value = serde_json::to_value(pod).ok()?;
    let statuses = pod["status"]["containerStatuses"].as_array()?;
    statuses
        .iter()
        .map(|status| millis(&status["state"]["terminated"]["finishedAt"]))
        .max()
}
