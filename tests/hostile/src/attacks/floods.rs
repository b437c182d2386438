//! Excessive numbers of definitions.

use super::text::with_texts;
use crate::attack::{COMPILED, FORBIDDEN, HEAVY, Row, WRONG};
use crate::bombs::with_sections;

pub(super) fn floods() -> anyhow::Result<Vec<Row>> {
    let many = |count, item: &dyn Fn(usize) -> String| (0..count).map(item).collect::<String>();
    let core = |fields: String| format!("(core module {fields})");
    let long = "x".repeat(90_000);
    let rows: Vec<(_, _, _, String)> = vec![
        (
            "import-names",
            FORBIDDEN,
            "20,000 imports of functions",
            many(20_000, &|n| format!("(import \"n{n}\" (func))")),
        ),
        (
            "import-name-long",
            FORBIDDEN,
            "an import whose name has 90,000 letters",
            format!("(import \"{long}\" (func))"),
        ),
        (
            "import-name-controls",
            &["ForbiddenImport", "Malformed", "CompileFailed"],
            "an import of a name with terminal escapes and bidirectional marks, in a core module",
            r#"(core module $m (import "\1b[31m\e2\80\ae" "\0a\0d" (func)))
            (core instance (instantiate $m))"#
                .into(),
        ),
        (
            "export-names",
            HEAVY,
            "20,000 exports of one type",
            format!(
                "(type $t u8){}",
                many(20_000, &|n| format!("(export \"n{n}\" (type $t))"))
            ),
        ),
        (
            "module-exports",
            HEAVY,
            "a core module that exports its function under 100,000 names",
            core(format!(
                "(func $f){}",
                many(100_000, &|n| format!("(export \"e{n}\" (func $f))"))
            )),
        ),
        (
            "memories",
            WRONG,
            "1,000 memories of 4 GiB each",
            core("(memory 65536)".repeat(1_000)),
        ),
        (
            "memory-instances",
            HEAVY,
            "an instance with a memory of 4 GiB",
            "(core module $m (memory 65536))(core instance (instantiate $m))".into(),
        ),
        (
            "tables",
            HEAVY,
            "100 tables of a thousand million elements each",
            core("(table 1000000000 funcref)".repeat(100)),
        ),
        (
            "globals",
            HEAVY,
            "200,000 globals",
            core("(global i64 (i64.const 1))".repeat(200_000)),
        ),
        (
            "global-expression",
            WRONG,
            "a global whose first value is a sum of 200,000 numbers",
            core(format!(
                "(global i32 i32.const 1 {})",
                "i32.const 1 i32.add ".repeat(200_000)
            )),
        ),
        (
            "data-segments",
            HEAVY,
            "90,000 empty data segments",
            core(format!(
                "(memory 1){}",
                "(data (i32.const 0) \"\")".repeat(90_000)
            )),
        ),
        (
            "data-spread",
            HEAVY,
            "data at both ends of a memory of 4 GiB",
            "(core module $m (memory 65536) (data (i32.const 0) \"a\") (data (i32.const -1) \"b\"))
            (core instance (instantiate $m))"
                .into(),
        ),
        (
            "element-segments",
            HEAVY,
            "2,000 element segments of 100 functions each",
            core(format!(
                "(table 100 funcref)(func $f){}",
                format!("(elem (i32.const 0) {})", "$f ".repeat(100)).repeat(2_000)
            )),
        ),
        (
            "rows-of-customs",
            HEAVY,
            "100,000 custom sections",
            core("(@custom \"x\" \"\")".repeat(100_000)),
        ),
        (
            "function-types",
            HEAVY,
            "900 types of 1,000 parameters and 1,000 results each",
            core(many(900, &|n| {
                let mut kinds = vec!["i32"; 999];
                kinds.insert(n, "i64");
                let kinds = kinds.join(" ");
                format!("(type (func (param {kinds}) (result {kinds})))")
            })),
        ),
        (
            "start-sections",
            &["Malformed", "CompileFailed", "ProbeFailed", COMPILED],
            "500 instances of a module whose start function counts to 4 thousand million",
            format!(
                "(core module $m (func $s (local i32) (loop (local.set 0 (i32.add (local.get 0) (i32.const 1)))
                (br_if 0 (local.get 0)))) (start $s)){}",
                "(core instance (instantiate $m))".repeat(500)
            ),
        ),
        (
            "table-filled",
            &["TooLarge", "ProbeFailed", "CompileFailed", COMPILED],
            "a table whose first value is given for 90,000 elements, 100 times",
            format!(
                "(core module $m (func $f) (table 90000 funcref (ref.func $f)) (elem declare func $f)){}",
                "(core instance (instantiate $m))".repeat(100)
            ),
        ),
    ];
    let mut rows = with_texts(rows)?;
    let customs = vec![(0, b"\x01x".to_vec()); 200_000];
    rows.push((
        "component-customs",
        HEAVY,
        "200,000 custom sections of the component",
        with_sections(customs)?,
    ));
    rows.push((
        "modules-many",
        HEAVY,
        "20,000 empty core modules",
        with_sections(vec![(1, b"\0asm\x01\0\0\0".to_vec()); 20_000])?,
    ));
    Ok(rows)
}
