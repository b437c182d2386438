//! What the checks find, and how to fix it. Pure.

use crate::cluster::{ClusterError, GroupRead};
use crate::views::counted;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use oaat_api::reasons::{policy_ready, ready};
use oaat_api::text::{self, clean};
use oaat_api::{OaatGroup, Timestamp, condition};
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// The maximum difference between two clocks. Lateness and times in tables are wrong by as much.
const MAX_SKEW: Duration = Duration::from_secs(5);
/// How long a group may wait for a reconcile after a change.
const MAX_DELAY: Duration = Duration::from_secs(60);

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Finding {
    Ok,
    /// The check could not be made, or what it found may be intended.
    Warning,
    Failed,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        })
    }
}

/// A check.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Check {
    pub name: &'static str,
    pub finding: Finding,
    /// What the check found.
    pub cause: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Check {
    fn ok(name: &'static str, cause: impl Into<String>) -> Self {
        Self {
            name,
            finding: Finding::Ok,
            cause: cause.into(),
            fix: None,
        }
    }

    fn failed(name: &'static str, cause: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            name,
            finding: Finding::Failed,
            cause: cause.into(),
            fix: Some(fix.into()),
        }
    }

    fn warning(name: &'static str, cause: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            finding: Finding::Warning,
            ..Self::failed(name, cause, fix)
        }
    }

    /// Returns a check that could not be made, for example because a right is missing.
    pub fn unknown(name: &'static str, error: &ClusterError) -> Self {
        let fix = "run this command as a user with that right";
        match error {
            ClusterError::Forbidden(_) => Self::warning(name, format!("not checked: {error}"), fix),
            _ => Self::warning(
                name,
                format!("not checked: {error}"),
                "run this command again",
            ),
        }
    }
}

/// Formats checks as lines, each with its cause and its fix.
pub(super) fn text(checks: &[Check]) -> String {
    let lines = checks.iter().map(|check| {
        let fix = check
            .fix
            .as_ref()
            .map(|fix| format!("           fix: {fix}\n"));
        format!(
            "{:<8} {}: {}\n{}",
            check.finding.to_string(),
            check.name,
            check.cause,
            fix.unwrap_or_default()
        )
    });
    lines.collect()
}

/// Checks that both kinds exist.
pub(super) fn kinds(missing: &Result<Vec<&'static str>, ClusterError>) -> Check {
    match missing {
        Ok(missing) if missing.is_empty() => {
            Check::ok("CustomResourceDefinitions", "OaatGroup and OaatType exist")
        }
        Ok(missing) => Check::failed(
            "CustomResourceDefinitions",
            format!("the cluster does not have {}", missing.join(" and ")),
            "with the chart, set crds.install=true; with the manifests, kubectl apply -f \
             manifests/01-oaat-operator-crd.yaml",
        ),
        Err(error) => Check::unknown("CustomResourceDefinitions", error),
    }
}

/// A right that the user does not have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MissingRight {
    pub verb: &'static str,
    pub resource: String,
    /// The commands that need it.
    pub used_by: &'static str,
}

/// Reports which commands the user may not use.
pub(super) fn rights(missing: &[MissingRight]) -> Check {
    if missing.is_empty() {
        return Check::ok("permissions", "you can use all commands");
    }
    let rights = missing
        .iter()
        .map(|right| format!("{} {} ({})", right.verb, right.resource, right.used_by));
    let rights: Vec<_> = rights.collect();
    let role = if missing.iter().any(|right| right.verb == "patch") {
        "edit"
    } else {
        "view"
    };
    Check::warning(
        "permissions",
        format!("you do not have permission to {}", rights.join("; ")),
        format!("if you need these commands, ask for the ClusterRole {role} in the namespace"),
    )
}

/// The guards in a cluster.
#[derive(Debug, Default)]
pub(super) struct Guard {
    /// The names of the admission policies.
    pub names: Vec<String>,
    /// Whether one of them has a binding.
    pub is_bound: bool,
}

/// Checks that a guard and its binding exist.
pub(super) fn guard(found: &Result<Guard, ClusterError>) -> Check {
    const FIX: &str = "with the chart, set guard.enabled=true; with the manifests, kubectl apply -f \
                       manifests/03-oaat-operator-guard.yaml";
    let guard = match found {
        Ok(guard) => guard,
        Err(error) => return Check::unknown("guard", error),
    };
    let names = text::list(&guard.names, ", ", text::NAME);
    if guard.names.is_empty() {
        let cause = "the admission policy does not exist; it is optional";
        Check::warning("guard", cause, format!("if you want it: {FIX}"))
    } else if guard.is_bound {
        Check::ok("guard", format!("{names} and its binding exist"))
    } else {
        Check::failed("guard", format!("{names} has no binding"), FIX)
    }
}

