//! The groups of the cluster, and their policies.

use super::Check;
use crate::cluster::{ClusterError, GroupRead};
use crate::views::counted;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
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
        Err(error) => return vec![Check::unknown(GROUPS, error)],
    };
    let (mut problems, mut policies, mut stopped) = (Vec::new(), Vec::new(), 0);
    let now = Timestamp::now();
    for GroupRead {
        namespace,
        name,
        group,
    } in read
    {
        match group {
            Err(problem) => {
                let problem = Problem {
                    cause: clean(&format!("cannot be decoded: {problem}"), text::PROBLEM),
                    command: Some(VALIDATE),
                };
                problems.push(problem.check(GROUPS, namespace, name));
            }
            Ok(group) => {
                problems.extend(
                    problem(group, now).map(|problem| problem.check(GROUPS, namespace, name)),
                );
                if let Some(found) = policy_problem(group) {
                    policies.push(found.check(POLICIES, namespace, name));
                    let ready = false_condition(group, ready::TYPE);
                    let is_stopped = ready.is_some_and(|c| c.reason == ready::POLICY_NOT_READY);
                    stopped += usize::from(is_stopped);
                }
            }
        }
    }
    let all = counted(read.len(), "group");
    if problems.is_empty() && stopped > 0 {
        let cause = format!("{stopped} of {all} cannot start items because of their policies");
        problems.push(Check::failed(GROUPS, cause, "fix the policies below"));
    }
    let mut checks = bounded(GROUPS, problems, &all);
    checks.extend(bounded(POLICIES, policies, &all));
    checks
}

/// The names of the checks.
const GROUPS: &str = "groups";
const POLICIES: &str = "policies";
/// The maximum number of groups that a check lists.
const MAX_LISTED: usize = 10;

/// Limits the number of failed checks. Without any, the check of all groups succeeds.
fn bounded(name: &'static str, mut failed: Vec<Check>, all: &str) -> Vec<Check> {
    if failed.is_empty() {
        return vec![Check::ok(name, all)];
    }
    let others = failed.len().saturating_sub(MAX_LISTED);
    if others > 0 {
        failed.truncate(MAX_LISTED);
        let cause = format!("{} not shown", counted(others, "more group"));
        let fix = "fix the groups above, and run this command again";
        failed.push(Check::failed(name, cause, fix));
    }
    failed
}

/// A problem of a group.
struct Problem {
    cause: String,
    /// The command that helps to diagnose or fix it. `GROUP` is replaced by the name of the group
    /// and its namespace.
    command: Option<&'static str>,
}

impl Problem {
    /// Returns the failed check `name` of a group.
    fn check(self, name: &'static str, namespace: &str, group: &str) -> Check {
        let page = match name {
            POLICIES => "docs/policies.md",
            _ => "docs/troubleshooting.md",
        };
        let command = self.command.map_or_else(String::new, |command| {
            let command = command.replace("GROUP", &format!("{group} -n {namespace}"));
            format!(", and run {command}")
        });
        let fix = format!("look up the reason in {page}{command}");
        Check::failed(name, format!("{namespace}/{group}: {}", self.cause), fix)
    }
}

const VALIDATE: &str = "kubectl oaat validate -f FILE";

/// Returns the command for a reason of the condition `Ready`.
fn command(reason: &str) -> &'static str {
    match reason {
        ready::SPEC_INVALID | ready::UNDECODABLE => VALIDATE,
        _ => "kubectl oaat status GROUP",
    }
}

/// Returns the command for a reason of the condition `PolicyReady`, if one helps. `is_built_in` is true
/// if the spec names a built-in policy.
fn policy_command(reason: &str, is_built_in: bool) -> Option<&'static str> {
    use policy_ready::{
        BAD_ANSWER, COMPILE_FAILED, COMPILE_TIMEOUT, COMPILE_TOO_LARGE, COMPOSED_COMPONENT,
        CONTRACT_TOO_NEW, DEADLINE, DIGEST_MISMATCH, FORBIDDEN_IMPORT, INTERFACE_MISMATCH,
        KEY_NOT_FOUND, MALFORMED, OUT_OF_FUEL, OUT_OF_MEMORY, POLICY_ERROR, PROBE_FAILED,
        SETTINGS_REJECTED, SOURCE_NOT_FOUND, TOO_LARGE, TRAPPED,
    };
    Some(match reason {
        SOURCE_NOT_FOUND | KEY_NOT_FOUND => "kubectl oaat policy pack FILE --name CONFIGMAP",
        SETTINGS_REJECTED if is_built_in => VALIDATE,
        SETTINGS_REJECTED => "kubectl oaat policy check FILE --settings JSON",
        TOO_LARGE | DIGEST_MISMATCH | MALFORMED | FORBIDDEN_IMPORT | CONTRACT_TOO_NEW
        | INTERFACE_MISMATCH | COMPILE_FAILED | COMPILE_TIMEOUT | COMPILE_TOO_LARGE
        | COMPOSED_COMPONENT | PROBE_FAILED => "kubectl oaat policy check FILE",
        POLICY_ERROR | TRAPPED | OUT_OF_MEMORY | BAD_ANSWER => "kubectl oaat policy replay LOG",
        OUT_OF_FUEL | DEADLINE => "kubectl oaat policy bench FILE",
        _ => return None,
    })
}

