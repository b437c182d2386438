//! Runs cases against a compiled policy.

use policy_testkit::TestPolicy;

fn policy() -> TestPolicy {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    TestPolicy::build(here.join("../../policy-default"))
}

#[test]
fn check_cases_panics_with_all_failures() {
    let policy = policy();
    policy.check_cases("cases: [{name: n, given: {items: [a]}, expect: {run: a}}]");
    let panic_message = |yaml: &str| {
        let check = std::panic::AssertUnwindSafe(|| policy.check_cases(yaml));
        let panic = std::panic::catch_unwind(check).unwrap_err();
        panic.downcast_ref::<String>().cloned().unwrap_or_default()
    };
    let message = panic_message(
        "
cases:
  - {name: good, given: {items: [a]}, expect: {run: a}}
  - {name: first, given: {items: [a]}, expect: {wait: true}}
  - {name: second, given: {items: [a, b]}, expect: {error: x}}
",
    );
    for part in [
        "2 of 3 cases failed\n\nfirst\nUnexpected at seed 0, also at 1, 2, 3, 4 (5 seeds tried)\n  wait: expected wait, found run a\n",
        "> a     ready\n\nsecond\n",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert!(panic_message("cases: []").contains("the file has no cases"));
}
