//! Fixtures that several tests share.

use policy_host::{
    Choice, Decision, DecisionRecord, Evaluation, RecordedAnswer, Request, request_digest,
};
use std::path::Path;
use std::sync::OnceLock;

/// Returns the component of the built-in policy.
pub(crate) fn default_policy() -> &'static [u8] {
    static WASM: OnceLock<Vec<u8>> = OnceLock::new();
    WASM.get_or_init(|| {
        // A separate target directory: the cargo process that runs this test may hold the lock of
        // its own.
        let test = std::env::current_exe().unwrap();
        let target = test.ancestors().nth(3).unwrap().join("policies");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy-default");
        policy_build::build(&source, &target).unwrap()
    })
}

/// Returns an evaluation with this choice.
pub(crate) fn answer(choice: Choice) -> Evaluation<Decision> {
    let decision = Decision {
        choice,
        note: None,
        verdicts: vec![],
        state: None,
    };
    Evaluation {
        answer: Ok(decision),
        fuel: 10,
        log: vec![],
        log_dropped: 0,
    }
}

/// Returns the record of a decision without items.
pub(crate) fn record() -> DecisionRecord {
    let request = Request {
        namespace: "n".into(),
        group: "record={".into(),
        now: 0,
        seed: u64::MAX,
        settings: "{}".into(),
        state: String::new(),
        items: Vec::new(),
        recent: Vec::new(),
        extra: "{}".into(),
    };
    DecisionRecord {
        digest: "d".into(),
        engine: None,
        contract: "1.0.0".into(),
        request_sha256: request_digest(&request),
        request,
        fuel: 1,
        answer: RecordedAnswer::Error {
            reason: "PolicyError".into(),
            message: "no \"more\"\n".into(),
        },
    }
}
