//! `kubectl oaat next` and `kubectl oaat forecast`.

use super::output::{Format, print_as};
use crate::cluster::{Access, ClusterArgs, ClusterError, Session, items_in_effect, read_group};
use crate::policy::{Forecast, ForecastView};
use crate::terminal::{escape_control, report};
use crate::views::{PolicyInEffect, from_now, short};
use clap::Args;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use oaat_api::reasons::ready;
use oaat_api::text::{self, clean};
use oaat_api::{BuiltInPolicy, OaatGroup, PolicyKey, Timestamp, condition};
use policy_host::{CompileProcess, Host, Limits, Policy};
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, oneshot};

/// How far `next` looks for a start. It tries shorter periods first.
const HORIZONS: [Duration; 3] = [
    Duration::from_secs(3600),
    Duration::from_secs(24 * 3600),
    Duration::from_secs(8 * 24 * 3600),
];
/// The maximum length of a forecast.
const MAX_LENGTH: Duration = Duration::from_secs(366 * 24 * 3600);

/// The maximum time of the simulation of a day for the dashboard.
const MAX_TIME: Duration = Duration::from_secs(5);
/// The maximum number of starts in the forecast of a day for the dashboard.
const MAX_STARTS: usize = 300;

/// Arguments of `next`.
#[derive(Args, Debug)]
pub struct NextArgs {
    /// The group.
    group: String,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The format of the output. The default is text.
    #[arg(short, long)]
    output: Option<Format>,
}

/// Arguments of `forecast`.
#[derive(Args, Debug)]
pub struct ForecastArgs {
    /// The group.
    group: String,
    /// How far to look ahead.
    #[arg(long = "for", value_name = "DURATION", default_value = "24h")]
    #[arg(value_parser = humantime::parse_duration)]
    length: Duration,
    /// Also write the forecast to this file as SVG.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The format of the output. The default is a timeline and a list of starts.
    #[arg(short, long)]
    output: Option<Format>,
}

pub(super) async fn next(args: &NextArgs, built_in: &[u8]) -> Result<(), ClusterError> {
    let session = Session::new(&args.cluster).await?;
    let group = read_group(&session, &args.group).await?;
    let policy = acting_policy(&session, &group, built_in).await?;
    let now = Timestamp::now();
    let mut view = None;
    for length in HORIZONS {
        let latest = simulate(&group, &policy, now, length, |_| None)?.view();
        let found = !latest.starts.is_empty();
        view = Some(latest);
        if found {
            break;
        }
    }
    let Some(mut view) = view else {
        return Ok(());
    };
    view.starts.truncate(1);
    warn_if_not_ready(&group);
    print_as(args.output, &view, |_| next_text(&view, now))
}

/// Reports that nothing starts now, contrary to the forecast.
fn warn_if_not_ready(group: &OaatGroup) {
    if let Some(problem) = not_ready(group) {
        report(&escape_control(&format!("warning: {problem}")));
    }
}

/// Returns why the group starts nothing now. A forecast assumes that this is over.
fn not_ready(group: &OaatGroup) -> Option<String> {
    let conditions = &group.status.as_ref()?.conditions;
    let condition = condition(conditions, ready::TYPE).filter(|c| c.status == "False")?;
    let problem = format!(
        "the group is not ready, and the forecast assumes that it is: {}: {}",
        condition.reason, condition.message
    );
    Some(clean(&problem, text::MESSAGE))
}

/// Formats the next start.
fn next_text(view: &ForecastView, now: Timestamp) -> String {
    let mut text = match view.starts.first() {
        Some(start) => {
            let note = start
                .note
                .as_ref()
                .map(|note| format!("\n  because: {note}"));
            format!(
                "{} starts {} ({}) and takes {}{}\n",
                text::name(&start.item),
                from_now(start.at, now),
                start.at.seconds(),
                match start.expected_seconds {
                    0 => "less than 1s".to_owned(),
                    seconds => format!("about {}", short(Duration::from_secs(seconds))),
                },
                note.unwrap_or_default()
            )
        }
        None => format!("nothing starts before {}\n", view.to.seconds()),
    };
    for assumption in &view.assumptions {
        text.push_str(&format!("  assumes that {assumption}\n"));
    }
    text
}

pub(super) async fn forecast(args: &ForecastArgs, built_in: &[u8]) -> Result<(), ClusterError> {
    if args.length.is_zero() || args.length > MAX_LENGTH {
        let length = humantime::format_duration(args.length);
        return Err(ClusterError::Usage(format!(
            "--for: {length} is out of range; use a duration of up to 366d, for example 24h"
        )));
    }
    let session = Session::new(&args.cluster).await?;
    let group = read_group(&session, &args.group).await?;
    let policy = acting_policy(&session, &group, built_in).await?;
    let forecast = simulate(&group, &policy, Timestamp::now(), args.length, |_| None)?;
    if let Some(file) = &args.svg {
        std::fs::write(file, forecast.svg())?;
    }
    warn_if_not_ready(&group);
    print_as(args.output, &forecast.view(), |_| {
        forecast.text(crate::terminal::width())
    })
}

