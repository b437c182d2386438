//! Runs `cases.yaml` against the compiled component.

#[test]
fn cases() {
    policy_testkit::cases!();
}
