use super::chunk::{Content, MAX_LINE};
use super::*;
use crate::policy::test_fixtures::record;
use proptest::prelude::*;
use std::io::Read;

const TARGET: &str = "oaat_operator::decision_log";

fn json() -> String {
    serde_json::to_string(&record()).unwrap()
}

/// Returns the lines of a file with their numbers.
fn lines(input: impl Read) -> Vec<(u64, Line<DecisionRecord>)> {
    let mut lines = Vec::new();
    read_chunks(input, |chunk| {
        chunk.for_each(|number, line| lines.push((number, line)));
        true
    })
    .unwrap();
    lines
}

#[test]
fn recorded_finds_records_in_files_and_in_logs_of_either_format() {
    let json = json();
    let logged = format!("INFO {TARGET}: decided record={json} more=2");
    let one = [
        json.clone(),
        serde_json::to_string_pretty(&record()).unwrap(),
        format!("2026-01-01T00:00:00Z  {logged}\nother line"),
        format!("[pod/oaat-operator-0/operator] 2026-01-01T00:00:00Z  {logged}"),
        format!("2026 {}", logged.replace(": decided", ": no decision")),
        format!(
            "other\n{}",
            serde_json::json!({
                "level": "INFO", "target": TARGET, "message": "decided", "record": json,
            })
        ),
    ];
    for text in one {
        assert_eq!(recorded(&text), [record()], "{text}");
    }
    assert_eq!(recorded(&format!("{json}\n\n{json}\n")).len(), 2);
    assert!(recorded("nothing of that kind\n{}\n").is_empty());
}

#[test]
fn recorded_ignores_records_quoted_in_other_lines() {
    let json = json();
    let decided = format!("INFO {TARGET}: decided record={json}");
    let none = [
        format!("x\n{json}"),
        format!("2026  INFO oaat_operator::policy: {decided}"),
        format!("2026  WARN kube_client: {decided}"),
        format!("2026  INFO {TARGET}: decided why=\"{decided}\""),
        format!("2026  INFO {TARGET}: decided why=x record={json}"),
        serde_json::json!({ "target": TARGET, "message": "x", "record": json }).to_string(),
        serde_json::json!({
            "target": "oaat_operator::policy", "message": "decided", "record": json,
        })
        .to_string(),
    ];
    for text in none {
        assert!(
            recorded(&format!("first line\n{text}")).is_empty(),
            "{text}"
        );
    }
}

#[test]
fn decisions_without_a_readable_record_are_reported() {
    let json = json();
    let cut = &json[..json.len() - 3];
    let in_json = serde_json::json!({ "target": TARGET, "message": "decided", "record": cut });
    let of_digests = serde_json::json!({ "target": TARGET, "message": "no decision" }).to_string();
    for (text, digests) in [
        (
            format!("2026  INFO {TARGET}: decided namespace=\"n\""),
            true,
        ),
        (of_digests.clone(), true),
        (
            format!("2026  INFO {TARGET}: decided record={cut} more=2"),
            false,
        ),
        (in_json.to_string(), false),
        // A log that was copied while the operator wrote it.
        (of_digests[..of_digests.len() - 9].to_owned(), false),
    ] {
        let lines = lines(format!("first\n{text}").as_bytes());
        let [(1, Line::Other), (2, line)] = &lines[..] else {
            panic!("{text}: {lines:?}")
        };
        assert_eq!(*line == Line::Digests, digests, "{text}: {line:?}");
        assert_eq!(
            matches!(line, Line::Unreadable(_)),
            !digests,
            "{text}: {line:?}"
        );
    }
    // Nor is a line hidden in a file with one record per line.
    let lines = lines(format!("{json}\n\nother\n{json}").as_bytes());
    let [
        (1, Line::Record(_)),
        (3, Line::Unreadable(_)),
        (4, Line::Record(_)),
    ] = &lines[..]
    else {
        panic!("{lines:?}")
    };
}

#[test]
fn line_that_is_too_long_is_reported_and_skipped() {
    let logged = format!("2026  INFO {TARGET}: decided record={}\n", json());
    let long = std::io::repeat(b'x').take(3 * MAX_LINE as u64);
    let text = logged.as_bytes().chain(long).chain(&b"\n"[..]);
    let lines = lines(text.chain(logged.as_bytes()));
    let [
        (1, Line::Record(_)),
        (2, Line::Unreadable(why)),
        (3, Line::Record(_)),
    ] = &lines[..]
    else {
        panic!("{lines:?}")
    };
    assert!(why.contains("16 MiB"), "{why}");
    // The same applies to a file with one record, and at the end of a file.
    for first in ["{\n", ""] {
        let long = std::io::repeat(b' ').take(3 * MAX_LINE as u64);
        let long = first.as_bytes().chain(long).chain(&b"x"[..]);
        let found = lines_without_numbers(long);
        assert!(matches!(&found[..], [Line::Unreadable(_)]), "{found:?}");
    }
}

fn lines_without_numbers(input: impl Read) -> Vec<Line<DecisionRecord>> {
    lines(input).into_iter().map(|(_, line)| line).collect()
}

#[test]
fn memory_for_a_file_is_bounded() {
    // Chunks are handed over one at a time, and none is much longer than the others.
    let line = format!("{}\n", "other ".repeat(30_000));
    let mut total = 0;
    let file = line.repeat(50);
    read_chunks(file.as_bytes(), |chunk| {
        let Content::Log(bytes) = chunk.content else {
            panic!("not a log")
        };
        assert!(bytes.len() < 1 << 20, "{}", bytes.len());
        total += bytes.len();
        true
    })
    .unwrap();
    assert_eq!(total, file.len());
}

#[test]
fn directory_is_read_in_the_order_of_times() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for name in ["20-n-g-0.json", "3-n-g-0.json", "notes.json", "4-n.log"] {
        std::fs::write(path(name), "").unwrap();
    }
    std::fs::create_dir(path("5-n-g-0.json")).unwrap();
    let files = recorded_files(&[path("notes.json"), folder.path().to_owned()]).unwrap();
    assert_eq!(
        files,
        ["notes.json", "3-n-g-0.json", "20-n-g-0.json"].map(path)
    );
    let empty = tempfile::tempdir().unwrap();
    let error = recorded_files(&[empty.path().to_owned()]).unwrap_err();
    assert!(error.to_string().contains("--record-decisions"), "{error}");
}

/// Returns at most `size` bytes at a time.
struct Slow<'a>(&'a [u8], usize);

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min(self.1);
        self.0.read(&mut buffer[..length])
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn lines_are_the_same_however_a_file_is_read(
        lengths in proptest::collection::vec(0_usize..400_000, 0..8), size in 1_usize..2_000_000,
        ends_with_newline: bool,
    ) {
        // A decision between other lines, at any distance from the ends of the chunks.
        let logged = format!("2026  INFO {TARGET}: decided record={}", json());
        let others = lengths.iter().map(|length| "x".repeat(*length));
        let mut text: Vec<String> = others.flat_map(|line| [line, logged.clone()]).collect();
        text.push(if ends_with_newline { "" } else { "end" }.to_owned());
        let expected: Vec<u64> = (1..).zip(&text).filter(|(_, line)| !line.is_empty())
            .map(|(number, _)| number).collect();
        let text = text.join("\n");
        let found = lines(Slow(text.as_bytes(), size));
        let numbers: Vec<u64> = found.iter().map(|(number, _)| *number).collect();
        prop_assert_eq!(numbers, expected);
        let records = found.iter().filter(|(_, line)| matches!(line, Line::Record(_))).count();
        prop_assert_eq!(records, lengths.len());
    }
}
