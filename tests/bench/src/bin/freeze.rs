//! Writes the components of this release with recorded decisions. The tests of later releases
//! replay them, to show that the results are the same. `cargo xtask freeze` starts it.

use anyhow::{Context, Result, ensure};
use oaat_tests::operator::root;
use policy_host::{
    CONTRACT, Choice, Decision, DecisionRecord, Host, Item, Limits, Outcome, Request, Run,
};
use std::path::Path;

const MINUTE: i64 = 60_000;
const START: i64 = 1_800_000_000_000;

/// The policies, each with settings for the group and for its second item.
const POLICIES: [(&str, &str, Option<&str>); 3] = [
    ("policy-default", "{}", None),
    (
        "policy-backoff",
        r#"{"base":"1m","factor":2,"jitter":0.2,"max":"30m"}"#,
        Some(r#"{"base":"2m"}"#),
    ),
    ("policy-fair", r#"{"gap":"30s"}"#, Some(r#"{"weight":3}"#)),
];

fn main() -> Result<()> {
    let folder = root()
        .join("crates/policy-host/tests/frozen")
        .join(CONTRACT);
    ensure!(
        !folder.exists(),
        "{} already exists; the fixtures of a contract must not change",
        folder.display()
    );
    std::fs::create_dir_all(&folder)?;
    let host = Host::new(Limits::default())?;
    for (name, settings, second) in POLICIES {
        let krate = match name.strip_prefix("policy-") {
            Some("default") | None => root().join(name),
            Some(other) => root().join("policies").join(other),
        };
        let wasm = policy_build::build(&krate, &root().join("target/policies"))?;
        let policy = host.load(&wasm, None)?;
        let mut request = first(settings, second);
        let mut records = Vec::new();
        for step in 0..30 {
            request.seed = request.seed.wrapping_mul(6_364_136_223_846_793_005) + 1;
            let evaluation = policy.evaluate(&request);
            records.push(DecisionRecord::new(&policy, &request, &evaluation));
            if let Ok(decision) = evaluation.answer {
                follow(&mut request, &decision, step);
            }
        }
        // One more request, with settings that the policy rejects or cannot parse.
        request.settings = r#"{"unknown":true}"#.into();
        let evaluation = policy.evaluate(&request);
        records.push(DecisionRecord::new(&policy, &request, &evaluation));
        write(&folder.join(format!("{name}.wasm")), &wasm)?;
        let json = serde_json::to_vec(&records)?;
        write(&folder.join(format!("{name}.json")), &json)?;
    }
    Ok(())
}

/// Returns a request with six items that never ran.
fn first(settings: &str, second: Option<&str>) -> Request {
    let item = |index: usize| Item {
        name: format!("item {index}"),
        frequency: (index != 5).then_some(20 * MINUTE as u64),
        cool_off: 30_000,
        settings: second.filter(|_| index == 1).map(Into::into),
        startable: true,
        last_success: None,
        last_failure: None,
        failures: 0,
        runs: 0,
        last_duration: None,
    };
    Request {
        namespace: "frozen".into(),
        group: "group".into(),
        now: START,
        seed: 1,
        settings: settings.into(),
        state: String::new(),
        items: (0..6).map(item).collect(),
        recent: Vec::new(),
        extra: "{}".into(),
    }
}

/// Updates the request as the operator would after a decision: a run of several seconds, of which
/// every third fails, or five minutes without a run.
fn follow(request: &mut Request, decision: &Decision, step: u32) {
    request
        .items
        .iter_mut()
        .for_each(|item| item.startable = true);
    let Choice::Run(index) = decision.choice else {
        request.now += 5 * MINUTE;
        return;
    };
    let (started, took) = (request.now, 10_000 + 7_000 * i64::from(step % 5));
    request.now += took;
    if let Some(state) = &decision.state {
        request.state.clone_from(state);
    }
    let Some(item) = request.items.get_mut(index as usize) else {
        return;
    };
    item.startable = false;
    item.runs += 1;
    item.last_duration = u64::try_from(took).ok();
    let failed = step % 3 == 2;
    if failed {
        item.failures += 1;
        item.last_failure = Some(request.now);
    } else {
        item.failures = 0;
        item.last_success = Some(request.now);
    }
    let run = Run {
        item: index,
        started,
        finished: request.now,
        outcome: if failed {
            Outcome::Failed
        } else {
            Outcome::Succeeded
        },
        exit_code: Some(i32::from(failed)),
    };
    request.recent.insert(0, run);
    request.recent.truncate(20);
}

fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    println!("{} ({} bytes)", file.display(), bytes.len());
    std::fs::write(file, bytes).with_context(|| format!("{}", file.display()))
}
