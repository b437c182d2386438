//! What `cases.yaml` states, of the compiled component.

#[test]
fn cases() {
    policy_testkit::cases!();
}