/// A comparison of the clock of this machine with that of the API server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// The time of this machine before the request.
    pub before: Timestamp,
    /// The time of this machine after the response.
    pub after: Timestamp,
    /// The time in the response, in whole seconds.
    pub server: Option<Timestamp>,
}

fn time(at: &MicroTime) -> Timestamp {
    Timestamp(at.0.as_millisecond())
}

/// Returns when a Lease was renewed, and when it expires.
fn validity(lease: &Lease) -> Option<(Timestamp, Timestamp)> {
    let spec = lease.spec.as_ref()?;
    let renewed = time(spec.renew_time.as_ref()?);
    let seconds = u64::try_from(spec.lease_duration_seconds?).ok()?;
    Some((renewed, renewed.plus(Duration::from_secs(seconds))))
}

/// Checks that an operator holds a Lease.
pub(super) fn leader(
    leases: &Result<Vec<Lease>, ClusterError>,
    namespace: &str,
    server: Option<Timestamp>,
) -> Check {
    let leases = match leases {
        Ok(leases) => leases,
        Err(error) => return Check::unknown("leader", error),
    };
    let now = server.unwrap_or_else(Timestamp::now);
    let mut alive = Vec::new();
    let mut expired = Vec::new();
    for lease in leases {
        let Some((_, expires)) = validity(lease) else {
            continue;
        };
        let holder = lease
            .spec
            .as_ref()
            .and_then(|spec| spec.holder_identity.as_deref());
        let holder = text::name(holder.unwrap_or_default());
        let name = text::name(lease.metadata.name.as_deref().unwrap_or_default());
        if holder.is_empty() {
            expired.push(format!("{name} has no holder"));
        } else if now > expires.plus(MAX_SKEW) {
            expired.push(format!("{name} expired at {}", expires.seconds()));
        } else {
            alive.push(holder);
        }
    }
    let fix = format!(
        "check the operator: kubectl -n {namespace} get pods, and kubectl -n {namespace} logs \
         --selector app.kubernetes.io/name=oaat-operator"
    );
    match (alive.as_slice(), expired.as_slice()) {
        ([], []) => Check::failed(
            "leader",
            format!("no operator has a Lease in namespace {namespace}"),
            format!("install the operator, or use --operator-namespace; if it runs, {fix}"),
        ),
        (alive, []) => Check::ok("leader", text::list(alive, ", ", text::NAME)),
        ([], expired) => Check::failed("leader", text::list(expired, "; ", text::NAME), fix),
        // The live shards share the groups of the others.
        (_, expired) => Check::warning(
            "leader",
            text::list(expired, "; ", text::NAME),
            format!("{fix}; delete Leases that are left from an earlier configuration"),
        ),
    }
}

/// Checks that the clocks of this machine, the API server, and the leaders agree.
pub(super) fn clocks(clock: &Clock, leases: &Result<Vec<Lease>, ClusterError>) -> Check {
    let Some(server) = clock.server else {
        let cause = "not checked: the response of the API server has no date";
        return Check::warning("clocks", cause, "compare the clocks of the nodes");
    };
    // The date is in whole seconds, rounded down.
    let latest = server.plus(Duration::from_secs(1));
    let ahead = clock.before.since(latest);
    let behind = server.since(clock.after);
    let fix = "synchronize the clocks, for example with chrony or systemd-timesyncd";
    if ahead.max(behind) > MAX_SKEW {
        let (by, direction) = if ahead > behind {
            (ahead, "ahead of")
        } else {
            (behind, "behind")
        };
        let cause = format!(
            "the clock of this machine is {} {direction} that of the API server",
            humantime::format_duration(Duration::from_secs(by.as_secs()))
        );
        return Check::failed("clocks", cause, fix);
    }
    let leases = leases.iter().flatten();
    let ahead = leases.filter_map(|lease| Some(validity(lease)?.0.since(latest)));
    match ahead.max().filter(|ahead| *ahead > MAX_SKEW) {
        Some(ahead) => Check::failed(
            "clocks",
            format!(
                "the clock of an operator is {} ahead of that of the API server",
                humantime::format_duration(Duration::from_secs(ahead.as_secs()))
            ),
            fix,
        ),
        None => Check::ok("clocks", "this machine and the API server agree"),
    }
}

