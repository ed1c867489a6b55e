//! Shifts and rotations.

use crate::cpu::Cpu;
use crate::flags::Flags;
use crate::int::Int;
use crate::op::{Flow, Handler, Op, Outcome};
use crate::ops::by_size;

/// A shift of one operand by a count.
pub(crate) trait Shift: 'static {
    /// Computes result and flags; the count is masked to 5 or 6 bits and not 0.
    fn run<T: Int>(flags: &mut Flags, a: T, count: u32) -> T;
}

macro_rules! shift {
    ($($name:ident |$flags:ident, $a:ident, $count:ident| $body:expr;)*) => {$(
        pub(crate) struct $name;
        impl Shift for $name {
            #[inline(always)]
            fn run<T: Int>($flags: &mut Flags, $a: T, $count: u32) -> T {
                $body
            }
        }
    )*};
}

#[inline(always)]
fn top<T: Int>(value: u64) -> bool {
    value >> (T::BITS - 1) & 1 != 0
}

shift! {
    Shl |flags, a, count| {
        // Narrow operands have room above; a 64-bit one never sees a count above 63.
        let wide = u128::from(a.wide()) << count;
        let result = T::cut(wide as u64);
        let carry = wide >> T::BITS & 1 != 0;
        flags.shifted(result, carry, top::<T>(result.wide()) != carry);
        result
    };
    Shr |flags, a, count| {
        let result = T::cut(a.wide().checked_shr(count).unwrap_or(0));
        let carry = a.wide() >> (count - 1) & 1 != 0;
        flags.shifted(result, carry, top::<T>(a.wide()));
        result
    };
    Sar |flags, a, count| {
        let wide = a.signed() as i64;
        let result = T::cut((wide >> count.min(63)) as u64);
        let carry = wide >> (count - 1).min(63) & 1 != 0;
        flags.shifted(result, carry, false);
        result
    };
    Rol |flags, a, count| {
        let count = count % T::BITS;
        let value = a.wide();
        let result = if count == 0 { value } else { value << count | value >> (T::BITS - count) };
        let result = T::cut(result);
        let carry = result.wide() & 1 != 0;
        flags.set_carry_overflow(carry, top::<T>(result.wide()) != carry);
        result
    };
    Ror |flags, a, count| {
        let count = count % T::BITS;
        let value = a.wide();
        let result = if count == 0 { value } else { value >> count | value << (T::BITS - count) };
        let result = T::cut(result);
        let carry = top::<T>(result.wide());
        flags.set_carry_overflow(carry, carry != (result.wide() >> (T::BITS - 2) & 1 != 0));
        result
    };
    Rcl |flags, a, count| {
        let width = T::BITS + 1;
        let count = count % width;
        let value = u128::from(a.wide()) | u128::from(flags.cf()) << T::BITS;
        let turned = if count == 0 { value } else { value << count | value >> (width - count) };
        let result = T::cut(turned as u64);
        let carry = turned >> T::BITS & 1 != 0;
        flags.set_carry_overflow(carry, top::<T>(result.wide()) != carry);
        result
    };
    Rcr |flags, a, count| {
        let width = T::BITS + 1;
        let count = count % width;
        let value = u128::from(a.wide()) | u128::from(flags.cf()) << T::BITS;
        let turned = if count == 0 { value } else { value >> count | value << (width - count) };
        let result = T::cut(turned as u64);
        let carry = turned >> T::BITS & 1 != 0;
        flags.set_carry_overflow(carry, top::<T>(result.wide()) != (result.wide() >> (T::BITS - 2) & 1 != 0));
        result
    };
}

#[inline(always)]
fn counted<T: Int>(count: u64) -> u32 {
    count as u32 & if T::BITS == 64 { 63 } else { 31 }
}

#[inline(always)]
fn register<O: Shift, T: Int>(cpu: &mut Cpu, op: &Op, count: u64) -> Outcome {
    let count = counted::<T>(count);
    let a = T::reg(&cpu.registers, op.dst);
    let result = if count == 0 {
        a
    } else {
        O::run(&mut cpu.flags, a, count)
    };
    T::set_reg(&mut cpu.registers, op.dst, result);
    Ok(Flow::Next)
}

