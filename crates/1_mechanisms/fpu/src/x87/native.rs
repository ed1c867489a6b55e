//! Any x87 instruction on the whole guest state, by the host's x87: complete, and slow.
#![allow(unsafe_code, reason = "the host's x87 is reached by inline assembly")]

use super::{Store, X87Op, X87Operands};
use crate::environment::EnvironmentForm;
use crate::state::{EXCEPTIONS, Fpu};

/// EFLAGS: CF, PF, AF, ZF, SF and OF.
const ARITHMETIC: u64 = 0x8d5;
/// FSW: invalid operation, overflow and underflow, which unmasked leave a destination in memory as it was.
const UNSTORED: u16 = 0x19;
const FORM: EnvironmentForm = EnvironmentForm {
    wide: true,
    protected: true,
};

/// Every x87 instruction of two bytes, four bytes apart: D8 to DF as first byte, any second.
///
/// # Safety
/// This is no function by the rules of a calling convention: assembly calls the instruction that it wants.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn opcodes() {
    std::arch::naked_asm!(
        ".set .Lopcode, 0",
        ".rept 2048",
        ".byte 0xd8 + (.Lopcode >> 8), .Lopcode & 0xff",
        "ret",
        "nop",
        ".set .Lopcode, .Lopcode + 1",
        ".endr",
    )
}

/// The distance of an instruction from the beginning of [`opcodes`].
pub(super) fn distance(opcode: [u8; 2]) -> usize {
    (usize::from(opcode[0] & 7) << 8 | usize::from(opcode[1])) * 4
}

/// FNSAVE's image of the 32-bit protected format, with a free end.
#[repr(C, align(16))]
struct Image([u8; 112]);

/// Executes an instruction that is not a control instruction; none is pending.
pub(super) fn run(op: &X87Op, fpu: &mut Fpu, operands: &mut X87Operands) -> Store {
    let mut image = Image([0; 112]);
    let last = fpu.last;
    fpu.fnsave(&mut image.0, FORM);
    let [first, second] = op.opcode;
    let second = if op.indexed {
        second | operands.index & 7
    } else {
        second
    };
    let mut flags = u64::from(operands.flags) & ARITHMETIC | 2;
    let mut host_control = 0_u16;
    // SAFETY: the instruction works on the loaded x87 state, reads or writes at most ten bytes behind rax, and flags;
    // a waiting instruction finds no pending exception, since the caller saw none in the state. FNSAVE leaves the
    // stack empty with no exception flagged, then the host's control word comes back. The opcode table has 2,048 entries
    // and the distance is below that.
    unsafe {
        std::arch::asm!(
            "fnstcw [{control}]",
            "lea {target}, [rip + {opcodes}]",
            "add {target}, {distance}",
            "frstor [{image}]",
            "push {flags}",
            "popfq",
            "call {target}",
            "pushfq",
            "pop {flags}",
            "fnsave [{image}]",
            "fldcw [{control}]",
            opcodes = sym opcodes,
            control = in(reg) &raw mut host_control,
            image = in(reg) image.0.as_mut_ptr(),
            distance = in(reg) distance([first, second]),
            target = out(reg) _,
            flags = inout(reg) flags,
            in("rax") operands.memory.as_mut_ptr(),
            out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
            out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
            out("mm0") _, out("mm1") _, out("mm2") _, out("mm3") _,
            out("mm4") _, out("mm5") _, out("mm6") _, out("mm7") _,
        );
    }
    fpu.frstor(&image.0, FORM);
    fpu.last = last;
    if op.writes_flags {
        operands.flags = operands.flags & !(ARITHMETIC as u32) | (flags & ARITHMETIC) as u32;
    }
    // None was pending before, so what is flagged and unmasked now is this instruction's.
    if fpu.status & !fpu.control & EXCEPTIONS & UNSTORED != 0 {
        Store::No
    } else {
        Store::Yes
    }
}
