//! Components that attack the code that reads and compiles them: the parser, the validator, the
//! conversion of types, and the compiler. Unlike [`all`](crate::all), pass them only to a child
//! process: several of them overflow the stack or allocate gigabytes.

use crate::attack::{Attack, COMPILED, HEAVY, Row};
use crate::bombs::{function, module, with_module, with_sections};
use crate::bytes::flip;
use crate::component::{honest, sections};
use anyhow::Context;
use policy_host::compress;
use std::fmt::Write;
use wasm_encoder::{BlockType, Ieee32, Ieee64, InstructionSink, MemArg};

/// The reasons for invalid bytes. Which check detects them first is not guaranteed.
const WRONG: &[&str] = &[
    "Malformed",
    "CompileFailed",
    "TooLarge",
    "InterfaceMismatch",
];
/// The reasons for a valid component that exceeds a limit.
const LIMITED: &[&str] = &[
    "TooLarge",
    "CompileFailed",
    "CompileTimeout",
    "CompileTooLarge",
];
/// The reasons for a valid component that requests something forbidden.
const FORBIDDEN: &[&str] = &[
    "ForbiddenImport",
    "TooLarge",
    "CompileFailed",
    "CompileTimeout",
    "CompileTooLarge",
];
/// The reasons for a component that does not match the contract.
const FOREIGN: &[&str] = &[
    "Malformed",
    "InterfaceMismatch",
    "CompileFailed",
    "ProbeFailed",
];

/// Returns every attack.
///
/// # Errors
/// Returns an error if a description in this file is wrong.
pub fn attacks() -> anyhow::Result<Vec<Attack>> {
    let mut rows = nested()?;
    rows.extend(types()?);
    rows.extend(linking()?);
    rows.extend(floods()?);
    rows.extend(code()?);
    rows.extend(crate::bombs::all()?);
    rows.extend(proposals()?);
    rows.extend(disguises()?);
    let named = rows.into_iter().map(|(name, ends, what, bytes)| Attack {
        name: name.to_owned(),
        what,
        bytes,
        ends,
    });
    Ok(named.chain(cut()?).chain(miscounted()?).collect())
}

/// Excessive nesting.
fn nested() -> anyhow::Result<Vec<Row>> {
    let raw = |id, open: &[u8], close: &[u8], depth| {
        let body = [&[1], open.repeat(depth).as_slice(), close].concat();
        with_sections([(id, body)])
    };
    let component = b"\0asm\x0d\0\x01\0".as_slice();
    Ok(vec![
        (
            "nested-component-types",
            WRONG,
            "40,000 nested component types",
            compress(&raw(7, &[0x41, 1, 1], &[0x41, 0], 40_000)?)?,
        ),
        (
            "nested-instance-types",
            WRONG,
            "40,000 nested instance types",
            compress(&raw(7, &[0x42, 1, 1], &[0x42, 0], 40_000)?)?,
        ),
        (
            "nested-types-in-turn",
            WRONG,
            "component and instance types nested in turn, to the size limit",
            compress(&raw(7, &[0x41, 1, 1, 0x42, 1, 1], &[0x41, 0], 600_000)?)?,
        ),
        (
            "nested-types-shallow",
            HEAVY,
            "500 nested component types, which a large stack may hold",
            raw(7, &[0x41, 1, 1], &[0x41, 0], 500)?,
        ),
        (
            "nested-module-types",
            WRONG,
            "40,000 nested module types",
            compress(&raw(3, &[0x50, 1, 1], &[0x50, 0], 40_000)?)?,
        ),
        (
            "nested-types-cut",
            WRONG,
            "100,000 nested component types whose end is missing",
            raw(7, &[0x41, 1, 1], &[], 100_000)?,
        ),
        (
            "nested-components",
            WRONG,
            "40,000 nested components",
            compress(&with_sections([(
                4,
                nest(component, 4, component, 40_000),
            )])?)?,
        ),
        (
            "nested-components-100",
            HEAVY,
            "100 nested components, as many as the parser takes",
            with_sections([(4, nest(component, 4, component, 98))])?,
        ),
        (
            "nested-core-module",
            &[
                "Compiled",
                "Malformed",
                "CompileFailed",
                "TooLarge",
                "InterfaceMismatch",
            ],
            "a core module inside 1,000 components",
            with_sections([(
                4,
                nest(
                    &[component, &section(1, b"\0asm\x01\0\0\0")].concat(),
                    4,
                    component,
                    1_000,
                ),
            )])?,
        ),
    ])
}

