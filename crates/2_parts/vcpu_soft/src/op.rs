//! A decoded instruction, ready to be executed: a handler and its resolved operands.

use crate::cpu::Cpu;

/// What the run does after an instruction that has completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// The next instruction of the block.
    Next,
    /// The block ends at its last instruction, which did not branch; `rip` is that after it.
    Fall,
    /// The block's own branch target; `rip` is set.
    Taken,
    /// Anywhere; `rip` is set.
    Jump,
    /// The next instruction, after a look at everything that may have changed; `rip` is not set.
    Cut,
    /// As `Cut`, `rip` is set.
    CutJump,
}

/// The instruction did not complete: [`Cpu::stop`] tells why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stop;

/// What a handler answers.
pub(crate) type Outcome = Result<Flow, Stop>;

/// Executes one instruction.
pub(crate) type Handler = fn(&mut Cpu, &Op) -> Outcome;

/// Number of the register that is always 0.
pub(crate) const ZERO: u8 = 16;
/// Number of the register that holds the instruction pointer of the block's beginning.
pub(crate) const BLOCK: u8 = 17;
/// Added to the number of a register: its bits 8–15.
pub(crate) const HIGH: u8 = 32;

/// A decoded instruction.
///
/// General registers are numbered as in instructions, [`ZERO`] and [`BLOCK`] are two more, [`HIGH`] marks AH to BH.
/// A memory operand is `base + (index << scale) + disp` in segment `seg`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Op {
    /// Executes it.
    pub(crate) run: Handler,
    /// Immediate value; for relative branches the target minus the block's beginning.
    pub(crate) imm: u64,
    /// Displacement of the memory operand.
    pub(crate) disp: u64,
    /// Vector instructions: what they are.
    pub(crate) vector: Option<&'static fpu::VectorOp>,
    /// Base register.
    pub(crate) base: u8,
    /// Index register.
    pub(crate) index: u8,
    /// Shift of the index.
    pub(crate) scale: u8,
    /// Segment register.
    pub(crate) seg: u8,
    /// Destination register.
    pub(crate) dst: u8,
    /// Source register.
    pub(crate) src: u8,
    /// Whether the address is 64 bits wide and in a flat segment, FS or GS in long mode.
    pub(crate) flat: bool,
    /// Address size in bytes, operand size in bytes, prefixes.
    pub(crate) form: Form,
    /// Length of the instruction.
    pub(crate) len: u8,
    /// Number of the instruction in its block.
    pub(crate) number: u8,
    /// Offset of the next instruction from the block's beginning.
    pub(crate) next: u16,
}

/// Sizes and prefixes of an instruction.
#[derive(Clone, Copy, Default)]
pub(crate) struct Form {
    /// Bits 0–3: operand size in bytes; 4–5: address size (0: 2 bytes, 1: 4, 2: 8).
    sizes: u8,
    /// What it carries beside: REP, REPNE, LOCK, third operand.
    pub(crate) extra: u8,
}

/// [`Form::extra`]: REP or REPE.
pub(crate) const REPE: u8 = 1;
/// [`Form::extra`]: REPNE.
pub(crate) const REPNE: u8 = 2;

impl Form {
    /// From operand size and address size in bytes.
    pub(crate) fn new(operand: u64, address: u64, extra: u8) -> Form {
        let code = match address {
            8 => 2,
            4 => 1,
            _ => 0,
        };
        Form {
            sizes: operand as u8 & 15 | code << 4,
            extra,
        }
    }

    /// Operand size in bytes.
    #[inline(always)]
    pub(crate) fn operand(self) -> u64 {
        u64::from(self.sizes & 15)
    }

    /// The bits that an address has.
    #[inline(always)]
    pub(crate) fn address_mask(self) -> u64 {
        match self.sizes >> 4 {
            2 => u64::MAX,
            1 => 0xffff_ffff,
            _ => 0xffff,
        }
    }
}

/// The low bits of so many bytes.
#[inline(always)]
pub(crate) fn mask(bytes: u64) -> u64 {
    match bytes {
        8 => u64::MAX,
        4 => 0xffff_ffff,
        2 => 0xffff,
        _ => 0xff,
    }
}

/// Whether the handler fits: the size of an instruction in memory is part of the speed.
const _: () = assert!(size_of::<Op>() <= 48);
