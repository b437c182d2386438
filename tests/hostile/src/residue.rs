//! A policy that searches its sandbox for data of earlier evaluations.

use crate::component::{module, policy};

/// More fields of the module. Its allocator uses the memory from 4096 to `$end`.
const FUNCTIONS: &str = r#"
    (memory $other 1)
    (global $written (mut i32) (i32.const 0))
    (table $table 4 funcref)
    (data $segment "data")
    (elem declare func $clean)

    (func $free (result i32) (i32.and (i32.add (global.get $end) (i32.const 7)) (i32.const -8)))
    (func $size (result i32) (i32.shl (memory.size) (i32.const 16)))

    (func $zero (param $at i32) (param $end i32) (result i32)
        (loop $next
            (if (i32.ge_u (local.get $at) (local.get $end)) (then (return (i32.const 1))))
            (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then (return (i32.const 0))))
            (local.set $at (i32.add (local.get $at) (i32.const 8)))
            (br $next))
        unreachable)

    (func $null (param $at i32) (result i32) (ref.is_null (table.get $table (local.get $at))))

    (func $clean (result i32)
        (call $zero (i32.const 0) (i32.const 4096))
        (i32.and (call $zero (call $free) (call $size)))
        (i32.and (i64.eqz (i64.load $other (i32.const 0))))
        (i32.and (i64.eqz (i64.load $other (i32.const 65528))))
        (i32.and (i32.eqz (global.get $written)))
        (i32.and (call $null (i32.const 0)))
        (i32.and (call $null (i32.sub (table.size $table) (i32.const 1)))))

    (func $write
        (memory.fill (i32.const 0) (i32.const 0xaa) (i32.const 4096))
        (memory.fill (call $free) (i32.const 0xaa) (i32.sub (call $size) (call $free)))
        (memory.fill $other (i32.const 0) (i32.const 0xaa) (i32.const 65536))
        (global.set $written (i32.const 1))
        (table.fill $table (i32.const 0) (ref.func $clean) (table.size $table))
        (data.drop $segment))

    (func $loop (loop (br 0)))
    (func $grow (loop (drop (memory.grow (i32.const 40))) (br 0)))
"#;

/// The settings are parameters 6 and 7, the address and the length.
const SELECT: &str = r#"
    (local $clean i32) (local $end i32)
    (drop (memory.grow (i32.const 40)))
    (drop (table.grow $table (ref.null func) (i32.const 100)))
    ;; Crashes if the segment has been dropped.
    (memory.init $segment (i32.const 0) (i32.const 0) (i32.const 4))
    (i32.store (i32.const 0) (i32.const 0))
    (local.set $clean (call $clean))
    (if (i32.gt_u (local.get 7) (i32.const 2))
        (then (local.set $end (i32.load8_u (i32.add (local.get 6) (i32.const 2))))))
    (call $write)
    (if (i32.eq (local.get $end) (i32.const 0x63)) (then unreachable))
    (if (i32.eq (local.get $end) (i32.const 0x6c)) (then (call $loop)))
    (if (i32.eq (local.get $end) (i32.const 0x67)) (then (call $grow)))
    (if (i32.eq (local.get $end) (i32.const 0x62)) (then (return (i32.const -8))))
    (if (i32.eq (local.get $end) (i32.const 0x73)) (then (local.set $clean (call $clean))))
    ;; An answer of zeros starts item 0. With 1 at 24, it waits.
    (memory.fill (i32.const 0) (i32.const 0) (i32.const 4096))
    (i32.store8 (i32.const 24) (i32.eqz (local.get $clean)))
    (i32.const 16)
"#;

/// Returns a policy that starts item 0 if its memories, its global, and its table are in their
/// initial state, and waits otherwise. Then, it overwrites all of them. The name of the first setting
/// determines the rest of the evaluation:
///
/// - `crash`: it crashes.
/// - `loop`: it loops until its fuel or its time runs out.
/// - `grow`: it exceeds its memory.
/// - `bad-answer`: it returns an answer outside of its memory.
/// - `search-again`: it searches again, and finds its own data.
///
/// `id` distinguishes several such policies. With the default limits, it would run out of fuel.
///
/// # Errors
/// Returns an error if the module in this file is wrong.
pub fn residue_detector(id: u32) -> anyhow::Result<Vec<u8>> {
    let more = format!("{FUNCTIONS} (global i32 (i32.const {id}))");
    policy(&module("", &more, SELECT)?)
}
