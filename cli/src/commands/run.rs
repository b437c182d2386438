//! `kubectl oaat run`.

mod progress;

use super::pods::follow_log;
use crate::cluster::{
    Access, ClusterArgs, ClusterError, GroupRead, Session, WatchRetries, find_item,
    items_in_effect, patch_params, read_group,
};
use crate::terminal::{escape_control, print, report};
use crate::views::short;
use clap::Args;
use futures::TryStreamExt;
use kube::api::Patch;
use kube::runtime::watcher;
use oaat_api::text;
use oaat_api::{OaatGroup, RunRecord, RunResult, run_now};
use progress::{Baseline, Progress};
use serde_json::json;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The number of attempts to write the request. Only writes by others cause conflicts.
const ATTEMPTS: u32 = 10;
/// The pause before another attempt, multiplied by their number.
const PAUSE: Duration = Duration::from_millis(50);
/// The status of a response to a write that is based on an outdated read.
const CONFLICT: u16 = 409;
/// The status of a response to a request that took too long.
const GATEWAY_TIMEOUT: u16 = 504;
/// The exit status if a run is blocked or canceled, as `EX_TEMPFAIL` of sysexits.
const BLOCKED: u8 = 75;
/// The exit status if the time is over, as of `timeout`.
const TIMED_OUT: u8 = 124;
/// How long the rest of a log may take after the end of a run.
const REST_OF_LOG: Duration = Duration::from_secs(10);

/// Arguments of `run`.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// The items, in the order in which they run.
    #[arg(required = true)]
    items: Vec<String>,
    /// The group of the items. Required if several groups of the namespace have the same item.
    #[arg(short, long)]
    group: Option<String>,
    /// Wait until all items have run, and show their logs.
    #[arg(short, long)]
    wait: bool,
    /// How long to wait, such as 1h. The default is no limit.
    #[arg(long, requires = "wait", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(super) async fn run(args: &RunArgs) -> Result<ExitCode, ClusterError> {
    let session = Session::new(&args.cluster).await?;
    let name = group_of(&session, args).await?;
    let before = request(&session, &name, &args.items).await?;
    let items = text::list(&args.items, ", ", text::NAME);
    print(&format!(
        "oaatgroup.kawaja.net/{name} requested to run now: {items}\n"
    ))?;
    if !args.wait {
        return Ok(ExitCode::SUCCESS);
    }
    let wait = wait(&session, &name, &args.items, &before);
    let Some(limit) = args.timeout else {
        return wait.await;
    };
    if let Ok(outcome) = tokio::time::timeout(limit, wait).await {
        return outcome;
    }
    say(&format!(
        "the runs did not end within {}; {}",
        humantime::format_duration(limit),
        stays_in_effect(&name)
    ));
    Ok(ExitCode::from(TIMED_OUT))
}

/// Returns the name of the group that has all items.
async fn group_of(session: &Session, args: &RunArgs) -> Result<String, ClusterError> {
    let mut found: Option<String> = None;
    for item in &args.items {
        // The other items must be in the group of the first one.
        let group = found.as_deref().or(args.group.as_deref());
        let group = find_item(session, item, group).await?;
        check_listed(&group, item)?;
        found = group.metadata.name;
    }
    Ok(found.unwrap_or_default())
}

/// Returns an error if an item is missing from its source.
fn check_listed(group: &OaatGroup, item: &str) -> Result<(), ClusterError> {
    let status = group.status.as_ref();
    let item_status = status.and_then(|status| status.items.get(item));
    match item_status.and_then(|item| item.missing_since) {
        Some(since) => Err(ClusterError::Usage(format!(
            "{} cannot run: {}",
            text::name(item),
            progress::missing(since)
        ))),
        None => Ok(()),
    }
}

/// Requests one item of a group to run now.
pub(super) async fn run_item(
    session: &Session,
    group: &str,
    item: &str,
) -> Result<(), ClusterError> {
    check_listed(&find_item(session, item, Some(group)).await?, item)?;
    request(session, group, &[item.to_owned()]).await?;
    Ok(())
}