fn simulate(
    group: &OaatGroup,
    policy: &Policy,
    now: Timestamp,
    length: Duration,
    stop: impl FnMut(Timestamp) -> Option<String>,
) -> Result<Forecast, ClusterError> {
    let listed = items_in_effect(group);
    Forecast::new(group, &listed, policy, now, length, stop)
        .map_err(|problem| ClusterError::Usage(clean(&problem, text::MESSAGE)))
}

/// Loads the policy in effect. Reports a policy that is not the version that decided last.
async fn acting_policy(
    session: &Session,
    group: &OaatGroup,
    built_in: &[u8],
) -> Result<Policy, ClusterError> {
    let component = component(session, group, built_in).await?;
    let policy = acting(group, &component)?;
    if let Some(warning) = other_version(group, &policy) {
        report(&format!("warning: {warning}"));
    }
    Ok(policy)
}

/// Reads the component of the policy in effect.
async fn component(
    session: &Session,
    group: &OaatGroup,
    built_in: &[u8],
) -> Result<Vec<u8>, ClusterError> {
    let (policy, _) = PolicyInEffect::for_forecast(group);
    match policy.built_in() {
        Some(BuiltInPolicy::Default) => return Ok(built_in.to_vec()),
        Some(policy) => return Ok(built_in_policies::component(policy).to_vec()),
        None => {}
    }
    let spec = group.spec.policy.as_ref();
    let Some(key) = spec.and_then(|spec| spec.config_map.as_ref()) else {
        return Ok(built_in.to_vec());
    };
    let api: Api<ConfigMap> = Api::namespaced(session.client.clone(), &session.namespace);
    let access = Access::new("get", "", "configmaps", Some(&session.namespace));
    let map = session.request(access, api.get(&key.name)).await;
    let map = map.map_err(|error| {
        if error.is_not_found() {
            not_in_cluster(key, "does not exist")
        } else {
            error
        }
    })?;
    let value = map.binary_data.and_then(|mut data| data.remove(&key.key));
    let missing = || {
        let problem = format!(
            "does not have the key {} in binaryData",
            text::name(&key.key)
        );
        not_in_cluster(key, &problem)
    };
    Ok(value.ok_or_else(missing)?.0)
}

/// Returns the error for a ConfigMap without the component of the policy.
fn not_in_cluster(key: &PolicyKey, problem: &str) -> ClusterError {
    ClusterError::Usage(format!(
        "the ConfigMap {} {problem}; the operator may decide with its copy of the policy, which \
         this command cannot evaluate",
        text::name(&key.name)
    ))
}

/// Compiles the policy in effect.
fn acting(group: &OaatGroup, component: &[u8]) -> Result<Policy, ClusterError> {
    let (policy, _) = PolicyInEffect::for_forecast(group);
    let is_default = policy.built_in() == Some(BuiltInPolicy::Default);
    load(component, is_default).map_err(|problem| {
        let problem = clean(&problem, text::MESSAGE);
        ClusterError::Usage(format!(
            "the policy of the group cannot be loaded: {problem}"
        ))
    })
}

/// Says that a policy is not the version that decided last.
fn other_version(group: &OaatGroup, policy: &Policy) -> Option<String> {
    let (in_effect, _) = PolicyInEffect::for_forecast(group);
    (in_effect.digest? != policy.digest()).then(|| {
        format!(
            "this policy is not the version that decided last; its sha256 is {}",
            policy.digest()
        )
    })
}

/// A forecast of the next day, for the dashboard.
#[derive(Serialize)]
pub(super) struct NextDay {
    #[serde(flatten)]
    view: ForecastView,
    /// The number of starts, of which the view has only the first ones.
    total: usize,
    /// Why the forecast may be wrong.
    warnings: Vec<String>,
}

impl NextDay {
    /// Simulates the next day of a group, until `is_canceled` returns true or the simulation takes
    /// longer than `limit`.
    fn simulate(
        group: &OaatGroup,
        policy: &Policy,
        limit: Duration,
        is_canceled: impl Fn() -> bool,
    ) -> Result<Self, ClusterError> {
        let day = Duration::from_secs(24 * 3600);
        let start = Instant::now();
        let stop = |now: Timestamp| {
            let at = now.seconds();
            if is_canceled() {
                Some(format!("the forecast was canceled at {at}"))
            } else if start.elapsed() >= limit {
                let limit = limit.as_secs();
                Some(format!(
                    "the forecast took longer than {limit} s, and was stopped at {at}"
                ))
            } else {
                None
            }
        };
        let mut view = simulate(group, policy, Timestamp::now(), day, stop)?.view();
        let total = view.starts.len();
        view.starts.truncate(MAX_STARTS);
        let warnings = [not_ready(group), other_version(group, policy)];
        Ok(Self {
            view,
            total,
            warnings: warnings.into_iter().flatten().collect(),
        })
    }
}

