//! Limits on what is compiled, checked by reading the component once.
//!
//! A compiler takes more than linear time and memory for some programs and
//! cannot be stopped half-way: a few kilobytes made for the purpose keep it busy
//! for minutes, or take gigabytes. So the work is estimated first, and refused
//! where it is more than any honest policy needs. A policy with a regular
//! expression engine, a JSON and a YAML parser, and a calendar stays within half
//! of each limit; the `bombs` in `tests/hostile` are what the limits hold off.

use crate::load::LoadError;
use crate::text;
use wasmparser::{
    BinaryReaderError, BlockType, BrTable, Encoding, FunctionBody, Operator, Parser, Payload,
    TypeSectionReader,
};

/// Parameters that a core function may have. The canonical ABI uses up to 16.
const PARAMS: usize = 64;
/// Results that a core function may have. The canonical ABI uses one.
const RESULTS: usize = 4;
/// Locals that one function may have.
const LOCALS: u64 = 2_000;
/// Steps of one function.
const FUNCTION_STEPS: u64 = 100_000;

/// Something that there may be only so much of in a component.
struct Budget {
    what: &'static str,
    limit: u64,
    used: u64,
}

impl Budget {
    const fn of(limit: u64, what: &'static str) -> Self {
        Self {
            what,
            limit,
            used: 0,
        }
    }

    fn spend(&mut self, amount: impl TryInto<u64>) -> Result<(), LoadError> {
        let amount = amount.try_into().unwrap_or(u64::MAX);
        self.used = self.used.saturating_add(amount);
        at_most(self.what, self.used, self.limit)
    }
}

fn at_most(what: &'static str, found: u64, limit: u64) -> Result<(), LoadError> {
    if found > limit {
        return Err(LoadError::TooComplex { what, found, limit });
    }
    Ok(())
}

/// Reads a component and refuses it where it asks too much of the compiler. Gives how much
/// work it is, in steps of about one instruction each.
///
/// `tables` is the number of elements that all tables together may have.
pub(crate) fn inspect(wasm: &[u8], tables: usize) -> Result<u64, LoadError> {
    let mut inspection = Inspection::new(tables);
    inspection.read(wasm)?;
    Ok(inspection.steps.used + inspection.joins.used + inspection.switches.used)
}

/// What was seen so far of one component.
struct Inspection {
    modules: Budget,
    components: Budget,
    instances: Budget,
    outside: Budget,
    custom: Budget,
    definitions: Budget,
    types: Budget,
    functions: Budget,
    tables: Budget,
    steps: Budget,
    joins: Budget,
    switches: Budget,
}

impl Inspection {
    fn new(tables: usize) -> Self {
        Self {
            modules: Budget::of(16, "core modules"),
            components: Budget::of(16, "components inside it"),
            instances: Budget::of(64, "instances"),
            outside: Budget::of(128 << 10, "bytes of types, names and other descriptions"),
            custom: Budget::of(
                1 << 20,
                "bytes of custom sections (build it without debug information)",
            ),
            definitions: Budget::of(10_000, "imports, exports, globals and segments"),
            types: Budget::of(500, "core types"),
            functions: Budget::of(10_000, "functions"),
            tables: Budget::of(tables as u64, "elements in its tables"),
            steps: Budget::of(
                4_000_000,
                "steps for the compiler, about one for each instruction",
            ),
            joins: Budget::of(
                8_000_000,
                "pairs of a branch and a local variable of the same function",
            ),
            switches: Budget::of(
                8_000_000,
                "triples of two equal targets of a jump table and a local variable",
            ),
        }
    }

    fn read(&mut self, wasm: &[u8]) -> Result<(), LoadError> {
        // What is being read: a module or component, and those around it.
        let mut around = Vec::new();
        for payload in Parser::new(0).parse_all(wasm) {
            let payload = payload.map_err(malformed)?;
            match payload {
                Payload::Version { encoding, .. } => around.push(encoding),
                Payload::End(_) => {
                    around.pop();
                }
                _ if around.len() == 2 && around[1] == Encoding::Component => {
                    self.adapter(&payload)?;
                }
                _ => {}
            }
            self.section(&payload, wasm)?;
        }
        Ok(())
    }

