//! XCHG with memory, XADD, CMPXCHG and its wide forms.

use crate::cpu::Cpu;
use crate::flags::Flags;
use crate::int::Int;
use crate::op::{Flow, Op, Outcome};

/// XCHG memory, register: always locked.
pub(crate) fn xchg<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let linear = cpu.address(op, T::BYTES, true)?;
    let new = T::reg(&cpu.registers, op.src);
    let old = cpu.atomic::<T, T>(linear, op.seg, |old| (new, old))?;
    T::set_reg(&mut cpu.registers, op.src, old);
    Ok(Flow::Next)
}

/// XADD register, register.
pub(crate) fn xadd_r<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let (a, b) = (T::reg(&cpu.registers, op.dst), T::reg(&cpu.registers, op.src));
    let sum = T::cut(a.wide().wrapping_add(b.wide()));
    cpu.flags.sum(a, b, sum);
    T::set_reg(&mut cpu.registers, op.src, a);
    T::set_reg(&mut cpu.registers, op.dst, sum);
    Ok(Flow::Next)
}

/// XADD memory, register.
pub(crate) fn xadd_m<T: Int, const LOCK: bool>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let linear = cpu.address(op, T::BYTES, true)?;
    let b = T::reg(&cpu.registers, op.src);
    let add = |a: T| {
        let sum = T::cut(a.wide().wrapping_add(b.wide()));
        let mut flags = Flags::default();
        flags.sum(a, b, sum);
        (sum, (a, flags))
    };
    let (old, flags) = if LOCK {
        cpu.atomic(linear, op.seg, add)?
    } else {
        let mut seen = None;
        cpu.modify::<T>(linear, op.seg, |_, a| {
            let (sum, extra) = add(a);
            seen = Some(extra);
            sum
        })?;
        seen.expect("modify calls its closure when it succeeds")
    };
    cpu.flags = flags;
    T::set_reg(&mut cpu.registers, op.src, old);
    Ok(Flow::Next)
}

/// CMPXCHG register, register.
pub(crate) fn cmpxchg_r<T: Int>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let accumulator = T::reg(&cpu.registers, 0);
    let old = T::reg(&cpu.registers, op.dst);
    let difference = T::cut(accumulator.wide().wrapping_sub(old.wide()));
    cpu.flags.difference(accumulator, old, difference);
    if old == accumulator {
        let new = T::reg(&cpu.registers, op.src);
        T::set_reg(&mut cpu.registers, op.dst, new);
    } else {
        // A 32-bit destination is written with itself.
        T::set_reg(&mut cpu.registers, op.dst, old);
        T::set_reg(&mut cpu.registers, 0, old);
    }
    Ok(Flow::Next)
}

/// CMPXCHG memory, register.
pub(crate) fn cmpxchg_m<T: Int, const LOCK: bool>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let linear = cpu.address(op, T::BYTES, true)?;
    let accumulator = T::reg(&cpu.registers, 0);
    let new = T::reg(&cpu.registers, op.src);
    let change = |old: T| (if old == accumulator { new } else { old }, old);
    let old = if LOCK {
        cpu.atomic(linear, op.seg, change)?
    } else {
        let mut seen = None;
        cpu.modify::<T>(linear, op.seg, |_, old| {
            seen = Some(old);
            change(old).0
        })?;
        seen.expect("modify calls its closure when it succeeds")
    };
    let difference = T::cut(accumulator.wide().wrapping_sub(old.wide()));
    cpu.flags.difference(accumulator, old, difference);
    if old != accumulator {
        T::set_reg(&mut cpu.registers, 0, old);
    }
    Ok(Flow::Next)
}

fn set_zero(cpu: &mut Cpu, zero: bool) {
    let bits = cpu.flags.bits() & !crate::flags::ZF;
    cpu.flags.set_bits(bits | if zero { crate::flags::ZF } else { 0 });
}

/// CMPXCHG8B.
pub(crate) fn cmpxchg_8(cpu: &mut Cpu, op: &Op) -> Outcome {
    let linear = cpu.address(op, 8, true)?;
    let pair = |low: u64, high: u64| low & 0xffff_ffff | high << 32;
    let expected = pair(cpu.registers[0], cpu.registers[2]);
    let new = pair(cpu.registers[3], cpu.registers[1]);
    let old = cpu.atomic::<u64, u64>(linear, op.seg, |old| {
        (if old == expected { new } else { old }, old)
    })?;
    set_zero(cpu, old == expected);
    if old != expected {
        cpu.registers[0] = old & 0xffff_ffff;
        cpu.registers[2] = old >> 32;
    }
    Ok(Flow::Next)
}

/// CMPXCHG16B.
pub(crate) fn cmpxchg_16(cpu: &mut Cpu, op: &Op) -> Outcome {
    let linear = cpu.address(op, 16, true)?;
    if linear & 15 != 0 {
        return cpu.protection(0);
    }
    let expected = (cpu.registers[0], cpu.registers[2]);
    let new = (cpu.registers[3], cpu.registers[1]);
    let old = cpu.swap_16(linear, op.seg, expected, new)?;
    set_zero(cpu, old == expected);
    if old != expected {
        (cpu.registers[0], cpu.registers[2]) = old;
    }
    Ok(Flow::Next)
}
