//! The groups of the cluster, and their policies.

use super::Check;
use crate::cluster::{ClusterError, GroupRead};
use crate::views::counted;
use oaat_api::reasons::{policy_ready, ready};
use oaat_api::text::{self, clean};
use oaat_api::{OaatGroup, Timestamp, condition};
use std::time::Duration;

/// How long a group may wait for a reconcile after a change.
const MAX_DELAY: Duration = Duration::from_secs(60);

/// Checks the groups: that they can be decoded, are reconciled, ready, and have their policy.
pub(in crate::commands::doctor) fn groups(
    read: &Result<Vec<GroupRead>, ClusterError>,
) -> Vec<Check> {
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
    use super::super::Finding;
    use super::*;
    use crate::views::test_groups::backup;
    use serde_json::json;

    fn found(check: &Check) -> (Finding, &str) {
        (check.finding, check.cause.as_str())
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
