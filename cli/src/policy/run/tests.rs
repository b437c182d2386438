use super::*;
use policy_host::{Host, Limits};

fn policy() -> &'static Policy {
    static POLICY: std::sync::OnceLock<Policy> = std::sync::OnceLock::new();
    POLICY.get_or_init(|| {
        let host = Host::new(Limits::default()).unwrap();
        host.load(crate::policy::testing::default_policy(), None)
            .unwrap()
    })
}

fn decided(request: &str, json: bool) -> Result<String, String> {
    let request = policy_cases::request(request).unwrap();
    decide(policy(), &request, json).unwrap()
}

#[test]
fn a_decision_is_explained_item_by_item() {
    let said = decided(
        "items: [{name: a, lastSuccess: 50m ago}, {name: b, lastSuccess: 2h ago}, {name: c, held: true}]",
        false,
    );
    let said = said.unwrap();
    let expected = "\
run b
note: the only item that is due
  ITEM  STANDING     UNTIL
  a     fresh        2026-01-01T12:10:00Z (in 10m)
> b     ready
  c     ready, held
fuel: ";
    assert!(said.starts_with(expected), "{said}");
    assert!(said.contains(" of 10150000\ntime: "), "{said}");
}

#[test]
fn waiting_is_explained_too() {
    let said = decided("items: [{name: a, lastSuccess: 50m ago}]", false).unwrap();
    assert!(
        said.starts_with("wait until 2026-01-01T12:10:00Z (in 10m)\n"),
        "{said}"
    );
}

#[test]
fn the_raw_decision_is_json() {
    let json = decided("items: [{name: a, lastSuccess: 1s ago}, b]", true).unwrap();
    let decision: policy_host::Decision = serde_json::from_str(&json).unwrap();
    assert_eq!(decision.chosen(), Some(1));
    assert_eq!(decision.verdicts.len(), 2);
}

#[test]
fn refused_settings_are_told_and_nothing_is_decided() {
    for request in [
        "{settings: {base: 1m}, items: [a]}",
        "items: [{name: a, settings: {w: 1}}]",
    ] {
        let said = decided(request, false).unwrap_err();
        assert!(
            said.starts_with(
                "SettingsRejected: the policy says: the default policy takes no settings"
            ),
            "{said}"
        );
    }
}
