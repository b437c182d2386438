use super::*;
use policy_host::Policy;
use std::path::Path;

fn built() -> policy_build::Built {
    let test = std::env::current_exe().unwrap();
    let target = test.ancestors().nth(3).unwrap().join("policies");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy-default");
    policy_build::build_crate(&source, &target).unwrap()
}

fn load(wasm: &[u8]) -> Policy {
    let host = Host::new(Limits::default()).unwrap();
    host.load(wasm, None).unwrap()
}

fn request(items: usize) -> Request {
    let items: Vec<_> = (0..items).map(|index| format!("i{index}")).collect();
    policy_cases::request(&format!("items: [{}]", items.join(", "))).unwrap()
}

#[test]
fn sum_of_the_profile_is_the_fuel_of_the_decision() {
    let built = built();
    let request = request(20);
    let evaluation = load(&built.component).evaluate(&request);
    let profile = Profile::new(&built.component, built.names.into(), &request, &evaluation);
    let profile = profile.unwrap();
    let json = profile.speedscope("test");
    let fuel = &json["profiles"][0];
    assert_eq!(fuel["endValue"], evaluation.fuel);
    let sum: u64 = profile.samples.iter().map(|(_, fuel)| fuel).sum();
    assert_eq!(sum, evaluation.fuel);
    assert_eq!(
        fuel["samples"].as_array().map(Vec::len),
        fuel["weights"].as_array().map(Vec::len)
    );
    // The policy is below the exported function, and all functions have names.
    let below = |name: &str| {
        let index = profile.functions.iter().position(|known| known == name);
        let stacks = profile.samples.iter();
        let with = stacks.filter(|(stack, _)| index.is_some_and(|index| stack.contains(&index)));
        with.map(|(_, fuel)| fuel).sum::<u64>()
    };
    let select = below("policy_default::select");
    assert!(
        10 * select > evaluation.fuel,
        "{select} of {}: {:?}",
        evaluation.fuel,
        profile.functions
    );
    assert!(below("oaat:policy/selector@1.0.0#select") > select);
    assert!(
        !profile
            .functions
            .iter()
            .any(|name| name.starts_with("function "))
    );
}

#[test]
fn checkpoints_change_neither_the_answer_nor_the_fuel() {
    let wasm = crate::policy::test_fixtures::default_policy();
    let more = Instrumented::new(wasm).unwrap();
    assert_ne!(more.wasm, wasm);
    let (plain, more) = (load(wasm), load(&more.wasm));
    for items in [1, 7, 100] {
        let request = request(items);
        let (plain, more) = (plain.evaluate(&request), more.evaluate(&request));
        assert_eq!((plain.answer, plain.fuel), (more.answer, more.fuel));
    }
}
