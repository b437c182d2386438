//! Code that is expensive to compile.

use super::encode::compress_if_large;
use crate::attack::{HEAVY, Row};
use crate::bombs::{function, module, with_module};
use wasm_encoder::{BlockType, Ieee32, Ieee64, InstructionSink, MemArg};

pub(super) fn code() -> anyhow::Result<Vec<Row>> {
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
        Ok((name, HEAVY, what, compress_if_large(bytes)?))
    });
    rows.collect()
}
