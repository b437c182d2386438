//! The leader, and the clocks of this machine, of the API server, and of the leader.

use super::Check;
use crate::cluster::ClusterError;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use oaat_api::Timestamp;
use oaat_api::text;
use std::time::Duration;

/// The maximum difference between two clocks. Lateness and times in tables are wrong by as much.
const MAX_SKEW: Duration = Duration::from_secs(5);

/// A comparison of the clock of this machine with that of the API server.
#[derive(Clone, Copy, Debug)]
pub(in crate::commands::doctor) struct Clock {
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
pub(in crate::commands::doctor) fn leader(
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
pub(in crate::commands::doctor) fn clocks(
    clock: &Clock,
    leases: &Result<Vec<Lease>, ClusterError>,
) -> Check {
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

#[cfg(test)]
mod tests {
    use super::super::Finding;
    use super::*;
    use crate::cluster::Access;
    use crate::views::test_groups::NOW;
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
}