/// Returns what is wrong with the policy of a group.
fn policy_problem(group: &OaatGroup) -> Option<Problem> {
    let policy = group.spec.policy.as_ref();
    let is_built_in = policy.is_some_and(|policy| policy.built_in.is_some());
    let condition = false_condition(group, policy_ready::TYPE)?;
    Some(Problem {
        cause: describe(condition),
        command: policy_command(&condition.reason, is_built_in),
    })
}

/// Returns what is wrong with a group.
fn problem(group: &OaatGroup, now: Timestamp) -> Option<Problem> {
    let status = group.status.as_ref();
    let observed = status.and_then(|status| status.observed_generation);
    let created = group.metadata.creation_timestamp.as_ref();
    let created = created.map_or(now, |at| Timestamp(at.0.as_millisecond()));
    if observed.is_none() && now.since(created) > MAX_DELAY {
        return Some(Problem {
            cause: "the operator has never reconciled it".to_owned(),
            command: None,
        });
    }
    let condition = false_condition(group, ready::TYPE)?;
    // The policies have a separate check.
    (condition.reason != ready::POLICY_NOT_READY).then(|| Problem {
        cause: describe(condition),
        command: Some(command(&condition.reason)),
    })
}

/// Returns a condition that is false.
fn false_condition<'a>(group: &'a OaatGroup, type_: &str) -> Option<&'a Condition> {
    let status = group.status.as_ref()?;
    condition(&status.conditions, type_).filter(|c| c.status == "False")
}

/// Returns the reason and the message of a condition.
fn describe(condition: &Condition) -> String {
    let text = format!("{}: {}", condition.reason, condition.message);
    clean(&text, text::PROBLEM)
}

#[cfg(test)]
mod tests {
    use super::super::Finding;
    use super::*;
    use crate::command_line::Cli;
    use crate::views::test_groups::{backup, rejecting};
    use clap::Parser;
    use serde_json::json;
    use std::collections::BTreeSet;
    use std::path::Path;