/// Checks the groups: that they can be decoded, are reconciled, ready, and have their policy.
pub(super) fn groups(read: &Result<Vec<GroupRead>, ClusterError>) -> Vec<Check> {
    let read = match read {
        Ok(read) => read,
        Err(error) => return vec![Check::unknown("groups", error)],
    };
    let mut problems = Vec::new();
    let mut policies = Vec::new();
    let now = Timestamp::now();
    for GroupRead {
        namespace,
        name,
        group,
    } in read
    {
        let at = format!("{namespace}/{name}");
        match group {
            Err(problem) => problems.push(format!("{at}: cannot be decoded: {problem}")),
            Ok(group) => {
                problems.extend(problem(group, now).map(|problem| format!("{at}: {problem}")));
                policies.extend(
                    false_condition(group, policy_ready::TYPE)
                        .map(|problem| format!("{at}: {problem}")),
                );
            }
        }
    }
    let check = |name, problems: &[String], fix: &str| {
        if problems.is_empty() {
            return Check::ok(name, counted(read.len(), "group"));
        }
        Check::failed(name, text::list(problems, "; ", text::PROBLEM), fix)
    };
    vec![
        check(
            "groups",
            &problems,
            "see docs/troubleshooting.md for the reason, and run kubectl oaat status GROUP",
        ),
        check(
            "policies",
            &policies,
            "see docs/policies.md for the reason, and run kubectl oaat policy check",
        ),
    ]
}

/// Returns what is wrong with a group.
fn problem(group: &OaatGroup, now: Timestamp) -> Option<String> {
    let status = group.status.as_ref();
    let observed = status.and_then(|status| status.observed_generation);
    let created = group.metadata.creation_timestamp.as_ref();
    let created = created.map_or(now, |at| Timestamp(at.0.as_millisecond()));
    if observed.is_none() && now.since(created) > MAX_DELAY {
        return Some("the operator has never reconciled it".to_owned());
    }
    let condition = status.and_then(|s| condition(&s.conditions, ready::TYPE))?;
    // The policies have a separate check.
    if condition.reason == ready::POLICY_NOT_READY {
        return None;
    }
    false_condition(group, ready::TYPE)
}

