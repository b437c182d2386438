//! Adds checkpoints to a component without changing its fuel. At a checkpoint, a fuel limit can stop
//! the component.
//!
//! The host compares the fuel with its limit when a function or an iteration of a loop starts. After a
//! call, a function has no checkpoint. This module therefore adds an empty loop, which uses no fuel,
//! to each end of a function. Then only one function uses the fuel between two checkpoints.

use anyhow::{Context, Result, anyhow};
use policy_host::{Backtrace, Frame};
use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use wasm_encoder::reencode::{Error, Reencode, ReencodeComponent};
use wasm_encoder::{BlockType, CodeSection, Component, Function, Instruction};
use wasmparser::{Encoding, FunctionBody, Parser, Payload, TypeRef};

/// The name of the work before the first function: copying the data of the component to its memory.
const START: &str = "(copying the data of the component)";

/// A component with more checkpoints.
pub(super) struct Instrumented {
    pub wasm: Vec<u8>,
    /// The index of each function, and the length of its declaration of local variables in bytes.
    /// Modules of the component can have functions with the same index.
    entries: BTreeSet<(u32, usize)>,
}

impl Instrumented {
    pub fn new(component: &[u8]) -> Result<Self> {
        let mut checkpoints = Checkpoints {
            bodies: bodies(component).context("failed to read the functions of the component")?,
            entries: BTreeSet::new(),
        };
        let mut output = Component::new();
        checkpoints
            .parse_component(&mut output, Parser::new(0), component)
            .map_err(|error| anyhow!("failed to add checkpoints to the component: {error}"))?;
        Ok(Self {
            wasm: output.finish(),
            entries: checkpoints.entries,
        })
    }

    /// Returns the call stack at which a fuel limit stopped the component, outermost function first.
    pub fn functions(&self, stack: &Backtrace) -> Vec<String> {
        let frames = match stack.frames() {
            [] => return vec![START.to_owned()],
            // The caller used the fuel before a function starts.
            [entered, callers @ ..] if !callers.is_empty() && self.is_entry(entered) => callers,
            frames => frames,
        };
        frames.iter().rev().map(Frame::to_string).collect()
    }

    /// Returns whether the current instruction of a frame is the start of its function.
    fn is_entry(&self, frame: &Frame) -> bool {
        let Some(offset) = frame.offset else {
            return false;
        };
        let longer = (frame.function, offset + 1)..=(frame.function, usize::MAX);
        self.entries.range(longer).next().is_some()
    }
}

/// The index of a function, and the type of a block with its results. `block` is `None` for several
/// results, because such a type would have to be declared. These functions stay unchanged.
struct Body {
    function: u32,
    block: Option<wasmparser::BlockType>,
}

/// Returns the bodies of all functions of a component, in the order of the file.
fn bodies(component: &[u8]) -> Result<VecDeque<Body>> {
    let (mut types, mut functions, mut bodies) = (vec![], vec![], VecDeque::new());
    let mut imports = 0;
    for payload in Parser::new(0).parse_all(component) {
        match payload? {
            Payload::Version {
                encoding: Encoding::Module,
                ..
            } => (types, functions, imports) = (vec![], vec![], 0),
            Payload::TypeSection(section) => {
                let all: Result<Vec<_>, _> = section.into_iter_err_on_gc_types().collect();
                types = all?;
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    imports += u32::from(matches!(import?.ty, TypeRef::Func(_)));
                }
            }
            Payload::FunctionSection(section) => {
                functions = section.into_iter().collect::<Result<_, _>>()?;
            }
            Payload::CodeSectionStart { .. } => {
                for (index, ty) in (imports..).zip(&functions) {
                    let results = types.get(*ty as usize).map(|ty| ty.results());
                    bodies.push_back(Body {
                        function: index,
                        block: match results {
                            Some([]) => Some(wasmparser::BlockType::Empty),
                            Some([result]) => Some(wasmparser::BlockType::Type(*result)),
                            _ => None,
                        },
                    });
                }
            }
            _ => {}
        }
    }
    Ok(bodies)
}

struct Checkpoints {
    bodies: VecDeque<Body>,
    entries: BTreeSet<(u32, usize)>,
}

impl ReencodeComponent for Checkpoints {}

impl Reencode for Checkpoints {
    type Error = Infallible;

    fn parse_function_body(
        &mut self,
        code: &mut CodeSection,
        body: FunctionBody<'_>,
    ) -> Result<(), Error> {
        let mut function = self.new_function_with_parsed_locals(&body)?;
        let declaration = function.byte_len();
        let (index, block) = match self.bodies.pop_front() {
            Some(Body { function, block }) => (Some(function), block),
            None => (None, None),
        };
        self.entries.extend(index.map(|index| (index, declaration)));
        let mut reader = body.get_operators_reader()?;
        // In a block, a branch to the end of the function reaches the checkpoint after the block.
        if let Some(block) = block {
            let block = self.block_type(block)?;
            function.instruction(&Instruction::Block(block));
        }
        while !reader.eof() {
            let instruction = self.parse_instruction(&mut reader)?;
            if matches!(instruction, Instruction::Return) {
                checkpoint(&mut function);
            }
            if reader.eof() && block.is_some() {
                function.instruction(&Instruction::End);
                checkpoint(&mut function);
            }
            function.instruction(&instruction);
        }
        code.function(&function);
        Ok(())
    }
}

/// Adds an empty loop.
fn checkpoint(function: &mut Function) {
    function.instruction(&Instruction::Loop(BlockType::Empty));
    function.instruction(&Instruction::End);
}