/// Writes the request, unless the group changes at the same time. Returns the group before it.
///
/// All attempts have the same token, which the operator processes once.
async fn request(
    session: &Session,
    name: &str,
    items: &[String],
) -> Result<OaatGroup, ClusterError> {
    let namespace = Some(session.namespace.as_str());
    let api = session.groups(namespace);
    let token = format!("kubectl-oaat-{:016x}", rand::random::<u64>());
    let mut before: Option<OaatGroup> = None;
    for attempt in 1..=ATTEMPTS {
        let group = read_group(session, name).await?;
        // A proxy may have repeated the write of the last attempt. Then the repetition conflicts.
        if let Some(before) = before.filter(|_| run_now::has_token(&group, &token)) {
            return Ok(before);
        }
        let value = run_now::extend(&group, &items_in_effect(&group), &token, items)
            .map_err(|error| ClusterError::Usage(error.to_string()))?;
        let change = json!({ "metadata": {
            // A group that has changed since the read is not overwritten. The request of another
            // user would be lost.
            "resourceVersion": group.metadata.resource_version,
            "annotations": { run_now::ANNOTATION: value },
        } });
        let (params, change) = (patch_params(), Patch::Merge(&change));
        let patch = async {
            match api.patch(name, &params, &change).await {
                Err(kube::Error::Api(status)) if status.code == CONFLICT => Ok(false),
                patched => patched.map(|_| true),
            }
        };
        let access = Access::groups("patch", namespace);
        match session.request(access, patch).await {
            Ok(true) => return Ok(group),
            Ok(false) => {}
            Err(error) if error.may_have_taken_effect() => {
                return confirm(session, group, name, &token, error).await;
            }
            Err(error) => return Err(error),
        }
        before = Some(group);
        tokio::time::sleep(PAUSE * attempt).await;
    }
    Err(ClusterError::Conflict(name.to_owned()))
}

/// Reads the group again after a write whose result is unknown. Returns the group before the write
/// if it took effect, and the error of the write otherwise.
async fn confirm(
    session: &Session,
    before: OaatGroup,
    name: &str,
    token: &str,
    error: ClusterError,
) -> Result<OaatGroup, ClusterError> {
    let after = read_group(session, name).await;
    if after
        .as_ref()
        .is_ok_and(|group| run_now::has_token(group, token))
    {
        return Ok(before);
    }
    match error {
        // The API server stopped waiting for the write, but may not have stopped the write.
        ClusterError::Rejected {
            code: Some(code), ..
        } if code != GATEWAY_TIMEOUT && after.is_ok() => Err(error),
        cause => Err(ClusterError::Unconfirmed {
            group: name.to_owned(),
            cause: Box::new(cause),
        }),
    }
}

/// Waits until all items have run, and prints their logs.
async fn wait(
    session: &Session,
    name: &str,
    items: &[String],
    before: &OaatGroup,
) -> Result<ExitCode, ClusterError> {
    let namespace = Some(session.namespace.as_str());
    let mut waiting: BTreeMap<&String, Baseline> = items
        .iter()
        .map(|item| (item, Baseline::of(before, item)))
        .collect();
    let mut log: Option<Log> = None;
    let mut first_failure = None;
    let mut retries = WatchRetries::default();
    let mut groups = std::pin::pin!(watcher::watch_object(session.groups(namespace), name));
    while !waiting.is_empty() {
        let group = match groups.try_next().await {
            Ok(Some(Some(object))) => decoded(GroupRead::of(object))?,
            Ok(Some(None) | None) => {
                return Err(ClusterError::Usage(format!("the group {name} was deleted")));
            }
            Err(error) => {
                let access = Access::groups("watch", namespace);
                retries.failed(error, access, session).await?;
                continue;
            }
        };
        retries.recovered();
        let mut ended = Vec::new();
        let mut blocked = None;
        let mut running = None;
        for (item, baseline) in &waiting {
            match Progress::of(&group, item, baseline) {
                Progress::Waiting => {}
                Progress::Blocked(why) => {
                    blocked = Some(format!(
                        "the run of {} is blocked: {why}; {}",
                        text::name(item),
                        stays_in_effect(name)
                    ));
                }
                Progress::Cancelled => {
                    blocked = Some(format!(
                        "{} does not run: the request was removed or replaced",
                        text::name(item)
                    ));
                }
                Progress::Running { run, pod } => running = Some((*item, run, pod)),
                Progress::Ended(record) => ended.push((*item, *record)),
            }
        }
        // One change may contain the end of a run and the start of the next one.
        ended.sort_by_key(|(_, record)| record.run);
        for (item, record) in ended {
            waiting.remove(item);
            end_log(session, &mut log, &record).await;
            say(&describe(&record));
            if first_failure.is_none() {
                first_failure = failure(&record);
            }
        }
        let is_running = running.is_some();
        if let Some((item, run, pod)) = running
            && log.as_ref().is_none_or(|log| log.pod != pod)
        {
            say(&format!("run {run} of {} in pod {pod}", text::name(item)));
            log = Some(Log::start(session, item.clone(), pod));
        }
        // A run in progress is shown to its end, even if the others are blocked.
        if let Some(why) = blocked.filter(|_| !is_running) {
            say(&why);
            return Ok(ExitCode::from(first_failure.unwrap_or(BLOCKED)));
        }
    }
    Ok(first_failure.map_or(ExitCode::SUCCESS, ExitCode::from))
}

