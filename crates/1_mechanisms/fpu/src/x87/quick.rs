//! Frequent arithmetic, comparisons and stores on one or two numbers, without saving and restoring the whole state.
//!
//! That is right while every exception is masked and the registers hold values; else the general way is taken.
#![allow(unsafe_code, reason = "the host's x87 is reached by inline assembly")]

use super::native::{distance, opcodes, run as general};
use super::{Store, X87Op, X87Operands};
use crate::state::{C0_C2_C3, C1, EXCEPTIONS, Extended, Fpu};
use std::mem::offset_of;

/// What the assembly works on.
#[repr(C, align(16))]
struct Frame {
    /// ST(0).
    x: Extended,
    /// ST(1).
    y: Extended,
    /// The guest's control word.
    control: u16,
    /// The host's, meanwhile.
    host_control: u16,
    /// In: exception flags that the guest does not have. Out: the status word after the instruction.
    status: u16,
    /// Out: the flags that LAHF gives, after a comparison.
    flags: u8,
}

const _: () = assert!(
    offset_of!(Frame, x) == 0
        && offset_of!(Frame, y) == 16
        && offset_of!(Frame, control) == 32
        && offset_of!(Frame, host_control) == 34
        && offset_of!(Frame, status) == 36
        && offset_of!(Frame, flags) == 38
);

impl Frame {
    fn new(fpu: &Fpu, x: Extended, y: Extended) -> Frame {
        let status = !fpu.status & EXCEPTIONS;
        Frame {
            x,
            y,
            control: fpu.control,
            host_control: 0,
            status,
            flags: 0,
        }
    }
}

/// Runs lines on an empty stack under the guest's control word, with the instruction's address in r8 and the operand's in
/// rax. The host's status word may keep exception flags from before, as long as the guest has them too: the guest's are
/// joined with the outcome, so they tell nothing new. Else FNCLEX, which is slow, clears them.
macro_rules! on_host {
    ($frame:ident, $opcode:expr, $memory:expr; $($line:literal),+) => {
        // SAFETY: the lines load at most two numbers and take them off again, with every exception masked; memory is
        // touched only in the frame and at most ten bytes behind rax. The opcode table has 2,048 entries and the
        // distance is below that.
        unsafe {
            std::arch::asm!(
                "fnstcw [rdi + 34]",
                "fnstsw ax",
                "test [rdi + 36], ax",
                "jz 2f",
                "fnclex",
                "2:",
                "fldcw [rdi + 32]",
                "lea r9, [rip + {opcodes}]",
                "add r8, r9",
                "mov rax, rsi",
                $($line,)+
                "fldcw [rdi + 34]",
                opcodes = sym opcodes,
                in("rdi") std::ptr::from_mut::<Frame>($frame),
                in("rsi") $memory,
                inout("r8") distance($opcode) => _,
                out("r9") _, out("rax") _,
                out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
                out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
                out("mm0") _, out("mm1") _, out("mm2") _, out("mm3") _,
                out("mm4") _, out("mm5") _, out("mm6") _, out("mm7") _,
            )
        }
    };
}

/// Whether nothing unusual is in sight: every exception masked, and the registers ST(0) and ST(`i`) hold values.
fn usual(fpu: &Fpu, i: usize) -> bool {
    fpu.control & EXCEPTIONS == EXCEPTIONS && fpu.holds(0) && fpu.holds(i)
}

/// Takes over exception flags and those condition codes that are `defined`.
fn conclude(fpu: &mut Fpu, status: u16, defined: u16) {
    fpu.status = fpu.status & !defined | status & (defined | EXCEPTIONS);
}

/// Whether an instruction's results reach ST(0), ST(i) or memory is its caller's business: here `frame.x` and the status
/// word are.
fn compute(frame: &mut Frame, opcode: [u8; 2], operands: &mut X87Operands) {
    on_host!(frame, opcode, operands.memory.as_mut_ptr();
        "fld tbyte ptr [rdi + 16]", "fld tbyte ptr [rdi]", "call r8", "fnstsw ax", "mov [rdi + 36], ax",
        "fstp tbyte ptr [rdi]", "fstp st(0)");
}

