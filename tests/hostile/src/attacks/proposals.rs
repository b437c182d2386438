//! WebAssembly features that a policy does not need.

use super::text::{HELPER, lifted, with_texts};
use crate::attack::{COMPILED, Row, WRONG};
use crate::bombs::with_sections;

pub(super) fn proposals() -> anyhow::Result<Vec<Row>> {
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
    let mut built = with_texts(rows)?;
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
