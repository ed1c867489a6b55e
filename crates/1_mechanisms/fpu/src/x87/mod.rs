//! The x87 instructions: what each needs, and the function that executes it.
//!
//! A core resolves an instruction once, when it decodes it, by [`x87`]. To execute it, the core
//! 1. raises #NM as CR0 says (for WAIT: when TS and MP are both set);
//! 2. reads [`X87Op::load`] bytes at the memory operand into [`X87Operands::memory`], or checks that [`X87Op::store`]
//!    bytes there can be written;
//! 3. calls [`X87Op::execute`]; [`Pending`] is #MF (with CR0.NE clear: FERR#), and comes before any fault of memory;
//! 4. writes the memory, AX or flags that the shape names; when [`X87Op::records`], sets [`Fpu::last`].

mod choose;
mod control;
mod moves;
mod native;
mod quick;
mod table;

use crate::state::Fpu;
use iced_x86::Code;

pub use table::{x87, x87_ops};

/// An unmasked exception of an earlier x87 instruction waits: #MF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending;

/// The operands of one x87 instruction beside the register stack. A core keeps one and fills in what the shape names.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct X87Operands {
    /// In: the operand in memory, [`X87Op::load`] bytes. Out: what to store there, [`X87Op::store`] bytes.
    pub memory: [u8; 112],
    /// In and out: EFLAGS, of which FCMOVcc reads and FCOMI and its likes write CF, PF, AF, ZF, SF and OF.
    pub flags: u32,
    /// Out: AX of FNSTSW AX.
    pub ax: u16,
    /// In: the number of the register ST(i), 0 to 7.
    pub index: u8,
    /// In: CR0.PE is set and EFLAGS.VM clear, which decides the format of environments.
    pub protected: bool,
}

impl Default for X87Operands {
    fn default() -> X87Operands {
        X87Operands {
            memory: [0; 112],
            flags: 0,
            ax: 0,
            index: 0,
            protected: true,
        }
    }
}

impl X87Operands {
    /// The number of ST(i).
    fn register(&self) -> usize {
        usize::from(self.index & 7)
    }
}

/// Whether the result in [`X87Operands::memory`] is to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// Yes, if the instruction stores at all.
    Yes,
    /// No: an unmasked exception left the destination as it was.
    No,
}

/// A function that executes one instruction.
type Run = fn(&X87Op, &mut Fpu, &mut X87Operands) -> Store;

/// How a core executes one instruction.
#[derive(Clone, Copy, Debug)]
pub struct X87Op {
    /// The instruction.
    pub code: Code,
    /// Bytes that it reads from its operand in memory.
    pub load: u8,
    /// Bytes that it writes to its operand in memory.
    pub store: u8,
    /// Whether it names a register ST(i) as operand [`X87Op::register`].
    pub indexed: bool,
    /// The number of the operand that is ST(i).
    pub register: u32,
    /// Whether a pending exception comes first.
    pub waits: bool,
    /// Whether it updates FOP, FIP and, with an operand in memory, FDP.
    pub records: bool,
    /// Whether it reads CF, PF and ZF.
    pub reads_flags: bool,
    /// Whether it writes CF, PF, AF, ZF, SF and OF.
    pub writes_flags: bool,
    /// Whether it writes AX.
    pub writes_ax: bool,
    /// The first opcode byte less 0xd8, and the second, for ST(0) or an operand in memory at RAX.
    opcode: [u8; 2],
    quick: choose::Quick,
    run: Run,
}

impl X87Op {
    /// Executes the instruction.
    ///
    /// # Errors
    /// An exception is pending; nothing was done.
    #[inline]
    pub fn execute(&self, fpu: &mut Fpu, operands: &mut X87Operands) -> Result<Store, Pending> {
        if self.waits && fpu.pending() {
            return Err(Pending);
        }
        Ok((self.run)(self, fpu, operands))
    }

    /// FOP of this instruction, whose second opcode byte (ModRM) was `modrm`.
    pub fn last_opcode(&self, modrm: u8) -> u16 {
        u16::from(self.opcode[0]) << 8 | u16::from(modrm)
    }
}