/// Computes with ST(0) and ST(`other`) into ST(`to`), with the condition codes `defined`.
fn binary(
    op: &X87Op,
    fpu: &mut Fpu,
    operands: &mut X87Operands,
    other: usize,
    to: usize,
    defined: u16,
) -> Store {
    if !usual(fpu, other) {
        return general(op, fpu, operands);
    }
    let mut frame = Frame::new(fpu, fpu.st(0), fpu.st(other));
    compute(&mut frame, op.quick.opcode, operands);
    fpu.put_st(to, frame.x);
    conclude(fpu, frame.status, defined);
    pop(op, fpu);
    Store::Yes
}

fn pop(op: &X87Op, fpu: &mut Fpu) {
    (0..op.quick.pops).for_each(|_| fpu.pop());
}

/// ST(0), alone or with a number in memory: the result is ST(0).
pub(super) fn top(op: &X87Op, fpu: &mut Fpu, operands: &mut X87Operands) -> Store {
    binary(op, fpu, operands, 0, 0, C1)
}

/// ST(0) and ST(i): the result is ST(0).
pub(super) fn to_top(op: &X87Op, fpu: &mut Fpu, operands: &mut X87Operands) -> Store {
    binary(op, fpu, operands, operands.register(), 0, C1)
}

/// ST(0) and ST(i): the result is ST(i).
pub(super) fn to_register(op: &X87Op, fpu: &mut Fpu, operands: &mut X87Operands) -> Store {
    binary(op, fpu, operands, operands.register(), operands.register(), C1)
}

/// ST(0) and ST(1): the result is ST(0).
pub(super) fn with_next(op: &X87Op, fpu: &mut Fpu, operands: &mut X87Operands) -> Store {
    binary(op, fpu, operands, 1, 0, C1)
}

/// ST(0) and ST(1): the results are ST(0) and all condition codes, which other than normal numbers may leave alone.
pub(super) fn remainder(op: &X87Op, fpu: &mut Fpu, operands: &mut X87Operands) -> Store {
    if !fpu.st(0).is_normal() || !fpu.st(1).is_normal() {
        return general(op, fpu, operands);
    }
    binary(op, fpu, operands, 1, 0, C1 | C0_C2_C3)
}

/// Compares ST(0) with ST(`other`); EFLAGS are the result if the instruction writes them, else the condition codes.
fn compare(op: &X87Op, fpu: &mut Fpu, operands: &mut X87Operands, other: usize) -> Store {
    if !usual(fpu, other) {
        return general(op, fpu, operands);
    }
    let mut frame = Frame::new(fpu, fpu.st(0), fpu.st(other));
    let frame = &mut frame;
    on_host!(frame, op.quick.opcode, operands.memory.as_mut_ptr();
        "fld tbyte ptr [rdi + 16]", "fld tbyte ptr [rdi]", "call r8", "fnstsw ax", "mov [rdi + 36], ax",
        "lahf", "mov [rdi + 38], ah", "fstp st(0)", "fstp st(0)");
    if op.writes_flags {
        // OF is cleared, the others are what LAHF gives.
        operands.flags = operands.flags & !0x8d5 | u32::from(frame.flags) & 0xd5;
        conclude(fpu, frame.status, 0);
    } else {
        conclude(fpu, frame.status, C1 | C0_C2_C3);
    }
    pop(op, fpu);
    Store::Yes
}

/// Compares ST(0) with a number in memory, or examines it alone.
pub(super) fn compare_top(op: &X87Op, fpu: &mut Fpu, operands: &mut X87Operands) -> Store {
    compare(op, fpu, operands, 0)
}

/// Compares ST(0) with ST(i).
pub(super) fn compare_register(op: &X87Op, fpu: &mut Fpu, operands: &mut X87Operands) -> Store {
    compare(op, fpu, operands, operands.register())
}

/// Compares ST(0) with ST(1).
pub(super) fn compare_next(op: &X87Op, fpu: &mut Fpu, operands: &mut X87Operands) -> Store {
    compare(op, fpu, operands, 1)
}

/// Stores ST(0), rounded or made an integer.
pub(super) fn store(op: &X87Op, fpu: &mut Fpu, operands: &mut X87Operands) -> Store {
    if !usual(fpu, 0) {
        return general(op, fpu, operands);
    }
    let mut frame = Frame::new(fpu, fpu.st(0), Extended::default());
    let frame = &mut frame;
    on_host!(frame, op.quick.opcode, operands.memory.as_mut_ptr();
        "fld tbyte ptr [rdi]", "call r8", "fnstsw ax", "mov [rdi + 36], ax");
    conclude(fpu, frame.status, C1);
    pop(op, fpu);
    Store::Yes
}