    /// A component inside the component may give things other names and types,
    /// which is how an interface is exported. With code or instances of its own
    /// it could multiply itself, and calls between two are code that the
    /// compiler makes up.
    fn adapter(&self, payload: &Payload<'_>) -> Result<(), LoadError> {
        match payload {
            Payload::ComponentTypeSection(_)
            | Payload::ComponentImportSection(_)
            | Payload::ComponentExportSection(_)
            | Payload::ComponentAliasSection(_)
            | Payload::CoreTypeSection(_)
            | Payload::CustomSection(_) => Ok(()),
            _ => Err(LoadError::CompileFailed(
                "it is composed of components with code of their own; \
                 a policy is made of core modules in one component"
                    .into(),
            )),
        }
    }

    fn section(&mut self, payload: &Payload<'_>, wasm: &[u8]) -> Result<(), LoadError> {
        match payload {
            Payload::CodeSectionEntry(body) => return self.function(body, wasm),
            Payload::CustomSection(section) => return self.custom.spend(section.range().len()),
            Payload::ModuleSection { .. } => return self.modules.spend(1_u64),
            Payload::ComponentSection { .. } => return self.components.spend(1_u64),
            Payload::DataSection(section) => return self.definitions.spend(section.count()),
            Payload::CodeSectionStart { .. } => return Ok(()),
            Payload::TypeSection(section) => self.types(section)?,
            Payload::FunctionSection(section) => self.functions.spend(section.count())?,
            Payload::TableSection(section) => {
                for table in section.clone() {
                    self.tables.spend(table.map_err(malformed)?.ty.initial)?;
                }
            }
            Payload::ImportSection(section) => self.definitions.spend(section.count())?,
            Payload::ExportSection(section) => self.definitions.spend(section.count())?,
            Payload::GlobalSection(section) => self.definitions.spend(section.count())?,
            Payload::ElementSection(section) => self.definitions.spend(section.count())?,
            Payload::MemorySection(section) => self.definitions.spend(section.count())?,
            Payload::TagSection(section) => self.definitions.spend(section.count())?,
            Payload::InstanceSection(section) => self.instances.spend(section.count())?,
            Payload::ComponentInstanceSection(section) => self.instances.spend(section.count())?,
            _ => {}
        }
        match payload.as_section() {
            Some((_, range)) => self.outside.spend(range.len()),
            None => Ok(()),
        }
    }

    fn types(&mut self, section: &TypeSectionReader<'_>) -> Result<(), LoadError> {
        self.types.spend(section.count())?;
        for function in section.clone().into_iter_err_on_gc_types() {
            let function = function.map_err(malformed)?;
            let (params, results) = (function.params().len(), function.results().len());
            at_most("parameters of one function", params as u64, PARAMS as u64)?;
            at_most("results of one function", results as u64, RESULTS as u64)?;
        }
        Ok(())
    }

    fn function(&mut self, body: &FunctionBody<'_>, wasm: &[u8]) -> Result<(), LoadError> {
        let mut locals = 0;
        for group in body.get_locals_reader().map_err(malformed)? {
            locals += u64::from(group.map_err(malformed)?.0);
        }
        at_most("local variables of one function", locals, LOCALS)?;
        let values = locals + 1;
        let (mut steps, mut branches) = (40, 1);
        let mut operators = body.get_operators_reader().map_err(malformed)?;
        while !operators.eof() {
            let (operator, at) = operators.read_with_offset().map_err(malformed)?;
            let (step, branch) = match operator {
                Operator::Loop { blockty } => (100 + carries(blockty), 6),
                Operator::If { blockty } => (40 + carries(blockty), 2),
                Operator::Block { blockty } => (2 + carries(blockty), 1),
                Operator::BrIf { .. } => (40, 2),
                Operator::Br { .. } | Operator::Else | Operator::End => (2, 1),
                Operator::BrTable { targets } => {
                    self.switches
                        .spend(equals(&targets)?.saturating_mul(values))?;
                    (u64::from(targets.len()) * 2, u64::from(targets.len()))
                }
                _ => plain(wasm.get(at..).unwrap_or_default()),
            };
            steps += step;
            branches += branch;
        }
        at_most(
            "steps of one function for the compiler",
            steps,
            FUNCTION_STEPS,
        )?;
        self.steps.spend(steps)?;
        self.joins.spend(branches * values)
    }
}

