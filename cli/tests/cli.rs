//! The output and the exit status of the commands.

#![allow(clippy::unwrap_used)]

mod policy_command;

use built_in_policies::DEFAULT_POLICY;
use policy_command::{Output, policy};
use policy_host::decompress;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::Command;

fn file(folder: &tempfile::TempDir, name: &str, bytes: &[u8]) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path.display().to_string()
}

#[test]
fn validate_reads_files_and_standard_input_up_to_a_limit() {
    for name in ["/dev/zero", "-"] {
        let endless = std::fs::File::open("/dev/zero").unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_kubectl-oaat"))
            .args(["validate", "-f", name])
            .stdin(endless)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(2), "{text}");
        let limit = "the input is larger than 16 MiB; use a smaller file";
        assert!(text.contains(limit), "{text}");
    }
}

#[test]
fn policy_schema_prints_a_json_schema() {
    for (kind, title, field) in [
        ("cases", "Cases", "validate"),
        ("request", "Request", "recent"),
        ("scenario", "Scenario", "retryFloor"),
    ] {
        let output = policy(&["schema", kind]);
        assert_eq!(output.code, 0, "{}", output.err);
        let schema: serde_json::Value = serde_json::from_str(&output.out).unwrap();
        assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
        assert_eq!(schema["title"], title);
        assert!(schema["properties"][field].is_object(), "{kind}");
    }
}

#[test]
fn errors_in_a_scenario_name_the_file_the_position_and_the_fix() {
    let folder = tempfile::tempdir().unwrap();
    for (text, expected) in [
        (
            "length: 1h\nitems:\n- name: a\n",
            "bad.yaml:3:3: items[0].duration: the field is missing; add for example duration: 20m",
        ),
        (
            "length: 1h\nitems:\n- {name: a, duration: 20}\n",
            "bad.yaml:3:23: items[0].duration: invalid type: integer `20`, expected a duration \
             such as 20m, or a mapping such as {min: 10m, max: 20m}",
        ),
    ] {
        let scenario = file(&folder, "bad.yaml", text.as_bytes());
        let output = policy(&["simulate", "default", "--scenario", &scenario]);
        assert_eq!(output.code, 2, "{}", output.err);
        assert!(output.err.contains(expected), "{}", output.err);
    }
}

/// Returns the built-in policy with a custom section that contains `data`.
fn padded(data: &[u8]) -> Vec<u8> {
    let mut size = data.len() + 2;
    let mut wasm = DEFAULT_POLICY.to_vec();
    wasm.push(0);
    while size >= 0x80 {
        wasm.push(0x80 | (size & 0x7f) as u8);
        size >>= 7;
    }
    wasm.push(size as u8);
    wasm.extend([1, b'x']);
    wasm.extend(data);
    wasm
}

/// Returns incompressible bytes.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// The size of a custom section with which the policy just exceeds the maximum size of a ConfigMap.
const LARGE: usize = (1 << 20) - 3000;

/// Builds the crate of the built-in policy. Returns the component, the core module, and the output.
fn build(folder: &tempfile::TempDir) -> (String, PathBuf, Output) {
    let krate = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy-default");
    let component = folder.path().join("built.wasm").display().to_string();
    let krate_arg = krate.display().to_string();
    let output = policy(&["build", &krate_arg, "--output", &component]);
    let module = "target/policies/wasm32-unknown-unknown/release/policy_default.wasm";
    (component, krate.join(module), output)
}