fn memory<O: Shift, T: Int>(cpu: &mut Cpu, op: &Op, count: u64) -> Outcome {
    let count = counted::<T>(count);
    let linear = cpu.address(op, T::BYTES, true)?;
    cpu.modify::<T>(linear, op.seg, |cpu, a| {
        if count == 0 {
            a
        } else {
            O::run(&mut cpu.flags, a, count)
        }
    })?;
    Ok(Flow::Next)
}

fn ri<O: Shift, T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    register::<O, T>(cpu, op, op.imm)
}
fn rc<O: Shift, T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    register::<O, T>(cpu, op, cpu.registers[1])
}
fn mi<O: Shift, T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    memory::<O, T>(cpu, op, op.imm)
}
fn mc<O: Shift, T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    memory::<O, T>(cpu, op, cpu.registers[1])
}

/// The handler of a shift: of memory or a register, by CL or by the immediate.
pub(crate) fn shift<O: Shift>(in_memory: bool, by_cl: bool, size: u64) -> Handler {
    match (in_memory, by_cl) {
        (false, false) => by_size!(size, ri<O, _>),
        (false, true) => by_size!(size, rc<O, _>),
        (true, false) => by_size!(size, mi<O, _>),
        (true, true) => by_size!(size, mc<O, _>),
    }
}

/// SHLD or SHRD. A count above the size of a 16-bit operand shifts the doubled operand, as processors do with what is undefined.
fn double<T: Int, const LEFT: bool>(flags: &mut Flags, a: T, b: T, count: u32) -> T {
    let (x, y) = (u128::from(a.wide()), u128::from(b.wide()));
    let (result, carry) = if LEFT {
        // a:b, and a again for counts above 16.
        let wide = x << (2 * T::BITS - T::BITS) | y;
        if count <= T::BITS {
            (wide << count >> T::BITS, x >> (T::BITS - count) & 1)
        } else {
            let wide = x << 32 | y << 16 | x;
            (wide << count >> 32, wide >> (48 - count) & 1)
        }
    } else if count <= T::BITS {
        let wide = y << T::BITS | x;
        (wide >> count, wide >> (count - 1) & 1)
    } else {
        let wide = x << 32 | y << 16 | x;
        (wide >> count, wide >> (count - 1) & 1)
    };
    let result = T::cut(result as u64);
    flags.shifted(result, carry != 0, top::<T>(result.wide()) != top::<T>(a.wide()));
    result
}

fn double_r<T: Int, const LEFT: bool, const CL: bool>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let count = counted::<T>(if CL { cpu.registers[1] } else { op.imm });
    let a = T::reg(&cpu.registers, op.dst);
    let b = T::reg(&cpu.registers, op.src);
    let result = if count == 0 {
        a
    } else {
        double::<T, LEFT>(&mut cpu.flags, a, b, count)
    };
    T::set_reg(&mut cpu.registers, op.dst, result);
    Ok(Flow::Next)
}

fn double_m<T: Int, const LEFT: bool, const CL: bool>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let count = counted::<T>(if CL { cpu.registers[1] } else { op.imm });
    let b = T::reg(&cpu.registers, op.src);
    let linear = cpu.address(op, T::BYTES, true)?;
    cpu.modify::<T>(linear, op.seg, |cpu, a| {
        if count == 0 {
            a
        } else {
            double::<T, LEFT>(&mut cpu.flags, a, b, count)
        }
    })?;
    Ok(Flow::Next)
}

/// The handler of SHLD or SHRD.
pub(crate) fn double_shift(left: bool, in_memory: bool, by_cl: bool, size: u64) -> Handler {
    macro_rules! pick {
        ($left:literal, $cl:literal) => {
            match (in_memory, size) {
                (false, 2) => double_r::<u16, $left, $cl>,
                (false, 4) => double_r::<u32, $left, $cl>,
                (false, _) => double_r::<u64, $left, $cl>,
                (true, 2) => double_m::<u16, $left, $cl>,
                (true, 4) => double_m::<u32, $left, $cl>,
                (true, _) => double_m::<u64, $left, $cl>,
            }
        };
    }
    match (left, by_cl) {
        (true, true) => pick!(true, true),
        (true, false) => pick!(true, false),
        (false, true) => pick!(false, true),
        (false, false) => pick!(false, false),
    }
}
