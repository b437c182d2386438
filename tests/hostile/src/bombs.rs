//! Components that are expensive to compile: honest ones with an additional core module that is
//! compiled although nothing instantiates it.

use crate::attack::{HEAVY, Row};
use crate::component::{extend, honest, sections};
use wasm_encoder::{
    BlockType, CodeSection, Component, ComponentExportKind, ComponentInstanceSection, ConstExpr,
    CustomSection, ElementSection, Elements, Function, FunctionSection, InstructionSink, MemArg,
    MemorySection, MemoryType, Module, RawSection, RefType, TableSection, TableType, TypeSection,
    ValType,
};

/// Returns small components with expensive compilations. Without limits, each bomb takes from ten
/// seconds to minutes, or from half a gigabyte to many; the heavy ones take seconds.
pub(crate) fn all() -> anyhow::Result<Vec<Row>> {
    let mut all = Vec::new();
    let mut push = |name, ends, what, bytes| all.push((name, ends, what, bytes));
    let code = |count, body: Function| with_module(&module(count, &body, 0));

    push(
        "bomb-functions",
        HEAVY,
        "200,000 empty functions",
        code(200_000, function(0, |_| ()))?,
    );
    push(
        "bomb-locals",
        HEAVY,
        "2,000 functions of 50,000 local variables, in 20 kB",
        code(2_000, function(49_999, |_| ()))?,
    );
    push(
        "bomb-loops",
        HEAVY,
        "one function of 10,000 loops, in 30 kB",
        code(1, function(0, |f| loops(f, 10_000)))?,
    );
    push(
        "bomb-loops-spread",
        HEAVY,
        "1,000 functions of 300 loops each",
        code(1_000, function(0, |f| loops(f, 300)))?,
    );
    push(
        "bomb-branches",
        HEAVY,
        "100 functions of 8,000 branches each",
        code(100, function(0, |f| branches(f, 8_000)))?,
    );
    push(
        "bomb-joins",
        HEAVY,
        "one function of 550 loops and 1,900 variables",
        code(1, function(1_900, |f| joins(f, 1_900, 550)))?,
    );
    push(
        "bomb-switch",
        HEAVY,
        "a jump table of 4,000 equal targets where 100 variables arrive, in 5 kB",
        code(1, function(100, |f| switch(f, 100, 4_000)))?,
    );
    push(
        "bomb-calls",
        HEAVY,
        "10,000 calls with 1,000 parameters and results each, in 25 kB",
        with_module(&module(1, &function(0, calls), 1000))?,
    );
    push(
        "bomb-blocks",
        HEAVY,
        "900 nested loops with 50 parameters each, in 5 kB",
        with_module(&module(1, &function(0, blocks), 50))?,
    );
    push("bomb-types", HEAVY, "40,000 types", with_module(&types())?);
    push(
        "bomb-tables",
        HEAVY,
        "100 tables of a million elements whose last element is set, in 2 kB",
        with_module(&tables())?,
    );
    push(
        "bomb-modules",
        HEAVY,
        "900 empty core modules",
        with_sections(vec![(1, Module::new().finish()); 900])?,
    );
    push(
        "bomb-names",
        HEAVY,
        "2 MiB of debug information",
        with_module(
            Module::new()
                .section(&CustomSection {
                    name: ".debug_info".into(),
                    data: vec![0; 2 << 20].into(),
                })
                .as_slice(),
        )?,
    );
    push(
        "bomb-composed",
        HEAVY,
        "components that instantiate each other, 100,000 times in all, in 3 kB",
        composed(5, 10)?,
    );
    push(
        "composed",
        &["ComposedComponent"],
        "components that instantiate each other, 25 times in all",
        composed(2, 5)?,
    );
    push(
        "heavy-loops",
        HEAVY,
        "many loops",
        code(42, function(0, |f| loops(f, 900)))?,
    );
    push(
        "heavy-branches",
        HEAVY,
        "many branches",
        code(42, function(0, |f| branches(f, 2_200)))?,
    );
    push(
        "heavy-loads",
        HEAVY,
        "many loads",
        code(43, function(0, |f| loads(f, 12_000)))?,
    );
    push(
        "heavy-joins",
        HEAVY,
        "many loops and variables",
        code(3, function(1_000, |f| joins(f, 1_000, 200)))?,
    );
    push(
        "heavy-conversions",
        HEAVY,
        "many conversions that may trap",
        code(43, function(0, |f| conversions(f, 7_000)))?,
    );
    Ok(all)
}

fn loops(f: &mut InstructionSink<'_>, count: u32) {
    for _ in 0..count {
        f.loop_(BlockType::Empty).end();
    }
}

fn branches(f: &mut InstructionSink<'_>, count: u32) {
    f.block(BlockType::Empty);
    for _ in 0..count {
        f.local_get(0).br_if(0);
    }
    f.end();
}

/// Each variable is written before and read after each loop, so that each loop may have to pass on
/// each of them.
fn joins(f: &mut InstructionSink<'_>, locals: u32, loops: u32) {
    for local in 1..=locals {
        f.local_get(0).local_set(local);
    }
    for _ in 0..loops {
        f.loop_(BlockType::Empty).local_get(0).br_if(0).end();
    }
    for local in 1..=locals {
        f.local_get(local).local_set(0);
    }
}