#[test]
fn build_writes_a_component_and_check_rejects_the_core_module() {
    let folder = tempfile::tempdir().unwrap();
    let (component, module, output) = build(&folder);
    assert_eq!(output.code, 0, "{}", output.err);
    for words in [
        "wrote ",
        "the operator accepts it",
        "oaat:policy/selector@1.0.0",
    ] {
        assert!(output.out.contains(words), "{words}: {}", output.out);
    }
    let checked = policy(&["check", &component]);
    assert_eq!(checked.code, 0, "{}", checked.err);
    let module = module.display().to_string();
    let checked = policy(&["check", &module]);
    assert_eq!(checked.code, 1, "{}", checked.err);
    let (verdict, converted) = checked.out.split_once("converted component:").unwrap();
    for words in ["a core module", "Malformed", "policy pack", "policy build"] {
        assert!(verdict.contains(words), "{words}: {verdict}");
    }
    assert!(!verdict.contains("accepts it"), "{verdict}");
    assert!(converted.contains("the operator accepts it"), "{converted}");
    let settings = r#"{"base": 1}"#;
    let rejected = policy(&["check", &module, "--settings", settings]);
    assert!(
        rejected.out.contains("SettingsRejected"),
        "{}",
        rejected.out
    );
    let item = r#"photos={"weight": 2}"#;
    let accepted = policy(&["check", &component, "--item-settings", item]);
    assert_eq!(accepted.code, 0, "{}", accepted.out);
    let rejected = policy(&["check", "backoff", "--item-settings", item]);
    let words = "rejected, SettingsRejected: the policy rejects its settings: ";
    assert!(
        rejected.code == 1 && rejected.out.contains(words),
        "{}",
        rejected.out
    );
    let malformed = policy(&["check", &component, "--item-settings", "photos:{}"]);
    assert_eq!(malformed.code, 2);
    assert!(malformed.err.contains("photos={"), "{}", malformed.err);
    // `pack` converts it to a component.
    let packed = policy(&["pack", &module, "--name", "a"]);
    assert_eq!(packed.code, 0, "{}", packed.err);

    let nothing = folder.path().display().to_string();
    let output = policy(&["build", &nothing]);
    assert_eq!(output.code, 2);
    assert!(
        output.err.contains("neither a Cargo.toml nor a Makefile"),
        "{}",
        output.err
    );
}

#[test]
fn check_decompresses_gzip() {
    let folder = tempfile::tempdir().unwrap();
    let plain = file(&folder, "plain.wasm", DEFAULT_POLICY);
    let packed = policy(&["pack", &plain, "--name", "a", "--gzip"]);
    let base64 = packed.out.lines().last().unwrap();
    let base64 = base64.split_once(": ").unwrap().1;
    let gz = file(&folder, "packed.wasm.gz", &unbase64(base64));
    let checked = policy(&["check", &gz]);
    assert_eq!(checked.code, 0, "{}", checked.err);
    let unpacked = format!("bytes packed, {} unpacked", DEFAULT_POLICY.len());
    for words in [
        unpacked.as_str(),
        "imports    oaat:policy/",
        "oaat:policy/selector@1.0.0",
        "the operator accepts it",
    ] {
        assert!(checked.out.contains(words), "{words}: {}", checked.out);
    }
    let inside = decompress(&unbase64(base64), DEFAULT_POLICY.len()).unwrap();
    assert!(inside == DEFAULT_POLICY);
    // Malformed gzip is rejected, and control characters in the name of the file are escaped.
    let evil = file(&folder, "evil\u{1b}[2J.wasm", b"\x1f\x8bnothing");
    let checked = policy(&["check", &evil]);
    assert_eq!(checked.code, 1);
    assert!(
        checked.out.contains("rejected, Malformed"),
        "{}",
        checked.out
    );
    assert!(!checked.out.contains('\u{1b}'), "{:?}", checked.out);
}

#[test]
fn pack_suggests_server_side_apply_and_rejects_oversized_policies() {
    let folder = tempfile::tempdir().unwrap();
    let small = file(&folder, "small.wasm", DEFAULT_POLICY);
    let hint = "kubectl apply --namespace home --server-side -f -";
    let packed = policy(&["pack", &small, "--name", "mine", "-n", "home"]);
    assert_eq!(packed.code, 0, "{}", packed.err);
    assert!(packed.err.contains(hint), "{}", packed.err);
    assert!(packed.out.contains("namespace: \"home\""), "{}", packed.out);

    let middle = file(&folder, "middle.wasm", &padded(&noise(200_000)));
    let packed = policy(&["pack", &middle, "--name", "mine", "-n", "home"]);
    assert_eq!(packed.code, 0, "{}", packed.err);
    assert!(packed.err.contains(hint), "{}", packed.err);
    let packed = policy(&["pack", &middle, "--name", "mine"]);
    assert!(
        packed.err.contains("kubectl apply --server-side -f -"),
        "{}",
        packed.err
    );

    let large = file(&folder, "large.wasm", &padded(&vec![0; LARGE]));
    let packed = policy(&["pack", &large, "--name", "mine"]);
    assert_eq!(
        (packed.code, packed.out.as_str()),
        (2, ""),
        "{}",
        packed.err
    );
    assert!(packed.err.contains("try --gzip"), "{}", packed.err);
    let packed = policy(&["pack", &large, "--name", "mine", "--gzip"]);
    assert_eq!(packed.code, 0, "{}", packed.err);
    let stubborn = file(&folder, "stubborn.wasm", &padded(&noise(LARGE)));
    let packed = policy(&["pack", &stubborn, "--name", "mine", "--gzip"]);
    assert_eq!(
        (packed.code, packed.out.as_str()),
        (2, ""),
        "{}",
        packed.err
    );
    assert!(packed.err.contains("reduce its size"), "{}", packed.err);
}