/// Simulates the next day of a group. Dropping the future cancels the simulation. Simulations hold a
/// permit of `permits` until they end.
pub(super) async fn next_day(
    session: &Session,
    name: &str,
    built_in: &[u8],
    permits: &Arc<Semaphore>,
) -> Result<NextDay, ClusterError> {
    let group = read_group(session, name).await?;
    let component = component(session, &group, built_in).await?;
    // They are never closed.
    let permit = permits.clone().acquire_owned().await.ok();
    // The compilation and the simulation take a while.
    let (sender, receiver) = oneshot::channel();
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let policy = acting(&group, &component);
        let day = policy.and_then(|policy| {
            // The receiver is dropped with this future.
            NextDay::simulate(&group, &policy, MAX_TIME, || sender.is_closed())
        });
        // Nobody waits for a canceled forecast.
        let _ = sender.send(day);
    });
    let failed = |_| ClusterError::Usage("the simulation of the group failed".to_owned());
    receiver.await.map_err(failed)?
}

/// Loads a component. Anyone who may change its ConfigMap can make it hostile to the compiler, so a
/// group's own policy is compiled in a child process, with the operator's limits.
fn load(component: &[u8], is_default: bool) -> Result<Policy, String> {
    let host = Host::new(Limits::default()).map_err(|error| error.to_string())?;
    let policy = if is_default {
        host.load(component, None)
    } else {
        let compiled = CompileProcess::of_this_program(host).compile(component);
        compiled.map(|compiled| compiled.policy)
    };
    policy.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::test_groups::backup;
    use serde_json::json;

    #[test]
    fn group_that_is_not_ready_is_reported_before_its_forecast() {
        let mut group = backup();
        assert_eq!(not_ready(&group), None);
        let status = group.status.as_mut().unwrap();
        let condition = json!([{
            "type": "Ready", "status": "False", "reason": "TypeNotFound", "message": "create it",
            "lastTransitionTime": "2026-03-02T11:00:00Z",
        }]);
        status.conditions = serde_json::from_value(condition).unwrap();
        let expected = "the group is not ready, and the forecast assumes that it is: \
                        TypeNotFound: create it";
        assert_eq!(not_ready(&group).as_deref(), Some(expected));
    }

    #[test]
    fn missing_component_is_reported_with_the_copy_of_the_operator() {
        let key: PolicyKey = serde_json::from_value(json!({ "name": "mine" })).unwrap();
        let expected = "the ConfigMap mine does not exist; the operator may decide with its copy \
                        of the policy, which this command cannot evaluate";
        let error = not_in_cluster(&key, "does not exist");
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn forecast_for_the_dashboard_is_stopped_if_it_is_canceled_or_takes_too_long() {
        let policy = acting(&backup(), built_in_policies::DEFAULT_POLICY).unwrap();
        let simulate = |limit, is_canceled| {
            let day = NextDay::simulate(&backup(), &policy, limit, || is_canceled);
            day.map_err(|error| error.to_string())
        };
        assert!(simulate(Duration::MAX, false).is_ok());
        for (limit, is_canceled, expected) in [
            (Duration::MAX, true, "the forecast was canceled at "),
            (
                Duration::ZERO,
                false,
                "the forecast took longer than 0 s, and was stopped at ",
            ),
        ] {
            let problem = simulate(limit, is_canceled).err().unwrap_or_default();
            assert!(problem.starts_with(expected), "{problem}");
        }
    }

    #[test]
    fn next_start_is_relative_to_the_current_time() {
        let view = |starts: serde_json::Value| -> ForecastView {
            ForecastView {
                group: "g".into(),
                namespace: "n".into(),
                policy: "d".into(),
                from: Timestamp(0),
                to: Timestamp(3_600_000),
                assumptions: vec!["all runs succeed".into()],
                starts: serde_json::from_value(starts).unwrap(),
                late: Vec::new(),
                starved: Vec::new(),
            }
        };
        let start = json!([{
            "at": "1970-01-01T00:10:00Z", "item": "a", "expectedSeconds": 90, "note": "oldest",
        }]);
        let expected = "\
a starts in 10m (1970-01-01T00:10:00Z) and takes about 1m30s
  because: oldest
  assumes that all runs succeed
";
        assert_eq!(next_text(&view(start), Timestamp(0)), expected);
        let start = json!([{ "at": "1970-01-01T00:00:00.2Z", "item": "a", "expectedSeconds": 0 }]);
        let expected = "\
a starts in 1s (1970-01-01T00:00:01Z) and takes less than 1s
  assumes that all runs succeed
";
        assert_eq!(next_text(&view(start), Timestamp(0)), expected);
        let expected =
            "nothing starts before 1970-01-01T01:00:00Z\n  assumes that all runs succeed\n";
        assert_eq!(next_text(&view(json!([])), Timestamp(0)), expected);
    }
}
