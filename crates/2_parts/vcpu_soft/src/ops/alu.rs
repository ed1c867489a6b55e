//! Arithmetic and logic of two operands and of one.

use crate::cpu::Cpu;
use crate::flags::Flags;
use crate::int::Int;
use crate::op::{Flow, Handler, Op, Outcome};
use crate::ops::by_size;

/// An operation of two operands.
pub(crate) trait Binary: 'static {
    /// Whether the result is written.
    const WRITES: bool = true;
    /// Computes result and flags.
    fn run<T: Int>(flags: &mut Flags, a: T, b: T) -> T;
}

macro_rules! binary {
    ($($name:ident $writes:literal |$flags:ident, $a:ident, $b:ident| $body:expr;)*) => {$(
        pub(crate) struct $name;
        impl Binary for $name {
            const WRITES: bool = $writes;
            #[inline(always)]
            fn run<T: Int>($flags: &mut Flags, $a: T, $b: T) -> T {
                $body
            }
        }
    )*};
}

#[inline(always)]
fn add<T: Int>(flags: &mut Flags, a: T, b: T, carry: u64) -> T {
    let result = T::cut(a.wide().wrapping_add(b.wide()).wrapping_add(carry));
    flags.sum(a, b, result);
    result
}

#[inline(always)]
fn sub<T: Int>(flags: &mut Flags, a: T, b: T, borrow: u64) -> T {
    let result = T::cut(a.wide().wrapping_sub(b.wide()).wrapping_sub(borrow));
    flags.difference(a, b, result);
    result
}

#[inline(always)]
fn logic<T: Int>(flags: &mut Flags, result: u64) -> T {
    let result = T::cut(result);
    flags.logic(result);
    result
}

binary! {
    Add true |flags, a, b| add(flags, a, b, 0);
    Adc true |flags, a, b| { let carry = u64::from(flags.cf()); add(flags, a, b, carry) };
    Sub true |flags, a, b| sub(flags, a, b, 0);
    Sbb true |flags, a, b| { let borrow = u64::from(flags.cf()); sub(flags, a, b, borrow) };
    Cmp false |flags, a, b| sub(flags, a, b, 0);
    And true |flags, a, b| logic(flags, a.wide() & b.wide());
    Or true |flags, a, b| logic(flags, a.wide() | b.wide());
    Xor true |flags, a, b| logic(flags, a.wide() ^ b.wide());
    Test false |flags, a, b| logic(flags, a.wide() & b.wide());
}

/// Register, register.
pub(crate) fn rr<O: Binary, T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let a = T::reg(&cpu.registers, op.dst);
    let b = T::reg(&cpu.registers, op.src);
    let result = O::run(&mut cpu.flags, a, b);
    if O::WRITES {
        T::set_reg(&mut cpu.registers, op.dst, result);
    }
    Ok(Flow::Next)
}

/// Register, immediate.
pub(crate) fn ri<O: Binary, T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let a = T::reg(&cpu.registers, op.dst);
    let result = O::run(&mut cpu.flags, a, T::cut(op.imm));
    if O::WRITES {
        T::set_reg(&mut cpu.registers, op.dst, result);
    }
    Ok(Flow::Next)
}

/// Register, memory.
pub(crate) fn rm<O: Binary, T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let linear = cpu.address(op, T::BYTES, false)?;
    let b = cpu.load::<T>(linear, op.seg)?;
    let a = T::reg(&cpu.registers, op.dst);
    let result = O::run(&mut cpu.flags, a, b);
    if O::WRITES {
        T::set_reg(&mut cpu.registers, op.dst, result);
    }
    Ok(Flow::Next)
}

/// Memory, and a value.
#[inline(always)]
fn memory<O: Binary, T: Int>(cpu: &mut Cpu, op: &Op, b: T) -> Outcome {
    let linear = cpu.address(op, T::BYTES, O::WRITES)?;
    if O::WRITES {
        cpu.modify::<T>(linear, op.seg, |cpu, a| O::run(&mut cpu.flags, a, b))?;
    } else {
        let a = cpu.load::<T>(linear, op.seg)?;
        O::run(&mut cpu.flags, a, b);
    }
    Ok(Flow::Next)
}