    /// Returns the reasons of a module in `oaat_api::reasons`.
    fn reasons(module: &str) -> BTreeSet<String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let source = std::fs::read_to_string(root.join("crates/oaat-api/src/reasons.rs")).unwrap();
        let start = format!("pub mod {module} {{");
        let (_, code) = source.split_once(&start).unwrap();
        let (code, _) = code.split_once("\n}").unwrap();
        let constants = code.split("pub const ").skip(1);
        constants
            .filter(|constant| !constant.starts_with("TYPE:"))
            .filter_map(|constant| constant.split_once(": &str = \"")?.1.split('"').next())
            .map(ToOwned::to_owned)
            .collect()
    }

    #[test]
    fn policy_reasons_have_the_expected_commands() {
        let check = "kubectl oaat policy check FILE";
        let pack = "kubectl oaat policy pack FILE --name CONFIGMAP";
        let replay = "kubectl oaat policy replay LOG";
        let bench = "kubectl oaat policy bench FILE";
        let settings = "kubectl oaat policy check FILE --settings JSON";
        let expected = [
            // The operator does something first, or an administrator must.
            ("Loading", None),
            ("SourceUnreadable", None),
            ("CompilerUnavailable", None),
            ("SourceNotFound", Some(pack)),
            ("KeyNotFound", Some(pack)),
            ("TooLarge", Some(check)),
            ("DigestMismatch", Some(check)),
            ("Malformed", Some(check)),
            ("ForbiddenImport", Some(check)),
            ("ContractTooNew", Some(check)),
            ("InterfaceMismatch", Some(check)),
            ("CompileFailed", Some(check)),
            ("CompileTimeout", Some(check)),
            ("CompileTooLarge", Some(check)),
            ("ComposedComponent", Some(check)),
            ("ProbeFailed", Some(check)),
            ("SettingsRejected", Some(settings)),
            ("PolicyError", Some(replay)),
            ("Trapped", Some(replay)),
            ("OutOfMemory", Some(replay)),
            ("BadAnswer", Some(replay)),
            ("OutOfFuel", Some(bench)),
            ("Deadline", Some(bench)),
        ];
        for (reason, command) in expected {
            assert_eq!(policy_command(reason, false), command, "{reason}");
            let built_in = match reason {
                "SettingsRejected" => Some(VALIDATE),
                _ => command,
            };
            assert_eq!(policy_command(reason, true), built_in, "{reason}");
        }
        let mut all: BTreeSet<_> = expected.map(|(reason, _)| reason.to_owned()).into();
        // With this reason, the condition is true.
        all.insert("Ready".to_owned());
        assert_eq!(all, reasons("policy_ready"));
        // A reason of a later release.
        assert_eq!(policy_command("New", true), None);
    }

    #[test]
    fn each_reason_of_a_group_has_a_fitting_command() {
        for reason in reasons("ready") {
            let is_of_spec = ["SpecInvalid", "Undecodable"].contains(&reason.as_str());
            assert_eq!(command(&reason) == VALIDATE, is_of_spec, "{reason}");
        }
    }

    #[test]
    fn recommended_commands_exist() {
        let of_policies = reasons("policy_ready").into_iter().flat_map(|reason| {
            [true, false].map(|is_built_in| policy_command(&reason, is_built_in))
        });
        let of_groups = reasons("ready");
        let of_groups = of_groups.iter().map(|reason| Some(command(reason)));
        let commands: BTreeSet<_> = of_policies.chain(of_groups).flatten().collect();
        assert!(commands.len() > 5, "{commands:?}");
        for command in commands {
            let words = command.strip_prefix("kubectl oaat ").unwrap().split(' ');
            let parsed = Cli::try_parse_from(["kubectl-oaat"].into_iter().chain(words));
            assert!(parsed.is_ok(), "{command}: {:?}", parsed.err());
        }
    }

    #[test]
    fn rejected_settings_are_fixed_with_validate_or_check() {
        let group = |built_in: bool| {
            let mut group = rejecting("base is not a duration");
            let policy = if built_in {
                json!({ "builtIn": "backoff" })
            } else {
                json!({ "configMap": { "name": "mine" } })
            };
            group.spec.policy = Some(serde_json::from_value(policy).unwrap());
            GroupRead {
                namespace: "media".into(),
                name: "backup".into(),
                group: Ok(group),
            }
        };
        let checks = groups(&Ok(vec![group(true), group(false)]));
        let fixes: Vec<_> = checks.iter().filter_map(|c| c.fix.as_deref()).collect();
        let start = "look up the reason in docs/policies.md, and run";
        let check = "kubectl oaat policy check FILE --settings JSON";
        let expected = [VALIDATE, check].map(|command| format!("{start} {command}"));
        assert_eq!(fixes, expected);
    }

    #[test]
    fn fix_names_the_group_and_its_namespace() {
        let problem = Problem {
            cause: "why".to_owned(),
            command: Some(command("TypeNotFound")),
        };
        let fix = problem.check(GROUPS, "media", "backup").fix.unwrap();
        let command = ", and run kubectl oaat status backup -n media";
        assert!(fix.ends_with(command), "{fix}");
    }

    #[test]
    fn groups_without_a_policy_are_not_ok_and_only_some_are_listed() {
        let read = |count: usize, reason: &str| {
            let mut group = backup();
            let status = group.status.as_mut().unwrap();
            let condition = |type_: &str, reason: &str| {
                json!({
                    "type": type_, "status": "False", "reason": reason, "message": "why",
                    "lastTransitionTime": "2026-03-02T11:00:00Z",
                })
            };
            let conditions = json!([
                condition("Ready", reason),
                condition("PolicyReady", "Malformed"),
            ]);
            status.conditions = serde_json::from_value(conditions).unwrap();
            let read = GroupRead {
                namespace: "media".into(),
                name: "backup".into(),
                group: Ok(group),
            };
            vec![read; count]
        };
        let mut of_policies = read(12, "PolicyNotReady");
        of_policies.push(GroupRead {
            namespace: "media".into(),
            name: "ok".into(),
            group: Ok(backup()),
        });
        let checks = groups(&Ok(of_policies));
        let of_groups = "12 of 13 groups cannot start items because of their policies";
        assert_eq!(found(&checks[0]), (Finding::Failed, of_groups));
        let policies = &checks[1..];
        assert_eq!(policies.len(), 11);
        for check in &policies[..10] {
            assert_eq!(
                found(check),
                (Finding::Failed, "media/backup: Malformed: why")
            );
        }
        let others = (Finding::Failed, "2 more groups not shown");
        assert_eq!(found(&policies[10]), others);
        let is_ok = |check: &Check| check.finding == Finding::Ok;
        assert!(!groups(&Ok(read(1, "TypeNotFound"))).iter().any(is_ok));
    }

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
            "media/backup: TypeNotFound: why",
            "media/backup: the operator has never reconciled it",
            "media/backup: cannot be decoded: spec",
            "media/backup: Malformed: why",
        ]
        .map(|cause| (Finding::Failed, cause));
        assert_eq!(bad.iter().map(found).collect::<Vec<_>>(), expected);
    }
}
