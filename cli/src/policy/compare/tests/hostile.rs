//! Policies that misbehave, as A and as B.

use super::*;
use hostile_policies::{Expected, Hostile};
use std::time::Duration;

/// At least one policy for each kind of misbehavior.
const NAMES: [&str; 25] = [
    "!loop",
    "copy-outside",
    "crash",
    "empty",
    "err-control",
    "err-long",
    "grow",
    "import-wasi",
    "index-max",
    "list-endless",
    "load-outside",
    "loop",
    "memory-fill",
    "memory-initial",
    "note-control",
    "notes-shared",
    "recurse",
    "settings-panic",
    "start-trap",
    "state-full",
    "store-outside",
    "table-grow",
    "validate-trap",
    "verdicts-many",
    "wait-1ms",
];

fn limits() -> Limits {
    Limits {
        // Long enough for fuel to run out first, even on a busy machine.
        deadline: Duration::from_secs(300),
        ..Limits::default()
    }
}

/// Writes a file with two decisions about an item that is ready and one that is held.
fn decisions(folder: &Path) -> std::path::PathBuf {
    let requests = [1, 2].map(|number| {
        let mut request = request(number, "g", false);
        let [first, held] = &mut request.items[..] else {
            panic!("{request:?}");
        };
        std::mem::swap(&mut first.last_failure, &mut held.last_failure);
        held.startable = false;
        request
    });
    let file = folder.join("decisions");
    write(&file, &requests);
    file
}

/// Loads a hostile policy as the command line does.
fn load(host: &Host, folder: &Path, hostile: &Hostile) -> Result<Side> {
    let file = folder.join(hostile.name);
    std::fs::write(&file, &hostile.bytes)?;
    Side::load(
        host,
        &file,
        hostile.settings,
        "--settings-a",
        default_policy(),
    )
}

fn is_line(text: &str) -> bool {
    !text.contains(|c: char| c.is_control() || "\u{2028}\u{202e}\u{feff}".contains(c))
}

#[test]
fn hostile_policy_does_not_change_the_numbers_of_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let files = [decisions(folder.path())];
    let host = Host::for_many_evaluations(limits(), 2).unwrap();
    let default = || Side::load(&host, Path::new("default"), None, "", default_policy()).unwrap();
    let compared = |sides: &[Side; 2]| work::compare_with(2, sides, &files, &[]).unwrap();
    // The host compiles a policy again only if nothing uses it.
    let honest = [default(), default()];
    let alone = compared(&honest).fuel[0];
    assert_eq!(alone.decisions, 2);
    let all = hostile_policies::all().unwrap();
    for name in NAMES {
        let hostile = all.iter().find(|hostile| hostile.name == name).unwrap();
        let expected = hostile.expected;
        let mut side = match load(&host, folder.path(), hostile) {
            Ok(side) => side,
            Err(error) => {
                let text = format!("{error:#}");
                assert!(is_line(&text) && text.len() < 2048, "{name}: {text:?}");
                let Expected::Load(reason) = expected else {
                    panic!("{name}: {text}");
                };
                assert!(text.contains(&format!(": {reason}: ")), "{name}: {text}");
                continue;
            }
        };
        let reason = match expected {
            Expected::Load(reason) | Expected::Evaluation(reason) => Some(reason),
            Expected::Legal => None,
        };
        for position in [0, 1] {
            let mut sides = [side, default()];
            sides.rotate_left(position);
            let tally = compared(&sides);
            let other = tally.fuel[1 - position];
            assert_eq!(
                (other.decisions, other.total, other.max),
                (alone.decisions, alone.total, alone.max),
                "{name}"
            );
            let failures = &tally.failures[position];
            let found: Vec<_> = failures
                .iter()
                .map(|(reason, of)| (*reason, of.count))
                .collect();
            assert_eq!(
                found,
                Vec::from_iter(reason.map(|reason| (reason, 2))),
                "{name}"
            );
            assert_eq!(
                (tally.counts.both_failed, tally.counts.interrupted),
                (0, 0),
                "{name}"
            );
            let comparison = Comparison::new(&sides, &tally, &files, 0);
            let text = report::text(&comparison);
            assert!(text.lines().all(is_line), "{name}: {text:?}");
            sides.rotate_right(position);
            [side, _] = sides;
        }
    }
}

#[test]
fn failures_of_both_policies_are_counted_separately() {
    let folder = tempfile::tempdir().unwrap();
    let files = [decisions(folder.path())];
    let host = Host::for_many_evaluations(limits(), 2).unwrap();
    let all = hostile_policies::all().unwrap();
    let side = |name: &str| {
        let hostile = all.iter().find(|hostile| hostile.name == name).unwrap();
        load(&host, folder.path(), hostile).unwrap()
    };
    for (a, b) in [
        ("recurse", "recurse"),
        ("recurse", "load-outside"),
        ("grow", "index-max"),
        ("loop", "err"),
    ] {
        let sides = [side(a), side(b)];
        let tally = work::compare_with(2, &sides, &files, &[]).unwrap();
        let expected = Counts {
            both_failed: 2,
            ..Counts::default()
        };
        assert_eq!(tally.counts, expected, "{a}, {b}");
        let comparison = Comparison::new(&sides, &tally, &files, 3_600_000);
        assert_eq!(comparison.exit_code(), ExitCode::from(2), "{a}, {b}");
        let simulation = comparison.groups[0].simulation.as_ref().unwrap();
        let simulation = simulation.as_ref().unwrap();
        assert_eq!(simulation.agreement(), Agreement::Incomplete, "{a}, {b}");
        for side in &simulation.sides {
            assert_eq!(
                (side.totals().runs, side.totals().failed_decisions),
                (0, 20)
            );
        }
        assert_eq!(
            report::json(&comparison)["groups"][0]["simulation"]["agrees"],
            false
        );
    }
}
