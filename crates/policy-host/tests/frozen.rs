//! Components from the releases that froze a contract still load, return the same answers, and use
//! the same fuel.

use policy_host::{DecisionRecord, Host, Limits, RecordedAnswer};
use std::path::{Path, PathBuf};

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.expect("a readable directory").path())
        .collect();
    files.sort();
    files
}

#[test]
fn frozen_components_return_the_recorded_answers() {
    check_recorded_answers(&Host::new(Limits::default()).unwrap());
}

#[test]
fn frozen_components_return_the_recorded_answers_in_shared_memory() {
    check_recorded_answers(&Host::for_many_evaluations(Limits::default(), 1).unwrap());
}

#[allow(clippy::unwrap_used)]
fn check_recorded_answers(host: &Host) {
    let frozen = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frozen");
    let mut repeated = 0;
    for contract in files(&frozen) {
        for wasm in files(&contract) {
            if wasm.extension().is_none_or(|e| e != "wasm") {
                continue;
            }
            let policy = host.load(&std::fs::read(&wasm).unwrap(), None).unwrap();
            let records = std::fs::read(wasm.with_extension("json")).unwrap();
            let records: Vec<DecisionRecord> = serde_json::from_slice(&records).unwrap();
            let decisions = records
                .iter()
                .filter(|record| matches!(record.answer, RecordedAnswer::Decision(_)));
            assert!(decisions.count() >= 20, "{}", wasm.display());
            for record in &records {
                let evaluation = policy.evaluate(&record.request);
                let mut replayed = DecisionRecord::new(&policy, &record.request, &evaluation);
                // These records predate the field.
                assert_eq!(record.engine, None);
                replayed.engine = None;
                assert_eq!(replayed, *record, "{}", wasm.display());
                repeated += 1;
            }
        }
    }
    assert!(repeated >= 90, "{repeated}");
}
