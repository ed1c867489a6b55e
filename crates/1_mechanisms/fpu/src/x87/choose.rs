//! Which instructions the quick functions execute, and by which instruction of the host.

use super::{Run, quick};
use iced_x86::{Code, Mnemonic as M};

/// How a quick function executes an instruction: with ST(0) and, if there is another register, that in ST(1), and
/// nothing popped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quick {
    /// The host's instruction, as in [`X87Op`](super::X87Op).
    pub(super) opcode: [u8; 2],
    /// Registers that the guest's instruction pops at its end.
    pub(super) pops: u8,
}

/// What an instruction's operands are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Operand {
    Memory,
    Register,
    None,
}

/// The quick function for `code`, whose own opcode is `opcode`.
pub(super) fn choose(code: Code, opcode: [u8; 2], operand: Operand) -> (Option<Run>, Quick) {
    let of = |run: Run, opcode: [u8; 2], pops: u8| (Some(run), Quick { opcode, pops });
    let [first, second] = opcode;
    // ST(1) in place of ST(i).
    let next = second & 0xf8 | 1;
    let compare: Run = match operand {
        Operand::Memory => quick::compare_top,
        Operand::Register => quick::compare_register,
        Operand::None => quick::compare_next,
    };
    match (code.mnemonic(), operand) {
        (M::Fadd | M::Fmul | M::Fsub | M::Fsubr | M::Fdiv | M::Fdivr, Operand::Memory)
        | (M::Fiadd | M::Fimul | M::Fisub | M::Fisubr | M::Fidiv | M::Fidivr, _)
        | (M::Fsqrt | M::Frndint, _) => of(quick::top, opcode, 0),
        (M::Fadd | M::Fmul | M::Fsub | M::Fsubr | M::Fdiv | M::Fdivr, _) if first == 0 => {
            of(quick::to_top, [0, next], 0)
        }
        // DC and DE compute as D8 with the same second byte does, but into ST(i).
        (M::Fadd | M::Fmul | M::Fsub | M::Fsubr | M::Fdiv | M::Fdivr, _) => {
            of(quick::to_register, [0, next], 0)
        }
        (M::Faddp | M::Fmulp | M::Fsubp | M::Fsubrp | M::Fdivp | M::Fdivrp, _) => {
            of(quick::to_register, [0, next], 1)
        }
        (M::Fscale, _) => of(quick::with_next, opcode, 0),
        (M::Fprem | M::Fprem1, _) => of(quick::remainder, opcode, 0),
        // The second byte of a comparison in memory without popping is 8 less.
        (M::Fcom | M::Ficom, Operand::Memory) => of(compare, opcode, 0),
        (M::Fcomp | M::Ficomp, Operand::Memory) => of(compare, [first, second - 8], 1),
        (M::Ftst | M::Fxam, _) => of(quick::compare_top, opcode, 0),
        (M::Fcom, _) => of(compare, FCOM, 0),
        (M::Fcomp, _) => of(compare, FCOM, 1),
        (M::Fcompp, _) => of(compare, FCOM, 2),
        (M::Fucom, _) => of(compare, FUCOM, 0),
        (M::Fucomp, _) => of(compare, FUCOM, 1),
        (M::Fucompp, _) => of(compare, FUCOM, 2),
        (M::Fcomi, _) => of(compare, FCOMI, 0),
        (M::Fcomip, _) => of(compare, FCOMI, 1),
        (M::Fucomi, _) => of(compare, FUCOMI, 0),
        (M::Fucomip, _) => of(compare, FUCOMI, 1),
        // A store that does not pop is done by the one that does, whose second byte is 8 more.
        (M::Fst | M::Fist, Operand::Memory) => of(quick::store, [first, second + 8], 0),
        (M::Fstp | M::Fistp | M::Fisttp, Operand::Memory) => of(quick::store, opcode, 1),
        _ => (None, Quick { opcode, pops: 0 }),
    }
}

/// FCOM ST(1).
const FCOM: [u8; 2] = [0, 0xd1];
/// FUCOM ST(1).
const FUCOM: [u8; 2] = [5, 0xe1];
/// FCOMI ST, ST(1).
const FCOMI: [u8; 2] = [3, 0xf1];
/// FUCOMI ST, ST(1).
const FUCOMI: [u8; 2] = [3, 0xe9];
