//! What the tools print, and how they end.

use default_component::DEFAULT_POLICY;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How a command ended, and what it printed on stdout and on stderr.
struct Ended {
    code: i32,
    out: String,
    err: String,
}

fn policy(args: &[&str]) -> Ended {
    let output = Command::new(env!("CARGO_BIN_EXE_kubectl-oaat"))
        .arg("policy")
        .args(args)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ended {
        code: output.status.code().unwrap_or(-1),
        out: text(&output.stdout),
        err: text(&output.stderr),
    }
}

fn file(folder: &tempfile::TempDir, name: &str, bytes: &[u8]) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path.display().to_string()
}

/// The built-in policy with something more in it that does nothing.
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

/// Bytes that cannot be packed smaller.
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

/// Just over what a ConfigMap holds, and just within what a component may have.
const LARGE: usize = (1 << 20) - 3000;

/// The built-in policy's crate, as built by the tools: its component, and cargo's module.
fn built(folder: &tempfile::TempDir) -> (String, PathBuf, Ended) {
    let krate = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy-default");
    let output = folder.path().join("built.wasm").display().to_string();
    let ended = policy(&["build", &krate.display().to_string(), "--output", &output]);
    let module = "target/policies/wasm32-unknown-unknown/release/policy_default.wasm";
    (output, krate.join(module), ended)
}

#[test]
fn build_writes_a_component_and_check_tells_it_from_cargos_module() {
    let folder = tempfile::tempdir().unwrap();
    let (component, module, ended) = built(&folder);
    assert_eq!(ended.code, 0, "{}", ended.err);
    for words in [
        "wrote ",
        "the operator takes it",
        "oaat:policy/selector@1.0.0",
    ] {
        assert!(ended.out.contains(words), "{words}: {}", ended.out);
    }
    let checked = policy(&["check", &component]);
    assert_eq!(checked.code, 0, "{}", checked.err);
    let module = module.display().to_string();
    let checked = policy(&["check", &module]);
    assert_eq!(checked.code, 1, "{}", checked.err);
    let (verdict, made) = checked.out.split_once("That component:").unwrap();
    for words in ["a core module", "Malformed", "policy pack", "policy build"] {
        assert!(verdict.contains(words), "{words}: {verdict}");
    }
    assert!(!verdict.contains("takes it"), "{verdict}");
    assert!(made.contains("the operator takes it"), "{made}");
    let settings = r#"{"base": 1}"#;
    let refused = policy(&["check", &module, "--settings", settings]);
    assert!(refused.out.contains("SettingsRejected"), "{}", refused.out);
    // What pack ships of it is a component.
    let packed = policy(&["pack", &module, "--name", "a"]);
    assert_eq!(packed.code, 0, "{}", packed.err);

    let nothing = folder.path().display().to_string();
    let ended = policy(&["build", &nothing]);
    assert_eq!(ended.code, 2);
    assert!(ended.err.contains("no Cargo.toml"), "{}", ended.err);
}

#[test]
fn check_shows_what_is_in_gzip() {
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
        "the operator takes it",
    ] {
        assert!(checked.out.contains(words), "{words}: {}", checked.out);
    }
    let inside = ungzip(&unbase64(base64));
    assert!(inside == DEFAULT_POLICY);
    // Bytes that are neither are refused, in words, and end in no escape of the terminal's.
    let evil = file(&folder, "evil\u{1b}[2J.wasm", b"\x1f\x8bnothing");
    let checked = policy(&["check", &evil]);
    assert_eq!(checked.code, 1);
    assert!(
        checked.out.contains("refused, Malformed"),
        "{}",
        checked.out
    );
    assert!(!checked.out.contains('\u{1b}'), "{:?}", checked.out);
}

#[test]
fn pack_says_when_the_size_needs_more_than_apply_and_refuses_what_does_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let small = file(&folder, "small.wasm", DEFAULT_POLICY);
    let packed = policy(&["pack", &small, "--name", "mine", "-n", "home"]);
    assert_eq!(packed.code, 0, "{}", packed.err);
    assert!(
        packed.err.contains("kubectl apply -n home -f -"),
        "{}",
        packed.err
    );
    assert!(packed.out.contains("namespace: \"home\""), "{}", packed.out);

    let middle = file(&folder, "middle.wasm", &padded(&noise(200_000)));
    let packed = policy(&["pack", &middle, "--name", "mine", "-n", "home"]);
    assert_eq!(packed.code, 0, "{}", packed.err);
    let hint = "kubectl apply -n home --server-side -f -";
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
    assert!(packed.err.contains("make it smaller"), "{}", packed.err);
}

#[test]
fn pack_refuses_what_the_operator_or_the_api_server_would() {
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
fn bench_prints_figures_for_people_and_for_programs() {
    let bench = policy(&["bench", "default", "--items", "3"]);
    assert_eq!(bench.code, 0, "{}", bench.err);
    for words in ["compiled in", "items", "\n3 "] {
        assert!(bench.out.contains(words), "{words}: {}", bench.out);
    }
    let bench = policy(&["bench", "default", "--items", "3,5", "--json"]);
    let figures: serde_json::Value = serde_json::from_str(&bench.out).unwrap();
    assert_eq!(figures["decisions"][1]["items"], 5);
    assert_eq!(figures["bytes"], DEFAULT_POLICY.len());
    assert_eq!(policy(&["bench", "default", "--items", "0"]).code, 2);
    let refused = policy(&["bench", "default", "--settings", "{\"x\":"]);
    assert_ne!(refused.code, 101, "{}", refused.err);
}

#[test]
fn new_makes_a_crate_and_refuses_names_that_none_can_have() {
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
        let refused = policy(&["new", &at(name)]);
        assert_eq!(refused.code, 2, "{name}");
        assert!(refused.err.contains("such as my-policy"), "{}", refused.err);
        assert!(!folder.path().join(name).exists(), "{name}");
    }
}

fn unbase64(text: &str) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD
        .decode(text.trim())
        .unwrap()
}

fn ungzip(bytes: &[u8]) -> Vec<u8> {
    let mut wasm = Vec::new();
    let mut unpacked = flate2::read::GzDecoder::new(bytes);
    unpacked.read_to_end(&mut wasm).unwrap();
    wasm
}

#[test]
fn fetch_items_is_hidden_and_needs_the_environment_of_its_pod() {
    let operator = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-oaat"));
        command.args(args).env_clear().output().unwrap()
    };
    let help = operator(&["--help"]).stdout;
    assert!(!String::from_utf8_lossy(&help).contains("fetch-items"));
    let fetched = operator(&["fetch-items"]);
    let said = String::from_utf8_lossy(&fetched.stderr);
    assert_eq!(fetched.status.code(), Some(1));
    assert!(fetched.stdout.is_empty());
    assert!(
        said.starts_with("OAAT_ITEMS_HTTP is not set") && said.lines().count() == 1,
        "{said}"
    );
}
