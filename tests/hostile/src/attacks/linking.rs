//! Links between components.

use super::text::{HELPER, with_texts};
use crate::attack::{HEAVY, LIMITED, Row, WRONG};
use std::fmt::Write;

pub(super) fn linking() -> anyhow::Result<Vec<Row>> {
    // Lifts and lowers the same function repeatedly.
    let chain = |count: usize| {
        let mut text = "(core module $m (func (export \"f\")))(core instance $i (instantiate $m))
            (alias core export $i \"f\" (core func $c0))(type $f (func))"
            .to_owned();
        for n in 0..count {
            let _ = write!(
                text,
                "(func $f{n} (type $f) (canon lift (core func $c{n})))
                (core func $c{} (canon lower (func $f{n})))",
                n + 1
            );
        }
        text + &format!(
            "(core module $u (import \"\" \"f\" (func)))
            (core instance (instantiate $u (with \"\" (instance (export \"f\" (func $c{count}))))))"
        )
    };
    let deep = (1..40).fold(
        "(type $v0 (variant (case \"a\" string)))".to_owned(),
        |t, n| {
            let below = n - 1;
            t + &format!(
                "(type $v{n} (variant (case \"a\" $v{below}) (case \"b\" (list $v{below}))))"
            )
        },
    );
    let lifts = |count: usize| {
        let mut text = format!("{deep}{HELPER}(type $f (func (param \"a\" $v39) (result $v39)))");
        for n in 0..count {
            let _ = write!(
                text,
                "(func $l{n} (type $f) (canon lift (core func $g) (memory $m) (realloc (func $r))))
                (export \"l{n}\" (func $l{n}))"
            );
        }
        text
    };
    let crossing = |count: usize| {
        let mut text = format!(
            "{deep}(component $a (alias outer 1 $v20 (type $v))
            {HELPER}(type $f (func (param \"a\" $v) (result $v)))
            (func $l (type $f) (canon lift (core func $g) (memory $m) (realloc (func $r))))"
        );
        for n in 0..count {
            let _ = write!(text, "(export \"f{n}\" (func $l))");
        }
        text += ")(instance $ia (instantiate $a))";
        text += HELPER;
        for n in 0..count {
            let _ = write!(
                text,
                "(core func $x{n} (canon lower (func $ia \"f{n}\") (memory $m) (realloc (func $r))))"
            );
        }
        text += "(core module $u ";
        for n in 0..count {
            let _ = write!(text, "(import \"\" \"f{n}\" (func (param i32 i32)))");
        }
        text += ")(core instance (instantiate $u (with \"\" (instance ";
        for n in 0..count {
            let _ = write!(text, "(export \"f{n}\" (func $x{n}))");
        }
        text + "))))"
    };
    let instances = |count: usize| "(core instance (instantiate $m))".repeat(count);
    let rows: Vec<(_, _, _, String)> = vec![
        (
            "adapter-chain",
            LIMITED,
            "10,000 adapters, each lifting what the one before lowered",
            chain(10_000),
        ),
        (
            "adapter-chain-short",
            HEAVY,
            "300 adapters, each lifting what the one before lowered",
            chain(300),
        ),
        (
            "variant-lifts",
            HEAVY,
            "2,000 functions with a variant 40 deep as parameter and result",
            lifts(2_000),
        ),
        (
            "variant-crossings",
            HEAVY,
            "500 calls of a variant 20 deep between two components",
            crossing(500),
        ),
        (
            "core-instances",
            HEAVY,
            "900 instances of a module with a memory of 64 KiB",
            "(core module $m (memory 1))".to_owned() + &instances(900),
        ),
        (
            "core-instances-many",
            LIMITED,
            "100,000 instances of an empty module",
            "(core module $m)".to_owned() + &instances(100_000),
        ),
        (
            "instance-exports",
            HEAVY,
            "an instance with 50,000 exports of one function",
            format!(
                "(core module $m (func (export \"f\")))(core instance $i (instantiate $m))
                (core instance (export \"a\" (func $i \"f\")){})",
                (0..50_000)
                    .map(|n| format!("(export \"e{n}\" (func $i \"f\"))"))
                    .collect::<String>()
            ),
        ),
        (
            "canon-options",
            WRONG,
            "a lift with 50,000 options",
            format!(
                "{HELPER}(type $f (func))(func (type $f) (canon lift (core func $g) {}))",
                "string-encoding=utf8 ".repeat(50_000)
            ),
        ),
        (
            "self-instance",
            WRONG,
            "a component that instantiates itself 2^30 times by its parts",
            (1..=30).fold(
                "(component $c0 (core module $m) (core instance (instantiate $m)))".to_owned(),
                |text, n| {
                    let below = n - 1;
                    text + &format!(
                        "(component $c{n} (alias outer 1 $c{below} (component $x))
                        (instance (instantiate $x)) (instance (instantiate $x)))"
                    )
                },
            ) + "(instance (instantiate $c30))",
        ),
    ];
    with_texts(rows)
}