/// Memory, register.
pub(crate) fn mr<O: Binary, T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let b = T::reg(&cpu.registers, op.src);
    memory::<O, T>(cpu, op, b)
}

/// Memory, immediate.
pub(crate) fn mi<O: Binary, T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    memory::<O, T>(cpu, op, T::cut(op.imm))
}

fn locked<O: Binary, T: Int>(cpu: &mut Cpu, op: &Op, b: T) -> Outcome {
    let linear = cpu.address(op, T::BYTES, true)?;
    let before = cpu.flags;
    cpu.flags = cpu.atomic::<T, Flags>(linear, op.seg, |a| {
        let mut flags = before;
        let result = O::run(&mut flags, a, b);
        (result, flags)
    })?;
    Ok(Flow::Next)
}

/// Memory, register, with LOCK.
pub(crate) fn lock_mr<O: Binary, T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let b = T::reg(&cpu.registers, op.src);
    locked::<O, T>(cpu, op, b)
}

/// Memory, immediate, with LOCK.
pub(crate) fn lock_mi<O: Binary, T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    locked::<O, T>(cpu, op, T::cut(op.imm))
}

/// The forms of an instruction's two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    RegReg,
    RegImm,
    RegMem,
    MemReg,
    MemImm,
}

/// The handler of a two-operand instruction.
pub(crate) fn binary<O: Binary>(shape: Shape, size: u64, lock: bool) -> Handler {
    match (shape, lock) {
        (Shape::RegReg, _) => by_size!(size, rr<O, _>),
        (Shape::RegImm, _) => by_size!(size, ri<O, _>),
        (Shape::RegMem, _) => by_size!(size, rm<O, _>),
        (Shape::MemReg, false) => by_size!(size, mr<O, _>),
        (Shape::MemImm, false) => by_size!(size, mi<O, _>),
        (Shape::MemReg, true) => by_size!(size, lock_mr<O, _>),
        (Shape::MemImm, true) => by_size!(size, lock_mi<O, _>),
    }
}

/// An operation of one operand.
pub(crate) trait Unary: 'static {
    /// Computes result and flags.
    fn run<T: Int>(flags: &mut Flags, a: T) -> T;
}

macro_rules! unary {
    ($($name:ident |$flags:ident, $a:ident| $body:expr;)*) => {$(
        pub(crate) struct $name;
        impl Unary for $name {
            #[inline(always)]
            fn run<T: Int>($flags: &mut Flags, $a: T) -> T {
                $body
            }
        }
    )*};
}

unary! {
    Inc |flags, a| {
        let before = *flags;
        let result = add(flags, a, T::cut(1), 0);
        flags.keep_carry(before);
        result
    };
    Dec |flags, a| {
        let before = *flags;
        let result = sub(flags, a, T::cut(1), 0);
        flags.keep_carry(before);
        result
    };
    Neg |flags, a| sub(flags, T::cut(0), a, 0);
    Not |_flags, a| T::cut(!a.wide());
}

/// A register.
pub(crate) fn r<O: Unary, T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let a = T::reg(&cpu.registers, op.dst);
    let result = O::run(&mut cpu.flags, a);
    T::set_reg(&mut cpu.registers, op.dst, result);
    Ok(Flow::Next)
}

/// Memory.
pub(crate) fn m<O: Unary, T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let linear = cpu.address(op, T::BYTES, true)?;
    cpu.modify::<T>(linear, op.seg, |cpu, a| O::run(&mut cpu.flags, a))?;
    Ok(Flow::Next)
}

/// Memory, with LOCK.
pub(crate) fn lock_m<O: Unary, T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let linear = cpu.address(op, T::BYTES, true)?;
    let before = cpu.flags;
    cpu.flags = cpu.atomic::<T, Flags>(linear, op.seg, |a| {
        let mut flags = before;
        let result = O::run(&mut flags, a);
        (result, flags)
    })?;
    Ok(Flow::Next)
}

/// The handler of a one-operand instruction.
pub(crate) fn unary<O: Unary>(memory: bool, size: u64, lock: bool) -> Handler {
    match (memory, lock) {
        (false, _) => by_size!(size, r<O, _>),
        (true, false) => by_size!(size, m<O, _>),
        (true, true) => by_size!(size, lock_m<O, _>),
    }
}