#[test]
fn pack_rejects_malformed_components_and_invalid_names() {
    let folder = tempfile::tempdir().unwrap();
    let good = file(&folder, "good.wasm", DEFAULT_POLICY);
    let bad = file(&folder, "bad.wasm", b"not a component");
    let packed = policy(&["pack", &bad, "--name", "mine"]);
    assert_eq!((packed.code, packed.out.as_str()), (1, ""));
    assert!(packed.err.contains("Malformed"), "{}", packed.err);
    for (option, name) in [
        ("--name", "a..b"),
        ("--name", "My"),
        ("--namespace", "a.b"),
        ("--key", ".."),
    ] {
        let args = ["pack", &good, "--name", "mine", option, name];
        let args = if option == "--name" {
            [&args[..2], &args[4..]].concat()
        } else {
            args.to_vec()
        };
        let packed = policy(&args);
        assert_eq!(
            (packed.code, packed.out.as_str()),
            (2, ""),
            "{option} {name}"
        );
        assert!(packed.err.contains(option), "{}", packed.err);
    }
}

#[test]
fn bench_prints_a_table_or_json() {
    let bench = policy(&["bench", "default", "--items", "3"]);
    assert_eq!(bench.code, 0, "{}", bench.err);
    for words in ["compiled in", "items", "\n3 "] {
        assert!(bench.out.contains(words), "{words}: {}", bench.out);
    }
    let bench = policy(&["bench", "default", "--items", "3,5", "-o", "json"]);
    let results: serde_json::Value = serde_json::from_str(&bench.out).unwrap();
    assert_eq!(results["decisions"][1]["items"], 5);
    assert_eq!(results["bytes"], DEFAULT_POLICY.len());
    assert_eq!(policy(&["bench", "default", "--items", "0"]).code, 2);
    let rejected = policy(&["bench", "default", "--settings", "{\"x\":"]);
    assert_ne!(rejected.code, 101, "{}", rejected.err);
}

#[test]
fn new_creates_a_crate_and_rejects_reserved_names() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let made = policy(&["new", &at("oldest-first")]);
    assert_eq!(made.code, 0, "{}", made.err);
    let manifest = std::fs::read_to_string(folder.path().join("oldest-first/Cargo.toml"));
    assert!(manifest.unwrap().contains("name = \"oldest-first\""));
    let again = policy(&["new", &at("oldest-first")]);
    assert!(
        again.code == 2 && again.err.contains("not empty"),
        "{}",
        again.err
    );
    for name in ["test", "match", "policy-sdk", "Mine", "1st", "a_b"] {
        let rejected = policy(&["new", &at(name)]);
        assert_eq!(rejected.code, 2, "{name}");
        assert!(
            rejected.err.contains("for example my-policy"),
            "{}",
            rejected.err
        );
        assert!(!folder.path().join(name).exists(), "{name}");
    }
}

/// A crate with a policy that runs the first item, and crashes if the settings are `{"crash": true}`.
struct PolicyCrate {
    folder: tempfile::TempDir,
}

