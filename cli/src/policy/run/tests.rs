use super::*;
use policy_host::{Host, Limits};

fn policy() -> &'static Policy {
    static POLICY: std::sync::OnceLock<Policy> = std::sync::OnceLock::new();
    POLICY.get_or_init(|| {
        let host = Host::new(Limits::default()).unwrap();
        host.load(crate::policy::test_fixtures::default_policy(), None)
            .unwrap()
    })
}

fn output(request: &str, format: Option<PolicyFormat>) -> Result<String, String> {
    let request = policy_cases::request(request).unwrap();
    evaluate(policy(), &request, format).unwrap()
}

#[test]
fn evaluate_explains_the_decision_per_item() {
    let text = output(
        "items: [{name: a, lastSuccess: 50m ago}, {name: b, lastSuccess: 2h ago}, {name: c, held: true}]",
        None,
    );
    let text = text.unwrap();
    let expected = "\
run b
note: the only item that is due
  ITEM  STANDING     UNTIL
  a     fresh        2026-01-01T12:10:00Z (in 10m)
> b     ready
  c     ready, held
fuel: ";
    assert!(text.starts_with(expected), "{text}");
    assert!(text.contains(" of 10150000\ntime: "), "{text}");
}

#[test]
fn evaluate_explains_a_wait() {
    let text = output("items: [{name: a, lastSuccess: 50m ago}]", None).unwrap();
    assert!(
        text.starts_with("wait until 2026-01-01T12:10:00Z (in 10m)\n"),
        "{text}"
    );
}

#[test]
fn evaluate_prints_the_decision_as_json() {
    let json = output(
        "items: [{name: a, lastSuccess: 1s ago}, b]",
        Some(PolicyFormat::Json),
    )
    .unwrap();
    let decision: policy_host::Decision = serde_json::from_str(&json).unwrap();
    assert_eq!(decision.chosen(), Some(1));
    assert_eq!(decision.verdicts.len(), 2);
}

#[test]
fn rejected_settings_are_a_policy_failure_without_a_decision() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("request.yaml");
    for (policy, request) in [
        ("default", "{settings: {base: 1m}, items: [a]}"),
        ("backoff", "items: [{name: a, settings: {w: 1}}]"),
    ] {
        std::fs::write(&file, request).unwrap();
        let args = Args {
            file: policy.into(),
            request: file.clone(),
            seed: None,
            profile: None,
            output: None,
        };
        let error = run(&args, crate::policy::test_fixtures::default_policy()).unwrap_err();
        assert!(error.is::<failure::PolicyFailure>());
        let rejected = "SettingsRejected: the policy rejects its settings: ";
        assert!(error.to_string().starts_with(rejected), "{error}");
    }
}