/// Blocks with parameters or several results, which compilers hardly make use of,
/// are hard on the register allocator.
fn carries(block: BlockType) -> u64 {
    match block {
        BlockType::FuncType(_) => 1_000,
        BlockType::Empty | BlockType::Type(_) => 0,
    }
}

/// Pairs of equal targets of a jump table: what the compiler goes through for
/// each variable that arrives there.
fn equals(table: &BrTable<'_>) -> Result<u64, LoadError> {
    let targets = table.targets().collect::<Result<Vec<_>, _>>();
    let mut targets = targets.map_err(malformed)?;
    targets.sort_unstable();
    let runs = targets.chunk_by(|a, b| a == b);
    Ok(runs.map(|run| (run.len() as u64).pow(2)).sum())
}

/// Steps and branches of an instruction without a block, by its first bytes:
/// what it becomes in machine code, roughly, as seen in time and memory.
fn plain(code: &[u8]) -> (u64, u64) {
    match code {
        // Calls.
        [0x10, ..] => (5, 0),
        [0x11, ..] => (70, 2),
        // Locals and globals.
        [0x20..=0x24, ..] => (1, 0),
        // Tables, element by element.
        [0x25..=0x26, ..] => (70, 2),
        // Loads and stores.
        [0x28..=0x3e, ..] => (4, 0),
        // Divisions; conversions that may trap.
        [0x6d..=0x70 | 0x7f..=0x82, ..] => (3, 0),
        [0xa8..=0xab | 0xae..=0xb1, ..] => (10, 0),
        // Constants and other arithmetic.
        [0x00 | 0x01 | 0x0f | 0x1a..=0x1c | 0x3f | 0x41..=0xc4, ..] => (1, 0),
        // Saturating conversions, and vectors.
        [0xfc, 0..=7, ..] => (4, 0),
        [0xfd, ..] => (4, 0),
        [0x40, ..] => (70, 2),
        // Whole tables and memories, and whatever else there is.
        _ => (300, 8),
    }
}

fn malformed(error: BinaryReaderError) -> LoadError {
    let words = text::clean(error.message(), text::ERROR);
    LoadError::Malformed(format!("{words} (at byte {})", error.offset()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::Index;

    const TABLES: usize = 100_000;

    fn found(bytes: &[u8]) -> String {
        match inspect(bytes, TABLES) {
            Ok(_) => "accepted".into(),
            Err(LoadError::TooComplex { what, .. }) => what.into(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn each_bomb_is_refused_for_what_it_is() {
        let reasons = [
            ("bomb-functions", "functions"),
            ("bomb-locals", "local variables of one function"),
            ("bomb-loops", "steps of one function"),
            ("bomb-loops-spread", "steps for the compiler"),
            ("bomb-branches", "steps of one function"),
            ("bomb-joins", "pairs of a branch"),
            ("bomb-switch", "triples of two equal targets"),
            ("bomb-calls", "parameters of one function"),
            ("bomb-blocks", "results of one function"),
            ("bomb-types", "core types"),
            ("bomb-tables", "elements in its tables"),
            ("bomb-modules", "core modules"),
            ("bomb-names", "bytes of custom sections"),
            ("bomb-composed", "composed of components"),
        ];
        for bomb in hostile_policies::bombs().unwrap() {
            let reason = reasons.iter().find(|(name, _)| *name == bomb.name);
            let (_, reason) = reason.unwrap_or_else(|| panic!("{} has no line above", bomb.name));
            let found = found(&bomb.bytes);
            assert!(found.contains(reason), "{}: {found}", bomb.name);
        }
    }

    #[test]
    fn what_is_heavy_and_within_the_limits_is_accepted() {
        for policy in hostile_policies::heavy().unwrap() {
            assert_eq!(found(&policy.bytes), "accepted", "{}", policy.name);
        }
        assert_eq!(found(&hostile_policies::honest().unwrap()), "accepted");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn changed_bytes_are_read_to_an_end(changes in proptest::collection::vec(any::<(Index, u8)>(), 1..20)) {
            let mut bytes = hostile_policies::honest().unwrap();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let _ = inspect(&bytes, TABLES);
        }
    }
}