impl PolicyCrate {
    fn new() -> Self {
        let new = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let root = root.canonicalize().unwrap();
        new.write(
            "Cargo.toml",
            &format!(
                "[package]\nname = \"my-policy\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
                 [lib]\ncrate-type = [\"cdylib\"]\n[workspace]\n\
                 [dependencies]\npolicy-sdk = {{ path = {:?} }}\n",
                root.join("crates/policy-sdk")
            ),
        );
        let lock = std::fs::read_to_string(root.join("Cargo.lock")).unwrap();
        new.write("Cargo.lock", &lock);
        new.write_source("0");
        new.write(
            "cases.yaml",
            "cases: [{name: n, given: {items: [a, b]}, expect: {run: a, fuel: {max: 1000000}}}]",
        );
        // The directory that other builds of policies use, so that dependencies are not built again.
        let test = std::env::current_exe().unwrap();
        let shared = test.ancestors().nth(3).unwrap().join("policies");
        std::fs::create_dir_all(&shared).unwrap();
        std::fs::create_dir(new.path("target")).unwrap();
        std::fs::create_dir(new.folder.path().join("work")).unwrap();
        std::os::unix::fs::symlink(shared, new.path("target/policies")).unwrap();
        new
    }

    /// Writes the source of a policy that chooses the item with this index.
    fn write_source(&self, chosen: &str) {
        self.write(
            "src/lib.rs",
            &format!(
                "use policy_sdk::{{Decision, Policy, Request}};\n\
                 struct First;\n\
                 #[inline(never)]\n\
                 fn crash() {{ panic!(\"as requested\") }}\n\
                 impl Policy for First {{\n\
                     fn select(request: &Request) -> Result<Decision, String> {{\n\
                         if request.settings.contains(\"crash\") {{ crash() }}\n\
                         Ok(Decision::run({chosen}))\n\
                     }}\n\
                 }}\n\
                 policy_sdk::export_policy!(First);\n"
            ),
        );
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("my-policy").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn arg(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}

#[test]
fn crash_names_its_function_in_each_command_and_exits_with_1() {
    let krate = PolicyCrate::new();
    let built = policy(&["build", &krate.arg("")]);
    assert_eq!(built.code, 0, "{}", built.err);
    let wasm = krate.arg("target/my_policy.wasm");
    krate.write("request.yaml", "{settings: {crash: true}, items: [a]}");
    krate.write(
        "scenario.yaml",
        "{length: 1h, settings: {crash: true}, items: [{name: a, duration: 1m}]}",
    );
    krate.write(
        "crash.yaml",
        "cases: [{name: n, given: {settings: {crash: true}, items: [a]}, expect: {run: a}}]",
    );
    let (request, scenario) = (krate.arg("request.yaml"), krate.arg("scenario.yaml"));
    let (cases, profile) = (krate.arg("crash.yaml"), krate.arg("profile.json"));
    let settings = r#"{"crash":true}"#;
    let commands: [&[&str]; 4] = [
        &["run", &wasm, "--request", &request, "--profile", &profile],
        &["simulate", &wasm, "--scenario", &scenario],
        &["test", &wasm, "--cases", &cases],
        &["bench", &wasm, "--items", "1", "--settings", settings],
    ];
    let with_names = "as requested) in my_policy::crash, called by ";
    for command in commands {
        let crashed = policy(command);
        let text = format!("{}{}", crashed.out, crashed.err);
        assert_eq!(crashed.code, 1, "{text}");
        assert!(text.contains("Trapped: the policy crashed: "), "{text}");
        assert!(text.contains(with_names), "{text}");
    }
    let run = policy(commands[0]);
    assert!(run.err.contains("\nbacktrace:\n  "), "{}", run.err);
    // The flame graph of a crash ends in the function that crashed.
    let profile = std::fs::read_to_string(&profile).unwrap();
    let profile: serde_json::Value = serde_json::from_str(&profile).unwrap();
    let fuel = format!("fuel: {} of ", profile["profiles"][0]["endValue"]);
    assert!(run.err.contains(&fuel), "{fuel}: {}", run.err);

    std::fs::remove_file(krate.path("target/my_policy.names.json")).unwrap();
    let run = policy(commands[0]);
    assert!(run.err.contains(") in function "), "{}", run.err);
}

/// Runs the commands of docs/policy-cost.md that name this test.
#[test]
fn documented_commands_show_the_cost_of_a_policy() {
    let krate = PolicyCrate::new();
    let built = policy(&["build", &krate.arg("")]);
    assert_eq!(built.code, 0, "{}", built.err);
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/policy-cost.md");
    let page = std::fs::read_to_string(page).unwrap();
    let marker = "<!-- run by documented_commands_show_the_cost_of_a_policy -->\n```console\n";
    let blocks = page.split(marker).skip(1);
    let commands = blocks.flat_map(|rest| rest.split("```").next().unwrap_or_default().lines());
    let binaries = Path::new(env!("CARGO_BIN_EXE_kubectl-oaat"))
        .parent()
        .unwrap();
    let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap());
    let mut outputs = String::new();
    for command in commands.map(|line| line.strip_prefix("$ ").unwrap()) {
        let output = Command::new("sh")
            .args(["-c", command])
            .current_dir(krate.folder.path().join("work"))
            .env("PATH", &path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
        outputs += &String::from_utf8_lossy(&output.stdout);
    }
    for words in ["saved", "uses the same fuel as saved", "run a"] {
        assert!(outputs.contains(words), "{words}: {outputs}");
    }
    let profile = std::fs::read_to_string(krate.folder.path().join("work/profile.json"));
    assert!(profile.unwrap().contains("selector@1.0.0#select"));
}

#[test]
fn dev_builds_after_a_change_and_shows_what_changed() {
    let krate = PolicyCrate::new();
    let built = policy(&["build", &krate.arg("")]);
    assert_eq!(built.code, 0, "{}", built.err);
    let wasm = std::fs::read(krate.path("target/my_policy.wasm")).unwrap();
    let request = policy_cases::request("items: [a, b]").unwrap();
    let host = policy_host::Host::new(policy_host::Limits::default()).unwrap();
    let loaded = host.load(&wasm, None).unwrap();
    let record = policy_host::DecisionRecord::new(&loaded, &request, &loaded.evaluate(&request));
    krate.write("record/1.json", &serde_json::to_string(&record).unwrap());

    let mut dev = Command::new(env!("CARGO_BIN_EXE_kubectl-oaat"))
        .args(["policy", "dev", &krate.arg("")])
        .args(["--decisions", &krate.arg("record")])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(dev.stdout.take().unwrap()).lines();
    // Returns the lines about one build.
    let mut build = || {
        let lines = lines.by_ref().map(|line| line.unwrap());
        let lines = lines.take_while(|line| !line.starts_with("waiting for changes"));
        lines.collect::<Vec<_>>().join("\n")
    };
    let text = build();
    for words in ["1 case passed\nanswer unchanged, fuel +0 (", " recorded, "] {
        assert!(text.contains(words), "{text}");
    }
    krate.write_source("usize::from(request.seed == 77)");
    let text = build();
    assert!(text.contains("answer unchanged, fuel +"), "{text}");
    assert!(text.contains(" since the last build"), "{text}");
    krate.write_source("1 +");
    let text = build();
    assert!(text.contains("see the cargo errors above"), "{text}");
    krate.write_source("1");
    let text = build();
    for words in [
        "FAIL  n",
        "answer changed: would start \"b\" instead of \"a\"",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let ended = Command::new("kill")
        .args(["-TERM", &dev.id().to_string()])
        .status();
    assert!(ended.unwrap().success());
    assert!(!dev.wait().unwrap().success());
}

fn unbase64(text: &str) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD
        .decode(text.trim())
        .unwrap()
}

#[test]
fn compile_policy_is_hidden_and_fetch_items_belongs_to_the_operator() {
    let command = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-oaat"));
        command.args(args).output().unwrap()
    };
    let help = command(&["--help"]).stdout;
    assert!(!String::from_utf8_lossy(&help).contains("compile-policy"));
    assert_eq!(command(&["fetch-items"]).status.code(), Some(2));
}

#[test]
fn misspelled_built_in_policy_is_an_error_that_lists_the_names() {
    let output = policy(&["check", "expresion"]);
    assert_eq!(output.code, 2, "{}", output.err);
    let expected =
        "expresion is neither a file nor a built-in policy (default, backoff, fair, expression)";
    assert!(output.err.contains(expected), "{}", output.err);
}

#[test]
fn documented_commands_accept_names_of_built_in_policies() {
    let page = include_str!("../../docs/built-in-policies.md");
    let commands: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("$ kubectl-oaat "))
        .collect();
    assert_eq!(commands.len(), 3, "{commands:?}");
    let folder = tempfile::tempdir().unwrap();
    let outputs = commands.iter().map(|command| {
        let output = Command::new("sh")
            .args(["-euc", &format!("\"$OAAT\" {command}")])
            .env("OAAT", env!("CARGO_BIN_EXE_kubectl-oaat"))
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .output()
            .unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    });
    let outputs: Vec<_> = outputs.collect();
    for (output, words) in
        outputs
            .iter()
            .zip(["settings   accepted", "a", "name: \"policy-backoff\""])
    {
        assert!(output.contains(words), "{words}: {output}");
    }
    // A file with the name of a policy comes first.
    file(&folder, "fair", b"not a component");
    let output = Command::new(env!("CARGO_BIN_EXE_kubectl-oaat"))
        .args(["policy", "check", "fair"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("rejected, Malformed"), "{text}");
}
