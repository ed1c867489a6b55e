//! MMX, SSE to SSE4.2, AES, SHA and PCLMULQDQ: what each instruction needs, and the function that executes it.
//!
//! A core resolves an instruction once, when it decodes it, by [`vector`]. To execute it, the core
//! 1. raises #UD or #NM as CR0 and CR4 say; for [`VectorOp::uses_x87`] also #MF while [`Fpu::pending`](crate::Fpu::pending);
//! 2. fetches the operands that the shape names into [`Operands`]: registers, or memory of as many bytes as the place
//!    says with zeros above, after the alignment check;
//! 3. calls [`VectorOp::in_registers`] or [`VectorOp::in_memory`]; an error is #XM (or #UD without CR4.OSXMMEXCPT), with
//!    nothing but MXCSR to be stored;
//! 4. stores the result where the shape says, flags and MXCSR likewise, and puts the MMX state into effect.

#![allow(
    unsafe_code,
    reason = "the host's instructions are reached by inline assembly"
)]

#[macro_use]
mod kernel;
mod dot;
mod floating;
mod integer;
mod lanes;
mod mmx;
mod moves;
mod shape;
mod strings;
mod unmasked;

use crate::operands::{Operands, SimdException};
use iced_x86::Code;
use std::sync::LazyLock;

pub use shape::{File, Implicit, Mmx, Place, Target};

/// What executing yields.
pub type Done = Result<(), SimdException>;
/// A function that executes one instruction on its operands.
pub type Run = fn(&mut Operands) -> Done;

/// How a core executes one instruction.
#[derive(Clone, Copy, Debug)]
pub struct VectorOp {
    /// The instruction.
    pub code: Code,
    /// What [`Operands::first`] stands for; it is read before only where it is an XMM or MM register.
    pub first: Place,
    /// What [`Operands::second`] stands for; nothing for an instruction with one operand.
    pub second: Option<Place>,
    /// Where the result goes.
    pub target: Target,
    /// What the instruction reads without naming it.
    pub implicit: Implicit,
    /// Whether there is an immediate byte.
    pub imm8: bool,
    /// Whether MXCSR is read and written, and an unmasked exception may result.
    pub floating: bool,
    /// Whether CF, PF, AF, ZF, SF and OF are written.
    pub flags: bool,
    /// When the result is just the second operand, so that a core may copy without a call.
    pub copies: Copies,
    /// How the instruction uses the x87 registers.
    pub mmx: Mmx,
    registers: Run,
    memory: Run,
}

/// Whether an instruction only copies its second operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copies {
    /// It does something else.
    Never,
    /// It copies when one operand is in memory.
    InMemory,
    /// It always copies.
    Always,
}

impl VectorOp {
    /// The function for operands that are all registers.
    #[inline]
    pub fn in_registers(&self) -> Run {
        self.registers
    }

    /// The function for an operand in memory.
    #[inline]
    pub fn in_memory(&self) -> Run {
        self.memory
    }

    /// Whether it makes the x87 registers MMX registers, so that a pending x87 exception comes first.
    pub fn uses_x87(&self, memory: bool) -> bool {
        match self.mmx {
            Mmx::None => false,
            Mmx::Enter | Mmx::Leave => true,
            Mmx::EnterByRegister => !memory,
        }
    }
}

/// One line of the tables: what cannot be told from the instruction's own description.
#[derive(Clone, Copy)]
struct Entry {
    code: Code,
    registers: Run,
    memory: Run,
    floating: bool,
    copies: Copies,
}

impl Entry {
    const fn new(code: Code, run: Run) -> Entry {
        Entry {
            code,
            registers: run,
            memory: run,
            floating: false,
            copies: Copies::Never,
        }
    }

    const fn floating(code: Code, run: Run) -> Entry {
        Entry {
            floating: true,
            ..Entry::new(code, run)
        }
    }

    const fn copy(code: Code) -> Entry {
        Entry {
            copies: Copies::Always,
            ..Entry::new(code, moves::copy)
        }
    }

    /// The forms in registers and in memory differ.
    const fn by_place(code: Code, registers: Run, memory: Run) -> Entry {
        Entry {
            memory,
            ..Entry::new(code, registers)
        }
    }

    /// The form in memory copies, the one in registers does something else.
    const fn copy_in_memory(code: Code, registers: Run) -> Entry {
        Entry {
            copies: Copies::InMemory,
            ..Entry::by_place(code, registers, moves::copy)
        }
    }
}

/// Every instruction, and at which index of it each code is.
struct Table {
    ops: Vec<VectorOp>,
    index: Vec<Option<u16>>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let tables = [
        dot::TABLES,
        floating::TABLES,
        integer::TABLES,
        mmx::TABLES,
        moves::TABLES,
        strings::TABLES,
    ];
    let mut table = Table {
        ops: Vec::new(),
        index: vec![None; Code::values().len()],
    };
    let entries = tables.into_iter().flatten().copied().flatten();
    for entry in entries.filter(|entry| crate::host::runs(entry.code)) {
        table.index[entry.code as usize] = u16::try_from(table.ops.len()).ok();
        table.ops.push(shape::shape(entry));
    }
    table
});

/// How to execute `code`, if it is an instruction of this module and the host has it.
pub fn vector(code: Code) -> Option<&'static VectorOp> {
    let at = (*TABLE.index.get(code as usize)?)?;
    TABLE.ops.get(usize::from(at))
}

/// All that [`vector`] knows on this host.
pub fn vectors() -> impl Iterator<Item = &'static VectorOp> {
    TABLE.ops.iter()
}