fn decoded(read: GroupRead) -> Result<OaatGroup, ClusterError> {
    let name = read.name;
    read.group
        .map_err(|problem| ClusterError::Undecodable { name, problem })
}

/// Says how to cancel a request.
fn stays_in_effect(group: &str) -> String {
    format!(
        "the request stays in effect; to cancel it, run kubectl annotate oaatgroup {group} {}-",
        run_now::ANNOTATION
    )
}

/// Prints progress to standard error. Standard output contains only logs.
fn say(line: &str) {
    report(&escape_control(line));
}

/// The log of the run in progress.
struct Log {
    item: String,
    pod: String,
    ended: watch::Sender<bool>,
    task: JoinHandle<Result<(), ClusterError>>,
}

impl Log {
    fn start(session: &Session, item: String, pod: String) -> Self {
        let (ended, receiver) = watch::channel(false);
        let session = session.clone();
        let name = pod.clone();
        let task = tokio::spawn(async move { follow_log(&session, &name, receiver).await });
        Self {
            item,
            pod,
            ended,
            task,
        }
    }
}

/// Prints the rest of the log of a run. A log that cannot be read does not change its result.
async fn end_log(session: &Session, log: &mut Option<Log>, record: &RunRecord) {
    let current = log.take_if(|log| log.item == record.item);
    let log = match (current, &record.pod) {
        (Some(log), Some(pod)) if log.pod == *pod => log,
        // The pod was deleted before it could start, or its run is no longer in the history.
        (Some(log), None) => {
            log.task.abort();
            return;
        }
        // The run was so short that it was never seen in progress.
        (other, Some(pod)) => {
            if let Some(other) = other {
                other.task.abort();
            }
            say(&format!(
                "run {} of {} in pod {pod}",
                record.run,
                text::name(&record.item)
            ));
            Log::start(session, record.item.clone(), pod.clone())
        }
        (None, None) => return,
    };
    log.ended.send_replace(true);
    let abort = log.task.abort_handle();
    match tokio::time::timeout(REST_OF_LOG, log.task).await {
        Ok(Ok(Ok(()))) => {}
        // The exit status of the run still matters.
        Ok(Ok(Err(error))) if error.is_closed_pipe() => {}
        Ok(Ok(Err(error @ ClusterError::IncompleteLog(_)))) => say(&error.to_string()),
        Ok(Ok(Err(error))) => say(&format!("the log is not available: {error}")),
        Ok(Err(_)) | Err(_) => {
            abort.abort();
            say("the rest of the log is not available");
        }
    }
}

fn describe(record: &RunRecord) -> String {
    let message = record
        .message
        .as_ref()
        .map(|message| format!(": {message}"));
    format!(
        "run {} of {}: {} ({}) after {}{}",
        record.run,
        text::name(&record.item),
        record.result,
        text::name(&record.reason),
        short(record.finished.since(record.started)),
        text::clean(&message.unwrap_or_default(), text::MESSAGE)
    )
}

/// Returns the exit status of a run that did not succeed.
fn failure(record: &RunRecord) -> Option<u8> {
    if record.result == RunResult::Succeeded {
        return None;
    }
    // A run that was stopped may have exited with 0, as may a container of a pod that was deleted, and
    // the exit code may not fit.
    let code = record.exit_code.and_then(|code| u8::try_from(code).ok());
    Some(code.filter(|code| *code != 0).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use oaat_api::Timestamp;

    #[test]
    fn exit_status_is_that_of_the_run() {
        for (result, exit_code, expected) in [
            (RunResult::Succeeded, Some(0), None),
            (RunResult::Failed, Some(3), Some(3)),
            (RunResult::Failed, Some(256), Some(1)),
            (RunResult::Failed, None, Some(1)),
            (RunResult::Failed, Some(0), Some(1)),
            (RunResult::Stopped, Some(0), Some(1)),
            (RunResult::Stopped, Some(143), Some(143)),
        ] {
            let record = RunRecord {
                run: 1,
                item: "a".into(),
                pod: None,
                started: Timestamp(0),
                finished: Timestamp(0),
                result,
                reason: "R".into(),
                message: None,
                exit_code,
            };
            assert_eq!(failure(&record), expected, "{result} {exit_code:?}");
        }
    }
}
