//! Cases against a compiled policy, as a policy's own tests run them.

use policy_testkit::TestPolicy;

fn policy() -> TestPolicy {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    TestPolicy::build(here.join("../../policy-default"))
}

#[test]
fn what_differs_in_all_cases_is_the_panic() {
    let policy = policy();
    policy.check_cases("cases: [{name: n, given: {items: [a]}, expect: {run: a}}]");
    let panic = |yaml: &str| {
        let check = std::panic::AssertUnwindSafe(|| policy.check_cases(yaml));
        let panic = std::panic::catch_unwind(check).unwrap_err();
        panic.downcast_ref::<String>().cloned().unwrap_or_default()
    };
    let said = panic(
        "
cases:
  - {name: good, given: {items: [a]}, expect: {run: a}}
  - {name: first, given: {items: [a]}, expect: {wait: true}}
  - {name: second, given: {items: [a, b]}, expect: {error: x}}
",
    );
    for part in [
        "2 of 3 cases failed\n\nfirst\nUnexpected at seed 0, and at 1, 2, 3, 4, of 5 tried\n  wait: expected wait, found run a\n",
        "> a     ready\n\nsecond\n",
    ] {
        assert!(said.contains(part), "{said}");
    }
    assert!(panic("cases: []").contains("there is no case"));
}
