use super::measure::ROUNDS;
use super::*;
use crate::policy::failure::PolicyFailure;
use wasm_encoder::CodeSection;
use wasm_encoder::reencode::{self, Reencode, ReencodeComponent};
use wasmparser::{Parser, Payload, TypeRef};

/// Adds one instruction to the start of the exported function `select` of a component.
struct OneMoreInstruction {
    /// The index of the function among those of its module that are not imported.
    select: usize,
    bodies: usize,
}

impl Reencode for OneMoreInstruction {
    type Error = std::convert::Infallible;

    fn parse_function_body(
        &mut self,
        code: &mut CodeSection,
        body: wasmparser::FunctionBody<'_>,
    ) -> Result<(), reencode::Error> {
        let mut function = self.new_function_with_parsed_locals(&body)?;
        if self.bodies == self.select {
            function.instructions().i32_const(0).drop();
        }
        self.bodies += 1;
        let mut reader = body.get_operators_reader()?;
        while !reader.eof() {
            function.instruction(&self.parse_instruction(&mut reader)?);
        }
        code.function(&function);
        Ok(())
    }
}

impl ReencodeComponent for OneMoreInstruction {}

impl OneMoreInstruction {
    fn add(component: &[u8]) -> Vec<u8> {
        let (mut imports, mut select) = (0, None);
        for payload in Parser::new(0).parse_all(component) {
            match payload.unwrap() {
                Payload::ImportSection(section) if select.is_none() => {
                    let functions = section.into_imports().map(|import| import.unwrap().ty);
                    imports = functions
                        .filter(|ty| matches!(ty, TypeRef::Func(_)))
                        .count();
                }
                Payload::ExportSection(section) => {
                    let mut exports = section.into_iter().map(|export| export.unwrap());
                    let export = exports.find(|export| {
                        export.name.starts_with("oaat:") && export.name.ends_with("#select")
                    });
                    select = select.or(export.map(|export| export.index as usize - imports));
                }
                _ => {}
            }
        }
        let mut reencoder = Self {
            select: select.unwrap(),
            bodies: 0,
        };
        let mut output = wasm_encoder::Component::new();
        reencoder
            .parse_component(&mut output, Parser::new(0), component)
            .unwrap();
        output.finish()
    }
}

#[test]
fn one_more_instruction_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let wasm = crate::policy::test_fixtures::default_policy();
    std::fs::write(file("old.wasm"), wasm).unwrap();
    std::fs::write(file("new.wasm"), OneMoreInstruction::add(wasm)).unwrap();
    let bench = |policy: &str, save: Option<&str>, compare: Option<&str>| {
        let args = Args {
            file: file(policy),
            items: vec![1, 5],
            settings: "{}".into(),
            item_settings: None,
            save: save.map(file),
            compare: compare.map(file),
            output: None,
        };
        run(&args, wasm).unwrap()
    };
    let saved = |name: &str| SavedFuel::read(&file(name)).unwrap().decisions;
    assert_eq!(bench("old.wasm", Some("old.json"), None), ExitCode::SUCCESS);
    for (policy, compare, code) in [
        ("old.wasm", "old.json", ExitCode::SUCCESS),
        ("new.wasm", "old.json", ExitCode::FAILURE),
        ("old.wasm", "new.json", ExitCode::SUCCESS),
    ] {
        assert_eq!(
            bench(policy, Some("new.json"), Some(compare)),
            code,
            "{policy}"
        );
        let more = u64::from(policy == "new.wasm");
        for (old, new) in saved("old.json").iter().zip(saved("new.json")) {
            assert_eq!(new.fuel, old.fuel + more);
        }
    }
}

#[test]
fn rejected_settings_are_a_policy_failure() {
    let wasm = crate::policy::test_fixtures::default_policy();
    let args = Args {
        file: "default".into(),
        items: vec![3],
        settings: r#"{"base":1}"#.into(),
        item_settings: None,
        save: None,
        compare: None,
        output: None,
    };
    let error = run(&args, wasm).unwrap_err();
    assert!(error.is::<PolicyFailure>());
    let text = format!("{error:#}");
    assert!(
        text.starts_with("with 3 items: SettingsRejected: the policy"),
        "{text}"
    );
}

#[test]
fn bench_measures_the_default_policy() {
    let wasm = crate::policy::test_fixtures::default_policy();
    let component = crate::policy::component::load("default".as_ref(), wasm).unwrap();
    let (small, large) = (
        measure_decisions(&component.policy, &request(10)).unwrap(),
        measure_decisions(&component.policy, &request(100)).unwrap(),
    );
    assert!(0 < small.fuel && small.fuel < large.fuel && large.fuel < large.fuel_limit);
    assert!(small.evaluations >= *ROUNDS.start() && small.p50_us <= small.p99_us);
    let text = format_results(&Results {
        policy: component.policy.digest().to_owned(),
        bytes: component.wasm.len(),
        compile_p50_us: 1_500,
        debug_build: true,
        decisions: vec![small, large],
        comparison: None,
    });
    for words in ["compiled in 1.5 ms", "debug build", "items", "\n100 "] {
        assert!(text.contains(words), "{words} is missing in: {text}");
    }
}
