use super::*;
use policy_cases::{Difference, Failure};

fn results() -> Vec<CaseResult> {
    let report = |case: &str, failure| Report {
        case: case.to_owned(),
        tried: 5,
        failure,
    };
    let failure = Failure {
        reason: "Unexpected",
        seed: Some(3),
        others: vec![4],
        differences: vec![Difference {
            what: "run".to_owned(),
            expected: "run <a> & \"b\"".to_owned(),
            found: "run: c\n...".to_owned(),
        }],
        answer: None,
    };
    let result = |report, line| CaseResult {
        report,
        list: "cases",
        line,
        took: Duration::from_micros(1500),
    };
    vec![
        result(report("good", None), None),
        result(report("bad # <\u{1}>", Some(failure)), Some(7)),
    ]
}

#[test]
fn pretty_shows_name_position_and_difference() {
    let expected = "\
ok    good
FAIL  bad # <\u{1}>  (c.yaml:7)
      Unexpected at seed 3, also at 4 (5 seeds tried)
        run: expected run <a> & \"b\", found run: c
      ...

2 cases: 1 passed, 1 failed
";
    assert_eq!(pretty::write("c.yaml", &results()), expected);
}

#[test]
fn junit_is_well_formed_and_complete() {
    let xml = junit::write("c<.yaml", &results()).unwrap();
    let document = roxmltree::Document::parse(&xml).unwrap();
    let suite = document.root_element().first_element_child().unwrap();
    assert_eq!(suite.attribute("name"), Some("c<.yaml"));
    assert_eq!(suite.attribute("tests"), Some("2"));
    assert_eq!(suite.attribute("failures"), Some("1"));
    let cases: Vec<_> = suite.children().filter(|node| node.is_element()).collect();
    assert_eq!(cases[0].attribute("time"), Some("0.002"));
    assert!(cases[0].first_element_child().is_none());
    assert_eq!(cases[1].attribute("name"), Some("bad # <>"));
    assert_eq!(cases[1].attribute("line"), Some("7"));
    let failure = cases[1].first_element_child().unwrap();
    assert_eq!(failure.attribute("type"), Some("Unexpected"));
    assert!(failure.text().unwrap().contains("run <a> & \"b\""));
}
