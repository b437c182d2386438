//! Evaluates each row of the tables in the README.

use serde_json::json;

/// Returns the parts of a row: the expression and its value.
fn row(line: &str) -> Option<(String, String)> {
    let line = line.replace(r"\|", "\u{1}");
    let mut cells = line.split('|').skip(1);
    let code = |cell: &str| Some(cell.trim().strip_prefix('`')?.strip_suffix('`')?.to_owned());
    Some((code(cells.next()?)?, code(cells.next()?)?))
}

#[test]
fn each_row_has_the_stated_value() {
    let readme = include_str!("../README.md");
    let request = readme
        .split("```yaml\n")
        .filter_map(|block| block.split("```").next())
        .find(|block| block.starts_with("now:"))
        .unwrap();
    let mut cases = Vec::new();
    for (expression, value) in readme.lines().filter_map(row) {
        cases.push(json!({
            "name": expression,
            "given": {"settings": {"eligible": format!("({expression}) == ({value})")}},
            "expect": {"run": "photos"},
        }));
    }
    assert!(cases.len() > 50, "{} rows", cases.len());
    let given = request.replace('\n', "\n  ");
    let cases = json!(cases);
    let yaml = format!("given:\n  {given}\ncases: {cases}\n");
    policy_testkit::component!().check_cases(&yaml);
}

#[test]
fn rows_about_absent_values_have_a_case() {
    let readme = include_str!("../README.md");
    let cases = include_str!("../cases.yaml");
    let (_, section) = readme.split_once("## Absent values").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let mut kind = "absent";
    let mut rows = 0;
    for line in section.lines() {
        if line.starts_with("The following are not absent") {
            kind = "not absent";
        }
        let Some(row) = line.strip_prefix("| ") else {
            continue;
        };
        let (first, _) = row.split_once(" | ").unwrap();
        let name = first.replace(['`', '\\'], "");
        if name == "an absent field or setting in" || name == "what is read" {
            continue;
        }
        let case = format!("- name: \"{kind}: {name}\"");
        assert!(cases.contains(&case), "{case}");
        rows += 1;
    }
    assert_eq!(rows, 13);
}