/// Each variable has a different value on each path through the jump table.
fn switch(f: &mut InstructionSink<'_>, locals: u32, targets: usize) {
    f.block(BlockType::Empty);
    f.local_get(0).if_(BlockType::Empty);
    for local in 1..=locals {
        f.i32_const(7).local_set(local);
    }
    f.local_get(0).br_table(vec![1; targets], 1).end().end();
    for local in 1..=locals {
        f.local_get(local).local_set(0);
    }
}

fn calls(f: &mut InstructionSink<'_>) {
    for _ in 0..1000 {
        f.i32_const(1);
    }
    for _ in 0..10_000 {
        f.call(0);
    }
    for _ in 0..1000 {
        f.drop();
    }
}

fn blocks(f: &mut InstructionSink<'_>) {
    for _ in 0..50 {
        f.i32_const(1);
    }
    for _ in 0..900 {
        f.loop_(BlockType::FunctionType(0));
    }
    for _ in 0..900 {
        f.end();
    }
    for _ in 0..50 {
        f.drop();
    }
}

fn loads(f: &mut InstructionSink<'_>, count: u32) {
    let plain = MemArg {
        offset: 0,
        align: 0,
        memory_index: 0,
    };
    for _ in 0..count {
        f.local_get(0).i32_load(plain).local_set(0);
    }
}

fn conversions(f: &mut InstructionSink<'_>, count: u32) {
    for _ in 0..count {
        f.local_get(0).f64_convert_i32_u().i32_trunc_f64_u();
        f.local_set(0);
    }
}

/// Returns a function of one parameter with additional variables and this body.
pub(crate) fn function(locals: u32, body: impl FnOnce(&mut InstructionSink<'_>)) -> Function {
    let mut function = Function::new([(locals, ValType::I32)]);
    body(&mut function.instructions());
    function.instructions().end();
    function
}

/// Returns a core module that contains a function many times. If `width` is not 0, the first
/// function has `width` parameters and results, and no code.
pub(crate) fn module(count: u32, body: &Function, width: usize) -> Vec<u8> {
    let mut types = TypeSection::new();
    let mut functions = FunctionSection::new();
    let mut code = CodeSection::new();
    let wide = vec![ValType::I32; width];
    if width > 0 {
        types.ty().function(wide.clone(), wide);
        functions.function(0);
        let mut crash = Function::new([]);
        crash.instructions().unreachable().end();
        code.function(&crash);
    }
    let plain = types.len();
    types.ty().function([ValType::I32], []);
    for _ in 0..count {
        functions.function(plain);
        code.function(body);
    }
    let mut memories = MemorySection::new();
    memories.memory(MemoryType {
        minimum: 1,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    let mut module = Module::new();
    module.section(&types).section(&functions);
    module.section(&memories).section(&code);
    module.finish()
}

/// Different types, because equal ones are merged.
fn types() -> Vec<u8> {
    let kinds = [ValType::I32, ValType::I64, ValType::F32, ValType::F64];
    let mut types = TypeSection::new();
    for number in 0..40_000_usize {
        let digits = (0..16).map(|digit| kinds[(number >> digit) % 4]);
        types.ty().function(digits.collect::<Vec<_>>(), []);
    }
    let mut module = Module::new();
    module.section(&types);
    module.finish()
}

fn tables() -> Vec<u8> {
    let mut tables = TableSection::new();
    let mut elements = ElementSection::new();
    let size = 1 << 20;
    for index in 0..100 {
        tables.table(TableType {
            element_type: RefType::FUNCREF,
            table64: false,
            minimum: size,
            maximum: None,
            shared: false,
        });
        let last = ConstExpr::i32_const(size as i32 - 1);
        elements.active(Some(index), &last, Elements::Functions((&[0]).into()));
    }
    let mut types = TypeSection::new();
    types.ty().function([], []);
    let mut functions = FunctionSection::new();
    functions.function(0);
    let mut code = CodeSection::new();
    code.function(&function(0, |_| ()));
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&tables);
    module.section(&elements).section(&code);
    module.finish()
}

/// Returns components that instantiate the previous one `width` times, `depth` levels deep.
fn composed(depth: u32, width: usize) -> anyhow::Result<Vec<u8>> {
    let mut text =
        "(component $a (component $c0 (core module $m) (core instance (instantiate $m)))"
            .to_owned();
    for level in 1..=depth {
        let instances = "(instance (instantiate $x))".repeat(width);
        let below = level - 1;
        text +=
            &format!("(component $c{level} (alias outer $a $c{below} (component $x)) {instances})");
    }
    text += &format!("(instance (instantiate $c{depth})))");
    let honest = honest()?;
    let before = sections(&honest).iter().filter(|s| s.id == 4).count() as u32;
    let mut more = Component::new();
    more.section(&RawSection {
        id: 4,
        data: &wat::parse_str(&text)?,
    });
    let mut instances = ComponentInstanceSection::new();
    instances.instantiate(before, [] as [(&str, ComponentExportKind, u32); 0]);
    more.section(&instances);
    Ok(extend(&honest, more))
}

pub(crate) fn with_module(module: &[u8]) -> anyhow::Result<Vec<u8>> {
    with_sections([(1, module.to_vec())])
}

pub(crate) fn with_sections(
    sections: impl IntoIterator<Item = (u8, Vec<u8>)>,
) -> anyhow::Result<Vec<u8>> {
    let mut more = Component::new();
    for (id, data) in sections {
        more.section(&RawSection { id, data: &data });
    }
    Ok(extend(&honest()?, more))
}
