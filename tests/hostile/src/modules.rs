//! The misbehaviors that Rust cannot express: start functions, tables, and answers with invalid
//! memory references.

use crate::Expected::{self, Evaluation, Legal, Load};
use crate::Hostile;
use crate::component::{CHOOSE_FIRST, CONTRACT, IS_PROBE, module, module_with, policy, with_world};

struct Row {
    name: &'static str,
    expected: Expected,
    what: &'static str,
    imports: &'static str,
    more: &'static str,
    /// The body of `select`, outside the trial request.
    select: &'static str,
}

/// An honest module, which each row changes in one place.
const HONEST: Row = Row {
    name: "",
    expected: Legal,
    what: "",
    imports: "",
    more: "",
    select: CHOOSE_FIRST,
};

const ROWS: &[Row] = &[
    Row {
        name: "start-loop",
        expected: Load("ProbeFailed"),
        what: "loops while it is instantiated",
        more: "(func $start (loop (br 0))) (start $start)",
        ..HONEST
    },
    Row {
        name: "start-trap",
        expected: Load("ProbeFailed"),
        what: "crashes while it is instantiated",
        more: "(func $start unreachable) (start $start)",
        ..HONEST
    },
    Row {
        name: "start-grow",
        expected: Load("ProbeFailed"),
        what: "grows its memory to 4 GiB while it is instantiated",
        more: "(func $start (drop (memory.grow (i32.const 65534)))) (start $start)",
        ..HONEST
    },
    Row {
        name: "memory-initial",
        expected: Load("ProbeFailed"),
        what: "declares a second memory of 64 MiB",
        more: "(memory 1024)",
        ..HONEST
    },
    Row {
        name: "table-grow",
        expected: Evaluation("OutOfMemory"),
        what: "grows a table until it is refused",
        more: "(table $t 1 funcref)",
        select: "(loop (drop (table.grow $t (ref.null func) (i32.const 1000))) (br 0)) unreachable",
        ..HONEST
    },
    Row {
        name: "table-initial",
        expected: Load("ProbeFailed"),
        what: "declares a table of ten million elements",
        more: "(table 10000000 funcref)",
        ..HONEST
    },
    Row {
        name: "table-fill",
        expected: Evaluation("OutOfFuel"),
        what: "fills a table with one instruction, for ever",
        more: "(table $t 90000 funcref)",
        select: "(loop (table.fill $t (i32.const 0) (ref.null func) (i32.const 90000)) (br 0)) unreachable",
        ..HONEST
    },
    Row {
        name: "memory-fill",
        expected: Evaluation("OutOfFuel"),
        what: "fills 16 MiB of memory with one instruction, for ever",
        select: "(drop (memory.grow (i32.const 256)))
            (loop (memory.fill (i32.const 0) (i32.const 1) (i32.const 0x1000000)) (br 0)) unreachable",
        ..HONEST
    },
    Row {
        name: "load-outside",
        expected: Evaluation("Trapped"),
        what: "reads at the highest address that a load can compute",
        select: "(drop (i32.load8_u offset=4294967295 (i32.const -1))) (i32.const 16)",
        ..HONEST
    },
    Row {
        name: "store-outside",
        expected: Evaluation("Trapped"),
        what: "writes just after the end of its memory",
        select: "(i32.store8 (i32.shl (memory.size) (i32.const 16)) (i32.const 1)) (i32.const 16)",
        ..HONEST
    },
    Row {
        name: "copy-outside",
        expected: Evaluation("Trapped"),
        what: "copies two bytes across the end of its memory",
        select: "(memory.copy (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 1))
            (i32.const 0) (i32.const 2)) (i32.const 16)",
        ..HONEST
    },
    Row {
        name: "list-outside",
        expected: Evaluation("BadAnswer"),
        what: "answers a list of verdicts that lies outside its memory",
        select: "(i32.store (i32.const 44) (i32.const 0xfffff000))
            (i32.store (i32.const 48) (i32.const 1000)) (i32.const 0)",
        ..HONEST
    },
    Row {
        name: "list-endless",
        expected: Evaluation("BadAnswer"),
        what: "answers a list of four thousand million verdicts",
        select: "(i32.store (i32.const 44) (i32.const 1024))
            (i32.store (i32.const 48) (i32.const -1)) (i32.const 0)",
        ..HONEST
    },
    Row {
        name: "notes-shared",
        expected: Evaluation("BadAnswer"),
        what: "answers 50,000 verdicts whose notes of 64 KiB are all the same piece of memory",
        // A verdict is 40 bytes long. Its note is at offset 24: whether it exists, its address, and
        // its length.
        select: "(local $at i32)
            (drop (memory.grow (i32.const 64)))
            (local.set $at (i32.const 65536))
            (loop
                (i32.store (i32.add (local.get $at) (i32.const 24)) (i32.const 1))
                (i32.store (i32.add (local.get $at) (i32.const 28)) (i32.const 3000000))
                (i32.store (i32.add (local.get $at) (i32.const 32)) (i32.const 65536))
                (local.set $at (i32.add (local.get $at) (i32.const 40)))
                (br_if 0 (i32.lt_u (local.get $at) (i32.const 2065536))))
            (i32.store (i32.const 44) (i32.const 65536))
            (i32.store (i32.const 48) (i32.const 50000))
            (i32.const 0)",
        ..HONEST
    },
    Row {
        name: "answer-unaligned",
        expected: Evaluation("BadAnswer"),
        what: "answers at an odd address",
        select: "(i32.const 17)",
        ..HONEST
    },
    Row {
        name: "answer-outside",
        expected: Evaluation("BadAnswer"),
        what: "answers outside its memory",
        select: "(i32.const -8)",
        ..HONEST
    },
    Row {
        name: "answer-nonsense",
        expected: Evaluation("BadAnswer"),
        what: "answers a choice that is neither run nor wait",
        select: "(i32.store8 (i32.const 24) (i32.const 77)) (i32.const 16)",
        ..HONEST
    },
    Row {
        name: "text-nonsense",
        expected: Evaluation("BadAnswer"),
        what: "refuses to decide, in words that are not UTF-8",
        select: "(i32.store8 (i32.const 16) (i32.const 1))
            (i32.store (i32.const 24) (i32.const 64))
            (i32.store (i32.const 28) (i32.const 4))
            (i32.store (i32.const 64) (i32.const -1))
            (i32.const 16)",
        ..HONEST
    },
    Row {
        name: "cleanup-loop",
        expected: Load("ProbeFailed"),
        what: "loops when the answer has been taken and its memory is to be freed",
        more: r#"(func (export "cabi_post_oaat:policy/selector@1.0.0#select") (param i32) (loop (br 0)))"#,
        ..HONEST
    },
];

