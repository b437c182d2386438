//! The compiler process: its restrictions, and the errors for every way in which it can exit.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use policy_host::{CompileProcess, Compiled, Host, Limits, LoadError, run_compile_child};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("compile-policy") {
        return run_compile_child(Limits::default());
    }
    let tests: [(&str, fn()); 5] = [
        ("honest_component_compiles", honest),
        ("stack_overflow_crashes_only_the_compiler", deep),
        ("limits_are_set_before_input_is_read", limits),
        ("inherited_descriptors_are_closed", descriptors),
        ("compiler_exits_have_reasons", exits),
    ];
    for (name, test) in tests {
        println!("test {name} ...");
        test();
    }
    println!("{} passed, 0 failed", tests.len());
    ExitCode::SUCCESS
}

fn compiler() -> CompileProcess {
    CompileProcess::of_this_program(Host::new(Limits::default()).unwrap())
}

fn reason(result: Result<Compiled, LoadError>) -> (&'static str, String) {
    match result {
        Ok(_) => ("compiled", String::new()),
        Err(error) => (error.reason(), error.to_string()),
    }
}

fn honest() {
    let wasm = hostile_policies::honest().unwrap();
    let compiled = compiler().compile(&wasm).unwrap();
    assert!(compiled.policy.probe().answer.is_ok());
    let here = Host::new(Limits::default()).unwrap();
    let here = here.load(&wasm, None).unwrap();
    assert_eq!(compiled.policy.digest(), here.digest());
    assert_eq!(compiled.policy.size(), here.size());
    // The size of the parent does not count toward the limit of the compiler.
    let mut large = vec![0_u8; 200 << 20];
    large.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
    assert_eq!(reason(compiler().compile(&wasm)).0, "compiled");
    drop(large);
    assert_eq!(compiled.policy.probe().fuel, here.probe().fuel);
    assert_eq!(reason(compiler().compile(b"")).0, "Malformed");
}

/// Returns a component with types that are nested 40,000 levels deep.
fn nested_types() -> Vec<u8> {
    const DEPTH: usize = 40_000;
    let mut body = vec![1];
    for _ in 0..DEPTH {
        body.extend([0x41, 1, 1]);
    }
    body.extend([0x41, 0]);
    let mut wasm = b"\0asm\x0d\0\x01\0\x07".to_vec();
    let mut size = body.len();
    while size > 0x7f {
        wasm.push((size & 0x7f) as u8 | 0x80);
        size >>= 7;
    }
    wasm.push(size as u8);
    wasm.extend(body);
    wasm
}

fn deep() {
    let (reason, words) = reason(compiler().compile(&nested_types()));
    assert_eq!(reason, "CompileFailed", "{words}");
    assert!(words.contains("overflowed its stack"), "{words}");
}

/// Starts a compiler and waits until it has set its limits.
fn waiting(command: &mut Command) -> Child {
    let child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let begin = Instant::now();
    while !limit(&child, "Max open files").starts_with("0 ") {
        assert!(begin.elapsed() < Duration::from_secs(60), "no limits");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

fn limit(child: &Child, name: &str) -> String {
    let limits = fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_default().trim().to_owned()
}

fn this_program() -> PathBuf {
    std::env::current_exe().unwrap()
}

fn limits() {
    let mut child = waiting(Command::new(this_program()).arg("compile-policy"));
    for (name, value) in [
        ("Max open files", "0 "),
        ("Max core file size", "0 "),
        ("Max file size", "0 "),
        ("Max cpu time", "21 "),
        ("Max address space", "1073741824 "),
    ] {
        let found = limit(&child, name);
        assert!(found.starts_with(value), "{name}: {found}");
    }
    let of_child = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", child.id()));
    assert_eq!(of_child("oom_score_adj").unwrap().trim(), "1000");
    let status = of_child("status").unwrap();
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    child.kill().unwrap();
    child.wait().unwrap();
}

fn descriptors() {
    let program = this_program();
    let script = format!(
        "exec 9</etc/passwd; exec {} compile-policy",
        program.display()
    );
    let mut child = waiting(Command::new("sh").args(["-c", &script]));
    let open = fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap();
    let mut open: Vec<_> = open.map(|entry| entry.unwrap().file_name()).collect();
    open.sort();
    // The last one is /proc/self/status of the compiler.
    assert_eq!(open, ["0", "1", "2", "3"]);
    child.kill().unwrap();
    child.wait().unwrap();
}

fn exits() {
    let folder = std::env::temp_dir().join(format!("compile-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let compiled = r#"{"compiled":{"digest":"d","size":4,"descriptions":1,"landlock":"full"}}"#;
    let forged = format!("printf '%s\\nAAAA' '{compiled}'");
    let short = format!("printf '%s\\nA' '{compiled}'");
    let cases = [
        ("kill -SEGV $$", "CompileFailed", "SIGSEGV"),
        (
            "echo aborted >&2; kill -ABRT $$",
            "CompileFailed",
            ": aborted)",
        ),
        ("kill -XCPU $$", "CompileTimeout", "of CPU time"),
        ("kill -KILL $$", "CompileFailed", "SIGKILL"),
        ("exit 0", "CompileFailed", "exit status: 0"),
        ("yes", "CompileFailed", ""),
        ("yes | tr -d '\\n'", "CompileFailed", ""),
        (&forged, "CompileFailed", "does not compile"),
        (&short, "CompileFailed", "does not compile"),
        (
            r#"echo '{"failed":{"CompileTooLarge":{"what":"Compiler","limit":1048576}}}'"#,
            "CompileTooLarge",
            "more than 1024 KiB",
        ),
    ];
    for (script, expected, words) in cases {
        let program = folder.join("compiler");
        fs::write(
            &program,
            format!("#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n"),
        )
        .unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let host = Host::new(Limits::default()).unwrap();
        let process = CompileProcess::new(&program, host);
        // The input is larger than a pipe's buffer, and none of these programs reads it.
        let (reason, message) = reason(process.compile(&vec![0; 1 << 20]));
        assert_eq!(reason, expected, "{script}: {message}");
        assert!(message.contains(words), "{script}: {message}");
    }
    let missing = CompileProcess::new("/nowhere", Host::new(Limits::default()).unwrap());
    assert_eq!(reason(missing.compile(b"")).0, "CompilerUnavailable");
    fs::remove_dir_all(&folder).unwrap();
}
