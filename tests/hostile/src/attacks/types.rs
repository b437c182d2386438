//! Types with a short definition and a large expansion.

use super::text::{lifted, with_texts};
use crate::attack::{FORBIDDEN, HEAVY, Row, WRONG};
use std::fmt::Write;

pub(super) fn types() -> anyhow::Result<Vec<Row>> {
    let chain = |first: &str, depth: usize, next: &dyn Fn(usize) -> String| {
        (1..=depth).fold(format!("(type $t0 {first})"), |mut text, n| {
            let _ = write!(text, "(type $t{n} {})", next(n - 1));
            text
        })
    };
    // Each type contains the previous one twice, by an alias out of its own scope.
    let doubling = |depth| {
        chain("(instance (export \"a\" (func)))", depth, &|below| {
            format!(
                r#"(instance (alias outer 1 $t{below} (type $t))
                (export "a" (instance (type $t))) (export "b" (instance (type $t))))"#
            )
        })
    };
    let many = |count, item: &dyn Fn(usize) -> String| (0..count).map(item).collect::<String>();
    let names = |count, word: &str| many(count, &|n| format!(" \"{word}{n}\""));
    let fields = |count, ty: &str| many(count, &|n| format!("(field \"f{n}\" {ty})"));
    let rows: Vec<(_, _, _, String)> = vec![
        (
            "doubling-imports",
            FORBIDDEN,
            "400 imports of an instance type that doubles at each of 16 levels",
            doubling(16)
                + &many(400, &|n| {
                    format!(r#"(import "n{n}" (instance (type $t16)))"#)
                }),
        ),
        (
            "doubling-exports",
            HEAVY,
            "exports of a component whose 400 imports double at each of 16 levels",
            doubling(16)
                + "(component $c (alias outer 1 $t16 (type $t))"
                + &many(400, &|n| format!(r#"(import "n{n}" (instance (type $t)))"#))
                + r#")(export "c" (component $c))"#,
        ),
        (
            "doubling-type-exports",
            HEAVY,
            "1,000 exports of an instance type that doubles at each of 17 levels",
            doubling(17) + &many(1_000, &|n| format!(r#"(export "t{n}" (type $t17))"#)),
        ),
        (
            "doubling-instances",
            WRONG,
            "an instance type that doubles at each of 60 levels",
            doubling(60) + r#"(export "t" (type $t60))"#,
        ),
        (
            "doubling-tuples",
            WRONG,
            "a tuple that doubles at each of 60 levels",
            chain("u8", 60, &|n| format!("(tuple $t{n} $t{n})")) + &lifted("$t60"),
        ),
        (
            "doubling-tuples-19",
            HEAVY,
            "a tuple of half a million numbers in 19 levels, as a parameter",
            chain("u8", 19, &|n| format!("(tuple $t{n} $t{n})")) + &lifted("$t19"),
        ),
        (
            "doubling-variants",
            WRONG,
            "a variant that doubles at each of 40 levels",
            chain("u8", 40, &|n| {
                format!(r#"(variant (case "a" $t{n}) (case "b" $t{n}))"#)
            }) + &lifted("$t40"),
        ),
        (
            "deep-lists",
            WRONG,
            "a list of lists, 50,000 deep",
            chain("(list u8)", 50_000, &|n| format!("(list $t{n})")) + &lifted("$t50000"),
        ),
        (
            "deep-lists-99",
            HEAVY,
            "a list of lists, 90 deep, as a parameter",
            chain("(list u8)", 90, &|n| format!("(list $t{n})")) + &lifted("$t90"),
        ),
        (
            "deep-options",
            WRONG,
            "an option of options, 50,000 deep",
            chain("(option u8)", 50_000, &|n| format!("(option $t{n})")),
        ),
        (
            "deep-results",
            WRONG,
            "a result of results, 20,000 deep",
            chain("(result u8)", 20_000, &|n| {
                format!("(result $t{n} (error $t{n}))")
            }),
        ),
        (
            "deep-records",
            WRONG,
            "a record in a record, 20,000 deep",
            chain("(record (field \"a\" u8))", 20_000, &|n| {
                format!("(record (field \"a\" $t{n}))")
            }),
        ),
        (
            "wide-record",
            WRONG,
            "a record of 100,000 fields",
            format!("(type $t (record {}))", fields(100_000, "string")) + &lifted("$t"),
        ),
        (
            "wide-record-1000",
            HEAVY,
            "a record of 1,000 strings, as a parameter",
            format!("(type $t (record {}))", fields(1_000, "string")) + &lifted("$t"),
        ),
        (
            "wide-flags",
            WRONG,
            "100,000 flags",
            format!("(type $t (flags {}))", names(100_000, "f")),
        ),
        (
            "wide-enum",
            HEAVY,
            "an enum of 100,000 cases, as a parameter",
            format!("(type $t (enum {}))", names(100_000, "c")) + &lifted("$t"),
        ),
        (
            "wide-variant",
            HEAVY,
            "a variant of 10,000 cases of different types, as a parameter",
            format!(
                "(type $t (variant {}))",
                many(10_000, &|n| format!(
                    "(case \"c{n}\" {})",
                    ["u8", "string", "f64", "s64"][n % 4]
                ))
            ) + &lifted("$t"),
        ),
        (
            "wide-parameters",
            WRONG,
            "a function of 100,000 parameters",
            format!(
                "(type $t (func {}))",
                many(100_000, &|n| format!("(param \"p{n}\" u8)"))
            ),
        ),
        (
            "type-aliases",
            HEAVY,
            "20,000 names of one type, each by the one before",
            chain("u8", 0, &|_| String::new())
                + &many(20_000, &|n| {
                    format!("(export $t{} \"t{n}\" (type $t{n}))", n + 1)
                }),
        ),
        (
            "outer-aliases",
            WRONG,
            "100,000 aliases of a type out of a component",
            format!(
                "(type $t u8)(component {})",
                "(alias outer 1 $t (type))".repeat(100_000)
            ),
        ),
        (
            "outer-aliases-deep",
            HEAVY,
            "50 nested components that each reach for all types around them",
            (0..50).fold(String::new(), |inside, level| {
                let above = many(50 - level, &|n| format!("(alias outer {n} 0 (type))"));
                format!("(component {above}{inside})")
            }),
        ),
        (
            "resources",
            HEAVY,
            "5,000 resource types",
            "(type (resource (rep i32)))".repeat(5_000),
        ),
    ];
    with_texts(rows)
}