pub(crate) fn all() -> anyhow::Result<Vec<Hostile>> {
    let mut all = Vec::new();
    let mut push = |name, expected, what, bytes| {
        all.push(Hostile {
            name,
            what,
            bytes,
            settings: None,
            expected,
        })
    };
    for row in ROWS {
        let (locals, body) = match row.select.strip_prefix("(local $at i32)") {
            Some(body) => ("(local $at i32)", body),
            None => ("", row.select),
        };
        let select =
            format!("{locals} (if (result i32) {IS_PROBE} (then {CHOOSE_FIRST}) (else {body}))");
        let module = module(row.imports, row.more, &select)?;
        push(row.name, row.expected, row.what, policy(&module)?);
    }
    push(
        "realloc-outside",
        Evaluation("BadAnswer"),
        "offers memory outside of its own for the items of a request",
        policy(&realloc(
            "",
            "(select (i32.const -65536) (i32.const 4096) (i32.eq (local.get 2) (i32.const 8)))",
        )?)?,
    );
    push(
        "realloc-loop",
        Load("ProbeFailed"),
        "loops when it is to make room for the request",
        policy(&realloc("", "(loop (br 0)) unreachable")?)?,
    );
    push(
        "realloc-log",
        Load("ProbeFailed"),
        "logs while it makes room for the request, which a component may not",
        policy(&realloc(
            r#"(import "oaat:policy/log@1.0.0" "write" (func $log (param i32 i32 i32)))"#,
            "(call $log (i32.const 0) (i32.const 0) (i32.const 0)) (i32.const 4096)",
        )?)?,
    );
    push(
        "exports-more",
        Legal,
        "exports a function that nobody asked for",
        with_world(
            &CONTRACT.replace(
                "export selector;",
                "export selector; export more: func() -> string;",
            ),
            &module(
                "",
                r#"(func (export "more") (result i32) unreachable)"#,
                CHOOSE_FIRST,
            )?,
        )?,
    );
    Ok(all)
}

/// Returns an honest module with a custom allocator.
fn realloc(imports: &str, body: &str) -> anyhow::Result<Vec<u8>> {
    let realloc =
        format!(r#"(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) {body})"#);
    module_with(imports, "", CHOOSE_FIRST, &realloc)
}