/// Types with a short definition and a large expansion.
fn types() -> anyhow::Result<Vec<Row>> {
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

/// Links between components.
fn linking() -> anyhow::Result<Vec<Row>> {
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

/// Excessive numbers of definitions.
fn floods() -> anyhow::Result<Vec<Row>> {
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

/// Code that is expensive to compile.
fn code() -> anyhow::Result<Vec<Row>> {
    type Body = fn(&mut InstructionSink<'_>);
    /// Repeats instructions on the parameter, or on the variables from 1 on.
    macro_rules! repeat {
        ($f:ident, $count:expr, $body:expr) => {{
            for _ in 0..$count {
                $body;
            }
        }};
    }
    const AT: MemArg = MemArg {
        offset: 0,
        align: 0,
        memory_index: 0,
    };
    let rows: [(_, _, u32, u32, Body); 27] = [
        (
            "operand-stacks",
            "10,000 operands below 5,000 blocks",
            1,
            0,
            |f| {
                repeat!(f, 10_000, f.local_get(0).i32_const(3).i32_mul());
                repeat!(
                    f,
                    5_000,
                    f.block(BlockType::Empty).local_get(0).br_if(0).end()
                );
                repeat!(f, 9_999, f.i32_add());
                f.drop();
            },
        ),
        (
            "operand-stacks-spread",
            "1,000 operands below 1,000 loops, 40 times",
            40,
            0,
            |f| {
                repeat!(f, 1_000, f.local_get(0).i32_const(3).i32_mul());
                repeat!(
                    f,
                    1_000,
                    f.loop_(BlockType::Empty).local_get(0).br_if(0).end()
                );
                repeat!(f, 999, f.i32_xor());
                f.drop();
            },
        ),
        (
            "float-chain",
            "a function of 500,000 additions of floats",
            1,
            0,
            |f| {
                f.local_get(0).f64_convert_i32_s();
                repeat!(f, 500_000, f.local_get(0).f64_convert_i32_s().f64_add());
                f.drop();
            },
        ),
        (
            "float-chain-wide",
            "100 functions of 8,000 operations of floats",
            100,
            0,
            |f| {
                f.local_get(0).f32_convert_i32_s();
                repeat!(
                    f,
                    4_000,
                    f.f32_const(Ieee32::from(1.5_f32)).f32_min().f32_sqrt()
                );
                f.drop();
            },
        ),
        (
            "float-rounding",
            "a function of 600,000 roundings",
            1,
            0,
            |f| {
                f.f64_const(Ieee64::from(0.1_f64));
                repeat!(
                    f,
                    150_000,
                    f.f64_ceil().f64_floor().f64_trunc().f64_nearest()
                );
                f.drop();
            },
        ),
        (
            "truncations",
            "a function of 200,000 conversions that may trap",
            1,
            0,
            |f| {
                repeat!(
                    f,
                    200_000,
                    f.local_get(0)
                        .f64_convert_i32_u()
                        .i32_trunc_f64_s()
                        .local_set(0)
                );
            },
        ),
        (
            "division-chain",
            "a function of 300,000 divisions",
            1,
            0,
            |f| {
                f.local_get(0).i64_extend_i32_s();
                repeat!(
                    f,
                    300_000,
                    f.i64_const(7)
                        .i64_rem_s()
                        .local_get(0)
                        .i64_extend_i32_s()
                        .i64_div_s()
                );
                f.drop();
            },
        ),
        (
            "simd-chain",
            "a function of 200,000 operations of vectors",
            1,
            0,
            |f| {
                f.local_get(0).i8x16_splat();
                repeat!(
                    f,
                    100_000,
                    f.local_get(0).i8x16_splat().i64x2_mul().i8x16_popcnt()
                );
                f.drop();
            },
        ),
        (
            "simd-shuffles",
            "a function of 100,000 shuffles with different patterns",
            1,
            0,
            |f| {
                f.local_get(0).i8x16_splat();
                for n in 0..100_000_u32 {
                    let lanes = std::array::from_fn(|lane| ((n >> lane) % 32) as u8);
                    f.local_get(0).i8x16_splat().i8x16_shuffle(lanes);
                }
                f.drop();
            },
        ),
        ("deep-blocks", "700,000 nested blocks", 1, 0, |f| {
            repeat!(f, 700_000, f.block(BlockType::Empty));
            repeat!(f, 700_000, f.end());
        }),
        ("deep-loops", "300,000 nested loops", 1, 0, |f| {
            repeat!(f, 300_000, f.loop_(BlockType::Empty));
            repeat!(f, 300_000, f.end());
        }),
        ("deep-ifs", "100,000 nested conditions", 1, 0, |f| {
            repeat!(f, 100_000, f.local_get(0).if_(BlockType::Empty));
            repeat!(f, 100_000, f.else_().end());
        }),
        (
            "jump-table",
            "a jump table of a million targets",
            1,
            0,
            |f| {
                f.block(BlockType::Empty)
                    .local_get(0)
                    .br_table(vec![0; 1_000_000], 0)
                    .end();
            },
        ),
        (
            "jump-tables",
            "1,000 jump tables of 1,000 targets out of 1,000 blocks",
            1,
            30,
            |f| {
                repeat!(f, 1_000, f.block(BlockType::Empty));
                for n in 0..1_000 {
                    f.block(BlockType::Empty)
                        .local_get(0)
                        .br_table(0..1_000, 0)
                        .end();
                    f.local_get(0).local_set(1 + n % 30);
                }
                repeat!(f, 1_000, f.end());
            },
        ),
        (
            "jump-table-joins",
            "a jump table of 50,000 blocks where 500 variables arrive",
            1,
            500,
            |f| {
                repeat!(f, 20_000, f.block(BlockType::Empty));
                f.local_get(0).br_table(0..20_000, 0);
                for n in 0..20_000 {
                    f.end().local_get(0).local_set(1 + n % 500);
                }
                for n in 1..=500 {
                    f.local_get(n).drop();
                }
            },
        ),
        (
            "memory-copies",
            "a function of 200,000 copies of memory",
            1,
            0,
            |f| {
                repeat!(
                    f,
                    200_000,
                    f.local_get(0).local_get(0).local_get(0).memory_copy(0, 0)
                );
            },
        ),
        (
            "memory-grows",
            "a function that grows its memory at 400,000 places",
            1,
            0,
            |f| {
                repeat!(f, 400_000, f.local_get(0).memory_grow(0).drop());
            },
        ),
        ("stores", "a function of 400,000 stores", 1, 0, |f| {
            repeat!(f, 400_000, f.local_get(0).local_get(0).i32_store(AT));
        }),
        (
            "calls-many",
            "100 functions of 10,000 calls each",
            100,
            0,
            |f| {
                repeat!(f, 10_000, f.local_get(0).call(0));
            },
        ),
        (
            "calls-alive",
            "5,000 calls over which 1,000 values stay alive",
            1,
            0,
            |f| {
                repeat!(f, 1_000, f.local_get(0).i32_const(5).i32_mul());
                repeat!(f, 5_000, f.local_get(0).call(0));
                repeat!(f, 999, f.i32_add());
                f.drop();
            },
        ),
        ("selects", "a function of 400,000 selections", 1, 0, |f| {
            f.local_get(0);
            repeat!(f, 400_000, f.local_get(0).local_get(0).select());
            f.drop();
        }),
        (
            "returns",
            "a function that returns at 400,000 places",
            1,
            0,
            |f| {
                repeat!(
                    f,
                    200_000,
                    f.local_get(0).if_(BlockType::Empty).return_().end()
                );
            },
        ),
        (
            "dead-code",
            "a function of two million instructions that nothing reaches",
            1,
            0,
            |f| {
                f.unreachable();
                repeat!(f, 1_000_000, f.i32_add().drop());
            },
        ),
        (
            "constants",
            "a function of a million different constants",
            1,
            0,
            |f| {
                for n in 0..400_000 {
                    f.i64_const(i64::MAX - n * 12_345_678_901).drop();
                }
            },
        ),
        (
            "one-value-many-uses",
            "one value that 400,000 later instructions need",
            1,
            1,
            |f| {
                f.local_get(0).i32_const(3).i32_mul().local_set(1);
                repeat!(
                    f,
                    400_000,
                    f.local_get(1).local_get(0).i32_add().local_set(0)
                );
            },
        ),
        (
            "functions-of-loops",
            "20,000 functions of 10 loops each",
            20_000,
            5,
            |f| {
                repeat!(f, 10, f.loop_(BlockType::Empty).local_get(0).br_if(0).end());
            },
        ),
        (
            "functions-million",
            "a million empty functions",
            1_000_000,
            0,
            |_| (),
        ),
    ];
    let rows = rows.into_iter().map(|(name, what, count, locals, body)| {
        let bytes = with_module(&module(count, &function(locals, body), 0))?;
        // A component that is too large uncompressed is compressed.
        let bytes = if bytes.len() > 1 << 20 {
            compress(&bytes)?
        } else {
            bytes
        };
        Ok((name, HEAVY, what, bytes))
    });
    rows.collect()
}

/// WebAssembly features that a policy does not need.
fn proposals() -> anyhow::Result<Vec<Row>> {
    let core = |fields: &str| format!("(core module {fields})");
    let group = |count: usize| {
        let types = (0..count).map(|n| {
            format!(
                "(type $s{n} (struct (field (ref null $s{}))))",
                (n + 1) % count
            )
        });
        core(&format!("(rec {})", types.collect::<String>()))
    };
    const ANY: &[&str] = &[
        COMPILED,
        "Malformed",
        "CompileFailed",
        "TooLarge",
        "ProbeFailed",
    ];
    let rows: Vec<(_, _, _, String)> = vec![
        ("gc", ANY, "structs and arrays of the garbage collector", core(
            "(type $a (array (mut i64))) (func (result (ref $a)) (array.new_default $a (i32.const 2000000000)))",
        )),
        ("gc-recursive", WRONG, "a group of 50,000 types that refer to each other", group(50_000)),
        ("gc-subtypes", WRONG, "types below each other, 5,000 deep", core(&(1..5_000).fold(
            "(type $t0 (sub (struct)))".to_owned(),
            |text, n| text + &format!("(type $t{n} (sub $t{} (struct)))", n - 1),
        ))),
        ("tail-calls", ANY, "a function that ends in a call of itself", core("(func $f (return_call $f))")),
        ("exceptions", ANY, "a function that throws and catches", core(
            "(tag $e) (func (block $b (try_table (catch $e $b) (throw $e))))",
        )),
        ("threads", ANY, "a shared memory and atomics", core(
            "(memory 1 100 shared) (func (drop (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const -1))))",
        )),
        ("memory64", ANY, "a memory of 16 EiB", core("(memory i64 0x1000000000000)")),
        ("page-sizes", ANY, "a memory in pages of one byte", core("(memory 1000000 (pagesize 1))")),
        ("function-references", ANY, "a call by a typed reference", core(
            "(type $t (func)) (func (param (ref $t)) (call_ref $t (local.get 0)))",
        )),
        ("relaxed-simd", ANY, "operations whose result depends on the machine", core(
            "(func (param v128 v128 v128) (result v128) (f32x4.relaxed_madd (local.get 0) (local.get 1) (local.get 2)))",
        )),
        ("wide-arithmetic", ANY, "128-bit arithmetic", core(
            "(func (param i64 i64) (result i64 i64) (i64.mul_wide_u (local.get 0) (local.get 1)))",
        )),
        ("stack-switching", ANY, "continuations", core("(type $f (func)) (type $c (cont $f))")),
        ("async-lift", ANY, "an asynchronous function", format!(
            "{HELPER}(type $f (func async))(core module $am (func (export \"f\") (result i32) i32.const 0))
            (core instance $ai (instantiate $am))(alias core export $ai \"f\" (core func $af))
            (func (type $f) (canon lift (core func $af) async (callback (func $af))))"
        )),
        ("async-streams", ANY, "streams of streams, 1,000 deep", (1..1_000).fold(
            "(type $s0 (stream u8))".to_owned(),
            |text, n| text + &format!("(type $s{n} (stream $s{}))", n - 1),
        )),
        ("async-futures", ANY, "a future, and what makes one", "(type $f (future))(core func (canon future.new $f))".into()),
        ("async-tasks", ANY, "tasks that are started and waited for", "(core func (canon task.return))(core func (canon backpressure.inc))".into()),
        ("error-context", ANY, "errors as values", "(type (list error-context))".into()),
        ("fixed-lists", ANY, "a list of four thousand million elements", "(type $l (list u8 4000000000))".to_owned() + &lifted("$l")),
        ("nested-names", ANY, "an import of a name inside a name", "(import \"a:b:c/d/e@1.0.0\" (func))".into()),
    ];
    let mut built = Vec::new();
    for (name, ends, what, text) in rows {
        // The text parser may not know the proposal; then this one is skipped.
        built.push((
            name,
            ends,
            what,
            with_text(&text).with_context(|| name.to_owned())?,
        ));
    }
    // Sections of values and of start functions, as bytes.
    for (name, id, body) in [
        ("values", 12, vec![1, 0x7f, 1, 1]),
        ("component-start", 9, vec![0, 0, 0]),
        ("unknown-section", 42, vec![0; 64]),
    ] {
        built.push((
            name,
            WRONG,
            "a section that policies do not have",
            with_sections([(id, body)])?,
        ));
    }
    Ok(built)
}

/// Files that are not what their header indicates.
fn disguises() -> anyhow::Result<Vec<Row>> {
    let honest = honest()?;
    let mut config = wasmtime::Config::new();
    config.consume_fuel(true).epoch_interruption(true);
    let artifact = wasmtime::Engine::new(&config)
        .and_then(|engine| engine.precompile_component(&honest))
        .map_err(|error| anyhow::anyhow!("{error:#}"))?;
    let header = |more: &[u8]| [b"\x1f\x8b\x08", more].concat();
    let verdict = b"{\"compiled\":{\"digest\":\"00\"}}\n".as_slice();
    const MALFORMED: &[&str] = &["Malformed"];
    Ok(vec![
        (
            "artifact",
            MALFORMED,
            "an artifact of the same engine",
            artifact.clone(),
        ),
        (
            "artifact-packed",
            MALFORMED,
            "an artifact, packed with gzip",
            compress(&artifact)?,
        ),
        (
            "artifact-as-component",
            WRONG,
            "an artifact behind the header of a component",
            [&honest[..8], &artifact].concat(),
        ),
        (
            "artifact-as-output",
            MALFORMED,
            "what a child process prints, with an artifact",
            [verdict, &artifact].concat(),
        ),
        (
            "artifact-inside",
            WRONG,
            "an artifact as the core module of a component",
            with_module(&artifact)?,
        ),
        (
            "artifact-custom",
            HEAVY,
            "an honest component with an artifact in a custom section",
            with_sections([(0, [b"\x06.wasmt", artifact.as_slice()].concat())])?,
        ),
        (
            "elf",
            MALFORMED,
            "a program",
            std::fs::read("/proc/self/exe")?
                .into_iter()
                .take(1 << 19)
                .collect(),
        ),
        (
            "script",
            MALFORMED,
            "a shell script",
            b"#!/bin/sh\nkill -9 -1\n".to_vec(),
        ),
        (
            "json",
            MALFORMED,
            "a refusal in JSON",
            b"{\"refused\":{\"Malformed\":\"\"}}\n".to_vec(),
        ),
        (
            "header-newline",
            MALFORMED,
            "a header whose zeros became newlines",
            b"\nasm\x0d\n\x01\n".to_vec(),
        ),
        (
            "layer",
            MALFORMED,
            "a component of another layer",
            flip(&honest, 6, 0x02),
        ),
        (
            "gzip-thrice",
            MALFORMED,
            "packed three times",
            compress(&compress(&compress(&honest)?)?)?,
        ),
        (
            "gzip-exact",
            WRONG,
            "zeros, exactly as many as fit",
            compress(&[&honest[..8], &vec![0; (4 << 20) - 8]].concat())?,
        ),
        (
            "gzip-bomb-2",
            &["TooLarge"],
            "16 MB of zeros",
            compress(&vec![0; 16 << 20])?,
        ),
        (
            "gzip-name",
            MALFORMED,
            "gzip with a file name of 900 KB that does not end",
            header(&[[0x08, 0, 0, 0, 0, 0, 3].as_slice(), &vec![b'n'; 900_000]].concat()),
        ),
        (
            "gzip-extra",
            MALFORMED,
            "gzip with an extra field that is cut off",
            header(&[0x04, 0, 0, 0, 0, 0, 3, 0xff, 0xff, 1]),
        ),
        ("gzip-checksum", MALFORMED, "gzip with a wrong checksum", {
            let packed = compress(&honest)?;
            flip(&packed, packed.len() - 5, 0xff)
        }),
        (
            "gzip-trailing",
            &["Malformed", COMPILED],
            "gzip with garbage behind it",
            [compress(&honest)?, vec![7; 4096]].concat(),
        ),
        (
            "gzip-empty",
            MALFORMED,
            "gzip of nothing, a hundred thousand times",
            compress(&[])?.repeat(40_000),
        ),
        (
            "gzip-stored",
            &["TooLarge", "Malformed"],
            "gzip that does not pack, of 5 MB",
            {
                let mut out =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
                std::io::Write::write_all(&mut out, &vec![1; 5 << 20])?;
                out.finish()?
            },
        ),
    ])
}

/// An honest component that is cut off at the start, or in the middle, of each section.
fn cut() -> anyhow::Result<Vec<Attack>> {
    let honest = honest()?;
    let mut all = Vec::new();
    for (number, part) in sections(&honest).iter().enumerate() {
        let begin = part.data.as_ptr() as usize - honest.as_ptr() as usize;
        for (place, at) in [("in", begin + part.data.len() / 2), ("at", begin)] {
            all.push(Attack {
                name: format!("cut-{place}-section-{number}"),
                what: "an honest component that is cut off",
                bytes: honest[..at].to_vec(),
                ends: FOREIGN,
            });
        }
    }
    Ok(all)
}

/// Wrong sizes and counts in each kind of section.
fn miscounted() -> anyhow::Result<Vec<Attack>> {
    let honest = honest()?;
    let mut all = Vec::new();
    let mut push = |name: String, what, bytes| {
        all.push(Attack {
            name,
            what,
            bytes,
            ends: WRONG,
        });
    };
    let most = [0xff, 0xff, 0xff, 0xff, 0x0f];
    for id in 0..=12_u8 {
        push(
            format!("size-{id}"),
            "a section that says it is as long as can be",
            [honest.as_slice(), &[id], &most, &[1; 64]].concat(),
        );
        push(
            format!("size-long-{id}"),
            "a section whose length is a number without an end",
            [honest.as_slice(), &[id], &[0xff; 12]].concat(),
        );
        push(
            format!("count-{id}"),
            "a section of the component that says it has four thousand million entries",
            with_sections([(id, [most.as_slice(), &[0x40; 64]].concat())])?,
        );
        // Sections of a core module: types, functions, tables, and so on.
        let core = [
            b"\0asm\x01\0\0\0",
            section(id, &[most.as_slice(), &[0x60; 64]].concat()).as_slice(),
        ]
        .concat();
        push(
            format!("core-count-{id}"),
            "a section of a core module that says it has four thousand million entries",
            with_module(&core)?,
        );
    }
    // In names, parameters, locals, and jump tables.
    for (name, body) in [
        (
            "locals",
            [&[1, 10, 1], most.as_slice(), &[0x7f, 0x0b]].concat(),
        ),
        (
            "locals-sum",
            [&[1, 16, 2], most.as_slice(), &[0x7f], &most, &[0x7e, 0x0b]].concat(),
        ),
        (
            "jump-table",
            [&[1, 12, 0, 0x41, 0, 0x0e], most.as_slice(), &[0, 0x0b]].concat(),
        ),
    ] {
        let core = [
            b"\0asm\x01\0\0\0".as_slice(),
            &section(1, &[1, 0x60, 0, 0]),
            &section(3, &[1, 0]),
            &section(10, &body),
        ];
        push(
            format!("core-count-{name}"),
            "code that says it has four thousand million of something",
            with_module(&core.concat())?,
        );
    }
    for (name, id, body) in [
        ("name", 10, [&[1, 0], most.as_slice(), b"x"].concat()),
        (
            "record",
            7,
            [&[1, 0x72], most.as_slice(), b"\x01a\x7f"].concat(),
        ),
        ("flags", 7, [&[1, 0x6e], most.as_slice(), b"\x01a"].concat()),
        (
            "tuple",
            7,
            [&[1, 0x6f], most.as_slice(), &[0x7f; 9]].concat(),
        ),
        (
            "declarations",
            7,
            [&[1, 0x41], most.as_slice(), &[1, 0x40, 0, 0]].concat(),
        ),
        (
            "options",
            8,
            [&[1, 0, 0, 0], most.as_slice(), &[0; 9]].concat(),
        ),
        (
            "arguments",
            5,
            [&[1, 0, 0], most.as_slice(), &[0; 9]].concat(),
        ),
    ] {
        push(
            format!("count-{name}"),
            "a description that says it has four thousand million parts",
            with_sections([(id, body)])?,
        );
    }
    Ok(all)
}

/// Returns an honest policy with `more` at its end, as text.
fn with_text(more: &str) -> anyhow::Result<Vec<u8>> {
    let honest = wasmprinter::print_bytes(honest()?)?;
    let inside = honest
        .trim_end()
        .strip_suffix(')')
        .context("the text has no component")?;
    Ok(wat::parse_str(format!("{inside}\n{more}\n)"))?)
}

fn with_texts(
    rows: Vec<(&'static str, &'static [&'static str], &'static str, String)>,
) -> anyhow::Result<Vec<Row>> {
    let built = rows.into_iter().map(|(name, ends, what, text)| {
        let bytes = with_text(&text).with_context(|| name.to_owned())?;
        let bytes = if bytes.len() > 1 << 20 {
            compress(&bytes)?
        } else {
            bytes
        };
        Ok((name, ends, what, bytes))
    });
    built.collect()
}

/// The definitions that a lifted function needs.
const HELPER: &str = r#"(core module $hm (memory (export "m") 1)
    (func (export "r") (param i32 i32 i32 i32) (result i32) i32.const 0)
    (func (export "g") (param i32) (result i32) i32.const 0)
    (func (export "h") (param i32)))
    (core instance $hi (instantiate $hm))
    (alias core export $hi "m" (core memory $m)) (alias core export $hi "r" (core func $r))
    (alias core export $hi "g" (core func $g)) (alias core export $hi "h" (core func $h))"#;

/// Returns a function with a parameter of this type, which does not fit into registers.
fn lifted(ty: &str) -> String {
    format!(
        r#"{HELPER}(type $lf (func (param "a" {ty}) (param "b" (tuple u8 u8 u8 u8 u8 u8 u8 u8 u8 u8 u8 u8 u8 u8 u8 u8 u8))))
        (func $lifted (type $lf) (canon lift (core func $h) (memory $m) (realloc (func $r))))
        (core func $lowered (canon lower (func $lifted) (memory $m)))
        (core module $lu (import "" "f" (func (param i32))))
        (core instance (instantiate $lu (with "" (instance (export "f" (func $lowered))))))"#
    )
}

/// Returns a section, from its id on.
fn section(id: u8, body: &[u8]) -> Vec<u8> {
    [&[id], number(body.len()).as_slice(), body].concat()
}

/// Returns `inner` in `depth` nested sections, each after a header.
fn nest(inner: &[u8], id: u8, header: &[u8], depth: usize) -> Vec<u8> {
    // From the inside out and backwards, so that nothing is moved.
    let mut out: Vec<u8> = inner.iter().rev().copied().collect();
    for _ in 0..depth {
        let size = number(out.len());
        out.extend(size.iter().rev());
        out.push(id);
        out.extend(header.iter().rev());
    }
    out.reverse();
    out
}

/// Encodes a number as LEB128.
fn number(mut n: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out
}
