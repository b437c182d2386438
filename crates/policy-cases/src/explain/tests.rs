use super::*;
use policy_host::{Standing, Verdict};

fn evaluation(answer: Result<Decision, EvalError>) -> Evaluation<Decision> {
    Evaluation {
        answer,
        fuel: 1,
        log: vec![LogLine {
            level: Level::Warn,
            text: "two of them".into(),
        }],
        log_dropped: 3,
    }
}

fn explanation(answer: Result<Decision, EvalError>) -> String {
    let request = crate::request("items: [a, {name: long name, held: true}, 日本]").unwrap();
    explain(&request, &evaluation(answer)).to_string()
}

#[test]
fn decision_is_formatted_as_a_table() {
    let verdict = |standing, minutes: Option<i64>, note: Option<&str>| Verdict {
        standing,
        until: minutes.map(|minutes| 1_767_268_800_000 + minutes * 60_000),
        note: note.map(str::to_owned),
    };
    let text = explanation(Ok(Decision {
        choice: Choice::Run(2),
        note: Some("why".into()),
        verdicts: vec![
            verdict(Standing::Fresh, Some(10), None),
            verdict(Standing::Ready, None, None),
            verdict(Standing::Ready, None, Some("its turn")),
        ],
        state: Some("{\"n\":1}".into()),
    }));
    let expected = r#"run 日本
note: why
  ITEM       STANDING     UNTIL                          NOTE
  a          fresh        2026-01-01T12:10:00Z (in 10m)
  long name  ready, held
> 日本       ready                                       its turn
state: "{\"n\":1}"
log:
  warn: two of them
  (3 more lines were dropped)
"#;
    assert_eq!(text, expected);
}

#[test]
fn empty_columns_are_not_shown() {
    let wait = |until| Decision {
        choice: Choice::Wait(until),
        note: None,
        verdicts: vec![],
        state: None,
    };
    let text = explanation(Ok(wait(None)));
    let table = "  ITEM       STANDING\n  a\n  long name  held\n  日本\n";
    assert!(
        text.starts_with(&format!("wait (no time given)\n{table}log:")),
        "{text}"
    );
    let text = explanation(Ok(wait(Some(1_767_268_800_000))));
    assert!(
        text.starts_with("wait until 2026-01-01T12:00:00Z (now)\n"),
        "{text}"
    );
}

#[test]
fn error_is_formatted_with_its_reason() {
    let text = explanation(Err(EvalError::OutOfFuel(5)));
    assert!(
        text.starts_with("OutOfFuel: the policy used up its fuel of 5\nlog:\n"),
        "{text}"
    );
}