/// Returns the reason and the message of a condition that is false.
fn false_condition(group: &OaatGroup, type_: &str) -> Option<String> {
    let status = group.status.as_ref()?;
    let condition = condition(&status.conditions, type_).filter(|c| c.status == "False")?;
    let text = format!("{}: {}", condition.reason, condition.message);
    Some(clean(&text, text::PROBLEM))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Access;
    use crate::views::test_groups::{NOW, backup};
    use serde_json::json;

    fn lease(renewed: &str) -> Lease {
        serde_json::from_value(json!({
            "metadata": { "name": "oaat-operator" },
            "spec": {
                "holderIdentity": "pod-a", "leaseDurationSeconds": 15,
                "renewTime": renewed,
            },
        }))
        .unwrap()
    }

    fn found(check: &Check) -> (Finding, &str) {
        (check.finding, check.cause.as_str())
    }

    #[test]
    fn leader_must_have_renewed_its_lease() {
        for (leases, expected) in [
            (
                vec![lease("2026-03-02T11:59:50.000000Z")],
                (Finding::Ok, "pod-a"),
            ),
            (
                vec![lease("2026-03-02T11:00:00.000000Z")],
                (
                    Finding::Failed,
                    "oaat-operator expired at 2026-03-02T11:00:15Z",
                ),
            ),
            // A live Lease of one shard does not hide that another shard has no operator.
            (
                vec![
                    lease("2026-03-02T11:59:50.000000Z"),
                    lease("2026-03-02T11:00:00.000000Z"),
                ],
                (
                    Finding::Warning,
                    "oaat-operator expired at 2026-03-02T11:00:15Z",
                ),
            ),
            (
                Vec::new(),
                (
                    Finding::Failed,
                    "no operator has a Lease in namespace oaat-operator",
                ),
            ),
        ] {
            let check = leader(&Ok(leases), "oaat-operator", Some(NOW));
            assert_eq!(found(&check), expected);
            assert_eq!(check.fix.is_some(), check.finding != Finding::Ok);
        }
        let forbidden = Access::new("list", "coordination.k8s.io", "leases", Some("a"));
        let check = leader(&Err(ClusterError::Forbidden(forbidden)), "a", Some(NOW));
        assert_eq!(check.finding, Finding::Warning);
        assert!(
            check.cause.contains("list leases.coordination.k8s.io"),
            "{check:?}"
        );
    }

    #[test]
    fn clocks_may_differ_by_a_few_seconds() {
        let clock = |before: i64, server: Option<i64>| Clock {
            before: Timestamp(NOW.0 + before * 1000),
            after: Timestamp(NOW.0 + before * 1000 + 200),
            server: server.map(|server| Timestamp(NOW.0 + server * 1000)),
        };
        let leases = Ok(vec![lease("2026-03-02T12:01:00.000000Z")]);
        let none = Ok(Vec::new());
        for (clock, leases, expected) in [
            (clock(0, Some(3)), &none, Finding::Ok),
            (clock(60, Some(0)), &none, Finding::Failed),
            (clock(0, Some(60)), &none, Finding::Failed),
            (clock(0, Some(0)), &leases, Finding::Failed),
            (clock(0, None), &none, Finding::Warning),
        ] {
            let check = clocks(&clock, leases);
            assert_eq!(check.finding, expected, "{check:?}");
        }
        let check = clocks(&clock(60, Some(0)), &none);
        assert_eq!(
            check.cause,
            "the clock of this machine is 59s ahead of that of the API server"
        );
    }

    #[test]
    fn guard_kinds_and_rights_are_reported_with_their_fix() {
        let found_guard = |names: &[&str], is_bound| {
            let names = names.iter().map(ToString::to_string).collect();
            guard(&Ok(Guard { names, is_bound })).finding
        };
        assert_eq!(found_guard(&["prod-guard"], true), Finding::Ok);
        assert_eq!(found_guard(&["prod-guard"], false), Finding::Failed);
        assert_eq!(found_guard(&[], false), Finding::Warning);
        assert_eq!(kinds(&Ok(Vec::new())).finding, Finding::Ok);
        assert_eq!(rights(&[]).finding, Finding::Ok);
        let missing = [MissingRight {
            verb: "patch",
            resource: "oaatgroups".into(),
            used_by: "run",
        }];
        let checks = [kinds(&Ok(vec!["oaattypes"])), rights(&missing)];
        let expected = "\
failed   CustomResourceDefinitions: the cluster does not have oaattypes
           fix: with the chart, set crds.install=true; with the manifests, kubectl apply -f \
manifests/01-oaat-operator-crd.yaml
warning  permissions: you do not have permission to patch oaatgroups (run)
           fix: if you need these commands, ask for the ClusterRole edit in the namespace
";
        assert_eq!(text(&checks), expected);
    }

    #[test]
    fn groups_that_are_not_ready_are_listed() {
        let read = |group: Result<OaatGroup, String>| GroupRead {
            namespace: "media".into(),
            name: "backup".into(),
            group,
        };
        let condition = |type_: &str, reason: &str| {
            json!({
                "type": type_, "status": "False", "reason": reason, "message": "why",
                "lastTransitionTime": "2026-03-02T11:00:00Z",
            })
        };
        let with = |conditions: serde_json::Value| {
            let mut group = backup();
            let status = group.status.as_mut().unwrap();
            status.conditions = serde_json::from_value(conditions).unwrap();
            group
        };
        let ok = groups(&Ok(vec![read(Ok(backup()))]));
        assert_eq!(
            ok.iter().map(found).collect::<Vec<_>>(),
            [(Finding::Ok, "1 group"); 2]
        );
        let type_ = with(json!([condition("Ready", "TypeNotFound")]));
        let policy = with(json!([
            condition("Ready", "PolicyNotReady"),
            condition("PolicyReady", "Malformed"),
        ]));
        let mut ignored = backup();
        ignored.status = None;
        ignored.metadata.creation_timestamp =
            Some(serde_json::from_value(json!("2020-01-01T00:00:00Z")).unwrap());
        let bad = groups(&Ok(vec![
            read(Ok(type_)),
            read(Ok(policy)),
            read(Ok(ignored)),
            read(Err("spec".into())),
        ]));
        let expected = [
            (
                Finding::Failed,
                "media/backup: TypeNotFound: why; media/backup: the operator has never reconciled \
                 it; media/backup: cannot be decoded: spec",
            ),
            (Finding::Failed, "media/backup: Malformed: why"),
        ];
        assert_eq!(bad.iter().map(found).collect::<Vec<_>>(), expected);
    }
}
